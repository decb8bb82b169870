"""Keys: showing, changing and switching them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from verifier.control import accounts, lifecycle
from verifier.control.acting import Act
from verifier.control.policy import Policy
from verifier.control.saving import save
from verifier.control.terms import UNCHANGED, Unchanged, check_metadata, check_rules
from verifier.errors import InvalidInput
from verifier.keyring.records import check_scopes
from verifier.registry import queries
from verifier.registry.database import Registry
from verifier.registry.facts import Key


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """What to change of a key. Everything left out stays.

    Args:
        scopes: all scopes it holds from now on.
        rules: all its address rules from now on.
        metadata: all its metadata from now on.
        expires_at: own end of its label, the version that is not superseded; seconds since 1970.
        key_expires_at: end of the key with all its versions.
        policy: all of its own rotation policy; None for none.
        extend: allow an end to move later, or away.
    """

    scopes: Sequence[str] | Unchanged = UNCHANGED
    rules: Sequence[str] | Unchanged = UNCHANGED
    metadata: Mapping[str, str] | Unchanged = UNCHANGED
    expires_at: int | Unchanged | None = UNCHANGED
    key_expires_at: int | Unchanged | None = UNCHANGED
    policy: Policy | Unchanged | None = UNCHANGED
    extend: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return all(isinstance(getattr(self, part.name), Unchanged) for part in fields(self) if part.name != "extend")


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


def update_key(act: Act, key_id: str, update: KeyUpdate) -> Key:
    """Change a key's scopes, address rules, metadata, ends or policy; a repeat changes nothing.

    Raises:
        NotFound: there is none of that id.
        InvalidInput: a new value is not usable.
        Conflict: an end would move later without ``extend``.
    """
    before = queries.find_key(act.connection, key_id)
    after = updated(before, update, act.now_s)
    if after == before:
        return before
    after = save(act, before, after)
    act.audit("key.update", client_id=after.client_id, key_id=key_id, **accounts.change_of(before, after))
    return after


def set_key_enabled(act: Act, key_id: str, enabled: bool) -> Key:
    """Suspend a key or lift its suspension; a repeat is a success that changes nothing.

    Raises:
        NotFound: there is none of that id.
    """
    before = queries.find_key(act.connection, key_id)
    if before.enabled == enabled:
        return before
    after = save(act, before, replace(before, enabled=enabled))
    action = "key.enable" if enabled else "key.disable"
    act.audit(action, client_id=after.client_id, key_id=key_id, **accounts.change_of(before, after))
    act.emit(action + "d", client_id=after.client_id, key_id=key_id)
    return after


def updated(key: Key, update: KeyUpdate, now_s: int) -> Key:
    """Return the key as it is after the update.

    Raises:
        InvalidInput: a new value is not usable.
        Conflict: an end would move later without ``extend``.
    """
    values: dict[str, Any] = {}
    if not isinstance(update.scopes, Unchanged):
        values["scopes"] = check_scopes(update.scopes)
    if not isinstance(update.rules, Unchanged):
        values["rules"] = check_rules(update.rules)
    if not isinstance(update.metadata, Unchanged):
        values["metadata"] = check_metadata(update.metadata)
    if not isinstance(update.key_expires_at, Unchanged):
        lifecycle.check_time("the key's expiry", update.key_expires_at)
        values["expires_at"] = lifecycle.moved_end(key.expires_at, update.key_expires_at, extend=update.extend)
    if not isinstance(update.policy, Unchanged):
        values["policy"] = None if update.policy is None else update.policy.checked().to_text()
    key = replace(key, **values)
    if isinstance(update.expires_at, Unchanged):
        return key
    lifecycle.check_time("the expiry", update.expires_at)
    label = key.label
    if label.revoked_at is not None:
        raise InvalidInput(f"version {label.number} is revoked; its end no longer matters", code="REVOKED")
    end = lifecycle.moved_end(label.expires_at, update.expires_at, extend=update.extend)
    if lifecycle.is_pending(label, now_s) and end is not None and end <= (label.not_before or 0):
        raise InvalidInput("the version would end before it becomes active", code="EMPTY_WINDOW")
    return lifecycle.with_version(key, replace(label, expires_at=end))
