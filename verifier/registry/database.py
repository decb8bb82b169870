"""Opens and founds a registry, and hands out its transactions."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, func, insert, inspect, select

from verifier.errors import Conflict, NotFound, Unavailable
from verifier.registry import schema
from verifier.registry.engines import engine_of, is_postgres, sqlite_file
from verifier.registry.faults import faults
from verifier.store.home import Home

FOUNDING_LOCK = 0x7665_7266_0001  # "verf": one founder at a time, where there is no row to lock yet


class Registry:
    """An open registry. Every use of it is one transaction: :meth:`read` or :meth:`write`.

    Args:
        engine: of :func:`verifier.registry.engines.engine_of`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reading = engine
        if engine.dialect.name == "postgresql":  # one state throughout, as SQLite has it by nature
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writing = engine.execution_options(writes=True)

    @property
    def url(self) -> URL:
        """Its address; what it shows of itself has no password in it."""
        return self.engine.url

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a transaction that sees one state of the registry throughout, and never waits for a writer.

        Raises:
            Unavailable: the database cannot be used.
        """
        with faults(), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begin a transaction that excludes all other writers until it ends, so that what is read stays true.

        Commits at the end of the block; an exception rolls everything back.

        Raises:
            Conflict: another writer held the registry for too long (``REGISTRY_BUSY``).
            Unavailable: the database cannot be used.
        """
        with faults(), self._writing.connect() as connection, connection.begin():
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
        InvalidInput: the URL cannot be used (``BAD_REGISTRY_URL``).
        Conflict: it was made by an older verifier and is not upgraded yet (``REGISTRY_TOO_OLD``).
        Unavailable: it was made by a newer verifier (``REGISTRY_TOO_NEW``), or cannot be read.
    """
    registry, found = open_any(place)
    if found != schema.SCHEMA:
        registry.close()
        raise _other_format(found)
    return registry


def open_any(place: Home | str) -> tuple[Registry, int]:
    """Open a registry of any format, to upgrade it; return it with its format.

    Raises:
        NotFound: there is none (``NOT_INITIALISED``).
        Unavailable: it cannot be read.
    """
    engine = engine_of(_address(place))
    file = sqlite_file(engine.url)
    if file is not None and not file.is_file():  # connecting would make one
        raise _not_initialised(place)
    try:
        with faults(), engine.connect() as connection:
            found = None
            if inspect(connection).has_table(schema.registry.name):
                found = connection.scalar(select(schema.registry.c.schema))
        if found is None:
            raise _not_initialised(place)
    except BaseException:
        engine.dispose()
        raise
    return Registry(engine), int(found)


def create_registry(place: Home | str, *, peppers: Sequence[str], now_s: int) -> str:
    """Found a registry, or leave the one that is there as it is; return its store id.

    Args:
        place: the ``--store`` folder, or a database URL.
        peppers: ids of the peppers, in the order of their layers.
        now_s: seconds since 1970.

    Raises:
        InvalidInput: the URL cannot be used (``BAD_REGISTRY_URL``).
        Unavailable: the database cannot be used.
    """
    engine = engine_of(_address(place))
    file = sqlite_file(engine.url)
    if file is not None:
        file.touch(mode=0o600)
    try:
        with faults(), engine.connect().execution_options(writes=True) as connection, connection.begin():
            if is_postgres(connection):
                connection.execute(select(func.pg_advisory_xact_lock(FOUNDING_LOCK)))
            _create_tables(connection)
            store_id = connection.scalar(select(schema.registry.c.store_id))
            if store_id is None:
                store_id = "st_" + secrets.token_hex(10)
                connection.execute(insert(schema.registry).values(_first_row(store_id, peppers, now_s)))
    finally:
        engine.dispose()
    return str(store_id)


def _create_tables(connection: Connection) -> None:
    from verifier.registry import migrating  # only who founds or upgrades pays for alembic

    if not inspect(connection).has_table(schema.registry.name):
        schema.metadata.create_all(connection)
        migrating.stamp(connection)


def _address(place: Home | str) -> str:
    return place.registry_url if isinstance(place, Home) else place


def _first_row(store_id: str, peppers: Sequence[str], now_s: int) -> dict[str, Any]:
    return {
        "row": 1, "schema": schema.SCHEMA, "store_id": store_id, "created_at": now_s, "last_revision": 0, "hold": None,
        "peppers": " ".join(peppers), "accepts_foreign": False, "changes": 0, "published_changes": 0,
        "next_client": 1, "next_key": 1, "next_version": 1,  # 0 is never given
    }  # fmt: skip


def _other_format(found: int) -> Conflict | Unavailable:
    if found < schema.SCHEMA:
        return Conflict(
            f"the registry has format {found}, this verifier works with {schema.SCHEMA}",
            hint="upgrade it, after a backup: verifier registry upgrade",
            code="REGISTRY_TOO_OLD",
        )
    return too_new(found)


def too_new(found: int) -> Unavailable:
    """Return the error that says that a registry was made by a newer verifier.

    Args:
        found: its format.
    """
    return Unavailable(
        f"the registry has format {found}, this verifier knows up to {schema.SCHEMA}",
        hint="use the verifier that made it, or a newer one",
        code="REGISTRY_TOO_NEW",
    )


def _not_initialised(place: Home | str) -> NotFound:
    if not isinstance(place, Home):
        return NotFound("there is no registry at this address", code="NOT_INITIALISED")
    where = "the database" if place.external else str(place.folder)
    other = "" if place.external else "; or name its database: --registry URL"
    return NotFound(
        f"there is no registry in {where}", hint=f"create it: verifier --store {place.folder} init{other}",
        code="NOT_INITIALISED",
    )  # fmt: skip
