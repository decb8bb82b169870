"""Building new bases in the background, in time, so that no command has to."""

import logging
import threading
from collections.abc import Callable

from verifier.admin.desk import Desk
from verifier.control import publishing
from verifier.control.acting import SCHEDULE
from verifier.control.building import Compaction
from verifier.errors import VerifierError
from verifier.registry import queries

_log = logging.getLogger(__name__)


class Compactor:
    """Builds a base when a publication left a delta that has outgrown its own; one at a time, in a thread.

    Publications go on meanwhile. What was recorded without being published keeps it waiting: the new base is a
    publication, which would publish that too.

    Args:
        desk: whose store is looked after.
        failed: told the code of each failure.
        compaction: when it is time.
    """

    def __init__(
        self, desk: Desk, failed: Callable[[str], None] = lambda code: None, compaction: Compaction | None = None
    ) -> None:
        self._desk = desk
        self._failed = failed
        self._compaction = compaction
        self._looked_at = -1
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin to build if there is something new, and it is time; returns at once."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._desk.registry.read() as connection:
            state = queries.state(connection)
        if state.last_revision == self._looked_at or state.pending_changes or state.hold is not None:
            return
        self._looked_at = state.last_revision
        self._thread = threading.Thread(target=self._compact, name="compacting", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for what is being built; tell whether it is done. What is cut off is removed by the next publisher."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _compact(self) -> None:
        publisher = self._desk.publisher
        try:
            receipt = publishing.compact(
                self._desk.home, registry=self._desk.registry, actor=SCHEDULE, compaction=self._compaction,
                alone=publisher.alone(),
            )  # fmt: skip
        except VerifierError as error:
            _log.error("no new base: %s (%s)", error.message, error.code)
            self._failed(error.code)
            return
        except Exception:
            _log.exception("no new base")
            self._failed("INTERNAL")
            return
        if receipt is not None:
            publisher.noted(receipt)
            if receipt.changed:
                _log.info("revision %d is on a new base of %d records", receipt.revision, receipt.manifest.base.records)
