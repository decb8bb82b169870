"""The base keyring that deltas are built on, as the registry knows it."""

from sqlalchemy import Connection, delete, update

from verifier.registry import schema


def forget(connection: Connection) -> None:
    """Have the next publication build a new base, inside ``Registry.write()``: no delta would fit on this one."""
    connection.execute(delete(schema.dirty))
    connection.execute(
        update(schema.registry).values(
            base_sha256=None, base_changes=None, base_next_version=None, base_at=None, published_next_version=None
        )
    )
