"""Revoking versions, and undoing a revocation that was wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from verifier.control import accounts, lifecycle, tombs
from verifier.control.acting import Act
from verifier.control.saving import save
from verifier.registry import queries
from verifier.registry.facts import Key
from verifier.vocabulary import RevocationReason


@dataclass(frozen=True, slots=True)
class Revocation:
    """What the revocation of one key's versions did."""

    key: Key
    numbers: tuple[int, ...]  # the versions it was about
    changed: tuple[int, ...]  # of those, the ones it changed


def revoke_version(
    act: Act,
    key_id: str,
    numbers: Sequence[int] | None = None,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
) -> Revocation:
    """Revoke versions of a key; other versions are untouched, and a repeat is a success that changes nothing.

    A revocation can be strengthened to key_compromise, never weakened; key_compromise is final.

    Args:
        numbers: the versions; None means all that are live.
        reason: by RFC 5280.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it has no such version.
    """
    before = queries.find_key(act.connection, key_id)
    chosen = lifecycle.to_revoke(before, numbers, act.now_s)
    after = lifecycle.revoke(before, [version.number for version in chosen], reason, act.now_s)
    changed = [new for old, new in zip(before.versions, after.versions, strict=True) if new != old]
    if changed:
        after = save(act, before, after)
        tombs.bury(act, after, changed)
        act.audit(
            "key.revoke", client_id=after.client_id, key_id=key_id,
            version=changed[0].number if len(changed) == 1 else None, reason=reason.name.lower(), count=len(changed),
            revoked=[[version.ordinal, version.ordinal] for version in changed], **accounts.change_of(before, after),
        )  # fmt: skip
        for version in changed:
            act.emit(
                "version.revoked", client_id=after.client_id, key_id=key_id, version=version.number,
                reason=reason.name.lower(),
            )  # fmt: skip
    return Revocation(after, tuple(version.number for version in chosen), tuple(version.number for version in changed))
