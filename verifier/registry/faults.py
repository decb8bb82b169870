"""The databases' own errors become ours, with nothing of a statement, its parameters or a row in them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from verifier.errors import Conflict, Unavailable, VerifierError

# SQLSTATE of PostgreSQL.
BUSY = {
    "55P03",  # a lock was not free in time
    "40P01",  # deadlock
    "40001",  # not serialisable
}
# Classes of SQLSTATE whose messages name tables, users and hosts at most; others quote values.
TELLING = {"08", "23", "25", "28", "3D", "42", "53", "55", "57", "58", "XX"}


@contextmanager
def faults() -> Iterator[None]:
    """Turn errors of the database into VerifierErrors.

    Raises:
        Conflict: another writer held the registry for too long (``REGISTRY_BUSY``).
        Unavailable: the database cannot be used (``REGISTRY_UNAVAILABLE``).
    """
    try:
        yield
    except DBAPIError as error:
        raise _ours(error.orig, isinstance(error, OperationalError)) from None
    except PoolTimeout:
        raise _unavailable("all connections are in use") from None
    except sqlite3.Error as error:  # from the raw cursors of the bulk paths
        raise _ours(error, isinstance(error, sqlite3.OperationalError)) from None
    except Exception as error:
        if _is_psycopg(error):
            raise _ours(error, True) from None
        raise


def _ours(error: BaseException | None, operational: bool) -> VerifierError:
    if error is not None and _is_psycopg(error):
        return _of_postgres(error)
    text = str(error)
    if operational and ("locked" in text or "busy" in text):
        return _busy()
    return _unavailable(text)


def _of_postgres(error: BaseException) -> VerifierError:
    state = getattr(error, "sqlstate", None)
    if state in BUSY:
        return _busy()
    if state is None:  # of the driver: no connection, or a lost one
        return _unavailable(" ".join(str(error).split()))
    if state[:2] not in TELLING:
        return _unavailable(f"{type(error).__name__} ({state})")
    primary = error.diag.message_primary  # type: ignore[attr-defined]  # of psycopg.Error
    hint = "see docs/operating.md for what the role must be granted" if state == "42501" else None
    return _unavailable(primary or type(error).__name__, hint)


def _busy() -> Conflict:
    return Conflict(
        "another command is writing to the registry", hint="try again when it is done", code="REGISTRY_BUSY"
    )


def _unavailable(problem: str, hint: str | None = None) -> Unavailable:
    return Unavailable(f"the registry cannot be used: {problem}", hint=hint, code="REGISTRY_UNAVAILABLE")


def _is_psycopg(error: BaseException) -> bool:
    """Tell whether an error is the driver's, which is installed only where it is used."""
    return any(kind.__module__ == "psycopg" and kind.__name__ == "Error" for kind in type(error).__mro__)
