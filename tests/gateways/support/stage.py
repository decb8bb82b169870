"""What stands behind a gateway: an upstream that tells what it got, and a node on ports that it keeps."""

import importlib.util
import random
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.gateways.support.gateways import APPLICATION, FILES, GATEWAY, VERIFIER_GRPC, VERIFIER_HTTP
from tests.gateways.support.keys import Keys
from tests.support.node import RunningNode, until

# What differs from a node's defaults: keys are taken from the query, too, and a note of theirs goes to the upstream.
OPTIONS = ("--authz-keys", "authorization: Bearer", "--authz-keys", "x-api-key", "--authz-keys", "query:api_key",
           "--authz-metadata", "plan")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now, and that no outgoing connection will be given meanwhile."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _echo() -> Any:
    spec = importlib.util.spec_from_file_location("gateway_upstream", FILES / "upstream.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Application:
    """deploy/gateways/upstream.py in a thread; notes what it got. Close it."""

    def __init__(self) -> None:
        module = _echo()
        self.requests: list[dict[str, Any]] = []
        requests = self.requests

        class Noting(module.Echo):  # type: ignore[misc]
            def arrived(self, request: dict[str, Any]) -> None:
                requests.append(request)

        self._server = module.Upstream(("127.0.0.1", 0), Noting)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


class Stage:
    """An upstream, a store with keys, and a node that serves it, with further options. Close it."""

    def __init__(self, keys: Keys, *options: str) -> None:
        self.keys = keys
        self._options = (*OPTIONS, *options)
        self.application = Application()
        self.ports = {GATEWAY: 0, APPLICATION: self.application.port, VERIFIER_GRPC: free_port(),
                      VERIFIER_HTTP: free_port()}  # fmt: skip
        self.node = self._start()

    def _start(self) -> RunningNode:
        return RunningNode(
            self.keys.home.folder, "--listen", f"127.0.0.1:{self.ports[VERIFIER_GRPC]}",
            "--http-listen", f"127.0.0.1:{self.ports[VERIFIER_HTTP]}", "--http-address-header", "x-real-ip",
            *self._options,
        )  # fmt: skip

    def publish(self, *, rebase: bool = False) -> None:
        """Publish, as a delta or a new base, and wait until the node serves it."""
        revision = self.keys.publish(rebase=rebase)
        until(lambda: (self.node.status()["revision"] or 0) >= revision)

    def stop_node(self) -> None:
        """Kill the node, as a crash would."""
        self.node.__exit__()

    def is_stopped(self) -> bool:
        """Tell whether all threads of the node stand still, by SIGSTOP."""
        tasks = Path(f"/proc/{self.node.process.pid}/task").iterdir()
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)

    def start_node(self) -> None:
        """Start it again where it was."""
        self.node = self._start()

    def close(self) -> None:
        """End all."""
        self.stop_node()
        self.application.close()
