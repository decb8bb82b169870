"""How a change is wished for (published, waited for, only looked at), and how its outcome is told."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from verifier.cli._common import Duration, json_option, print_json
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.admin.v1 import types_pb2
    from verifier.cli._seam import Seam

F = TypeVar("F", bound=Callable[..., Any])

# The numbers of verifier.admin.v1.Wait.
RECORDED, PUBLISHED, SERVED = 1, 2, 3
NOT_EVERYWHERE_EXIT_CODE = 5
TIMEOUT_S = 30
HANDOUT_TIMEOUT_S = 5  # how long a new token waits for the nodes before it is shown
NOT_SERVED = "not served yet: verifier publish"
NOT_SERVED_HELD = "not served yet: repeated with --publish, denials and new keys are; the rest after --resume"
NO_NODES = ("no node reports, so none was waited for: name nodes with --node HOST:PORT, or have them report "
            "with verifier serve --report-to")
OFFERED = ("publish", "wait", "timeout_s", "nodes", "request_id", "note", "dry_run", "as_json")


@dataclass(frozen=True, slots=True)
class Wish:
    """What the options that all changes share say; None and empty for what was left open."""

    publish: bool | None = None
    wait: bool | None = None
    timeout_s: int | None = None
    nodes: tuple[str, ...] = ()
    request_id: str | None = None
    note: str | None = None
    dry_run: bool = False
    as_json: bool = False

    def options(self, seam: "Seam", *, handout: bool = False) -> "types_pb2.Options":
        """Decide how far the change is to go before the command returns.

        Args:
            seam: a control plane publishes by default, a folder does not.
            handout: the change brings a new token, which nodes should know before anybody uses it: it is published
                and waited for by default where nodes report.
        """
        from verifier.cli._seam import options_of

        if self.publish is False and (self.wait or self.nodes):
            raise InvalidInput("nodes can only serve what is published: --no-publish excludes --wait and --node")
        if self.nodes:
            from verifier.cli._waiting import check_targets

            check_targets(self.nodes)
        wanted = self.publish
        if wanted is None:
            wanted = seam.remote or bool(self.wait or self.nodes) or (handout and seam.knows_nodes())
        if self.dry_run or not wanted:
            return options_of(self, RECORDED, None)
        waits = self.wait if self.wait is not None else handout
        if self.nodes or not waits:
            return options_of(self, PUBLISHED, None)
        return options_of(self, SERVED, self.timeout_s or (HANDOUT_TIMEOUT_S if handout else TIMEOUT_S))


def finish(seam: "Seam", options: "types_pb2.Options") -> "types_pb2.Receipt":
    """Publish what was changed beside the requests of the seam, if the options say so; tell how far it has come."""
    from verifier.admin.v1 import publication_pb2, types_pb2
    from verifier.registry import queries

    if options.wait != RECORDED:
        request = publication_pb2.PublishRequest(options=options)
        receipt: types_pb2.Receipt = seam.change(seam.admin.publication.Publish, request).receipt
        return receipt
    assert seam.registry is not None
    with seam.registry.read() as connection:
        state = queries.state(connection)
    return types_pb2.Receipt(
        published=not state.pending_changes, revision=0 if state.pending_changes else state.last_revision,
        pending_changes=state.pending_changes, request_id=options.request_id,
    )  # fmt: skip


def recorded_options(wish: Wish) -> "types_pb2.Options":
    """Return the options of a change that is never published."""
    from verifier.cli._seam import options_of

    return options_of(wish, RECORDED, None)


def changing(*, publish: bool = True, serve: bool = True, preview: bool = True) -> Callable[[F], F]:
    """Add the options that all changes share; the command gets them as one ``wish`` argument.

    Args:
        publish: offer ``--publish/--no-publish``; without it the command always publishes.
        serve: offer to wait for nodes.
        preview: offer ``--dry-run``.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def wrapped(*args: Any, **given: Any) -> Any:
            said = {name: given.pop(name) for name in OFFERED if name in given}
            return command(*args, wish=Wish(**{"publish": None if publish else True, **said}), **given)

        for option in reversed(_options(publish=publish and serve, serve=serve, preview=preview)):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def _options(*, publish: bool, serve: bool, preview: bool) -> list[Callable[[Any], Any]]:
    publishing = [
        click.option("--publish/--no-publish", "publish", default=None,
                     help="Publish right away, so that nodes take the change up.  [default: only with --admin]"),
    ]  # fmt: skip
    waiting = [
        click.option("--wait/--no-wait", "wait", default=None,
                     help="Return when all nodes serve it: those that report, or those named with --node."),
        click.option("--timeout", "timeout_s", type=Duration(), metavar="DURATION",
                     help=f"Longest wait for the nodes; then exit code {NOT_EVERYWHERE_EXIT_CODE}.  "
                     f"[default: {TIMEOUT_S}s]"),
        click.option("--node", "nodes", multiple=True, metavar="HOST:PORT",
                     help="Wait for this node, asked on its metrics port; may be repeated."),
    ]  # fmt: skip
    return [
        *(publishing if publish else []),
        *(waiting if serve else []),
        click.option("--request-id", "--idempotency-key", "request_id", metavar="ID",
                     help="A repeat under the same id has no second effect.  [made anew]"),
        click.option("--note", metavar="TEXT", help="Why, for the audit log."),
        *([click.option("--dry-run", is_flag=True, help="Check and preview; change nothing.")] if preview else []),
        json_option,
    ]  # fmt: skip


