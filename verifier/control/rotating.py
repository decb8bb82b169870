"""The rules of rotation, as pure functions over plain data: each takes a key and returns the key as it is afterwards.

One version of a key, the label, is not superseded. A rotation makes a new label; what was it before stays valid for an
overlap that runs from the activation of the new one, by one of three clocks:

- ``fixed``: the overlap runs at once;
- ``on_first_use``: it runs from the first use of the new version, at the latest after ``max_pending``;
- ``manual``: it runs until somebody ends it.

A version's own end is never touched: not by rotation, not by going back. Times are seconds since 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from verifier.control import lifecycle
from verifier.control.lifecycle import earliest, with_version
from verifier.control.policy import FIXED, MANUAL, ON_FIRST_USE, Policy
from verifier.errors import Conflict, InvalidInput
from verifier.registry.facts import Key, Version
from verifier.vocabulary import RevocationReason

NOTICE_S_MAX = 3600  # what callers see at least of a window before it ends, if its overlap is as long

COMPROMISE = RevocationReason.KEY_COMPROMISE
SUPERSEDED = RevocationReason.SUPERSEDED


@dataclass(frozen=True, slots=True)
class RotateTerms:
    """How to rotate; what is None is the policy's to say.

    Args:
        overlap_s: how long the version before stays valid.
        clock: ``fixed``, ``on_first_use`` or ``manual``.
        max_pending_s: with ``on_first_use``, the longest wait.
        activate_at: from when on the successor is valid; at once when None.
        expires_in_s: life of the successor from its activation; 0 for no end of its own. When neither this nor the
            policy says anything, it ends when the version before would have.
        reason: ``superseded``, or ``key_compromise``, which revokes the version before at once.
        force: rotate although a rotation is open: a successor that is pending or unused is withdrawn first.
        allow_gap: rotate although the version before ends before the successor is active.
        expected_version: the number that the version before must have; 0 or None for any.
    """

    overlap_s: int | None = None
    clock: str | None = None
    max_pending_s: int | None = None
    activate_at: int | None = None
    expires_in_s: int | None = None
    reason: RevocationReason = SUPERSEDED
    force: bool = False
    allow_gap: bool = False
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a new version is made from."""

    ordinal: int
    tag: bytes


def rotate(key: Key, terms: RotateTerms, policy: Policy, new: NewVersion, now_s: int) -> Key:
    """Return the key with a successor of its label.

    Args:
        key: with all its versions.
        terms: how to rotate.
        policy: the effective one, for what the terms leave open.
        new: ordinal and tag of the successor.
        now_s: when.

    Raises:
        Conflict: ``VERSION_MISMATCH``, ``IN_THE_PAST``, ``ROTATION_OPEN``, ``KEY_OVER``, ``GAP``, ``EMPTY_WINDOW`` or
            ``MAX_LIVE``.
        InvalidInput: the terms contradict each other, or hold a time that no record can (``BAD_TERMS``, ``BAD_TIME``).
    """
    _check_terms(key, terms, now_s)
    before = key
    if lifecycle.is_rotating(key, now_s) and not terms.force:
        raise _open(key, now_s)
    key = _overtaken(key, now_s) if terms.reason is COMPROMISE else _withdrawn(key, now_s)
    label = key.label
    at = now_s if terms.activate_at is None else terms.activate_at
    if key.expires_at is not None and key.expires_at <= at:
        raise _conflict("KEY_OVER", "the key itself ends before the successor would be active",
                        "verifier key update --key-expires TIME --extend")
    ends = label.expires_at is not None and label.expires_at <= at
    if ends and label.revoked_at is None and terms.reason is not COMPROMISE and not terms.allow_gap:
        raise _conflict("GAP", f"version {label.number} ends before its successor would be active",
                        "--activate-at earlier, or --allow-gap", version=label.number)
    successor = _successor(key, terms, policy, new, now_s)
    rotated = with_version(key, _superseded(label, successor, terms, policy, now_s), successor)
    _check_live(before, rotated, terms, policy, now_s)
    return rotated


def promote(key: Key, now_s: int) -> Key:
    """Return the key with its pending label active now, or with the overlap running that waits for its first use.

    Raises:
        Conflict: ``REVOKED`` or ``NOTHING_TO_PROMOTE``.
    """
    label = key.label
    if label.revoked_at is not None:
        raise _conflict("REVOKED", f"version {label.number} is revoked", "verifier key rollback, or key rotate")
    before = [version for version in lifecycle.predecessors(key, label.number) if version.revoked_at is None]
    if lifecycle.is_pending(label, now_s):
        return with_version(key, replace(label, not_before=None), *(_promoted(version, now_s) for version in before))
    waiting = [v for v in before if _is_waiting(v) and lifecycle.is_live(key, v, now_s)]
    if not waiting or label.first_used_at is not None or not lifecycle.is_live(key, label, now_s):
        raise _conflict("NOTHING_TO_PROMOTE", "no successor is pending, and none waits for its first use", None)
    return with_version(key, *(_cut(version, now_s + (version.overlap_s or 0)) for version in waiting))


