"""The backlog of reports: every count arrives once, whatever is lost, and times leave no hole."""

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from verifier._uses import Uses
from verifier.admin.v1.node_pb2 import ReportUsageRequest
from verifier.reporting import backlog
from verifier.reporting.backlog import Backlog

MOST = (1 << 32) - 1
BEGAN_MS = 1_000
FULL_ROWS, FULL_WATCHED = backlog.ROWS_MAX, backlog.WATCHED_MAX
uses = st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 4) | st.just(MOST), st.integers(0, 3)), max_size=8)


class Reporting(RuleBasedStateMachine):
    """A node's backlog against a control plane that applies the next number only, over a line that loses."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog("n", 9, BEGAN_MS)
        self.now_ms = BEGAN_MS
        self.counted: Counter[tuple[int, int]] = Counter()
        self.counted_by: dict[int, Counter[tuple[int, int]]] = {BEGAN_MS: Counter()}
        self.received: Counter[tuple[int, int]] = Counter()
        self.applied = 0
        self.known_ms = BEGAN_MS
        self.span: tuple[int, int, bool] | None = None
        self.watched_told = self.watched_received = self.lost_received = 0
        self.seen: dict[int, bytes] = {}

    @rule(parts=st.lists(uses, max_size=3), complete=st.booleans(), later_ms=st.integers(-50, 100))
    def count(self, parts: list[dict[int, tuple[int, int]]], complete: bool, later_ms: int) -> None:
        """Loops hand their counts over."""
        self.now_ms = max(BEGAN_MS, self.now_ms + later_ms)
        for part in parts:
            for ordinal, (valid, refused) in part.items():
                self.counted[ordinal, 0] += valid
                self.counted[ordinal, 1] += refused
        rows = [[(ordinal, *counts) for ordinal, counts in sorted(part.items())] for part in parts]
        self.backlog.add([Uses(each) for each in rows], self.now_ms if complete else None)
        if complete:
            self.counted_by[self.now_ms] = self.counted_by.get(self.now_ms, self.counted.copy())

    @rule(number=st.integers(1, 7), lost=st.integers(0, 2))
    def watch(self, number: int, lost: int) -> None:
        """Watched versions are called."""
        self.backlog.add_watched([(1, 1, 1000 + n, b"") for n in range(number)], lost)
        self.watched_told += number + lost

    @rule(arrives=st.booleans(), answered=st.booleans())
    def report(self, arrives: bool, answered: bool) -> None:
        """A report is sent; it or its answer may be lost."""
        report = self.backlog.next(self.now_ms)
        if report is None:
            assert self.backlog.is_empty
            return
        data = report.SerializeToString(deterministic=True)
        assert self.seen.setdefault(report.sequence, data) == data
        if not arrives:
            return
        if report.sequence == self.applied + 1:
            self.apply(report)
        assert report.sequence <= self.applied
        if answered:
            assert self.backlog.acknowledge(self.applied)

    @precondition(lambda self: self.applied > 2)
    @rule(back=st.integers(1, 2))
    def restore(self, back: int) -> None:
        """The control plane is restored from a backup: it misses reports, and says so."""
        report = self.backlog.next(self.now_ms)
        if report is None or report.sequence <= self.applied:
            return
        self.applied -= back
        self.seen = {number: data for number, data in self.seen.items() if number <= self.applied}
        self.backlog.resume_after(self.applied)
        assert report.sequence == self.applied + 1

    def apply(self, report: ReportUsageRequest) -> None:
        """What the control plane does with a report."""
        self.applied = report.sequence
        begin, end = getattr(report, "from").ToMilliseconds(), report.to.ToMilliseconds()
        assert begin == self.known_ms <= end
        assert len(report.ordinals) <= backlog.ROWS_MAX and len(report.watched) <= backlog.WATCHED_MAX
        assert list(report.ordinals) == sorted(set(report.ordinals))
        for ordinal, valid, refused in zip(report.ordinals, report.valid, report.refused, strict=True):
            self.received[ordinal, 0] += valid
            self.received[ordinal, 1] += refused
        self.watched_received += len(report.watched) + report.watched_lost
        if not report.partial:
            self.known_ms = end

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        """At most what was counted has come."""
        assert self.received <= self.counted
        assert self.watched_received <= self.watched_told

    @invariant()
    def what_is_known_is_complete(self) -> None:
        """All that was counted until the time that is known has come."""
        assert self.counted_by.get(self.known_ms, Counter()) <= self.received

    def teardown(self) -> None:
        """In the end all arrives."""
        self.backlog.add([], self.now_ms)
        for _ in range(10_000):
            if self.backlog.is_empty:
                break
            self.report(arrives=True, answered=True)
        assert +self.received == +self.counted
        assert self.watched_received == self.watched_told
        assert self.backlog.waiting == 0


@pytest.fixture(autouse=True, scope="module")
def small_reports() -> object:
    """Let reports be full early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "ROWS_MAX", 3)
        patch.setattr(backlog, "WATCHED_MAX", 2)
        patch.setattr(backlog, "WATCHED_KEPT_MAX", 12)
        yield


