"""A loop that answers plain HTTP on a real socket, and raw requests to it."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.conformance.worlds import native
from tests.support.image import KEY_OFF, REVOKED, Facts, image_of, view_of
from verifier._authz import Authz
from verifier._loop import Loop
from verifier._view import View
from verifier.limits import Limits

PLACES = (("scheme", "authorization", "bearer"), ("header", "x-api-key", ""), ("query", "api_key", ""))
GOOD, RETIRING, REVOKED_KEY, OFF, EARLY, LATE, RULED, UNKNOWN = (native(number) for number in range(1, 9))
ANSWER_TIMEOUT_S = 5.0


def world(**options: Any) -> View:
    """One key of each kind."""
    return view_of(image_of({
        GOOD: Facts(scopes=("read", "trade"), metadata={"tier": "gold", "note": "caf\u00e9 \u20ac"}),
        RETIRING: Facts(key_id="key_2", superseded_at=1_000_000, superseded_by=2, end=4_000_000_000),
        REVOKED_KEY: Facts(flags=REVOKED, reason=1),
        OFF: Facts(flags=KEY_OFF),
        EARLY: Facts(not_before=4_000_000_000),
        LATE: Facts(end=1_000_000),
        RULED: Facts(rules=("10.0.0.0/8",)),
    }), **options)  # fmt: skip


class WebServer:
    """A running loop.

    Attributes:
        loop: the loop.
        address: host and port.
    """

    def __init__(self, loop: Loop, port: int) -> None:
        self.loop = loop
        self.address = ("127.0.0.1", port)

    def connect(self, timeout_s: float = ANSWER_TIMEOUT_S) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self.address, timeout_s)

    def say(self, data: bytes, pieces: int = 0) -> bytes:
        """Send bytes, hang up on that side, and return all that is answered."""
        with self.connect() as connection:
            size = pieces or len(data) or 1
            try:
                for at in range(0, len(data), size):
                    connection.sendall(data[at : at + size])
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it was refused before it was over
            return read_all(connection)

    def closed(self, reason: str) -> int:
        """How many connections were closed for a reason."""
        return self.loop.counters()["closed"][reason]


def read_all(connection: socket.socket) -> bytes:
    """Read until the server hangs up."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


class Answer:
    """One answer in HTTP/1.1."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def answers_of(data: bytes, *, heads: int = 0) -> list[Answer]:
    """Take answers apart, strictly; the first ``heads`` of them have no body."""
    found = []
    while data:
        head, empty, data = data.partition(b"\r\n\r\n")
        assert empty, f"an answer that is cut off: {head!r}"
        first, *lines = head.decode().split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert "HTTP/1.1" == version
        pairs = [line.split(": ", 1) for line in lines]
        headers = dict(pairs)
        assert len(headers) == len(pairs), f"a header stands twice: {lines}"
        length = 0 if status == "100" or len(found) < heads else int(headers["content-length"])
        assert len(data) >= length
        found.append(Answer(int(status), headers, data[:length]))
        data = data[length:]
    return found


def head(target: str = "/v1/authz", *lines: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """Write the head of a request."""
    return "\r\n".join([f"{method} {target} {version}", "host: verifier", *lines, "", ""]).encode("latin-1")


def verify(body: Any, *lines: str) -> bytes:
    """Write a request to /v1/verify."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return head("/v1/verify", "content-type: application/json", f"content-length: {len(data)}", *lines,
                method="POST") + data


@contextmanager
def web_server(view: View | None = None, limits: Limits | None = None, *, address_header: str = "",
               authz: Authz | None = None, detects: bool = True) -> Iterator[WebServer]:
    """Serve until the block ends; gateways find keys in all places, the query included."""
    loop = Loop(limits, authz=authz or Authz(PLACES, metadata=[("tier", "x-verifier-tier")], forwarded_hops=0),
                address_header=address_header)
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        loop.add_listener(listener.fileno(), detects)
        port = listener.getsockname()[1]
    if view is not None:
        loop.publish(view)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield WebServer(loop, port)
    finally:
        loop.stop()
        thread.join(10)
        assert not thread.is_alive()
