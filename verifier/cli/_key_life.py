"""``verifier key promote``, ``retire``, ``cancel`` and ``rollback``: the windows of a rotation, changed by a person."""

from typing import TYPE_CHECKING

import click

from verifier.cli._common import Duration, Moment, time_text
from verifier.cli._endings import ENDINGS
from verifier.cli._present import key_json, label_of
from verifier.cli._seam import seam
from verifier.cli._wish import Wish, changing, tell
from verifier.errors import Conflict, InvalidInput
from verifier.vocabulary import Phase

if TYPE_CHECKING:
    from verifier.admin.v1 import types_pb2


@click.command()
@click.argument("key_id")
@changing()
@click.pass_context
def promote(ctx: click.Context, key_id: str, wish: Wish) -> None:
    """Activate a pending successor now, or start the overlap that waits for its first use."""
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        request = lifecycle_pb2.PromoteVersionRequest(key_id=key_id, options=wish.options(at))
        done = at.change(at.admin.lifecycle.PromoteVersion, request)
        tell(wish, [f"version {label_of(done.key).version} of key {key_id} is promoted", *windows(done.key)],
             key_json(done.key), done.receipt)


@click.command(epilog=ENDINGS)
@click.argument("key_id")
@click.option("--version", "number", type=click.IntRange(1), metavar="N",
              help="Which one.  [the one that was superseded last]")
@click.option("--at", "retire_at", type=Moment(), metavar="TIME",
              help="When: RFC 3339, or +24h; never later than its overlap ends anyway.  [now]")
@click.option("--force", is_flag=True, help="Although it is not known to be safe.")
@changing()
@click.pass_context
def retire(
    ctx: click.Context, *, key_id: str, number: int | None, retire_at: int | None, force: bool, wish: Wish
) -> None:
    """End the overlap of a superseded version: it answers EXPIRED, and can be brought back by `key rollback`.

    Refused unless `verifier key safe-to-retire` says SAFE, or with --force.
    """
    from verifier.admin.times import stamp
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        if number is None:
            found = at.admin.lifecycle.GetKey(lifecycle_pb2.GetKeyRequest(key_id=key_id)).key
            number = _superseded_last(found)
        request = lifecycle_pb2.RetireVersionRequest(
            key_id=key_id, version=number, retire_at=stamp(retire_at), force=force, options=wish.options(at)
        )
        done = at.change(at.admin.lifecycle.RetireVersion, request)
        version = next(version for version in done.key.versions if version.version == number)
        line = f"version {number} of key {key_id} ends at {time_text(version.expires_at.seconds)}"
        tell(wish, [line], key_json(done.key), done.receipt)


@click.command(epilog=ENDINGS)
@click.argument("key_id")
@changing()
@click.pass_context
def cancel(ctx: click.Context, key_id: str, wish: Wish) -> None:
    """Withdraw a successor that is pending or was never used; the version before gets its full life back."""
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        request = lifecycle_pb2.CancelRotationRequest(key_id=key_id, options=wish.options(at))
        done = at.change(at.admin.lifecycle.CancelRotation, request)
        line = f"cancelled: version {label_of(done.key).version} of key {key_id} is current again"
        tell(wish, [line, *windows(done.key)], key_json(done.key), done.receipt)


@click.command()
@click.argument("key_id")
@click.option("--to", "to_version", type=click.IntRange(1), metavar="N", help="Which version.  [the one before]")
@click.option("--overlap", type=Duration(), metavar="DURATION",
              help="How long the version that is left stays valid.  [the policy's]")
@changing()
@click.pass_context
def rollback(
    ctx: click.Context, key_id: str, to_version: int | None, overlap: int | None, wish: Wish
) -> None:
    """Make the version before the current one of KEY_ID again, as a new revision.

    This is about one key. `verifier rollback REVISION` brings the whole store back to an earlier revision.
    """
    from verifier.admin.times import span
    from verifier.admin.v1 import lifecycle_pb2

    if key_id.isdecimal():
        raise InvalidInput(
            f"{key_id} is a revision, not a key", hint=f"did you mean verifier rollback {key_id}?", code="NOT_A_KEY"
        )
    with seam(ctx) as at:
        request = lifecycle_pb2.RollBackKeyRequest(
            key_id=key_id, to_version=to_version or 0, overlap=span(overlap), options=wish.options(at)
        )
        done = at.change(at.admin.lifecycle.RollBackKey, request)
        line = f"version {label_of(done.key).version} of key {key_id} is current again"
        tell(wish, [line, *windows(done.key)], key_json(done.key), done.receipt)


def windows(key: "types_pb2.Key") -> list[str]:
    """Write until when the other versions of a key are valid."""
    label = label_of(key)
    lines = []
    for version in key.versions:
        if version.version == label.version or Phase(version.phase) in (Phase.REVOKED, Phase.EXPIRED):
            continue
        lines.append(f"  version {version.version}: {Phase(version.phase).name}, {until(version)}")
    return lines


def until(version: "types_pb2.Version") -> str:
    """Write when a version ends."""
    if not version.HasField("expires_at"):
        return "until somebody retires it"
    at_most = " at the latest" if version.clock == 2 and not version.HasField("first_used_at") else ""
    return f"until {time_text(version.expires_at.seconds)}{at_most}"


def _superseded_last(key: "types_pb2.Key") -> int:
    """Return the version whose overlap is the latest to have begun, among those that are still live."""
    superseded = [version for version in key.versions
                  if version.HasField("superseded_at") and not version.HasField("revoked_at")]
    superseded = [version for version in superseded if Phase(version.phase) is not Phase.EXPIRED] or superseded
    if not superseded:
        raise Conflict(f"no version of key {key.key_id} is superseded", hint=f"verifier key show {key.key_id}",
                       code="NOT_SUPERSEDED")
    return int(max(superseded, key=lambda version: (version.superseded_at.seconds, version.version)).version)
