"""A control plane for nodes to report to: a real gRPC server that takes reports by the rules, or fails on purpose."""

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from verifier.admin.v1 import node_pb2, node_pb2_grpc

Counts = dict[int, tuple[int, int]]


class Series:
    """What one process has reported.

    Attributes:
        applied: its last report.
        spans: (from, to, partial) of each, in milliseconds.
        counts: ordinal -> valid and refused.
        watched: (use, time it came).
    """

    def __init__(self) -> None:
        self.applied = 0
        self.spans: list[tuple[int, int, bool]] = []
        self.counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.watched: list[tuple[node_pb2.WatchedUse, float]] = []
        self.watched_lost = 0
        self.rows: list[int] = []


class ControlPlane(node_pb2_grpc.NodeServiceServicer):
    """Serves NodeService on one port for its whole life, however often it goes away. Use it as a context.

    Attributes:
        lose_requests, lose_answers: how many reports of usage fail, of 1: before they are applied, and after.
        ahead_s: by how much its clock is ahead.
        token: that is asked for.
        faults: what a node did that it must not.
    """

    def __init__(self, *, token: str | None = None, credentials: grpc.ServerCredentials | None = None) -> None:
        self.lose_requests = self.lose_answers = self.ahead_s = 0.0
        self.token = token
        self.series: dict[tuple[str, int], Series] = {}
        self.statuses: list[tuple[node_pb2.ReportStatusRequest, float]] = []
        self.faults: list[str] = []
        self._seen: dict[tuple[str, int, int], bytes] = {}
        self._credentials = credentials
        self._lock = threading.Lock()
        self._random = random.Random(1)
        self._server: grpc.Server | None = None
        self.port = 0
        self.start()

    def __enter__(self) -> "ControlPlane":
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        assert [] == self.faults

    @property
    def target(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen (again), on the same port."""
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        node_pb2_grpc.add_NodeServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        for _ in range(100):  # its own connections of before may still hold the port for a moment
            try:
                if self._credentials is None:
                    self.port = self._server.add_insecure_port(self.target)
                else:
                    self.port = self._server.add_secure_port(self.target, self._credentials)
                break
            except RuntimeError:
                time.sleep(0.05)
        self._server.start()

    def stop(self) -> None:
        """Hang up and be gone."""
        if self._server is not None:
            self._server.stop(0).wait(5)
            self._server = None

    def forget(self) -> None:
        """Lose what reports said, as a database restored from a backup."""
        with self._lock:
            self.series.clear()
            self._seen.clear()

    @property
    def counts(self) -> Counts:
        """All that was reported by all processes."""
        total: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        with self._lock:
            for series in self.series.values():
                for ordinal, (valid, refused) in series.counts.items():
                    total[ordinal][0] += valid
                    total[ordinal][1] += refused
        return {ordinal: (valid, refused) for ordinal, (valid, refused) in total.items()}

    @property
    def watched(self) -> Sequence[tuple[node_pb2.WatchedUse, float]]:
        """All watched calls, with the time at which they came."""
        return [use for series in self.series.values() for use in series.watched]

    def last_status(self) -> node_pb2.ReportStatusRequest:
        """The last report of status."""
        return self.statuses[-1][0]

    # --- The service

    def ReportStatus(self, request: node_pb2.ReportStatusRequest, context: Any) -> node_pb2.ReportStatusResponse:
        """Note a status."""
        self._authenticate(context)
        self.statuses.append((request, time.time()))
        answer = node_pb2.ReportStatusResponse(revision=request.revision)
        answer.clock.FromNanoseconds(time.time_ns() + int(self.ahead_s * 1e9))
        return answer

    def ReportUsage(self, request: node_pb2.ReportUsageRequest, context: Any) -> node_pb2.ReportUsageResponse:
        """Apply a report, once."""
        self._authenticate(context)
        if self._random.random() < self.lose_requests:
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost on its way here")
        with self._lock:
            applied = self._apply(request, context)
        if self._random.random() < self.lose_answers:
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost on its way back")
        return node_pb2.ReportUsageResponse(applied=applied)

    def _authenticate(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authorization")
        if self.token is not None and given != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    def _apply(self, request: node_pb2.ReportUsageRequest, context: Any) -> int:
        name = request.node, request.epoch
        series = self.series.setdefault(name, Series())
        data = request.SerializeToString(deterministic=True)
        if self._seen.setdefault((*name, request.sequence), data) != data:
            self.faults.append(f"report {request.sequence} was sent again with another content")
        if request.sequence <= series.applied:
            return series.applied
        if request.sequence != series.applied + 1:
            del self._seen[(*name, request.sequence)]
            context.abort_with_status(rpc_status.to_status(_gap(series.applied)))
        self._check(request, series)
        series.applied = request.sequence
        series.rows.append(len(request.ordinals))
        series.watched_lost += request.watched_lost
        for ordinal, valid, refused in zip(request.ordinals, request.valid, request.refused, strict=True):
            series.counts[ordinal][0] += valid
            series.counts[ordinal][1] += refused
        series.watched += [(use, time.time()) for use in request.watched]
        return series.applied

    def _check(self, request: node_pb2.ReportUsageRequest, series: Series) -> None:
        """See that ordinals ascend, and that times have no hole."""
        begin, end = getattr(request, "from").ToMilliseconds(), request.to.ToMilliseconds()
        if any(one >= other for one, other in zip(request.ordinals, request.ordinals[1:], strict=False)):
            self.faults.append("ordinals that do not ascend")
        if end < begin:
            self.faults.append(f"a report from {begin} to {end}")
        if series.spans:
            last_begin, last_end, partial = series.spans[-1]
            if begin != (last_begin if partial else last_end):
                self.faults.append(f"after {series.spans[-1]} comes {begin, end}")
        series.spans.append((begin, end, request.partial))


def _gap(applied: int) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason="USAGE_GAP", domain="verifier")
    info.metadata["details"] = json.dumps({"applied": applied})
    packed = any_pb2.Any()
    packed.Pack(info)
    return status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="a report is missing", details=[packed])
