"""The in-process verdict: from C, lookups that may overlap and lookups that wait for each other; and from Python."""

import gc
import json
import os
import subprocess
import time
from typing import Any

from loadtest.bench import tools
from loadtest.bench.driving import CORES, SERVER_CORE
from loadtest.bench.plan import Plan, spread
from loadtest.bench.report import Row
from loadtest.bench.stores import STORES, bench_store

SIZES = (100_000, 1_000_000, 10_000_000)
# Nanoseconds: independent, dependent, one call from Python, batch of 1,000 per key.
BUDGETS: dict[int, tuple[float | None, ...]] = {1_000_000: (340, 460, 700, 300), 10_000_000: (400, 520, None, None)}
SAMPLE = 1_000_000
BATCH = 1000


def measure(plan: Plan) -> list[Row]:
    """Measure at 100k and 1M keys, at the plan's size, and at 10M when such a store was made before."""
    sizes = {100_000, plan.keys} | {size for size in SIZES if (STORES / str(size) / "made.json").exists()}
    if not plan.quick:
        sizes.add(1_000_000)
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        return [row for size in sorted(sizes) for row in _at(size, plan)]
    finally:
        os.sched_setaffinity(0, set(CORES))


def _at(keys: int, plan: Plan) -> list[Row]:
    from verifier.serving.loading import load
    from verifier.store.home import Home
    from verifier.store.layout import Store
    from verifier.store.secrets import Secrets

    store = bench_store(keys)
    home = Home(store.home)
    tokens = store.sample(SAMPLE)
    width = len(tokens[0])
    plain = b"".join(token for token in tokens if len(token) == width)
    layout = Store(home.store)
    view: Any = load(layout, layout.current() or 0, Secrets(home.secrets))
    assert all(answer.valid for answer in view.verify_batch(tokens[:BATCH])), "a known token was refused"
    rounds = range(max(3, plan.rounds))
    count = len(tokens) // (4 if plan.quick else 1)
    figures = [
        ("from C, independent lookups", [view.measure_ns(plain, width, count, False) for _ in rounds]),
        ("from C, each after the one before", [view.measure_ns(plain, width, count, True) for _ in rounds]),
        ("from Python, one call", [_calls_ns(view, tokens[: count // 5]) for _ in rounds]),
        (f"from Python, batch of {BATCH:,}, per key", [_batches_ns(view, tokens[: count // 5]) for _ in rounds]),
    ]
    budgets = BUDGETS.get(keys, (None, None, None, None))
    del view
    gc.collect()
    floors = _memory_floors(store.keyring_bytes())
    return [Row("lookup", f"verdict at {keys:,} keys {what}", spread(values)["median"], "ns", budget, floor,
                detail=spread(values))
            for (what, values), budget, floor in zip(figures, budgets, floors, strict=True)]


def _memory_floors(size: int) -> list[dict[str, float]]:
    """Time the bare memory accesses of a lookup in a file of that size, for each of the figures."""
    answer = subprocess.run([tools.memory(), str(max(1, size >> 20))], check=True, capture_output=True, text=True)
    floor = json.loads(answer.stdout)
    independent, dependent = ({"memory": floor[f"{kind}_ns"]} for kind in ("independent", "dependent"))
    return [independent, dependent, dependent, independent]


def _calls_ns(view: Any, tokens: list[bytes]) -> float:
    verify = view.verify
    start = time.perf_counter_ns()
    for token in tokens:
        verify(token)
    return (time.perf_counter_ns() - start) / len(tokens)


def _batches_ns(view: Any, tokens: list[bytes]) -> float:
    batches = [tokens[at : at + BATCH] for at in range(0, len(tokens) - BATCH + 1, BATCH)]
    start = time.perf_counter_ns()
    for batch in batches:
        view.verify_batch(batch)
    return (time.perf_counter_ns() - start) / (len(batches) * BATCH)
