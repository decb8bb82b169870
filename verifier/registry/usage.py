"""Counts of use in the registry: what nodes report is added set by set, whatever the size of a report.

A report is first loaded into a temporary table, :data:`reported`; then each of the few statements that follow handles
all its versions at once. They read the same on SQLite and PostgreSQL.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Row,
    Select,
    Table,
    and_,
    case,
    delete,
    exists,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from verifier.registry import schema
from verifier.registry.engines import is_postgres

PAGE = 500
NETWORKS_MAX = 32  # kept of a version and day
LAST_USED_STEP_S = 3600  # a version that is not watched moves its last use no more often

# A report: one row for each version in it.
reported = Table(
    "reported",
    MetaData(),  # its own: it is no part of the registry
    # Not a key: with an index on it SQLite goes through all versions to look each up here.
    Column("version_ordinal", BigInteger, nullable=False),
    Column("valid", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("used_at", BigInteger),  # no call answered VALID was later; NULL: none was
    Column("first_at", BigInteger),  # the first of them, as far as that is known
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)

_v = schema.versions.c
_r = reported.c


def upserting(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT for this database that knows ``on_conflict_do_update``."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite.insert(table)


# --- A report --------------------------------------------------------------------------------------------------------


def load(connection: Connection, rows: Iterable[Sequence[int | None]]) -> int:
    """Make ``rows`` the report that the following functions are about; return how many versions there are none of.

    Args:
        connection: inside ``Registry.write()``.
        rows: the columns of :data:`reported`, each version once.
    """
    connection.execute(CreateTable(reported, if_not_exists=True))
    connection.execute(delete(reported))
    if is_postgres(connection):
        # Nothing is known of a temporary table; a plan that reads all of ``versions`` must not even be thought of.
        connection.execute(text("SET LOCAL enable_hashjoin = off"))
        connection.execute(text("SET LOCAL enable_mergejoin = off"))
    cursor: Any = connection.connection.cursor()
    try:
        if is_postgres(connection):
            with cursor.copy("COPY reported FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            cursor.executemany("INSERT INTO reported VALUES (?, ?, ?, ?, ?)", rows)
    finally:
        cursor.close()
    known = exists().where(_v.ordinal == _r.version_ordinal)
    return int(connection.execute(delete(reported).where(~known)).rowcount)


def count_days(connection: Connection, day: int, hour: int) -> None:
    """Add the report's counts to a day, in seconds of UTC / 86,400, and mark the hour of the day as used."""
    used = case((_r.valid > 0, 1 << hour), else_=0)
    there = schema.usage.c
    query = upserting(connection, schema.usage).from_select(
        ["version_ordinal", "day", "valid", "refused", "hours"],
        select(_r.version_ordinal, literal(day, BigInteger), _r.valid, _r.refused, used)
        .where(_r.valid + _r.refused > 0),
    )
    connection.execute(
        query.on_conflict_do_update(
            index_elements=[there.version_ordinal, there.day],
            set_={
                "valid": there.valid + query.excluded.valid,
                "refused": there.refused + query.excluded.refused,
                "hours": there.hours.op("|")(query.excluded.hours),
            },
        )
    )


def count_hours(connection: Connection, hour: int, windows_since_s: int) -> None:
    """Add the report's counts to an hour, for those versions whose use is looked at closely.

    Args:
        connection: inside ``Registry.write()``.
        hour: in hours since 1970.
        windows_since_s: all versions of keys that have a superseded one which had not ended by then.
    """
    other = schema.versions.alias("other")
    watched = exists().where(
        other.c.key_ordinal == _v.key_ordinal,
        other.c.superseded_at.is_not(None),
        *(or_(end.is_(None), end > windows_since_s) for end in (other.c.retire_at, other.c.expires_at)),
        or_(other.c.revoked_at.is_(None), other.c.revoked_at > windows_since_s),
    )
    there = schema.usage_hours.c
    query = upserting(connection, schema.usage_hours).from_select(
        ["version_ordinal", "hour", "valid", "refused"],
        select(_r.version_ordinal, literal(hour, BigInteger), _r.valid, _r.refused)
        .join(schema.versions, _v.ordinal == _r.version_ordinal)
        .where(_r.valid + _r.refused > 0, watched),
    )
    connection.execute(
        query.on_conflict_do_update(
            index_elements=[there.version_ordinal, there.hour],
            set_={
                "valid": there.valid + query.excluded.valid,
                "refused": there.refused + query.excluded.refused,
            },
        )
    )


