"""``verifier check``: ask a node about keys, as a gateway would."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import json_option
from verifier.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from verifier._answer import Answer
    from verifier.client import Question, VerifierClient

DEFAULT_TARGET = "127.0.0.1:50051"
REFUSED_EXIT_CODE = 1


# Extra arguments are taken here, since click's error would repeat what is likely a token.
@click.command(context_settings={"allow_extra_args": True})
@click.option("--target", default=DEFAULT_TARGET, show_default=True, envvar="VERIFIER_TARGET", metavar="HOST:PORT",
              help="The node's gRPC address, as given to `serve --listen`; or unix:PATH.")
@click.option("--scopes", default="", metavar="A,B", help="Scopes that the key must hold, all of them.")
@click.option("--address", default=None, metavar="IP", help="The caller's address, for keys with address rules.")
@click.option("--min-revision", default=0, type=click.IntRange(min=0), metavar="N",
              help="Wait, within the timeout, for a node that serves at least this revision.")
@click.option("--count", is_flag=True, help="Count this as a real use. By default it is a probe, which counts nothing.")
@click.option("--timeout", "timeout_s", default=2.0, show_default=True, type=click.FloatRange(min=0, min_open=True),
              metavar="SECONDS", help="Time for each call, retries included.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, target: str, timeout_s: float, as_json: bool, count: bool, **conditions: Any
) -> None:  # fmt: skip
    """Verify tokens read from standard input, one a line.

    Exits with 0 when all are VALID, 1 when one is refused, 3 when no node answered. With --json several tokens give
    one object a line, in their order.

    \b
        echo TOKEN | verifier check --target 127.0.0.1:50051 --scopes read --json
    """
    from verifier.client import VerifierClient

    if ctx.args:
        raise InvalidInput(
            "tokens are read from standard input, never from arguments, where others can see them",
            hint="echo TOKEN | verifier check --target HOST:PORT",
        )
    all_valid = True
    with VerifierClient(target, timeout_s=timeout_s) as client:
        for answer in _answers(client, target, _questions(probe=not count, **conditions)):
            all_valid = all_valid and answer.valid
            _print(answer, as_json)
    if not all_valid:
        sys.exit(REFUSED_EXIT_CODE)


def _tokens() -> Iterator[str | bytes]:
    """Read tokens from standard input, whatever their bytes; empty lines are passed over.

    Raises:
        InvalidInput: there is none.
    """
    if sys.stdin.isatty():
        # Not echoed, and not kept in any history.
        token: str = click.prompt("token", hide_input=True, err=True)
        yield token
        return
    found = False
    for line in sys.stdin.buffer:
        if stripped := line.strip():
            found = True
            yield stripped
    if not found:
        raise InvalidInput("no token on standard input", hint="echo TOKEN | verifier check --target HOST:PORT")


def _questions(scopes: str, address: str | None, min_revision: int, probe: bool) -> "Iterator[Question]":
    """Make one question of each token."""
    from verifier.client import Question

    wanted = tuple(filter(None, (scope.strip() for scope in scopes.split(","))))
    for token in _tokens():
        yield Question(token, wanted, address, min_revision, probe)


def _answers(client: "VerifierClient", target: str, questions: "Iterator[Question]") -> "Iterator[Answer]":
    """Ask, up to 1,000 tokens a call."""
    from verifier.client import BATCH_MAX

    while group := list(islice(questions, BATCH_MAX)):
        try:
            yield from client.verify_batch(group) if len(group) > 1 else [client.ask(group[0])]
        except Unavailable as fault:
            raise _explained(fault, target) from None


def _explained(fault: Unavailable, target: str) -> Unavailable:
    """Add what listens at the target, when it is no verifier."""
    from verifier.client._diagnosis import explain

    fault.details.setdefault("target", target)
    fault.hint = fault.hint or explain(target)
    return fault


def _print(answer: "Answer", as_json: bool) -> None:
    body = answer.to_json()
    if as_json:
        click.echo(json.dumps(body, ensure_ascii=False))
        return
    click.echo(answer.verdict.name)
    for name, value in body.items():
        if name not in ("verdict", "valid") and value not in (None, [], {}):
            click.echo(f"  {name.replace('_', ' ') + ':':<15} {_text(value)}")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={text}" for key, text in value.items())
    return " ".join(value) if isinstance(value, list) else str(value)
