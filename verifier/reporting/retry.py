"""When to try again, and when to say something of it."""

import random

from verifier.reporting.link import Fault
from verifier.reporting.source import Observer, Tally

FIRST_S = 0.5
MOST_S = 10.0


class Attempts:
    """The attempts of one kind of report: counts them, spaces failures out, and tells of changes.

    Args:
        report: ``status`` or ``usage``.
        tally: where to count.
        observer: is told.
    """

    def __init__(self, report: str, tally: Tally, observer: Observer) -> None:
        self._report = report
        self._tally = tally
        self._observer = observer
        self._told: str | None = None
        self._pause_s = FIRST_S

    def succeeded(self) -> None:
        """Note that a report was taken."""
        self._tally.sent += 1
        self._pause_s = FIRST_S
        if self._told is not None:
            self._told = None
            self._observer.recovered(self._report)

    def failed(self, fault: Fault) -> float:
        """Note that an attempt failed; return the seconds to wait before the next one, different for each node."""
        self._tally.failed += 1
        if fault.code != self._told:
            self._told = fault.code
            self._observer.failed(self._report, fault.code, fault.reason)
        pause_s = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        self._pause_s = min(2 * self._pause_s, MOST_S)
        return pause_s