def _is_first() -> ColumnElement[bool]:
    """Tell whether a use is earlier than any known: nodes report in any order."""
    return and_(_r.first_at.is_not(None), or_(_v.first_used_at.is_(None), _v.first_used_at > _r.first_at))


def _is_successor() -> ColumnElement[bool]:
    """Tell whether a version took the place of another, whose overlap may wait for its first use."""
    before = schema.versions.alias("before")
    return exists().where(before.c.key_ordinal == _v.key_ordinal, before.c.superseded_by == _v.number)


def take_awaited(connection: Connection) -> Sequence[Row[Any]]:
    """Take first uses for which an overlap may be waiting out of the report; return them.

    Returns:
        (ordinal, key_id, number, first_at) of the versions.
    """
    query: Select[Any] = (
        select(_v.ordinal, schema.keys.c.key_id, _v.number, _r.first_at)
        .join(schema.versions, _v.ordinal == _r.version_ordinal)
        .join(schema.keys, schema.keys.c.ordinal == _v.key_ordinal)
        .where(_is_first(), _is_successor())
        .order_by(_r.version_ordinal)
    )
    found = connection.execute(query).all()
    for part in _parts(row.ordinal for row in found):
        connection.execute(update(reported).where(_r.version_ordinal.in_(part)).values(first_at=None))
    return found


def move_uses(connection: Connection) -> None:
    """Note the first and last use of the report's versions, after :func:`take_awaited`.

    The last use of versions that are watched moves to the second, of others once an hour.
    """
    floor = case((_v.not_before > _v.issued_at, _v.not_before), else_=_v.issued_at)
    first_at = case((_r.first_at > floor, _r.first_at), else_=floor)
    is_first = _is_first()
    closely = or_(_v.superseded_at.is_not(None), _v.first_used_at.is_(None))
    is_later = or_(
        _v.last_used_at.is_(None),
        _v.last_used_at <= _r.used_at - LAST_USED_STEP_S,
        and_(_v.last_used_at < _r.used_at, closely),
    )
    moves = and_(_r.used_at.is_not(None), is_later)
    # One statement for both: in PostgreSQL a row that is updated for the first time may have to move.
    connection.execute(
        update(schema.versions)
        .values(
            last_used_at=case((moves, _r.used_at), else_=_v.last_used_at),
            first_used_at=case((is_first, first_at), else_=_v.first_used_at),
        )
        .where(_v.ordinal == _r.version_ordinal, or_(moves, is_first))
    )


# --- From where ------------------------------------------------------------------------------------------------------


