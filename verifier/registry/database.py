"""Opens and founds a registry, and hands out its transactions."""

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from verifier.errors import Conflict, NotFound, Unavailable
from verifier.registry import schema
from verifier.store.home import Home

BUSY_TIMEOUT_S = 30
CACHE_KIB = 65_536


class Registry:
    """An open registry. Every use of it is one transaction: :meth:`read` or :meth:`write`.

    Args:
        engine: of :func:`open_registry`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a transaction that sees one state of the registry throughout, and never waits for a writer.

        Raises:
            Unavailable: the database cannot be used.
        """
        with _faults(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begin a transaction that excludes all other writers until it ends, so that what is read stays true.

        Commits at the end of the block; an exception rolls everything back.

        Raises:
            Conflict: another writer held the registry for too long (``REGISTRY_BUSY``).
            Unavailable: the database cannot be used.
        """
        with _faults(), self.engine.connect().execution_options(writes=True) as connection, connection.begin():
            # SQLite has its lock already (BEGIN IMMEDIATE); elsewhere this row is the lock.
            connection.execute(select(schema.registry.c.row).with_for_update())
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_registry(place: Home | str) -> Registry:
    """Open the registry of a ``--store`` folder, or at a database URL.

    Raises:
        NotFound: there is none (``NOT_INITIALISED``).
        Unavailable: it was made by a newer verifier, or cannot be read.
    """
    url = place.registry_url if isinstance(place, Home) else place
    file = _sqlite_file(url)
    if file is not None and not file.is_file():
        raise _not_initialised(place)
    engine = _engine(url)
    with _faults():
        if not inspect(engine).has_table(schema.registry.name):
            raise _not_initialised(place)
        with engine.connect() as connection:
            found = connection.scalar(select(schema.registry.c.schema))
    if found is None:
        raise _not_initialised(place)
    if found > schema.SCHEMA:
        raise Unavailable(
            f"the registry has format {found}, this verifier knows up to {schema.SCHEMA}",
            hint="use the verifier that made it, or a newer one",
            code="REGISTRY_TOO_NEW",
        )
    return Registry(engine)


def create_registry(place: Home | str, *, peppers: Sequence[str], now_s: int) -> str:
    """Found a registry, or leave the one that is there as it is; return its store id.

    Args:
        place: the ``--store`` folder, or a database URL.
        peppers: ids of the peppers, in the order of their layers.
        now_s: seconds since 1970.
    """
    url = place.registry_url if isinstance(place, Home) else place
    file = _sqlite_file(url)
    if file is not None:
        file.touch(mode=0o600)
    engine = _engine(url)
    try:
        with _faults(), engine.connect().execution_options(writes=True) as connection, connection.begin():
            schema.metadata.create_all(connection)
            store_id = connection.scalar(select(schema.registry.c.store_id))
            if store_id is None:
                store_id = "st_" + secrets.token_hex(10)
                connection.execute(insert(schema.registry).values(_first_row(store_id, peppers, now_s)))
    finally:
        engine.dispose()
    return str(store_id)


def _first_row(store_id: str, peppers: Sequence[str], now_s: int) -> dict[str, Any]:
    return {
        "row": 1, "schema": schema.SCHEMA, "store_id": store_id, "created_at": now_s, "last_revision": 0, "hold": None,
        "peppers": " ".join(peppers), "accepts_foreign": False, "changes": 0, "published_changes": 0,
        "next_client": 1, "next_key": 1, "next_version": 1,  # 0 is never given
    }  # fmt: skip


def _engine(url: str) -> Engine:
    # Parameters stay out of error texts: they hold tags and metadata.
    engine = create_engine(url, hide_parameters=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not guessed by the driver
    for setting in (
        f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
        "journal_mode = WAL",
        "synchronous = FULL",  # what was said to be revoked stays revoked after a power cut
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
        "temp_store = FILE",
        "journal_size_limit = 67108864",  # after a large insert the log shrinks again
    ):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _sqlite_file(url: str) -> Path | None:
    parts = make_url(url)
    return Path(parts.database) if parts.get_backend_name() == "sqlite" and parts.database else None


def _not_initialised(place: Home | str) -> NotFound:
    if not isinstance(place, Home):
        return NotFound("there is no registry at this address", code="NOT_INITIALISED")
    return NotFound(
        f"there is no registry in {place.folder}", hint=f"create it: verifier --store {place.folder} init",
        code="NOT_INITIALISED",
    )  # fmt: skip


@contextmanager
def _faults() -> Iterator[None]:
    """Turn the database's own errors into ours, with nothing of the statement in them."""
    try:
        yield
    except OperationalError as error:
        if "locked" in str(error.orig) or "busy" in str(error.orig):
            raise Conflict(
                "another command is writing to the registry", hint="try again when it is done", code="REGISTRY_BUSY"
            ) from None
        raise Unavailable(f"the registry cannot be used: {error.orig}", code="REGISTRY_UNAVAILABLE") from None
    except sqlite3.OperationalError as error:  # from the raw cursors of the bulk paths
        raise Unavailable(f"the registry cannot be used: {error}", code="REGISTRY_UNAVAILABLE") from None
    except DBAPIError as error:
        if type(error.orig) is sqlite3.DatabaseError:  # not a database, or damaged
            raise Unavailable(f"the registry cannot be used: {error.orig}", code="REGISTRY_UNAVAILABLE") from None
        raise
