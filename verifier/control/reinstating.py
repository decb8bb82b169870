"""Undoing a revocation that was wrong, by the audit entry that tells of it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, or_, select

from verifier.control import accounts, journal, lifecycle
from verifier.control.acting import Act
from verifier.control.herding import Drover
from verifier.control.revoking import TOLD_ONE_BY_ONE_MAX, ranges
from verifier.errors import Conflict, NotFound
from verifier.registry import audit, changes, schema
from verifier.registry.audit import Entry
from verifier.registry.facts import Key, Version
from verifier.registry.herds import Herd, herds
from verifier.tokens import quoted

REINSTATE_WITHIN_S = 30 * 86_400
SPANS_AT_ONCE = 100

_AUDIT_ID = re.compile(r"a-([1-9][0-9]{0,17})")

Spans = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Reinstated:
    """What was undone.

    Attributes:
        count: versions that are not revoked any more.
        kept: versions of the revocation that stay revoked: compromised, revoked again since, or cancelled.
    """

    count: int
    kept: int


def reinstate(act: Act, audit_id: str) -> Reinstated:
    """Undo a revocation; windows are as they stand, and a repeat changes nothing.

    Args:
        audit_id: of the entry that tells of the revocation.

    Raises:
        NotFound: there is no such entry (``AUDIT_NOT_FOUND``).
        Conflict: it tells of no revocation (``NOT_A_REVOCATION``), is older than 30 days (``TOO_OLD``), or was final
            (``COMPROMISED``).
    """
    entry, spans = _revocation(act.connection, audit_id)
    if act.now_s - entry.at > REINSTATE_WITHIN_S:
        raise Conflict("the revocation is older than 30 days", hint="verifier key rotate", code="TOO_OLD")
    if json.loads(entry.details).get("reason") == "key_compromise":
        raise Conflict("a compromised version stays revoked for ever", hint="verifier key rotate", code="COMPROMISED")
    drover = Drover(act)
    told: list[tuple[Key, Key]] = []
    changed: list[int] = []
    kept = 0
    for herd, concerned in _herds(act.connection, spans):
        before = herd.key
        numbers = {version.number for version in before.versions if _is_in(version, concerned)}
        lifted = [lifecycle.reinstated(v, entry.at, act.now_s) for v in before.versions if v.number in numbers]
        after = lifecycle.with_version(before, *lifted)
        if after != before:
            after, ordinals = drover.store(herd, after)
            changed += ordinals
            if len(told) <= TOLD_ONE_BY_ONE_MAX:
                told += zip(herd.keys(), herd.keys(after), strict=True)
        kept += len(herd.members) * sum(version.revoked_at is not None for version in lifted)
    _write(act, audit_id, sorted(changed), told)
    return Reinstated(len(changed), kept)


def _write(act: Act, audit_id: str, changed: list[int], told: list[tuple[Key, Key]]) -> None:
    if not changed:
        return
    changes.count_changes(act.connection, len(changed))
    about: dict[str, Any] = {"undone": audit_id}
    if len(told) > 1:
        about["of"] = act.audit("key.reinstate", **about, count=len(changed)).audit_id
    if len(told) > TOLD_ONE_BY_ONE_MAX:
        spans = ranges(changed)
        for first in range(0, len(spans), SPANS_AT_ONCE * SPANS_AT_ONCE):
            part = spans[first : first + SPANS_AT_ONCE * SPANS_AT_ONCE]
            act.audit("key.reinstate", **about, reinstated=part)
        act.emit("versions.reinstated", count=len(changed))
        return
    for before, after in told:
        names: dict[str, Any] = {"client_id": after.client_id, "key_id": after.key_id}
        act.audit("key.reinstate", **names, **about, **accounts.change_of(before, after))
        for old, new in zip(before.versions, after.versions, strict=True):
            if new != old:
                act.emit("version.reinstated", **names, version=new.number)


def _revocation(connection: Connection, audit_id: str) -> tuple[Entry, Spans]:
    """Return the entry of that id, and the ordinals of the versions that it and those that belong to it revoked."""
    named = _AUDIT_ID.fullmatch(audit_id)
    after = int(named.group(1)) - 1 if named else None
    found = iter(()) if after is None else audit.entries(connection, after)
    entry = next(found, None)
    if entry is None:
        raise NotFound(
            f"there is no audit entry {quoted(audit_id)}", hint="verifier audit list", code="AUDIT_NOT_FOUND"
        )
    details = json.loads(entry.details)
    told = details.get("revoked")
    spans = list(told) if isinstance(told, list) else []  # what heads others tells a number, or nothing
    if entry.action in ("key.revoke", journal.ACTION) and "of" not in details and not spans:
        for part in found:
            of_part = json.loads(part.details)
            if of_part.get("of") != audit_id:
                break
            spans += of_part.get("revoked", ())
    if not spans:
        raise Conflict(f"audit entry {audit_id} tells of no revocation", hint="verifier audit list",
                       code="NOT_A_REVOCATION")
    return entry, spans


def _herds(connection: Connection, spans: Spans) -> Iterator[tuple[Herd, Spans]]:
    """Yield the herds that have versions within ranges of ordinals, with those ranges."""
    versions = schema.versions.c
    for first in range(0, len(spans), SPANS_AT_ONCE):
        part = spans[first : first + SPANS_AT_ONCE]
        within = [versions.ordinal.between(low, high) for low, high in part]
        keys = select(versions.key_ordinal).where(or_(*within))
        for herd in herds(connection, schema.keys.c.ordinal.in_(keys)):
            yield herd, part


def _is_in(version: Version, spans: Spans) -> bool:
    return any(low <= version.ordinal <= high for low, high in spans)
