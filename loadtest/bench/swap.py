"""Swapping whole keyrings under load: what a publication costs the callers, and whether any answer is wrong."""

import time
from typing import Any

from loadtest.bench.driving import command_of, drive, report_of, start
from loadtest.bench.plan import Plan, median, spread
from loadtest.bench.report import Row
from loadtest.bench.revisions import Reel, mixed_answers, reel
from loadtest.bench.servers import Server, node
from loadtest.bench.stores import bench_store

SHAPE = {"connections": 10, "streams": 100}
DIFFERENCE_US_MAX = 1000.0
PUBLICATION_BYTES_PER_S = 100e6  # play no faster than a node can surely load


def measure(plan: Plan) -> list[Row]:
    """Load at half rate on a schedule, without and with publications, in turn."""
    store = bench_store(plan.keys)
    rounds = 1 if plan.quick else 3
    swaps = 3 if plan.quick else 6
    gap_s = max(1.0, store.keyring_bytes() / PUBLICATION_BYTES_PER_S)
    duration_s = max((swaps + 1) * gap_s, plan.seconds)
    with reel(store, rounds * swaps, bases=True) as film, node(store, home=film.home, requests=film.requests) as server:
        full = drive(server, connections=10, streams=10, duration_s=plan.seconds, extra=_canaries(film))["rate"]
        load = {**SHAPE, "rate_per_s": full / 2, "duration_s": duration_s, "extra": _canaries(film, "--spin")}
        quiet, swapped, revision = [], [], film.first
        for _ in range(rounds):
            quiet.append(drive(server, **load))
            swapped.append(_with_swaps(server, load, film, revision, swaps, gap_s))
            revision += swaps
    return _rows(plan, film, quiet, swapped)


def _canaries(film: Reel, *more: str) -> tuple[str, ...]:
    return ("--canaries", str(film.canary_requests), *more)


def _with_swaps(server: Server, load: dict, film: Reel, revision: int, swaps: int, gap_s: float) -> dict[str, Any]:
    generator = start(command_of(server, **load))
    time.sleep(0.5)
    for step in range(1, swaps + 1):
        film.play(revision + step)
        time.sleep(gap_s)
    return report_of(generator)


def _rows(plan: Plan, film: Reel, quiet: list[dict], swapped: list[dict]) -> list[Row]:
    tail = {name: spread(report["latency_us"]["p99_9"] for report in reports)
            for name, reports in (("quiet", quiet), ("swapped", swapped))}
    calls = sum(report["calls"] for report in swapped)
    seen = {row["revision"] for report in swapped for row in report["revisions"]}
    detail = {"p99_9_us": tail, "calls": calls, "rate": median(report["rate"] for report in swapped),
              "max_us": {"quiet": max(report["latency_us"]["max"] for report in quiet),
                         "swapped": max(report["latency_us"]["max"] for report in swapped)},
              "revisions_seen": len(seen), "backward": sum(report["backward"] for report in swapped)}
    size = f"{plan.keys:,} keys"
    return [
        Row("swap", f"p99.9 with swaps less p99.9 without, {size}, half load",
            max(0.0, tail["swapped"]["median"] - tail["quiet"]["median"]), "us", DIFFERENCE_US_MAX, detail=detail,
            note=f"{tail['quiet']['median']:.0f} -> {tail['swapped']['median']:.0f} us over {calls:,} calls, "
                 f"{len(seen)} revisions"),
        Row("swap", "failed calls", sum(report["errors"] for report in [*quiet, *swapped]), "calls", 0),
        Row("swap", "answers that mix two keyrings", mixed_answers(film, [*quiet, *swapped]), "answers", 0),
        Row("swap", "revision went down on a connection", detail["backward"], "times", 0),
    ]
