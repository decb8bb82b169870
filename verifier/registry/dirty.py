"""Which versions differ from the base that is published: those rewritten since it was built, and those that are newer.

A version is marked with the number that the registry's ``changes`` reaches at the earliest once the change is
committed. So whoever read the registry when it stood at n has seen all marks up to n, and none above.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from verifier.registry import schema
from verifier.registry.engines import is_postgres

Row = tuple[bytes, bytes]
PAGE = 5_000

_MARK = (
    "INSERT INTO dirty (version_ordinal, change) VALUES (?, ?) "
    "ON CONFLICT (version_ordinal) DO UPDATE SET change = excluded.change"
)


def mark(connection: Connection, ordinals: Iterable[int]) -> None:
    """Note that the records of these versions are being rewritten, inside ``Registry.write()``."""
    # One more than now: whether the change is counted before or after its records are written, it reaches this.
    change = int(connection.execute(select(schema.registry.c.changes)).scalar_one()) + 1
    rows = [(ordinal, change) for ordinal in ordinals]
    cursor: Any = connection.connection.cursor()  # SQLAlchemy would take longer over each row than the database
    try:
        cursor.executemany(_MARK.replace("?", "%s") if is_postgres(connection) else _MARK, rows)
    finally:
        cursor.close()


def rows_since_base(connection: Connection, next_version: int) -> Iterator[list[Row]]:
    """Yield lists of (tag, record) of all versions that may differ from the base.

    Args:
        next_version: the first ordinal that was not given yet when the base was built.
    """
    v, d = schema.versions.c, schema.dirty.c
    yield from _pages(connection, _versions(select(d.version_ordinal).where(d.version_ordinal < next_version)))
    yield from _pages(connection, select(v.tag, v.record).where(v.ordinal >= next_version))


def rows_since(connection: Connection, change: int, next_version: int) -> Iterator[list[Row]]:
    """Yield lists of (tag, record) of all versions that were rewritten or made since a publication.

    Args:
        change: what ``changes`` was when the publication was read from the registry.
        next_version: the first ordinal that was not given yet then.
    """
    v, d = schema.versions.c, schema.dirty.c
    rewritten = select(d.version_ordinal).where(d.change > change, d.version_ordinal < next_version)
    yield from _pages(connection, _versions(rewritten))
    yield from _pages(connection, select(v.tag, v.record).where(v.ordinal >= next_version))


def count_rewritten(connection: Connection, next_version: int, at_most: int) -> int:
    """Count the versions of the base that were rewritten since, no further than ``at_most``."""
    d = schema.dirty.c
    some = select(d.version_ordinal).where(d.version_ordinal < next_version).limit(at_most).subquery()
    return int(connection.scalar(select(func.count()).select_from(some)) or 0)


def forget(connection: Connection, change: int) -> None:
    """Take the marks away that a new base has made good.

    Args:
        change: what ``changes`` was when its records were read.
    """
    connection.execute(delete(schema.dirty).where(schema.dirty.c.change <= change))


def _versions(ordinals: Select[Any]) -> Select[Any]:
    """Return the query for some versions. Not a join, for which SQLite would go through all versions."""
    v = schema.versions.c
    return select(v.tag, v.record).where(v.ordinal.in_(ordinals))


def _pages(connection: Connection, query: Select[Any]) -> Iterator[list[Row]]:
    result = connection.execute(query, execution_options={"yield_per": PAGE})
    for page in result.partitions(PAGE):
        yield [(row[0], row[1]) for row in page]
