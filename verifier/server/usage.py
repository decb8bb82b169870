"""What the event loops have counted by version, gathered for the reports."""

import time
from collections.abc import Sequence

from verifier._loop import Loop
from verifier._usage import Usage
from verifier._uses import Uses
from verifier.reporting.source import WatchedCall

FIRST_PAUSE_S = 0.00005  # as for a view: a loop turns at once, or when it is woken
LAST_PAUSE_S = 0.005


class LoopUsage:
    """The counts of a group of loops; gathered by one thread, while calls go on.

    Args:
        loops: that do not run yet.

    Raises:
        Unavailable: no address space to count in.
    """

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops: list[tuple[Loop, Usage]] = []
        for loop in loops:
            loop.count_usage()
            assert loop.usage is not None
            self._loops.append((loop, loop.usage))

    def collect(self, timeout_s: float) -> tuple[list[Uses], bool]:
        """Let every loop count in its other set, and take what is in the first.

        Args:
            timeout_s: for all loops to turn.

        Returns:
            The counts of each loop, and whether that is all: what is missing comes the next time.
        """
        for _, usage in self._loops:
            usage.ask()
        late = self._wait(timeout_s)
        collected = []
        for loop, usage in self._loops:
            if loop in late:
                continue
            try:
                collected.append(usage.drain())
            except MemoryError:  # the counts stay where they are
                late.append(loop)
        return collected, not late

    def watched(self) -> list[WatchedCall]:
        """Return the calls of watched versions since the last time."""
        return [call for _, usage in self._loops for call in usage.watched()]

    @property
    def watched_lost(self) -> int:
        """Calls of watched versions that were left out since the start."""
        return sum(usage.watched_lost for _, usage in self._loops)

    def _wait(self, timeout_s: float) -> list[Loop]:
        """Wait until all loops have turned; return those that have not in time."""
        deadline = time.monotonic() + timeout_s
        pause_s = FIRST_PAUSE_S
        while late := [loop for loop, _ in self._loops if not loop.exchange_usage()]:
            if time.monotonic() >= deadline:
                break
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
        return late
