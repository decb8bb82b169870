"""The event loops of a node as one: threads, listening sockets, what they serve, and how they end."""

import atexit
import threading
import time
from collections.abc import Sequence
from typing import Any

from verifier._authz import Authz
from verifier._loop import Loop
from verifier._view import View
from verifier.errors import Conflict
from verifier.limits import Limits
from verifier.server.listeners import Listener, open_listeners

ACKNOWLEDGE_TIMEOUT_S = 5.0
JOIN_TIMEOUT_S = 10.0
FIRST_PAUSE_S = 0.00005  # a loop that is busy takes a view within its turn, one that sleeps is woken
LAST_PAUSE_S = 0.005


class LoopGroup:
    """N event loops; the first accepts, and hands each connection to the loop with the fewest.

    Args:
        threads: how many loops; as many as there are cores to spend.
        limits: what clients may take; the defaults when None.
        spin_us: microseconds a loop goes on looking for work before it sleeps.
        methods: see :class:`verifier._loop.Loop`.
        authz: how gateways are answered; None: they are not.
        address_header: see :class:`verifier._loop.Loop`.
    """

    def __init__(
        self, threads: int = 1, limits: Limits | None = None, *, spin_us: int = 0, methods: str = "service",
        authz: Authz | None = None, address_header: str = "",
    ) -> None:
        self.loops = [Loop(limits, index, spin_us, methods, authz, address_header) for index in range(threads)]
        for peer in self.loops[1:]:
            self.loops[0].add_peer(peer)
        self.stuck_views: list[View] = []
        """Views that some loop has not taken in time, so that it may still use the one before; it keeps that alive."""
        self.http_addresses: list[str] = []
        """Where HTTP/1.1 is spoken, as bound."""
        self._listeners: list[Listener] = []
        self._threads: list[threading.Thread] = []
        self._publishing = threading.Lock()

    def listen(self, addresses: Sequence[str], socket_mode: int = 0o660, http: Sequence[str] = ()) -> list[str]:
        """Bind addresses, all or none, before the start; return them as bound, with the ports chosen for port 0.

        Args:
            addresses: where HTTP/2 is spoken.
            socket_mode: permissions of Unix sockets.
            http: where HTTP/1.1 is spoken, too; see `http_addresses`. May have some of the others.

        Raises:
            VerifierError: see :mod:`verifier.server.listeners`.
        """
        wanted = [*addresses, *(text for text in http if text not in addresses)]
        opened = open_listeners(wanted, socket_mode)
        for text, listener in zip(wanted, opened, strict=True):
            self.loops[0].add_listener(listener.fileno(), text in http)
        self._listeners += opened
        bound = [str(listener.address) for listener in opened]
        self.http_addresses = [where for text, where in zip(wanted, bound, strict=True) if text in http]
        return bound[: len(addresses)]

    def start(self) -> None:
        """Start the threads. They are daemons, so a forgotten group cannot hang the interpreter's exit."""
        atexit.register(self.stop)
        for loop in self.loops:
            thread = threading.Thread(target=loop.run, name=f"verifier-loop-{loop.index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def publish(self, view: View, timeout_s: float = ACKNOWLEDGE_TIMEOUT_S) -> bool:
        """Let all loops serve a view; before the start, it is the one they start with.

        Returns:
            True when every running loop uses it and none older. Otherwise a loop may still use an older one: it keeps
            that referenced until it has taken a later one, so nothing is freed under a loop.

        Raises:
            Conflict: another thread is publishing.
        """
        if not self._publishing.acquire(blocking=False):
            raise Conflict("another publication is being handed to the loops")
        try:
            for loop in self.loops:
                loop.publish(view)
            return self._wait_until_seen(view, timeout_s)
        finally:
            self._publishing.release()

    def _wait_until_seen(self, view: View, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        pause_s = FIRST_PAUSE_S
        # All are asked, not only until one is behind: asking is what lets go of older views.
        while [loop for loop in self.loops if not loop.seen(view) and loop.running]:
            if time.monotonic() >= deadline:
                self.stuck_views.append(view)
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)
        self.stuck_views.clear()
        return True

    @property
    def running(self) -> bool:
        """Whether any loop still runs."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def connections(self) -> int:
        """Open connections, over all loops."""
        return sum(loop.connections for loop in self.loops)

    def drain(self, timeout_s: float) -> None:
        """Begin to end: not serving, no new connections, clients asked to go; return at once. Then `join` or `stop`."""
        self.loops[0].drain(timeout_s)  # which accepts, and drains the others once they have their last connections
        self._close_listeners()

    def stop(self) -> None:
        """End at once; calls in flight are lost. Returns when the threads have ended."""
        for loop in self.loops:
            loop.stop()
        self._close_listeners()
        self.join(JOIN_TIMEOUT_S)
        atexit.unregister(self.stop)

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the threads to end; False when they have not within the time."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not self.running

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def counters(self) -> dict[str, Any]:
        """Add up what the loops have counted, in the form of :meth:`verifier._loop.Loop.counters`.

        Under ``loops`` is what each has counted.
        """
        each = [dict(loop.counters()) for loop in self.loops]
        total = {
            name: each[0][name] if name == "latency_bounds_us" else _sum([counters[name] for counters in each])
            for name in each[0] if name != "index"
        }  # fmt: skip
        return {**total, "loops": each}


def _sum(values: Sequence[Any]) -> Any:
    """Add values of the same form, however nested."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _sum([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_sum(row) for row in zip(*values, strict=True)]
    return sum(values)
