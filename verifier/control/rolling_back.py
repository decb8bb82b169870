"""Going back: publish what an earlier revision said, with the denials of now on top, and hold the store there.

Held means that later publications keep that content: they add denials and new keys to it, until somebody resumes.
Rolling back to a revision that was itself held goes to the content that it had; holds are never stacked.
"""

from verifier.control import holding, rekeying, tombstoning
from verifier.control.acting import Actor
from verifier.control.building import of_registry
from verifier.control.committing import Origin, Work, keyrings_of, working
from verifier.control.comparing import Difference, compare
from verifier.control.drafts import Draft, DropGuard, Receipt, Wish
from verifier.control.holding import Hold
from verifier.control.progress import Progress, silent
from verifier.control.publishing import conclude, publish
from verifier.errors import Conflict, NotFound
from verifier.registry import queries
from verifier.registry.database import Registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest


def roll_back(
    home: Home,
    revision: int,
    *,
    registry: Registry | None = None,
    actor: Actor | None = None,
    drop_newer: bool = False,
    allow_drop: bool = False,
    allow_clock_back: bool = False,
    guard: DropGuard | None = None,
    dry_run: bool = False,
    examples_max: int = 0,
    progress: Progress = silent,
    now_s: int | None = None,
) -> Receipt:
    """Publish what a revision said, with the denials of now, and hold the store there.

    Args:
        home: the ``--store`` folder.
        revision: to go back to.
        registry: the folder's, if it is open already.
        actor: who asks; the user of this process when None.
        drop_newer: refuse versions that were issued since, until the store is resumed; they are served otherwise.
        allow_drop: even if many active keys are lost.
        allow_clock_back: even if the clock is behind the publication before.
        guard: how many active keys may be lost without ``allow_drop``.
        dry_run: change nothing; tell what would be published. ``widened`` counts versions that are denied now, too.
        examples_max: how many changes to name.
        progress: called with a stage, how much of it is done, and how much there is.
        now_s: the time of the publication, seconds since 1970; the clock's when None.

    Raises:
        NotFound: the revision is not in the store, or its keyring is no longer.
        Conflict: as :func:`verifier.control.publishing.publish`, or a pepper of the revision has leaked
            (``PEPPER_LEAKED``), or the registry's peppers cannot be made from its peppers (``PEPPER_MISSING``).
        Unavailable: the disk or the database refused.
        UnsoundPublication: the revision is damaged, or what was built is not sound.
    """
    wish = Wish(allow_drop=allow_drop, allow_clock_back=allow_clock_back, guard=guard or DropGuard(), dry_run=dry_run,
                examples_max=examples_max, dormant=True)  # fmt: skip
    with working(home, registry=registry, actor=actor, now_s=now_s, progress=progress) as work:
        origin = work.origin()
        work.check_clock(origin, allow_back=allow_clock_back)
        then = _content_of(work, origin, revision)
        _check_peppers(then, origin.state)
        _check_whole(work, origin, then)
        return conclude(work, origin, _draft(work, origin, then, drop_newer, dry_run=dry_run), wish)


def compare_with_registry(
    home: Home,
    revision: int = 0,
    *,
    registry: Registry | None = None,
    resume: bool = False,
    examples_max: int = 0,
    now_s: int | None = None,
) -> Difference:
    """Tell what callers would notice if the registry were published now.

    Args:
        home: the ``--store`` folder.
        revision: the publication to compare with; 0 is the current one.
        registry: the folder's, if it is open already.
        resume: as if a hold were ended with it.
        examples_max: how many changes to name.
        now_s: the moment to judge at, seconds since 1970; the clock's when None.

    Raises:
        NotFound: there is no such publication.
        Conflict: as :func:`verifier.control.publishing.publish`.
    """
    current = Store(home.store).current() or 0
    if revision in (0, current):
        return publish(
            home, registry=registry, resume=resume, held_ok=True, allow_drop=True, allow_clock_back=True, dry_run=True,
            examples_max=examples_max, now_s=now_s,
        ).difference  # fmt: skip
    with working(home, registry=registry, now_s=now_s, progress=silent) as work:
        origin = work.origin()
        before = work.store.publication(revision, work.trust)
        with work.registry.read() as connection:
            state = queries.state(connection)
            content, _ = of_registry(work.builder, connection, state, work.registry_base(origin), work.now_s)
        return compare(
            keyrings_of(work.store, before), work.builder.keyrings(content), work.now_s, examples_max=examples_max
        )


def _content_of(work: Work, origin: Origin, revision: int) -> Manifest:
    """Return the publication whose content a revision has."""
    if not 1 <= revision <= origin.revision:
        raise NotFound(
            f"there is no revision {revision}: the newest is {origin.revision}",
            hint="verifier publications list",
            code="REVISION_NOT_FOUND",
        )
    named = work.store.publication(revision, work.trust)
    return named if not named.held else work.store.publication(named.content_of, work.trust)


def _check_peppers(then: Manifest, state: queries.State) -> None:
    """Refuse to go back to what no pepper protected that nobody else knows."""
    if rekeying.is_exposed(then.base.peppers, state.leaked_peppers):
        raise Conflict(
            f"revision {then.revision} was made with {', '.join(then.base.peppers)} only, which has leaked",
            hint="roll back to a later revision, or roll single keys back",
            code="PEPPER_LEAKED",
        )


def _check_whole(work: Work, origin: Origin, then: Manifest) -> None:
    """Read the keyrings of then, unless they are served right now: nodes would refuse damaged ones."""
    keyrings_of(work.store, then)
    served = {keyring.sha256 for keyring in origin.manifest.keyrings} if origin.manifest else set()
    for keyring in then.keyrings:
        if keyring.sha256 not in served:
            holding.check_digest(work.builder, keyring)


def _draft(work: Work, origin: Origin, then: Manifest, drop_newer: bool, *, dry_run: bool) -> Draft:
    """Build what is served while the store is held."""
    hold = Hold(then, drop_newer, work.peppers)
    if not dry_run:
        tombstoning.unite(
            work.registry, work.store, origin.manifest, work.peppers, rebase=False, actor=work.actor, now_s=work.now_s
        )
    with work.registry.read() as connection:
        state = queries.state(connection)
        now, _ = of_registry(work.builder, connection, state, work.registry_base(origin), work.now_s)
        content, kept = holding.begin(work.builder, connection, state, hold, now)
        tombstones = tombstoning.write_files(connection, work.store, origin.manifest, work.builder.folder, rebase=False)
    return Draft(
        state=state, content=content, tombstones=tombstones, hold=then.revision, drop_newer=drop_newer,
        action="publication.rollback", denials_kept=kept.count,
    )  # fmt: skip
