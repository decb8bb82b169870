"""Keys and their versions: showing, changing, switching and revoking them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection

from verifier.control import lifecycle, records
from verifier.control.terms import check_metadata, check_rules
from verifier.errors import InvalidInput
from verifier.keyring.records import check_scopes
from verifier.registry import changes, queries
from verifier.registry.database import Registry
from verifier.registry.facts import Key, Version, metadata_text
from verifier.vocabulary import RevocationReason


class _Unchanged:
    """Marks what an update leaves alone, where None means "none"."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = _Unchanged()


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """What to change of a key. Everything left out stays.

    Args:
        scopes: all scopes it holds from now on.
        rules: all its address rules from now on.
        metadata: all its metadata from now on.
        expires_at: own end of its label, the version that is not superseded; seconds since 1970.
        key_expires_at: end of the key with all its versions.
        extend: allow an end to move later, or away.
    """

    scopes: Sequence[str] | _Unchanged = UNCHANGED
    rules: Sequence[str] | _Unchanged = UNCHANGED
    metadata: Mapping[str, str] | _Unchanged = UNCHANGED
    expires_at: int | _Unchanged | None = UNCHANGED
    key_expires_at: int | _Unchanged | None = UNCHANGED
    extend: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return all(isinstance(getattr(self, part.name), _Unchanged) for part in fields(self) if part.name != "extend")


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a revocation did."""

    key: Key
    numbers: tuple[int, ...]  # the versions it was about
    changed: tuple[int, ...]  # of those, the ones it changed


def show_key(registry: Registry, key_id: str) -> Key:
    """Return a key with all its versions.

    Raises:
        NotFound: there is none of that id.
    """
    with registry.read() as connection:
        return queries.find_key(connection, key_id)


def list_keys(registry: Registry, *, client_id: str | None = None, limit: int | None = None) -> Iterator[Key]:
    """Yield keys with their versions, in the order of their making.

    Raises:
        NotFound: there is no such client.
    """
    with registry.read() as connection:
        ordinal = None if client_id is None else queries.find_client(connection, client_id).ordinal
        yield from queries.list_keys(connection, ordinal, limit)


def update_key(registry: Registry, key_id: str, update: KeyUpdate) -> Key:
    """Change a key's scopes, address rules, metadata or ends.

    Raises:
        NotFound: there is none of that id.
        InvalidInput: a new value is not usable.
        Conflict: an end would move later without ``extend``.
    """
    with registry.write() as connection:
        before = queries.find_key(connection, key_id)
        after = _updated(before, update)
        if after != before:
            changes.update_key(
                connection, after.ordinal, scopes=" ".join(after.scopes), rules=" ".join(after.rules),
                metadata=metadata_text(after.metadata), expires_at=after.expires_at,
            )  # fmt: skip
            changes.update_version(connection, after.label.ordinal, expires_at=after.label.expires_at)
            _recorded(connection, after)
        return after


def set_key_enabled(registry: Registry, key_id: str, enabled: bool) -> Key:
    """Suspend a key or lift its suspension; a repeat is a success that changes nothing.

    Raises:
        NotFound: there is none of that id.
    """
    with registry.write() as connection:
        key = queries.find_key(connection, key_id)
        if key.enabled == enabled:
            return key
        key = replace(key, enabled=enabled)
        changes.update_key(connection, key.ordinal, enabled=enabled)
        _recorded(connection, key)
        return key


def revoke_version(
    registry: Registry,
    key_id: str,
    numbers: Sequence[int] | None = None,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
) -> Revocation:
    """Revoke versions of a key; other versions are untouched, and a repeat is a success that changes nothing.

    A revocation can be strengthened to key_compromise, never weakened; key_compromise is final.

    Args:
        numbers: the versions; None means all that are live.
        reason: by RFC 5280.

    Raises:
        NotFound: there is no such key.
        InvalidInput: it has no such version.
    """
    now_s = int(time.time())
    with registry.write() as connection:
        key = queries.find_key(connection, key_id)
        chosen = lifecycle.to_revoke(key, numbers, now_s)
        changed = [version for version in chosen if lifecycle.revoked_reason(version.reason, reason) != version.reason]
        for version in changed:
            revoked = _revoked(version, reason, now_s)
            key = records.with_version(key, revoked)
            changes.update_version(
                connection, version.ordinal, revoked_at=revoked.revoked_at, reason=int(reason)
            )
        if changed:
            _recorded(connection, key, len(changed))
    return Revocation(key, tuple(v.number for v in chosen), tuple(v.number for v in changed))


def _revoked(version: Version, reason: RevocationReason, now_s: int) -> Version:
    first = now_s if version.revoked_at is None else version.revoked_at
    return replace(version, revoked_at=first, reason=reason)


def _updated(key: Key, update: KeyUpdate) -> Key:
    """Return the key as it is after the update."""
    values: dict[str, Any] = {}
    if not isinstance(update.scopes, _Unchanged):
        values["scopes"] = check_scopes(update.scopes)
    if not isinstance(update.rules, _Unchanged):
        values["rules"] = check_rules(update.rules)
    if not isinstance(update.metadata, _Unchanged):
        values["metadata"] = check_metadata(update.metadata)
    if not isinstance(update.key_expires_at, _Unchanged):
        lifecycle.check_time("the key's expiry", update.key_expires_at)
        values["expires_at"] = lifecycle.moved_end(key.expires_at, update.key_expires_at, extend=update.extend)
    key = replace(key, **values)
    if isinstance(update.expires_at, _Unchanged):
        return key
    lifecycle.check_time("the expiry", update.expires_at)
    label = key.label
    if label.revoked_at is not None:
        raise InvalidInput(f"version {label.number} is revoked; its end no longer matters", code="REVOKED")
    end = lifecycle.moved_end(label.expires_at, update.expires_at, extend=update.extend)
    return records.with_version(key, replace(label, expires_at=end))


def _recorded(connection: Connection, key: Key, number: int = 1) -> None:
    """Bring the stored records of a changed key up to date, and count the change."""
    records.rewrite(connection, key)
    changes.count_changes(connection, number)
