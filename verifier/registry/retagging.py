"""Exchanging the tags of all versions, by the driver itself: SQLAlchemy's rows would double the time."""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection

Row = tuple[int, bytes, bytes]  # ordinal, tag, record


def pages(connection: Connection, size: int) -> Iterator[list[Row]]:
    """Yield lists of (ordinal, tag, record) of all versions, by ordinal; each may be changed once it was yielded."""
    mark = _mark(connection)
    query = f"SELECT ordinal, tag, record FROM versions WHERE ordinal > {mark} ORDER BY ordinal LIMIT {mark}"  # noqa: S608 - marks
    after = -1
    while rows := _execute(connection, query, (after, size)):
        yield [(ordinal, bytes(tag), bytes(record)) for ordinal, tag, record in rows]
        after = rows[-1][0]


def set_tags(connection: Connection, rows: Iterable[tuple[bytes, bytes, int]]) -> None:
    """Give versions other tags and records, inside ``Registry.write()``.

    Args:
        rows: tag, record and the version's ordinal.
    """
    mark = _mark(connection)
    statement = f"UPDATE versions SET tag = {mark}, record = {mark} WHERE ordinal = {mark}"  # noqa: S608 - marks
    cursor: Any = connection.connection.cursor()
    try:
        cursor.executemany(statement, rows)
    finally:
        cursor.close()


def _execute(connection: Connection, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())
    finally:
        cursor.close()


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"
