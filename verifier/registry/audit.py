"""The audit log's table: entries are appended, each bound by its hash to the one before (docs/audit-log.md)."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from verifier.registry import schema

FIRST_HASH = "0" * 64
PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry.

    Attributes:
        sequence: 1, 2, 3 and so on, without gaps.
        at: seconds since 1970.
        principal: who did it.
        action: what, such as ``key.rotate``.
        client_id: the client it was about, if one.
        key_id: the key, if one.
        version: the version, if one.
        details: JSON object in canonical form, without secrets.
        request_id: the request that did it.
        change: ``registry.changes`` after it: the first publication that covers so many changes holds it.
        revision: of the publication, in entries about one.
        hash: SHA-256 of the hash before and of everything above, as 64 hex digits.
    """

    sequence: int
    at: int
    principal: str
    action: str
    client_id: str | None
    key_id: str | None
    version: int | None
    details: str
    request_id: str | None
    change: int
    revision: int | None
    hash: str = ""

    @property
    def audit_id(self) -> str:
        """The entry's name: ``a-17``."""
        return f"a-{self.sequence}"

    def bound_to(self, previous: str) -> str:
        """Return the hash that the entry must have after an entry with the hash ``previous``."""
        fields = [
            previous, self.sequence, self.at, self.principal, self.action, self.client_id, self.key_id, self.version,
            self.details, self.request_id, self.change, self.revision,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def canonical(details: Mapping[str, Any]) -> str:
    """Write details as the log stores them: JSON with sorted names and no spaces; what is None is left out."""
    present = {name: value for name, value in details.items() if value is not None}
    return json.dumps(present, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def last(connection: Connection) -> tuple[int, str]:
    """Return number and hash of the last entry; 0 and the first hash when there is none."""
    query = select(schema.audit.c.sequence, schema.audit.c.hash).order_by(schema.audit.c.sequence.desc()).limit(1)
    row = connection.execute(query).first()
    return (0, FIRST_HASH) if row is None else (row.sequence, row.hash)


def append(connection: Connection, **fields: Any) -> Entry:
    """Add an entry, inside ``Registry.write()``, which keeps other writers from taking its number.

    Args:
        fields: those of :class:`Entry` but ``sequence``, ``change`` and ``hash``.
    """
    sequence, previous = last(connection)
    change = connection.execute(select(schema.registry.c.changes)).scalar_one()
    bare = Entry(sequence=sequence + 1, change=change, **fields)
    values = {name: getattr(bare, name) for name in Entry.__slots__}
    values["hash"] = bare.bound_to(previous)
    connection.execute(insert(schema.audit).values(values))
    return Entry(**values)


def entry_of(connection: Connection, request_id: str, after: int) -> str | None:
    """Return the name of the first entry after a number that a request led to; None if it led to none."""
    table = schema.audit.c
    query = select(table.sequence).where(table.sequence > after, table.request_id == request_id)
    sequence = connection.scalar(query.order_by(table.sequence).limit(1))
    return None if sequence is None else f"a-{sequence}"


def entries(connection: Connection, after: int = 0) -> Iterator[Entry]:
    """Yield all entries after a number, in order, a page at a time."""
    table = schema.audit
    while True:
        query = select(table).where(table.c.sequence > after).order_by(table.c.sequence).limit(PAGE)
        page = connection.execute(query).mappings().all()
        yield from (Entry(**row) for row in page)
        if len(page) < PAGE:
            return
        after = page[-1]["sequence"]
