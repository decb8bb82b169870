"""The table of those who may use the operators' API. Tokens are held as SHA-256 digests only."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from verifier.registry import schema


@dataclass(frozen=True, slots=True)
class Identity:
    """One of them.

    Attributes:
        name: given by the operator.
        role: viewer, operator, publisher, admin or node.
        digest: SHA-256 of its bearer token, as 64 hex digits; None when it has none.
        certificate_name: a subject or subject alternative name of its client certificate; None when it has none.
        created_at: seconds since 1970, as the others.
        expires_at: from when on it is refused; None for never.
        disabled_at: since when it is refused; None as long as it is not.
    """

    name: str
    role: str
    digest: str | None
    certificate_name: str | None
    created_at: int
    expires_at: int | None = None
    disabled_at: int | None = None

    def is_good(self, now_s: int) -> bool:
        """Tell whether it is accepted at a second."""
        return self.disabled_at is None and (self.expires_at is None or now_s < self.expires_at)


def find(connection: Connection, name: str) -> Identity | None:
    """Return the identity of a name, None when there is none."""
    row = connection.execute(select(schema.identities).where(schema.identities.c.name == name)).mappings().first()
    return None if row is None else Identity(**row)


def every(connection: Connection) -> list[Identity]:
    """Return all identities by name."""
    rows = connection.execute(select(schema.identities).order_by(schema.identities.c.name)).mappings()
    return [Identity(**row) for row in rows]


def matching(
    connection: Connection, *, digest: str | None = None, certificate_names: Collection[str] = ()
) -> list[Identity]:
    """Return the identities with a token's digest, or with one of the names of a certificate."""
    table = schema.identities
    wanted: list[ColumnElement[bool]] = [table.c.certificate_name.in_(certificate_names)] if certificate_names else []
    if digest is not None:
        wanted.append(table.c.digest == digest)
    if not wanted:
        return []
    rows = connection.execute(select(table).where(or_(*wanted))).mappings()
    return [Identity(**row) for row in rows]


def add(connection: Connection, identity: Identity) -> None:
    """Add one, inside ``Registry.write()``."""
    values = {name: getattr(identity, name) for name in Identity.__slots__}
    connection.execute(insert(schema.identities).values(values))


def change(connection: Connection, name: str, **values: object) -> None:
    """Change columns of one, inside ``Registry.write()``."""
    connection.execute(update(schema.identities).where(schema.identities.c.name == name).values(values))
