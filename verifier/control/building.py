"""The keyrings of a publication: a delta on the base that is there, or a new base.

A delta holds every version that was rewritten or issued since its base was built. So its cost is that of the changes,
and not that of all keys, and a node needs one base and one delta, whatever happened in between.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from verifier.control.comparing import Keyrings
from verifier.control.progress import Progress, silent
from verifier.errors import NotFound, UnsoundPublication
from verifier.keyring.builder import build_keyring
from verifier.keyring.description import KeyringDescription
from verifier.keyring.reader import KeyringFile
from verifier.registry import dirty, queries
from verifier.registry.intents import Base
from verifier.store.layout import Store

HEAD_BYTES = 16
_NOT_ZERO = re.compile(rb"[^\0]", re.DOTALL)

Row = tuple[bytes, bytes]
Rows = Mapping[bytes, bytes]  # record by tag head


@dataclass(frozen=True, slots=True)
class Compaction:
    """When a delta has grown so large or old that a new base is built instead.

    A publication takes 3.3 us of a processor for each record of its delta, besides 11 ms, so one with 10,000 takes some
    50 ms on an idle machine. A new base takes nodes seconds and the store its size again, for as long as old
    publications are kept.

    Attributes:
        records_min: up to so many records a delta is never too large.
        share: of the base's records, from which on it is, 0 to 1.
        bytes_max: size of the delta's file.
        age_s: age of the base, in seconds; of no weight as long as nothing changed since.
    """

    records_min: int = 10_000
    share: float = 0.001
    bytes_max: int = 256 << 20
    age_s: int = 30 * 86_400

    def records_max(self, base: KeyringDescription) -> int:
        """Return how many records a delta on this base may have."""
        return max(self.records_min, int(self.share * base.records))


# For those who cannot wait for a new base, as with a revocation; somebody else builds it in time.
NO_COMPACTION = Compaction(records_min=1 << 62, bytes_max=1 << 62, age_s=1 << 62)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a keyring says besides its records."""

    peppers: tuple[str, ...]
    prefixes: tuple[tuple[str, str], ...]
    accepts_foreign: bool
    clients_off: tuple[int, ...]
    client_count: int

    @classmethod
    def of(cls, connection: Connection, state: queries.State) -> "Facts":
        """Read them from the registry."""
        return cls(
            peppers=state.peppers,
            prefixes=tuple(queries.prefix_modes(connection)),
            accepts_foreign=state.accepts_foreign,
            clients_off=tuple(queries.clients_off(connection)),
            client_count=queries.ordinals(connection)[1],
        )


