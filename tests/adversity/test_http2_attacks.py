"""Clients that mean harm, or are broken: what they can take from the server and from other clients is limited.

The attacks are those named in docs/operating.md: Rapid Reset (CVE-2023-44487), MadeYouReset (CVE-2025-8671),
CONTINUATION flood (CVE-2024-28182), HPACK bomb, many small headers behind a closed window (CVE-2026-49975), one-byte
DATA frames (CVE-2026-84304), floods of control frames, slow preface, slow reading, and plain garbage.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import hyperframe.frame as frames
import pytest

from tests.support.groups import EchoServer, echo_server, wait_until
from tests.support.http2 import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Http2Client,
    message,
)
from verifier.limits import Limits

RESOURCE_EXHAUSTED = 8
ZERO_WINDOW = {frames.SettingsFrame.INITIAL_WINDOW_SIZE: 0}


@pytest.fixture(scope="module")
def server() -> Iterator[EchoServer]:
    limits = Limits(resets_burst=50, control_burst=200, control_per_s=10, resets_per_s=5)
    with echo_server(limits) as group:
        yield group


@pytest.fixture
def bystander(server: EchoServer) -> Iterator[Callable[[], None]]:
    """A well-behaved client on a connection of its own, which must never notice."""
    with Http2Client(server.address) as client:
        streams = iter(range(1, 1 << 20, 2))

        def check() -> None:
            stream = next(streams)
            client.call(stream, b"fine")
            assert b"fine" == client.response(stream).message

        check()
        yield check
        check()


def until_sent_away(client: Http2Client) -> int:
    """Read until GOAWAY; return its error code."""
    goaway = client.until(frames.GoAwayFrame)
    assert goaway is not None, "hung up without a word"
    return int(goaway.error_code)


def flood(client: Http2Client, make: Callable[[int], list[frames.Frame]], count: int) -> None:
    """Send many frames, and do not mind being thrown out meanwhile."""
    with suppress(BrokenPipeError, ConnectionResetError):
        client.send(*(frame for number in range(count) for frame in make(number)))


@pytest.mark.parametrize(
    "make",
    [
        lambda _: [frames.PingFrame(0, b"pingping")],
        lambda _: [frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 70000})],
        lambda _: [frames.WindowUpdateFrame(0, window_increment=1)],
        lambda _: [frames.DataFrame(1, b"")],
        lambda _: [frames.DataFrame(1, b"x")],
        lambda _: [frames.DataFrame(1, b"", pad_length=200, flags=["PADDED"])],
        lambda _: [frames.RstStreamFrame(1, error_code=CANCEL)],
    ],
    ids=["ping", "settings", "window", "empty-data", "one-byte-data", "padding", "resets-of-one-stream"],
)
def test_floods_are_sent_away(server: EchoServer, bystander: Callable[[], None], make):
    before = server.closed("budget")
    with Http2Client(server.address) as client:
        client.send(client.headers(1), client.data(1, message(b"", length=100_000), end=False))
        flood(client, make, 400)
        bystander()
        assert ENHANCE_YOUR_CALM == until_sent_away(client)
        client.rest()
    wait_until(lambda: server.closed("budget") == before + 1)


@pytest.mark.parametrize(
    "frame", [frames.PriorityFrame(3, depends_on=0, stream_weight=1).serialize(), b"\0\0\0\xfa\0\0\0\0\0"],
    ids=["priority", "unknown"],
)
def test_floods_of_what_is_ignored(server: EchoServer, bystander: Callable[[], None], frame: bytes):
    with Http2Client(server.address) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(80):
                client.raw(frame * (65536 // len(frame)))
        bystander()
        assert ENHANCE_YOUR_CALM == until_sent_away(client)


def test_rapid_reset(server: EchoServer, bystander: Callable[[], None]):
    with Http2Client(server.address) as client:
        flood(client, lambda number: [client.headers(2 * number + 1),
                                      frames.RstStreamFrame(2 * number + 1, CANCEL)], 200)
        bystander()
        assert ENHANCE_YOUR_CALM == until_sent_away(client)


def test_made_you_reset(server: EchoServer, bystander: Callable[[], None]):
    with Http2Client(server.address) as client:
        # A window update of zero makes the server reset the stream, so the client need not.
        flood(client, lambda number: [client.headers(2 * number + 1),
                                      frames.WindowUpdateFrame(2 * number + 1, window_increment=1 << 30),
                                      frames.WindowUpdateFrame(2 * number + 1, window_increment=1 << 30)], 200)
        bystander()
        assert ENHANCE_YOUR_CALM == until_sent_away(client)


def test_early_answers_are_resets_too(server: EchoServer, bystander: Callable[[], None]):
    with Http2Client(server.address) as client:
        flood(client, lambda number: [client.headers(2 * number + 1),
                                      client.data(2 * number + 1, message(b"", length=1 << 31), end=False)], 200)
        bystander()
        assert ENHANCE_YOUR_CALM == until_sent_away(client)


def test_a_busy_client_may_send_many_control_frames(server: EchoServer):
    with Http2Client(server.address) as client:
        for number in range(300):
            stream = 2 * number + 1
            client.send(client.headers(stream), client.data(stream, message(b"x")),
                        frames.WindowUpdateFrame(0, window_increment=6),
                        frames.WindowUpdateFrame(stream, window_increment=6), frames.PingFrame(0, b"keepaliv"))
            assert b"x" == client.response(stream).message


def test_continuation_flood(server: EchoServer, bystander: Callable[[], None]):
    with Http2Client(server.address) as client:
        client.send(frames.HeadersFrame(1, client.encoder.encode([(":method", "POST")])))
        flood(client, lambda number: [frames.ContinuationFrame(1, b"\x40\x01a\x01b" * 50)], 2000)
        bystander()
        client.rest()
    assert server.counters()["closed"]["protocol"] >= 1


def test_hpack_bomb(server: EchoServer, bystander: Callable[[], None]):
    with Http2Client(server.address) as client:
        large = client.headers(1, extra=[("x-bomb", "b" * 3800)])
        client.send(large, client.data(1, message(b"x")))
        assert 0 == client.response(1).status
        # One byte each names the large field in the dynamic table again: 15 KB stand for 57 MB.
        bomb = client.headers(3).data + b"\xbe" * 15000
        began = time.process_time()
        client.send(frames.HeadersFrame(3, bomb, flags=["END_HEADERS"]), client.data(3, message(b"x")))
        assert client.response(3).ended
        assert time.process_time() - began < 1.0
        bystander()


def test_garbage_is_hung_up_on(server: EchoServer, bystander: Callable[[], None]):
    http1, tls = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"
    for garbage in (http1, tls + bytes(50), bytes(5000), PREFACE[:10] + b"x" * 30):
        with Http2Client(server.address, preface=False) as client:
            client.raw(garbage)
            client.rest()
            assert client.closed
    bystander()


def test_random_frames_never_hurt_anybody_else(server: EchoServer, bystander: Callable[[], None]):
    seed = random.randrange(1 << 32)
    noise = random.Random(seed)
    for _ in range(60):
        with Http2Client(server.address) as client:
            good = client.headers(1).serialize() + client.data(1, message(b"good")).serialize()
            data = bytearray(good * 3)
            for _ in range(noise.randrange(1, 12)):
                data[noise.randrange(len(data))] = noise.randrange(256)
            with suppress(BrokenPipeError, ConnectionResetError):
                client.raw(bytes(data))
                client.raw(noise.randbytes(noise.randrange(2000)))
    bystander()
    assert server.running, f"seed {seed}"


def test_hanging_up_at_any_byte(server: EchoServer, bystander: Callable[[], None]):
    with Http2Client(server.address, preface=False) as model:
        whole = PREFACE + frames.SettingsFrame(0).serialize() + model.headers(1).serialize() + model.data(
            1, message(b"cut")).serialize()
    for length in range(len(whole)):
        with Http2Client(server.address, preface=False) as client:
            client.raw(whole[:length])
    bystander()
    wait_until(lambda: server.connections == 1)


def test_more_streams_than_allowed_are_refused():
    with echo_server(Limits(streams_max=10)) as group, Http2Client(group.address) as client:
        # Sent before the limit was acknowledged, so each is refused by itself and may be tried again.
        client.send(*(client.headers(stream) for stream in range(1, 31, 2)))
        refused = [client.until(frames.RstStreamFrame) for _ in range(5)]
        assert {REFUSED_STREAM} == {frame.error_code for frame in refused}
        client.send(*(client.data(stream, message(b"x")) for stream in range(1, 21, 2)))
        assert b"x" == client.response(19).message
        # Afterwards it is a violation.
        client.send(*(client.headers(stream) for stream in range(31, 61, 2)))
        assert PROTOCOL_ERROR == until_sent_away(client)


def resident_bytes() -> int:
    """Memory of this process, in which the server runs too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_unfinished_requests_hold_a_limited_amount():
    with echo_server() as group, Http2Client(group.address) as client:
        before = resident_bytes()
        for stream in range(1, 121, 2):
            client.send(client.headers(stream))
            client.upload(stream, message(b"u" * 40_000, length=400_000), end=False)
        client.send(frames.PingFrame(0, b"are-done"))
        client.until(frames.PingFrame)
        answers = [frame.fields for frame in client.received if isinstance(frame, frames.HeadersFrame)]
        assert {str(RESOURCE_EXHAUSTED)} == {fields["grpc-status"] for fields in answers}
        # 2.4 MB were sent; what was not refused is held.
        assert (60 - len(answers)) * 40_000 <= Limits().held_bytes_max
        # A sanitizer keeps what is freed, and would be all that is measured.
        assert "libasan" in os.environ.get("LD_PRELOAD", "") or resident_bytes() - before < 2 * Limits().held_bytes_max
        # When the others are given up there is room for one again, and its message is whole.
        client.send(*(frames.RstStreamFrame(stream, CANCEL) for stream in range(3, 121, 2)))
        client.upload(1, b"u" * 360_000)
        client.open_windows(1)
        assert b"u" * 400_000 == client.response(1).message


