"""A publisher's intent: what is about to become current, noted before it does.

Registry and store cannot change in one transaction. If the publisher dies after the store's pointer moved and before
the registry knew, the intent tells that the store is ahead by this registry's own publication, and not because the
registry is an old copy. It also says all that the registry will have to note, so that whoever comes next can.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, select, update

from verifier.errors import Conflict
from verifier.registry import dirty, queries, schema


@dataclass(frozen=True, slots=True)
class Base:
    """A base keyring, and the state of the registry that it was built from.

    Attributes:
        sha256: its name.
        changes: ``registry.changes`` when its records were read.
        next_version: the first ordinal of a version that was not given yet.
        at: when, in seconds since 1970.
    """

    sha256: str
    changes: int
    next_version: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the registry notes once a publication is current.

    Attributes:
        next_version: the first ordinal that was not given yet when its records were read.
        base: the registry's new base; None when it keeps the one it has.
        hold: the revision that the store is held at.
        held_since: the revision that began the hold.
        drop_newer: held, and versions issued since are refused.
        action: for the audit log.
        principal: who did it.
        request_id: of the request that led to it.
        note: why, in the words of whoever asked.
        details: more for the audit log.
    """

    next_version: int
    base: Base | None = None
    hold: int | None = None
    held_since: int | None = None
    drop_newer: bool = False
    action: str = "publication.publish"
    principal: str = "unknown"
    request_id: str | None = None
    note: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_text(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> "Outcome":
        """Read what :meth:`to_text` wrote."""
        fields = json.loads(text)
        fields["base"] = None if fields["base"] is None else Base(**fields["base"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Intent:
    """A publication that is about to become current.

    Attributes:
        revision: its number; never used again for another one.
        digest: SHA-256 of its manifest's bytes.
        changes: the registry's ``changes`` when its records were read.
        outcome: what the registry will note.
    """

    revision: int
    digest: str
    changes: int
    outcome: Outcome | None = None


def intent(connection: Connection) -> Intent | None:
    """Return the newest intent, carried out or not; None if there never was one."""
    row = schema.registry.c
    revision, digest, changes, outcome = connection.execute(
        select(row.intent_revision, row.intent_digest, row.intent_changes, row.intent_outcome)
    ).one()
    if revision is None:
        return None
    return Intent(revision, digest, changes, Outcome.from_text(outcome) if outcome else None)


def set_intent(connection: Connection, wanted: Intent, *, expected: int) -> None:
    """Note an intent, inside ``Registry.write()``.

    Args:
        wanted: what is about to become current.
        expected: the last revision that the publisher began from.

    Raises:
        Conflict: the registry is at another revision by now (``REGISTRY_BEHIND``).
    """
    row = schema.registry
    values = {
        "intent_revision": wanted.revision, "intent_digest": wanted.digest, "intent_changes": wanted.changes,
        "intent_outcome": wanted.outcome.to_text() if wanted.outcome else None,
    }  # fmt: skip
    if connection.execute(update(row).where(row.c.last_revision == expected).values(values)).rowcount != 1:
        raise Conflict(
            f"the registry's last revision is no longer {expected}", hint="publish again", code="REGISTRY_BEHIND"
        )


def carry_out(connection: Connection, done: Intent, *, expected: int) -> None:
    """Note that an intended publication is current, inside ``Registry.write()``.

    Without an outcome the registry forgets its base, so that the next publication builds one.

    Args:
        done: the intent.
        expected: the last revision that the publisher began from.

    Raises:
        Conflict: the registry is at another revision by now (``REGISTRY_BEHIND``).
    """
    queries.set_last_revision(connection, done.revision, expected=expected, changes=done.changes)
    outcome = done.outcome
    values: dict[str, Any]
    if outcome is None:
        values = {"base_sha256": None, "published_next_version": None}
    else:
        values = {
            "published_next_version": outcome.next_version, "hold": outcome.hold, "held_since": outcome.held_since,
            "drop_newer": outcome.drop_newer,
        }  # fmt: skip
        if outcome.base is not None:
            values |= {f"base_{name}": value for name, value in asdict(outcome.base).items()}
            dirty.forget(connection, outcome.base.changes)
    connection.execute(update(schema.registry).values(values))


def note_unchanged(connection: Connection, revision: int, state: queries.State) -> None:
    """Note that the current publication holds all that the registry said, inside ``Registry.write()``.

    Args:
        revision: the current one.
        state: what was read of the registry together with its records.

    Raises:
        Conflict: the registry is at another revision by now (``REGISTRY_BEHIND``).
    """
    queries.set_last_revision(connection, revision, expected=revision, changes=state.changes)
    connection.execute(update(schema.registry).values(published_next_version=state.next_version))
