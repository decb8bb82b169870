"""``verifier revoke``: in an emergency, whatever is meant, at once."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Moment, counted, print_json, print_table
from verifier.cli._endings import ENDINGS
from verifier.cli._key_revoke import REASONS, way_back
from verifier.cli._present import impact_json
from verifier.cli._seam import Seam, at_terminal, options_of, seam, tell_id
from verifier.cli._wish import RECORDED, Wish, changing, tell
from verifier.errors import InvalidInput, NotFound, Unavailable
from verifier.vocabulary import RevocationReason

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2

IMPACTS_SHOWN = 20
# What fits into one message to a control plane.
LEAKED_MAX = 100_000


@click.command(epilog=ENDINGS)
@click.option("--key", "keys", multiple=True, metavar="ID", help="All live versions of this key; may be repeated.")
@click.option("--version", "number", type=click.IntRange(1), metavar="N", help="Only this version of the one --key.")
@click.option("--client", "clients", multiple=True, metavar="ID",
              help="All live versions of this client's keys; may be repeated.")
@click.option("--prefix", "prefixes", multiple=True, metavar="PREFIX",
              help="All live versions of keys with this token prefix; may be repeated.")
@click.option("--leaked", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE",
              help="Versions with these tokens, one a line; - for standard input. They are hashed here, and stay here.")
@click.option("--created-before", type=Moment(), metavar="TIME", help="Of those, only versions issued before.")
@click.option("--created-after", type=Moment(), metavar="TIME", help="Of those, only versions issued at or after.")
@click.option("--reason", type=click.Choice(REASONS), required=True,
              help="By RFC 5280; key_compromise is final, all others can be reinstated.")
@click.option("--expect", type=click.IntRange(0), metavar="N",
              help="Carry it out if it is about so many versions, as the preview said.")
@click.option("--yes", is_flag=True, help="At a terminal: carry it out, whatever the preview says.")
@changing(publish=False)
@click.pass_context
def command(
    ctx: click.Context, /, *, reason: str, expect: int | None, yes: bool, wish: Wish, **chosen: Any
) -> None:
    """Revoke versions of keys in an emergency: publishes, and waits for the nodes.

    Without --expect or --yes it is a preview: how many versions it is about, who would be cut off, and how much they
    were used lately. With only the times, it is about all versions issued then. For key_compromise it is
    also about versions that could come back: whose overlap is over, or that are revoked for less. The drop guard does
    not count what was revoked, retired, switched off or has ended, by this command or before it.

    If it is interrupted, repeat it with --request-id and the id that it printed: what was recorded is published then.
    """
    if yes and expect is None and not at_terminal():
        raise InvalidInput("--yes is for a terminal", hint="in scripts, give --expect N with the preview's count")
    request = _request(reason, chosen)
    with seam(ctx) as at:
        if at.remote and len(request.selection.token_sha256s) > LEAKED_MAX:
            raise InvalidInput(f"a control plane takes {LEAKED_MAX:,} tokens at once", hint="split the file")
        decided = not wish.dry_run and (expect is not None or yes)
        if expect is None:
            preview = _preview(at, request, wish)
            if not decided:
                _tell_preview(preview, reason, as_json=wish.as_json)
                return
            expect = preview.count
            click.echo(f"should it be interrupted, repeat it with its request id and --expect {expect}", err=True)
        request.expected_count = expect
        wish = _emergency(wish)
        request.options.CopyFrom(wish.options(at))
        if not at.remote:  # where it is told anyway
            tell_id(request.options)
        done = at.change(at.admin.lifecycle.Revoke, request)
        lines = [f"revoked {counted(done.count, 'version')}: {reason}", *way_back(done, reason)]
        unmatched = [f"{done.unmatched:,} matched nothing"] if done.unmatched else []
        tell(wish, lines, _body(done, reason), done.receipt, notes=[*unmatched, *_darkened(done)])


def _emergency(wish: Wish) -> Wish:
    """Wait for the nodes unless that is not wanted."""
    return replace(wish, wait=True if wish.wait is None else wish.wait)


def _request(reason: str, chosen: dict[str, Any]) -> "lifecycle_pb2.RevokeRequest":
    from verifier.admin.times import stamp
    from verifier.admin.v1 import lifecycle_pb2

    lists = [chosen[name] for name in ("keys", "clients", "prefixes") if chosen[name]]
    times = [chosen[name] for name in ("created_before", "created_after") if chosen[name] is not None]
    if not lists and not times and chosen["leaked"] is None:
        raise InvalidInput(
            "what is to be revoked?", hint="--key, --client, --prefix, --leaked FILE, --created-before or "
            "--created-after", code="NOTHING_TO_DO",
        )  # fmt: skip
    if chosen["number"] is not None and (len(chosen["keys"]) != 1 or len(lists) > 1 or chosen["leaked"] is not None):
        raise InvalidInput("--version goes with exactly one --key")
    request = lifecycle_pb2.RevokeRequest(reason=int(RevocationReason[reason.upper()]))  # type: ignore[arg-type]
    selection = request.selection
    for key_id in chosen["keys"]:
        selection.versions.add(key_id=key_id, version=chosen["number"] or 0)
    selection.client_ids.extend(chosen["clients"])
    selection.prefixes.extend(chosen["prefixes"])
    if chosen["leaked"] is not None:
        selection.token_sha256s.extend(leaked_digests(chosen["leaked"]))
    for name in ("created_before", "created_after"):
        if chosen[name] is not None:
            getattr(selection, name).CopyFrom(stamp(chosen[name]))
    return request


def leaked_digests(path: Path) -> list[bytes]:
    """Return the SHA-256 of the tokens in a file, one a line, each once, in their order.

    Raises:
        NotFound: there is no such file.
        InvalidInput: there is no token in it; says nothing of what is.
    """
    try:
        data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", code="FILE_NOT_FOUND") from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from None
    found = {hashlib.sha256(line).digest(): None for each in data.splitlines() if (line := each.strip())}
    if not found:
        raise InvalidInput(f"there is no token in {path}", code="NOTHING_TO_DO")
    return list(found)


def _preview(
    at: Seam, request: "lifecycle_pb2.RevokeRequest", wish: Wish
) -> "lifecycle_pb2.RevokeResponse":
    request.options.CopyFrom(options_of(replace(wish, dry_run=True, request_id=None), RECORDED, None))
    found: lifecycle_pb2.RevokeResponse = at.admin.lifecycle.Revoke(request)
    return found


def _tell_preview(preview: "lifecycle_pb2.RevokeResponse", reason: str, *, as_json: bool) -> None:
    waiting = preview.receipt.pending_changes
    body = {**_body(preview, reason), "published": False, "revision": None, "audit_id": None, "propagation_ms": None,
            "pending_changes": waiting, "dry_run": True}
    if as_json:
        print_json(body)
        return
    click.echo(f"would revoke {counted(preview.count, 'version')} for {reason}; "
               f"{counted(preview.keys_without_version, 'key')} would have no live version left")
    if preview.unmatched:
        click.echo(f"  {preview.unmatched:,} of what was named matched nothing")
    if preview.unserved:
        click.echo(f"  {preview.unserved:,} already revoked, not yet published: run verifier publish, or repeat this "
                   f"with --expect {preview.count}")
    if waiting:
        click.echo(f"  {counted(waiting, 'change')} recorded, not yet published")
    if body["impacts"]:
        columns = ("client_id", "key_id", "version", "last_used_at", "valid_24h")
        title = "the most used ones" if preview.count > IMPACTS_SHOWN else "cut off"
        shown = body["impacts"][:IMPACTS_SHOWN]
        print_table(title, columns, ([impact[column] for column in columns] for impact in shown))
    how = f"; to carry it out, add --expect {preview.count}" if preview.count else ""
    click.echo(f"nothing was changed{how}", err=True)


def _body(done: "lifecycle_pb2.RevokeResponse", reason: str) -> dict[str, Any]:
    return {
        "count": done.count,
        "unmatched": done.unmatched,
        "keys_without_version": done.keys_without_version,
        "unserved": done.unserved,
        "impacts": [impact_json(impact) for impact in done.impacts],
        "reason": reason,
    }


def _darkened(done: "lifecycle_pb2.RevokeResponse") -> list[str]:
    if not done.keys_without_version:
        return []
    number = counted(done.keys_without_version, "key")
    return [f"{number} without a live version: verifier key rotate, or verifier key rollback where an earlier version "
            "is still good"]
