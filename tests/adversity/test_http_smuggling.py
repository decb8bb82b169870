"""Requests that two readers could understand differently, and clients that take time and room: all are refused, and no
byte behind such a request is ever taken for another one."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.groups import wait_until
from tests.support.web import GOOD, WebServer, answers_of, head, read_all, verify, web_server, world
from verifier.limits import Limits

BEARER = f"authorization: Bearer {GOOD}"
HOST = "host: a"
NEXT = head("/v1/authz", BEARER)    # would be answered 200
BIG = 1 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server(world()) as running:
        yield running


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post(*lines: str, body: bytes = b"", target: str = "/v1/verify") -> bytes:
    return raw(f"POST {target} HTTP/1.1", HOST, "content-type: application/json", *lines, body=body)


CHUNKED = "transfer-encoding: chunked"
BAD_HEADS = {
    "line feed alone": (b"GET /v1/authz HTTP/1.1\nhost: a\n\n", 400),
    "line feed alone in a field": (b"GET /v1/authz HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", 400),
    "line feed alone at the end": (b"GET /v1/authz HTTP/1.1\r\nhost: a\r\n\n", 400),
    "carriage return in a value": (b"GET /v1/authz HTTP/1.1\r\nhost: a\rb\r\n\r\n", 400),
    "carriage return before a line": (b"GET /v1/authz HTTP/1.1\r\nhost: a\r\r\n\r\n", 400),
    "nul in a value": (raw("GET / HTTP/1.1", HOST, "x: a\0b"), 400),
    "control character in a value": (raw("GET / HTTP/1.1", HOST, "x: a\x0bb"), 400),
    "delete in a value": (raw("GET / HTTP/1.1", HOST, "x: a\x7fb"), 400),
    "folded field": (raw("GET / HTTP/1.1", HOST, "x: a", " b"), 400),
    "folded with a tab": (raw("GET / HTTP/1.1", HOST, "x: a", "\tb"), 400),
    "fold before the first field": (raw("GET / HTTP/1.1", " x: a", HOST), 400),
    "space before the colon": (raw("GET / HTTP/1.1", HOST, "content-length : 5"), 400),
    "tab before the colon": (raw("GET / HTTP/1.1", HOST, "transfer-encoding\t: chunked"), 400),
    "no name": (raw("GET / HTTP/1.1", HOST, ": x"), 400),
    "no colon": (raw("GET / HTTP/1.1", HOST, "x"), 400),
    "name of other characters": (raw("GET / HTTP/1.1", HOST, "x(y): z"), 400),
    "name beyond ascii": (raw("GET / HTTP/1.1", HOST, "\xe9: z"), 400),
    "no host": (raw("GET / HTTP/1.1"), 400),
    "two hosts": (raw("GET / HTTP/1.1", HOST, HOST), 400),
    "two hosts in 1.0": (raw("GET / HTTP/1.0", HOST, HOST), 400),
    "absolute form": (raw("GET http://a/v1/authz HTTP/1.1", HOST), 400),
    "asterisk form": (raw("OPTIONS * HTTP/1.1", HOST), 400),
    "authority form": (raw("CONNECT a:80 HTTP/1.1", HOST), 400),
    "fragment": (raw("GET /v1/authz#x HTTP/1.1", HOST), 400),
    "target beyond ascii": (raw("GET /\xe9 HTTP/1.1", HOST), 400),
    "control character in the target": (raw("GET /a\x01 HTTP/1.1", HOST), 400),
    "two spaces": (raw("GET  /v1/authz HTTP/1.1", HOST), 400),
    "two spaces before the version": (raw("GET /v1/authz  HTTP/1.1", HOST), 400),
    "tab for a space": (raw("GET\t/v1/authz HTTP/1.1", HOST), 400),
    "space behind the version": (raw("GET /v1/authz HTTP/1.1 ", HOST), 400),
    "space before the method": (raw(" GET /v1/authz HTTP/1.1", HOST), 400),
    "no version": (raw("GET /v1/authz", HOST), 400),
    "lower-case version": (raw("GET /v1/authz http/1.1", HOST), 400),
    "version of three parts": (raw("GET /v1/authz HTTP/1.1.1", HOST), 400),
    "version 1.2": (raw("GET /v1/authz HTTP/1.2", HOST), 505),
    "version 2.0": (raw("GET /v1/authz HTTP/2.0", HOST), 505),
    "version 0.9": (raw("GET /v1/authz HTTP/0.9", HOST), 505),
    "empty line first": (b"\r\n" + raw("GET /v1/authz HTTP/1.1", HOST), 400),
    "long method": (raw("G" * 33 + " / HTTP/1.1", HOST), 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "binary": (bytes(range(256)), 400),
    "two lengths": (post("content-length: 5", "content-length: 5", body=b"GET /"), 400),
    "two different lengths": (post("content-length: 5", "content-length: 6", body=b"GET /x"), 400),
    "list of lengths": (post("content-length: 5, 5", body=b"GET /"), 400),
    "signed length": (post("content-length: +5", body=b"GET /"), 400),
    "negative length": (post("content-length: -5", body=b"GET /"), 400),
    "hexadecimal length": (post("content-length: 0x5", body=b"GET /"), 400),
    "empty length": (post("content-length:", body=b"GET /"), 400),
    "length with a space": (post("content-length: 5 5", body=b"GET /"), 400),
    "length of 64 bits and one": (post("content-length: 18446744073709551621", body=b"GET /"), 400),
    "length and chunks": (post("content-length: 5", CHUNKED, body=b"0\r\n\r\n"), 400),
    "chunks and length": (post(CHUNKED, "content-length: 5", body=b"0\r\n\r\n"), 400),
    "chunked twice": (post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"), 400),
    "chunked, chunked": (post("transfer-encoding: chunked, chunked", body=b"0\r\n\r\n"), 501),
    "gzip, chunked": (post("transfer-encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "chunked, identity": (post("transfer-encoding: chunked, identity", body=b"0\r\n\r\n"), 501),
    "identity": (post("transfer-encoding: identity", "content-length: 5", body=b"GET /"), 501),
    "xchunked": (post("transfer-encoding: xchunked", body=b"0\r\n\r\n"), 501),
    "chunked with a vertical tab": (post("transfer-encoding: \x0bchunked", body=b"0\r\n\r\n"), 400),
    "quoted chunked": (post('transfer-encoding: "chunked"', body=b"0\r\n\r\n"), 501),
    "empty coding": (post("transfer-encoding:", body=b"0\r\n\r\n"), 501),
    "chunks in 1.0": (raw("POST /v1/verify HTTP/1.0", "content-type: application/json", CHUNKED,
                          body=b"0\r\n\r\n"), 400),
    "other expectation": (post("expect: 200-ok", "content-length: 2", body=b"{}"), 417),
    "body too large by its word": (post(f"content-length: {BIG}"), 413),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_HEADS)
@pytest.mark.parametrize("piece", [0, 1])
def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(server: WebServer, name: str, piece: int):
    request, status = BAD_HEADS[name]
    answers = answers_of(server.say(request + NEXT, piece))
    assert [status] == [answer.status for answer in answers]
    assert "close" == answers[0].headers["connection"]
    # Behind a good request it is refused just so, and the good one is answered.
    assert [200, status] == [answer.status for answer in answers_of(server.say(NEXT + request + NEXT, piece))]


BAD_CHUNKS = {
    "no size": b"\r\nab\r\n0\r\n\r\n", "not a number": b"x\r\nab\r\n0\r\n\r\n", "signed": b"+2\r\nab\r\n0\r\n\r\n",
    "prefix": b"0x2\r\nab\r\n0\r\n\r\n", "space before": b" 2\r\nab\r\n0\r\n\r\n",
    "space behind": b"2 \r\nab\r\n0\r\n\r\n",
    "line feed alone": b"2\nab\r\n0\r\n\r\n", "line feed behind": b"2\r\nab\n0\r\n\r\n",
    "longer than it says": b"2\r\nabc\r\n0\r\n\r\n", "shorter": b"3\r\nab\r\n0\r\n\r\n",
    "size of 36 bits": b"100000002\r\nab\r\n0\r\n\r\n", "nine digits": b"000000002\r\nab\r\n0\r\n\r\n",
    "extension with a line feed": b"2;a\nb\r\nab\r\n0\r\n\r\n", "extension with a return": b"2;a\rb\r\nab\r\n0\r\n\r\n",
    "extension with nul": b"2;\0\r\nab\r\n0\r\n\r\n", "long extension": b"2;" + b"a" * 300 + b"\r\nab\r\n0\r\n\r\n",
    "bad trailer": b"0\r\nx y: z\r\n\r\n", "folded trailer": b"0\r\nx: y\r\n z\r\n\r\n",
    "trailer with a line feed": b"0\r\nx: y\n\r\n", "long trailer": b"0\r\nx: " + b"y" * 5000 + b"\r\n\r\n",
    "end with a line feed": b"0\r\n\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CHUNKS)
@pytest.mark.parametrize("piece", [0, 1])
def test_chunks_are_read_strictly(server: WebServer, name: str, piece: int):
    refused = answers_of(server.say(post(CHUNKED, body=BAD_CHUNKS[name]) + NEXT, piece))
    assert [400] == [answer.status for answer in refused]
    # What nobody needs the body of is answered before it; then the connection ends without a further word.
    early = answers_of(server.say(post(CHUNKED, BEARER, target="/v1/authz", body=BAD_CHUNKS[name]) + NEXT, piece))
    assert [200] == [answer.status for answer in early]


@pytest.mark.parametrize("target", ["/v1/verify", "/v1/authz", "/nowhere"])
@pytest.mark.parametrize("body", [NEXT, NEXT * 3, b"0\r\n\r\n" + NEXT])
def test_a_body_is_never_a_request(server: WebServer, target: str, body: bytes):
    by_length = post(f"content-length: {len(body)}", target=target, body=body)
    by_chunks = post(CHUNKED, target=target, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    status = {"/v1/verify": 400, "/v1/authz": 401, "/nowhere": 404}[target]
    for request in (by_length, by_chunks):
        for piece in (0, 5):
            answers = answers_of(server.say(request + NEXT, piece))
            assert [status, 200] == [answer.status for answer in answers]


def test_a_length_that_is_too_short_ends_in_the_next_request(server: WebServer):
    answers = answers_of(server.say(post("content-length: 2", body=b"{}/ ") + NEXT))
    assert [200, 400] == [answer.status for answer in answers]


@pytest.mark.parametrize("size", [65_536, 65_537, BIG])
def test_a_large_body_that_nobody_needs_is_read_past_or_ends_the_connection(server: WebServer, size: int):
    request = post(BEARER, f"content-length: {size}", target="/v1/authz", body=b"x" * size)
    answers = answers_of(server.say(request + NEXT))
    assert [200, 200][: 2 if size == 65_536 else 1] == [answer.status for answer in answers]


@pytest.mark.parametrize("target", ["/v1/verify", "/v1/authz"])
def test_a_body_without_end_is_not_read_to_it(server: WebServer, target: str):
    chunks = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    for body in (chunks * 40, b"1\r\nx\r\n" * 40000, b"fffffff\r\n"):
        answers = answers_of(server.say(post(CHUNKED, BEARER, target=target, body=body)))
        assert [413 if target == "/v1/verify" else 200] == [answer.status for answer in answers]


# --- Room ------------------------------------------------------------------------------------------------------------

def test_heads_have_limits():
    with web_server(world(), Limits(head_bytes_max=4096, head_fields_max=16)) as server:
        def status(*lines: str) -> int:
            return answers_of(server.say(head("/v1/authz", BEARER, *lines) + NEXT))[0].status

        assert 200 == status("x: " + "y" * 3500)
        assert 431 == status("x: " + "y" * 4096)
        assert 431 == status("x: " + "y" * 100_000)
        assert 200 == status(*(f"x{n}: y" for n in range(14)))
        assert 431 == status(*(f"x{n}: y" for n in range(15)))
        assert 431 == answers_of(server.say(b"GET /" + b"a" * 5000))[0].status


def test_a_head_as_large_as_may_be_arrives_in_any_pieces(server: WebServer):
    lines = [f"x{n}: {'y' * 480}" for n in range(125)]
    request = head("/v1/authz", *lines, BEARER)
    assert 60_000 < len(request) < 65_536
    for piece in (0, 1448, 65_535):
        assert [200, 200] == [answer.status for answer in answers_of(server.say(request + NEXT, piece))]


# --- Time ------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def hasty() -> Iterator[WebServer]:
    with web_server(world(), Limits(preface_ms=300, stall_ms=500)) as running:
        yield running


@pytest.mark.parametrize("begun", [b"", b"G", b"PR", NEXT[:-2], verify({"key": GOOD})[:-3],
                                   post(CHUNKED, body=b"5\r\nab"), NEXT + NEXT[:20]])  # fmt: skip
def test_a_request_that_does_not_come_to_its_end_is_given_up(hasty: WebServer, begun: bytes):
    before = hasty.closed("preface")
    with hasty.connect() as client:
        client.sendall(begun)
        start = time.monotonic()
        assert begun.startswith(NEXT[:20] * 2) or len(answers_of(read_all(client))) == begun.count(NEXT)
        assert time.monotonic() - start < 4
    wait_until(lambda: hasty.closed("preface") == before + 1)


def test_drop_by_drop_takes_no_longer(hasty: WebServer):
    before = hasty.closed("preface")
    with hasty.connect() as client, pytest.raises(OSError):
        for byte in NEXT * 100:
            client.sendall(bytes([byte]))
            time.sleep(0.02)
            if byte == NEXT[-1] and client.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b"":
                raise ConnectionError
    assert before + 1 == hasty.closed("preface")


@pytest.mark.parametrize("begun", [NEXT[:20], post(CHUNKED, body=b"1;"), post(CHUNKED, body=b"0\r\nx")])
def test_drop_by_drop_takes_no_longer_behind_an_answer(hasty: WebServer, begun: bytes):
    before = hasty.closed("preface")
    with hasty.connect() as client:
        client.sendall(NEXT)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        client.settimeout(0.05)
        client.sendall(begun)
        start = time.monotonic()
        received = None
        while received != b"" and time.monotonic() - start < 4:
            try:
                client.sendall(b"x")
                received = client.recv(4096)
            except TimeoutError:
                pass
            except OSError:
                break
        assert time.monotonic() - start < 3
    assert before + 1 == hasty.closed("preface")


def test_an_idle_connection_between_requests_may_last(hasty: WebServer):
    with hasty.connect() as client:
        for _ in range(2):
            client.sendall(NEXT)
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            time.sleep(1.6)
        client.sendall(NEXT)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_who_takes_no_answers_is_asked_for_no_more_and_given_up(hasty: WebServer):
    before = hasty.closed("stall")
    with hasty.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.5)
        sent = 0
        with pytest.raises(OSError):
            while True:
                sent += client.send(NEXT * 500)
        wait_until(lambda: hasty.closed("stall") == before + 1)
    assert sent < 16 << 20
    with hasty.connect() as other:
        other.sendall(NEXT)
        assert other.recv(4096).startswith(b"HTTP/1.1 200")


def test_draining_ends_connections_with_an_answer():
    with web_server(world()) as server:
        with server.connect() as busy, server.connect() as idle, server.connect() as silent:
            for client in (busy, idle):
                client.sendall(NEXT)
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
            busy.sendall(NEXT[:30])
            wait_until(lambda: server.loop.connections == 3)
            server.loop.drain(10)
            time.sleep(0.1)
            busy.sendall(NEXT[30:])
            (answer,) = answers_of(read_all(busy))
            assert (200, "close") == (answer.status, answer.headers["connection"])
            assert b"" == read_all(idle) == read_all(silent)
        wait_until(lambda: not server.loop.running)
        assert 3 == server.closed("drain")


def test_draining_is_announced_with_the_answer_to_a_body_on_its_way():
    request = verify({"key": GOOD})
    with web_server(world()) as server, server.connect() as client:
        client.sendall(request[:-3])
        wait_until(lambda: server.loop.counters()["streams"] == 1)
        server.loop.drain(10)
        time.sleep(0.1)
        client.sendall(request[-3:])
        start = time.monotonic()
        (answer,) = answers_of(read_all(client))
        assert (200, "close") == (answer.status, answer.headers["connection"])
        assert time.monotonic() - start < 0.8
