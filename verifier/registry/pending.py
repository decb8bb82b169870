"""Changes that are recorded and not published yet: by whom they were made."""

from collections.abc import Collection

from sqlalchemy import Connection, select

from verifier.registry import queries, schema


def has_pending(connection: Connection, principal: str, actions: Collection[str] = ()) -> bool:
    """Tell whether the audit log has such an entry about a change that no publication holds.

    Args:
        principal: who did it.
        actions: or what it was, whoever did it.
    """
    state = queries.state(connection)
    if not state.pending_changes:
        return False
    a = schema.audit.c
    # From the end, which is where they are: the counter of changes never falls.
    newest = select(a.change, a.principal, a.action).order_by(a.sequence.desc())
    for change, who, action in connection.execute(newest, execution_options={"yield_per": 100}):
        if change <= state.published_changes:
            return False
        if who == principal or action in actions:
            return True
    return False
