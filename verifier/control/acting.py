"""Every change goes through an act: one transaction, done by somebody, written into the audit log with it.

    with acting(registry, actor) as act:
        rotation.rotate(act, ...)

What changes and what the log says of it are committed together, or not at all.
"""

import getpass
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from verifier.control import events
from verifier.control.events import Event
from verifier.registry import audit
from verifier.registry.database import Registry


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes:
        principal: ``local:USER`` at the command line, ``token:NAME`` or ``cert:NAME`` over the operators' API,
            ``schedule`` for the control plane itself.
        request_id: of the request that leads to the act, if it has one.
        note: why, in the words of whoever asked.
    """

    principal: str
    request_id: str | None = None
    note: str | None = None


SCHEDULE = Actor("schedule")


def local_actor(request_id: str | None = None, note: str | None = None) -> Actor:
    """Return the user of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = "unknown"
    return Actor(f"local:{user}", request_id, note)


@dataclass(slots=True)
class Act:
    """One act in its transaction.

    Attributes:
        connection: inside ``Registry.write()``.
        actor: who acts.
        now_s: when, in seconds since 1970: all that the act does is judged at this second.
        entries: what was written into the audit log.
        events: what was emitted.
    """

    connection: Connection
    actor: Actor
    now_s: int
    entries: list[audit.Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @property
    def audit_id(self) -> str | None:
        """The name of the first entry; None when nothing was done."""
        return self.entries[0].audit_id if self.entries else None

    def audit(
        self,
        action: str,
        *,
        client_id: str | None = None,
        key_id: str | None = None,
        version: int | None = None,
        revision: int | None = None,
        **details: Any,
    ) -> audit.Entry:
        """Write an entry into the audit log. Count the changes it tells of before.

        Args:
            action: what, such as ``key.rotate``.
            client_id: the client it is about, if one.
            key_id: the key, if one.
            version: the version, if one.
            revision: the publication, if it is about one.
            details: plain data for JSON, best ``before`` and ``after``; never a token or a pepper.
        """
        entry = audit.append(
            self.connection, at=self.now_s, principal=self.actor.principal, action=action, client_id=client_id,
            key_id=key_id, version=version, details=audit.canonical({**details, "note": self.actor.note}),
            request_id=self.actor.request_id, revision=revision,
        )  # fmt: skip
        self.entries.append(entry)
        return entry

    def emit(
        self,
        kind: str,
        *,
        client_id: str | None = None,
        key_id: str | None = None,
        version: int | None = None,
        **details: Any,
    ) -> None:
        """Emit an event, which subscribers see once the act is committed; arguments as for :meth:`audit`."""
        self.events.append(
            events.append(self.connection, Event(kind, self.now_s, client_id, key_id, version, details))
        )


@contextmanager
def acting(registry: Registry, actor: Actor | None = None, now_s: int | None = None) -> Iterator[Act]:
    """Begin an act; it is committed at the end of the block, and an exception undoes all of it.

    Args:
        registry: where.
        actor: who; the user of this process when None.
        now_s: when, in seconds since 1970; the clock's when None.

    Raises:
        Conflict: another writer held the registry for too long (``REGISTRY_BUSY``).
        Unavailable: the database cannot be used.
    """
    with registry.write() as connection:
        # Read inside: whoever waited for the lock acts when he gets it.
        act = Act(connection, actor or local_actor(), int(time.time()) if now_s is None else now_s)
        yield act
    events.announce(act.events)
