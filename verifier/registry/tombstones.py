"""The table ``tombstones``: every version that was ever compromised. Entries are added, and nothing takes one away."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, insert, literal, or_, select, union

from verifier.registry import schema
from verifier.store.tombstones import Tombstone
from verifier.vocabulary import RevocationReason

_AT_ONCE = 500
_PAGE = 10_000

_t = schema.tombstones.c
_v = schema.versions.c
_COMPROMISED = int(RevocationReason.KEY_COMPROMISE)


def add(connection: Connection, entries: Iterable[Tombstone]) -> int:
    """Add tombstones, inside ``Registry.write()``; one that is there stays as it is. Return how many were new."""
    added = 0
    for part in _parts(entries):
        there = known(connection, [entry.tag for entry in part])
        new = {entry.tag: entry for entry in part if entry.tag not in there}
        added += len(new)
        if new:
            connection.execute(insert(schema.tombstones), [_row(entry) for entry in new.values()])
    return added


def bury(connection: Connection, ordinals: Iterable[int], now_s: int) -> None:
    """Add tombstones of versions by their ordinals, inside ``Registry.write()``; one that is there stays as it is."""
    names = ["tag", "key_id", "number", "revoked_at"]
    keys = schema.keys.c
    fresh = ~exists().where(_t.tag == _v.tag)
    rows = select(_v.tag, keys.key_id, _v.number, literal(now_s)).join(schema.keys, keys.ordinal == _v.key_ordinal)
    for part in _parts(ordinals):
        chosen = rows.where(_v.ordinal.in_(part), fresh).order_by(_v.tag)
        connection.execute(insert(schema.tombstones).from_select(names, chosen))


def known(connection: Connection, wanted: Iterable[bytes]) -> set[bytes]:
    """Return those of the tags that have a tombstone: such a token must not be issued or imported again."""
    found: set[bytes] = set()
    for part in _parts(wanted):
        found.update(bytes(tag) for tag in connection.scalars(select(_t.tag).where(_t.tag.in_(part))))
    return found


def count(connection: Connection) -> int:
    """Return how many there are."""
    return int(connection.scalar(select(func.count()).select_from(schema.tombstones)) or 0)


def ascending(connection: Connection) -> Iterator[Tombstone]:
    """Yield all of them in the order of their tags, a page at a time."""
    after = b""
    while True:
        query = select(_t.tag, _t.key_id, _t.number, _t.revoked_at).where(_t.tag > after).order_by(_t.tag)
        page = connection.execute(query.limit(_PAGE)).all()
        yield from (Tombstone(bytes(tag), *rest) for tag, *rest in page)
        if len(page) < _PAGE:
            return
        after = page[-1].tag


def tags(connection: Connection) -> Iterator[bytes]:
    """Yield the tags of all of them, ascending."""
    query = select(_t.tag).order_by(_t.tag).execution_options(yield_per=_PAGE)
    yield from (bytes(tag) for tag in connection.scalars(query))


def since_base(connection: Connection) -> list[Tombstone]:
    """Return those of versions whose record is in a delta on the present base, in the order of their tags.

    A version that became compromised since the base is among them: its record was rewritten then.
    """
    few = _few(connection)
    if few is not None:
        there = _in_delta(connection, few) if few else set()
        return [entry for entry in ascending(connection) if entry.tag in there] if there else []
    query = select(_t.tag, _t.key_id, _t.number, _t.revoked_at).join(
        schema.versions, and_(_v.tag == _t.tag, _v.ordinal.in_(in_delta(connection)))
    )
    return [Tombstone(bytes(tag), *rest) for tag, *rest in connection.execute(query.order_by(_t.tag))]


def in_delta(connection: Connection) -> Any:
    """Return a query for the ordinals of the versions that a delta on the present base would hold."""
    first_new = connection.scalar(select(schema.registry.c.base_next_version))
    rewritten: Select[Any] = select(schema.dirty.c.version_ordinal)
    return rewritten if first_new is None else union(rewritten, select(_v.ordinal).where(_v.ordinal >= first_new))


def resurrected(connection: Connection, *, delta_only: bool = False) -> list[int]:
    """Return the ordinals of versions that have a tombstone, and are not revoked as compromised all the same.

    Only a registry that was meddled with has any. All of them are found by a search per tombstone, those that a delta
    on the present base would publish by a search per record of the delta; or all of them, while tombstones are few.
    """
    alive: ColumnElement[bool] = or_(_v.revoked_at.is_(None), _v.reason.is_(None), _v.reason != _COMPROMISED)
    query = select(_v.ordinal).where(alive)
    few = _few(connection) if delta_only else None
    if few is not None:
        return sorted(connection.scalars(query.where(_v.tag.in_(few)))) if few else []
    if delta_only:
        buried = exists().where(_t.tag == _v.tag)
        return sorted(connection.scalars(query.where(_v.ordinal.in_(in_delta(connection)), buried)))
    found: list[int] = []
    for part in _parts(tags(connection)):
        found += connection.scalars(query.where(_v.tag.in_(part)))
    return sorted(found)


def keys_of(connection: Connection, ordinals: Iterable[int]) -> dict[str, set[int]]:
    """Return the ids of the keys that versions belong to, each with those of the ordinals that are its own."""
    found: dict[str, set[int]] = {}
    query = select(schema.keys.c.key_id, _v.ordinal).join(schema.versions, _v.key_ordinal == schema.keys.c.ordinal)
    for part in _parts(ordinals):
        for key_id, ordinal in connection.execute(query.where(_v.ordinal.in_(part))):
            found.setdefault(key_id, set()).add(ordinal)
    return found


def _few(connection: Connection) -> list[bytes] | None:
    """Return the tags of all tombstones if one statement can name them: then a delta's size is of no weight."""
    found = connection.scalars(select(_t.tag).limit(_AT_ONCE + 1)).all()
    return [bytes(tag) for tag in found] if len(found) <= _AT_ONCE else None


def _in_delta(connection: Connection, wanted: list[bytes]) -> set[bytes]:
    """Return those of a few tags whose versions a delta on the present base would hold."""
    first_new = connection.scalar(select(schema.registry.c.base_next_version))
    held: ColumnElement[bool] = exists().where(schema.dirty.c.version_ordinal == _v.ordinal)
    if first_new is not None:
        held = or_(held, _v.ordinal >= first_new)
    return {bytes(tag) for tag in connection.scalars(select(_v.tag).where(_v.tag.in_(wanted), held))}


def _row(entry: Tombstone) -> dict[str, Any]:
    return {"tag": entry.tag, "key_id": entry.key_id, "number": entry.number, "revoked_at": entry.revoked_at}


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == _AT_ONCE:
            yield part
            part = []
    if part:
        yield part
