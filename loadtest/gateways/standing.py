"""What is measured: gateways with nobody to ask, with a node, and with a peer, all before the same upstream."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.driving import NotReady
from loadtest.bench.servers import free_port
from loadtest.bench.stores import BenchStore
from loadtest.bench.tools import ROOT, Missing
from tests.gateways.support.gateways import (
    APPLICATION,
    ENVOY,
    GATEWAY,
    NGINX,
    PROGRAMS,
    VERIFIER_GRPC,
    VERIFIER_HTTP,
    Change,
    Gateway,
)
from tests.gateways.support.programs import Program

READY_S = 60.0
# Requests without end on a connection: connecting is not what is measured.
ENDLESS = ("    access_log off;\n", "    access_log off; keepalive_requests 1000000000;\n")
# A server that costs next to nothing, so that what a gateway adds is not lost in it.
UPSTREAM = """\
daemon off; pid nginx.pid; error_log stderr; events {}
http {
    client_body_temp_path tmp-body; proxy_temp_path tmp-proxy; fastcgi_temp_path tmp-fastcgi;
    uwsgi_temp_path tmp-uwsgi; scgi_temp_path tmp-scgi;
    access_log off; keepalive_requests 1000000000;
    server { listen 127.0.0.1:9000; location / { default_type text/plain; return 200 "hello"; } }
}
"""
# What makes a gateway let everybody in without asking.
UNASKED: dict[str, Change] = {
    "envoy": ("check_settings: {context_extensions: {required_scopes: read}}", "disabled: true"),
    "nginx": ("auth_request     /_verifier;", "auth_request     off;"),
}


@dataclass(frozen=True)
class Case:
    """One gateway in one setting, running.

    Attributes:
        gateway: its name.
        asks: "nobody", "verifier" or "grpcio".
        port: where it listens.
        pids: its processes.
        asked: the process that it asks; None if there is none.
    """

    gateway: str
    asks: str
    port: int
    pids: tuple[int, ...]
    asked: int | None


class _Standing:
    """Starts programs in folders of their own; they end with the context."""

    def __init__(self, running: ExitStack, scratch: Path) -> None:
        self._running = running
        self._scratch = scratch
        self.upstream = free_port()

    def folder(self, name: str) -> Path:
        folder = self._scratch / name
        folder.mkdir()
        return folder

    def start_upstream(self) -> None:
        folder = self.folder("upstream")
        (folder / "nginx.conf").write_text(UPSTREAM.replace(APPLICATION, str(self.upstream)))
        command = [PROGRAMS / "nginx", "-p", ".", "-e", "stderr", "-c", "nginx.conf"]
        self._running.enter_context(Program(command, folder, self.upstream))

    def start_python(self, name: str, port: int, *words: str | Path) -> int:
        """Run a module that listens on a port; return its process id."""
        log = self.folder(name) / "log"
        with log.open("wb") as output:
            child = subprocess.Popen([sys.executable, "-m", *map(str, words)], cwd=ROOT, stdout=output, stderr=output)
        self._running.callback(child.wait, 10)
        self._running.callback(child.terminate)
        _await_port(port, child, log)
        return child.pid

    def start_gateway(self, gateway: Gateway, asks: str, ports: dict[str, int], asked: int | None) -> Case:
        changes = [ENDLESS] if gateway is NGINX else []
        if asked is None:
            changes.append(UNASKED[gateway.name])
        ports = {**ports, GATEWAY: free_port(), APPLICATION: self.upstream}
        folder = self.folder(f"{gateway.name}-{asks}")
        program = self._running.enter_context(gateway.run(folder, ports, *changes))
        return Case(gateway.name, asks, ports[GATEWAY], _family(program.process.pid), asked)


def _family(pid: int) -> tuple[int, ...]:
    return (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _await_port(port: int, child: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and child.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise NotReady(f"nobody listens on {port}:\n{log.read_text()[-2000:]}")


@contextmanager
def standing(store: BenchStore) -> Iterator[list[Case]]:
    """Run all cases until the end of the context.

    Args:
        store: whose keys callers present.

    Raises:
        Missing: a gateway is not installed.
        NotReady: something does not start.
    """
    for program in ("envoy", "nginx", "wrk"):
        if not (PROGRAMS / program).exists():
            raise Missing(f"scripts/gateways.sh install {program}")
    with tempfile.TemporaryDirectory(prefix="verifier-gateways-") as scratch, ExitStack() as running:
        stand = _Standing(running, Path(scratch))
        stand.start_upstream()
        grpc, http, peer = free_port(), free_port(), free_port()
        node = stand.start_python(
            "node", http, "verifier", "--store", store.home, "serve", "--listen", f"127.0.0.1:{grpc}",
            "--metrics", "off", "--state", f"{scratch}/state", "--http-listen", f"127.0.0.1:{http}",
            "--http-address-header", "x-real-ip",
        )  # fmt: skip
        grpcio = stand.start_python("grpcio", peer, "loadtest.peers.grpcio_ext_authz", "--store", store.home,
                                    "--listen", f"127.0.0.1:{peer}")
        ours = {VERIFIER_GRPC: grpc, VERIFIER_HTTP: http}
        yield [
            stand.start_gateway(ENVOY, "nobody", ours, None),
            stand.start_gateway(ENVOY, "verifier", ours, node),
            stand.start_gateway(ENVOY, "grpcio", {**ours, VERIFIER_GRPC: peer}, grpcio),
            stand.start_gateway(NGINX, "nobody", ours, None),
            stand.start_gateway(NGINX, "verifier", ours, node),
        ]
