"""From a publication's pointer to answers of its revision, and to refusals of what it takes away."""

import os
import time
from typing import Any

import grpc

from loadtest.bench.driving import CORES, pin_to_generator_core
from loadtest.bench.plan import Plan, spread
from loadtest.bench.report import Row
from loadtest.bench.revisions import KEY_DISABLED, Reel, reel
from loadtest.bench.servers import node
from loadtest.bench.stores import bench_store
from verifier.v1.verifier_pb2 import VerifyRequest, VerifyResponse

BUDGET_S = {10_000_000: 4.0}
PATIENCE_S = 60.0


def measure(plan: Plan) -> list[Row]:
    """Play publications to a node that is otherwise idle and ask until they are served: whole keyrings, then deltas."""
    whole, delta = _times(plan, bases=True), _times(plan, bases=False)
    note = "from CURRENT moved to the first answer; file in the page cache"
    return [
        Row("load", f"notice to served, {plan.keys:,} keys", whole["median"], "s", BUDGET_S.get(plan.keys),
            detail=whole, note=note),
        Row("load", f"notice to served, a delta, {plan.keys:,} keys", 1000 * delta["median"], "ms", detail=delta),
    ]


def _times(plan: Plan, *, bases: bool) -> dict[str, Any]:
    store = bench_store(plan.keys)
    swaps = 3 if plan.quick else 7
    with store.tokens_file.open() as lines:
        canary = next(lines).strip()
    pin_to_generator_core()
    try:
        with reel(store, swaps, bases=bases) as film, node(store, home=film.home) as server, \
                grpc.insecure_channel(server.target) as channel:
            times = [_served_after_s(channel, canary, film, film.first + step) for step in range(1, swaps + 1)]
    finally:
        os.sched_setaffinity(0, set(CORES))
    return spread(times)


def _served_after_s(channel: grpc.Channel, canary: str, film: Reel, revision: int) -> float:
    verify = channel.unary_unary("/verifier.v1.VerifierService/Verify", VerifyRequest.SerializeToString,
                                 VerifyResponse.FromString)
    film.play(revision)
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE_S:
        answer = verify(VerifyRequest(key=canary))
        if answer.revision == revision:
            after_s = time.monotonic() - start
            assert (answer.verdict == KEY_DISABLED) == (film.expected(revision) == KEY_DISABLED)
            return after_s
        time.sleep(0.001)
    raise TimeoutError(f"revision {revision} was not served within {PATIENCE_S:.0f} s")
