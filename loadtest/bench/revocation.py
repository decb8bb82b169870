"""From the revocation of one key of many to its last VALID answer, on a node that follows the same folder.

One process revokes and publishes, as the control plane does; another asks for the key without pause and notes when it
was refused first. The node has its core; they go where there is room, but under load the publisher keeps off it.
Load stands for other machines' callers, so its generator, which takes all of a core to keep to its schedule, gives way.
"""

import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

import grpc

from loadtest.bench.driving import CORES, GENERATOR_CORE, command_of, start
from loadtest.bench.plan import Plan
from loadtest.bench.report import Row
from loadtest.bench.servers import Server, node
from loadtest.bench.stores import BenchStore, bench_store
from verifier.control.acting import acting
from verifier.control.publishing import publish
from verifier.control.revoking import Selection, revoke
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home
from verifier.v1.verifier_pb2 import VERDICT_REVOKED, VERDICT_VALID, VerifyRequest, VerifyResponse
from verifier.vocabulary import RevocationReason

BUDGET_MS = 50.0
LOAD_CALLS_PER_S = 50_000
ASKED_EACH_S = 0.0005
ASKED_AFTERWARDS = 50
PATIENCE_S = 60.0
LOAD_S = 600.0  # ended when the rounds are


@dataclass(frozen=True)
class Round:
    """One revocation, as it went. Times are in nanoseconds since 1970.

    Attributes:
        begun: before the registry was changed.
        recorded: the change was durable there; publishing began.
        current: the publication was the current one (known to the millisecond).
        published: publishing returned.
        refused: the first refusal arrived.
        valid_later: VALID answers after that.
    """

    begun: int
    recorded: int
    current: int
    published: int
    refused: int
    valid_later: int

    def took_ms(self, since: str, until: str) -> float:
        """Return the milliseconds between two of its moments."""
        return (getattr(self, until) - getattr(self, since)) / 1e6


def measure(plan: Plan) -> list[Row]:
    """Revoke keys one by one, on an idle node and on one under load."""
    store = bench_store(plan.keys)
    number = 20 if plan.quick else 200
    home = store.copy_home("revoked")
    os.sync()  # gigabytes of copy that are still being written would hold up every commit
    try:
        with node(store, home=home) as server, open_registry(Home(home)) as registry:
            keys = _some_keys(store, 2 * number + 2)
            _revoked(Home(home), registry, server, islice(keys, 2))  # the first publication looks at everything once
            idle = _revoked(Home(home), registry, server, islice(keys, number))
            load = start(["nice", "-n", "19", *command_of(
                server, connections=10, streams=10, rate_per_s=LOAD_CALLS_PER_S, duration_s=LOAD_S, expect=-1,
            )])  # fmt: skip
            os.sched_setaffinity(0, {GENERATOR_CORE})
            try:
                loaded = _revoked(Home(home), registry, server, keys)
            finally:
                load.terminate()
                load.wait()
                os.sched_setaffinity(0, set(CORES))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return [*_rows(plan, "idle node", idle), *_rows(plan, f"node at {LOAD_CALLS_PER_S:,} calls/s", loaded)]


def _some_keys(store: BenchStore, number: int) -> Iterator[tuple[str, str]]:
    """Yield random keys as token and key id; lines of a file have one length, so none has to be read whole."""
    chosen = random.Random(11).sample(range(store.keys), number)
    with store.tokens_file.open("rb") as tokens, store.ids_file.open("rb") as ids:
        for index in chosen:
            yield _line(tokens, index), _line(ids, index)


def _line(file: Any, index: int) -> str:
    file.seek(0)
    length = len(file.readline())
    file.seek(index * length)
    return str(file.readline().decode().strip())


@contextmanager
def _asker(target: str) -> Iterator[Connection]:
    """Run the process that asks."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=ask, args=(target, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        here.send(None)
        process.join(10)


def ask(target: str, orders: Connection) -> None:
    """Wait for tokens; for each, say when it was VALID, then when it was refused first, and how often VALID after."""
    os.sched_setaffinity(0, set(CORES))
    with grpc.insecure_channel(target) as channel:
        verify = channel.unary_unary("/verifier.v1.VerifierService/Verify", VerifyRequest.SerializeToString,
                                     VerifyResponse.FromString)
        while (token := orders.recv()) is not None:
            request = VerifyRequest(key=token)
            orders.send(verify(request).verdict == VERDICT_VALID)
            deadline = time.monotonic() + PATIENCE_S
            while verify(request).verdict != VERDICT_REVOKED:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not refused within {PATIENCE_S:.0f} s")
                time.sleep(ASKED_EACH_S)
            refused = time.time_ns()
            orders.send((refused, sum(verify(request).verdict == VERDICT_VALID for _ in range(ASKED_AFTERWARDS))))


def _revoked(
    home: Home, registry: Registry, server: Server, keys: Iterator[tuple[str, str]]
) -> list[Round]:
    rounds = []
    with _asker(server.target) as asker:
        for token, key_id in keys:
            asker.send(token)
            if not asker.recv():
                raise RuntimeError("a key that was not revoked yet is not VALID")
            begun = time.time_ns()
            with acting(registry) as act:
                revoke(act, Selection(versions=[(key_id, 0)]), RevocationReason.KEY_COMPROMISE)
            recorded = time.time_ns()
            receipt = publish(home, registry=registry, held_ok=True)
            published = time.time_ns()
            assert receipt.committed_at_ms is not None
            refused, valid_later = asker.recv()
            rounds.append(Round(begun, recorded, receipt.committed_at_ms * 1_000_000, published, refused, valid_later))
    return rounds


def _rows(plan: Plan, where: str, rounds: Sequence[Round]) -> list[Row]:
    spans = {
        "recorded": ("begun", "recorded"), "built and current": ("recorded", "current"),
        "current to refused": ("current", "refused"), "publish()": ("recorded", "published"),
        "whole": ("begun", "refused"), "refused": ("recorded", "refused"),
    }  # fmt: skip
    found = {name: _quantiles([each.took_ms(*span) for each in rounds]) for name, span in spans.items()}
    told = ", ".join(f"{name} {_brief(found[name])}" for name in ("recorded", "built and current",
                                                                  "current to refused", "whole"))
    size = f"{plan.keys:,} keys, {where}"
    return [
        Row("revocation", f"recorded to first refusal, p99 of {len(rounds)}, {size}", found["refused"]["p99"], "ms",
            BUDGET_MS, detail=found, note=f"p50 {found['refused']['p50']:.1f}; of that, p50/p99: {told}"),
        Row("revocation", f"VALID after the first refusal, {size}", sum(each.valid_later for each in rounds),
            "answers", 0),
    ]


def _brief(quantiles: dict[str, float]) -> str:
    return f"{quantiles['p50']:.1f}/{quantiles['p99']:.1f}"


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * part))] for name, part in at.items()} | {
        "max": ordered[-1]}
