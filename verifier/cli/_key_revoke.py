"""``verifier key revoke``: versions of one key."""

from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import time_text
from verifier.cli._endings import ENDINGS
from verifier.cli._present import reason_text
from verifier.cli._seam import at_terminal, seam
from verifier.cli._wish import Wish, changing, tell
from verifier.errors import InvalidInput
from verifier.vocabulary import Phase, RevocationReason

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2, types_pb2

REASONS = tuple(reason.name.lower() for reason in RevocationReason)


@click.command(epilog=ENDINGS)
@click.argument("key_id")
@click.option("--version", "number", type=click.IntRange(1), metavar="N", help="Only this version.  [all live]")
@click.option("--reason", type=click.Choice(REASONS), default="unspecified", show_default=True, help="By RFC 5280.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@changing()
@click.pass_context
def revoke(ctx: click.Context, *, key_id: str, number: int | None, reason: str, yes: bool, wish: Wish) -> None:
    """Revoke one version of a key, or all live ones. Only key_compromise is final.

    The same as `verifier revoke --key KEY_ID`, which publishes at once and waits for the nodes.
    """
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        before = at.admin.lifecycle.GetKey(lifecycle_pb2.GetKeyRequest(key_id=key_id)).key
        numbers = _chosen(before, number)
        if number is None:
            _confirm(before, numbers, yes=yes or wish.dry_run)
        request = lifecycle_pb2.RevokeRequest(
            reason=int(RevocationReason[reason.upper()]),  # type: ignore[arg-type]  # the same numbers
            options=wish.options(at),
        )
        # Named one by one: what comes to life after the question was answered is not meant.
        request.selection.versions.extend(
            lifecycle_pb2.VersionName(key_id=key_id, version=each) for each in numbers or [0]
        )
        done = at.change(at.admin.lifecycle.Revoke, request)
        after = at.admin.lifecycle.GetKey(lifecycle_pb2.GetKeyRequest(key_id=key_id)).key
        notes = []
        if reason == "unspecified" and done.count:
            notes.append("reason: unspecified; only --reason key_compromise is final")
        versions = [version for version in after.versions if version.version in numbers]
        lines = [f"version {version.version} of key {key_id} is revoked: {reason_text(version)}"
                 for version in versions if version.HasField("revoked_at")]
        lines += way_back(done, reason)
        if wish.dry_run:
            lines = [f"would revoke version {each} of key {key_id}" for each in numbers]
        tell(wish, lines or [f"key {key_id} has no live version"], _body(before, versions, done.count),
             done.receipt, notes=notes)


def way_back(done: "lifecycle_pb2.RevokeResponse", reason: str) -> list[str]:
    """Say how a revocation is undone, if it can be and did anything."""
    if not done.count or reason == RevocationReason.KEY_COMPROMISE.name.lower():
        return []
    return [f"  undone by: verifier reinstate {done.receipt.audit_id}"]


def _body(before: "types_pb2.Key", versions: "list[types_pb2.Version]", count: int) -> dict[str, Any]:
    earlier = {version.version: version.reason if version.HasField("revoked_at") else None
               for version in before.versions}
    return {
        "client_id": before.client_id,
        "key_id": before.key_id,
        "versions": [
            {
                "version": version.version,
                "reason": reason_text(version),
                "revoked_at": time_text(version.revoked_at.seconds) if version.HasField("revoked_at") else None,
                "changed": version.HasField("revoked_at") and earlier[version.version] != version.reason,
            }
            for version in versions
        ],
        "count": count,
    }


def _chosen(key: "types_pb2.Key", number: int | None) -> list[int]:
    """Return the versions that are meant: the one that was named, or all that are live."""
    known = [version.version for version in key.versions]
    if number is None:
        return [version.version for version in key.versions
                if Phase(version.phase) not in (Phase.REVOKED, Phase.EXPIRED)]
    if number not in known:
        raise InvalidInput(f"key {key.key_id} has no version {number}; it has {', '.join(map(str, known))}",
                           code="VERSION_NOT_FOUND")
    return [number]


def _confirm(key: "types_pb2.Key", numbers: list[int], *, yes: bool) -> None:
    """List what a revocation of all live versions is about; ask, if somebody is there to answer."""
    if not numbers or yes:
        return
    named = ", ".join(map(str, numbers))
    click.echo(f"live versions of key {key.key_id} (client {key.client_id}): {named}", err=True)
    if at_terminal():
        click.confirm("revoke them all?", abort=True, err=True)
