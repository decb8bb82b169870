"""Revoking versions: those of one key, or all that a selection names, a million if need be, in one act.

A revocation leaves one audit entry, whose id undoes it (:mod:`verifier.control.reinstating`). When several keys are
concerned, entries follow it that name its id: one a key with what was before and after, or, when the keys are very
many, some that list the ordinals of the versions as ranges.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from sqlalchemy import Connection

from verifier.control import accounts, lifecycle
from verifier.control.acting import Act
from verifier.control.herding import Drover
from verifier.control.retirement import used_lately
from verifier.control.selecting import Choice, Chosen, Selection
from verifier.errors import Conflict
from verifier.registry import changes, pending, queries
from verifier.registry.facts import Key
from verifier.vocabulary import RevocationReason

__all__ = ["Impact", "Revocation", "RevokePreview", "Selection", "preview", "ranges", "revoke", "revoke_version"]

TOLD_ONE_BY_ONE_MAX = 1_000
RANGES_MAX = 10_000
IMPACTS_MAX = 100
LATELY_S = 2 * 86_400


@dataclass(frozen=True, slots=True)
class Impact:
    """A version that a revocation cuts off, and how much it was used."""

    client_id: str
    key_id: str
    version: int
    last_used_at: int | None  # seconds since 1970, as nodes reported
    valid_24h: int


@dataclass(frozen=True, slots=True)
class RevokePreview:
    """What a revocation does, or would do.

    Attributes:
        count: versions that are revoked, or revoked more strongly.
        unmatched: tokens, names, clients and prefixes that matched nothing.
        keys_without_version: keys that have no live version left.
        impacts: the first hundred versions, the most used ones first.
        unserved: versions of the selection that were revoked before, and whose revocation no publication holds yet.
    """

    count: int
    unmatched: int
    keys_without_version: int
    impacts: tuple[Impact, ...]
    unserved: int = 0


@dataclass(frozen=True, slots=True)
class Revocation:
    """What the revocation of one key's versions did."""

    key: Key
    numbers: tuple[int, ...]  # the versions it was about
    changed: tuple[int, ...]  # of those, the ones it changed


def preview(
    connection: Connection, selection: Selection, now_s: int, reason: RevocationReason = RevocationReason.UNSPECIFIED
) -> RevokePreview:
    """Tell what a revocation would do.

    Args:
        connection: any transaction.
        selection: which versions.
        now_s: seconds since 1970.
        reason: of the revocation: key_compromise concerns also versions that could come back, as their overlap is
            over or they are revoked for less.

    Raises:
        InvalidInput: the selection is empty or not usable.
    """
    tally = _Tally(connection, now_s)
    choice = Choice(connection, selection, now_s, for_good=_is_final(reason))
    for chosen, _ in _revoked(choice, reason, now_s):
        tally.add(chosen)
    unserved = _count_unserved(connection, selection, now_s, pending.revocations(connection))
    return tally.result(choice.unmatched, unserved)


def revoke(
    act: Act, selection: Selection, reason: RevocationReason, expected: int | None = None
) -> RevokePreview:
    """Revoke all versions that a selection chooses; a repeat is a success that changes nothing.

    Other versions are untouched. A revocation can be strengthened to key_compromise, never weakened; key_compromise is
    final, and "all live ones" are then all that could come back. Other writers wait until it is done: for a million
    versions some 15 s, 35 s when they are compromised. To shut a client out at once, disable it first.

    Args:
        selection: which versions.
        reason: by RFC 5280.
        expected: the count that the preview gave; None for any.

    Raises:
        InvalidInput: the selection is empty or not usable.
        Conflict: the count is another one now (``COUNT_MISMATCH``); nothing is changed.
    """
    recorded = pending.revocations(act.connection)
    tally, log = _Tally(act.connection, act.now_s), _Log()
    drover = Drover(act)
    choice = Choice(act.connection, selection, act.now_s, for_good=_is_final(reason))
    for chosen, after in _revoked(choice, reason, act.now_s):
        tally.add(chosen)
        stored, ordinals = drover.store(chosen.herd, after)
        log.add(chosen, stored, ordinals)
    unserved = _count_unserved(act.connection, selection, act.now_s, recorded)
    if expected is not None and expected != tally.count:
        raise _mismatch(tally.count, expected, unserved)
    log.write(act, reason, tally.count)
    return tally.result(choice.unmatched, unserved)


