"""One leader at a time among the control planes on one registry.

PostgreSQL: an advisory lock of a session of its own. SQLite: a lock on a file beside the database. Both belong to the
process that holds them, so they are free as soon as it is dead, however it died.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from verifier.errors import Unavailable
from verifier.registry.database import Registry
from verifier.registry.engines import sqlite_file
from verifier.registry.faults import faults

LOCK = (0x7665_7266, 2)  # "verf"
SUFFIX = ".leader"


class _Hold(Protocol):
    """A lock that was taken."""

    def still_held(self) -> bool:
        """Tell whether it is."""

    def release(self) -> None:
        """Give it up."""


class Leadership:
    """The leader's lock, from :func:`leading`, held until it is released or its holder is gone.

        leadership = leading(registry)
        if leadership is not None:
            with leadership:
                while leadership.still_held(): ...

    Of one thread at a time.
    """

    def __init__(self, hold: _Hold) -> None:
        self._hold: _Hold | None = hold

    def still_held(self) -> bool:
        """Ask whether this is still the leader: before each piece of work, as the database may have been lost."""
        if self._hold is not None and not self._hold.still_held():
            self.release()
        return self._hold is not None

    def release(self) -> None:
        """Let another lead; a repeat does nothing."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.release()

    def __enter__(self) -> "Leadership":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def leading(registry: Registry) -> Leadership | None:
    """Become the leader on a registry, without waiting; None when another is.

    Raises:
        Unavailable: the database or the lock's file cannot be used.
    """
    file = sqlite_file(registry.url)
    hold = _SessionHold.take(registry) if file is None else _FileHold.take(file.with_name(file.name + SUFFIX))
    return None if hold is None else Leadership(hold)


class _SessionHold:
    """A session of PostgreSQL with an advisory lock. It is in no transaction, so it hinders nobody."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @classmethod
    def take(cls, registry: Registry) -> "_SessionHold | None":
        with faults():
            connection = registry.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            try:
                connection.detach()  # the pool must not hand the lock's session to others
                if connection.scalar(text("SELECT pg_try_advisory_lock(:kind, :which)"), _named(LOCK)):
                    return cls(connection)
            except BaseException:
                connection.close()
                raise
            connection.close()
        return None

    def still_held(self) -> bool:
        """Ask the database, so that a pooler that gave us another session is noticed, too."""
        query = text(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted "
            "AND classid = :kind AND objid = :which AND objsubid = 2)"
        )
        try:
            return bool(self._connection.scalar(query, _named(LOCK)))
        except SQLAlchemyError:
            return False

    def release(self) -> None:
        with suppress(SQLAlchemyError):
            self._connection.close()  # ends the session, and with it the lock


class _FileHold:
    """A locked file."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "_FileHold | None":
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Unavailable(f"cannot open {path}: {error.strerror}", code="NOT_WRITABLE") from None
        hold = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hold.release()
            return None
        except OSError as error:
            hold.release()
            raise Unavailable(f"cannot lock {path}: {error.strerror}", code="NOT_WRITABLE") from None
        if not hold.still_held():
            hold.release()
            return None
        return hold

    def still_held(self) -> bool:
        """Look whether the file is the one that others would lock."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        os.close(self._descriptor)


def _named(lock: tuple[int, int]) -> dict[str, int]:
    return {"kind": lock[0], "which": lock[1]}