def test_no_window_for_more_while_answers_wait():
    with echo_server() as group, Http2Client(group.address, settings=ZERO_WINDOW) as client:
        sent, body = 0, message(b"z" * 8000)
        for stream in range(1, 401, 2):
            client.send(frames.PingFrame(0, b"any-room"))
            client.until(frames.PingFrame)
            if client.room(stream) < len(body):
                break
            client.send(client.headers(stream))
            client.upload(stream, body)
            sent += 1
        # The account is a third of what may be held, and the window that was given before.
        assert Limits().held_bytes_max // 3 < sent * 8000 < Limits().held_bytes_max // 3 + 2 * 65536
        client.send(frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 20}))
        client.open_windows(0)
        for stream in range(1, 2 * sent, 2):
            assert b"z" * 8000 == client.response(stream).message
        # And now there is room again.
        client.send(client.headers(999))
        client.upload(999, body)
        assert b"z" * 8000 == client.response(999).message


def test_answers_are_refused_when_too_many_wait():
    limits = Limits(held_bytes_max=30_000)
    with echo_server(limits) as group, Http2Client(group.address, settings=ZERO_WINDOW) as client:
        client.send(*(frame for stream in range(1, 41, 2)
                      for frame in (client.headers(stream), client.data(stream, message(b"z" * 3000)))))
        assert RESOURCE_EXHAUSTED == client.response(39).status
        client.send(frames.SettingsFrame(0, settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 20}))
        assert b"z" * 3000 == client.response(1).message


