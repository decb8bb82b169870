"""The servers under load: each one process, pinned to one core, on a random port of the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import tools
from loadtest.bench.driving import SERVER_CORE, NotReady, drive
from loadtest.bench.stores import REDIS_VALUE_BYTES, BenchStore
from loadtest.bench.tools import ROOT, Missing

READY_S = 120.0
VALID = 1


@dataclass(frozen=True)
class Server:
    """A running server and how to load it.

    Attributes:
        name: as results show it.
        pid: its process, whose CPU time counts.
        target: where it listens, as the generator takes it.
        protocol: the generator's ``--protocol``.
        requests: the generator's ``--requests``.
        metrics: host and port of a node's metrics, else empty.
    """

    name: str
    pid: int
    target: str
    protocol: str
    requests: Path
    metrics: str = ""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(command: Sequence[str | Path], *, core: int = SERVER_CORE) -> Iterator["subprocess.Popen[str]"]:
    """Run a command on one core, and stop it at the end; its standard error goes to a file that failures quote."""
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 (no threads yet)
        )
        try:
            yield child
        except NotReady as reason:
            errors.seek(0)
            raise NotReady(f"{reason}\n{errors.read()[-2000:]}") from None
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdout:
                child.stdout.close()


def wait_until_it_answers(server: Server, child: "subprocess.Popen[str]") -> Server:
    """Return the server once it answers a request with VALID.

    Raises:
        NotReady: it ended, or did not answer in time.
    """
    deadline = time.monotonic() + READY_S
    while child.poll() is None:
        try:
            if drive(server, calls=1, warmup_s=0, expect=VALID)["errors"] == 0:
                return server
        except NotReady:
            pass
        if time.monotonic() > deadline:
            raise NotReady(f"{server.name} did not answer in {READY_S:.0f} s")
        time.sleep(0.1)
    raise NotReady(f"{server.name} ended with code {child.returncode}")


@contextmanager
def node(store: BenchStore, *, home: Path | None = None, requests: Path | None = None, unix: bool = False,
         options: Sequence[str] = (), name: str = "verifier") -> Iterator[Server]:
    """Run ``verifier serve`` with one loop thread."""
    target, metrics = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="verifier-bench-") as scratch:
        if unix:
            target = f"unix:{scratch}/verifier.sock"
        command = [sys.executable, "-m", "verifier", "--store", home or store.home, "serve", "--listen", target,
                   "--metrics", metrics, "--threads", "1", "--state", f"{scratch}/state", "--connections-max", "20000",
                   *options]
        with process(command) as child:
            server = Server(name, child.pid, target, "grpc", requests or store.grpc_requests(), metrics)
            yield wait_until_it_answers(server, child)


@contextmanager
def grpcio_sync(store: BenchStore) -> Iterator[Server]:
    """Run the peer on grpcio's thread-pool server."""
    with _grpcio("grpcio_sync", store) as server:
        yield server


@contextmanager
def grpcio_aio(store: BenchStore) -> Iterator[Server]:
    """Run the peer on grpcio's asyncio server."""
    with _grpcio("grpcio_aio", store) as server:
        yield server


@contextmanager
def _grpcio(name: str, store: BenchStore) -> Iterator[Server]:
    target = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", f"loadtest.peers.{name}", "--store", store.home, "--listen", target]
    with process(command) as child:
        yield wait_until_it_answers(Server(name, child.pid, target, "grpc", store.grpc_requests()), child)


@contextmanager
def cpp_grpc(store: BenchStore) -> Iterator[Server]:
    """Run the C++ gRPC peer."""
    with process([tools.cpp_grpc(), store.tokens_file, store.ids_file]) as child:
        assert child.stdout is not None
        target = f"127.0.0.1:{child.stdout.readline().strip()}"
        yield wait_until_it_answers(Server("cpp_grpc", child.pid, target, "grpc", store.grpc_requests()), child)


@contextmanager
def echo(store: BenchStore, *, spin: bool = False) -> Iterator[Server]:
    """Run the blocking echo server: no protocol, no work."""
    with process([tools.echo(), *(["spin"] if spin else [])]) as child:
        assert child.stdout is not None
        target = f"127.0.0.1:{child.stdout.readline().strip()}"
        yield Server("echo_spin" if spin else "echo", child.pid, target, "echo", store.grpc_requests())


@contextmanager
def redis(store: BenchStore) -> Iterator[Server]:
    """Run redis-server with every token as a key and a value of the size of an answer.

    Raises:
        Missing: Redis is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("apt-get install redis-server")
    port = free_port()
    with process([program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]) as child:
        _fill_redis(port, store.tokens_file)
        server = Server("redis", child.pid, f"127.0.0.1:{port}", "redis", store.redis_requests())
        yield wait_until_it_answers(server, child)


def _fill_redis(port: int, tokens: Path) -> None:
    value = b"v" * REDIS_VALUE_BYTES
    batch = 10_000
    with _connected(port) as connection, tokens.open("rb") as lines, connection.makefile("rb") as replies:
        waiting: list[bytes] = []

        def send() -> None:
            connection.sendall(b"".join(waiting))
            for _ in waiting:
                if replies.readline() != b"+OK\r\n":
                    raise NotReady("redis refused a SET")
            waiting.clear()

        for line in lines:
            token = line.rstrip()
            waiting.append(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(token), token, len(value), value))
            if len(waiting) == batch:
                send()
        send()


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise NotReady("redis did not start") from None
            time.sleep(0.05)


PEERS: dict[str, Callable[[BenchStore], AbstractContextManager[Server]]] = {
    "grpcio_sync": grpcio_sync,
    "grpcio_aio": grpcio_aio,
    "cpp_grpc": cpp_grpc,
    "redis": redis,
}


@contextmanager
def peers(store: BenchStore, names: Sequence[str], notes: list[str]) -> Iterator[list[Server]]:
    """Run several peers at once; one that this machine lacks is left out, and why is added to the notes."""
    with ExitStack() as running:
        servers = []
        for name in names:
            try:
                servers.append(running.enter_context(PEERS[name](store)))
            except (Missing, NotReady) as reason:
                notes.append(f"{name} left out: {reason}")
        yield servers
