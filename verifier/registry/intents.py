"""A publisher's intent: what is about to become current, noted before it does.

Registry and store cannot change in one transaction. If the publisher dies after the store's pointer moved and before
the registry knew, the intent tells that the store is ahead by this registry's own publication, and not because the
registry is an old copy.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from verifier.errors import Conflict
from verifier.registry import schema


@dataclass(frozen=True, slots=True)
class Intent:
    """A publication that is about to become current.

    Attributes:
        revision: its number; never used again for another one.
        digest: SHA-256 of its manifest's bytes.
        changes: the registry's ``changes`` when its records were read.
    """

    revision: int
    digest: str
    changes: int


def intent(connection: Connection) -> Intent | None:
    """Return the newest intent, carried out or not; None if there never was one."""
    row = schema.registry.c
    revision, digest, changes = connection.execute(
        select(row.intent_revision, row.intent_digest, row.intent_changes)
    ).one()
    return None if revision is None else Intent(revision, digest, changes)


def set_intent(connection: Connection, wanted: Intent, *, expected: int) -> None:
    """Note an intent, inside ``Registry.write()``.

    Args:
        wanted: what is about to become current.
        expected: the last revision that the publisher began from.

    Raises:
        Conflict: the registry is at another revision by now (``REGISTRY_BEHIND``).
    """
    row = schema.registry
    values = {"intent_revision": wanted.revision, "intent_digest": wanted.digest, "intent_changes": wanted.changes}
    if connection.execute(update(row).where(row.c.last_revision == expected).values(values)).rowcount != 1:
        raise Conflict(
            f"the registry's last revision is no longer {expected}", hint="publish again", code="REGISTRY_BEHIND"
        )
