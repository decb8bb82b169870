"""No more file descriptors, or no more connections allowed: neither spins nor dies, and what is there goes on."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tests.support.groups import echo_server, wait_until
from tests.support.http2 import Http2Client
from verifier.limits import Limits

SERVER = """
import json, os, resource, sys, time
from verifier.server.loops import LoopGroup
group = LoopGroup(1, methods="echo")
print(group.listen(["127.0.0.1:0"])[0], flush=True)
group.start()
used = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, used + 5))
print("limited", flush=True)
for line in sys.stdin:
    if line == "hog\\n":
        hogged = []
        try:
            while True:
                hogged.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    elif line == "free\\n":
        for fd in hogged:
            os.close(fd)
    times = os.times()
    print(json.dumps({"cpu_s": times.user + times.system, **group.counters()}), flush=True)
group.stop()
"""


class LimitedServer:
    """A server in a process of its own, with few descriptors."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        self.process = subprocess.Popen([sys.executable, "-c", SERVER], cwd=root, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        host, port = self.line().split(":")
        self.address = (host, int(port))
        assert "limited" == self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self, what: str) -> dict:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def close(self) -> None:
        self.process.communicate(timeout=20)
        assert 0 == self.process.returncode


def is_served(address) -> bool:
    try:
        with Http2Client(address) as client:
            client.call(1, b"x")
            return b"x" == client.response(1).message
    except (ConnectionError, TimeoutError):
        return False


def test_without_descriptors_connections_are_refused_and_others_served():
    server = LimitedServer()
    with Http2Client(server.address) as old:
        old.call(1, b"first")
        assert b"first" == old.response(1).message
        held = [Http2Client(server.address, preface=False) for _ in range(30)]
        wait_until(lambda: server.ask("count")["closed"]["descriptors"] >= 20)
        old.call(3, b"still here")
        assert b"still here" == old.response(3).message
        before = server.ask("count")
        time.sleep(1)
        after = server.ask("count")
        assert after["turns"] - before["turns"] < 100
        assert after["cpu_s"] - before["cpu_s"] < 0.5
        for client in held:
            client.socket.close()
        wait_until(lambda: server.ask("count")["connections"] == 1)
        assert is_served(server.address)
    server.close()


def test_without_even_the_reserve_accepting_pauses_and_recovers():
    server = LimitedServer()
    with Http2Client(server.address) as old:
        old.call(1, b"first")
        assert b"first" == old.response(1).message
        server.ask("hog")
        clients = [Http2Client(server.address, preface=False) for _ in range(5)]
        old.call(3, b"still here")
        assert b"still here" == old.response(3).message
        server.ask("free")
        wait_until(lambda: is_served(server.address))
        for client in clients:
            client.socket.close()
    server.close()


def test_more_connections_than_allowed_are_hung_up_on():
    with echo_server(Limits(connections_max=4), threads=2) as group:
        clients = [Http2Client(group.address) for _ in range(4)]
        for client in clients:
            client.call(1, b"x")
            assert b"x" == client.response(1).message
        assert not is_served(group.address)
        assert 1 == group.closed("limit")
        clients[0].socket.close()
        wait_until(lambda: group.connections == 3)
        assert is_served(group.address)
        for client in clients[1:]:
            client.call(3, b"y")
            assert b"y" == client.response(3).message
            client.socket.close()
