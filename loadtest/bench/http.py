"""Server CPU per forward-auth request in HTTP/1.1, against Verify over gRPC and Python's HTTP servers."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from loadtest.bench import tools
from loadtest.bench.check import field, requests_file
from loadtest.bench.driving import NotReady, drive
from loadtest.bench.plan import Plan, interleaved, spread
from loadtest.bench.report import Row
from loadtest.bench.servers import Server, free_port, node, process, wait_until_it_answers
from loadtest.bench.stores import BenchStore, bench_store
from loadtest.bench.tools import Missing

# Gateways do not pipeline: connections, with one request on each.
SHAPES = (1, 10, 50)
TOKENS = 30_000
RULES = {"verify": ("<=", 3.0), "starlette": (">=", 5.0)}
APP = "loadtest.peers.http_asgi"
UVICORN = ["-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
           "--host", "127.0.0.1", "--port"]  # fmt: skip
PEERS: Mapping[str, Sequence[str]] = {
    "starlette": [*UVICORN, "{port}", f"{APP}:starlette"],
    "asgi": [*UVICORN, "{port}", f"{APP}:bare"],
    "granian": ["-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--no-ws", "--log-level", "warning",
                "--host", "127.0.0.1", "--port", "{port}", f"{APP}:bare"],
    "protocol": ["-m", "loadtest.peers.http_protocol", "{port}"],
}  # fmt: skip


def http_request(token: bytes) -> bytes:
    """Write what NGINX sends of a small request."""
    return (b"GET /v1/authz HTTP/1.1\r\nHost: verifier\r\nAuthorization: Bearer " + token + b"\r\nAccept: */*\r\n"
            b"User-Agent: curl/8.5.0\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Method: GET\r\n"
            b"X-Forwarded-Uri: /v1/orders?limit=20\r\n\r\n")


def measure(plan: Plan) -> list[Row]:
    """Measure CPU and latency of `/v1/authz` and its peers."""
    store = bench_store(plan.keys)
    tokens = store.sample(TOKENS)
    requests = requests_file(store.folder / "requests.http1", map(http_request, tokens))
    verify = requests_file(store.folder / "requests.verify", (field(1, token) for token in tokens))
    where = f"127.0.0.1:{free_port()}"
    with ExitStack() as running:
        grpc = running.enter_context(node(store, requests=verify, options=("--http-listen", where)))
        servers = {"authz": Server("authz", grpc.pid, where, "http1", requests), "verify": grpc}
        for name, command in PEERS.items():
            try:
                servers[name] = running.enter_context(_peer(name, command, store, requests))
            except (Missing, NotReady) as reason:
                plan.notes.append(f"{name} left out: {reason}")
        cases = {(name, shape): partial(drive, server, connections=shape, duration_s=plan.seconds)
                 for shape in SHAPES for name, server in servers.items()}
        found = interleaved(plan.rounds, cases)
    return [_row(plan, shape, list(servers), found) for shape in SHAPES]


@contextmanager
def _peer(name: str, command: Sequence[str], store: BenchStore, requests: Path) -> Iterator[Server]:
    port = free_port()
    words = [tools.http_peers(), *(word.format(port=port) for word in command)]
    before = os.environ.get("VERIFIER_STORE")
    os.environ["VERIFIER_STORE"] = str(store.home)
    try:
        with process(words) as child:
            yield _waited(Server(name, child.pid, f"127.0.0.1:{port}", "http1", requests), child)
    finally:
        os.environ.pop("VERIFIER_STORE")
        if before is not None:
            os.environ["VERIFIER_STORE"] = before


def _waited(server: Server, child: "subprocess.Popen[str]") -> Server:
    """Wait for the server, then for the process that answers: granian has it in a child of its own."""
    wait_until_it_answers(server, child)
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    return replace(server, pid=int(children[-1])) if server.name == "granian" and children else server


def _row(plan: Plan, shape: int, names: list[str], found: dict) -> Row:
    figures = {name: spread(report["server_cpu_us"] for report in found[name, shape]) for name in names}
    latency = {name: spread(report["latency_us"]["p50"] for report in found[name, shape])["median"] for name in names}
    errors = sum(report["errors"] for name in names for report in found[name, shape])
    detail = {"server_cpu_us": figures, "p50_us": latency, "errors": errors,
              "rate": spread(report["rate"] for report in found["authz", shape])}
    note = f"p50 {latency['authz']:.0f} us, of Verify {latency['verify']:.0f} us"
    if errors:
        note += f"; {errors} ERRORS"
    what = f"server CPU per /v1/authz in HTTP/1.1, {plan.keys:,} keys, {shape}x1"
    peers = {name: figures[name]["median"] for name in names if name != "authz"}
    # With one connection both sides mostly wait for the kernel, in which all are alike.
    return Row("http", what, figures["authz"]["median"], "us", None, peers, RULES if shape > 1 else {}, detail, note)
