"""What happens to keys, told to whoever subscribes: written with the change itself, announced once it is committed.

The structured log subscribes here; webhooks and others can, or read the table, which misses nothing after a crash.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from verifier.registry import audit, schema

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: such as ``version.retiring``; docs/operating.md lists them.
        at: seconds since 1970.
        client_id: whom it happened to.
        key_id: the key.
        version: the version.
        details: plain data, never a secret.
        sequence: its place among all events; 0 before it is written.
    """

    kind: str
    at: int
    client_id: str | None = None
    key_id: str | None = None
    version: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0


Subscriber = Callable[[Event], None]
_subscribers: list[Subscriber] = []


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Have every committed event of this process told; return what ends that."""
    _subscribers.append(subscriber)
    return lambda: _subscribers.remove(subscriber)


def announce(happened: Iterable[Event]) -> None:
    """Tell subscribers of committed events; a subscriber that fails keeps nobody else from being told."""
    for event in happened:
        for subscriber in list(_subscribers):
            try:
                subscriber(event)
            except Exception:
                _log.exception("a subscriber failed at event %d (%s)", event.sequence, event.kind)


def prune(connection: Connection, before_s: int, limit: int) -> int:
    """Delete the oldest events, inside ``Registry.write()``; the newest one stays, since the next takes its number.

    Args:
        connection: a transaction that writes.
        before_s: only those that happened before this second since 1970.
        limit: no more than so many.

    Returns:
        How many were deleted.
    """
    e = schema.events.c
    # They are as old as their numbers: so no index is needed, and nothing is read but what goes.
    oldest = select(e.sequence).order_by(e.sequence).limit(limit)
    newest = select(func.max(e.sequence)).scalar_subquery()
    old = delete(schema.events).where(e.sequence.in_(oldest), e.at < before_s, e.sequence < newest)
    return int(connection.execute(old).rowcount)


def append(connection: Connection, event: Event) -> Event:
    """Write an event, inside ``Registry.write()``; return it with its sequence."""
    sequence = int(connection.scalar(select(func.max(schema.events.c.sequence))) or 0) + 1
    connection.execute(
        insert(schema.events).values(
            sequence=sequence, at=event.at, kind=event.kind, client_id=event.client_id, key_id=event.key_id,
            version=event.version, details=audit.canonical(event.details),
        )
    )
    return replace(event, sequence=sequence)
