"""Keeping ``keys.due_at`` true when a policy above the keys changes, for any number of keys."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, null, select, update

from verifier.control import lifecycle
from verifier.control.acting import Act
from verifier.control.policy import BUILT_IN, Policy, effective, inherited
from verifier.registry import changes, queries, schema


def set_store_policy(act: Act, policy: Policy | None) -> Policy:
    """Set the policy that holds where neither key nor client says otherwise; a repeat changes nothing.

    Args:
        policy: all of the new one; None takes it away.

    Returns:
        The policy with the built-in defaults for what it leaves open.

    Raises:
        InvalidInput: it is not usable (``BAD_POLICY``).
    """
    before = store_policy(act.connection)
    after = Policy() if policy is None else policy.checked()
    if after != before:
        act.connection.execute(update(schema.registry).values(policy=after.to_text()))
        for client_ordinal in act.connection.scalars(select(schema.clients.c.ordinal)).all():
            reschedule(act.connection, client_ordinal)
        act.audit("policy.update", before=before.to_text(), after=after.to_text())
    return effective(after, BUILT_IN)


def store_policy(connection: Connection) -> Policy:
    """Return the policy of the whole store, without the built-in defaults."""
    return Policy.from_text(connection.scalar(select(schema.registry.c.policy)))


def reschedule(connection: Connection, client_ordinal: int) -> None:
    """Say anew when the keys of a client are due, after a policy above them changed.

    One statement for keys without a policy of their own; the others, which are few, one by one.
    """
    policy = inherited(connection, client_ordinal)
    keys = schema.keys
    alike = and_(keys.c.client_ordinal == client_ordinal, keys.c.policy.is_(None))
    connection.execute(update(keys).where(alike).values(due_at=_due_at(policy.max_age_s)))
    for key in queries.keys_with_policy(connection, client_ordinal):
        own = effective(Policy.from_text(key.policy), policy)
        due_at = lifecycle.due_at(key, own.max_age_s)
        if due_at != key.due_at:
            changes.update_key(connection, key.ordinal, due_at=due_at)


def _due_at(max_age_s: int | None) -> Any:
    """Return :func:`lifecycle.due_at` as SQL, for the key of the row."""
    if not max_age_s:
        return null()
    keys, versions = schema.keys.c, schema.versions.c
    begun: ColumnElement[int] = func.coalesce(versions.not_before, versions.issued_at)
    due = begun + max_age_s
    late = and_(keys.expires_at.is_not(None), due >= keys.expires_at)
    label: Select[Any] = select(case((late, None), (due > lifecycle.TIME_MAX, None), else_=due)).where(
        versions.key_ordinal == keys.ordinal, versions.superseded_at.is_(None), versions.revoked_at.is_(None)
    )
    return label.correlate(schema.keys).scalar_subquery()
