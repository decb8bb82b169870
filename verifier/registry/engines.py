"""Connections to the two databases a registry can live in, SQLite and PostgreSQL, and how each begins a transaction."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from verifier.errors import InvalidInput, Unavailable

BUSY_TIMEOUT_S = 30
CACHE_KIB = 65_536
CONNECT_TIMEOUT_S = 10
APPLICATION_NAME = "verifier"

# A peer whose machine vanished is noticed within half a minute by both ends: by the server, or its locks would stay;
# by us, or a command would hang.
SERVER_SETTINGS = {
    "lock_timeout": f"{BUSY_TIMEOUT_S}s", "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}  # fmt: skip
CLIENT_SETTINGS = {
    "connect_timeout": CONNECT_TIMEOUT_S, "keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5,
    "keepalives_count": 3, "tcp_user_timeout": 20_000, "application_name": APPLICATION_NAME,
}  # fmt: skip


def engine_of(address: str) -> Engine:
    """Return an engine for a registry's address.

    Args:
        address: as for :func:`url_of`.

    Raises:
        InvalidInput: it is no such address (``BAD_REGISTRY_URL``).
        Unavailable: the driver of PostgreSQL is not installed.
    """
    url = url_of(address)
    # Parameters stay out of error texts: they hold tags and metadata.
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        # A connection that died in the pool is replaced, not handed out.
        return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=_connect_args(url))
    except ImportError:
        raise Unavailable(
            "the driver of PostgreSQL is not installed", hint="pip install 'verifier[postgres]'", code="NO_DRIVER"
        ) from None


def url_of(address: str) -> URL:
    """Parse a registry's address; say nothing of it if that fails, for it may hold a password.

    Args:
        address: ``sqlite:///FILE``, ``postgresql://...`` or ``postgres://...``, as libpq understands it.

    Raises:
        InvalidInput: it is no such address (``BAD_REGISTRY_URL``).
    """
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise _bad_url("it is not a URL") from None
    if backend == "sqlite":
        return url
    if backend not in ("postgresql", "postgres"):
        raise _bad_url("its scheme is neither postgresql nor sqlite")
    if "@" in (url.host or ""):  # the end of a password: it would be shown as an unknown host
        raise _bad_url("an @ in a password is written %40")
    return url.set(drivername="postgresql+psycopg")


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite registry; None for another database."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def is_postgres(connection: Connection) -> bool:
    """Tell whether a connection goes to PostgreSQL."""
    return connection.dialect.name == "postgresql"


def _bad_url(problem: str) -> InvalidInput:
    return InvalidInput(
        f"the registry's address cannot be used: {problem}",
        hint="postgresql://USER:PASSWORD@HOST:5432/DATABASE, with special characters written as %XX",
        code="BAD_REGISTRY_URL",
    )


def _connect_args(url: URL) -> dict[str, Any]:
    """Return our settings; what the address itself says of one of them wins."""
    given = url.query.get("options", ())
    options = [f"-c {name}={value}" for name, value in SERVER_SETTINGS.items()]
    options += [given] if isinstance(given, str) else given
    own = {name: value for name, value in CLIENT_SETTINGS.items() if name not in url.query}
    return {**own, "options": " ".join(options)}


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
