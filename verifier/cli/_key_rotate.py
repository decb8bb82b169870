"""``verifier key rotate``: the next version of a key."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Duration, Moment, duration_text, print_json, time_text
from verifier.cli._handout import Handout, output_option, sha256_option
from verifier.cli._key_life import until
from verifier.cli._present import CLOCKS, moment, receipt_json, version_json
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, tell
from verifier.errors import InvalidInput
from verifier.vocabulary import Phase, RevocationReason

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2, types_pb2

# What is assumed of nodes that nobody has measured.
PROPAGATION_S = 1.0
SKEW_S = 1.0
LONG_ENOUGH_S = 300
FIXED = 1


@click.command()
@click.argument("key_id")
@click.option("--overlap", type=Duration(), metavar="DURATION",
              help="How long the version before stays valid.  [the policy's]")
@click.option("--clock", type=click.Choice(CLOCKS), help="When the overlap begins to run.  [the policy's]")
@click.option("--max-pending", type=Duration(), metavar="DURATION",
              help="With on_first_use: the longest wait for the first use.  [the policy's]")
@click.option("--activate-at", type=Moment(), metavar="TIME",
              help="From when on the successor is valid: RFC 3339, or +24h.  [at once]")
@click.option("--expires-in", type=Duration(), metavar="DURATION",
              help="Life of the successor from its activation.  [the policy's, else the end of the version before]")
@click.option("--never-expires", is_flag=True, help="The successor has no end of its own.")
@click.option("--reason", type=click.Choice(["superseded", "key_compromise"]), default="superseded", show_default=True,
              help="key_compromise revokes the version before at once, for ever.")
@click.option("--force", is_flag=True, help="Although a rotation is open: a successor that is pending, or of which "
              "no use was reported, is revoked first.")
@click.option("--allow-gap", is_flag=True, help="Although the version before ends before the successor is active.")
@click.option("--expected-version", type=click.IntRange(1), metavar="N", help="Only if this is the present version.")
@sha256_option
@output_option
@changing()
@click.pass_context
def rotate(
    ctx: click.Context, /, *, key_id: str, sha256: str | None, output: Path | None, wish: Wish, **terms: Any
) -> None:
    """Issue the next version of a key, and start the overlap in which the version before stays valid.

    The token is made here, and only its SHA-256 goes to the registry. Where nodes report, the new version is published
    by default, and its token is shown once all of them know it.
    """
    from verifier.admin.v1 import lifecycle_pb2

    if terms["never_expires"] and terms["expires_in"] is not None:
        raise InvalidInput("give --expires-in or --never-expires, not both")
    with seam(ctx) as at:
        before = at.admin.lifecycle.GetKey(lifecycle_pb2.GetKeyRequest(key_id=key_id)).key
        request = _request(at, key_id, terms, wish)
        handout = Handout(before.prefix, sha256, None if wish.dry_run else output, repeated=wish.request_id is not None)
        done, failed = handout.ask(at, at.admin.lifecycle.RotateKey, request)
        body = _body(done, None if wish.dry_run else handout.shown)
        notes = _notes(at, done, terms)
        if failed is not None and wish.as_json:
            print_json({**body, **receipt_json(done.receipt)})
            raise failed
        if not wish.as_json:
            _show(done, handout, wish)
        if failed is not None:
            raise failed
        tell(wish, [], body, done.receipt, notes=notes)


def _request(at: Seam, key_id: str, terms: dict[str, Any], wish: Wish) -> "lifecycle_pb2.RotateKeyRequest":
    from verifier.admin.times import span, stamp
    from verifier.admin.v1 import lifecycle_pb2

    clock = 0 if terms["clock"] is None else CLOCKS.index(terms["clock"]) + 1
    request = lifecycle_pb2.RotateKeyRequest(
        key_id=key_id, overlap=span(terms["overlap"]), clock=clock,  # type: ignore[arg-type]  # the same numbers
        max_pending=span(terms["max_pending"]), activate_at=stamp(terms["activate_at"]), force=terms["force"],
        reason=int(RevocationReason[terms["reason"].upper()]),  # type: ignore[arg-type]
        allow_gap=terms["allow_gap"], expected_version=terms["expected_version"] or 0,
        options=wish.options(at, handout=True),
    )  # fmt: skip
    if terms["never_expires"]:
        request.never_expires = True
    elif terms["expires_in"] is not None:
        request.expires_in.seconds = terms["expires_in"]
    return request


def _body(done: "lifecycle_pb2.RotateKeyResponse", token: str | None) -> dict[str, Any]:
    version = _version(done.key, done.version)
    return {
        "client_id": done.key.client_id,
        "key_id": done.key.key_id,
        "version": done.version,
        "token": token,
        "scopes": list(done.key.scopes),
        "not_before": moment(version, "not_before"),
        "expires_at": moment(version, "expires_at"),
        "previous": version_json(done.previous) if done.HasField("previous") else None,
    }


def _show(done: "lifecycle_pb2.RotateKeyResponse", handout: Handout, wish: Wish) -> None:
    """Write for people what is new, before anything is said of nodes."""
    version, previous = _version(done.key, done.version), done.previous
    starts = f", active from {moment(version, 'not_before')}" if version.HasField("not_before") else ""
    word = "would be" if wish.dry_run else "is"
    click.echo(f"version {done.version} of key {done.key.key_id} (client {done.key.client_id}) {word} issued{starts}")
    if not wish.dry_run:
        for line in handout.tell([]):
            click.echo(line)
        handout.remind()
    if done.HasField("previous"):
        phase = Phase(previous.phase)
        end = "" if phase in (Phase.REVOKED, Phase.EXPIRED) else f", valid {until(previous)}"
        click.echo(f"version {previous.version} is {phase.name}{end}")


def _notes(at: Seam, done: "lifecycle_pb2.RotateKeyResponse", terms: dict[str, Any]) -> list[str]:
    """Say what an operator would not expect."""
    if not done.HasField("previous"):
        return []
    previous = done.previous
    if previous.HasField("revoked_at"):
        if terms["reason"] == "key_compromise":
            return [f"version {previous.version} is revoked for ever: callers that still use it are cut off now"]
        return []
    return [*_shortened(done.key, previous), *_hasty(at, previous)]


def _shortened(key: "types_pb2.Key", previous: "types_pb2.Version") -> list[str]:
    """Say why a version ends before its overlap does."""
    if not (previous.HasField("expires_at") and previous.HasField("overlap")):
        return []
    wanted = previous.superseded_at.seconds + previous.overlap.seconds
    end = previous.expires_at.seconds
    if previous.clock != FIXED or end >= wanted:
        return []
    own = previous.HasField("own_expires_at") and previous.own_expires_at.seconds == end
    why = "its own life ends then" if own else "the life of the key ends then"
    return [f"version {previous.version} ends at {time_text(end)}, before its overlap of "
            f"{duration_text(previous.overlap.seconds)} is over: {why}"]


def _hasty(at: Seam, previous: "types_pb2.Version") -> list[str]:
    """Warn of an overlap that is shorter than what nodes and their clocks differ by."""
    from verifier.admin.v1 import node_pb2

    if not previous.HasField("overlap") or previous.overlap.seconds >= LONG_ENOUGH_S:
        return []
    nodes = [node for node in at.admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes if node.expected]
    loading_s = [node.load_time.ToTimedelta().total_seconds() for node in nodes]
    skew_s = [abs(node.clock_skew.ToTimedelta().total_seconds()) for node in nodes]
    least_s = 2 * (max(loading_s, default=PROPAGATION_S) + max(skew_s, default=SKEW_S))
    if previous.overlap.seconds >= least_s:
        return []
    return [f"an overlap of {duration_text(previous.overlap.seconds)} is less than twice what nodes take to load and "
            f"their clocks differ by ({least_s:.1f} s): callers may be refused meanwhile"]


def _version(key: "types_pb2.Key", number: int) -> "types_pb2.Version":
    return next(version for version in key.versions if version.version == number)
