"""Tombstones on their way from the registry to a publication: the set of each holds that of the one before.

A publisher calls :func:`unite` before it reads the registry, then :func:`write_files` with what it reads, and
:func:`install` before the manifest. So neither a registry that lost a tombstone nor one that thinks a compromised
version alive can bring that version back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection

from verifier._tagset import contains, first_missing, relayered
from verifier.control.acting import Act, Actor, acting
from verifier.control.lifecycle import with_version
from verifier.control.rekeying import pepper_values
from verifier.control.saving import save
from verifier.registry import queries, tombstones
from verifier.registry.database import Registry
from verifier.registry.facts import Version
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, TombstoneFile
from verifier.store.tombstones import Tombstone, read_set, read_tags, write_set
from verifier.store.writer import Publisher
from verifier.vocabulary import RevocationReason

MANY = 1000

Peppers = Mapping[str, bytes]


def unite(
    registry: Registry,
    store: Store,
    previous: Manifest | None,
    peppers: Peppers,
    *,
    rebase: bool,
    actor: Actor | None = None,
    now_s: int | None = None,
) -> int:
    """Bring the registry up to the tombstones of the current publication, and its versions up to its tombstones.

    Where nobody meddled with the registry, nothing is missing and nothing is written.

    Args:
        registry: the registry.
        store: where the files of ``previous`` lie.
        previous: the current publication; None when there is none, or when it is too damaged to be looked at.
        peppers: all that are held, by id.
        rebase: look at all versions, as a new base needs; False looks at those that a delta would hold.
        actor: who publishes.
        now_s: when.

    Returns:
        How many tombstones and versions were put right.

    Raises:
        UnsoundPublication: a file of ``previous`` is missing or damaged.
    """
    with registry.read() as connection:
        layers = layers_between(previous, queries.state(connection).peppers, peppers)
        files = _to_compare(connection, previous, all_of_them=rebase or bool(layers))
        missing = [entry for file in files for entry in _missing(connection, store, file, layers)]
        resurrected = tombstones.resurrected(connection, delta_only=not rebase)
    if not missing and not resurrected:
        return 0
    with acting(registry, actor, now_s) as act:
        return sum(enforce(act, missing))


def enforce(act: Act, missing: Iterable[Tombstone] = ()) -> tuple[int, int]:
    """Add tombstones, and revoke every version that has one; return how many of each were put right."""
    added, revoked = put_right(act, missing)
    if added or revoked:
        act.audit("tombstones.enforced", added=added, revoked=revoked)
    return added, revoked


def put_right(act: Act, missing: Iterable[Tombstone]) -> tuple[int, int]:
    """Do as :func:`enforce`; whoever calls tells of it."""
    added = tombstones.add(act.connection, missing)
    alive = tombstones.resurrected(act.connection)
    for key_id, ordinals in tombstones.keys_of(act.connection, alive).items():
        key = queries.find_key(act.connection, key_id)
        dead = [_compromised(version, act.now_s) for version in key.versions if version.ordinal in ordinals]
        save(act, key, with_version(key, *dead))
    return added, len(alive)


def write_files(
    connection: Connection, store: Store, previous: Manifest | None, building: Path, *, rebase: bool
) -> tuple[TombstoneFile, ...]:
    """Write the files that the next manifest names, as far as they are not in the store already.

    Args:
        connection: a transaction on the registry: the one that the records are read in.
        store: where the files of ``previous`` lie.
        previous: the current publication; None when there is none, or when it is too damaged to be looked at.
        building: where new files are written, under the name that they have in the store.
        rebase: merge everything into one file; False leaves the first file of ``previous`` as it is.

    Raises:
        UnsoundPublication: a file of ``previous`` is missing or damaged.
    """
    state = queries.state(connection)
    # Without a base, as after reconciling, the registry cannot tell what is new in it.
    if rebase or state.base_next_version is None or previous is None or previous.base.peppers != state.peppers:
        whole = write_set(building, tombstones.ascending(connection))
        return () if whole is None else (whole,)
    first = previous.tombstones[0] if previous.tombstones else None
    return write_later(connection, store, building, first, previous.tombstones[1:])


def write_later(
    connection: Connection, store: Store, building: Path, first: TombstoneFile | None, later: Iterable[TombstoneFile]
) -> tuple[TombstoneFile, ...]:
    """Write the file of the tombstones that a first file lacks; return both, as far as there are any.

    Args:
        connection: a transaction on the registry.
        store: where the files of ``later`` lie.
        building: where the new file is written; ``first`` may lie there, too.
        first: a file that is left as it is.
        later: files of the publication before whose entries are taken over.

    Raises:
        UnsoundPublication: a file is missing or damaged.
    """
    entries = {entry.tag: entry for entry in tombstones.since_base(connection)}
    for file in later:
        entries.update((entry.tag, entry) for entry in read_set(store.tombstone_path(file.sha256), file))
    there = b""
    if first is not None:
        built = building / first.sha256
        there = _tags_of(built if built.exists() else store.tombstone_path(first.sha256), first)
    added = write_set(building, [entries[tag] for tag in sorted(entries) if not contains(there, tag)])
    return tuple(file for file in (first, added) if file is not None)


def install(publisher: Publisher, files: Iterable[TombstoneFile]) -> None:
    """Move the files that :func:`write_files` wrote to their place, durably."""
    for file in files:
        built = publisher.building / file.sha256
        if built.exists():
            publisher.add_tombstones(built, file.sha256)


def layers_between(previous: Manifest | None, peppers: Sequence[str], held: Peppers) -> list[bytes]:
    """Return the peppers that were laid over those of a publication since; none if the registry has quite others.

    Raises:
        Conflict: one of them is not held (``PEPPER_MISSING``).
    """
    before = () if previous is None else previous.base.peppers
    if previous is None or tuple(peppers[: len(before)]) != before:
        return []
    return pepper_values(peppers[len(before) :], held)


def translated(entries: Iterable[Tombstone], layers: Sequence[bytes]) -> Iterator[Tombstone]:
    """Yield tombstones with their tags under further peppers."""
    for entry in entries:
        yield replace(entry, tag=relayered(entry.tag, layers)) if layers else entry


def _to_compare(connection: Connection, previous: Manifest | None, *, all_of_them: bool) -> tuple[TombstoneFile, ...]:
    """Choose the files that may hold what the registry lacks: a large one of a base was compared when it was made."""
    files = previous.tombstones if previous is not None else ()
    lacking = tombstones.count(connection) < max((file.count for file in files), default=0)
    if all_of_them or lacking:
        return files
    return tuple(file for place, file in enumerate(files) if place or file.count <= MANY)


def _missing(
    connection: Connection, store: Store, file: TombstoneFile, layers: Sequence[bytes]
) -> Iterator[Tombstone]:
    """Yield the tombstones of a file that the registry does not know."""
    path = store.tombstone_path(file.sha256)
    if file.count > MANY and not layers:
        known_tags = b"".join(tombstones.tags(connection))
        if first_missing(read_tags(path, file), [known_tags]) < 0:
            return
    entries = translated(read_set(path, file), layers)
    while part := list(islice(entries, MANY)):
        known = tombstones.known(connection, [entry.tag for entry in part])
        yield from (entry for entry in part if entry.tag not in known)


def _compromised(version: Version, now_s: int) -> Version:
    revoked_at = now_s if version.revoked_at is None else version.revoked_at
    return replace(version, revoked_at=revoked_at, reason=RevocationReason.KEY_COMPROMISE)


@lru_cache(maxsize=2)
def _tags_of(path: Path, file: TombstoneFile) -> bytes:
    """Read a file's tags once per process: it is named by its content."""
    return read_tags(path, file)