def first_use(key: Key, number: int, used_at: int, now_s: int) -> Key:
    """Return the key after a node reported a use of a version; only the earliest counts, so a repeat changes nothing.

    Args:
        number: the version that was used.
        used_at: when, by the node's clock; taken for no earlier than its activation and no later than now.
        now_s: when the report came.
    """
    version = numbered(key, number)
    begun = max(version.issued_at, version.not_before or 0)
    at = max(begun, min(used_at, now_s))
    first = version.first_used_at is None or at < version.first_used_at
    used = replace(version, first_used_at=at) if first else version
    moved = [_noticed(before, at, now_s) for before in lifecycle.predecessors(key, number) if _is_waiting(before)]
    return with_version(key, used, *moved)


def retire(key: Key, number: int, at_s: int | None, now_s: int) -> Key:
    """Return the key with the overlap of a superseded version ended; one that is over already stays as it is.

    This is no revocation: it answers EXPIRED, and can be rolled back. The act looks whether callers still use it.

    Args:
        number: the version.
        at_s: when; never later than its overlap ends anyway. Now when None, or past.

    Raises:
        Conflict: ``REVOKED`` or ``NOT_SUPERSEDED``.
    """
    version = numbered(key, number)
    if version.revoked_at is not None:
        raise _conflict("REVOKED", f"version {number} is revoked already", None)
    at = now_s if at_s is None else max(at_s, now_s)
    lifecycle.check_time("the time", at)
    if version.superseded_at is None or at < version.superseded_at:
        raise _conflict("NOT_SUPERSEDED", f"no other version has taken the place of version {number} by then",
                        "verifier key rotate first; to refuse it for good, verifier revoke", version=number)
    end = lifecycle.effective_end(key, version)
    return key if end is not None and end <= at else with_version(key, _cut(version, at))


def cancel(key: Key, now_s: int) -> Key:
    """Return the key with its successor withdrawn that is pending or was never used; the version before is as it was.

    A repeat changes nothing.

    Raises:
        Conflict: ``NO_PREDECESSOR`` or ``IN_USE``.
    """
    label = key.label
    if _was_cancelled(key):
        return key
    if not lifecycle.is_pending(label, now_s) and label.first_used_at is not None:
        raise _conflict("IN_USE", f"version {label.number} is in use", "verifier key rollback", version=label.number)
    before = _replaced(key, now_s)
    if not before:
        raise _no_predecessor(key, "no live version is left that it replaced")
    withdrawn = lifecycle.revoked(label, SUPERSEDED, now_s)
    return with_version(key, _again(before[0]), _left(withdrawn, before[0], now_s))


def roll_back(key: Key, to: int | None, overlap_s: int, now_s: int) -> Key:
    """Return the key with an earlier version as its label again; the one that it leaves has an overlap from now on.

    A pending successor is cancelled. A version whose overlap is over comes back to life.

    Args:
        to: its number; the one before when None.
        overlap_s: how long the version that is left stays valid.

    Raises:
        Conflict: ``NO_PREDECESSOR``, ``REVOKED``, ``COMPROMISED`` or, of a pending successor, as for :func:`cancel`.
    """
    if lifecycle.is_pending(key.label, now_s):
        key = cancel(key, now_s)
        if to in (None, key.label.number):
            return key
    label = key.label
    back = _to_go_back_to(key, to, now_s)
    left = _left(label, back, now_s)
    if lifecycle.is_live(key, label, now_s):
        lifecycle.check_time("the end of the overlap", now_s + overlap_s)
        left = replace(left, clock=FIXED, overlap_s=overlap_s, retire_at=now_s + overlap_s)
    return with_version(key, _again(back), left)


def numbered(key: Key, number: int) -> Version:
    """Return the version of that number.

    Raises:
        InvalidInput: there is none (``VERSION_NOT_FOUND``).
    """
    found = [version for version in key.versions if version.number == number]
    if not found:
        known = ", ".join(str(version.number) for version in key.versions)
        raise InvalidInput(f"key {key.key_id} has no version {number}; it has {known}", code="VERSION_NOT_FOUND")
    return found[0]


