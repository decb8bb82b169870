"""Publishing for all callers together: whoever finds his change in a publication already is done."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from verifier.control import publishing
from verifier.control.acting import Actor
from verifier.control.building import NO_COMPACTION
from verifier.control.progress import Progress, silent
from verifier.control.publishing import DropGuard, Receipt
from verifier.errors import Conflict
from verifier.registry import queries
from verifier.registry.database import Registry
from verifier.store.home import Home

Result = TypeVar("Result")

BUSY_S = 30.0  # how long to wait for a publisher in another process
BUSY_PAUSE_S = 0.05
REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Covered:
    """A publication that holds a change.

    Attributes:
        revision: its number.
        committed_at_ms: when it became current, in milliseconds since 1970; None if that was before this process.
    """

    revision: int
    committed_at_ms: int | None


class SharedPublisher:
    """Publishes what many callers changed, one publication at a time.

    Args:
        home: the ``--store`` folder.
        registry: open, and the folder's.

    Attributes:
        progress: told how far publishing is.
    """

    def __init__(self, home: Home, registry: Registry) -> None:
        self.progress: Progress = silent
        self._home = home
        self._registry = registry
        self._lock = threading.Lock()
        self._committed: dict[int, int] = {}

    def cover(
        self, need: int, actor: Actor, *, until: float | None = None, urgent: bool = False
    ) -> Covered:
        """Return a publication that holds a change, after publishing it if none does.

        Callers that come while a publication is made wait for it, and share the next one. No caller waits for a new
        base because the delta has outgrown the present one: whoever runs the store builds it in time.

        Args:
            need: ``registry.changes`` after the change.
            actor: who asks.
            until: give up waiting for another process's publisher at this ``time.monotonic``.
            urgent: an emergency, which the drop guard must not stop for what was meant to end.

        Raises:
            Conflict, Unavailable, UnsoundPublication: as ``publishing.publish``.
        """
        with self.alone(until):
            covered = self._covered(need)
            if covered is not None:
                return covered
            receipt = self._patiently(
                lambda: publishing.publish(
                    self._home, registry=self._registry, actor=actor, held_ok=True,
                    compaction=NO_COMPACTION, progress=self.progress,
                    guard=DropGuard(spares_denied=True, spares_ended=urgent),
                ),
                until,
            )
            self.noted(receipt)
            return self.published(receipt.revision)

    @contextmanager
    def alone(self, until: float | None = None) -> Iterator[None]:
        """Keep others in this process from publishing.

        Args:
            until: wait for them no longer than this ``time.monotonic``.

        Raises:
            Conflict: they took longer (``PUBLISHER_BUSY``).
        """
        if not self._lock.acquire(timeout=-1 if until is None else max(0.0, until - time.monotonic())):
            raise Conflict("another publication is being made", hint="try again when it is done", code="PUBLISHER_BUSY")
        try:
            yield
        finally:
            self._lock.release()

    def carry_out(self, work: Callable[[], Result], until: float | None = None) -> Result:
        """Do what needs the store's lock - publish, roll back, prune - inside :meth:`alone`.

        Args:
            work: raises PUBLISHER_BUSY as long as another process has the lock; then it is done again.
            until: give up at this ``time.monotonic``.
        """
        result = self._patiently(work, until)
        if isinstance(result, Receipt):
            self.noted(result)
        return result

    def newest(self) -> Covered:
        """Return the newest publication; its revision is 0 as long as there is none."""
        with self._registry.read() as connection:
            return self.published(queries.state(connection).last_revision)

    def published(self, revision: int) -> Covered:
        """Return what is known of a publication."""
        return Covered(revision, self._committed.get(revision))

    def _covered(self, need: int) -> Covered | None:
        with self._registry.read() as connection:
            state = queries.state(connection)
        if state.last_revision and state.published_changes >= need:
            return self.published(state.last_revision)
        return None

    def noted(self, receipt: Receipt) -> None:
        """Remember when a publication became current."""
        if receipt.committed_at_ms is not None:
            self._committed[receipt.revision] = receipt.committed_at_ms
            for revision in sorted(self._committed)[:-REMEMBERED]:
                del self._committed[revision]

    def _patiently(self, work: Callable[[], Result], until: float | None) -> Result:
        """Do it again as long as another process is publishing."""
        last = time.monotonic() + BUSY_S
        last = last if until is None else min(last, until)
        while True:
            try:
                return work()
            except Conflict as error:
                if error.code != "PUBLISHER_BUSY" or time.monotonic() + BUSY_PAUSE_S >= last:
                    raise
            time.sleep(BUSY_PAUSE_S)
