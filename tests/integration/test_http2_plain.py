"""/v1/authz and /v1/verify over HTTP/2, beside gRPC on one connection; and ports that speak HTTP/1.1 and HTTP/2."""

import itertools
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import grpc
import hyperframe.frame as frames
import pytest

from tests.support.http2 import PREFACE, Http2Client, message
from tests.support.web import GOOD, RULED, UNKNOWN, WebServer, answers_of, head, verify, web_server, world
from verifier.limits import Limits
from verifier.server.loops import LoopGroup
from verifier.v1 import verifier_pb2, verifier_pb2_grpc

BEARER = [("authorization", f"Bearer {GOOD}")]
VERIFY = "/verifier.v1.VerifierService/Verify"


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server(world(), address_header="x-real-ip") as running:
        yield running


@pytest.fixture
def client(server: WebServer) -> Iterator[Http2Client]:
    with Http2Client(server.address) as connected:
        yield connected


def ask(client: Http2Client, stream: int, path: str, *extra: tuple[str, str], method: str = "GET",
        body: bytes | None = None):
    client.send(client.headers(stream, path, extra=extra, end=body is None, method=method, content_type=None))
    if body is not None:
        client.upload(stream, body)
    return client.response(stream)


def test_answers_are_those_of_http_1(server: WebServer, client: Http2Client):
    requests = [
        ("GET", "/v1/authz", BEARER, b""), ("GET", "/v1/authz?scopes=read,x", BEARER, b""),
        ("GET", "/v1/authz", [], b""),
        ("HEAD", "/v1/authz", BEARER, b""), ("HEAD", "/v1/authz", [], b""), ("POST", "/v1/authz", BEARER, b"ignored"),
        ("GET", "/v1/authz", [("x-api-key", UNKNOWN)], b""), ("GET", "/v1/authz?scope=x", BEARER, b""),
        ("GET", "/v1/authz", [("x-api-key", RULED), ("x-real-ip", "10.0.0.1")], b""),
        ("GET", "/v1/authz", [("x-forwarded-uri", f"/?api_key={GOOD}")], b""),
        ("GET", "/v1/authz", [*BEARER, *BEARER], b""), ("PUT", "/v1/authz", BEARER, b""),
        ("GET", "/v1/verify", [], b""), ("POST", "/v1/verify", [], b"{}"),
        ("POST", "/v1/verify", [("content-type", "application/json")], json.dumps({"key": UNKNOWN}).encode()),
        ("POST", "/v1/verify", [("content-type", "application/json")], b"{"),
    ]  # fmt: skip
    for number, (method, path, lines, body) in enumerate(requests):
        stream = 2 * number + 1
        second = ask(client, stream, path, *lines, method=method, body=body or None)
        data = head(path, *(f"{name}: {value}" for name, value in lines), f"content-length: {len(body)}", method=method)
        (first,) = answers_of(server.say(data + body), heads=method == "HEAD")
        found = {name: value for name, value in second.fields.items() if name != ":status"}
        dates = [parsedate_to_datetime(found.pop("date")), parsedate_to_datetime(first.headers.pop("date"))]
        assert abs(dates[0] - dates[1]) <= timedelta(seconds=2) >= abs(dates[0] - datetime.now(UTC))
        assert (str(first.status), first.headers) == (second.fields[":status"], found)
        if "verdict" not in str(first.body):
            assert first.body == second.body


@pytest.mark.parametrize("order", list(itertools.permutations([":method", ":path", ":scheme", ":authority"])))
def test_pseudo_headers_come_in_any_order(server: WebServer, order: tuple[str, ...]):
    body = json.dumps({"key": GOOD}).encode()
    with Http2Client(server.address) as client:
        for stream, path in ((1, "/v1/verify"), (3, VERIFY)):
            fields = {":method": "POST", ":path": path, ":scheme": "http", ":authority": "a"}
            kind = "application/json" if stream == 1 else "application/grpc"
            block = client.encoder.encode([*((name, fields[name]) for name in order), ("content-type", kind)])
            client.send(frames.HeadersFrame(stream, block, flags=["END_HEADERS"]),
                        client.data(stream, body if stream == 1 else message(b"")))
        assert b"VERDICT_VALID" in client.response(1).body
        assert 0 == client.response(3).status


def test_grpc_and_plain_requests_share_a_connection(client: Http2Client):
    body = verifier_pb2.VerifyRequest(key=GOOD).SerializeToString()
    for stream in range(1, 40, 4):
        client.send(client.headers(stream, VERIFY), client.data(stream, message(body)),
                    client.headers(stream + 2, "/v1/authz", extra=BEARER, end=True, method="GET", content_type=None))
    for stream in range(1, 40, 4):
        assert 1 == verifier_pb2.VerifyResponse.FromString(client.response(stream).message).verdict
        assert "acme" == client.response(stream + 2).fields["x-verifier-client"]


def test_other_paths_stay_grpcs(client: Http2Client):
    assert "405" == ask(client, 1, VERIFY).fields[":status"]
    assert "415" == ask(client, 3, VERIFY, method="POST").fields[":status"]
    client.call(5, b"", "/v1/none")
    assert "12" == client.response(5).fields["grpc-status"]


@pytest.mark.parametrize("size", [65_536, 65_537, 70_000])
def test_bodies_have_a_limit(client: Http2Client, size: int):
    client.send(client.headers(1, "/v1/verify", content_type="application/json"))
    client.upload(1, b" " * size)
    answer = client.response(1)
    assert ("400" if size == 65_536 else "413") == answer.fields[":status"]
    assert "200" == ask(client, 3, "/v1/authz", *BEARER).fields[":status"]


