"""Clients: who owns keys."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from verifier.control import accounts, scheduling
from verifier.control.acting import Act
from verifier.control.policy import Policy
from verifier.control.terms import UNCHANGED, Unchanged, check_id
from verifier.errors import Conflict, InvalidInput
from verifier.registry import changes, queries
from verifier.registry.database import Registry
from verifier.registry.facts import Client

NAME_CHARACTERS_MAX = 200


@dataclass(frozen=True, slots=True)
class ClientSummary:
    """A client and how many keys it has."""

    client: Client
    keys: int


def create_client(act: Act, client_id: str, *, name: str | None = None, policy: Policy | None = None) -> Client:
    """Add a client.

    Args:
        client_id: given by the operator: 1 to 64 letters, digits, dots, underscores and hyphens.
        name: what people call it.
        policy: of its keys that say nothing themselves.

    Raises:
        InvalidInput: the id, name or policy is not usable.
        Conflict: there is a client of that id (``CLIENT_EXISTS``).
    """
    check_id("client", client_id)
    _check_name(name)
    text = None if policy is None else policy.checked().to_text()
    if any(queries.clients_named(act.connection, client_id)):
        raise Conflict(f"there is a client {client_id!r} already", code="CLIENT_EXISTS")
    client = Client(changes.reserve(act.connection, "next_client"), client_id, name, True, act.now_s, text)
    changes.insert_client(act.connection, client)
    act.audit("client.create", client_id=client_id, after=accounts.of_client(client))
    act.emit("client.created", client_id=client_id)
    return client


def show_client(registry: Registry, client_id: str) -> ClientSummary:
    """Return one client.

    Raises:
        NotFound: there is none of that id.
    """
    with registry.read() as connection:
        client = queries.find_client(connection, client_id)
        return ClientSummary(client, queries.count_keys(connection, client.ordinal))


def list_clients(registry: Registry, limit: int | None = None) -> Iterator[Client]:
    """Yield clients in the order of their making."""
    with registry.read() as connection:
        yield from queries.list_clients(connection, limit)


def update_client(
    act: Act,
    client_id: str,
    *,
    name: str | Unchanged | None = UNCHANGED,
    policy: Policy | Unchanged | None = UNCHANGED,
) -> Client:
    """Rename a client or set the policy of its keys; its id stays for life. A repeat changes nothing.

    Args:
        name: None takes its name away.
        policy: all of the new one; None takes it away.

    Raises:
        NotFound: there is none of that id.
        InvalidInput: the name or policy is not usable.
    """
    before = queries.find_client(act.connection, client_id)
    after = before
    if not isinstance(name, Unchanged):
        _check_name(name)
        after = replace(after, name=name)
    if not isinstance(policy, Unchanged):
        after = replace(after, policy=None if policy is None else policy.checked().to_text())
    if after == before:
        return before
    changes.update_client(act.connection, after.ordinal, name=after.name, policy=after.policy)
    if after.policy != before.policy:
        scheduling.reschedule(act.connection, after.ordinal)
    _audit(act, "client.update", before, after)
    return after


def set_client_enabled(act: Act, client_id: str, enabled: bool) -> Client:
    """Switch a client, and so all its keys, on or off; a repeat is a success that changes nothing.

    No record is touched: the switches are a bitset in the keyring, so this costs the same for any number of keys.

    Raises:
        NotFound: there is none of that id.
    """
    before = queries.find_client(act.connection, client_id)
    if before.enabled == enabled:
        return before
    after = replace(before, enabled=enabled)
    changes.update_client(act.connection, after.ordinal, enabled=enabled)
    changes.count_changes(act.connection)
    _audit(act, "client.enable" if enabled else "client.disable", before, after)
    act.emit("client.enabled" if enabled else "client.disabled", client_id=client_id)
    return after


def _audit(act: Act, action: str, before: Client, after: Client) -> None:
    told = accounts.of_client
    act.audit(action, client_id=after.client_id, before=told(before), after=told(after))


def _check_name(name: str | None) -> None:
    if name is not None and (len(name) > NAME_CHARACTERS_MAX or not name.isprintable()):
        raise InvalidInput(f"a name is printable text of at most {NAME_CHARACTERS_MAX} characters", code="BAD_NAME")