@dataclass(frozen=True, slots=True)
class Content:
    """What a publication will serve.

    Attributes:
        base: the base.
        delta: what changed since; None when nothing did.
        rows: records of the delta by tag head.
        new: those of the two that were built just now, and lie in the folder of the builder.
    """

    base: KeyringDescription
    delta: KeyringDescription | None = None
    rows: Rows = field(default_factory=dict)
    new: tuple[KeyringDescription, ...] = ()


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds keyrings beside a store.

    Attributes:
        store: holds the keyrings that are published.
        folder: where new ones are built, in the same file system.
        progress: told how far it is.
    """

    store: Store
    folder: Path
    progress: Progress = silent

    def base(self, connection: Connection, state: queries.State) -> Content:
        """Build a base of all versions of the registry; costs seconds for a million."""
        built = self._build(
            queries.iterate_records(connection), Facts.of(connection, state),
            expected=queries.ordinals(connection)[0], progress=self.progress,
        )  # fmt: skip
        return Content(built, new=(built,))

    def delta(self, base: KeyringDescription, rows: Rows, facts: Facts) -> Content:
        """Build a delta on a base, if there is anything to say."""
        if not rows and self._says(base, facts):
            return Content(base)
        tagged = ((head + record[:HEAD_BYTES], record) for head, record in rows.items())
        built = self._build(tagged, facts, kind="delta", base=base.sha256, durable=False)
        return Content(base, built, rows, (built,))

    def rekeyed(self, rows: Iterable[tuple[bytes, bytes]], facts: Facts) -> KeyringDescription:
        """Build a base from given rows of tag and record."""
        return self._build(rows, facts, progress=self.progress)

    def path(self, keyring: KeyringDescription) -> Path:
        """Say where a keyring lies: with the new ones, or in the store."""
        built = self.folder / f"{keyring.sha256}.mdb"
        return built if built.is_file() else self.store.keyring_path(keyring.sha256)

    def keyrings(self, content: Content) -> Keyrings:
        """Say where the keyrings of a content lie."""
        return Keyrings(self.path(content.base), self.path(content.delta) if content.delta else None)

    def _says(self, base: KeyringDescription, facts: Facts) -> bool:
        """Tell whether a base says everything else as it is now."""
        if (base.prefixes, base.accepts_foreign) != (facts.prefixes, facts.accepts_foreign):
            return False
        with KeyringFile(self.path(base)) as file:
            return set(bits_of(file.switch_bytes())) == set(facts.clients_off)

    def _build(self, rows: Iterable[Row] | Iterable[list[Row]], facts: Facts, **options: object) -> KeyringDescription:
        return build_keyring(
            self.folder, rows, peppers=facts.peppers, prefixes=facts.prefixes, accepts_foreign=facts.accepts_foreign,
            clients_off=facts.clients_off, client_count=facts.client_count, **options,  # type: ignore[arg-type]
        )  # fmt: skip


def of_registry(
    builder: Builder, connection: Connection, state: queries.State, base: KeyringDescription | None, now_s: int
) -> tuple[Content, Base | None]:
    """Build what the registry says now.

    Args:
        builder: where.
        connection: one state of the registry.
        state: of the same transaction.
        base: what a delta is made for; None: a new base is built.
        now_s: seconds since 1970.

    Returns:
        The content, and the new base for the registry to note if there is one.
    """
    if base is not None and state.base_next_version is not None:
        rows = by_head(dirty.rows_since_base(connection, state.base_next_version))
        return builder.delta(base, rows, Facts.of(connection, state)), None
    content = builder.base(connection, state)
    return content, Base(content.base.sha256, state.changes, state.next_version, now_s)


def has_outgrown(
    connection: Connection,
    state: queries.State,
    base: KeyringDescription,
    *,
    delta: KeyringDescription | None,
    now_s: int,
    compaction: Compaction,
) -> bool:
    """Tell whether it is time for a new base: the delta on this one is too large or too old, or of other peppers.

    Args:
        connection: one state of the registry.
        state: of the same transaction.
        base: the registry's.
        delta: that of the publication before.
        now_s: seconds since 1970.
        compaction: where the limits are.
    """
    if base.peppers != state.peppers or state.base_next_version is None:
        return True
    if state.base_at is not None and now_s - state.base_at > compaction.age_s:
        return True
    if delta is not None and delta.bytes > compaction.bytes_max:
        return True
    if not state.pending_changes and state.hold is None:  # the delta is what it would be
        return delta is not None and delta.records > compaction.records_max(base)
    most = compaction.records_max(base) - (state.next_version - state.base_next_version)
    return most < 0 or dirty.count_rewritten(connection, state.base_next_version, most + 1) > most


def by_head(pages: Iterable[Iterable[tuple[bytes, bytes]]]) -> dict[bytes, bytes]:
    """Gather pages of (tag, record) by tag head."""
    return {tag[:HEAD_BYTES]: record for page in pages for tag, record in page}


def bits_of(switches: bytes) -> Iterator[int]:
    """Yield the places of the bits that are set, ascending: in client switches, the clients that are off."""
    for found in _NOT_ZERO.finditer(switches):
        byte = found[0][0]
        yield from (8 * found.start() + bit for bit in range(8) if byte >> bit & 1)


def check_present(store: Store, keyring: KeyringDescription, revision: int) -> Path:
    """Return where a keyring of a publication lies, after a look at its size.

    Raises:
        NotFound: it is missing.
        UnsoundPublication: it has another size.
    """
    path = store.keyring_path(keyring.sha256)
    if not path.is_file():
        raise NotFound(f"keyring {path.name} of revision {revision} is not in the store")
    if path.stat().st_size != keyring.bytes:
        raise UnsoundPublication(f"keyring {path.name} has not {keyring.bytes} bytes", code="BAD_DIGEST")
    return path