def test_who_does_not_take_answers_is_hung_up_on(tmp_path: Path):
    # A Unix socket holds some 200 KB; TCP would take megabytes before it is stuck.
    with echo_server(Limits(stall_ms=500), listen=[f"unix:{tmp_path}/s"]) as group:
        closed_window = Http2Client(group.address, settings=ZERO_WINDOW)
        closed_window.call(1, b"never taken")
        deaf = Http2Client(group.address)
        deaf.socket.settimeout(0.3)
        # Asks on and on and never reads, until the server stops reading, too. (Requests without DATA and answers
        # without DATA, so that no window is in the way; large requests, so that few fit into one read.)
        deaf.send(deaf.headers(1, "/unknown", extra=[("x-fill", "f" * 500)], end=True))
        with pytest.raises((TimeoutError, ConnectionResetError, BrokenPipeError)):
            for stream in range(3, 20_003, 2):
                deaf.send(deaf.headers(stream, "/unknown", extra=[(f"x-{stream}", "f" * 500)], end=True))
        with Http2Client(group.address) as other:
            other.call(1, b"fine")
            assert b"fine" == other.response(1).message
            wait_until(lambda: group.closed("stall") == 2)
            other.call(3, b"fine")
            assert b"fine" == other.response(3).message
        closed_window.socket.close()
        deaf.socket.close()


def test_who_says_nothing_is_hung_up_on():
    with echo_server(Limits(preface_ms=300)) as group:
        silent = Http2Client(group.address, preface=False)
        half = Http2Client(group.address, preface=False)
        half.raw(PREFACE)
        silent.rest()
        half.rest()
        assert 2 == group.closed("preface")


@pytest.mark.parametrize(("limits", "reason"), [(Limits(idle_ms=200), "idle"), (Limits(age_ms=200), "age")])
def test_who_stays_too_long_is_asked_to_go(limits: Limits, reason: str):
    with echo_server(limits) as group, Http2Client(group.address) as client:
        client.call(1, b"x")
        client.response(1)
        notice = client.until(frames.GoAwayFrame)
        assert (0x7FFFFFFF, 0) == (notice.last_stream_id, notice.error_code)
        # A call that was on its way meanwhile is answered.
        client.call(3, b"on its way")
        assert b"on its way" == client.response(3).message
        ping = next(frame for frame in client.received if isinstance(frame, frames.PingFrame))
        client.send(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
        final = client.until(frames.GoAwayFrame)
        assert 3 == final.last_stream_id
        client.rest()
        client.socket.close()
        wait_until(lambda: group.closed(reason) == 1)


def test_the_largest_message_has_room_beside_an_unfinished_one():
    with echo_server() as group, Http2Client(group.address) as client:
        client.send(client.headers(1), client.headers(3))
        client.upload(1, message(b"half")[:7], end=False)
        client.upload(3, message(b"m" * Limits().message_bytes_max))
        client.open_windows(3)
        assert 0 == client.response(3).status
        client.send(client.data(1, message(b"half")[7:]))
        assert b"half" == client.response(1).message
