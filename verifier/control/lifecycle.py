"""The rules of a version's life, as pure functions over plain data: no clock, no database.

Times are seconds since 1970. They follow docs/keyring-format.md and the decision table of the Verify API.
"""

from collections.abc import Sequence
from dataclasses import replace

from verifier.errors import Conflict, InvalidInput
from verifier.registry.facts import Key, Version
from verifier.vocabulary import Phase, RevocationReason

TIME_MIN = 1
TIME_MAX = 0xFFFFFFFE  # a record keeps a time in 32 bits; the last value means "none"
VALID_PHASES = (Phase.CURRENT, Phase.RETIRING)  # a VALID answer has one of these


def earliest(*ends: int | None) -> int | None:
    """Return the earliest of the given times, None when there is none."""
    return min((end for end in ends if end is not None), default=None)


def effective_end(key: Key, version: Version) -> int | None:
    """Return the second from which the version is EXPIRED: of its own life, its overlap and the key's life."""
    return earliest(version.expires_at, version.retire_at, key.expires_at)


def phase(key: Key, version: Version, now_s: int) -> Phase:
    """Return where the version stands at a second: REVOKED over EXPIRED over PENDING over RETIRING over CURRENT."""
    end = effective_end(key, version)
    if version.revoked_at is not None:
        return Phase.REVOKED
    if end is not None and now_s >= end:
        return Phase.EXPIRED
    if version.not_before is not None and now_s < version.not_before:
        return Phase.PENDING
    if version.superseded_at is not None and now_s >= version.superseded_at:
        return Phase.RETIRING
    return Phase.CURRENT


def is_live(key: Key, version: Version, now_s: int) -> bool:
    """Tell whether the version may be valid now or later, switches aside."""
    return phase(key, version, now_s) not in (Phase.REVOKED, Phase.EXPIRED)


def may_come_back(key: Key, version: Version, now_s: int) -> bool:
    """Tell whether the version is live, or could be again: by going back to it, or by undoing its revocation."""
    end = earliest(version.expires_at, key.expires_at)
    return version.reason is not RevocationReason.KEY_COMPROMISE and (end is None or now_s < end)


def predecessors(key: Key, number: int) -> list[Version]:
    """Return the versions that another one took the place of, the one superseded last first."""
    found = [version for version in key.versions if version.superseded_by == number]
    return sorted(found, key=lambda version: (-(version.superseded_at or 0), -version.number))


def is_pending(version: Version, now_s: int) -> bool:
    """Tell whether the version waits for its activation."""
    return version.revoked_at is None and version.not_before is not None and now_s < version.not_before


def open_predecessors(key: Key, now_s: int) -> list[Version]:
    """Return the versions that callers may still move away from, to the label."""
    return [version for version in predecessors(key, key.label.number) if is_live(key, version, now_s)]


def is_rotating(key: Key, now_s: int) -> bool:
    """Tell whether a rotation is open: the label is pending, or the version before it is still live."""
    label = key.label
    return label.revoked_at is None and (is_pending(label, now_s) or bool(open_predecessors(key, now_s)))


def is_watched(key: Key, version: Version) -> bool:
    """Tell whether nodes report each use of a version at once: a successor's first, and any of a superseded one."""
    if version.superseded_at is not None:
        return True
    awaited = version.first_used_at is None
    return awaited and any(before.revoked_at is None for before in predecessors(key, version.number))


def due_at(key: Key, max_age_s: int | None) -> int | None:
    """Return when the schedule is to rotate a key: when its label reaches the greatest age.

    Args:
        key: with all its versions.
        max_age_s: of its effective policy; 0 or None for never.

    Returns:
        Seconds since 1970; None when it is never due: no greatest age, a revoked label, or a key that ends before.
    """
    label = key.label
    if not max_age_s or label.revoked_at is not None:
        return None
    due = (label.issued_at if label.not_before is None else label.not_before) + max_age_s
    return None if due > TIME_MAX or (key.expires_at is not None and due >= key.expires_at) else due


def check_time(name: str, moment_s: int | None) -> None:
    """Refuse a time that a keyring record cannot hold.

    Raises:
        InvalidInput: it is before 1970 or after 2106.
    """
    if moment_s is not None and not TIME_MIN <= moment_s <= TIME_MAX:
        raise InvalidInput(f"{name} lies outside 1970 to 2106", code="BAD_TIME")


