"""Measures how long publications take to reach all nodes that report here."""

import queue
import threading
import time
from collections.abc import Callable

from verifier.admin.desk import Desk
from verifier.control import nodes
from verifier.control.events import Event
from verifier.control.nodes import Propagation
from verifier.errors import VerifierError

TIMEOUT_S = 30.0
SLICE_S = 0.5
COMMITTED_WITHIN_S = 2.0


class PropagationWatch:
    """Follows the publications of this process, in a thread of its own; of a burst only the last.

    Args:
        desk: whose publications and nodes.
        arrived: told the publication's way, or how far it came in 30 s.
    """

    def __init__(self, desk: Desk, arrived: Callable[[int, Propagation], None]) -> None:
        self._desk = desk
        self._arrived = arrived
        self._revisions: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="propagation", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._revisions.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def happened(self, event: Event) -> None:
        """Take note of a publication."""
        if event.kind == "publication.published":
            self._revisions.put(int(event.details["revision"]))

    def _run(self) -> None:
        while (revision := self._newest()) is not None:
            committed_at_ms = self._committed(revision)
            if committed_at_ms is None:
                continue
            try:
                reached = self._follow(revision, committed_at_ms)
            except VerifierError:
                continue  # the registry cannot be read: others will say so
            self._arrived(revision, reached)

    def _newest(self) -> int | None:
        revision = self._revisions.get()
        while revision is not None and not self._revisions.empty():
            revision = self._revisions.get()
        return revision

    def _committed(self, revision: int) -> int | None:
        """Return when it became current; its publisher says so a moment after it told of it."""
        until = time.monotonic() + COMMITTED_WITHIN_S
        while (at_ms := self._desk.publisher.published(revision).committed_at_ms) is None:
            if time.monotonic() > until or self._stopping.wait(0.005):
                return None
        return at_ms

    def _follow(self, revision: int, committed_at_ms: int) -> Propagation:
        end = time.monotonic() + TIMEOUT_S
        while True:
            reached = nodes.wait_served(
                self._desk.registry, revision, committed_at_ms, SLICE_S, board=self._desk.board,
            )  # fmt: skip
            if not reached.behind or time.monotonic() >= end or self._stopping.is_set():
                return reached
