"""Building a new base while others go on publishing.

A base of ten million keys takes many seconds, and a revocation must not wait for it. So it is built without the
publisher's lock, from one state of the registry, in a folder of its own. What takes the lock afterwards is like any
other publication: of this base, with a delta of what changed since that state. If the base is of no use by then - other
peppers, another base, a rollback - it is thrown away.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from verifier.control import tombstoning
from verifier.control.acting import Actor
from verifier.control.building import Builder, Compaction, Content, Facts, Rows, by_head, check_present, has_outgrown
from verifier.control.committing import Origin, Work, incomparable, keyrings_of
from verifier.control.comparing import Difference, Keyrings, compare
from verifier.control.holding import opened
from verifier.control.pointwise import Activities, Outlook, Side, compare_on_base
from verifier.control.progress import Progress
from verifier.errors import NotFound, UnsoundPublication
from verifier.keyring.description import KeyringDescription
from verifier.registry import dirty, queries, tombstones
from verifier.registry.database import Registry
from verifier.registry.intents import Base
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, TombstoneFile
from verifier.store.secrets import Secrets
from verifier.store.signing import Trust
from verifier.store.tombstones import write_set
from verifier.store.workshop import workshop

_SAME = ("store_id", "peppers", "hold", "base_sha256", "base_changes", "base_next_version", "base_at")


@dataclass(frozen=True, slots=True)
class Ready:
    """A base that was built and is not published yet.

    Attributes:
        folder: where it lies.
        state: of the registry when its records were read.
        before: the publication that was current then.
        base: the base.
        tombstones: all of then in one file; None if there was none.
        difference: from that publication to the base alone.
        at_s: when its records were read, seconds since 1970.
    """

    folder: Path
    state: queries.State
    before: Manifest
    base: KeyringDescription
    tombstones: TombstoneFile | None
    difference: Difference
    at_s: int

    def fits(self, origin: Origin) -> bool:
        """Tell whether a delta on it can still say all that changed since."""
        then, now = self.state, origin.state
        return (
            all(getattr(then, name) == getattr(now, name) for name in _SAME)
            and (then.changes, then.next_version) <= (now.changes, now.next_version)
            and origin.manifest is not None
            and origin.manifest.base.sha256 == then.base_sha256
        )

    def noted(self) -> Base:
        """Return what the registry notes of it."""
        return Base(self.base.sha256, self.state.changes, self.state.next_version, self.at_s)

    def move(self, folder: Path) -> None:
        """Move its files to where a publisher builds; under the publisher's lock."""
        names = [f"{self.base.sha256}.mdb", *([self.tombstones.sha256] if self.tombstones else [])]
        for name in names:
            (self.folder / name).replace(folder / name)

    def content(self, builder: Builder, connection: Connection, state: queries.State) -> Content:
        """Build the delta of what changed since; the base lies where the builder builds."""
        rows = by_head(dirty.rows_since(connection, self.state.changes, self.state.next_version))
        content = builder.delta(self.base, rows, Facts.of(connection, state))
        return replace(content, new=(self.base, *content.new))

    def write_tombstones(
        self, connection: Connection, store: Store, previous: Manifest, building: Path
    ) -> tuple[TombstoneFile, ...]:
        """Write the file of the tombstones that came since."""
        later = [file for file in previous.tombstones if file not in self.before.tombstones]
        return tombstoning.write_later(connection, store, building, self.tombstones, later)


@contextmanager
def prepared(
    home: Home,
    *,
    registry: Registry,
    actor: Actor | None = None,
    rebase: bool = False,
    compaction: Compaction | None = None,
    allow_drop: bool = False,
    progress: Progress,
    now_s: int | None = None,
) -> Iterator[Ready | None]:
    """Build a base if it is time for one, without the publisher's lock.

    Args:
        home: the ``--store`` folder.
        registry: its registry.
        actor: who publishes.
        rebase: build one, whatever the size of the delta.
        compaction: otherwise, when it is time.
        allow_drop: even if the current publication cannot be compared with.
        progress: told how far it is.
        now_s: seconds since 1970; the clock's when None.

    Yields:
        The base; None if it is not time, and where only a publisher under its lock can tell what to do: there is no
        publication, the store is held, the registry has no base, or has other peppers than it.

    Raises:
        Unavailable: the disk or the database refused.
        UnsoundPublication: the current publication cannot be compared with.
    """
    moment = int(time.time()) if now_s is None else now_s
    store, secrets = Store(home.store), Secrets(home.secrets)
    trust, peppers = secrets.trust(), secrets.peppers()
    with registry.read() as connection:
        manifest = _due(connection, store, trust, rebase=rebase, compaction=compaction or Compaction(), now_s=moment)
    if manifest is None:
        yield None
        return
    tombstoning.unite(registry, store, manifest, peppers, rebase=True, actor=actor, now_s=now_s)
    with workshop(store) as folder:
        yield _built(registry, Builder(store, folder, progress), trust, moment, allow_drop=allow_drop)


