"""What is counted and not yet acknowledged, cut into numbered reports. No input or output, no clock.

One report is under way at a time, and is sent again alike under its number until it is acknowledged: so it is counted
once, whatever is lost on its way. Counts that come meanwhile are added up for the next one, so memory is bounded by the
versions that were used, however long nobody listens.

A report covers the time since the one before. What is cut off because a report is full follows as further reports of
the same time; all but the last are *partial*. Calls of watched versions do not wait for the next counts: they go as a
partial report that has no counts, so that nobody takes the counts of its time for known.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from verifier._uses import Uses
from verifier.admin.v1 import node_pb2
from verifier.reporting.source import WatchedCall

ROWS_MAX = 50_000  # of one report: some 700 kB
WATCHED_MAX = 10_000
WATCHED_KEPT_MAX = 20_000


class Backlog:
    """The reports of one process.

    Args:
        node: its name.
        epoch: its number.
        began_ms: when it began to count; milliseconds since 1970.

    Attributes:
        applied: number of the last report that was acknowledged.
        reported_to_ms: until when all counts are acknowledged; None before the first.
        watched_lost: watched calls that were left out since the start.
    """

    def __init__(self, node: str, epoch: int, began_ms: int) -> None:
        self._node = node
        self._epoch = epoch
        self._from_ms = began_ms
        self._parts: list[Uses] = []  # counted since the last report was cut
        self._counted_to_ms: int | None = None
        self._rest: Uses | None = None  # what is being reported, in as many reports as it takes
        self._rest_to_ms = began_ms
        self._rest_is_all = False
        self._watched: deque[WatchedCall] = deque()
        self._lost = 0
        self._under_way: node_pb2.ReportUsageRequest | None = None
        self.applied = 0
        self.reported_to_ms: int | None = None
        self.watched_lost = 0

    @property
    def waiting(self) -> int:
        """Counts of versions and watched calls that are not acknowledged."""
        report = self._under_way
        sent = 0 if report is None else len(report.ordinals) + len(report.watched)
        rest = 0 if self._rest is None else len(self._rest)
        return sent + rest + sum(map(len, self._parts)) + len(self._watched)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to report."""
        counted = self._rest is not None or self._parts or self._counted_to_ms is not None
        return self._under_way is None and not counted and not self._watched and not self._lost

    def add(self, collected: Iterable[Uses], to_ms: int | None) -> None:
        """Add counts.

        Args:
            collected: since the last time, in any number of parts.
            to_ms: all that was verified before this moment is counted by now; None when some counts are missing.

        Raises:
            MemoryError: nothing is lost; they are added up with the next ones.
        """
        self._parts += [uses for uses in collected if len(uses)]
        if to_ms is not None:
            # A clock that was set back must not take back what is known.
            self._counted_to_ms = max(to_ms, self._from_ms, self._rest_to_ms, self._counted_to_ms or 0)
        while len(self._parts) > 1:
            self._parts[-2:] = [self._parts[-2].merged(self._parts[-1])]

    def add_watched(self, calls: Sequence[WatchedCall], lost: int) -> None:
        """Add calls of watched versions, and how many were left out. The oldest are kept when there are too many."""
        kept = calls[: WATCHED_KEPT_MAX - len(self._watched)]
        self._watched.extend(kept)
        lost += len(calls) - len(kept)
        self._lost += lost
        self.watched_lost += lost

    def next(self, now_ms: int) -> node_pb2.ReportUsageRequest | None:
        """Return the report to send: the one under way, or a new one; None when there is nothing to say."""
        if self._under_way is None:
            self._under_way = self._cut(now_ms)
        return self._under_way

    def acknowledge(self, applied: int) -> bool:
        """Note that reports up to this number were applied; tell whether the one under way is among them."""
        report = self._under_way
        if report is None or applied < report.sequence:
            return False
        self._under_way = None
        self.applied = report.sequence
        if not report.partial:
            self.reported_to_ms = report.to.ToMilliseconds()
        return True

    def resume_after(self, applied: int) -> None:
        """Give the report under way the number that is wanted next, since those before it are not known any more.

        That is so when the control plane's database was restored, or forgot the node. The report itself was not
        applied, or it would be among those that are known.
        """
        if not self.acknowledge(applied) and self._under_way is not None:
            self.applied = applied
            self._under_way.sequence = applied + 1

    def _cut(self, now_ms: int) -> node_pb2.ReportUsageRequest | None:
        if self._rest is None:
            self._begin(now_ms)
        if self._rest is None:
            if not self._watched and not self._lost:
                return None
            return self._report(max(now_ms, self._from_ms), partial=True)
        rows = self._rest.take(ROWS_MAX)
        done = not len(self._rest)
        report = self._report(self._rest_to_ms, partial=not (done and self._rest_is_all))
        report.MergeFromString(rows)
        if done:
            self._rest = None
        if not report.partial:
            self._from_ms = self._rest_to_ms
        return report

    def _begin(self, now_ms: int) -> None:
        """Choose what is reported next: all that was counted, or what there is when a part of it is missing."""
        if not self._parts and self._counted_to_ms is None:
            return
        self._rest = self._parts.pop(0) if self._parts else Uses()
        self._rest_to_ms = max(now_ms, self._from_ms) if self._counted_to_ms is None else self._counted_to_ms
        self._rest_is_all = self._counted_to_ms is not None and not self._parts
        if self._rest_is_all:
            self._counted_to_ms = None

    def _report(self, to_ms: int, *, partial: bool) -> node_pb2.ReportUsageRequest:
        report = node_pb2.ReportUsageRequest(
            node=self._node, epoch=self._epoch, sequence=self.applied + 1, watched_lost=self._lost, partial=partial
        )
        getattr(report, "from").FromMilliseconds(self._from_ms)
        report.to.FromMilliseconds(to_ms)
        self._lost = 0
        for _ in range(min(len(self._watched), WATCHED_MAX)):
            ordinal, verdict, second, address = self._watched.popleft()
            use = report.watched.add(ordinal=ordinal, address=address)
            use.verdict = verdict  # type: ignore[assignment]  # a number, where the stubs want the enum
            use.used_at.seconds = second
        return report
