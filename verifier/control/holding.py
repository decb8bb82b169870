"""The keyrings of a held store: at a rollback, and at each publication until it is resumed.

A rollback serves the base of the revision that it goes back to, with a delta in which the changes since are undone and
the denials of now are kept. Later publications put what changed in between over that delta, so a revocation costs no
more than in a store that is not held.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from verifier._build import Rows as FileRows
from verifier.control import comparing
from verifier.control.building import Builder, Content, Facts, by_head
from verifier.control.held import Find, Kept, held_rows, overlaid, rekeyed
from verifier.control.pointwise import Side, changed_records
from verifier.errors import Conflict, UnsoundPublication
from verifier.keyring.description import KeyringDescription
from verifier.keyring.digest import digest_file
from verifier.keyring.reader import KeyringFile
from verifier.registry import dirty, queries
from verifier.store.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Hold:
    """What a held store serves.

    Attributes:
        then: the manifest of the revision whose content it is.
        drop_newer: versions issued since are refused.
        peppers: secrets by id.
    """

    then: Manifest
    drop_newer: bool
    peppers: Mapping[str, bytes]


def begin(
    builder: Builder, connection: Connection, state: queries.State, hold: Hold, now: Content
) -> tuple[Content, Kept]:
    """Build what a rollback serves; costs as much as the changes since, or a pass over both bases if they differ.

    Args:
        builder: where.
        connection: one state of the registry.
        state: of the same transaction.
        hold: what to go back to.
        now: the registry's own content.

    Returns:
        The content, and which denials it keeps.

    Raises:
        Conflict: the peppers of then cannot be brought to those of now (``PEPPER_MISSING``).
        UnsoundPublication: a keyring is damaged.
    """
    facts, kept = Facts.of(connection, state), Kept()
    content = _then(builder, state, hold, facts)
    with opened(builder, content) as then:
        if content.base.sha256 == now.base.sha256:
            pairs = changed_records(then, Side(then.base, now.rows, b""))
        else:
            pairs = comparing.differing(builder.keyrings(content), builder.keyrings(now))
        changes = held_rows(pairs, _finder(then.base), drop_newer=hold.drop_newer, kept=kept)
        rows = overlaid(dict(content.rows), changes)
        kept.clients_off = sum(not then.is_off(client) for client in facts.clients_off)
    served = builder.delta(content.base, rows, facts)
    return Content(served.base, served.delta, served.rows, (*content.new, *served.new)), kept


def carry_on(
    builder: Builder, connection: Connection, state: queries.State, hold: Hold, current: Manifest
) -> Content | None:
    """Build what a held store serves after changes; costs as much as its delta.

    Args:
        builder: where.
        connection: one state of the registry.
        state: of the same transaction.
        hold: what the store is held at.
        current: the held publication that is served.

    Returns:
        None when it has to be begun anew: the registry does not know what changed since, or its peppers did.
    """
    if state.published_next_version is None or current.base.peppers != state.peppers:
        return None
    # A base that is not that of then was made from it, under the peppers of now.
    same = current.base.sha256 == hold.then.base.sha256
    origin = Content(current.base, hold.then.delta if same else None)
    changed = by_head(dirty.rows_since(connection, state.published_changes, state.published_next_version))
    with opened(builder, origin) as then:
        pairs = ((head, then.record(head), now) for head, now in changed.items())
        changes = held_rows(pairs, _finder(then.base), drop_newer=hold.drop_newer)
        rows = overlaid(delta_rows(builder, current.delta), changes)
    return builder.delta(current.base, rows, Facts.of(connection, state))


@contextmanager
def opened(builder: Builder, content: Content) -> Iterator[Side]:
    """Open the keyrings of a content to look single records up.

    Raises:
        NotFound: one is missing.
        UnsoundPublication: one is damaged.
    """
    with ExitStack() as stack:
        base = stack.enter_context(KeyringFile(builder.path(content.base)))
        if content.delta is None:
            yield Side(base, {}, base.switch_bytes())
            return
        delta = stack.enter_context(KeyringFile(builder.path(content.delta)))
        rows = content.rows or _rows(delta, content.delta)
        yield Side(base, rows, delta.switch_bytes())


def delta_rows(builder: Builder, delta: KeyringDescription | None) -> dict[bytes, bytes]:
    """Read the records of a delta by tag head, after its digest was checked."""
    if delta is None:
        return {}
    with KeyringFile(builder.path(delta)) as file:
        return _rows(file, delta)


def check_digest(builder: Builder, keyring: KeyringDescription) -> None:
    """Read a keyring whole, to be sure that it is what was signed.

    Raises:
        NotFound: it is missing.
        UnsoundPublication: it is damaged (``BAD_DIGEST``).
    """
    with KeyringFile(builder.path(keyring)) as file:
        _check(file, keyring)


def _then(builder: Builder, state: queries.State, hold: Hold, facts: Facts) -> Content:
    """Return the content to go back to, under the peppers of now."""
    then = Content(hold.then.base, hold.then.delta)
    known = len(then.base.peppers)
    if then.base.peppers == state.peppers:
        return Content(then.base, then.delta, delta_rows(builder, then.delta))
    layers = [hold.peppers.get(name) for name in state.peppers[known:]]
    if then.base.peppers != state.peppers[:known] or None in layers:
        raise Conflict(
            f"revision {hold.then.revision} has the peppers {' '.join(then.base.peppers)}, the registry has "
            f"{' '.join(state.peppers)}: its tags cannot be made from the old ones",
            hint="roll back to a later revision, or roll single keys back",
            code="PEPPER_MISSING",
        )
    everything = ((head, record) for head, _, record in comparing.differing(None, builder.keyrings(then)) if record)
    base = builder.rekeyed(rekeyed(everything, [layer for layer in layers if layer is not None]), facts)
    return Content(base, new=(base,))


def _finder(base: KeyringFile) -> Find:
    def find(head: bytes) -> bytes | None:
        found = base.find(head)
        return None if found is None else found[1]

    return find


def _rows(file: KeyringFile, delta: KeyringDescription) -> dict[bytes, bytes]:
    _check(file, delta)
    return by_head(FileRows(file.fd, file.pages))


def _check(file: KeyringFile, keyring: KeyringDescription) -> None:
    if file.size != keyring.bytes or digest_file(file.fd, file.size)[0] != keyring.sha256:
        raise UnsoundPublication(f"keyring {keyring.sha256}.mdb is damaged", code="BAD_DIGEST")