def outlook_of(
    work: Work,
    origin: Origin,
    ready: Ready,
    *,
    content: Content,
    on_old: Rows,
    activity: Activities,
    examples_max: int,
    dormant: bool,
) -> Outlook:
    """Say what callers notice of a publication on a base that is ready; costs what changed since either base.

    Args:
        work: the publication.
        origin: what it starts from.
        ready: the base.
        content: with the delta on it.
        on_old: the records of the delta that would say the same on the base before.
        activity: counts a client's versions.
        examples_max: how many changes to name.
        dormant: count as widened what is not active, too.
    """
    before = origin.manifest
    assert before is not None
    numbers = replace(before, records=ready.difference.after_records, active=ready.difference.after_active,
                      dead_on_arrival=ready.difference.dead_on_arrival)  # fmt: skip
    with opened(work.builder, Content(before.base, before.delta)) as old, opened(work.builder, content) as new:
        seen = compare_on_base(
            old, Side(old.base, on_old, new.switches), before, work.now_s, activity, examples_max=examples_max,
            dormant=dormant,
        )  # fmt: skip
        alone = Side(new.base, {}, new.base.switch_bytes())
        counted = compare_on_base(alone, new, numbers, work.now_s, activity)
    difference = replace(
        seen.difference, after_active=counted.difference.after_active, after_records=counted.records,
        dead_on_arrival=counted.difference.dead_on_arrival,
    )  # fmt: skip
    return Outlook(difference, counted.records, seen.lost, effective=True, switched_off=seen.switched_off)


def _built(registry: Registry, builder: Builder, trust: Trust, now_s: int, *, allow_drop: bool) -> Ready | None:
    store = builder.store
    with registry.read() as connection:
        state = queries.state(connection)
        manifest = _current(store, trust, state)
        if manifest is None:
            return None
        base = builder.base(connection, state).base
        whole = write_set(builder.folder, tombstones.ascending(connection))
    built = Keyrings(builder.folder / f"{base.sha256}.mdb")
    try:
        difference = compare(keyrings_of(store, manifest), built, now_s, progress=builder.progress)
    except (UnsoundPublication, NotFound) as error:
        if not allow_drop:
            raise incomparable(error) from error
        difference = compare(None, built, now_s, progress=builder.progress)
    return Ready(builder.folder, state, manifest, base, whole, difference, now_s)


def _due(
    connection: Connection, store: Store, trust: Trust, *, rebase: bool, compaction: Compaction, now_s: int
) -> Manifest | None:
    """Return the current publication if a base can be built beside it, and it is time for one."""
    state = queries.state(connection)
    manifest = _current(store, trust, state)
    if manifest is None or rebase:
        return manifest
    if manifest.delta is None and not state.pending_changes:
        return None
    outgrown = has_outgrown(
        connection, state, manifest.base, delta=manifest.delta, now_s=now_s, compaction=compaction
    )  # fmt: skip
    return manifest if outgrown else None


def _current(store: Store, trust: Trust, state: queries.State) -> Manifest | None:
    """Return the publication that the registry noted last, if it is of the registry's base and peppers."""
    if not state.last_revision or state.hold is not None or state.base_changes is None:
        return None
    try:
        manifest = store.publication(state.last_revision, trust)
        check_present(store, manifest.base, manifest.revision)
    except (NotFound, UnsoundPublication):
        return None
    same = (manifest.store_id, manifest.base.sha256, manifest.base.peppers)
    return manifest if same == (state.store_id, state.base_sha256, state.peppers) else None
