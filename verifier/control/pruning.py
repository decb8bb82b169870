"""Retention: old publications leave the store, and versions that ended long ago leave the next base.

What anybody may still need stays: the current publication, the base before it, what the store is held at, and the base
that the next delta is for. Nodes serve from memory of their own, so a file that goes is missed by none of them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, exists, or_, select

from verifier.control.acting import SCHEDULE, Act, Actor, acting
from verifier.control.clockwork import PAUSE_S, Begin
from verifier.control.lifecycle import effective_end
from verifier.errors import Conflict, InvalidInput, NotFound, UnsoundPublication
from verifier.registry import bases, queries, schema
from verifier.registry.database import Registry, open_registry
from verifier.registry.facts import Key, Version
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest
from verifier.store.writer import Publisher
from verifier.vocabulary import RevocationReason

DAY_S = 86_400
KEEP = 100
KEEP_FOR_S = 30 * DAY_S
VERSIONS_OLDER_THAN_S = 400 * DAY_S
VERSIONS_OLDER_THAN_MIN_S = 90 * DAY_S
AT_ONCE = 500
KEYS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Pruned:
    """What left the store, or would.

    Attributes:
        revisions: the publications.
        files: names of keyrings and tombstones that nothing names any more.
        bytes: of these files.
        kept: how many publications stay.
        unreadable: publications that cannot be read. As long as there is one, no keyring and no tombstones go.
    """

    revisions: tuple[int, ...]
    files: tuple[str, ...]
    bytes: int
    kept: int
    unreadable: tuple[int, ...] = ()


def prune(
    home: Home,
    keep: int = KEEP,
    keep_for_s: int = KEEP_FOR_S,
    *,
    dry_run: bool = False,
    registry: Registry | None = None,
    actor: Actor | None = None,
    now_s: int | None = None,
) -> Pruned:
    """Remove publications that are neither among the newest nor young, and files that none of the others names.

    Args:
        home: the ``--store`` folder.
        keep: so many of the newest stay, at least 1.
        keep_for_s: those published within so many seconds stay.
        dry_run: remove nothing; tell what would go.
        registry: the folder's, if it is open already.
        actor: who asks; the user of this process when None.
        now_s: seconds since 1970; the clock's when None.

    Raises:
        InvalidInput: fewer than one publication, or less than no time, is to be kept.
        Conflict: another publisher is at work (``PUBLISHER_BUSY``).
    """
    if keep < 1 or keep_for_s < 0:
        raise InvalidInput("at least one publication is kept, and those of at least 0 seconds")
    if registry is None:
        with open_registry(home) as opened:
            return prune(home, keep, keep_for_s, dry_run=dry_run, registry=opened, actor=actor, now_s=now_s)
    store = Store(home.store)
    moment = int(time.time()) if now_s is None else now_s
    if dry_run:
        return _plan(store, registry, keep, moment - keep_for_s)[0]
    with Publisher(store) as publisher:
        plan, files = _plan(store, registry, keep, moment - keep_for_s)
        for revision in plan.revisions:
            publisher.remove_publication(revision)
        publisher.remove_files(files)
    if plan.revisions or files:
        with acting(registry, actor, moment) as act:
            act.audit(
                "publications.prune", publications=len(plan.revisions), files=len(plan.files), bytes=plan.bytes,
                oldest_kept=min(set(store.revisions()), default=None),
            )  # fmt: skip
    return plan


def _plan(store: Store, registry: Registry, keep: int, young_from: int) -> tuple[Pruned, list[Path]]:
    current, revisions = store.current() or 0, store.revisions()
    manifests = {revision: _manifest(store, revision) for revision in revisions}
    with registry.read() as connection:
        state = queries.state(connection)
    published = [revision for revision in revisions if revision <= current]
    needed = set(published[-keep:]) | {state.hold, state.held_since}
    needed |= set(_bases(manifests, published, state.base_sha256))
    needed |= {revision for revision, manifest in manifests.items() if manifest is None or revision > current}
    needed |= {
        revision for revision in published
        if (manifest := manifests[revision]) is not None and manifest.published_at >= young_from
    }  # fmt: skip
    # Whoever goes back to a held one is given what it held.
    needed |= {found.content_of for revision in needed if revision is not None and (found := manifests.get(revision))}
    gone = tuple(revision for revision in published if revision not in needed)
    stay = [revision for revision in revisions if revision not in gone]
    unreadable = tuple(revision for revision in revisions if manifests[revision] is None)
    paths = [] if unreadable else _unnamed(store, [manifests[revision] for revision in stay], state.base_sha256)
    size = sum(path.stat().st_size for path in paths)
    return Pruned(gone, tuple(path.name for path in paths), size, len(stay), unreadable), paths


def _manifest(store: Store, revision: int) -> Manifest | None:
    try:
        return Manifest.from_bytes(store.manifest_bytes(revision))
    except (UnsoundPublication, NotFound):
        return None


def _bases(
    manifests: dict[int, Manifest | None], published: Sequence[int], registry_base: str | None
) -> Iterator[int]:
    """Yield the current publication's revision, the newest one on another base, and the newest on the registry's."""
    if not published:
        return
    current = manifests[published[-1]]
    yield published[-1]
    newest_first = [(revision, found) for revision in reversed(published) if (found := manifests[revision]) is not None]
    yield from [r for r, found in newest_first if current is not None and found.base.sha256 != current.base.sha256][:1]
    yield from [r for r, found in newest_first if found.base.sha256 == registry_base][:1]


def _unnamed(store: Store, manifests: Sequence[Manifest | None], registry_base: str | None) -> list[Path]:
    named = {registry_base}
    for manifest in manifests:
        if manifest is not None:
            named |= {keyring.sha256 for keyring in manifest.keyrings}
            named |= {file.sha256 for file in manifest.tombstones}
    return [path for path in store.files() if path.stem not in named]


# --- Versions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrunedVersions:
    """How much left the registry.

    Attributes:
        versions: versions that ended long ago.
        keys: keys of which no version is left.
    """

    versions: int
    keys: int


def prune_in_parts(
    registry: Registry, begin: Begin, older_than_s: int = VERSIONS_OLDER_THAN_S,
    pause: Callable[[float], None] = time.sleep, now_s: int | None = None,
) -> PrunedVersions:  # fmt: skip
    """Remove versions that ended long ago, as :func:`prune_versions`, and let others write in between.

    Does nothing while the store is held after a rollback.

    Args:
        registry: where.
        begin: begins an act there.
        older_than_s: as there.
        pause: lets others in.
        now_s: when, in seconds since 1970; the clock's when None.
    """
    moment = int(time.time()) if now_s is None else now_s
    with registry.read() as connection:
        if queries.state(connection).hold is not None:
            return PrunedVersions(0, 0)
        candidates = _candidates(connection, moment - older_than_s)
    versions = keys = 0
    for start in range(0, len(candidates), KEYS_AT_ONCE):
        with begin(SCHEDULE, moment) as act:
            done = prune_versions(act, older_than_s, candidates[start : start + KEYS_AT_ONCE])
        versions, keys = versions + done.versions, keys + done.keys
        pause(PAUSE_S)
    return PrunedVersions(versions, keys)


def prune_versions(
    act: Act, older_than_s: int = VERSIONS_OLDER_THAN_S, among: Sequence[int] | None = None
) -> PrunedVersions:
    """Remove versions that ended long ago: the next publication has a new base, in which their tokens are unknown.

    Compromised versions stay for ever; so do versions that others name as their successor, and those that differ from
    the published base, since only their record of now keeps the base's from counting.

    Args:
        act: who asks, and when.
        older_than_s: how long ago they were revoked or ended, in seconds; at least 90 days.
        among: ordinals of the keys to look at; None for all that have a version which is over.

    Raises:
        InvalidInput: that is less than 90 days (``TOO_YOUNG``).
        Conflict: the store is held after a rollback (``HELD``).
    """
    if older_than_s < VERSIONS_OLDER_THAN_MIN_S:
        raise InvalidInput("versions stay for at least 90 days after their end", code="TOO_YOUNG")
    if queries.state(act.connection).hold is not None:
        raise Conflict(
            "the store is held after a rollback", hint="end that first: verifier publish --resume", code="HELD"
        )
    cutoff_s = act.now_s - older_than_s
    versions = keys = 0
    candidates = _candidates(act.connection, cutoff_s) if among is None else among
    for start in range(0, len(candidates), AT_ONCE):
        found = queries.keys_at(act.connection, candidates[start : start + AT_ONCE])
        fixed = _differing(act, [version.ordinal for key in found for version in key.versions])
        gone = {key.ordinal: prunable(key, cutoff_s, fixed) for key in found}
        empty = [key.ordinal for key in found if len(gone[key.ordinal]) == len(key.versions)]
        _remove(act, [version.ordinal for each in gone.values() for version in each], empty)
        versions, keys = versions + sum(map(len, gone.values())), keys + len(empty)
    if versions:
        # A delta on a base that still holds them would not do: a rollback would revive what nobody can revoke any more,
        # and reconciling would take what such a record says of its key for what was published last.
        bases.forget(act.connection)
        act.audit("versions.prune", versions=versions, keys=keys, ended_before=cutoff_s)
    return PrunedVersions(versions, keys)


def prunable(key: Key, cutoff_s: int, fixed: frozenset[int] | set[int] = frozenset()) -> list[Version]:
    """Return the versions of a key that may go: all of them, or those that no other one that stays names.

    Args:
        key: with all its versions.
        cutoff_s: they were revoked, or ended, at this second or before.
        fixed: ordinals of versions that must stay.
    """
    old = [version for version in key.versions if _is_over(key, version, cutoff_s) and version.ordinal not in fixed]
    if len(old) == len(key.versions):
        return old
    gone: list[Version] = []
    while True:
        stay = [version for version in key.versions if version not in gone]
        named = {version.superseded_by for version in stay}
        more = [v for v in old if v not in gone and v.number not in named and v.superseded_at is not None]
        if not more:
            return gone
        gone += more


def _is_over(key: Key, version: Version, cutoff_s: int) -> bool:
    if version.reason is RevocationReason.KEY_COMPROMISE:
        return False
    end = effective_end(key, version)
    ends = [moment for moment in (end, version.revoked_at) if moment is not None]
    return bool(ends) and min(ends) <= cutoff_s


def _candidates(connection: Connection, cutoff_s: int) -> list[int]:
    """Return the ordinals of keys that have a version which is over."""
    v, k = schema.versions.c, schema.keys.c
    ends = [moment <= cutoff_s for moment in (v.revoked_at, v.expires_at, v.retire_at)]
    over = exists().where(v.key_ordinal == k.ordinal, or_(*ends))
    query = select(k.ordinal).where(or_(k.expires_at <= cutoff_s, over)).order_by(k.ordinal)
    return list(connection.scalars(query))


def _differing(act: Act, ordinals: Sequence[int]) -> set[int]:
    """Return those of the versions whose record is in the delta, not as it is in the base."""
    d = schema.dirty.c.version_ordinal
    found: set[int] = set()
    for start in range(0, len(ordinals), AT_ONCE):
        found.update(act.connection.scalars(select(d).where(d.in_(ordinals[start : start + AT_ONCE]))))
    return found


def _remove(act: Act, versions: Sequence[int], keys: Sequence[int]) -> None:
    tables = (schema.usage, schema.usage_hours, schema.usage_addresses)
    for start in range(0, len(versions), AT_ONCE):
        part = versions[start : start + AT_ONCE]
        for table in tables:
            act.connection.execute(delete(table).where(table.c.version_ordinal.in_(part)))
        act.connection.execute(delete(schema.versions).where(schema.versions.c.ordinal.in_(part)))
    for start in range(0, len(keys), AT_ONCE):
        part = keys[start : start + AT_ONCE]
        act.connection.execute(delete(schema.keys).where(schema.keys.c.ordinal.in_(part)))
