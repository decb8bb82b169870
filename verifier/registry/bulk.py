"""Many rows at once: the driver's own way, and indexes made anew where that is cheaper.

The ids and tags of keys are random, so each new row goes to a random page of their indexes. For inserts that are large
beside what is there, it is two to three times faster to drop the indexes and to sort once at the end; both happen
inside the caller's transaction, so other readers never see a registry without them. PostgreSQL would keep readers out
meanwhile, so there it is done only for the first keys, which nobody reads yet.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    func,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError

from verifier.errors import Conflict
from verifier.registry import schema
from verifier.registry.engines import is_postgres

REBUILD_ROWS_MIN = 20_000
REBUILD_SHARE = 4  # making the indexes anew costs 2 us a row of all, inserting into large ones 10 us and more a new row

Shared = Mapping[str, int | None]
NOTHING: Shared = {}

KEY_COLUMNS = ("ordinal", "key_id", "client_ordinal", "enabled", "created_at", "expires_at", "scopes", "rules",
               "metadata", "prefix", "policy", "due_at")  # fmt: skip
VERSION_COLUMNS = ("ordinal", "tag", "record", "key_ordinal", "number", "issued_at", "not_before", "expires_at",
                   "entropy_bits")  # fmt: skip


def insert_keys(connection: Connection, rows: Iterable[Sequence[Any]], shared: Shared = NOTHING) -> None:
    """Add rows of ``keys``.

    Args:
        rows: the columns of :data:`KEY_COLUMNS` that are not shared, in that order.
        shared: numbers that are the same in all rows; each one saves a tenth of a microsecond a row.

    Raises:
        Conflict: a key id is taken (``DUPLICATE``).
    """
    _insert(connection, schema.keys, KEY_COLUMNS, rows, shared)


def insert_versions(connection: Connection, rows: Iterable[Sequence[Any]], shared: Shared = NOTHING) -> None:
    """Add rows of ``versions``; arguments as for :func:`insert_keys`, with :data:`VERSION_COLUMNS`.

    Raises:
        Conflict: a tag is in the registry already (``DUPLICATE``).
    """
    _insert(connection, schema.versions, VERSION_COLUMNS, rows, shared)


def rewrite_versions(
    connection: Connection, records: Iterable[tuple[bytes, int]], shared: Shared = NOTHING
) -> None:
    """Replace the records of very many versions, and columns that get the same number in all of them.

    Args:
        records: with the ordinals of their versions.
        shared: numbers by column.
    """
    values = "".join(f", {name} = {_literal(schema.versions.c[name], value)}" for name, value in shared.items())
    mark = "%s" if is_postgres(connection) else "?"
    cursor: Any = connection.connection.cursor()
    try:
        cursor.executemany(f"UPDATE versions SET record = {mark}{values} WHERE ordinal = {mark}", records)  # noqa: S608
    finally:
        cursor.close()


@contextmanager
def expecting(connection: Connection, rows: int) -> Iterator[None]:
    """Prepare for inserting so many rows of keys and versions each, and finish after it.

    Raises:
        Conflict: a key id or tag turned out to be there twice (``DUPLICATE``).
    """
    if not _rebuilds(connection, rows):
        yield
        return
    indexes = sorted((*schema.keys.indexes, *schema.versions.indexes), key=lambda index: str(index.name))
    for index in indexes:
        index.drop(connection)
    yield
    try:
        for index in indexes:
            index.create(connection)
    except IntegrityError:
        raise _duplicate() from None


def _rebuilds(connection: Connection, rows: int) -> bool:
    """Tell whether indexes are made anew for so many rows."""
    present = connection.scalar(select(func.max(schema.versions.c.ordinal))) or 0
    if rows < REBUILD_ROWS_MIN:
        return False
    if is_postgres(connection):
        return present == 0 and _owns(connection)
    return rows * REBUILD_SHARE >= present


def _owns(connection: Connection) -> bool:
    """Tell whether this role may drop indexes: who uses a registry need not be who made it."""
    owner = text("SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = CAST(:table AS regclass)")
    return bool(connection.scalar(owner, {"table": schema.versions.name}))


def _insert(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]], shared: Shared
) -> None:
    own = [column for column in columns if column not in shared]
    insert = _copy if is_postgres(connection) else _execute_many
    driver_errors = connection.dialect.loaded_dbapi
    cursor: Any = connection.connection.cursor()  # SQLAlchemy's type wants a list, drivers take any iterable
    try:
        insert(cursor, table, own, rows, shared)
    except driver_errors.IntegrityError:
        raise _duplicate() from None
    finally:
        cursor.close()


def _execute_many(
    cursor: Any, table: Table, own: Sequence[str], rows: Iterable[Sequence[Any]], shared: Shared
) -> None:
    names = ", ".join((*own, *shared))
    values = ", ".join((*("?" for _ in own), *(_literal(table.c[name], value) for name, value in shared.items())))
    cursor.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({values})", rows)  # noqa: S608 - names and numbers


def _copy(cursor: Any, table: Table, own: Sequence[str], rows: Iterable[Sequence[Any]], shared: Shared) -> None:
    """Insert with PostgreSQL's COPY, in its binary form."""
    # What is empty in all rows is left out: no column of these tables has another default.
    constant = {name: value for name, value in shared.items() if value is not None}
    names = (*own, *constant)
    rest = tuple(bool(value) if _type(table.c[name]) == "bool" else value for name, value in constant.items())
    with cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types([_type(table.c[name]) for name in names])
        write = copy.write_row
        for row in rows:
            write((*row, *rest))


def _type(column: Column[Any]) -> str:
    """Return PostgreSQL's name of a column's type."""
    types = {BigInteger: "int8", Integer: "int4", SmallInteger: "int2", Boolean: "bool", LargeBinary: "bytea"}
    return types.get(type(column.type), "text")


def _literal(column: Column[Any], value: int | None) -> str:
    """Write a number as SQL does on every database."""
    if value is None:
        return "NULL"
    if isinstance(column.type, Boolean):
        return "TRUE" if value else "FALSE"
    return str(int(value))


def _duplicate() -> Conflict:
    return Conflict(
        "a key id or token is in the registry already", hint="nothing was changed; try again", code="DUPLICATE"
    )
