"""Event loops with the echo method: the bare transport on a real socket."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from verifier._authz import Authz
from verifier.limits import Limits
from verifier.server.loops import LoopGroup


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for something that a loop does in its own time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


class EchoServer(LoopGroup):
    """A group of loops that listens on one address.

    Attributes:
        address: as :func:`socket.connect` takes it.
        target: as gRPC takes it.
    """

    address: Any
    target: str

    def closed(self, reason: str) -> int:
        """How many connections were closed, or not taken, for a reason."""
        return int(self.counters()["closed"][reason])


@contextmanager
def echo_server(
    limits: Limits | None = None, *, threads: int = 1, listen: Sequence[str] = ("127.0.0.1:0",), spin_us: int = 0,
    authz: Authz | None = None,
) -> Iterator[EchoServer]:
    """Serve until the block ends."""
    group = EchoServer(threads, limits, spin_us=spin_us, methods="echo", authz=authz)
    bound = group.listen(listen)
    group.target = bound[0]
    host, _, port = bound[0].rpartition(":")
    group.address = bound[0].removeprefix("unix:") if host == "unix" else (host, int(port))
    group.start()
    try:
        yield group
    finally:
        group.stop()
        assert not group.running