def tell(
    wish: Wish, lines: Sequence[str], body: Mapping[str, Any], receipt: "types_pb2.Receipt", *,
    quiet: bool = False, notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Print what was done: JSON for scripts, lines for people; and on standard error what is still to be done.

    Args:
        wish: how it was to be done.
        lines: for people.
        body: for JSON, without how far it has come.
        receipt: how far it has come.
        quiet: nodes need not know of this change, so nothing is said of publishing.
        notes: what people should know besides.

    Raises:
        click.exceptions.Exit: not all nodes serve it yet; code 5.
    """
    outcome = _outcome(wish, receipt)
    warnings = [*notes, *_unwaited(wish, outcome), *(text for text in outcome["warnings"] if text != NOT_SERVED)]
    if wish.as_json:
        print_json({**body, **outcome, "warnings": warnings, "dry_run": wish.dry_run})
    else:
        for line in lines:
            click.echo(line)
        if outcome["published"] and not quiet and not wish.dry_run:
            click.echo(f"published: revision {outcome['revision']}")
        tell_nodes(outcome)
    for text in warnings:
        click.echo(text, err=True)
    if outcome["replayed"] and not wish.as_json:
        click.echo(f"already done at {outcome['done_at']}: this was a repeat, and nothing was done again", err=True)
    if wish.dry_run:
        click.echo("nothing was changed: this was a dry run", err=True)
    elif not outcome["published"] and not quiet:
        # While the store is held a plain `verifier publish` is refused.
        click.echo(NOT_SERVED if outcome["held_at"] is None else NOT_SERVED_HELD, err=True)
    tell_laggards(outcome)


def _outcome(wish: Wish, receipt: "types_pb2.Receipt") -> dict[str, Any]:
    from verifier.cli._present import moment_ms, receipt_json

    outcome = receipt_json(receipt)
    if wish.nodes and receipt.published and not wish.dry_run:
        from verifier.cli._waiting import await_nodes

        timeout_s = TIMEOUT_S if wish.timeout_s is None else wish.timeout_s
        outcome |= await_nodes(wish.nodes, receipt.revision, moment_ms(receipt, "committed_at"), timeout_s)
    return outcome


def _unwaited(wish: Wish, outcome: Mapping[str, Any]) -> list[str]:
    """Say that whoever wants the nodes waited for named none, and none is known."""
    if not wish.wait or wish.dry_run or outcome["nodes"]["expected"]:
        return []
    return [NO_NODES]


def tell_nodes(outcome: Mapping[str, Any]) -> None:
    """Say to people which nodes serve what was published."""
    expected, behind = outcome["nodes"]["expected"], outcome["nodes"]["behind"]
    took_ms = outcome["propagation_ms"]
    if expected:
        after = "" if took_ms is None else f" after {took_ms} ms"
        click.echo(f"served by {expected - len(behind)} of {expected} nodes{after}")


def tell_laggards(outcome: Mapping[str, Any]) -> None:
    """Name the nodes that do not serve it yet, and leave with exit code 5, if there are any."""
    behind = outcome["nodes"]["behind"]
    if not behind:
        return
    click.echo(f"not served yet by {', '.join(behind)}", err=True)
    if ":" in behind[0]:  # asked directly, with --node: it need not report to anybody
        click.echo(f"  hint: verifier status --target {behind[0]} shows why", err=True)
    else:
        click.echo("  hint: verifier nodes list shows why; verifier nodes forget NAME, if one is gone for good",
                   err=True)
    raise click.exceptions.Exit(NOT_EVERYWHERE_EXIT_CODE)
