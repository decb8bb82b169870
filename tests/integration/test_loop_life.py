"""A group of loops from start to end: draining, stopping, publishing, signals, and exit of the process."""

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import hyperframe.frame as frames
import pytest

from tests.support.groups import EchoServer, echo_server, wait_until
from tests.support.http2 import CANCEL, Http2Client, message
from tests.support.image import Facts, image_of, view_of
from verifier._loop import Loop
from verifier._tag import checksum
from verifier.limits import Limits
from verifier.server.loops import LoopGroup
from verifier.v1.verifier_pb2 import VerifyRequest, VerifyResponse

VERIFY = "/verifier.v1.VerifierService/Verify"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
TOKEN = "vk_live_" + "0" * 26 + "7"
TOKEN += checksum(TOKEN.encode()).decode()


def test_drain_finishes_what_is_in_flight():
    with echo_server(threads=2) as group:
        clients = [Http2Client(group.address) for _ in range(4)]
        for client in clients:
            client.call(1, b"before")
            assert b"before" == client.response(1).message
            client.send(client.headers(3), client.data(3, message(b"half")[:6], end=False))
        time.sleep(0.02)
        group.drain(10)
        for client in clients:
            notice = client.until(frames.GoAwayFrame)
            assert (0x7FFFFFFF, 0) == (notice.last_stream_id, notice.error_code)
            # On its way before the client knew: answered, and health says what is coming.
            client.call(5, b"", HEALTH)
            assert NOT_SERVING == client.response(5).message
            ping = next(frame for frame in client.received if isinstance(frame, frames.PingFrame))
            client.send(frames.PingFrame(0, ping.opaque_data, flags=["ACK"]))
            assert 5 == client.until(frames.GoAwayFrame).last_stream_id
        assert group.running
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(group.address)
        for client in clients:
            client.send(client.data(3, message(b"half")[6:]))
            assert b"half" == client.response(3).message
            client.rest()
            client.socket.close()
        assert group.join(5)
        assert 4 == group.closed("drain")


def test_drain_of_idle_connections_is_quick_even_if_they_do_not_answer():
    with echo_server() as group:
        client = Http2Client(group.address)
        client.until(frames.SettingsFrame)
        began = time.monotonic()
        group.drain(30)
        client.rest()
        client.socket.close()
        assert group.join(5)
        assert time.monotonic() - began < 3


def test_drain_ends_at_its_deadline():
    with echo_server() as group:
        client = Http2Client(group.address)
        client.send(client.headers(1))
        client.until(frames.SettingsFrame)
        began = time.monotonic()
        group.drain(0.3)
        assert group.join(5)
        assert 0.25 < time.monotonic() - began < 2
        client.rest()
        assert client.closed


def test_connections_that_wait_in_the_backlog_are_served_when_draining():
    with echo_server() as group:
        waiting = [Http2Client(group.address) for _ in range(20)]
        for client in waiting:
            client.call(1, b"just in time")
        group.drain(10)
        for client in waiting:
            assert b"just in time" == client.response(1).message
            client.socket.close()
        assert group.join(5)


def test_connections_that_are_handed_over_while_draining_are_served():
    group = EchoServer(2, methods="echo")
    host, port = group.listen(["127.0.0.1:0"])[0].split(":")
    acceptor, peer = (threading.Thread(target=loop.run, daemon=True) for loop in group.loops)
    peer.start()
    clients = [Http2Client((host, int(port))) for _ in range(4)]
    for client in clients:
        client.call(1, b"just in time")
    group.drain(10)
    # The loop that accepts is late: the other must not be gone when it hands connections over.
    time.sleep(0.05)
    acceptor.start()
    for client in clients:
        assert b"just in time" == client.response(1).message
        client.socket.close()
    for thread in (acceptor, peer):
        thread.join(5)
        assert not thread.is_alive()
    assert [2, 2] == [loop.counters()["opened"] for loop in group.loops]


def test_stop_hangs_up_at_once():
    with echo_server(threads=2) as group:
        clients = [Http2Client(group.address) for _ in range(4)]
        for client in clients:
            client.until(frames.SettingsFrame)
        began = time.monotonic()
        group.stop()
        assert time.monotonic() - began < 1
        for client in clients:
            client.rest()
        assert 4 == group.closed("stop")
        assert 0 == group.connections


def test_a_loop_runs_once_and_is_set_up_before():
    loop = Loop(methods="echo")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop.add_listener(listener.fileno())
        loop.stop()
        loop.run()
        assert not loop.running
        with pytest.raises(RuntimeError):
            loop.run()
        with pytest.raises(RuntimeError):
            loop.add_listener(listener.fileno())
        with pytest.raises(RuntimeError):
            loop.add_peer(Loop())
    with pytest.raises(ValueError, match="methods"):
        Loop(methods="anything")
    peer = Loop()
    Loop().add_peer(peer)
    with pytest.raises(RuntimeError):
        Loop().add_peer(peer)
    with pytest.raises(OSError):
        Loop().add_listener(1 << 20)


def test_loops_leave_no_descriptor_behind():
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with echo_server() as group:
        pass
    before = descriptors()
    for _ in range(5):
        with echo_server(threads=2) as group:
            clients = [Http2Client(group.address) for _ in range(4)]
            clients[0].call(1, b"x")
            clients[0].response(1)
            for client in clients:
                client.socket.close()
        del group
    wait_until(lambda: descriptors() <= before)


