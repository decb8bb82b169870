"""Changes that are recorded and not published yet: by whom they were made, and which revocations are among them."""

import json
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, select

from verifier.registry import queries, schema


def has_pending(connection: Connection, principal: str, actions: Collection[str] = ()) -> bool:
    """Tell whether the audit log has such an entry about a change that no publication holds.

    Args:
        principal: who did it.
        actions: or what it was, whoever did it.
    """
    return any(entry.principal == principal or entry.action in actions for entry in _entries(connection))


def revocations(connection: Connection) -> frozenset[int]:
    """Return the ordinals of versions whose revocation no publication holds, as the audit log tells."""
    spans = [
        span for entry in _entries(connection) if entry.action == "key.revoke"
        for span in json.loads(entry.details).get("revoked", ())
    ]  # fmt: skip
    return frozenset(ordinal for first, last in spans for ordinal in range(first, last + 1))


def _entries(connection: Connection) -> Iterator[Any]:
    """Yield the entries of the audit log about changes that no publication holds, the newest first."""
    state = queries.state(connection)
    if not state.pending_changes:
        return
    a = schema.audit.c
    # From the end, which is where they are: the counter of changes never falls.
    newest = select(a.change, a.principal, a.action, a.details).order_by(a.sequence.desc())
    for entry in connection.execute(newest, execution_options={"yield_per": 100}):
        if entry.change <= state.published_changes:
            return
        yield entry
