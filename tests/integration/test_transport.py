"""The transport by itself: framing, statuses, limits on calls, as a client sees them frame by frame."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import hyperframe.frame as frames
import pytest

from tests.support.groups import EchoServer, echo_server, wait_until
from tests.support.http2 import ECHO, Http2Client, message
from verifier.limits import Limits

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 8, 12, 14


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    with echo_server() as group:
        yield group


@pytest.fixture
def client(server: EchoServer) -> Iterator[Http2Client]:
    with Http2Client(server.address) as connected:
        yield connected


def test_answer_is_headers_data_and_trailers(client: Http2Client):
    client.call(1, b"hello")
    answer = client.response(1)
    assert b"hello" == answer.message
    assert {":status": "200", "content-type": "application/grpc", "grpc-status": "0"} == answer.fields
    kinds = [type(frame) for frame in client.received if frame.stream_id == 1]
    assert [frames.HeadersFrame, frames.DataFrame, frames.HeadersFrame] == kinds


def test_settings_name_the_limits(client: Http2Client):
    settings = client.until(frames.SettingsFrame).settings
    assert Limits().streams_max == settings[frames.SettingsFrame.MAX_CONCURRENT_STREAMS]
    assert Limits().header_bytes_max == settings[frames.SettingsFrame.MAX_HEADER_LIST_SIZE]


def test_many_calls_in_one_write_are_all_answered(client: Http2Client):
    streams = range(1, 601, 2)
    burst: list[frames.Frame] = []
    for stream in streams:
        burst += [client.headers(stream), client.data(stream, message(b"%d" % stream))]
    client.send(*burst)
    assert [b"%d" % stream for stream in streams] == [client.response(stream).message for stream in streams]


@pytest.mark.parametrize("size", [0, 1, 100, 443, 444, 16379, 16384, 40000, 200_000])
def test_message_sizes_and_pieces(client: Http2Client, size: int):
    body = bytes(index % 251 for index in range(size))
    for stream, piece in ((1, 16384), (3, 7919), (5, 1 if size < 500 else 5000)):
        client.send(client.headers(stream))
        client.open_windows(stream)
        client.upload(stream, message(body), piece)
        assert body == client.response(stream).message


def test_bytes_that_trickle_in(client: Http2Client):
    whole = client.headers(1).serialize() + client.data(1, message(b"slow")).serialize()
    for at in range(0, len(whole), 3):
        client.raw(whole[at : at + 3])
        time.sleep(0.0005)
    assert b"slow" == client.response(1).message


def test_end_of_stream_in_a_frame_of_its_own(client: Http2Client):
    client.send(client.headers(1), client.data(1, message(b"a"), end=False), client.data(1, b""))
    assert b"a" == client.response(1).message
    client.send(client.headers(3), client.data(3, message(b"b"), end=False))
    time.sleep(0.01)
    # The receive buffer is used for other calls before the third is complete.
    client.call(5, b"other" * 100)
    assert b"other" * 100 == client.response(5).message
    client.send(client.data(3, b""))
    assert b"b" == client.response(3).message


def test_interleaved_messages_do_not_mix(client: Http2Client):
    streams = range(1, 41, 2)
    bodies = {stream: bytes([stream]) * (300 + stream) for stream in streams}
    client.send(*(client.headers(stream) for stream in streams))
    for half in (0, 1):
        client.send(*(
            client.data(stream, message(bodies[stream])[half * 150 : 150 if half == 0 else None], end=half == 1)
            for stream in streams
        ))
    assert bodies == {stream: client.response(stream).message for stream in streams}


def test_whole_messages_that_end_later_do_not_mix(client: Http2Client):
    streams = range(1, 41, 2)
    client.send(*(client.headers(stream) for stream in streams))
    client.send(*(client.data(stream, message(b"%d" % stream), end=False) for stream in streams))
    client.send(*(client.data(stream, b"") for stream in streams))
    assert [b"%d" % stream for stream in streams] == [client.response(stream).message for stream in streams]


def test_padding_is_no_part_of_the_message(client: Http2Client):
    padded = frames.DataFrame(1, message(b"padded"), pad_length=200, flags=["PADDED", "END_STREAM"])
    client.send(client.headers(1), padded)
    assert b"padded" == client.response(1).message


def test_trailers_of_a_request_do_not_change_it(client: Http2Client):
    for stream, timeout in ((1, "junk"), (3, "0n")):
        client.send(client.headers(stream), client.data(stream, message(b"x"), end=False))
        trailers = client.encoder.encode([("grpc-timeout", timeout)])
        client.send(frames.HeadersFrame(stream, trailers, flags=["END_HEADERS", "END_STREAM"]))
        assert b"x" == client.response(stream).message


def test_trailers_may_end_a_request(client: Http2Client):
    trailers = frames.HeadersFrame(1, client.encoder.encode([("x-checksum", "1")]), flags=["END_HEADERS", "END_STREAM"])
    client.send(client.headers(1), client.data(1, message(b"t"), end=False), trailers)
    assert b"t" == client.response(1).message


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", UNIMPLEMENTED, "none was sent"),
        (b"\0\0\0", INVALID_ARGUMENT, "ends within"),
        (message(b"abc", length=4), INVALID_ARGUMENT, "ends within"),
        (message(b"abc") + message(b"d"), UNIMPLEMENTED, "more were sent"),
        (message(b"abc") + b"x", UNIMPLEMENTED, "more were sent"),
        (message(b"abc", flag=2), INVALID_ARGUMENT, "flag"),
        (message(b"", length=0xFFFFFFFF), RESOURCE_EXHAUSTED, "too large"),
    ],
)  # fmt: skip
def test_bad_framing_has_a_clear_status(client: Http2Client, body: bytes, status: int, text: str):
    client.send(client.headers(1), client.data(1, body))
    answer = client.response(1)
    assert status == answer.status
    assert text in answer.fields["grpc-message"]
    # In two pieces it is the same, and the connection goes on.
    if body:
        client.send(client.headers(3), client.data(3, body[:2], end=False))
        client.send(client.data(3, body[2:]))
        assert status == client.response(3).status
    client.call(5, b"next")
    assert b"next" == client.response(5).message


def test_no_body_at_all(client: Http2Client):
    client.send(client.headers(1, end=True))
    assert UNIMPLEMENTED == client.response(1).status


def test_compressed_message_is_told_what_is_understood(client: Http2Client):
    client.send(client.headers(1, extra=[("grpc-encoding", "gzip")]), client.data(1, message(b"zz", flag=1)))
    answer = client.response(1)
    assert (UNIMPLEMENTED, "identity") == (answer.status, answer.fields["grpc-accept-encoding"])


def test_announced_too_large_is_answered_at_once_then_reset(client: Http2Client):
    announced = message(b"x" * 100, length=Limits().message_bytes_max + 1)
    client.send(client.headers(1), client.data(1, announced, end=False))
    answer = client.response(1)
    assert (RESOURCE_EXHAUSTED, None) == (answer.status, answer.reset)
    reset = client.until(frames.RstStreamFrame)
    assert (1, 0) == (reset.stream_id, reset.error_code)
    # What is still on its way for the stream does no harm.
    client.send(client.data(1, b"y" * 1000, end=False))
    client.call(3, b"next")
    assert b"next" == client.response(3).message


def test_largest_message_is_served(client: Http2Client):
    body = b"m" * Limits().message_bytes_max
    client.send(client.headers(1))
    client.open_windows(1)
    client.upload(1, message(body))
    assert body == client.response(1).message


def test_unknown_method(client: Http2Client):
    client.call(1, b"x", "/verifier.v1.VerifierService/Nothing")
    answer = client.response(1)
    assert (UNIMPLEMENTED, "200") == (answer.status, answer.fields[":status"])


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"content_type": "application/json"}, "415"),
        ({"content_type": "application/grpc-web"}, "415"),
        ({"content_type": None}, "415"),
        ({"method": "GET"}, "405"),
    ],
)
def test_what_is_not_grpc_gets_an_http_error(client: Http2Client, options: dict, status: str):
    client.call(1, b"x", **options)
    answer = client.response(1)
    assert status == answer.fields[":status"]
    assert ("POST" if status == "405" else None) == answer.fields.get("allow")
    assert -1 == answer.status


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
def test_forms_of_the_content_type(client: Http2Client, content_type: str):
    client.call(1, b"x", content_type=content_type)
    assert OK == client.response(1).status


@pytest.mark.parametrize(
    ("timeout", "status"),
    [
        ("0n", DEADLINE_EXCEEDED), ("0S", DEADLINE_EXCEEDED), ("5S", OK), ("4999m", OK), ("99999999H", OK),
        ("1M", OK), ("500000u", OK), ("", INVALID_ARGUMENT), ("S", INVALID_ARGUMENT), ("5", INVALID_ARGUMENT),
        ("5s", INVALID_ARGUMENT), ("-1S", INVALID_ARGUMENT), ("123456789S", INVALID_ARGUMENT),
    ],
)  # fmt: skip
def test_deadlines(client: Http2Client, timeout: str, status: int):
    client.call(1, b"x", extra=[("grpc-timeout", timeout)])
    assert status == client.response(1).status


def test_deadline_counts_from_the_headers(client: Http2Client):
    client.send(client.headers(1, extra=[("grpc-timeout", "20m")]))
    time.sleep(0.06)
    client.send(client.data(1, message(b"late")))
    assert DEADLINE_EXCEEDED == client.response(1).status


def test_too_many_or_too_large_headers(client: Http2Client):
    client.call(1, b"x", extra=[(f"x-{number}", "v") for number in range(70)])
    assert RESOURCE_EXHAUSTED == client.response(1).status
    client.call(3, b"x", extra=[("x-large", "v" * 9000)])
    assert RESOURCE_EXHAUSTED == client.response(3).status
    client.call(5, b"x", extra=[("x-fits", "v" * 7000)])
    assert OK == client.response(5).status


def test_absurd_headers_are_reset(client: Http2Client, server: EchoServer):
    client.call(1, b"x", extra=[(f"x-{number}", "v") for number in range(400)])
    assert client.response(1).reset is not None
    client.call(3, b"x")
    assert OK == client.response(3).status


def test_health(client: Http2Client):
    for stream, service, status, body in (
        (1, b"", OK, b"\x08\x02"), (3, b"verifier.v1.VerifierService", OK, b"\x08\x02"), (5, b"other", NOT_FOUND, b""),
    ):  # fmt: skip
        asked = b"\x0a" + bytes([len(service)]) + service if service else b""
        client.call(stream, asked, "/grpc.health.v1.Health/Check")
        answer = client.response(stream)
        assert status == answer.status
        assert body == answer.body[5:]
    client.call(7, b"\x0a\xff", "/grpc.health.v1.Health/Check")
    assert INVALID_ARGUMENT == client.response(7).status
    client.call(9, b"", "/grpc.health.v1.Health/Watch")
    assert UNIMPLEMENTED == client.response(9).status


def test_verify_without_a_keyring_is_unavailable(client: Http2Client):
    client.call(1, b"\x0a\x01x", "/verifier.v1.VerifierService/Verify")
    assert UNAVAILABLE == client.response(1).status


def test_a_client_that_resets_gets_no_answer_and_harms_nobody(client: Http2Client):
    client.send(client.headers(1), frames.RstStreamFrame(1, error_code=8), client.headers(3),
                client.data(3, message(b"half")[:6], end=False))
    client.send(frames.RstStreamFrame(3, error_code=8))
    client.call(5, b"whole")
    assert b"whole" == client.response(5).message
    assert set() == {frame.stream_id for frame in client.received} & {1, 3}


def test_answers_wait_for_the_window(server: EchoServer):
    with Http2Client(server.address, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 10}) as client:
        client.call(1, b"0123456789")
        time.sleep(0.05)
        client.send(frames.PingFrame(0, b"12345678"))
        client.until(frames.PingFrame)
        assert 10 == sum(len(frame.data) for frame in client.received if isinstance(frame, frames.DataFrame))
        client.send(frames.WindowUpdateFrame(1, window_increment=5))
        assert b"0123456789" == client.response(1).message


def test_counters(server: EchoServer, client: Http2Client):
    client.call(1, b"first")
    client.response(1)
    before = server.counters()
    for stream in range(3, 23, 2):
        client.call(stream, b"x")
        client.response(stream)
    client.call(23, b"x", "/nowhere/at/all")
    client.response(23)
    wait_until(lambda: sum(server.counters()["latency_counts"]) - sum(before["latency_counts"]) == 11)
    after = server.counters()
    assert 10 == after["calls"][7][OK] - before["calls"][7][OK]
    assert 1 == after["calls"][7][UNIMPLEMENTED] - before["calls"][7][UNIMPLEMENTED]
    assert 11 == after["streams"] - before["streams"]
    assert len(after["latency_counts"]) == len(after["latency_bounds_us"]) + 1
    assert after["latency_sum_us"] > before["latency_sum_us"]
    assert after["bytes_in"] > before["bytes_in"]
    assert after["bytes_out"] > before["bytes_out"]


def test_unix_socket_and_tcp_together(tmp_path: Path):
    path = tmp_path / "run" / "verifier.sock"
    with echo_server(listen=(f"unix:{path}", "127.0.0.1:0")):
        with Http2Client(str(path)) as client:
            client.call(1, b"local")
            assert b"local" == client.response(1).message
        assert path.exists()
    assert not path.exists()


def test_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 here")
    with echo_server(listen=("[::1]:0",)) as group:
        assert group.target.startswith("[::1]:")


@pytest.mark.parametrize("spin_us", [0, 200])
def test_connections_are_spread_over_loops(spin_us: int):
    with echo_server(threads=3, spin_us=spin_us) as group:
        clients = [Http2Client(group.address) for _ in range(9)]
        for number, client in enumerate(clients):
            client.call(1, b"%d" % number)
            assert b"%d" % number == client.response(1).message
        assert [3, 3, 3] == [loop.connections for loop in group.loops]
        for client in clients[:5]:
            client.socket.close()
        wait_until(lambda: group.connections == 4)
        more = [Http2Client(group.address) for _ in range(5)]
        for client in more:
            client.call(1, b"again")
            assert b"again" == client.response(1).message
        assert [3, 3, 3] == [loop.connections for loop in group.loops]
        assert 14 == sum(loop["opened"] for loop in group.counters()["loops"])
        for client in [*clients, *more]:
            client.socket.close()


def test_path_is_compared_whole(client: Http2Client):
    for stream, path in ((1, ECHO + "x"), (3, ECHO[:-1]), (5, ECHO + "?a=b"), (7, "/")):
        client.call(stream, b"x", path)
        assert UNIMPLEMENTED == client.response(stream).status