def test_a_large_body_that_nobody_needs_does_not_hold_up_the_answer(client: Http2Client):
    client.send(client.headers(1, "/v1/authz", extra=BEARER, content_type=None))
    client.upload(1, b"x" * 70_000, end=False)
    answer = client.response(1)
    assert ("200", "acme", b"") == (answer.fields[":status"], answer.fields["x-verifier-client"], answer.body)
    assert 0 == client.until(frames.RstStreamFrame).error_code
    assert "200" == ask(client, 3, "/v1/authz", *BEARER, method="POST", body=b"x" * 65_536).fields[":status"]


def test_heads_have_limits_and_do_not_fill_the_memory():
    with web_server(world(), Limits(head_bytes_max=4096, head_fields_max=16)) as server, \
            Http2Client(server.address) as client:
        assert "200" == ask(client, 1, "/v1/authz", *BEARER, ("x", "y" * 3500)).fields[":status"]
        assert "431" == ask(client, 3, "/v1/authz", *BEARER, ("x", "y" * 4100)).fields[":status"]
        assert "200" == ask(client, 5, "/v1/authz", *BEARER, *[("x", "y")] * 14).fields[":status"]
        assert "431" == ask(client, 7, "/v1/authz", *BEARER, *[("x", "y")] * 40).fields[":status"]
    # Many unfinished requests with large heads: the connection's account is full, then they are refused.
    with web_server(world(), Limits(held_bytes_max=65_536)) as server, Http2Client(server.address) as client:
        for stream in range(1, 200, 2):
            client.send(client.headers(stream, "/v1/authz", extra=[*BEARER, ("x", "y" * 3000)], method="POST",
                                       content_type=None))
        for stream in range(1, 200, 2):
            client.send(client.data(stream, b""))
        statuses = [client.response(stream).fields[":status"] for stream in range(1, 200, 2)]
        assert {"200", "503"} == set(statuses)
        assert "200" == ask(client, 201, "/v1/authz", *BEARER).fields[":status"]


# --- Ports -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 24])
def test_the_first_bytes_tell_the_protocol(server: WebServer, piece: int):
    with Http2Client(server.address, preface=False) as client:
        client._speaks = True
        hello = PREFACE + bytes.fromhex("000000040000000000")
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(hello), piece):
            client.raw(hello[at : at + piece])
        assert "200" == ask(client, 1, "/v1/authz", *BEARER).fields[":status"]
    assert [405] == [answer.status for answer in answers_of(server.say(head(method="PRX"), piece))]
    assert [405] == [answer.status for answer in answers_of(server.say(head(method="P"), piece))]


def test_a_port_for_grpc_only_speaks_no_http_1():
    with web_server(world(), detects=False) as server:
        assert b"HTTP/1.1" not in server.say(head("/v1/authz"))
        with Http2Client(server.address) as client:
            assert "200" == ask(client, 1, "/v1/authz", *BEARER).fields[":status"]


@pytest.mark.parametrize("threads", [1, 3])
def test_one_address_for_both_and_one_for_http(threads: int, tmp_path: Path):
    path = f"unix:{tmp_path}/http.sock"
    group = LoopGroup(threads)
    bound = group.listen(["127.0.0.1:0"], http=["127.0.0.1:0", path])
    assert [bound[0], path] == group.http_addresses
    group.start()
    try:
        group.publish(world())
        server = WebServer(group.loops[0], int(bound[0].rpartition(":")[2]))
        for _ in range(2 * threads):  # connections are handed from loop to loop
            assert "VERDICT_VALID" == answers_of(server.say(verify({"key": GOOD})))[0].json()["verdict"]
        for target in (bound[0], path):
            with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = verifier_pb2_grpc.VerifierServiceStub(channel)
                assert 1 == stub.Verify(verifier_pb2.VerifyRequest(key=GOOD), timeout=5).verdict
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path.removeprefix("unix:"))
            client.sendall(head("/v1/authz"))
            assert client.recv(4096).startswith(b"HTTP/1.1 404")
    finally:
        group.stop()


def test_nghttp2s_own_client_reads_the_answers(server: WebServer):
    tool = shutil.which("nghttp")
    if tool is None:
        pytest.skip("nghttp2-client is not installed")
    host, port = server.address
    done = subprocess.run([tool, "-v", "-H", f"x-api-key: {GOOD}", f"http://{host}:{port}/v1/authz"],
                          capture_output=True, text=True, timeout=20, check=True)
    assert "x-verifier-key-id: key_1" in done.stdout


@pytest.mark.parametrize("fields", [
    [(":authority", "a" * 9000), (":path", "/v1/authz")],
    [(":authority", "a"), (":path", "/v1/authz?scopes=" + "a" * 9000)],
    [(":authority", "a" * 9000), (":path", "/other")], [(":authority", "a"), (":path", "/other"), ("x", "y" * 9000)],
    [(":authority", "a"), (":path", VERIFY), ("x", "y" * 9000)],
    [(":authority", "a"), (":path", "/v1/authz"), ("grpc-timeout", "never"), ("content-type", "application/grpc")],
    [(":authority", "a"), (":path", "/other"), ("grpc-timeout", "never")],
])  # fmt: skip
def test_nothing_that_is_refused_looks_like_a_success(client: Http2Client, fields: list[tuple[str, str]]):
    block = client.encoder.encode([(":method", "GET"), (":scheme", "http"), *fields, ("x-api-key", UNKNOWN)])
    client.send(frames.HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))
    assert client.response(1).fields[":status"][0] == "4"
