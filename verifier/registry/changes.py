"""Writing to the registry. Every function belongs inside ``Registry.write()`` and commits nothing itself."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from verifier.errors import Conflict, InvalidInput
from verifier.registry import bulk, dirty, queries, schema
from verifier.registry.facts import Client

PREFIXES_MAX = 64
ORDINAL_MAX = 2**32 - 2  # what a keyring record can hold


def count_changes(connection: Connection, number: int = 1) -> None:
    """Note that so many things differ from what is published."""
    row = schema.registry
    connection.execute(update(row).values(changes=row.c.changes + number))


def reserve(connection: Connection, counter: str, number: int = 1) -> int:
    """Take ordinals that are never given again; return the first.

    Args:
        counter: ``next_client``, ``next_key`` or ``next_version``.
        number: how many.
    """
    column = schema.registry.c[counter]
    first = int(connection.execute(select(column)).scalar_one())
    if first + number > ORDINAL_MAX:
        raise Conflict("the registry is full: a keyring numbers at most 4 billion versions", code="REGISTRY_FULL")
    connection.execute(update(schema.registry).values({column: first + number}))
    return first


def insert_client(connection: Connection, client: Client) -> None:
    """Add a client."""
    connection.execute(insert(schema.clients).values(asdict(client)))


def update_client(connection: Connection, ordinal: int, **values: Any) -> None:
    """Change columns of a client."""
    connection.execute(update(schema.clients).where(schema.clients.c.ordinal == ordinal).values(values))


def move_client(connection: Connection, old: int, new: int) -> str:
    """Give a client another ordinal, with its keys, whose records are not touched; return its id."""
    clients, keys = schema.clients, schema.keys
    values = dict(connection.execute(select(clients).where(clients.c.ordinal == old)).mappings().one())
    client_id = str(values["client_id"])
    # Its keys need it under both ordinals for a moment; an id is there only once, and none has a space.
    connection.execute(insert(clients).values({**values, "ordinal": new, "client_id": f" {new}"}))
    connection.execute(update(keys).where(keys.c.client_ordinal == old).values(client_ordinal=new))
    connection.execute(delete(clients).where(clients.c.ordinal == old))
    connection.execute(update(clients).where(clients.c.ordinal == new).values(client_id=client_id))
    return client_id


def update_key(connection: Connection, ordinal: int, **values: Any) -> None:
    """Change columns of a key."""
    connection.execute(update(schema.keys).where(schema.keys.c.ordinal == ordinal).values(values))


def update_version(connection: Connection, ordinal: int, **values: Any) -> None:
    """Change columns of a version."""
    connection.execute(update(schema.versions).where(schema.versions.c.ordinal == ordinal).values(values))


def update_keys(connection: Connection, ordinals: Iterable[int], **values: Any) -> None:
    """Change the same columns of many keys."""
    for part in queries.parts(ordinals):
        connection.execute(update(schema.keys).where(schema.keys.c.ordinal.in_(part)).values(values))


def update_versions(connection: Connection, ordinals: Iterable[int], **values: Any) -> None:
    """Change the same columns of many versions."""
    for part in queries.parts(ordinals):
        connection.execute(update(schema.versions).where(schema.versions.c.ordinal.in_(part)).values(values))


def set_records(connection: Connection, records: Iterable[tuple[int, bytes]], **values: int | None) -> None:
    """Replace keyring records, given with the ordinals of their versions, and mark them as not published yet.

    Args:
        records: ordinals and records.
        values: numbers for columns that are the same in all these versions.
    """
    new = [(record, ordinal) for ordinal, record in records]
    if new:
        bulk.rewrite_versions(connection, new, values)
        dirty.mark(connection, (ordinal for _, ordinal in new))


def use_prefix(connection: Connection, prefix: str, mode: str = schema.NATIVE) -> None:
    """Make sure that tokens may begin with ``prefix``; a MIXED prefix stays MIXED.

    Counts no change: the keys that come with it do.

    Raises:
        InvalidInput: a keyring can name no more prefixes.
    """
    table = schema.prefixes
    present = connection.scalar(select(table.c.mode).where(table.c.prefix == prefix))
    if present in (mode, schema.MIXED):
        return
    if present is not None:
        connection.execute(update(table).where(table.c.prefix == prefix).values(mode=mode))
    else:
        if (connection.scalar(select(func.count()).select_from(table)) or 0) >= PREFIXES_MAX:
            raise InvalidInput(f"a registry has at most {PREFIXES_MAX} prefixes", code="TOO_MANY_PREFIXES")
        connection.execute(insert(table).values(prefix=prefix, mode=mode))


def accept_foreign(connection: Connection) -> None:
    """Have tokens of no known prefix looked up, too. Counts no change: the keys that come with it do."""
    row = schema.registry
    connection.execute(update(row).values(accepts_foreign=True))


def existing_tags(connection: Connection, tags: Iterable[bytes]) -> dict[bytes, int]:
    """Return those of the tags that the registry holds, with the ordinals of their versions."""
    v = schema.versions.c
    found: dict[bytes, int] = {}
    for part in queries.parts(tags):
        found.update(tuple(row) for row in connection.execute(select(v.tag, v.ordinal).where(v.tag.in_(part))))
    return found


def existing_key_ids(connection: Connection, key_ids: Iterable[str]) -> set[str]:
    """Return those of the key ids that the registry holds."""
    k = schema.keys.c
    found: set[str] = set()
    for part in queries.parts(key_ids):
        found.update(connection.scalars(select(k.key_id).where(k.key_id.in_(part))))
    return found
