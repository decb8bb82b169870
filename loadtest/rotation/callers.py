"""The clients: a process in which each calls Verify without pause, and changes its token when it is told to.

They do what real ones do: each has connections of its own, and asks another node when one does not answer.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import grpc

from loadtest.rotation.calls import FAULT, LOST, Call, packed
from verifier.v1.verifier_pb2 import VerifyRequest, VerifyResponse

VERIFY = "/verifier.v1.VerifierService/Verify"
CALL_S = 10.0
AWAY_NS = 1_000_000_000  # how long a node is left alone that did not answer
NICENESS = 5  # what calls takes all it can get: nodes and control plane come first
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class Move:
    """An order: use another token from a moment on.

    Attributes:
        caller: who.
        at_ns: from when on, in nanoseconds since 1970.
        key: index of the key.
        version: whose token it is.
        token: to send.
        probe: whether to send probes.
    """

    caller: int
    at_ns: int
    key: int
    version: int
    token: str
    probe: bool = False


def run(targets: Sequence[str], callers: int, orders: Connection) -> None:
    """Be the process: take orders until one is None, then hand all calls over."""
    os.nice(NICENESS)
    asyncio.run(_Fleet(targets, callers, orders).run())


class _Fleet:
    def __init__(self, targets: Sequence[str], callers: int, orders: Connection) -> None:
        self._targets = targets
        self._orders = orders
        self._stopping = asyncio.Event()
        self._callers = [_Caller(number, number % len(targets)) for number in range(callers)]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._orders.fileno(), self._obey)
        tasks = [asyncio.create_task(caller.run(self._targets, self._stopping)) for caller in self._callers]
        await asyncio.gather(*tasks)
        loop.remove_reader(self._orders.fileno())
        self._orders.send_bytes(packed(call for caller in self._callers for call in caller.calls))

    def _obey(self) -> None:
        while self._orders.poll():
            try:
                order: Move | None = self._orders.recv()
            except EOFError:  # who gave orders is gone
                os._exit(1)
            if order is None:
                self._stopping.set()
                return
            self._callers[order.caller].moves.append(order)


class _Caller:
    def __init__(self, number: int, home: int) -> None:
        self.moves: list[Move] = []
        self.calls: list[Call] = []
        self._number = number
        self._home = home
        self._use: Move | None = None
        self._request = VerifyRequest()
        self._away: dict[int, int] = {}

    async def run(self, targets: Sequence[str], stopping: asyncio.Event) -> None:
        channels = [grpc.aio.insecure_channel(target, options=OPTIONS) for target in targets]
        stubs = [channel.unary_unary(VERIFY, request_serializer=VerifyRequest.SerializeToString,
                                     response_deserializer=VerifyResponse.FromString) for channel in channels]
        while not stopping.is_set():
            self._change()
            if self._use is None:
                await asyncio.sleep(0.005)
            else:
                await self._ask(stubs, self._use)
        for channel in channels:
            await channel.close()

    def _change(self) -> None:
        due = [move for move in self.moves if move.at_ns <= time.time_ns()]
        for move in sorted(due, key=lambda move: move.at_ns):
            self._use = move
            self._request = VerifyRequest(key=move.token, probe=move.probe)
            self.moves.remove(move)

    async def _ask(self, stubs: Sequence[Any], use: Move) -> None:
        for node in self._in_order(len(stubs)):
            sent = time.time_ns()
            try:
                answer = await stubs[node](self._request, timeout=CALL_S)
            except grpc.aio.AioRpcError:
                self._away[node] = time.time_ns() + AWAY_NS
                self._note(use, node, sent, FAULT)
                continue
            self._note(use, node, sent, answer.verdict, answer.revision)
            return
        self._note(use, self._home, time.time_ns(), LOST)
        await asyncio.sleep(0.05)

    def _in_order(self, nodes: int) -> list[int]:
        """Return the nodes, its own first, and those last that did not answer lately."""
        now = time.time_ns()
        every = [(self._home + step) % nodes for step in range(nodes)]
        return sorted(every, key=lambda node: self._away.get(node, 0) > now)

    def _note(self, use: Move, node: int, sent: int, verdict: int, revision: int = 0) -> None:
        self.calls.append(Call(self._number, use.key, use.version, node, sent, time.time_ns(), verdict, revision,
                               int(use.probe)))
