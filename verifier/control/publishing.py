"""Publishing: from the registry to a signed publication that nodes take up.

Usually a publication is the base that nodes have already, and a delta of what changed since: what it costs depends on
the changes and not on the number of keys. A new base is built when there is none, when the delta has outgrown it, or
when somebody asks; in the last two cases while others go on publishing. While the store is held after a rollback, only
denials and new keys are published.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from verifier import __version__
from verifier.control import compacting, holding, tombstoning
from verifier.control.acting import Actor
from verifier.control.building import NO_COMPACTION, Compaction, Content, by_head, has_outgrown, of_registry
from verifier.control.committing import Origin, Work, incomparable, is_whole, keyrings_of, working
from verifier.control.compacting import Ready
from verifier.control.comparing import Difference, compare
from verifier.control.drafts import Draft, DropGuard, Receipt, Wish
from verifier.control.holding import Hold, opened
from verifier.control.pointwise import Outlook, compare_on_base
from verifier.control.progress import Progress, silent
from verifier.errors import Conflict, NotFound, UnsoundPublication
from verifier.registry import activity, dirty, queries
from verifier.registry.activity import Activity
from verifier.registry.database import Registry, open_registry
from verifier.registry.intents import Outcome
from verifier.store.home import Home
from verifier.store.manifest import Manifest
from verifier.store.signing import signer_of

__all__ = ["Compaction", "DropGuard", "Receipt", "compact", "keyrings_of", "publish"]

PATIENCE_S = 60.0  # how long a base that is ready waits for other publishers
PAUSE_S = 0.02


def publish(
    home: Home,
    *,
    registry: Registry | None = None,
    actor: Actor | None = None,
    resume: bool = False,
    held_ok: bool = False,
    rebase: bool = False,
    compaction: Compaction | None = None,
    ready: Ready | None = None,
    allow_drop: bool = False,
    allow_clock_back: bool = False,
    guard: DropGuard | None = None,
    dry_run: bool = False,
    examples_max: int = 0,
    progress: Progress = silent,
    now_s: int | None = None,
) -> Receipt:
    """Publish what the registry says now, unless that is what is published already, and signed with the present key.

    Args:
        home: the ``--store`` folder.
        registry: the folder's, if it is open already: a process that publishes often saves most of the time so.
        actor: who publishes; the user of this process when None.
        resume: end a hold, and publish the registry again.
        held_ok: while the store is held, publish denials and new keys; without it that is refused. Commands that change
            something say so, as what they did shall be served.
        rebase: build a new base, whatever the size of the delta. If somebody else builds one meanwhile, that will do.
        compaction: when to build one by itself.
        ready: a base of :func:`verifier.control.compacting.prepared`; None: it is built here, if it is time for one.
        allow_drop: publish even if many active keys are lost, or if the publication before cannot be compared with.
        allow_clock_back: publish even if the clock is behind the publication before.
        guard: how many active keys may be lost without ``allow_drop``.
        dry_run: change nothing; tell what would be published.
        examples_max: how many changes to name.
        progress: called with a stage, how much of it is done, and how much there is.
        now_s: the time of the publication, seconds since 1970; the clock's when None.

    Raises:
        Conflict: ``PUBLISHER_BUSY``, ``REGISTRY_BEHIND``, ``STORE_BEHIND``, ``OTHER_STORE``, ``HELD``, ``DROP_GUARD``,
            ``CLOCK_BACK`` or ``NOT_TRUSTED``; nothing was published.
        Unavailable: the disk or the database refused.
        UnsoundPublication: what was built, or the publication before, is not sound.
    """
    if registry is None:
        with open_registry(home) as opened_here:
            return publish(
                home, registry=opened_here, actor=actor, resume=resume, held_ok=held_ok, rebase=rebase,
                compaction=compaction, ready=ready, allow_drop=allow_drop, allow_clock_back=allow_clock_back,
                guard=guard, dry_run=dry_run, examples_max=examples_max, progress=progress, now_s=now_s,
            )  # fmt: skip
    limits = compaction or Compaction()
    with ExitStack() as stack:
        if ready is None and not dry_run and (rebase or limits != NO_COMPACTION):
            ready = stack.enter_context(compacting.prepared(
                home, registry=registry, actor=actor, rebase=rebase, compaction=limits, allow_drop=allow_drop,
                progress=progress, now_s=now_s,
            ))  # fmt: skip
        work = _begun(stack, lambda: working(home, registry=registry, actor=actor, now_s=now_s, progress=progress),
                      patience_s=PATIENCE_S if ready else 0.0)  # fmt: skip
        origin = work.origin(go_on=allow_drop)
        work.check_clock(origin, allow_back=allow_clock_back)
        wish = Wish(
            allow_drop=allow_drop, allow_clock_back=allow_clock_back, guard=guard or DropGuard(), dry_run=dry_run,
            examples_max=examples_max, resign=_is_signed_otherwise(work, origin),
        )  # fmt: skip
        held = origin.state.hold is not None
        if held and not resume and not held_ok:
            raise _is_held(origin.state)
        if not (rebase or ready or wish.resign or (held and resume)) and _nothing_to_do(work, origin):
            assert origin.manifest is not None
            return Receipt(origin.manifest, False, Difference())
        if held and not resume:
            return conclude(work, origin, _held(work, origin, dry_run=dry_run), wish)
        if ready is not None and ready.fits(origin):
            draft = _of_ready(work, origin, ready)
        else:
            draft = of_now(work, origin, limits, rebase=rebase and ready is None, dry_run=dry_run)
        return conclude(work, origin, replace(draft, action="publication.resume") if held else draft, wish)


def compact(
    home: Home,
    *,
    registry: Registry | None = None,
    actor: Actor | None = None,
    compaction: Compaction | None = None,
    alone: AbstractContextManager[object] | None = None,
    progress: Progress = silent,
    now_s: int | None = None,
) -> Receipt | None:
    """Publish a new base if the delta has outgrown the present one; others publish while it is built.

    What others recorded by then is published with it, as with any publication.

    Args:
        home: the ``--store`` folder.
        registry: the folder's, if it is open already.
        actor: who does it; the user of this process when None.
        compaction: when it is time.
        alone: entered for the publication itself: keeps others of this process from publishing.
        progress: told how far it is.
        now_s: the time of the publication, seconds since 1970; the clock's when None.

    Returns:
        None if it is not time, or the store is held or has no publication.

    Raises:
        VerifierError: as :func:`publish`.
    """
    if registry is None:
        with open_registry(home) as opened_here:
            return compact(home, registry=opened_here, actor=actor, compaction=compaction, alone=alone,
                           progress=progress, now_s=now_s)  # fmt: skip
    with compacting.prepared(
        home, registry=registry, actor=actor, compaction=compaction, progress=progress, now_s=now_s
    ) as ready:
        if ready is None:
            return None
        with alone or nullcontext():
            return publish(home, registry=registry, actor=actor, held_ok=True, compaction=NO_COMPACTION, ready=ready,
                           progress=progress, now_s=now_s)  # fmt: skip


def _begun(stack: ExitStack, begin: Callable[[], AbstractContextManager[Work]], *, patience_s: float) -> Work:
    """Begin the work; wait for other publishers, if what is at stake took long."""
    last = time.monotonic() + patience_s
    while True:
        try:
            return stack.enter_context(begin())
        except Conflict as error:
            if error.code != "PUBLISHER_BUSY" or time.monotonic() >= last:
                raise
        time.sleep(PAUSE_S)


def _of_ready(work: Work, origin: Origin, ready: Ready) -> Draft:
    """Build what the registry says, on a base that was built before."""
    assert origin.manifest is not None and ready.state.base_next_version is not None
    _unite(work, origin, rebase=False)
    ready.move(work.builder.folder)
    with work.registry.read() as connection:
        state = _same_revision(queries.state(connection), origin)
        content = ready.content(work.builder, connection, state)
        tombstones = ready.write_tombstones(connection, work.store, origin.manifest, work.builder.folder)
        on_old = by_head(dirty.rows_since_base(connection, ready.state.base_next_version))
    return Draft(state=state, content=content, tombstones=tombstones, base=ready.noted(), ready=ready, on_old=on_old)


def of_now(work: Work, origin: Origin, compaction: Compaction, *, rebase: bool, dry_run: bool) -> Draft:
    """Build what the registry says, on its base if that will do."""
    base = work.registry_base(origin)
    with work.registry.read() as connection:
        delta = origin.manifest.delta if origin.manifest else None
        if (
            base is None
            or rebase
            or has_outgrown(connection, origin.state, base, delta=delta, now_s=work.now_s, compaction=compaction)
        ):
            base = None
    if not dry_run:
        _unite(work, origin, rebase=base is None)
    with work.registry.read() as connection:
        state = _same_revision(queries.state(connection), origin)
        content, noted = of_registry(work.builder, connection, state, base, work.now_s)
        tombstones = tombstoning.write_files(
            connection, work.store, origin.manifest, work.builder.folder, rebase=base is None
        )
    return Draft(state=state, content=content, tombstones=tombstones, base=noted)


def conclude(work: Work, origin: Origin, draft: Draft, wish: Wish) -> Receipt:
    """Compare a draft with what is published, and publish it if anything changed and nothing speaks against it.

    Raises:
        Conflict: ``DROP_GUARD``, or the registry is at another revision by now.
        UnsoundPublication: the publication before cannot be compared with.
    """
    manifest = _manifest(work, origin, draft)
    before = origin.manifest
    anew = wish.resign or _holds_otherwise(origin, draft)
    if before is not None and not anew and manifest.content() == before.content():
        return _unchanged(work, before, draft, wish)
    outlook = _outlook(work, origin, draft, wish)
    if before is not None and not (anew or outlook.effective) and _alike(manifest, before):
        return _unchanged(work, before, draft, wish)
    difference = replace(
        outlook.difference,
        lost_used_24h=outlook.difference.lost_used_24h + _used_lately(work, outlook.lost),
        denials_kept=draft.denials_kept,
    )
    manifest = replace(
        manifest, records=outlook.records, active=difference.after_active, dead_on_arrival=difference.dead_on_arrival
    )
    if wish.dry_run:
        return Receipt(manifest, True, difference)
    manifest = replace(manifest, drop_override=_overrides(work, origin, draft.content, outlook, wish))
    outcome = Outcome(
        next_version=draft.state.next_version, base=draft.base, hold=draft.hold,
        held_since=None if draft.hold is None else draft.held_since or manifest.revision,
        drop_newer=draft.hold is not None and draft.drop_newer, action=draft.action, principal=work.actor.principal,
        request_id=work.actor.request_id, note=work.actor.note, details=_details(manifest, difference, work.key.key_id),
    )  # fmt: skip
    committed = work.commit(origin, manifest, draft.state.changes, outcome)
    return Receipt(manifest, True, difference, committed.at_ms, committed.audit_id)


def _is_signed_otherwise(work: Work, origin: Origin) -> bool:
    """Tell whether the current publication has the signature of a key that is about to be trusted no longer."""
    if origin.manifest is None:
        return False
    return signer_of(work.store.signature(origin.revision)) != work.key.key_id


def _holds_otherwise(origin: Origin, draft: Draft) -> bool:
    """Tell whether the store will be held as the registry does not know yet: that is noted with a publication only."""
    state = origin.state
    return draft.hold is not None and (draft.hold, draft.drop_newer) != (state.hold, state.drop_newer)


def _nothing_to_do(work: Work, origin: Origin) -> bool:
    """Tell, without a look at any record, whether all that was recorded is published."""
    return origin.manifest is not None and not origin.state.pending_changes and is_whole(work.store, origin.manifest)


def _held(work: Work, origin: Origin, *, dry_run: bool) -> Draft:
    """Build what a held store serves now."""
    state, current = origin.state, origin.manifest
    assert state.hold is not None
    then = work.store.publication(state.hold, work.trust)
    hold = Hold(then, state.drop_newer, work.peppers)
    if not dry_run:
        _unite(work, origin, rebase=False)
    content = None
    with work.registry.read() as connection:
        state = _same_revision(queries.state(connection), origin)
        if current is not None and current.held and is_whole(work.store, current):
            content = holding.carry_on(work.builder, connection, state, hold, current)
        if content is None:
            now, _ = of_registry(work.builder, connection, state, work.registry_base(origin), work.now_s)
            content, _ = holding.begin(work.builder, connection, state, hold, now)
        tombstones = tombstoning.write_files(connection, work.store, origin.manifest, work.builder.folder, rebase=False)
    return Draft(
        state=state, content=content, tombstones=tombstones, hold=state.hold, held_since=state.held_since or 0,
        drop_newer=state.drop_newer,
    )  # fmt: skip


def _unite(work: Work, origin: Origin, *, rebase: bool) -> None:
    tombstoning.unite(
        work.registry, work.store, origin.manifest, work.peppers, rebase=rebase, actor=work.actor, now_s=work.now_s
    )


def _same_revision(state: queries.State, origin: Origin) -> queries.State:
    if state.last_revision != origin.revision:
        raise Conflict("the registry changed its revision meanwhile", hint="publish again", code="REGISTRY_BEHIND")
    return state


def _manifest(work: Work, origin: Origin, draft: Draft) -> Manifest:
    """Write the manifest, without what only the comparison tells."""
    revision = work.next_revision(origin)
    return Manifest(
        store_id=draft.state.store_id,
        revision=revision,
        content_of=draft.hold or revision,
        held=draft.hold is not None,
        published_at=work.now_s,
        previous=origin.digest,
        records=0,
        active=0,
        tombstones=draft.tombstones,
        base=draft.content.base,
        delta=draft.content.delta,
        publisher=f"verifier {__version__}",
    )


def _alike(one: Manifest, other: Manifest) -> bool:
    """Tell whether two publications differ in nothing but records that say the same."""
    newest = [manifest.delta or manifest.base for manifest in (one, other)]
    rest = [
        (manifest.base.sha256, manifest.tombstones, manifest.held, manifest.held and manifest.content_of,
         manifest.features, keyring.prefixes, keyring.accepts_foreign)
        for manifest, keyring in zip((one, other), newest, strict=True)
    ]  # fmt: skip
    return rest[0] == rest[1]


def _unchanged(work: Work, current: Manifest, draft: Draft, wish: Wish) -> Receipt:
    """Note that what is published is what the registry says; put files back that were lost."""
    if not wish.dry_run:
        if not is_whole(work.store, current):
            work.install(current)
        if draft.state.pending_changes:
            work.note_unchanged(current.revision, draft.state)
    return Receipt(current, False, Difference())


def _outlook(work: Work, origin: Origin, draft: Draft, wish: Wish) -> Outlook:
    """Say what callers will notice: by what changed if the base stays or was compared before, else by all records."""
    before, content, now_s = origin.manifest, draft.content, work.now_s
    try:
        if draft.ready is not None:
            return compacting.outlook_of(
                work, origin, draft.ready, content=content, on_old=draft.on_old, activity=_activity(work),
                examples_max=wish.examples_max, dormant=wish.dormant,
            )  # fmt: skip
        if before is not None and before.base.sha256 == content.base.sha256 and is_whole(work.store, before):
            with opened(work.builder, Content(before.base, before.delta)) as old, opened(work.builder, content) as new:
                return compare_on_base(old, new, before, now_s, _activity(work), examples_max=wish.examples_max,
                                       dormant=wish.dormant)  # fmt: skip
        lost: list[int] = []
        files = keyrings_of(work.store, before) if before is not None else None
        difference = compare(
            files, work.builder.keyrings(content), now_s, examples_max=wish.examples_max,
            progress=work.builder.progress, lost=lost, dormant=wish.dormant,
        )  # fmt: skip
        return Outlook(difference, difference.after_records, tuple(lost), effective=True)
    except (UnsoundPublication, NotFound) as error:
        if not wish.allow_drop:
            raise incomparable(error) from error
        difference = compare(None, work.builder.keyrings(content), now_s, progress=work.builder.progress)
        return Outlook(difference, difference.after_records, (), effective=True)


def _activity(work: Work) -> "_Activities":
    return _Activities(work.registry, work.now_s)


@dataclass(frozen=True, slots=True)
class _Activities:
    """Counts clients' versions when somebody asks."""

    registry: Registry
    now_s: int

    def __call__(self, client: int) -> Activity:
        with self.registry.read() as connection:
            return activity.of_client(connection, client, self.now_s)