def count_networks(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add calls to the networks they came from, of which the busiest of a version and day are kept.

    Args:
        connection: inside ``Registry.write()``.
        rows: columns of ``usage_addresses``; an empty ``network`` is one that the node did not know.
    """
    if not rows:
        return
    there = schema.usage_addresses.c
    query = upserting(connection, schema.usage_addresses)
    newer = query.excluded.last_at >= there.last_at
    connection.execute(
        query.on_conflict_do_update(
            index_elements=[there.version_ordinal, there.day, there.network],
            set_={
                "calls": there.calls + query.excluded.calls,
                "node": case((newer, query.excluded.node), else_=there.node),
                "last_at": case((newer, query.excluded.last_at), else_=there.last_at),
            },
        ),
        list(rows),
    )
    for ordinal, day in sorted({(row["version_ordinal"], row["day"]) for row in rows}):
        here = and_(there.version_ordinal == ordinal, there.day == day)
        order = (there.calls.desc(), there.last_at.desc(), there.network)
        rest = connection.scalars(select(there.network).where(here).order_by(*order).offset(NETWORKS_MAX)).all()
        if rest:
            connection.execute(delete(schema.usage_addresses).where(here, there.network.in_(rest)))


def networks(connection: Connection, ordinal: int, since_day: int) -> Sequence[Row[Any]]:
    """Return (network, calls, node, last_at) of a version from a day on, one row for each day, network and node."""
    there = schema.usage_addresses.c
    query: Select[Any] = select(there.network, there.calls, there.node, there.last_at)
    return connection.execute(query.where(there.version_ordinal == ordinal, there.day >= since_day)).all()


# --- Reading ---------------------------------------------------------------------------------------------------------


def identities(connection: Connection, ordinals: Iterable[int]) -> dict[int, Row[Any]]:
    """Return client_id, key_id and number of versions, by ordinal; there may be none of an ordinal."""
    query: Select[Any] = (
        select(_v.ordinal, schema.clients.c.client_id, schema.keys.c.key_id, _v.number)
        .join(schema.keys, schema.keys.c.ordinal == _v.key_ordinal)
        .join(schema.clients)
    )
    return {
        row.ordinal: row for part in _parts(ordinals) for row in connection.execute(query.where(_v.ordinal.in_(part)))
    }


def last_uses(connection: Connection, ordinals: Iterable[int]) -> dict[int, int | None]:
    """Return when versions were used last, by ordinal, in seconds since 1970."""
    query = select(_v.ordinal, _v.last_used_at)
    return {
        ordinal: used_at
        for part in _parts(ordinals)
        for ordinal, used_at in connection.execute(query.where(_v.ordinal.in_(part)))
    }


def days(connection: Connection, ordinals: Iterable[int], since_day: int) -> dict[int, list[Row[Any]]]:
    """Return (day, valid, refused, hours) of versions from a day on, by ordinal; ascending."""
    there = schema.usage.c
    query = (
        select(there.version_ordinal, there.day, there.valid, there.refused, there.hours)
        .where(there.day >= since_day)
        .order_by(there.version_ordinal, there.day)
    )
    return _by_version(connection, query, there.version_ordinal, ordinals)


def hours(connection: Connection, ordinals: Iterable[int], since_hour: int) -> dict[int, list[Row[Any]]]:
    """Return (hour, valid, refused) of versions from an hour on, by ordinal, where hours are counted; ascending."""
    there = schema.usage_hours.c
    query = (
        select(there.version_ordinal, there.hour, there.valid, there.refused)
        .where(there.hour >= since_hour)
        .order_by(there.version_ordinal, there.hour)
    )
    return _by_version(connection, query, there.version_ordinal, ordinals)


def history(
    connection: Connection, since_day: int, limit: int, *, key_id: str | None = None, client_id: str | None = None
) -> Sequence[Row[Any]]:
    """Return (day, key_id, version, valid, refused, hours) of a key or of a client's keys, the newest day first."""
    there = schema.usage.c
    query: Select[Any] = (
        select(there.day, schema.keys.c.key_id, _v.number.label("version"), there.valid, there.refused, there.hours)
        .join(schema.versions, _v.ordinal == there.version_ordinal)
        .join(schema.keys, schema.keys.c.ordinal == _v.key_ordinal)
        .where(there.day >= since_day)
        .order_by(there.day.desc(), schema.keys.c.key_id, _v.number)
        .limit(limit)
    )
    if key_id is not None:
        query = query.where(schema.keys.c.key_id == key_id)
    if client_id is not None:
        query = query.join(schema.clients).where(schema.clients.c.client_id == client_id)
    return connection.execute(query).all()


def delete_old(connection: Connection, table: Table, column: str, before: int, limit: int) -> int:
    """Delete at most ``limit`` rows of a table whose ``column`` is less than ``before``; return how many."""
    names = tuple_(*table.primary_key.columns)
    old = select(*table.primary_key.columns).where(table.c[column] < before).limit(limit)
    return int(connection.execute(delete(table).where(names.in_(old))).rowcount)


def _by_version(
    connection: Connection, query: Select[Any], column: Any, ordinals: Iterable[int]
) -> dict[int, list[Row[Any]]]:
    found: dict[int, list[Row[Any]]] = {}
    for part in _parts(ordinals):
        for row in connection.execute(query.where(column.in_(part))):
            found.setdefault(row.version_ordinal, []).append(row)
    return found


def _parts(ordinals: Iterable[int]) -> Iterator[Sequence[int]]:
    whole = list(ordinals)
    return (whole[start : start + PAGE] for start in range(0, len(whole), PAGE))
