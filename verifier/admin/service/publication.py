"""PublicationService: publishing, going back, comparing, listing, tidying up."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from verifier.admin.changing import Change, time_s
from verifier.admin.paging import begin, page_size
from verifier.admin.publications import described, difference_message, publication_message
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import span_s
from verifier.admin.v1 import publication_pb2 as pb
from verifier.control import compacting, comparing, pruning
from verifier.control.building import NO_COMPACTION
from verifier.control.compacting import Ready
from verifier.control.comparing import Difference
from verifier.control.publishing import DropGuard, Receipt, keyrings_of, publish
from verifier.control.reconciling import reconcile
from verifier.control.rolling_back import compare_with_registry, roll_back
from verifier.errors import InvalidInput, NotFound

EXAMPLES_MAX = 1000

Published = TypeVar("Published", pb.PublishResponse, pb.RollBackResponse)


class Publications(Handlers):
    """All of PublicationService."""

    def Publish(self, request: pb.PublishRequest) -> pb.PublishResponse:
        """Publish what the registry says, unless that is published already."""
        guard = _guard_of(request)

        def work(response: pb.PublishResponse) -> None:
            done = self._published(
                command, response,
                lambda: publish(
                    self._desk.home, registry=self._desk.registry, actor=self._caller.actor(*command.words),
                    resume=request.resume, rebase=request.rebase, allow_drop=request.allow_drop,
                    allow_clock_back=request.allow_clock_back, guard=guard, dry_run=request.options.validate_only,
                    progress=self._desk.publisher.progress, ready=ready,
                    compaction=None if request.options.validate_only else NO_COMPACTION,
                ),
            )  # fmt: skip
            response.changed = done.changed

        command = Change(self._desk, self._caller, request, request.options)
        with self._prepared(request, command) as ready:
            return self._answered(command, command.carried_out(pb.PublishResponse(), work))

    def _prepared(self, request: pb.PublishRequest, command: Change) -> AbstractContextManager[Ready | None]:
        """Build a base if it is time for one, before anybody is kept from publishing."""
        if request.options.validate_only or command.is_repeat():
            return nullcontext()
        return compacting.prepared(
            self._desk.home, registry=self._desk.registry, actor=self._caller.actor(*command.words),
            rebase=request.rebase, allow_drop=request.allow_drop, progress=self._desk.publisher.progress,
        )  # fmt: skip

    def RollBack(self, request: pb.RollBackRequest) -> pb.RollBackResponse:
        """Publish what an earlier publication said, denials of now on top, and hold the store there."""

        def work(response: pb.RollBackResponse) -> None:
            self._published(
                command, response,
                lambda: roll_back(
                    self._desk.home, request.revision, registry=self._desk.registry,
                    actor=self._caller.actor(*command.words), drop_newer=request.drop_newer,
                    allow_drop=request.allow_drop, dry_run=request.options.validate_only,
                    progress=self._desk.publisher.progress,
                ),
            )  # fmt: skip

        command = Change(self._desk, self._caller, request, request.options)
        return self._answered(command, command.carried_out(pb.RollBackResponse(), work))

    def ComparePublications(self, request: pb.ComparePublicationsRequest) -> pb.ComparePublicationsResponse:
        """Tell what callers would notice between two publications, or between one and the registry."""
        examples = request.examples_max
        if not 0 <= examples <= EXAMPLES_MAX:
            raise InvalidInput(f"at most {EXAMPLES_MAX:,} changes are named", code="BAD_PAGE")
        if request.to_revision:
            difference = self._between(request.from_revision, request.to_revision, examples)
        else:
            difference = self._desk.publisher.carry_out(
                lambda: compare_with_registry(
                    self._desk.home, request.from_revision, registry=self._desk.registry, examples_max=examples
                )
            )
        return pb.ComparePublicationsResponse(
            difference=difference_message(difference), examples=_changes(difference.examples)
        )

    def ListPublications(self, request: pb.ListPublicationsRequest) -> pb.ListPublicationsResponse:
        """Return publications, the newest first; each signature is checked."""
        size = page_size(request.page_size, 20)
        store, trust = self._desk.store, self._desk.trust()
        current = store.current() or 0
        below = begin(request.page_token, current + 1)
        revisions = [revision for revision in reversed(store.revisions()) if revision < below and revision <= current]
        return pb.ListPublicationsResponse(
            publications=[described(store, trust, one, current=one == current) for one in revisions[:size]],
            next_page_token=str(revisions[size - 1]) if len(revisions) > size else "",
        )

    def PrunePublications(self, request: pb.PrunePublicationsRequest) -> pb.PrunePublicationsResponse:
        """Remove publications and keyrings that nobody needs any more."""
        keep_for_s = span_s(request, "keep_for")

        def work(response: pb.PrunePublicationsResponse) -> None:
            done = self._desk.publisher.carry_out(
                lambda: pruning.prune(
                    self._desk.home, request.keep or pruning.KEEP,
                    pruning.KEEP_FOR_S if keep_for_s is None else keep_for_s,
                    registry=self._desk.registry, actor=self._caller.actor(*command.words),
                    dry_run=request.options.validate_only,
                ),
                command.until,
            )  # fmt: skip
            response.publications, response.keyrings, response.bytes = len(done.revisions), len(done.files), done.bytes
            if done.unreadable:
                response.receipt.warnings.append(
                    f"{len(done.unreadable)} publications cannot be read: no keyring goes as long as they are there"
                )

        command = Change(self._desk, self._caller, request, request.options)
        return command.described(command.carried_out(pb.PrunePublicationsResponse(), work))

    def ReconcileRegistry(self, request: pb.ReconcileRegistryRequest) -> pb.ReconcileRegistryResponse:
        """Take what only the newest publication knows into a registry that was restored from a backup."""
        if request.options.validate_only:
            raise InvalidInput("taking over a publication cannot be previewed", code="NO_PREVIEW")

        def work(response: pb.ReconcileRegistryResponse) -> None:
            actor = self._caller.actor(*command.words)
            done = self._desk.publisher.carry_out(
                lambda: reconcile(
                    self._desk.home, registry=self._desk.registry, actor=actor,
                    progress=self._desk.publisher.progress,
                ),
                command.until,
            )  # fmt: skip
            response.revision, response.versions_added = done.revision, done.versions_added
            response.revoked, response.switched_off, response.replaced = done.revoked, done.switched_off, done.replaced
            if not done.behind:
                response.receipt.warnings.append("the registry was not behind its store: nothing was done")
            if done.hold_cleared:
                response.receipt.warnings.append("the store is not held any more")

        command = Change(self._desk, self._caller, request, request.options)
        return command.described(command.carried_out(pb.ReconcileRegistryResponse(), work))

    def _published(
        self, command: Change, response: pb.PublishResponse | pb.RollBackResponse, work: Callable[[], Receipt]
    ) -> Receipt:
        """Do the work and write what came of it."""
        done = self._desk.publisher.carry_out(work, command.until)
        preview = command.options.validate_only
        response.publication.CopyFrom(publication_message(done.manifest, current=not (preview and done.changed)))
        response.difference.CopyFrom(difference_message(done.difference))
        return done

    def _answered(self, command: Change, response: Published) -> Published:
        """Wait for the nodes, if there is something to wait for."""
        if command.options.validate_only:
            return command.described(response)
        return command.awaited(response, self._desk.publisher.published(response.publication.revision))

    def _between(self, before: int, after: int, examples_max: int) -> Difference:
        store, trust = self._desk.store, self._desk.trust()
        first, second = (store.publication(revision or self._current(), trust) for revision in (before, after))
        return comparing.compare(
            keyrings_of(store, first), keyrings_of(store, second), time_s(), examples_max=examples_max
        )

    def _current(self) -> int:
        revision = self._desk.store.current()
        if revision is None:
            raise NotFound("nothing was published yet", hint="verifier publish", code="NO_PUBLICATION")
        return revision


def _guard_of(request: pb.PublishRequest) -> DropGuard | None:
    if not request.HasField("drop_limit_percent"):
        return None
    if not 0 <= request.drop_limit_percent <= 100:
        raise InvalidInput("the drop limit is a part of the active keys, 0 to 100 percent", code="BAD_LIMIT")
    return DropGuard(share=request.drop_limit_percent / 100)


def _changes(examples: Iterable[comparing.Change]) -> list[pb.Change]:
    return [
        pb.Change(kind=one.kind, client_id=one.client_id, key_id=one.key_id, version=one.version) for one in examples
    ]
