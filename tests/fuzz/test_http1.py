"""HTTP/1.1 against h11, a strict parser by others: what we answer, it reads as the same request; what it refuses, we
refuse. We may be stricter. Requests are made by mutating good ones, and arrive cut at random places."""

import random

import h11
import pytest

from tests.support.web import GOOD, WebServer, answers_of, head, verify, web_server, world

BEARER = f"authorization: Bearer {GOOD}"
CHUNKED = (head("/v1/verify", "content-type: application/json", "transfer-encoding: chunked", method="POST")
           + b"1;a=b\r\n{\r\n1\r\n}\r\n0\r\nx: y\r\n\r\n")
SEEDS = [
    head("/v1/authz", BEARER), head("/v1/authz?scopes=read", BEARER, "x-forwarded-uri: /a?b=c"), verify({"key": GOOD}),
    CHUNKED, head("/v1/authz", BEARER, "content-length: 4", method="POST") + b"GET ", head("/x", version="HTTP/1.0"),
    head("/v1/authz", BEARER, "connection: keep-alive", version="HTTP/1.0"), head("/v1/authz", method="HEAD"),
    head("/v1/authz", BEARER, "connection: close"),
]  # fmt: skip
SNIPPETS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"\r\n\r\n", b"content-length: 3\r\n",
    b"content-length: 0\r\n",
    b"Content-Length: 3, 3\r\n", b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"host: b\r\n",
    b"0\r\n\r\n", b"5\r\n", b";", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"\x80", b"\x7f", b"#", b"http://a/",
    b"connection: close\r\n", b"connection: keep-alive\r\n", b"+", b"-", b"0x", b"expect: 100-continue\r\n", b"HEAD ",
]  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """Some good requests, of which most are damaged somewhere."""
    data = bytearray(b"".join(rng.choice(SEEDS) for _ in range(rng.randint(1, 3))))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at : at + rng.randint(1, 4)]
        elif kind == 2:
            data[at:at] = rng.choice(SNIPPETS)
        else:
            lines = bytes(data).split(b"\r\n")
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def read_by_h11(data: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """The requests whose heads h11 reads, as (method, target), and how many of them it reads to their end."""
    found: list[tuple[bytes, bytes]] = []
    complete = 0
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    connection.receive_data(b"")
    request = None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request = event
                found.append((request.method, request.target))
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                complete += 1
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if keeps_alive_in_1_0(request):
                    rest, more = read_by_h11(connection.trailing_data[0])
                    return found + rest, complete + more
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return found, complete
                connection.start_next_cycle()
            elif event is h11.PAUSED or event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                return found, complete
    except h11.RemoteProtocolError:
        return found, complete


def keeps_alive_in_1_0(request: h11.Request) -> bool:
    """Tell what h11 leaves out: connections of HTTP/1.0 that stay."""
    said = {word.strip().lower() for name, value in request.headers if name == b"connection"
            for word in value.split(b",")}
    return request.http_version == b"1.0" and b"keep-alive" in said and b"close" not in said


def expected_of(method: bytes, target: bytes) -> set[int]:
    """The statuses that a request which we understand may be answered with."""
    path = target.partition(b"?")[0]
    if path == b"/v1/authz":
        return {200, 400, 401, 403} if method in (b"GET", b"HEAD", b"POST") else {405}
    if path == b"/v1/verify":
        return {200, 400, 415} if method == b"POST" else {405}
    return {404}


def check(server: WebServer, data: bytes, cut: int) -> tuple[int, int]:
    """Compare; return how many requests we answered, and how many of them h11 reads."""
    theirs, complete = read_by_h11(data)
    received = server.say(data, cut)
    ours = [answer for answer in answers_lenient(received, theirs) if answer.status != 100]
    good = 0
    for number, answer in enumerate(ours):
        closes = answer.headers.get("connection") == "close"
        if number < len(theirs) and answer.status in expected_of(*theirs[number]):
            good += 1
            # What needs no body is answered before it, and must be the last if that does not come to its end.
            assert number < complete or number == len(ours) - 1, (data, theirs, received)
            continue
        # We refuse what h11 reads or refuses: then that is the last word.
        assert answer.status in (400, 413, 417, 431, 501, 505), (data, theirs, received)
        assert closes and number == len(ours) - 1, (data, theirs, received)
    return len(ours), good


def answers_lenient(received: bytes, theirs: list[tuple[bytes, bytes]]) -> list:
    """Take answers apart, knowing from h11 which are answers to HEAD."""
    found: list = []
    while received:
        is_head = len(found) < len(theirs) and theirs[len(found)][0] == b"HEAD"
        first, _, rest = received.partition(b"\r\n\r\n")
        if first.startswith(b"HTTP/1.1 100"):
            received = rest
            continue
        alone = first + b"\r\n\r\n"
        length = 0 if is_head and (not rest or rest.startswith(b"HTTP/1.1 ")) else int(
            first.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        found += answers_of(alone + rest[:length], heads=is_head and length == 0)
        received = rest[length:]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_what_is_answered_is_what_another_parser_reads(seed: int):
    rng = random.Random(seed)
    answered = agreed = 0
    with web_server(world()) as server:
        for _ in range(400):
            data = mutated(rng)
            some, good = check(server, data, rng.choice((0, 0, 1, 7, 64)))
            answered += some
            agreed += good
        assert server.loop.running
    assert agreed > 300
    assert answered - agreed > 50


@pytest.mark.parametrize("seed", range(3))
def test_garbage_harms_nobody(seed: int):
    rng = random.Random(seed)
    with web_server(world()) as server:
        for _ in range(150):
            server.say(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300))))
            server.say(b"GET /v1/authz HTTP/1.1\r\n" + rng.randbytes(rng.randrange(1, 200)) + b"\r\n\r\n")
        assert [200] == [answer.status for answer in answers_of(server.say(head("/v1/authz", BEARER)))]
        assert 1 >= server.loop.connections
