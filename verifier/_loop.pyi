from typing import TypedDict

from verifier._authz import Authz
from verifier._usage import Usage
from verifier._view import View
from verifier.limits import Limits

REASON_NAMES: tuple[str, ...]

class Counters(TypedDict):
    index: int
    connections: int
    accepted: int
    opened: int
    handed: int
    closed: dict[str, int]
    bytes_in: int
    bytes_out: int
    turns: int
    streams: int
    goaways: int
    resets_in: int
    resets_out: int
    protocol_errors: int
    accept_pauses: int
    clock_steps_back: int
    verdicts: list[int]
    calls: list[list[int]]
    asked: list[int]
    latency_bounds_us: list[int]
    latency_counts: list[int]
    latency_sum_us: float

class Loop:
    limits: Limits
    index: int
    usage: Usage | None
    authz: Authz | None
    running: bool
    def __init__(
        self, limits: Limits | None = None, index: int = 0, spin_us: int = 0, methods: str = "service",
        authz: Authz | None = None, address_header: str = "",
    ) -> None: ...
    def add_listener(self, fd: int, detects: bool = False) -> None: ...
    def add_peer(self, peer: Loop) -> None: ...
    def count_usage(self) -> None: ...
    def exchange_usage(self) -> bool: ...
    def run(self) -> None: ...
    def publish(self, view: View) -> None: ...
    def seen(self, view: View) -> bool: ...
    def drain(self, timeout_s: float) -> None: ...
    def stop(self) -> None: ...
    @property
    def connections(self) -> int: ...
    def counters(self) -> Counters: ...
