"""Many rows at once: the driver's own ``executemany``, and indexes made anew where that is cheaper.

The ids and tags of keys are random, so each new row goes to a random page of their indexes. For inserts that are large
beside what is there, it is two to three times faster to drop the indexes and to sort once at the end; both happen
inside the caller's transaction, so other readers never see a registry without them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.exc import IntegrityError

from verifier.errors import Conflict
from verifier.registry import schema

REBUILD_ROWS_MIN = 20_000
REBUILD_SHARE = 4  # making the indexes anew costs 2 us a row of all, inserting into large ones 10 us and more a new row

KEY_COLUMNS = ("ordinal", "key_id", "client_ordinal", "enabled", "created_at", "expires_at", "scopes", "rules",
               "metadata", "prefix")  # fmt: skip
VERSION_COLUMNS = ("ordinal", "tag", "record", "key_ordinal", "number", "issued_at", "not_before", "expires_at",
                   "entropy_bits")  # fmt: skip


def insert_keys(connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows of ``keys``, with the columns :data:`KEY_COLUMNS`.

    Raises:
        Conflict: a key id is taken (``DUPLICATE``).
    """
    _insert(connection, schema.keys, KEY_COLUMNS, rows)


def insert_versions(connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Add rows of ``versions``, with the columns :data:`VERSION_COLUMNS`.

    Raises:
        Conflict: a tag is in the registry already (``DUPLICATE``).
    """
    _insert(connection, schema.versions, VERSION_COLUMNS, rows)


@contextmanager
def expecting(connection: Connection, rows: int) -> Iterator[None]:
    """Prepare for inserting so many rows of keys and versions each, and finish after it.

    Raises:
        Conflict: a key id or tag turned out to be there twice (``DUPLICATE``).
    """
    present = connection.scalar(select(func.max(schema.versions.c.ordinal))) or 0
    if rows < REBUILD_ROWS_MIN or rows * REBUILD_SHARE < present:
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


def _insert(connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    marks = ", ".join([mark] * len(columns))
    statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - names of ours only
    driver_errors = connection.dialect.loaded_dbapi
    cursor: Any = connection.connection.cursor()  # SQLAlchemy's type wants a list, drivers take any iterable
    try:
        cursor.executemany(statement, rows)
    except driver_errors.IntegrityError:
        raise _duplicate() from None
    finally:
        cursor.close()


def _duplicate() -> Conflict:
    return Conflict(
        "a key id or token is in the registry already", hint="nothing was changed; try again", code="DUPLICATE"
    )
