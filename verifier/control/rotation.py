"""Rotating keys: the rules of :mod:`verifier.control.rotating`, done to the registry, audited and told.

Each function reads the key, applies the rule and stores what came out, in the one transaction of its act.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from verifier.control import accounts, lifecycle, rotating, tombs
from verifier.control.acting import Act
from verifier.control.issuing import make_secret
from verifier.control.nodes import has_reporting_nodes
from verifier.control.policy import ON_FIRST_USE, policy_of
from verifier.control.retirement import Safety, check_retirement
from verifier.control.rotating import NewVersion, RotateTerms
from verifier.control.saving import save
from verifier.errors import Conflict
from verifier.registry import changes, queries
from verifier.registry.facts import Key, Version

__all__ = ["NewSecret", "RotateTerms", "Rotated", "cancel", "first_use", "promote", "retire", "roll_back_key", "rotate"]


@dataclass(frozen=True, slots=True)
class NewSecret:
    """Where the secret of a new version comes from.

    Args:
        peppers: the secrets, in the order of the registry's pepper ids.
        sha256: of a token that the caller made and keeps, 32 bytes; None to have one made here.
    """

    peppers: Sequence[bytes] = field(repr=False)
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. The token is shown once and stored nowhere."""

    key: Key
    version: int  # the new one
    token: str | None = field(repr=False)  # None if the caller brought it
    previous: Version  # the one that it replaced
    withdrawn: tuple[Version, ...] = ()  # active ones that were revoked, as nobody had reported a use of them


def rotate(act: Act, key_id: str, terms: RotateTerms, new_version: NewSecret) -> Rotated:
    """Issue the next version of a key and start the overlap of the one before.

    Args:
        key_id: which key.
        terms: how; its policy says what they leave open.
        new_version: where the secret comes from.

    Raises:
        NotFound: there is no such key.
        Conflict: see :func:`rotating.rotate`; or the caller's token is in use (``DUPLICATE``) or was compromised
            (``TOMBSTONED``); or nobody reports first uses (``NO_REPORTS``).
        InvalidInput: the terms are not usable.
    """
    before = queries.find_key(act.connection, key_id)
    policy = policy_of(act.connection, before)
    if (terms.clock or policy.clock) == ON_FIRST_USE and not terms.force:
        _check_reports(act)
    token, tag = make_secret(act, new_version.peppers, before.prefix, new_version.sha256)
    new = NewVersion(changes.reserve(act.connection, "next_version"), tag)
    after = rotating.rotate(before, terms, policy, new, act.now_s)
    previous = next(version for version in after.versions if version.superseded_by == after.label.number)
    after = _done(act, "key.rotate", before, after, version=after.label.number, reason=terms.reason.name.lower())
    act.emit(
        "key.rotated", client_id=after.client_id, key_id=key_id, version=after.label.number,
        previous=previous.number, superseded_at=previous.superseded_at, retire_at=previous.retire_at,
    )  # fmt: skip
    return Rotated(after, after.label.number, token, previous, _withdrawn(before, after, previous, act.now_s))


def promote(act: Act, key_id: str) -> Key:
    """Activate a pending successor now, or start the overlap that waits for its first use.

    Raises:
        NotFound: there is no such key.
        Conflict: see :func:`rotating.promote`.
    """
    return _apply(act, "key.promote", "key.promoted", key_id, lambda key: rotating.promote(key, act.now_s))


def retire(
    act: Act, key_id: str, number: int, at_s: int | None = None, *, force: bool = False, safe: bool | None = None
) -> Key:
    """End the overlap of a superseded version; a repeat changes nothing.

    Args:
        number: the version.
        at_s: when, in seconds since 1970; now when None. Never later than its overlap ends anyway.
        force: do it although somebody may still use it.
        safe: whether nobody does, if the caller knows; None has it looked up.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it has no such version.
        Conflict: see :func:`rotating.retire`; or it is not known to be safe (``IN_USE``).
    """
    before = queries.find_key(act.connection, key_id)
    after = rotating.retire(before, number, at_s, act.now_s)
    if after == before:
        return before
    if not force and not (_is_safe(act, before, number) if safe is None else safe):
        raise Conflict(
            f"version {number} of key {key_id} is not known to be out of use",
            hint=f"verifier key safe-to-retire {key_id}; or --force", code="IN_USE", details={"version": number},
        )  # fmt: skip
    after = _done(act, "key.retire", before, after, version=number)
    act.emit("key.retired", client_id=after.client_id, key_id=key_id, version=number,
             retire_at=rotating.numbered(after, number).retire_at)
    return after


