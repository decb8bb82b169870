"""What the clock does to keys: found by sparse indexes, so that looking costs nothing where nothing happens."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Select, and_, func, or_, select, text, union, update

from verifier.registry import schema

NOTICES_MAX = 100  # different ones; a database takes only so many parts of one query
POLICIES_MAX = 1000
FETCH = 10_000


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far events of the clock were emitted. Seconds since 1970.

    Attributes:
        told_to: all up to this second; None before the first look.
        until: those up to this one are being emitted, in the order of keys; None when nothing is under way.
        place: ordinal of the last key that was done then.
    """

    told_to: int | None
    until: int | None = None
    place: int = -1


def cursor(connection: Connection) -> Cursor:
    """Return how far events were emitted."""
    row = schema.registry.c
    told_to, until, place = connection.execute(select(row.events_to, row.events_until, row.events_place)).one()
    return Cursor(told_to, until, -1 if place is None else place)


def set_cursor(connection: Connection, to: Cursor) -> None:
    """Note how far events were emitted, in the transaction that emits them."""
    place = None if to.until is None else to.place
    connection.execute(
        update(schema.registry).values(events_to=to.told_to, events_until=to.until, events_place=place)
    )


def touched(
    connection: Connection, after_s: int, until_s: int, notices_s: Iterable[int], place: int = -1
) -> "array[int]":
    """Return the keys for which a time lies in ``(after_s, until_s]``, or so long after it as a notice says.

    Args:
        notices_s: lengths of notices.
        place: only keys with a greater ordinal.

    Returns:
        Their ordinals, ascending.
    """
    v, k = schema.versions.c, schema.keys.c

    def within(column: "Column[Any]", ahead_s: int = 0) -> Select[Any]:
        key = k.ordinal if column.table is schema.keys else v.key_ordinal
        return select(key.label("key")).where(column > after_s + ahead_s, column <= until_s + ahead_s)

    ends = (v.retire_at, v.expires_at, k.expires_at)
    parts = [within(v.not_before), within(v.superseded_at)]
    for ahead_s in [0, *sorted(set(notices_s))[:NOTICES_MAX]]:
        parts += [within(end, ahead_s) for end in ends]
    every = union(*parts).subquery()
    query = select(every.c.key).order_by(every.c.key)
    found = array("q")
    for (key,) in connection.execute(query, execution_options={"yield_per": FETCH}):
        if key > place:  # not said to the database, which might take another index for it
            found.append(key)
    return found


def policies(connection: Connection) -> list[str]:
    """Return the different policies that the store, its clients and its keys have, as they are stored.

    One step into an index for each, however many keys share it.
    """
    found: set[str] = set()
    own = connection.scalar(select(schema.registry.c.policy))
    if own is not None:
        found.add(own)
    for column in (schema.clients.c.policy, schema.keys.c.policy):
        last = ""
        while len(found) < POLICIES_MAX:
            text = connection.scalar(select(func.min(column)).where(column > last))
            if text is None:
                break
            found.add(text)
            last = text
    return sorted(found)


def due(connection: Connection, now_s: int, limit: int) -> Sequence[int]:
    """Return keys that the schedule is to rotate, the one that waits longest first."""
    k = schema.keys.c
    return connection.scalars(
        select(k.ordinal).where(k.due_at <= now_s).order_by(k.due_at, k.ordinal).limit(limit)
    ).all()


def with_open_windows(connection: Connection, now_s: int) -> "array[int]":
    """Return the keys with a superseded version that is not over yet, ascending."""
    v = schema.versions.c
    ahead = or_(v.expires_at.is_(None), v.expires_at > now_s)
    # With "+ 0" no index is of use for it: that one holds all that was ever superseded.
    open_for_now = and_(v.superseded_at + 0 <= now_s, v.revoked_at.is_(None), ahead)
    query = union(
        select(v.key_ordinal.label("key")).where(v.retire_at > now_s, open_for_now),
        select(v.key_ordinal.label("key")).where(v.superseded_by > text("0"), v.retire_at.is_(None), open_for_now),
    ).subquery()
    found = array("q")
    for row in connection.execute(select(query.c.key).order_by(query.c.key), execution_options={"yield_per": FETCH}):
        found.append(row[0])
    return found
