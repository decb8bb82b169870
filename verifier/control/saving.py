"""Bringing a changed key back into the registry: what differs, its records, and when it is due."""

from dataclasses import replace
from typing import Any

from verifier.control import lifecycle, records, rows
from verifier.control.acting import Act
from verifier.control.policy import policy_of
from verifier.registry import bulk, changes
from verifier.registry.facts import Key


def save(act: Act, before: Key, after: Key) -> Key:
    """Store a key as it is after a change, and count the change if nodes have to learn of it.

    New versions are added, others keep what did not change. Whoever calls writes the audit entry.

    Args:
        act: whose transaction.
        before: the key as the registry has it.
        after: the key as it is to be.

    Returns:
        The key as it was stored, with the second at which the schedule rotates it.
    """
    after = replace(after, due_at=lifecycle.due_at(after, policy_of(act.connection, after).max_age_s))
    own = _different(rows.key_values(before), rows.key_values(after))
    if own:
        changes.update_key(act.connection, after.ordinal, **own)
    known = {version.number: version for version in before.versions}
    for version in after.versions:
        if version.number not in known:
            row = rows.version_row(after, version, records.encoded(after, version))
            bulk.insert_versions(act.connection, [row])
        elif values := _different(rows.version_values(known[version.number]), rows.version_values(version)):
            changes.update_version(act.connection, version.ordinal, **values)
    if records.rewrite(act.connection, after, before):
        changes.count_changes(act.connection)
    return after


def _different(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value != before[name]}