def check_window(not_before: int | None, end: int | None, now_s: int) -> None:
    """Refuse a window in which the version could never be VALID.

    ``not_before`` stays empty for a version that is good at once: "now" would refuse it on a node whose clock lags.

    Raises:
        InvalidInput: the window is empty, or over already (``EMPTY_WINDOW``).
    """
    if end is None:
        return
    if not_before is not None and end <= not_before:
        raise InvalidInput("the key would end before it becomes active", code="EMPTY_WINDOW")
    if end <= now_s:
        raise InvalidInput("the key would have ended already", code="EMPTY_WINDOW")


def strength(reason: RevocationReason | None) -> int:
    """Rank a revocation: none, any, compromise."""
    if reason is None:
        return 0
    return 2 if reason is RevocationReason.KEY_COMPROMISE else 1


def revoked_reason(present: RevocationReason | None, asked: RevocationReason) -> RevocationReason:
    """Return the reason that stands after a revocation: it may be strengthened, never weakened or exchanged.

    Args:
        present: of the version; None when it is not revoked.
        asked: the reason of the new revocation.
    """
    return asked if present is None or strength(asked) > strength(present) else present


def revoked(version: Version, reason: RevocationReason, now_s: int) -> Version:
    """Return the version after a revocation; unchanged when it is revoked for as strong a reason already."""
    first = now_s if version.revoked_at is None else version.revoked_at
    return replace(version, revoked_at=first, reason=revoked_reason(version.reason, reason))


def with_version(key: Key, *versions: Version) -> Key:
    """Return the key with versions exchanged by their numbers; new ones come last."""
    given = {version.number: version for version in versions}
    kept = [given.pop(version.number, version) for version in key.versions]
    return replace(key, versions=(*kept, *given.values()))


def revoke(key: Key, numbers: Sequence[int] | None, reason: RevocationReason, now_s: int) -> Key:
    """Return the key after a revocation; its other versions are as before.

    Args:
        numbers: the versions; None means all that are live.
        reason: by RFC 5280; it may strengthen an earlier one, never weaken it.

    Raises:
        InvalidInput: the key has no such version (``VERSION_NOT_FOUND``).
    """
    return with_version(key, *(revoked(version, reason, now_s) for version in to_revoke(key, numbers, now_s)))


def reinstated(version: Version, revoked_at: int, now_s: int) -> Version:
    """Return the version after a revocation was undone, with its windows as they stand; or as it is, if it cannot be.

    A compromised version stays revoked; so does one that was revoked again since, and a successor that was cancelled
    before it became active, which would be a second pending one.

    Args:
        version: as it is now.
        revoked_at: when the revocation was that is undone.
        now_s: seconds since 1970.
    """
    of_another = version.revoked_at != revoked_at or strength(version.reason) > 1
    begins, superseded = version.not_before, version.superseded_at
    cancelled = begins is not None and superseded is not None and (superseded < begins or now_s < begins)
    return version if of_another or cancelled else replace(version, revoked_at=None, reason=None)


def moved_end(present: int | None, asked: int | None, *, extend: bool) -> int | None:
    """Return the own end that stands after an update: earlier at will, later or none only on purpose.

    Raises:
        Conflict: the end would move later without ``extend`` (``WOULD_EXTEND``).
    """
    later = present is not None and (asked is None or asked > present)
    if later and not extend:
        raise Conflict(
            "this would move the end later", hint="say so with --extend, if that is what you want", code="WOULD_EXTEND"
        )
    return asked


def to_revoke(key: Key, numbers: Sequence[int] | None, now_s: int) -> list[Version]:
    """Choose the versions that a revocation is about.

    Args:
        key: with all its versions.
        numbers: the versions that were named; None means all that are live.
        now_s: decides what is live.

    Raises:
        InvalidInput: the key has no such version (``VERSION_NOT_FOUND``).
    """
    if numbers is None:
        return [version for version in key.versions if is_live(key, version, now_s)]
    known = {version.number: version for version in key.versions}
    missing = [number for number in numbers if number not in known]
    if missing:
        raise InvalidInput(
            f"key {key.key_id} has no version {missing[0]}; it has {', '.join(map(str, known))}",
            code="VERSION_NOT_FOUND",
        )
    return [known[number] for number in dict.fromkeys(numbers)]
