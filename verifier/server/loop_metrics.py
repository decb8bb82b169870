"""Prometheus metrics of the event loops, read from their counters at each scrape: counting costs calls nothing."""

import itertools
import time
from collections.abc import Iterator
from typing import Any, Protocol

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from verifier._view import View
from verifier.vocabulary import Verdict

METHODS = {0: "Verify", 1: "VerifyBatch", 2: "Health", 3: "Check", 4: "authz", 5: "VerifyJson", 7: "other"}
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
# Public code -> ASKED_* of ext/verifier/_asked.pxd.
REFUSALS = {"missing_key": (1,), "multiple_keys": (2,), "bad_request": (3, 4, 5, 7)}
# Counter of the loops -> metric and help.
PLAIN = {
    "accepted": ("verifier_connections_accepted_total", "Connections accepted."),
    "bytes_in": ("verifier_received_bytes_total", "Bytes received from clients."),
    "bytes_out": ("verifier_sent_bytes_total", "Bytes sent to clients."),
    "streams": ("verifier_streams_total", "Streams that clients opened, and requests in HTTP/1.1."),
    "resets_in": ("verifier_resets_received_total", "Streams that clients reset."),
    "resets_out": ("verifier_resets_sent_total", "Streams that the node reset."),
    "goaways": ("verifier_goaways_sent_total", "Connections that were asked to go."),
    "protocol_errors": ("verifier_protocol_errors_total", "Connections that broke the rules of HTTP."),
    "accept_pauses": ("verifier_accept_pauses_total", "Times that accepting paused for want of descriptors."),
    "clock_steps_back": ("verifier_clock_steps_back_total", "Times that the wall clock was set back over a minute."),
}


class Loops(Protocol):
    """What is read at a scrape; :class:`verifier.server.loops.LoopGroup` is one."""

    stuck_views: list[View]

    def counters(self) -> dict[str, Any]:
        """Return the counters of all loops added up, and under ``loops`` those of each."""


class LoopCollector(Collector):
    """Collects the metrics of a group of loops.

    Args:
        loops: the group.
    """

    def __init__(self, loops: Loops) -> None:
        self._loops = loops
        self._moved: dict[int, tuple[int, float]] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        counters = self._loops.counters()
        yield _verdicts(counters)
        yield _calls(counters)
        yield _refusals(counters)
        yield _latency(counters)
        yield GaugeMetricFamily("verifier_connections", "Open connections.", value=counters["connections"])
        yield _closed(counters)
        for name, (metric, help_text) in PLAIN.items():
            yield CounterMetricFamily(metric, help_text, value=counters[name])
        turns = CounterMetricFamily("verifier_loop_turns_total", "Turns of an event loop.", labels=["loop"])
        age = GaugeMetricFamily("verifier_loop_turn_age_seconds",
                                "Time since a loop with connections was seen to turn; it should turn every second.",
                                labels=["loop"])
        for loop in counters["loops"]:
            turns.add_metric([str(loop["index"])], loop["turns"])
            age.add_metric([str(loop["index"])], self._turn_age_s(loop))
        yield turns
        yield age
        yield GaugeMetricFamily("verifier_stuck_publications",
                                "Publications kept in memory for ever, since a loop did not let go of them in time.",
                                value=len(self._loops.stuck_views))

    def _turn_age_s(self, loop: dict[str, Any]) -> float:
        now = time.monotonic()
        turns, since = self._moved.get(loop["index"], (-1, now))
        if loop["turns"] != turns or not loop["connections"]:
            turns, since = loop["turns"], now
        self._moved[loop["index"]] = turns, since
        return now - since


def _verdicts(counters: dict[str, Any]) -> Metric:
    family = CounterMetricFamily("verifier_verifications_total", "Keys judged, by verdict.", labels=["verdict"])
    for verdict in Verdict:
        if verdict is not Verdict.UNSPECIFIED:
            family.add_metric([verdict.name], counters["verdicts"][verdict])
    return family


def _calls(counters: dict[str, Any]) -> Metric:
    family = CounterMetricFamily("verifier_calls_total", "Calls answered, by gRPC status.", labels=["method", "code"])
    for number, method in METHODS.items():
        for status, code in enumerate(CODES):
            count = counters["calls"][number][status]
            # OK is always there, so that rates work from the first scrape; the rest once it has happened.
            if count or (status == 0 and method != "other"):
                family.add_metric([method, code], count)
    return family


def _refusals(counters: dict[str, Any]) -> Metric:
    family = CounterMetricFamily("verifier_gateway_refusals_total",
                                 "Requests of gateways that were refused without a verdict.", labels=["code"])
    for code, numbers in REFUSALS.items():
        family.add_metric([code], sum(counters["asked"][number] for number in numbers))
    return family


def _latency(counters: dict[str, Any]) -> Metric:
    bounds = [f"{bound_us / 1e6:.9g}" for bound_us in counters["latency_bounds_us"]] + ["+Inf"]
    buckets = list(zip(bounds, itertools.accumulate(counters["latency_counts"]), strict=True))
    family = HistogramMetricFamily("verifier_call_seconds", "Time in the node: the turn of the loop that answered.")
    family.add_metric([], buckets, counters["latency_sum_us"] / 1e6)
    return family


def _closed(counters: dict[str, Any]) -> Metric:
    family = CounterMetricFamily("verifier_connections_closed_total", "Connections closed, or not taken, by reason.",
                                 labels=["reason"])
    for reason, count in counters["closed"].items():
        family.add_metric([reason], count)
    return family
