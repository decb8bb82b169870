"""Reports of usage: gathers counts and watched calls, and delivers them one report after the other."""

import threading
import time
from typing import Any

from verifier.reporting.backlog import Backlog
from verifier.reporting.link import Fault, Link, fault_of
from verifier.reporting.retry import Attempts
from verifier.reporting.source import Observer, Tally, UsageSource

POLL_S = 0.25  # for calls of watched versions
TIMEOUT_S = 10.0
COLLECT_TIMEOUT_S = 1.0


class UsageReporter:
    """Delivers what a source has counted. Gathering goes on while a report is under way or fails.

    Args:
        link: to the control plane.
        backlog: what is to be delivered.
        source: where verifications are counted.
        interval_s: how often counts are gathered.
        tally: counts reports.
        observer: is told of faults.
    """

    def __init__(self, link: Link, backlog: Backlog, source: UsageSource, *, interval_s: float, tally: Tally,
                 observer: Observer) -> None:
        self._link = link
        self._backlog = backlog
        self._source = source
        self._interval_s = interval_s
        self._observer = observer
        self._attempts = Attempts("usage", tally, observer)
        self._wake = threading.Event()
        self._call: Any = None  # a grpc.Future
        self._gather_at = time.monotonic() + interval_s
        self._retry_at = 0.0
        self._lost = 0
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="usage-reporter", daemon=True)

    def start(self) -> None:
        """Report from now on, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Gather once more, deliver what can be delivered in the time, and end; tell whether all was delivered."""
        self._stop_at = time.monotonic() + timeout_s
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s + COLLECT_TIMEOUT_S)
        return self._backlog.is_empty

    def _run(self) -> None:
        while self._stop_at is None:
            self._wake.wait(min(POLL_S, max(0.0, self._gather_at - time.monotonic())))
            self._wake.clear()
            self._turn(gather=time.monotonic() >= self._gather_at)
        self._retry_at = 0.0
        self._turn(gather=True)
        while not self._backlog.is_empty and time.monotonic() < self._stop_at:
            self._wake.wait(POLL_S)
            self._wake.clear()
            self._turn()
        if self._call is not None:
            self._call.cancel()

    def _turn(self, *, gather: bool = False) -> None:
        try:
            self._take_watched()
            if gather:
                self._gather()
        except MemoryError as error:  # nothing is lost: it is all still there the next time
            self._attempts.failed(fault_of(error))
        self._deliver()

    def _take_watched(self) -> None:
        calls, lost = self._source.watched(), self._source.watched_lost
        self._backlog.add_watched(calls, lost - self._lost)
        self._lost = lost

    def _gather(self) -> None:
        self._gather_at = time.monotonic() + self._interval_s
        # Read before the exchange: whatever was verified until then is in what comes out of it.
        now_ms = time.time_ns() // 1_000_000
        collected, complete = self._source.collect(COLLECT_TIMEOUT_S)
        if not complete:
            self._observer.incomplete()
        self._backlog.add(collected, now_ms if complete else None)

    def _deliver(self) -> None:
        """See what became of the report under way, and send the next one."""
        if self._call is not None:
            if not self._call.done():
                return
            self._settle()
        if time.monotonic() < self._retry_at:
            return
        report = self._backlog.next(time.time_ns() // 1_000_000)
        if report is None:
            return
        try:
            self._call = self._link.stub.ReportUsage.future(report, timeout=TIMEOUT_S, metadata=self._link.metadata())
        except Exception as error:
            self._retry_at = time.monotonic() + self._attempts.failed(fault_of(error))
            return
        self._call.add_done_callback(lambda _call: self._wake.set())

    def _settle(self) -> None:
        call, self._call = self._call, None
        try:
            answer = call.result()
        except Exception as error:
            fault = fault_of(error)
            self._link.renew()
            if fault.applied is not None:
                self._backlog.resume_after(fault.applied)
            self._retry_at = time.monotonic() + self._attempts.failed(fault)
            return
        if self._backlog.acknowledge(answer.applied):
            self._attempts.succeeded()
            return
        # Not as agreed, but it says what USAGE_GAP says.
        self._backlog.resume_after(answer.applied)
        self._retry_at = time.monotonic() + self._attempts.failed(Fault("NOT_APPLIED", "the report was not applied"))
