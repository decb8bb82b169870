"""The programs of a run: a control plane, nodes that report to it, and the process of the callers."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc

from loadtest.bench.driving import NotReady
from loadtest.bench.servers import free_port
from loadtest.bench.tools import ROOT
from loadtest.rotation import callers
from loadtest.rotation.callers import Move
from loadtest.rotation.calls import Call, unpacked
from verifier.admin import identities, local, remote
from verifier.admin.desk import Desk
from verifier.admin.face import Admin
from verifier.admin.v1 import lifecycle_pb2 as lifecycle
from verifier.admin.v1 import publication_pb2 as publication
from verifier.admin.v1 import types_pb2 as types
from verifier.control.acting import acting
from verifier.control.founding import found
from verifier.store.home import Home
from verifier.v1.verifier_pb2 import VerifyRequest, VerifyResponse

READY_S = 60.0
PROPAGATION = "verifier_control_propagation_seconds"
STOP_S = 30.0
CLIENT = "acme"
RECORDED = types.Options(wait=types.WAIT_RECORDED)


class Program:
    """``verifier ...`` in a process of its own; its log lines go to a file.

    Args:
        home: the ``--store`` folder, and where its registry is.
        log: the file, which is appended to.
        words: the command.
    """

    def __init__(self, home: Home, log: Path, *words: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")}
        if home.external:
            environment["VERIFIER_REGISTRY"] = home.registry_url
        self._log = log
        self._seen = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "verifier", "--store", str(home.folder), *words, "--log-format", "json"],
                cwd=ROOT, stdout=subprocess.DEVNULL, stderr=output, env=environment,
            )

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield what this process has logged."""
        with self._log.open("rb") as log:
            log.seek(self._seen)
            for line in log:
                if line.startswith(b"{") and line.endswith(b"\n"):
                    yield json.loads(line)

    def await_line(self, event: str) -> dict[str, Any]:
        """Wait for a log line.

        Raises:
            NotReady: the process ended, or it took too long.
        """
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for line in self.lines():
                if line["event"] == event:
                    return line
            if ended:
                break
            time.sleep(0.02)
        raise NotReady(f"no {event!r} of {self._log.name}:\n{self._log.read_text()[-2000:]}")

    def terminate(self) -> None:
        """Ask it to end, as an operator would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it as an operator would."""
        self.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()


class Node:
    """A node with a name and a port of its own, which it keeps when it is started again."""

    def __init__(self, home: Home, folder: Path, name: str, control: str, interval_s: float) -> None:
        self.name = name
        self.target = f"127.0.0.1:{free_port()}"
        self._home = home
        self._log = folder / f"{name}.log"
        self._words = [
            "serve", "--listen", self.target, "--metrics", "off", "--node-name", name, "--report-to", control,
            "--report-token-file", str(folder / "node.token"), "--report-interval", f"{int(interval_s * 1000)}ms",
            "--state", str(folder / f"{name}.state"),
        ]  # fmt: skip
        self.program = Program(home, self._log, *self._words)

    def start_again(self) -> None:
        """Start another process of it."""
        self.program = Program(self._home, self._log, *self._words)

    def await_revision(self, revision: int) -> None:
        """Wait until it answers with a revision or a higher one.

        Raises:
            NotReady: it took too long.
        """
        deadline = time.monotonic() + READY_S
        with grpc.insecure_channel(self.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            verify = channel.unary_unary(callers.VERIFY, VerifyRequest.SerializeToString, VerifyResponse.FromString)
            while time.monotonic() < deadline:
                try:
                    if verify(VerifyRequest(key="?"), timeout=5).revision >= revision:
                        return
                except grpc.RpcError:
                    pass
                time.sleep(0.005)
        raise NotReady(f"{self.name} does not serve revision {revision}")


class Callers:
    """The process of the callers, as a context manager."""

    def __init__(self, targets: Sequence[str], number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=callers.run, args=(targets, number, there), daemon=True)
        self._process.start()
        there.close()

    def order(self, move: Move) -> None:
        """Have a caller use another token; for one thread at a time."""
        self._pipe.send(move)

    def finish(self) -> list[Call]:
        """End them; return all calls that were made."""
        self._pipe.send(None)
        calls = list(unpacked(self._pipe.recv_bytes()))
        self._process.join(STOP_S)
        return calls

    def close(self) -> None:
        """End the process, if it is still there."""
        self._process.terminate()
        self._process.join(STOP_S)
        self._pipe.close()


class Stage:
    """What runs: see :func:`staged`.

    Attributes:
        folder: of the logs.
        nodes: that report.
        target: of the operators' API.
        metrics: of the control plane.
    """

    def __init__(self, home: Home, folder: Path, nodes: int, policy: types.Policy, interval_s: float) -> None:
        self.folder = folder
        self.target = f"127.0.0.1:{free_port()}"
        self.metrics = f"127.0.0.1:{free_port()}"
        self._token = _founded(home, folder, policy)
        self._control = Program(home, folder / "control.log", "control", "--listen", self.target, "--metrics",
                                self.metrics, "--interval", "200ms")
        self.nodes = [Node(home, folder, f"n{number + 1}", self.target, interval_s) for number in range(nodes)]

    def await_ready(self) -> None:
        """Wait until all answer."""
        self._control.await_line("leading")
        for node in self.nodes:
            node.program.await_line("serving")
            node.program.await_line("listening")

    def connect(self) -> Admin:
        """Return a connection to the operators' API, as admin."""
        return remote.connect(self.target, self._token)

    def propagation(self) -> tuple[int, float]:
        """Return how many publications the control plane's metric counts, and their mean time in milliseconds."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#")
        count, total_s = (float(lines[f"{PROPAGATION}_{part}"]) for part in ("count", "sum"))
        return int(count), total_s / count * 1000 if count else 0.0

    def close(self) -> None:
        """End all."""
        for node in self.nodes:
            node.program.terminate()
        for node in self.nodes:
            node.program.stop()
        self._control.stop()


def _founded(home: Home, folder: Path, policy: types.Policy) -> str:
    """Found a store with a client and a first publication; return an operator's token."""
    found(home)
    desk = Desk(home)
    try:
        with acting(desk.registry) as act:
            token = identities.create(act, "operator", "admin").token
            node_token = identities.create(act, "nodes", "node").token
        (folder / "node.token").touch(0o600)
        (folder / "node.token").write_text(node_token or "")
        admin = local.at(desk, local.local_caller())
        admin.lifecycle.CreateClient(lifecycle.CreateClientRequest(client_id=CLIENT, options=RECORDED))
        admin.lifecycle.UpdateStorePolicy(lifecycle.UpdateStorePolicyRequest(policy=policy, options=RECORDED))
        admin.publication.Publish(publication.PublishRequest())
    finally:
        desk.close()
    return token or ""


@contextmanager
def staged(nodes: int, policy: types.Policy, interval_s: float, registry: str | None = None) -> Iterator[Stage]:
    """Run everything on a new store, until the end of the context.

    Args:
        nodes: how many.
        policy: of the store.
        interval_s: of reports.
        registry: URL of an empty database for the registry; beside the store when None.
    """
    with tempfile.TemporaryDirectory(prefix="verifier-rotation-") as scratch, ExitStack() as running:
        folder = Path(scratch)
        stage = Stage(Home(folder / "home", registry), folder, nodes, policy, interval_s)
        running.callback(stage.close)
        stage.await_ready()
        yield stage
