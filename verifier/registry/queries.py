"""Reading the registry: single things for commands, and everything, fast, for publishing."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, func, or_, select, update

from verifier.errors import Conflict, NotFound
from verifier.registry import schema
from verifier.registry.facts import Client, Key, Version, client_of, key_of, version_of
from verifier.tokens import quoted

PAGE = 500

_VERSION_COLUMNS = [column for column in schema.versions.c if column.name not in ("record", "key_ordinal")]
_KEY_SELECT = select(schema.keys, schema.clients.c.client_id).join(schema.clients)


# --- For commands ----------------------------------------------------------------------------------------------------


def find_client(connection: Connection, client_id: str) -> Client:
    """Return one client.

    Raises:
        NotFound: there is none of that id.
    """
    row = connection.execute(select(schema.clients).where(schema.clients.c.client_id == client_id)).mappings().first()
    if row is None:
        raise NotFound(
            f"there is no client {quoted(client_id)}",
            hint="verifier client list, or create it: verifier client create CLIENT_ID",
            code="CLIENT_NOT_FOUND",
        )
    return client_of(dict(row))


def list_clients(connection: Connection, limit: int | None = None, after: int = -1) -> Iterator[Client]:
    """Yield clients in the order of their making, from the one after an ordinal on."""
    table = schema.clients
    query = select(table).where(table.c.ordinal > after).order_by(table.c.ordinal).limit(limit)
    for row in connection.execute(query).mappings():
        yield client_of(dict(row))


def clients_named(connection: Connection, client_id: str) -> list[int]:
    """Return the ordinal of the client of that id, in a list that is empty when there is none."""
    return list(connection.scalars(select(schema.clients.c.ordinal).where(schema.clients.c.client_id == client_id)))


def count_keys(connection: Connection, client_ordinal: int) -> int:
    """Return how many keys a client has."""
    query = select(func.count()).select_from(schema.keys).where(schema.keys.c.client_ordinal == client_ordinal)
    return int(connection.scalar(query) or 0)


def find_key(connection: Connection, key_id: str) -> Key:
    """Return one key with all its versions.

    Raises:
        NotFound: there is none of that id.
    """
    rows = connection.execute(_KEY_SELECT.where(schema.keys.c.key_id == key_id)).all()
    found = list(_with_versions(connection, rows))
    if not found:
        raise NotFound(f"there is no key {quoted(key_id)}", hint="verifier key list", code="KEY_NOT_FOUND")
    return found[0]


def list_keys(
    connection: Connection, client_ordinal: int | None = None, limit: int | None = None, after: int = -1
) -> Iterator[Key]:
    """Yield keys with their versions in the order of their making, from the one after an ordinal on."""
    left = limit
    while left is None or left > 0:
        query = _KEY_SELECT.where(schema.keys.c.ordinal > after)
        if client_ordinal is not None:
            query = query.where(schema.keys.c.client_ordinal == client_ordinal)
        size = PAGE if left is None else min(PAGE, left)
        page = connection.execute(query.order_by(schema.keys.c.ordinal).limit(size)).all()
        yield from _with_versions(connection, page)
        if len(page) < size:
            return
        after = page[-1].ordinal
        left = None if left is None else left - size


def keys_with_policy(connection: Connection, client_ordinal: int) -> Iterator[Key]:
    """Yield the keys of a client that have a policy of their own."""
    table = schema.keys
    mine = _KEY_SELECT.where(table.c.client_ordinal == client_ordinal, table.c.policy.is_not(None))
    after = -1
    while page := connection.execute(mine.where(table.c.ordinal > after).order_by(table.c.ordinal).limit(PAGE)).all():
        yield from _with_versions(connection, page)
        after = page[-1].ordinal


def keys_at(connection: Connection, ordinals: Sequence[int]) -> list[Key]:
    """Return the keys of some ordinals, a page of them at most, with all their versions, by ordinal."""
    query = _KEY_SELECT.where(schema.keys.c.ordinal.in_(ordinals)).order_by(schema.keys.c.ordinal)
    return list(_with_versions(connection, connection.execute(query).all()))


def _with_versions(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[Key]:
    query = (
        select(schema.versions.c.key_ordinal, *_VERSION_COLUMNS)
        .where(schema.versions.c.key_ordinal.in_([row.ordinal for row in rows]))
        .order_by(schema.versions.c.key_ordinal, schema.versions.c.number)
    )
    found: dict[int, tuple[Version, ...]] = {}
    for key_ordinal, group in groupby(connection.execute(query).mappings(), key=lambda row: row["key_ordinal"]):
        found[key_ordinal] = tuple(
            version_of({name: value for name, value in row.items() if name != "key_ordinal"}) for row in group
        )
    for row in rows:
        yield key_of(row._asdict(), found.get(row.ordinal, ()))


# --- For publishing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """The one row of the registry."""

    store_id: str
    created_at: int
    last_revision: int
    hold: int | None
    peppers: tuple[str, ...]
    accepts_foreign: bool
    changes: int
    published_changes: int
    next_version: int = 1
    published_next_version: int | None = None
    base_sha256: str | None = None
    base_changes: int | None = None
    base_next_version: int | None = None
    base_at: int | None = None
    held_since: int | None = None
    drop_newer: bool = False
    leaked_peppers: tuple[str, ...] = ()

    @property
    def pending_changes(self) -> int:
        """Changes that no publication holds yet."""
        return self.changes - self.published_changes


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records a publication of this moment has."""

    records: int
    active: int  # not revoked, key and client on, end ahead
    clients: int  # bits of the client switches: one more than the greatest ordinal