def test_publications_under_load_mix_nothing_and_refuse_nobody():
    images = [image_of({TOKEN: Facts(client_id=f"client_{number}", metadata={"n": str(number)})}) for number in (0, 1)]
    group = LoopGroup(2, Limits())
    bound = group.listen(["127.0.0.1:0"])[0]
    assert group.publish(view_of(images[0], revision=2))
    group.start()
    host, port = bound.split(":")
    stop = threading.Event()
    faults: list[str] = []
    answered = [0] * 3
    request = message(VerifyRequest(key=TOKEN).SerializeToString())

    def hammer(number: int) -> None:
        last = 0
        with Http2Client((host, int(port))) as client:
            client.open_windows(0)
            stream = 1
            while not stop.is_set():
                streams = range(stream, stream + 40, 2)
                stream += 40
                client.received.clear()
                client.send(*(frame for one in streams for frame in (client.headers(one, VERIFY),
                                                                     client.data(one, request))))
                for one in streams:
                    answer = client.response(one)
                    if answer.status != 0:
                        faults.append(str(answer.fields))
                        continue
                    got = VerifyResponse.FromString(answer.message)
                    parity = str(got.revision % 2)
                    if got.client_id != f"client_{parity}" or got.metadata["n"] != parity or got.revision < last:
                        faults.append(f"{got} after {last}")
                    last = got.revision
                    answered[number] += 1

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for revision in range(3, 1003):
            assert group.publish(view_of(images[revision % 2], revision=revision))
        wait_until(lambda: min(answered) > 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        group.stop()
    assert [] == faults
    assert sum(answered) > 100
    assert [] == group.stuck_views


def test_calls_of_one_read_are_answered_each_by_its_own_though_others_are_reset():
    valid = VerifyRequest(key=TOKEN).SerializeToString()
    unknown = VerifyRequest(key="vk_live_" + "1" * 30).SerializeToString()
    with echo_server() as group, Http2Client(group.address) as client:
        assert group.publish(view_of(image_of({TOKEN: Facts()})))
        for first in range(1, 1000, 200):
            # Some lie whole in what is read, some come in pieces, some are at fault at once, some are reset meanwhile.
            kinds = {stream: stream // 2 % 7 for stream in range(first, first + 140, 2)}
            some: list[frames.Frame] = []
            for stream, kind in kinds.items():
                body = message(unknown if kind == 2 else b"\xff" if kind == 3 else valid)
                some.append(client.headers(stream, VERIFY))
                some += [client.data(stream, body[:9], end=False), client.data(stream, body[9:])] if kind == 1 else [
                    client.data(stream, body)]
                if kind >= 5:
                    some.append(frames.RstStreamFrame(stream - 2 * (kind - 5), CANCEL))
            client.send(*some)
            for stream, kind in kinds.items():
                if kind in (0, 1, 4):
                    assert 1 == VerifyResponse.FromString(client.response(stream).message).verdict
                elif kind == 2:
                    assert 2 == VerifyResponse.FromString(client.response(stream).message).verdict
                elif kind == 3:
                    assert 3 == client.response(stream).status
            client.received.clear()


def test_health_follows_the_view_and_its_staleness():
    with echo_server() as group, Http2Client(group.address) as client:
        view = view_of(image_of({TOKEN: Facts()}), max_staleness_ms=200)
        view.confirm()
        assert group.publish(view)
        client.call(1, b"", HEALTH)
        assert SERVING == client.response(1).message
        time.sleep(0.3)
        client.call(3, b"", HEALTH)
        assert NOT_SERVING == client.response(3).message
        client.call(5, VerifyRequest(key=TOKEN).SerializeToString(), VERIFY)
        assert 14 == client.response(5).status
        view.confirm()
        client.call(7, b"", HEALTH)
        assert SERVING == client.response(7).message


def test_unsatisfied_min_revision_says_what_is_served_and_when_to_retry():
    with echo_server() as group, Http2Client(group.address) as client:
        assert group.publish(view_of(image_of({TOKEN: Facts()}), revision=41))
        client.call(1, VerifyRequest(key=TOKEN, min_revision=42).SerializeToString(), VERIFY)
        answer = client.response(1)
        assert (9, "41", "50") == (
            answer.status, answer.fields["verifier-revision"], answer.fields["retry-after-ms"])  # fmt: skip


def run_program(text: str, tmp_path: Path, **options) -> subprocess.Popen[str]:
    program = tmp_path / "program.py"
    program.write_text("import sys; sys.path.insert(0, '.')\n" + textwrap.dedent(text))
    return subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, **options)


def test_exit_of_the_interpreter_does_not_hang(tmp_path: Path):
    program = run_program("""
        from verifier.server.loops import LoopGroup
        group = LoopGroup(2, methods="echo")
        group.listen(["127.0.0.1:0"])
        group.start()
        print("up", flush=True)
    """, tmp_path)
    assert "up\n" == program.communicate(timeout=20)[0]
    assert 0 == program.returncode


def test_signals_reach_the_main_thread_while_loops_run(tmp_path: Path):
    program = run_program("""
        import os, signal, threading
        from verifier.server.loops import LoopGroup
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        signal.signal(signal.SIGTERM, lambda *_: seen.append(2))
        group = LoopGroup(2, methods="echo")
        group.listen(["127.0.0.1:0"])
        group.start()
        print("up", flush=True)
        while 2 not in seen:
            signal.sigtimedwait([], 0.05)
        group.stop()
        print(len(seen) - 1, flush=True)
    """, tmp_path)
    assert program.stdout is not None
    assert "up\n" == program.stdout.readline()
    for _ in range(5):
        program.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
    program.send_signal(signal.SIGTERM)
    assert "5\n" == program.communicate(timeout=20)[0]
    assert 0 == program.returncode