# --- Rotating --------------------------------------------------------------------------------------------------------


def _check_terms(key: Key, terms: RotateTerms, now_s: int) -> None:
    if terms.expected_version and terms.expected_version != key.label.number:
        raise _conflict("VERSION_MISMATCH", f"the version in force is {key.label.number}", None,
                        version=key.label.number)
    if terms.reason not in (SUPERSEDED, COMPROMISE):
        raise InvalidInput("a rotation is for superseded or key_compromise; revoke for others", code="BAD_TERMS")
    scheduled = terms.activate_at is not None
    if terms.reason is COMPROMISE and (scheduled or terms.overlap_s or terms.clock not in (None, FIXED)):
        raise InvalidInput("a compromised version is revoked at once: without activation time, overlap or clock",
                           code="BAD_TERMS")
    Policy(overlap_s=terms.overlap_s, clock=terms.clock, max_pending_s=terms.max_pending_s,
           expires_in_s=terms.expires_in_s).checked()
    lifecycle.check_time("the activation", terms.activate_at)
    if terms.activate_at is not None and terms.activate_at <= now_s:
        raise _conflict("IN_THE_PAST", "the activation is not in the future", "leave it out to activate at once")


def _withdrawn(key: Key, now_s: int) -> Key:
    """Return the key without a successor that is pending or was never used: it must not cut off the version before."""
    label, pending = key.label, lifecycle.is_pending(key.label, now_s)
    before = _replaced(key, now_s)
    if before and (pending or label.first_used_at is None):
        return with_version(
            key, _again(before[0]), _left(lifecycle.revoked(label, SUPERSEDED, now_s), before[0], now_s)
        )
    return with_version(key, lifecycle.revoked(label, SUPERSEDED, now_s)) if pending else key


def _successor(key: Key, terms: RotateTerms, policy: Policy, new: NewVersion, now_s: int) -> Version:
    at = now_s if terms.activate_at is None else terms.activate_at
    life_s = policy.expires_in_s if terms.expires_in_s is None else terms.expires_in_s
    end = key.label.expires_at if life_s is None else at + life_s if life_s else None
    lifecycle.check_time("the end of the successor", end)
    if end is not None and end <= at:
        raise _conflict("EMPTY_WINDOW", "the successor would end before it becomes active: it inherits its end",
                        "--expires-in 90d, or --never-expires")
    number = max(version.number for version in key.versions) + 1
    return Version(new.ordinal, number, new.tag, issued_at=now_s, not_before=terms.activate_at, expires_at=end)


def _superseded(label: Version, successor: Version, terms: RotateTerms, policy: Policy, now_s: int) -> Version:
    """Return the label as it is once the successor has taken its place, with its window."""
    at = now_s if successor.not_before is None else successor.not_before
    old = replace(label, superseded_at=at, superseded_by=successor.number)
    if terms.reason is COMPROMISE:
        old = lifecycle.revoked(old, COMPROMISE, now_s)
    if old.revoked_at is not None:
        return old
    clock = terms.clock or policy.clock or FIXED
    overlap_s = _given(terms.overlap_s, policy.overlap_s)
    ceiling = at + _given(terms.max_pending_s, policy.max_pending_s) + overlap_s if clock == ON_FIRST_USE else None
    end = {FIXED: at + overlap_s, ON_FIRST_USE: ceiling, MANUAL: None}[clock]
    lifecycle.check_time("the end of the overlap", end)
    return replace(old, clock=clock, overlap_s=overlap_s, ceiling=ceiling, retire_at=end, cut=False)


def _given(said: int | None, otherwise: int | None) -> int:
    return (otherwise or 0) if said is None else said


def _check_live(before: Key, after: Key, terms: RotateTerms, policy: Policy, now_s: int) -> None:
    """Refuse one live version too many; an emergency goes through."""
    most = policy.max_live
    now_live, were_live = (sum(lifecycle.is_live(key, v, now_s) for v in key.versions) for key in (after, before))
    if most is not None and now_live > most and now_live > were_live and terms.reason is not COMPROMISE:
        raise _conflict("MAX_LIVE", f"{now_live} versions would be live; the policy allows {most}",
                        "verifier key retire, or wait for the end of an overlap")


# --- Windows ---------------------------------------------------------------------------------------------------------


def _again(version: Version) -> Version:
    """Return a version as the label again: its window is cleared, its own end stays."""
    return replace(version, superseded_at=None, superseded_by=0, retire_at=None, clock=None, overlap_s=None,
                   ceiling=None, cut=False)


