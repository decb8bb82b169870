"""Latency: one call at a time against a blocking TCP echo, and on a schedule at half of what the node can do."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from loadtest.bench.driving import drive
from loadtest.bench.plan import Plan, interleaved, median, spread
from loadtest.bench.report import Row
from loadtest.bench.servers import Server, echo, node, peers
from loadtest.bench.stores import bench_store

ECHO_FACTOR = 1.35
SPIN_US = "200"
POINTS = ("p50", "p90", "p99", "p99_9", "p99_99", "max")
BLOCKING, SPIN = ("--blocking",), ("--spin",)


def measure(plan: Plan) -> list[Row]:
    """Measure latencies closed loop at 1x1 and open loop at half load."""
    store = bench_store(plan.keys)
    with ExitStack() as running:
        ours = running.enter_context(node(store))
        on_unix = running.enter_context(node(store, unix=True, name="verifier_unix"))
        floor = running.enter_context(echo(store))
        others = running.enter_context(peers(store, plan.peers, plan.notes))
        servers = [ours, on_unix, floor, *others]
        cases = {server.name: partial(_one_at_a_time, server, plan, BLOCKING) for server in servers}
        found = interleaved(plan.rounds, cases)
        rows = [_closed(found)]
        rows += _open(ours, plan)
    return [*rows, *_spinning(plan, found)]


def _one_at_a_time(server: Server, plan: Plan, extra: Sequence[str]) -> dict:
    return drive(server, duration_s=plan.seconds, extra=extra, expect=-1 if server.protocol == "echo" else 1)


def _p50(reports: list[dict]) -> float:
    return median(report["latency_us"]["p50"] for report in reports)


def _closed(found: dict) -> Row:
    figures = {name: {point: spread(report["latency_us"][point] for report in reports) for point in POINTS}
               for name, reports in found.items()}
    others = {name: _p50(reports) for name, reports in found.items() if name != "verifier"}
    return Row("latency", "p50 at 1x1, both sides blocking", _p50(found["verifier"]), "us", None, others,
               {"echo": ("<=", ECHO_FACTOR)}, {"latency_us": figures})


def _spinning(plan: Plan, found: dict) -> list[Row]:
    """Measure a node whose loop looks for work before it sleeps; both ends spin."""
    store = bench_store(plan.keys)
    with node(store, options=("--spin-us", SPIN_US), name="spinning") as ours, echo(store, spin=True) as floor:
        spun = interleaved(plan.rounds, {
            server.name: partial(_one_at_a_time, server, plan, SPIN) for server in (ours, floor)
        })
    others = {"echo": _p50(found["echo"]), "echo_spin": _p50(spun["echo_spin"])}
    return [Row("latency", f"p50 at 1x1, --spin-us {SPIN_US}, client spinning", _p50(spun["spinning"]), "us", None,
                others, {"echo": ("<=", 0.5)}, {"latency_us": [report["latency_us"] for report in spun["spinning"]]})]


def _open(server: Server, plan: Plan) -> list[Row]:
    """Measure at half of the closed loop's rate: latency counts from when a call was due."""
    top = median(drive(server, connections=10, streams=10, duration_s=plan.seconds)["rate"] for _ in range(3))
    reports = [drive(server, connections=10, streams=100, rate_per_s=top / 2, duration_s=2 * plan.seconds,
                     extra=("--poisson", "--spin")) for _ in range(plan.rounds)]
    figures = {point: spread(report["latency_us"][point] for report in reports) for point in POINTS}
    detail = {"latency_us": figures, "rate": spread(report["rate"] for report in reports), "full_rate": top,
              "errors": sum(report["errors"] for report in reports)}
    note = ", ".join(f"{point.replace('_', '.')} {figures[point]['median']:.0f}" for point in POINTS[:4])
    return [Row("latency", f"p99 on a schedule at half load ({top / 2000:.0f}k/s, 10 connections)",
                figures["p99"]["median"], "us", detail=detail, note=note)]
