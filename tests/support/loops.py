"""A compiled event loop that serves a view on a real socket."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from verifier._authz import Authz
from verifier._loop import Loop
from verifier._view import View

JOIN_TIMEOUT_S = 10


@dataclass
class RunningLoop:
    """A loop in its thread.

    Attributes:
        loop: the loop itself.
        target: where it listens, for gRPC.
        views: what was published, kept alive as a node would.
    """

    loop: Loop
    target: str
    views: list[View]

    def publish(self, view: View) -> None:
        """Serve another view, and wait until the loop does."""
        self.views.append(view)
        self.loop.publish(view)
        wait = threading.Event()
        for _ in range(5000):
            if self.loop.seen(view):
                return
            wait.wait(0.001)
        raise AssertionError("the loop did not take the view")


@contextmanager
def running(view: View | None, path: str | None = None, authz: Authz | None = None) -> Iterator[RunningLoop]:
    """Serve a view (None: no keyring) on 127.0.0.1, or on a Unix socket at ``path``, to gateways too if told how."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        target = f"127.0.0.1:{listener.getsockname()[1]}"
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(256)
        target = f"unix:{path}"
    loop = Loop(authz=authz)
    loop.add_listener(listener.fileno())
    listener.close()
    server = RunningLoop(loop, target, [])
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        if view is not None:
            server.publish(view)
        yield server
    finally:
        loop.stop()
        thread.join(JOIN_TIMEOUT_S)
        assert not thread.is_alive()
