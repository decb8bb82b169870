"""What the audit log says that the registry holds: its entries laid over each other, from the first to the last."""

import json
from typing import Any

from sqlalchemy import Connection, select

from verifier.control import accounts
from verifier.registry import audit, queries, schema
from verifier.registry.facts import Key


def replayed(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the facts of all keys that an entry of their own tells of."""
    keys: dict[str, dict[str, Any]] = {}
    versions: dict[int, dict[str, Any]] = {}
    for entry in audit.entries(connection):
        details = json.loads(entry.details)
        if entry.key_id is not None and "after" in details:
            _lay(keys, entry.key_id, details["after"], versions)
        elif "revoked" in details:  # of very many: only the ordinals
            for version in _within(versions, details["revoked"]):
                version.setdefault("revoked_at", entry.at)
                if version.get("reason") != 1:
                    version["reason"] = schema_reason(details["reason"], version.get("reason"))
        elif "reinstated" in details:
            for version in _within(versions, details["reinstated"]):
                version.pop("revoked_at", None)
                version.pop("reason", None)
    return keys


def schema_reason(asked: str, present: int | None) -> int:
    """Return the reason that stands."""
    from verifier.vocabulary import RevocationReason

    number = int(RevocationReason[asked.upper()])
    return number if present is None or number == 1 else present


def _lay(keys: dict[str, Any], key_id: str, after: dict[str, Any], versions: dict[int, dict[str, Any]]) -> None:
    known = keys.get(key_id, {}).get("versions", {})
    keys[key_id] = {**after, "versions": {**known, **after["versions"]}}
    for version in after["versions"].values():
        versions[version["ordinal"]] = version


def _within(versions: dict[int, dict[str, Any]], spans: list[list[int]]) -> list[dict[str, Any]]:
    return [version for ordinal, version in versions.items() if any(low <= ordinal <= high for low, high in spans)]


def told(key: Key) -> dict[str, Any]:
    """Return the facts of a key as the audit log would tell them."""
    facts: dict[str, Any] = json.loads(json.dumps(accounts.of_key(key)))
    return facts


def assert_log_tells_the_registry(connection: Connection) -> None:
    """Check that laying the log together gives the registry (I25)."""
    said = replayed(connection)
    for key in queries.list_keys(connection):
        if key.key_id in said:
            assert said[key.key_id] == told(key)
    count = connection.scalar(select(schema.registry.c.changes))
    last = list(audit.entries(connection))[-1]
    assert last.change == count
