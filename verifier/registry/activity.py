"""Which versions are at stake when a publication changes: how many a client has, and which were used lately."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from verifier.registry import schema

LATELY_S = 86_400
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Activity:
    """Versions of one client, whatever its switch says.

    Attributes:
        undenied: neither revoked, nor is their key switched off.
        active: of those, the ones whose end lies ahead.
        used: of those, the ones that were used in the last 24 hours.
    """

    undenied: int
    active: int
    used: int


def of_client(connection: Connection, client_ordinal: int, now_s: int) -> Activity:
    """Count a client's versions; about a microsecond each."""
    v, k = schema.versions.c, schema.keys.c
    active = and_(*(or_(end.is_(None), end > now_s) for end in (v.expires_at, v.retire_at, k.expires_at)))
    used = and_(active, v.last_used_at >= now_s - LATELY_S)
    query = (
        select(func.count(), *(func.coalesce(func.sum(case((test, 1), else_=0)), 0) for test in (active, used)))
        .select_from(schema.versions)
        .join(schema.keys)
        .where(k.client_ordinal == client_ordinal, k.enabled.is_(True), v.revoked_at.is_(None))
    )
    return Activity(*(int(number) for number in connection.execute(query).one()))


def count_denied(connection: Connection, ordinals: Sequence[int], ended_by: int | None = None) -> int:
    """Count those of the versions that somebody revoked or retired, or whose key or client he switched off.

    Args:
        connection: any transaction.
        ordinals: of the versions.
        ended_by: count those, too, whose end came at this second or before, in seconds since 1970; None: do not.
    """
    v, k = schema.versions.c, schema.keys.c
    off = (k.enabled.is_(False), schema.clients.c.enabled.is_(False))
    said: list[ColumnElement[bool]] = [v.revoked_at.is_not(None), v.cut.is_(True), *off]
    if ended_by is not None:
        said += [end <= ended_by for end in (v.expires_at, v.retire_at, k.expires_at)]
    whose = schema.versions.join(schema.keys).join(schema.clients)
    denied = 0
    for start in range(0, len(ordinals), _AT_ONCE):
        some = ordinals[start : start + _AT_ONCE]
        query = select(func.count()).select_from(whose).where(v.ordinal.in_(some), or_(*said))
        denied += int(connection.scalar(query) or 0)
    return denied


def count_used_lately(connection: Connection, ordinals: Sequence[int], now_s: int) -> int:
    """Count those of the versions that were used in the last 24 hours."""
    v = schema.versions.c
    used = 0
    for start in range(0, len(ordinals), _AT_ONCE):
        some = ordinals[start : start + _AT_ONCE]
        query = select(func.count()).where(v.ordinal.in_(some), v.last_used_at >= now_s - LATELY_S)
        used += int(connection.scalar(query) or 0)
    return used
