"""What the audit log says of clients and keys: facts for JSON, without tags, records and what follows from others.

An entry about a key holds, before and after, the key's own facts and those of the versions that the act touched. Laid
over each other from the first entry to the last, they give the registry.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from verifier.registry.facts import Client, Key, Version

_VERSION_FIELDS = tuple(field.name for field in fields(Version) if field.name not in ("tag", "last_used_at"))
_KEY_FIELDS = tuple(field.name for field in fields(Key) if field.name not in ("versions", "due_at"))


def of_client(client: Client) -> dict[str, Any]:
    """Return a client's facts; what is None is left out."""
    return {
        field.name: value for field in fields(client) if (value := getattr(client, field.name)) is not None
    }  # fmt: skip


def of_version(version: Version) -> dict[str, Any]:
    """Return a version's facts; what is None is left out. Use is no act, so ``last_used_at`` is none of them."""
    said = {name: getattr(version, name) for name in _VERSION_FIELDS}
    return {name: _plain(value) for name, value in said.items() if value is not None}


def of_key(key: Key, besides: Key | None = None) -> dict[str, Any]:
    """Return a key's facts with those of its versions, by their numbers.

    Args:
        key: whose facts.
        besides: the same key before or after: versions that are alike in both are left out.
    """
    alike = set() if besides is None else set(besides.versions)
    said = {name: getattr(key, name) for name in _KEY_FIELDS}
    facts = {name: _plain(value) for name, value in said.items() if value is not None}
    versions = {str(version.number): of_version(version) for version in key.versions if version not in alike}
    return {**facts, "versions": versions}


def change_of(before: Key, after: Key) -> Any:
    """Return ``before`` and ``after`` of a changed key, for an entry of the audit log."""
    return {"before": of_key(before, after), "after": of_key(after, before)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