def state(connection: Connection) -> State:
    """Return the registry's own facts."""
    names = [column for column in schema.registry.c if column.name in State.__slots__]
    fields = dict(connection.execute(select(*names)).mappings().one())
    for name in ("peppers", "leaked_peppers"):
        fields[name] = tuple(fields[name].split())
    return State(**fields)


def iterate_records(connection: Connection, chunk: int = 10_000) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield lists of (tag, keyring record) of all versions, in no particular order.

    Goes past SQLAlchemy's row objects, which would double the time at ten million records.
    """
    cursor = _raw_cursor(connection, "verifier_records")
    try:
        cursor.execute("SELECT tag, record FROM versions")
        while rows := cursor.fetchmany(chunk):
            yield rows
    finally:
        cursor.close()


def clients_off(connection: Connection) -> list[int]:
    """Return the ordinals of the clients that are switched off, ascending."""
    query = select(schema.clients.c.ordinal).where(schema.clients.c.enabled.is_(False))
    return list(connection.scalars(query.order_by(schema.clients.c.ordinal)))


def prefix_modes(connection: Connection) -> list[tuple[str, str]]:
    """Return the prefixes that tokens may begin with, and the mode of each, sorted."""
    query = select(schema.prefixes.c.prefix, schema.prefixes.c.mode)
    return sorted((prefix, mode) for prefix, mode in connection.execute(query))  # every database sorts in its own way


def record_count(connection: Connection) -> int:
    """Return how many records a publication of this moment has."""
    return int(connection.scalar(select(func.count()).select_from(schema.versions)) or 0)


def client_bits(connection: Connection) -> int:
    """Return how many bits the client switches need: one more than the greatest ordinal."""
    return int(connection.execute(select(schema.registry.c.next_client)).scalar_one())


def ordinals(connection: Connection) -> tuple[int, int]:
    """Return how many ordinals of versions and of clients were ever given: bounds that cost no counting."""
    row = schema.registry.c
    versions, clients = connection.execute(select(row.next_version, row.next_client)).one()
    return int(versions), int(clients)


def counts(connection: Connection, now_s: int) -> Counts:
    """Count records, and those that are valid for some caller now or later; 0.4 us a record.

    A publisher that counts the active ones otherwise asks :func:`record_count` and :func:`client_bits` instead.

    Args:
        now_s: seconds since 1970; a version whose end is at or before it is not active.
    """
    v, k, c = schema.versions.c, schema.keys.c, schema.clients.c
    ahead = [or_(end.is_(None), end > now_s) for end in (v.expires_at, v.retire_at, k.expires_at)]
    active = and_(v.revoked_at.is_(None), k.enabled.is_(True), c.enabled.is_(True), *ahead)
    query: Select[Any] = (
        select(func.count(), func.coalesce(func.sum(case((active, 1), else_=0)), 0))
        .select_from(schema.versions)
        .join(schema.keys)
        .join(schema.clients)
    )
    records, alive = connection.execute(query).one()
    return Counts(int(records), int(alive), client_bits(connection))


def set_last_revision(connection: Connection, revision: int, *, expected: int, changes: int) -> None:
    """Note a publication, if the last one noted is the one the publisher began from.

    Args:
        revision: of the new publication.
        expected: the last revision as the publisher read it.
        changes: ``State.changes`` as the publisher read it together with the records.

    Raises:
        Conflict: another publisher was first, or the registry is older than the store (``REGISTRY_BEHIND``).
    """
    row = schema.registry
    query = (
        update(row)
        .where(row.c.last_revision == expected)
        .values(last_revision=revision, published_changes=changes)
    )
    if connection.execute(query).rowcount != 1:
        raise Conflict(
            f"the registry's last revision is no longer {expected}",
            hint="another publisher was first; look at verifier publications list, then publish again",
            code="REGISTRY_BEHIND",
        )


def _raw_cursor(connection: Connection, name: str) -> Any:
    """Return a cursor of the driver that does not fetch everything at once."""
    if connection.dialect.name == "sqlite":
        return connection.connection.cursor()
    # A server-side cursor of psycopg; binary, or all tags and records would come as hexadecimal text.
    return connection.connection.cursor(name=name, binary=True)


def parts(items: Iterable[Any], size: int = PAGE) -> Iterator[list[Any]]:
    """Cut items into lists that fit into one statement."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