def revoke_version(
    act: Act,
    key_id: str,
    numbers: Sequence[int] | None = None,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
) -> Revocation:
    """Revoke versions of one key; as :func:`revoke`.

    Args:
        numbers: the versions; None means all that are live.
        reason: by RFC 5280.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it has no such version.
    """
    before = queries.find_key(act.connection, key_id)
    chosen = tuple(version.number for version in lifecycle.to_revoke(before, numbers, act.now_s))
    if not chosen:
        return Revocation(before, (), ())
    revoke(act, Selection(versions=[(key_id, number) for number in chosen]), reason)
    after = queries.find_key(act.connection, key_id)
    changed = [new.number for old, new in zip(before.versions, after.versions, strict=True) if new != old]
    return Revocation(after, chosen, tuple(changed))


def ranges(ordinals: Iterable[int]) -> list[list[int]]:
    """Write ascending ordinals as ranges of first and last."""
    found: list[list[int]] = []
    for ordinal in ordinals:
        if found and ordinal == found[-1][1] + 1:
            found[-1][1] = ordinal
        else:
            found.append([ordinal, ordinal])
    return found


def _count_unserved(connection: Connection, selection: Selection, now_s: int, recorded: frozenset[int]) -> int:
    """Count those of the versions that a selection chooses whose revocation is recorded, and not published."""
    if not recorded:
        return 0
    count = 0
    for chosen in Choice(connection, selection, now_s, revoked=True):
        herd = chosen.herd
        if len(herd.members) > 1:
            count += sum(member.version_ordinal in recorded for member in herd.members)
        else:
            named = [v for v in herd.key.versions if v.number in chosen.numbers and v.revoked_at is not None]
            count += sum(version.ordinal in recorded for version in named)
    return count


def _mismatch(count: int, expected: int, unserved: int) -> Conflict:
    message = f"{count} version{'' if count == 1 else 's'} would be revoked, not {expected}"
    hint = "look at it again with --dry-run"
    if unserved:  # of a command that was interrupted, most likely
        message += f"; {unserved} already revoked, not yet published"
        hint = f"to publish what is recorded, repeat it with --expect {count}, or: verifier publish"
    return Conflict(
        message, hint=hint, code="COUNT_MISMATCH",
        details={"count": count, "expected": expected, "unserved": unserved},
    )  # fmt: skip


def _is_final(reason: RevocationReason) -> bool:
    return reason is RevocationReason.KEY_COMPROMISE


def _revoked(choice: Choice, reason: RevocationReason, now_s: int) -> Iterator[tuple[Chosen, Key]]:
    """Yield what a revocation changes, with the first key of each herd as it is afterwards."""
    for chosen in choice:
        before = chosen.herd.key
        after = lifecycle.revoke(before, chosen.numbers, reason, now_s)
        changed = [new.number for old, new in zip(before.versions, after.versions, strict=True) if new != old]
        if changed:
            yield Chosen(chosen.herd, changed), after


