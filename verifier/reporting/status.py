"""Reports of status: what is served, each second and at once when it changes; and by how much the clocks differ."""

import threading
import time
from collections.abc import Callable

from google.protobuf.timestamp_pb2 import Timestamp

from verifier import __version__
from verifier.admin.v1 import node_pb2
from verifier.reporting.link import Link, fault_of
from verifier.reporting.retry import Attempts
from verifier.reporting.source import Addresses, Observer, RefusedRevision, Serving, Tally

INTERVAL_S = 1.0
TIMEOUT_S = 3.0
SKEW_MS_MAX = 1000


class StatusReporter:
    """Tells the control plane what is served.

    Args:
        link: to it.
        node: the own name.
        epoch: the own number.
        serving: says what is served now.
        addresses: where calls are answered.
        tally: counts reports.
        observer: is told of faults.

    Attributes:
        clock_skew_ms: by how much the own clock is ahead; None before the first answer.
    """

    def __init__(self, link: Link, *, node: str, epoch: int, serving: Callable[[], Serving], addresses: Addresses,
                 tally: Tally, observer: Observer) -> None:
        self._link = link
        self._node, self._epoch, self._addresses = node, epoch, addresses
        self._serving = serving
        self._observer = observer
        self._attempts = Attempts("status", tally, observer)
        self._changed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="status-reporter", daemon=True)
        self.clock_skew_ms: int | None = None

    def start(self) -> None:
        """Report from now on, in a thread of its own."""
        self._thread.start()

    def changed(self) -> None:
        """Report now: something else is served, or was refused."""
        self._changed.set()

    def stop(self, timeout_s: float) -> None:
        """Say that this is the last report, and end."""
        self._stopping = True
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S)
            self._send(stopping=True, timeout_s=max(0.1, timeout_s))

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping:
            self._changed.wait(pause_s)
            self._changed.clear()
            if not self._stopping:
                pause_s = self._send()

    def _send(self, *, stopping: bool = False, timeout_s: float = TIMEOUT_S) -> float:
        """Report once; return how long to wait."""
        try:
            request = self._request(stopping)
            started = time.monotonic()
            answer = self._link.stub.ReportStatus(request, timeout=timeout_s, metadata=self._link.metadata())
            round_trip_s = time.monotonic() - started
        except Exception as error:
            self._link.renew()
            return self._attempts.failed(fault_of(error))
        self._attempts.succeeded()
        self._compare(request.clock, round_trip_s, answer.clock)
        return INTERVAL_S

    def _compare(self, sent: Timestamp, round_trip_s: float, theirs: Timestamp) -> None:
        """Compare clocks, as if the control plane had looked at its own half way between request and answer."""
        before = self.clock_skew_ms
        middle_ms = sent.ToNanoseconds() / 1e6 + round_trip_s * 500
        self.clock_skew_ms = round(middle_ms - theirs.ToNanoseconds() / 1e6)
        if abs(self.clock_skew_ms) > SKEW_MS_MAX and (before is None or abs(before) <= SKEW_MS_MAX):
            self._observer.skewed(self.clock_skew_ms)

    def _request(self, stopping: bool) -> node_pb2.ReportStatusRequest:
        serving = self._serving()
        request = node_pb2.ReportStatusRequest(
            node=self._node, epoch=self._epoch, store_id=serving.store_id, revision=serving.revision,
            version=__version__, addresses=self._addresses, stopping=stopping,
        )  # fmt: skip
        if serving.served_at_s is not None:
            request.served_at.FromNanoseconds(int(serving.served_at_s * 1e9))
        if serving.load_s is not None:
            request.load_time.FromNanoseconds(int(serving.load_s * 1e9))
        if serving.refusal is not None:
            request.last_refusal.CopyFrom(_refusal(serving.refusal))
        request.clock.FromNanoseconds(time.time_ns())
        return request


def _refusal(refusal: RefusedRevision) -> node_pb2.Refusal:
    message = node_pb2.Refusal(revision=refusal.revision or 0, code=refusal.code, message=refusal.message)
    message.refused_at.FromNanoseconds(int(refusal.at_s * 1e9))
    return message
