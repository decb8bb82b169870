"""Clients: who owns keys."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from verifier.control.terms import check_id
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


def create_client(registry: Registry, client_id: str, *, name: str | None = None) -> Client:
    """Add a client.

    Args:
        client_id: given by the operator: 1 to 64 letters, digits, dots, underscores and hyphens.
        name: what people call it.

    Raises:
        InvalidInput: the id or name is not usable.
        Conflict: there is a client of that id (``CLIENT_EXISTS``).
    """
    check_id("client", client_id)
    _check_name(name)
    with registry.write() as connection:
        if any(queries.clients_named(connection, client_id)):
            raise Conflict(f"there is a client {client_id!r} already", code="CLIENT_EXISTS")
        client = Client(changes.reserve(connection, "next_client"), client_id, name, True, int(time.time()))
        changes.insert_client(connection, client)
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


def update_client(registry: Registry, client_id: str, *, name: str | None) -> Client:
    """Rename a client; None takes its name away. Its id stays for life.

    Raises:
        NotFound: there is none of that id.
    """
    _check_name(name)
    with registry.write() as connection:
        client = queries.find_client(connection, client_id)
        changes.update_client(connection, client.ordinal, name=name)
        return queries.find_client(connection, client_id)


def set_client_enabled(registry: Registry, client_id: str, enabled: bool) -> Client:
    """Switch a client, and so all its keys, on or off; a repeat is a success that changes nothing.

    No record is touched: the switches are a bitset in the keyring, so this costs the same for any number of keys.

    Raises:
        NotFound: there is none of that id.
    """
    with registry.write() as connection:
        client = queries.find_client(connection, client_id)
        if client.enabled != enabled:
            changes.update_client(connection, client.ordinal, enabled=enabled)
            changes.count_changes(connection)
        return queries.find_client(connection, client_id)


def _check_name(name: str | None) -> None:
    if name is not None and (len(name) > NAME_CHARACTERS_MAX or not name.isprintable()):
        raise InvalidInput(f"a name is printable text of at most {NAME_CHARACTERS_MAX} characters", code="BAD_NAME")
