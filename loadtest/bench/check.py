"""Server CPU per Check of Envoy, with as many headers as an ordinary request has, against Verify in the same run."""

import struct
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from loadtest.bench.driving import drive
from loadtest.bench.plan import Plan, interleaved, spread
from loadtest.bench.report import Row
from loadtest.bench.servers import Server, node
from loadtest.bench.stores import BenchStore, bench_store

SHAPES = ((10, 100), (10, 10), (50, 1))
TOKENS = 30_000
TWICE = {"verify": ("<=", 2.0)}
METHODS = {"check": "/envoy.service.auth.v3.Authorization/Check", "verify": "/verifier.v1.VerifierService/Verify"}
TARGET = b"/v1/orders?limit=20&cursor=eyJvIjoxMDB9"
# What Envoy sends of a browser's request; with the key these are 20 headers.
HEADERS = {
    b":authority": b"api.example.com", b":path": TARGET, b":method": b"GET", b":scheme": b"https",
    b"user-agent": b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    b"accept": b"application/json, text/plain, */*", b"accept-encoding": b"gzip, deflate, br, zstd",
    b"accept-language": b"en-GB,en;q=0.9,de;q=0.8", b"cache-control": b"no-cache",
    b"origin": b"https://app.example.com", b"referer": b"https://app.example.com/orders",
    b"sec-fetch-dest": b"empty", b"sec-fetch-mode": b"cors", b"sec-fetch-site": b"same-site",
    b"x-forwarded-for": b"203.0.113.9", b"x-forwarded-proto": b"https",
    b"x-request-id": b"3f0c6a52-77d1-4b73-a34d-5e5ff3d4a0c1",
    b"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"content-type": b"application/json",
}  # fmt: skip


def field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    length = bytes([len(content)]) if len(content) < 128 else bytes([len(content) & 127 | 128, len(content) >> 7])
    return bytes([number << 3 | 2]) + length + content


def check_request(token: bytes, headers: Mapping[bytes, bytes] = HEADERS) -> bytes:
    """Encode a CheckRequest as Envoy sends it, with the key as Bearer token."""
    presented = {**headers, b"authorization": b"Bearer " + token}
    http = field(1, b"1234567890123456789") + field(2, b"GET")
    http += b"".join(field(3, field(1, name) + field(2, value)) for name, value in presented.items())
    http += field(4, TARGET) + field(5, b"api.example.com") + field(6, b"https") + field(10, b"HTTP/1.1")
    peers = (field(number, field(1, field(1, field(2, address) + b"\x18\xb0\xb9\x02")))
             for number, address in ((1, b"203.0.113.9"), (2, b"10.0.0.7")))
    time = field(1, b"\x08\x80\xb5\xce\xc8\x06\x10\x80\xa8\xd6\xb9\x01")
    return field(1, b"".join(peers) + field(4, time + field(2, http)))


def requests_file(path: Path, messages: Iterable[bytes]) -> Path:
    """Write messages as the generator reads them."""
    path.write_bytes(b"".join(struct.pack(">I", len(message)) + message for message in messages))
    return path


def request_files(store: BenchStore) -> dict[str, Path]:
    """Return one file of requests for each method, about the same keys."""
    tokens = store.sample(TOKENS)
    return {
        "check": requests_file(store.folder / "requests.check", map(check_request, tokens)),
        "verify": requests_file(store.folder / "requests.verify", (field(1, token) for token in tokens)),
    }


def measure(plan: Plan) -> list[Row]:
    """Measure CPU per call of Check and Verify, turn by turn on one node."""
    store = bench_store(plan.keys)
    files = request_files(store)
    with node(store, requests=files["verify"]) as server:
        cases = {(method, shape): partial(_run, server, method, files[method], shape, plan)
                 for shape in SHAPES for method in METHODS}
        found = interleaved(plan.rounds, cases)
    return [_row(plan, shape, found) for shape in SHAPES]


def _run(server: Server, method: str, requests: Path, shape: tuple[int, int], plan: Plan) -> dict:
    asked = Server(server.name, server.pid, server.target, server.protocol, requests, server.metrics)
    return drive(asked, connections=shape[0], streams=shape[1], duration_s=plan.seconds,
                 extra=("--path", METHODS[method]))


def _row(plan: Plan, shape: tuple[int, int], found: dict) -> Row:
    figures = {method: spread(report["server_cpu_us"] for report in found[method, shape]) for method in METHODS}
    errors = sum(report["errors"] for method in METHODS for report in found[method, shape])
    detail = {"server_cpu_us": figures, "errors": errors,
              "rate": spread(report["rate"] for report in found["check", shape])}
    note = f"{detail['rate']['median'] / 1000:.0f}k/s" + (f"; {errors} ERRORS" if errors else "")
    what = f"server CPU per Check, 20 headers, {plan.keys:,} keys, {shape[0]}x{shape[1]}"
    return Row("check", what, figures["check"]["median"], "us", None, {"verify": figures["verify"]["median"]}, TWICE,
               detail, note)