class TestReporting(Reporting.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_watched_calls_go_without_waiting_and_do_not_make_counts_known():
    reports = Backlog("n", 9, BEGAN_MS)
    reports.add_watched([(4, 1, 2, b"\x0a\0\0\1")], 0)
    report = reports.next(1_500)
    assert report is not None and report.partial and not report.ordinals
    assert (1_000, 1_500) == (getattr(report, "from").ToMilliseconds(), report.to.ToMilliseconds())
    assert (4, 1, 2, b"\x0a\0\0\1") == (report.watched[0].ordinal, report.watched[0].verdict,
                                       report.watched[0].used_at.seconds, report.watched[0].address)
    assert reports.acknowledge(1)
    assert reports.reported_to_ms is None
    reports.add([Uses([(4, 1, 0)])], 2_000)
    report = reports.next(2_600)
    assert report is not None and not report.partial
    assert (1_000, 2_000) == (getattr(report, "from").ToMilliseconds(), report.to.ToMilliseconds())
    reports.acknowledge(2)
    assert reports.reported_to_ms == 2_000


def test_an_empty_time_is_reported_too():
    reports = Backlog("n", 9, BEGAN_MS)
    assert reports.next(1_500) is None
    reports.add([Uses()], 2_000)
    report = reports.next(2_000)
    assert report is not None and not report.partial and not report.ordinals


def test_counts_of_a_loop_that_is_late_make_nothing_known():
    reports = Backlog("n", 9, BEGAN_MS)
    reports.add([Uses([(1, 1, 0)])], None)
    report = reports.next(2_000)
    assert report is not None and report.partial and list(report.ordinals) == [1]


def test_an_answer_about_other_reports_changes_nothing():
    reports = Backlog("n", 9, BEGAN_MS)
    assert not reports.acknowledge(3)
    reports.add([], 2_000)
    reports.next(2_000)
    assert not reports.acknowledge(0)
    assert reports.next(9_000) is reports.next(9_999)


def test_a_full_report_fits_into_a_message_of_grpc():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backlog, "ROWS_MAX", FULL_ROWS)
        patch.setattr(backlog, "WATCHED_MAX", FULL_WATCHED)
        patch.setattr(backlog, "WATCHED_KEPT_MAX", FULL_WATCHED)
        reports = Backlog("n" * 64, MOST << 32, 1 << 40)
        reports.add([Uses([(MOST - FULL_ROWS - 9 + number, MOST, MOST) for number in range(FULL_ROWS + 9)])], 1 << 41)
        reports.add_watched([(MOST, 12, 1 << 33, bytes(range(16)))] * FULL_WATCHED, 0)
        report = reports.next(1 << 41)
    assert report is not None and report.partial
    assert (FULL_ROWS, FULL_WATCHED) == (len(report.ordinals), len(report.watched))
    assert report.ByteSize() < 2 << 20  # of the 4 MiB that gRPC takes by default
