"""Clients of plain HTTP that make the node hold as much as they can: none takes more than a mebibyte, and the others
are answered as ever."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.groups import wait_until
from tests.support.http2 import Http2Client
from tests.support.web import GOOD, WebServer, answers_of, head, web_server, world

BEARER = f"authorization: Bearer {GOOD}"
GOOD_REQUEST = head("/v1/authz", BEARER)
HOGS = 20
JSON = "content-type: application/json"
# A sanitizer keeps what is freed, and would be all that is measured.
IS_SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server(world()) as running:
        yield running


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def large_head(connection: socket.socket) -> None:
    connection.sendall(head("/v1/authz", *(f"x{n}: {'y' * 500}" for n in range(120)))[:-2])


def large_body(connection: socket.socket) -> None:
    connection.sendall(head("/v1/verify", JSON, "content-length: 65536", method="POST") + b" " * 65_000)


def many_chunks(connection: socket.socket) -> None:
    connection.sendall(head("/v1/verify", JSON, "transfer-encoding: chunked", method="POST") + b"1\r\nx\r\n" * 15_000)


def untaken_answers(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(0.1)
    try:
        while True:
            connection.send(GOOD_REQUEST * 200)
    except TimeoutError:
        pass


@pytest.mark.parametrize("hog", [large_head, large_body, many_chunks, untaken_answers])
def test_no_connection_holds_more_than_a_mebibyte(server: WebServer, hog: Callable[[socket.socket], None]):
    with ExitStack() as all_of_them:
        before = resident_bytes()
        for _ in range(HOGS):
            hog(all_of_them.enter_context(server.connect()))
        time.sleep(0.2)
        assert HOGS == server.loop.connections
        assert IS_SANITIZED or (resident_bytes() - before) / HOGS < 1 << 20
        start = time.monotonic()
        assert [200] * 50 == [answer.status for answer in answers_of(server.say(GOOD_REQUEST * 50))]
        assert time.monotonic() - start < 2
    wait_until(lambda: server.loop.connections == 0)


def test_large_heads_over_http_2_share_one_account(server: WebServer):
    with Http2Client(server.address) as client:
        before = resident_bytes()
        for stream in range(1, 400, 2):
            client.send(client.headers(stream, "/v1/authz", method="POST", content_type=None,
                                       extra=[("x", "y" * 4000), ("z", "y" * 4000)]))
        client.send(client.headers(401, "/v1/verify", method="POST", end=True))
        assert "503" == client.response(401).fields[":status"]
        assert IS_SANITIZED or resident_bytes() - before < 2 << 20  # of which the client's own part is half
