"""Keys and versions as rows of the registry's tables."""

from dataclasses import asdict
from typing import Any

from verifier.registry import bulk
from verifier.registry.facts import Key, Version, metadata_text


def key_values(key: Key) -> dict[str, Any]:
    """Return the columns of a key's row."""
    return {
        "ordinal": key.ordinal, "key_id": key.key_id, "client_ordinal": key.client_ordinal, "enabled": key.enabled,
        "created_at": key.created_at, "expires_at": key.expires_at, "scopes": " ".join(key.scopes),
        "rules": " ".join(key.rules), "metadata": metadata_text(key.metadata), "prefix": key.prefix,
        "policy": key.policy, "due_at": key.due_at,
    }  # fmt: skip


def version_values(version: Version) -> dict[str, Any]:
    """Return the columns of a version's row that its facts decide: all but its key and its record."""
    return asdict(version)


def key_row(key: Key) -> tuple[Any, ...]:
    """Write a key as a row for ``bulk.insert_keys``."""
    values = key_values(key)
    return tuple(values[column] for column in bulk.KEY_COLUMNS)


def version_row(key: Key, version: Version, record: bytes) -> tuple[Any, ...]:
    """Write a new version as a row for ``bulk.insert_versions``."""
    return (
        version.ordinal, version.tag, record, key.ordinal, version.number, version.issued_at, version.not_before,
        version.expires_at, version.entropy_bits,
    )  # fmt: skip
