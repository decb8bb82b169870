"""Publishing what no caller waits for: first uses that nodes reported, and what the schedule changed.

What comes within a moment is published together. A publication holds all that is recorded by then, also what somebody
else recorded and has not published.
"""

import logging
import threading
import time
from collections.abc import Callable

from verifier.admin.desk import Desk
from verifier.control.acting import SCHEDULE
from verifier.errors import VerifierError
from verifier.registry import pending, queries

GATHER_S = 0.2
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
REFUSED = "publication.refused"
OWN_ACTIONS = ("version.first_use",)  # done for nodes
# Refusals that only a person can end; others pass by themselves.
FOR_A_PERSON = ("DROP_GUARD", "CLOCK_BACK", "NOT_TRUSTED", "REGISTRY_BEHIND", "STORE_BEHIND", "OTHER_STORE")

_log = logging.getLogger(__name__)


class BurstPublisher:
    """Publishes in a thread of its own, when it is told that something is due.

    Args:
        desk: whose publisher is used.
        failed: told the code of each failure.
        gather_s: how long to wait for more.
    """

    def __init__(
        self, desk: Desk, failed: Callable[[str], None] = lambda code: None, gather_s: float = GATHER_S
    ) -> None:
        self._desk = desk
        self._failed = failed
        self._gather_s = gather_s
        self._news = threading.Condition()
        self._wanted = False
        self._stopping = threading.Event()
        self._retry_s = RETRY_FIRST_S
        self._told: str | None = None  # the refusal that an event tells of
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Publish what is due already, and end; tell whether there was time enough."""
        self._stopping.set()
        with self._news:
            self._news.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def due(self) -> None:
        """Say that something is to be published; returns at once."""
        with self._news:
            self._wanted = True
            self._news.notify_all()

    def catch_up(self) -> None:
        """Have published what a control plane that died had recorded on its own and not published."""
        with self._desk.registry.read() as connection:
            left = pending.has_pending(connection, SCHEDULE.principal, OWN_ACTIONS)
        if left:
            self.due()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._wanted or self._stopping.is_set())
                if not self._wanted:
                    return
            self._stopping.wait(self._gather_s)
            with self._news:
                self._wanted = False
            if self._publish():
                continue
            self.due()
            if self._stopping.wait(self._retry_s):
                return
            self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    def _publish(self) -> bool:
        """Publish once; tell whether nothing is left to be done."""
        try:
            with self._desk.registry.read() as connection:
                state = queries.state(connection)
            if not state.last_revision:
                return True  # nobody serves this store yet; its first publication is for its owner to make
            self._desk.publisher.cover(state.changes, SCHEDULE)
        except VerifierError as error:
            self._refused(error)
            return False
        except Exception:
            _log.exception("publishing failed")
            self._failed("INTERNAL")
            return False
        self._retry_s, self._told = RETRY_FIRST_S, None
        return True

    def _refused(self, error: VerifierError) -> None:
        _log.error("not published: %s (%s)", error.message, error.code)
        self._failed(error.code)
        if error.code not in FOR_A_PERSON or error.code == self._told:
            return
        try:
            with self._desk.acting(SCHEDULE) as act:
                act.emit(REFUSED, code=error.code, message=error.message, **error.details)
            self._told = error.code
        except VerifierError as unable:
            _log.error("the refusal could not be noted: %s (%s)", unable.message, unable.code)


class PendingWatch:
    """Finds changes that were recorded without being published and have waited for long enough.

    Args:
        desk: whose registry is watched.
        after_s: how long they may wait; 0: as long as they will.
    """

    def __init__(self, desk: Desk, after_s: float) -> None:
        self._desk = desk
        self._after_s = after_s
        self._published = -1
        self._since: float | None = None

    def is_due(self) -> bool:
        """Tell whether they are to be published now."""
        if not self._after_s:
            return False
        with self._desk.registry.read() as connection:
            state = queries.state(connection)
        if not state.pending_changes:
            self._since = None
            return False
        if self._since is None or self._published != state.published_changes:
            self._since, self._published = time.monotonic(), state.published_changes
        return time.monotonic() - self._since >= self._after_s