class _Tally:
    """Counts what a revocation is about."""

    def __init__(self, connection: Connection, now_s: int) -> None:
        self._connection = connection
        self._now_s = now_s
        self._most: list[Impact] = []
        self._without = 0
        self.count = 0

    def add(self, chosen: Chosen) -> None:
        herd, key, now_s = chosen.herd, chosen.herd.key, self._now_s
        self.count += len(chosen.numbers) * len(herd.members)
        live = {version.number for version in key.versions if lifecycle.is_live(key, version, now_s)}
        if live and live <= set(chosen.numbers):
            self._without += len(herd.members)
        self._most = nlargest(IMPACTS_MAX, [*self._most, *self._impacts(chosen)], key=_weight)

    def result(self, unmatched: int, unserved: int) -> RevokePreview:
        return RevokePreview(self.count, unmatched, self._without, tuple(self._most), unserved)

    def _impacts(self, chosen: Chosen) -> Iterator[Impact]:
        if len(chosen.herd.members) == 1:
            versions = [(chosen.herd.key.key_id, v.number, v.ordinal, v.last_used_at)
                        for v in chosen.herd.key.versions if v.number in chosen.numbers]
        else:
            (number,) = chosen.numbers
            versions = [(m.key_id, number, m.version_ordinal, m.last_used_at) for m in chosen.herd.members]
        lately = [ordinal for _, _, ordinal, at in versions if at is not None and at >= self._now_s - LATELY_S]
        used = used_lately(self._connection, lately, self._now_s) if lately else {}
        for key_id, number, ordinal, last in versions[:IMPACTS_MAX] if not lately else versions:
            at, valid = used.get(ordinal, (last, 0))
            yield Impact(chosen.herd.key.client_id, key_id, number, at, valid)


def _weight(impact: Impact) -> tuple[int, int]:
    return impact.valid_24h, impact.last_used_at or 0


@dataclass(slots=True)
class _Log:
    """Collects what the audit log is told of a revocation."""

    changed: Any = field(default_factory=lambda: array("Q"))
    told: list[tuple[Key, Key]] = field(default_factory=list)
    keys: int = 0

    def add(self, chosen: Chosen, after: Key, ordinals: Sequence[int]) -> None:
        self.changed.extend(ordinals)
        self.keys += len(chosen.herd.members)
        if self.keys <= TOLD_ONE_BY_ONE_MAX:
            self.told += zip(chosen.herd.keys(), chosen.herd.keys(after), strict=True)

    def write(self, act: Act, reason: RevocationReason, count: int) -> None:
        if not count:
            return
        changes.count_changes(act.connection, count)
        about: Any = {"reason": reason.name.lower(), "count": count}
        if self.keys == 1:
            self._tell(act, *self.told[0], about)
            return
        head = act.audit("key.revoke", **about, keys=self.keys)
        if self.keys <= TOLD_ONE_BY_ONE_MAX:
            for before, after in self.told:
                self._tell(act, before, after, {"reason": about["reason"], "of": head.audit_id})
            return
        spans = ranges(sorted(self.changed))
        for first in range(0, len(spans), RANGES_MAX):
            act.audit("key.revoke", of=head.audit_id, reason=about["reason"], at=act.now_s,
                      revoked=spans[first : first + RANGES_MAX])
        act.emit("versions.revoked", count=count, keys=self.keys, reason=about["reason"])

    @staticmethod
    def _tell(act: Act, before: Key, after: Key, about: dict[str, Any]) -> None:
        revoked = [new for old, new in zip(before.versions, after.versions, strict=True) if new != old]
        names: Any = {"client_id": after.client_id, "key_id": after.key_id}
        act.audit("key.revoke", **names, version=revoked[0].number if len(revoked) == 1 else None, **about,
                  revoked=ranges([version.ordinal for version in revoked]), **accounts.change_of(before, after))
        for version in revoked:
            act.emit("version.revoked", **names, version=version.number, reason=about["reason"])
        if after.label.revoked_at is not None and before.label.revoked_at is None:
            left = [v for v in after.versions if lifecycle.is_live(after, v, act.now_s)]
            ends = [lifecycle.effective_end(after, version) for version in left]
            dark_at = act.now_s if not ends else None if None in ends else max(end for end in ends if end is not None)
            act.emit("key.without_current", **names, version=after.label.number, dark_at=dark_at)