def _used_lately(work: Work, ordinals: tuple[int, ...]) -> int:
    if not ordinals:
        return 0
    with work.registry.read() as connection:
        return activity.count_used_lately(connection, ordinals, work.now_s)


def _overrides(work: Work, origin: Origin, content: Content, outlook: Outlook, wish: Wish) -> bool:
    """Apply the drop guard; tell whether a person overrode it."""
    difference = outlook.difference
    lost, active = difference.lost, difference.before_active
    if origin.manifest is not None and origin.manifest.base.peppers != content.base.peppers:
        lost = max(0, active - difference.after_active)  # other peppers, other tags: only the numbers compare
    if not wish.guard.trips(lost, active):
        return False
    spared = 0
    if wish.guard.spares_denied and not wish.allow_drop:
        ended_by = work.now_s if wish.guard.spares_ended else None
        with work.registry.read() as connection:
            spared = outlook.switched_off + activity.count_denied(connection, outlook.lost, ended_by)
    if not wish.allow_drop and wish.guard.trips(max(0, lost - spared), active):
        raise Conflict(
            f"{lost} of {active} active keys would be refused from now on",
            hint="if that is meant: verifier publish --allow-drop",
            code="DROP_GUARD",
            details={"lost": lost, "active": active, "share": wish.guard.share},
        )
    return True


def _details(manifest: Manifest, difference: Difference, signed_by: str) -> dict[str, Any]:
    """Say in the audit log what was published."""
    return {
        "content_of": manifest.content_of if manifest.held else None, "held": manifest.held or None,
        "records": manifest.records, "base": manifest.base.sha256,
        "delta": manifest.delta.sha256 if manifest.delta else None,
        "drop_override": manifest.drop_override or None, "signed_by": signed_by,
        "difference": {name: number for name, number in difference.counts().items() if number},
    }  # fmt: skip


def _is_held(state: queries.State) -> Conflict:
    return Conflict(
        f"held at {state.hold} since r{state.held_since}",
        hint="verifier publish --resume publishes the registry again",
        code="HELD",
        details={"hold": state.hold, "held_since": state.held_since},
    )
