"""What counting by version costs: two event loops in one process, on one core and one keyring, of which one counts.

Each has a generator of its own, and these are stopped and let go in turn (SIGSTOP, SIGCONT) every few hundredths of a
second, so that whatever else happens on the machine hits both alike: differences of 1 % show, where two runs of a
server differ by 10 %. What gathering and encoding costs is measured beside it, and added as it falls on each call when
all of the keyring is reported every ten seconds.
"""

import os
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from loadtest.bench.driving import GENERATOR_CORE, SERVER_CORE, command_of, start
from loadtest.bench.plan import Plan, median, spread
from loadtest.bench.report import Row
from loadtest.bench.servers import Server
from loadtest.bench.stores import BenchStore, bench_store
from verifier.reporting.backlog import Backlog
from verifier.server.loops import LoopGroup
from verifier.server.usage import LoopUsage
from verifier.serving.keyring import Keyring

CONNECTIONS, STREAMS = 10, 100
SLICE_S = 0.04
SETTLE_S = 0.01
PAUSE_S = 0.002
INTERVAL_S = 10.0
BUDGET_PERCENT = 3.0


@dataclass
class Pass:
    """Microseconds per call of each slice without and with counting; CPU time and versions of each report."""

    off_us: list[float] = field(default_factory=list)
    on_us: list[float] = field(default_factory=list)
    reports: list[tuple[float, int]] = field(default_factory=list)


@dataclass
class Half:
    """One loop with its load."""

    group: LoopGroup
    generator: "subprocess.Popen[str]"
    thread: int
    source: LoopUsage | None

    def signal(self, number: signal.Signals) -> None:
        """Stop its load, or let it go."""
        self.generator.send_signal(number)

    def snapshot(self) -> tuple[int, int]:
        """Return nanoseconds on the CPU, and calls answered."""
        cpu_ns = int(Path(f"/proc/self/task/{self.thread}/schedstat").read_text().split()[0])
        return cpu_ns, self.group.counters()["calls"][0][0]


def measure(plan: Plan) -> list[Row]:
    """Measure CPU per call with and without counting, and what reports cost."""
    store = bench_store(plan.keys)
    before = os.sched_getaffinity(0)
    try:
        # The loop that was made last is up to 2 % slower, whatever it does: so each is it once.
        passes = [_measure(store, plan.rounds * plan.seconds, counting_last=last) for last in (False, True)]
    finally:
        os.sched_setaffinity(0, before)
    return [_row(plan, passes)]


def _measure(store: BenchStore, seconds: float, *, counting_last: bool) -> Pass:
    with ExitStack() as stack:
        keyring = stack.enter_context(Keyring.open(store.home, watch=False))
        os.sched_setaffinity(0, {SERVER_CORE})  # for the loops' threads
        halves = {counting: _half(stack, store, keyring, seconds, counting=counting)
                  for counting in ((False, True) if counting_last else (True, False))}
        os.sched_setaffinity(0, {GENERATOR_CORE})
        return _slices(halves[False], halves[True], seconds)


def _half(stack: ExitStack, store: BenchStore, keyring: Keyring, seconds: float, *,
          counting: bool) -> Half:
    group = LoopGroup()
    source = LoopUsage(group.loops) if counting else None
    (target,) = group.listen(["127.0.0.1:0"])
    group.start()
    stack.callback(group.stop)
    publication = keyring._follower.publication
    assert publication is not None
    group.publish(publication.view)
    server = Server("counting" if counting else "plain", os.getpid(), target, "grpc", store.grpc_requests())
    load = command_of(server, connections=CONNECTIONS, streams=STREAMS, duration_s=seconds * 2 + 30, warmup_s=0)
    generator = start(load)
    stack.callback(generator.wait)
    stack.callback(generator.kill)
    while group.counters()["calls"][0][0] == 0:
        time.sleep(0.01)
    generator.send_signal(signal.SIGSTOP)
    thread = group._threads[0].native_id
    assert thread is not None
    return Half(group, generator, thread, source)


def _slices(plain: Half, counting: Half, seconds: float) -> Pass:
    """Load both in turn."""
    found = Pass()
    assert counting.source is not None
    until, report_at = time.monotonic() + seconds, time.monotonic() + INTERVAL_S / 2
    while not found.reports or time.monotonic() < until:
        found.off_us += _slice(plain)
        found.on_us += _slice(counting)
        if time.monotonic() >= min(report_at, until):
            found.reports.append(_report_us(counting.source))
            report_at = time.monotonic() + INTERVAL_S / 2
    return found


def _slice(half: Half) -> list[float]:
    """Load one for a moment; return the microseconds per call, if there were calls."""
    half.signal(signal.SIGCONT)
    time.sleep(SETTLE_S)
    cpu_before, calls_before = half.snapshot()
    time.sleep(SLICE_S)
    cpu_after, calls_after = half.snapshot()
    half.signal(signal.SIGSTOP)
    time.sleep(PAUSE_S)
    calls = calls_after - calls_before
    return [(cpu_after - cpu_before) / calls / 1000] if calls else []


def _report_us(source: LoopUsage) -> tuple[float, int]:
    """Gather and encode what was counted; return its CPU time in microseconds, and the number of versions."""
    backlog = Backlog("bench", 1, 0)
    began_ns = time.thread_time_ns()
    collected, _ = source.collect(1.0)
    versions = sum(map(len, collected))
    backlog.add(collected, 1)
    while (report := backlog.next(1)) is not None:
        report.SerializeToString()
        backlog.acknowledge(report.sequence)
    return (time.thread_time_ns() - began_ns) / 1000, versions


def _row(plan: Plan, passes: list[Pass]) -> Row:
    ratio = prod(median(each.on_us) / median(each.off_us) for each in passes) ** (1 / len(passes))
    off, on = ([us for each in passes for us in getattr(each, name)] for name in ("off_us", "on_us"))
    reports = [report for each in passes for report in each.reports]
    per_version_us = sum(cost for cost, _ in reports) / max(1, sum(versions for _, versions in reports))
    # At full load every version of the keyring is used in an interval, or as many as there are calls.
    calls = INTERVAL_S * 1e6 / median(on)
    share_us = per_version_us * min(plan.keys, calls) / calls
    percent = (ratio - 1 + share_us / median(off)) * 100
    detail = {
        "off_us": _shown(off), "on_us": _shown(on), "loop_percent": (ratio - 1) * 100,
        "passes": [median(each.on_us) / median(each.off_us) for each in passes],
        "report_ns_per_version": per_version_us * 1000, "report_us_per_call": share_us,
    }  # fmt: skip
    note = (f"{(ratio - 1) * 100:.1f} % of {median(off):.2f} us in the loop, {share_us * 1000:.0f} ns for reports "
            f"({per_version_us * 1000:.0f} ns a version)")
    what = f"CPU for counting by version, of a Verify, {plan.keys:,} keys, {CONNECTIONS}x{STREAMS}"
    return Row("usage", what, percent, "%", BUDGET_PERCENT, {}, {}, detail, note)


def _shown(slices: list[float]) -> dict[str, float]:
    return {name: value for name, value in spread(slices).items() if name != "rounds"} | {"slices": len(slices)}
