"""What the registry holds, as plain data. Times are seconds since 1970; ordinals are stable for ever."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verifier.vocabulary import RevocationReason


@dataclass(frozen=True, slots=True)
class Client:
    """Who owns keys."""

    ordinal: int
    client_id: str
    name: str | None
    enabled: bool
    created_at: int
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """One secret of a key, with its own window and state."""

    ordinal: int
    number: int
    tag: bytes = field(repr=False)
    issued_at: int
    not_before: int | None = None
    expires_at: int | None = None
    superseded_at: int | None = None
    superseded_by: int = 0
    retire_at: int | None = None
    clock: str | None = None
    overlap_s: int | None = None
    ceiling: int | None = None
    first_used_at: int | None = None
    revoked_at: int | None = None
    reason: RevocationReason | None = None
    cut: bool = False
    entropy_bits: int | None = None
    last_used_at: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A credential of a client; it keeps its ``key_id`` for life."""

    ordinal: int
    key_id: str
    client_ordinal: int
    client_id: str
    enabled: bool
    created_at: int
    expires_at: int | None
    scopes: tuple[str, ...]
    rules: tuple[str, ...]
    metadata: Mapping[str, str]
    prefix: str
    policy: str | None = None
    due_at: int | None = None
    versions: tuple[Version, ...] = ()

    @property
    def label(self) -> Version:
        """The one version that is not superseded."""
        return next(version for version in self.versions if version.superseded_at is None)


def metadata_text(metadata: Mapping[str, str]) -> str:
    """Write metadata as the registry stores it: a JSON object, or nothing when there is none."""
    return json.dumps(dict(sorted(metadata.items())), ensure_ascii=False) if metadata else ""


def client_of(row: Mapping[str, Any]) -> Client:
    """Read a row of ``clients``."""
    return Client(**row)


def version_of(row: Mapping[str, Any]) -> Version:
    """Read a row of ``versions`` without ``record`` and ``key_ordinal``."""
    fields = dict(row)
    fields["reason"] = None if fields["reason"] is None else RevocationReason(fields["reason"])
    return Version(**fields)


def key_of(row: Mapping[str, Any], versions: tuple[Version, ...]) -> Key:
    """Read a row of ``keys`` joined with its client's ``client_id``."""
    fields = dict(row)
    fields["scopes"] = tuple(fields["scopes"].split())
    fields["rules"] = tuple(fields["rules"].split())
    fields["metadata"] = json.loads(fields["metadata"]) if fields["metadata"] else {}
    return Key(**fields, versions=versions)
