"""Reading the audit log: entries with the publication that holds them, and whether the chain is whole."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from verifier.errors import InvalidInput
from verifier.registry import audit, queries, schema
from verifier.registry.audit import FIRST_HASH, Entry

PAGE = 500
PROBLEMS_MAX = 20

_AUDIT_ID = re.compile(r"a-([1-9][0-9]{0,17})")
_ANCHOR = re.compile(r"a-([1-9][0-9]{0,17}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries to list; what is None does not matter.

    Args:
        client_id: only of this client.
        key_id: only of this key.
        action: only of this action, or of those that begin with it and a dot.
        principal: only of this one.
        since: only at or after, in seconds since 1970.
        until: only before.
    """

    client_id: str | None = None
    key_id: str | None = None
    action: str | None = None
    principal: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry and the first publication that holds what it tells of; None when none does yet."""

    entry: Entry
    revision: int | None


@dataclass(slots=True)
class Check:
    """Whether the log is whole.

    Attributes:
        entries: how many there are.
        anchor: the last one as ``audit_id:hash``, to be noted elsewhere; None for an empty log.
        problems: what is wrong, in sentences; the first of them.
    """

    entries: int = 0
    anchor: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def blame(self, problem: str) -> None:
        """Note something that is wrong."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


def sequence_of(audit_id: str) -> int:
    """Return the number of an entry from its name, such as ``a-17``.

    Raises:
        InvalidInput: it is no such name (``BAD_AUDIT_ID``).
    """
    match = _AUDIT_ID.fullmatch(audit_id)
    if match is None:
        raise InvalidInput("an audit id is a- and a number", hint="verifier audit list", code="BAD_AUDIT_ID")
    return int(match[1])


def listed(
    connection: Connection, wanted: Wanted, *, size: int, beyond: int | None = None, ascending: bool = False
) -> list[Listed]:
    """Return entries, the newest first unless ``ascending``.

    Args:
        wanted: which.
        size: at most so many.
        beyond: only those after this number in the order of the list.
        ascending: the oldest first.
    """
    table = schema.audit
    query = select(table).where(*_conditions(wanted)).limit(size)
    if ascending:
        query = query.order_by(table.c.sequence).where(table.c.sequence > (beyond or 0))
    else:
        query = query.order_by(table.c.sequence.desc())
        if beyond is not None:
            query = query.where(table.c.sequence < beyond)
    return _with_revisions(connection, [Entry(**row) for row in connection.execute(query).mappings()])


def check(connection: Connection, anchor: str | None = None) -> Check:
    """Check that every entry is bound to the one before and none is missing, as far as the registry itself can tell.

    It knows its last publication and how many changes were made; the entries about these must be there. Whoever can
    write to the database can write all of it anew; an anchor that was noted elsewhere shows that.

    Args:
        anchor: of an earlier check, as ``audit_id:hash``: that entry must still be there, and unchanged.

    Raises:
        InvalidInput: the anchor is not of that form (``BAD_ANCHOR``).
    """
    noted = _noted(anchor)
    state = queries.state(connection)  # before the entries, of which there may be more by then
    found, previous, number, changes, revision = Check(), FIRST_HASH, 0, 0, 0
    for entry in audit.entries(connection):
        if entry.sequence != number + 1:
            found.blame(f"between a-{number} and {entry.audit_id} entries are missing")
        if entry.hash != entry.bound_to(previous):
            found.blame(f"{entry.audit_id} was changed, or what comes before it")
        if noted is not None and entry.sequence == noted[0]:
            if entry.hash != noted[1]:
                found.blame(f"{entry.audit_id} is not the one that was noted: the log was written anew")
            noted = None
        changes, revision = max(changes, entry.change), max(revision, _revision_of(entry))
        found.entries += 1
        previous, number = entry.hash, entry.sequence
    if noted is not None:
        found.blame(f"a-{noted[0]} was noted, but is missing")
    if revision < state.last_revision:
        found.blame(f"the registry is at revision {state.last_revision}, the log ends before it was published")
    if changes < state.changes:
        found.blame(f"the registry counts {state.changes} changes, the log tells of {changes}: its end is missing")
    found.anchor = f"a-{number}:{previous}" if number else None
    return found


def _revision_of(entry: Entry) -> int:
    """Return the publication that an entry is about; of an upgrade from a format without a log, the last one before."""
    if entry.action == "registry.upgrade":
        return int(json.loads(entry.details).get("last_revision", 0))
    return entry.revision or 0


def _noted(anchor: str | None) -> tuple[int, str] | None:
    if not anchor:
        return None
    match = _ANCHOR.fullmatch(anchor)
    if match is None:
        raise InvalidInput("an anchor is an audit id, a colon and 64 hex digits", code="BAD_ANCHOR")
    return int(match[1]), match[2]


def _conditions(wanted: Wanted) -> list[Any]:
    c = schema.audit.c
    found: list[Any] = []
    for column, value in ((c.client_id, wanted.client_id), (c.key_id, wanted.key_id), (c.principal, wanted.principal)):
        if value is not None:
            found.append(column == value)
    if wanted.action is not None:
        found.append((c.action == wanted.action) | c.action.startswith(wanted.action + ".", autoescape=True))
    if wanted.since is not None:
        found.append(c.at >= wanted.since)
    if wanted.until is not None:
        found.append(c.at < wanted.until)
    return found


def _with_revisions(connection: Connection, entries: Sequence[Entry]) -> list[Listed]:
    """Find the first publication that holds each entry: publications cover all changes up to a number."""
    if not entries:
        return []
    oldest = min(entry.sequence for entry in entries)
    most = max(entry.change for entry in entries)
    publications = list(_publications(connection, oldest, most))
    return [Listed(entry, _holder(entry, publications)) for entry in entries]


def _holder(entry: Entry, publications: Sequence[tuple[int, int, int]]) -> int | None:
    if entry.revision is not None:
        return entry.revision
    for sequence, covered, revision in publications:
        if sequence > entry.sequence and covered >= entry.change:
            return revision
    return None


def _publications(connection: Connection, oldest: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Yield (sequence, changes covered, revision) of publications after an entry, until one covers everything."""
    c = schema.audit.c
    query = select(c.sequence, c.change, c.revision, c.details).order_by(c.sequence).limit(PAGE)
    query = query.where(c.revision.is_not(None))
    after = oldest - 1
    while page := connection.execute(query.where(c.sequence > after)).all():
        for sequence, change, revision, details in page:
            covered = json.loads(details).get("covers", change)
            yield sequence, covered, revision
            if covered >= most and sequence > oldest:
                return
        after = page[-1].sequence