def cancel(act: Act, key_id: str) -> Key:
    """Withdraw a successor that is pending or was never used; a repeat changes nothing.

    Raises:
        NotFound: there is no such key.
        Conflict: see :func:`rotating.cancel`.
    """
    return _apply(act, "key.cancel", "key.cancelled", key_id, lambda key: rotating.cancel(key, act.now_s))


def roll_back_key(act: Act, key_id: str, to: int | None = None, overlap_s: int | None = None) -> Key:
    """Make an earlier version of a key its current one again; the one that it leaves has an overlap from now on.

    Args:
        to: its number; the one before when None.
        overlap_s: how long the version that is left stays valid; the policy's when None.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it has no such version.
        Conflict: see :func:`rotating.roll_back`.
    """

    def rule(key: Key) -> Key:
        overlap = policy_of(act.connection, key).overlap_s if overlap_s is None else overlap_s
        return rotating.roll_back(key, to, overlap or 0, act.now_s)

    return _apply(act, "key.rollback", "key.rolled_back", key_id, rule)


def first_use(act: Act, key_id: str, number: int, used_at_s: int) -> bool:
    """Take note of a use of a version that a node reported, if it is the first; return whether anything changed.

    Args:
        key_id: which key.
        number: the version.
        used_at_s: when, in seconds since 1970 by the node's clock.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it has no such version.
    """
    before = queries.find_key(act.connection, key_id)
    after = rotating.first_use(before, number, used_at_s, act.now_s)
    if after == before:
        return False
    _done(act, "version.first_use", before, after, version=number)
    windows = {str(v.number): v.retire_at for v, old in zip(after.versions, before.versions, strict=True)
               if v.retire_at != old.retire_at}
    act.emit("rotation.first_use", client_id=after.client_id, key_id=after.key_id, version=number,
             used_at=rotating.numbered(after, number).first_used_at, retire_at=windows)
    return True


def _apply(act: Act, action: str, event: str, key_id: str, rule: Callable[[Key], Key]) -> Key:
    """Apply a rule to a key that moves its label; a rule that changes nothing leaves no trace."""
    before = queries.find_key(act.connection, key_id)
    after = rule(before)
    if after == before:
        return before
    after = _done(act, action, before, after, version=after.label.number)
    act.emit(event, client_id=after.client_id, key_id=key_id, version=after.label.number)
    return after


def _done(act: Act, action: str, before: Key, after: Key, *, version: int, **details: Any) -> Key:
    """Store a key after a rule, with what it compromised, and audit it."""
    known = {old.number: old for old in before.versions}
    revoked = [new for new in after.versions if new.number in known and new.reason != known[new.number].reason]
    after = save(act, before, after)
    tombs.bury(act, after, revoked)
    if revoked:
        details["revoked"] = [[gone.ordinal, gone.ordinal] for gone in revoked]
    act.audit(action, client_id=after.client_id, key_id=after.key_id, version=version, **details,
              **accounts.change_of(before, after))
    for gone in revoked:
        act.emit("version.revoked", client_id=after.client_id, key_id=after.key_id, version=gone.number,
                 reason=None if gone.reason is None else gone.reason.name.lower())
    return after


def _is_safe(act: Act, key: Key, number: int) -> bool:
    return check_retirement(act.connection, key, number, act.now_s).safety is Safety.SAFE


def _withdrawn(before: Key, after: Key, previous: Version, now_s: int) -> tuple[Version, ...]:
    """Return what a caller may have been given and is refused from now on, beside a version that was compromised."""
    active = {old.number for old in before.versions if lifecycle.phase(before, old, now_s) in lifecycle.VALID_PHASES}
    return tuple(
        version for version in after.versions
        if version.revoked_at is not None and version.number in active and version.number != previous.number
    )


def _check_reports(act: Act) -> None:
    """Refuse to wait for a first use that nobody would report."""
    if not has_reporting_nodes(act.connection, act.now_s):
        raise Conflict(
            "no node has reported usage lately, so a first use would go unseen until the longest wait is over",
            hint="--clock fixed; or --force to run to the end of that wait", code="NO_REPORTS",
        )  # fmt: skip
