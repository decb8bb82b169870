"""Nodes as the registry knows them, and the times for which their reports of usage are missing."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select, update

from verifier.registry import schema
from verifier.registry.usage import upserting


@dataclass(frozen=True, slots=True)
class Node:
    """What a node reported last: a row of ``nodes``.

    Attributes:
        name: unique among the nodes of a store.
        epoch: of its process, 16 hexadecimal digits; empty before its first report of status.
        first_seen_at: when it was first heard, or again after it was gone; seconds since 1970, as all in ``_at``.
        last_seen_at: when its last report of status or usage came, at most 10 s before the true moment.
        stopped_at: when it said that it stops.
        forgotten_at: when an operator said that it is gone.
        revision: that it serves; 0 for none.
        served_at_ms: since when, by its own clock.
        load_ms: how long loading that took.
        refusal: the last publication that it refused, as JSON.
        clock_skew_ms: by how much its clock is ahead; None when it never told.
        version: its software.
        addresses: where it answers calls, joined by spaces.
        usage_epoch: the process whose reports of usage are being counted.
        usage_sequence: the last of them that was applied.
        usage_from_ms: since when its usage is known, gaps aside, by its own clock.
        usage_to_ms: until when.
    """

    name: str
    epoch: str
    first_seen_at: int
    last_seen_at: int
    stopped_at: int | None = None
    forgotten_at: int | None = None
    revision: int = 0
    served_at_ms: int | None = None
    load_ms: int | None = None
    refusal: str | None = None
    clock_skew_ms: int | None = None
    version: str | None = None
    addresses: str = ""
    usage_epoch: str | None = None
    usage_sequence: int = 0
    usage_from_ms: int | None = None
    usage_to_ms: int | None = None


def find(connection: Connection, name: str) -> Node | None:
    """Return a node, None when none of that name ever reported."""
    row = connection.execute(select(schema.nodes).where(schema.nodes.c.name == name)).mappings().first()
    return None if row is None else Node(**row)


def every(connection: Connection) -> list[Node]:
    """Return all nodes by name, gone ones too."""
    rows = connection.execute(select(schema.nodes).order_by(schema.nodes.c.name)).mappings()
    return [Node(**row) for row in rows]


def store(connection: Connection, node: Node) -> None:
    """Write a node's row, the first time or again, inside ``Registry.write()``."""
    values = asdict(node)
    query = upserting(connection, schema.nodes).values(values)
    changed = {name: query.excluded[name] for name in values if name != "name"}
    connection.execute(query.on_conflict_do_update(index_elements=[schema.nodes.c.name], set_=changed))


def add_gap(connection: Connection, name: str, from_ms: int, to_ms: int) -> None:
    """Note that nothing is known of a node's usage in a time, which may be noted twice."""
    there = schema.node_gaps.c
    query = upserting(connection, schema.node_gaps).values(node=name, from_ms=from_ms, to_ms=to_ms)
    later = query.excluded.to_ms > there.to_ms
    connection.execute(
        query.on_conflict_do_update(
            index_elements=[there.node, there.from_ms], set_={"to_ms": query.excluded.to_ms}, where=later
        )
    )


def gaps(connection: Connection, since_ms: int) -> Sequence[Row[Any]]:
    """Return (node, from_ms, to_ms) of the gaps that reach past a moment, by node and time."""
    there = schema.node_gaps.c
    query: Select[Any] = select(there.node, there.from_ms, there.to_ms).where(there.to_ms > since_ms)
    return connection.execute(query.order_by(there.node, there.from_ms)).all()


def usage_began(connection: Connection, now_s: int | None = None) -> int | None:
    """Return when the first report of usage came; None as long as none did.

    Args:
        connection: inside ``Registry.write()`` if ``now_s`` is given.
        now_s: set it, if it is not set yet.
    """
    row = schema.registry
    since: int | None = connection.scalar(select(row.c.usage_since))
    if since is None and now_s is not None:
        connection.execute(update(row).values(usage_since=now_s))
    return now_s if since is None else since
