"""Upgrading a registry that an older verifier made."""

import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from verifier.control.acting import Act, Actor, local_actor
from verifier.control.progress import Progress, silent
from verifier.registry import backups, queries, schema
from verifier.registry.database import Registry, open_any, too_new
from verifier.registry.engines import sqlite_file
from verifier.store.home import Home


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade did.

    Attributes:
        before: the format it found.
        after: the format now.
        backup: the copy of the registry as it was; None when nothing was done, and for PostgreSQL.
    """

    before: int
    after: int
    backup: Path | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return self.before != self.after


def upgrade_registry(home: Home, progress: Progress = silent, *, actor: Actor | None = None) -> Upgraded:
    """Bring a registry to this verifier's format, in one transaction; a repeat changes nothing.

    A file is copied first. Of a PostgreSQL registry make a backup yourself, and stop what an older verifier runs on it.

    Args:
        home: whose registry.
        progress: told of the copying.
        actor: who; the user of this process when None.

    Raises:
        NotFound: there is none (``NOT_INITIALISED``).
        Conflict: another writer held the registry for too long (``REGISTRY_BUSY``).
        Unavailable: it is newer than this verifier, or cannot be copied or used.
    """
    registry, _ = open_any(home)
    with registry, registry.write() as connection:
        before = int(connection.execute(select(schema.registry.c.schema)).scalar_one())
        if before > schema.SCHEMA:
            raise too_new(before)
        if before == schema.SCHEMA:
            return Upgraded(before, before)
        backup = _back_up(registry, before, progress)
        progress("upgrade", before, schema.SCHEMA)
        _migrate(connection, before)
        act = Act(connection, actor or local_actor(), int(time.time()))
        act.audit("registry.upgrade", before={"format": before}, after={"format": schema.SCHEMA},
                  last_revision=queries.state(connection).last_revision)  # of which an older format tells nothing
    return Upgraded(before, schema.SCHEMA, backup)


def _back_up(registry: Registry, before: int, progress: Progress) -> Path | None:
    file = sqlite_file(registry.url)
    if file is None:
        return None
    return backups.back_up(file, f"format-{before}", lambda done, total: progress("backup", done, total))


def _migrate(connection: Connection, before: int) -> None:
    from verifier.registry import migrating  # alembic takes half a second to import

    migrating.migrate(connection, before)