def _left(label: Version, back: Version, now_s: int) -> Version:
    """Return the label as it is once an earlier version has taken its place again."""
    return replace(label, superseded_at=now_s, superseded_by=back.number, clock=None, overlap_s=None, ceiling=None)


def _cut(version: Version, at: int) -> Version:
    """Return a version whose window a person ended; no window gets longer by that."""
    return replace(version, retire_at=earliest(version.retire_at, at), cut=True)


def _promoted(version: Version, now_s: int) -> Version:
    """Return the predecessor of a pending label that becomes active now: its window is counted from now."""
    moved = replace(version, superseded_at=now_s)
    if version.clock == MANUAL:
        return moved
    end = now_s + (version.overlap_s or 0)
    if version.clock == ON_FIRST_USE:
        return replace(_cut(moved, end), ceiling=end)
    return replace(moved, retire_at=earliest(version.retire_at, end))


def _is_waiting(version: Version) -> bool:
    """Tell whether the version's window waits for the first use of its successor, which nobody has shortened."""
    return version.clock == ON_FIRST_USE and version.ceiling is not None and version.revoked_at is None


def _noticed(version: Version, used_at: int, now_s: int) -> Version:
    """Return a version whose window runs from the first use of its successor, but ends not without notice."""
    overlap_s = version.overlap_s or 0
    end = max(used_at + overlap_s, now_s + min(NOTICE_S_MAX, overlap_s))
    return replace(version, retire_at=earliest(version.retire_at, end))


def _overtaken(key: Key, now_s: int) -> Key:
    """Return the key with the versions that a pending label would have superseded later superseded now."""
    later = [v for v in lifecycle.predecessors(key, key.label.number) if v.superseded_at and v.superseded_at > now_s]
    return with_version(key, *(replace(version, superseded_at=now_s) for version in later))


# --- Going back ------------------------------------------------------------------------------------------------------


def _replaced(key: Key, now_s: int) -> list[Version]:
    """Return the live versions that the label is the successor of.

    Not those that were left when somebody went back to the label: it is the older one then, and may be in use though
    no node ever told of it.
    """
    return [version for version in lifecycle.open_predecessors(key, now_s) if version.number < key.label.number]


def _was_cancelled(key: Key) -> bool:
    """Tell whether the newest version was withdrawn in favour of the label: there is no other successor to withdraw."""
    newest = max(key.versions, key=lambda version: version.number)
    return newest.revoked_at is not None and newest.superseded_by == key.label.number


def _to_go_back_to(key: Key, to: int | None, now_s: int) -> Version:
    """Return the version that becomes the label again: one that still has a life of its own."""
    label = key.label
    candidates = lifecycle.predecessors(key, label.number) if to is None else [numbered(key, to)]
    alive = [v for v in candidates if v.revoked_at is None and not _is_over(key, v, now_s)]
    if to is not None and to == label.number:
        raise _no_predecessor(key, f"version {to} is the current one")
    if alive:
        return alive[0]
    revoked = [version for version in candidates if version.revoked_at is not None]
    if to is not None and revoked:
        code = "COMPROMISED" if revoked[0].reason is COMPROMISE else "REVOKED"
        hint = None if code == "COMPROMISED" else "verifier reinstate AUDIT_ID"
        raise _conflict(code, f"version {to} is revoked: {_reason_name(revoked)}", hint, version=to)
    raise _no_predecessor(key, "no version that it replaced has a life left" if to is None else f"version {to} is over")


def _is_over(key: Key, version: Version, now_s: int) -> bool:
    end = earliest(version.expires_at, key.expires_at)
    return end is not None and end <= now_s


def _reason_name(revoked: Sequence[Version]) -> str:
    reason = revoked[0].reason
    return "unspecified" if reason is None else reason.name.lower()


# --- Refusals --------------------------------------------------------------------------------------------------------


def _open(key: Key, now_s: int) -> Conflict:
    label = key.label
    if lifecycle.is_pending(label, now_s):
        what = f"version {label.number} is pending"
    else:
        what = f"version {lifecycle.open_predecessors(key, now_s)[0].number} is still valid beside {label.number}"
    return _conflict("ROTATION_OPEN", f"a rotation is open: {what}",
                     f"verifier key cancel {key.key_id}, key retire, or --force", version=label.number)


def _no_predecessor(key: Key, why: str) -> Conflict:
    return _conflict("NO_PREDECESSOR", f"key {key.key_id} has nothing to go back to: {why}", "verifier key rotate")


def _conflict(code: str, message: str, hint: str | None, **details: Any) -> Conflict:
    return Conflict(message, hint=hint, code=code, details=details)
