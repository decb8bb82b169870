"""``verifier check`` as a program, against a real grpcio server that answers by the plain reference."""

import json
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from tests.conformance.reference import Entry, Moment, World
from tests.conformance.server import OracleServer, Reference, serving
from tests.conformance.worlds import native, tagged
from tests.support.image import PEPPER
from verifier.vocabulary import RevocationReason

GOOD, REVOKED, BOUND, UNKNOWN = (native(number) for number in range(4))


class Recording(Reference):
    def __init__(self) -> None:
        entries = {
            GOOD: Entry("acme", "key_1", 2, scopes=("read", "trade"), metadata={"tier": "gold"},
                        expires_at=2_000_000_000),
            REVOKED: Entry("acme", "key_2", revoked=True, reason=RevocationReason.KEY_COMPROMISE),
            BOUND: Entry("acme", "key_3", rules=("10.0.0.0/8",)),
        }
        world = World(revision=12, base=tagged(entries), peppers=(PEPPER,))
        super().__init__(world, lambda: Moment(int(time.time()), 40))
        self.probes: list[bool] = []

    def verify(self, message: bytes) -> bytes:
        self.probes.append(b"\x28\x01" in message)
        return super().verify(message)


@pytest.fixture
def server():
    with serving(Recording()) as running:
        yield running


@pytest.fixture
def check(verifier_command, server: OracleServer):
    def run(stdin: str, *arguments: str):
        return verifier_command("check", "--target", server.target, *arguments, stdin=stdin)

    return run


def test_valid_as_json(check):
    done = check(GOOD + "\n", "--scopes", "read", "--json")
    assert (0, "") == (done.returncode, done.stderr)
    assert {
        "verdict": "VALID", "valid": True, "client_id": "acme", "key_id": "key_1", "version": 2, "phase": "CURRENT",
        "scopes": ["read", "trade"], "not_before": None, "expires_at": "2033-05-18T03:33:20Z", "superseded_at": None,
        "superseded_by": None, "revision": 12, "staleness_ms": 40, "metadata": {"tier": "gold"},
    } == json.loads(done.stdout)
    assert 1 == done.stdout.count("\n")


@pytest.mark.parametrize(("token", "arguments", "verdict"), [
    (GOOD, ("--scopes", "read, write"), "INSUFFICIENT_SCOPE"), (REVOKED, (), "REVOKED"), (UNKNOWN, (), "UNKNOWN"),
    (GOOD[:-1], (), "MALFORMED"), (BOUND, (), "ADDRESS_NOT_ALLOWED"), ("caf\xe9", (), "MALFORMED"),
])
def test_refusals_exit_with_1(check, token, arguments, verdict):
    done = check(token + "\n", "--json", *arguments)
    assert (1, "") == (done.returncode, done.stderr)
    answer = json.loads(done.stdout)
    assert (verdict, False) == (answer["verdict"], answer["valid"])
    assert ("key_compromise" if verdict == "REVOKED" else None) == answer.get("revocation_reason")


def test_text_for_people(check):
    done = check(BOUND, "--address", "10.1.2.3")
    assert (0, "VALID") == (done.returncode, done.stdout.splitlines()[0])
    assert "key_3" in done.stdout
    assert BOUND not in done.stdout + done.stderr
    assert "None" not in done.stdout


def test_it_is_a_probe_unless_counted(check, server):
    check(GOOD)
    check(GOOD, "--count")
    assert [True, False] == server.methods.probes


def test_many_tokens_give_a_line_each(check):
    done = check(f"{GOOD}\n\n{UNKNOWN}\r\n  {REVOKED}  \n", "--json")
    assert 1 == done.returncode
    assert ["VALID", "UNKNOWN", "REVOKED"] == [json.loads(line)["verdict"] for line in done.stdout.splitlines()]
    done = check(f"{GOOD}\n" * 2500, "--json")
    assert (0, 2500) == (done.returncode, len(done.stdout.splitlines()))


def test_min_revision_is_waited_for_then_a_fault(check):
    assert 0 == check(GOOD, "--min-revision", "12").returncode
    done = check(GOOD, "--min-revision", "13", "--timeout", "1", "--json")
    assert 3 == done.returncode
    assert "REVISION_NOT_SERVED" == json.loads(done.stdout)["error"]["code"]


def test_bad_use_exits_with_2(check):
    assert 2 == check("").returncode
    assert 2 == check("\n\n").returncode
    assert 2 == check(GOOD, "--address", "localhost").returncode
    assert 2 == check(GOOD, "--scopes", 'a"b').returncode
    assert 2 == check(GOOD, "--min-revision", "-1").returncode
    assert 2 == check("", GOOD).returncode  # a token as an argument


def test_a_token_among_the_arguments_is_refused_and_not_repeated(check):
    done = check(GOOD, GOOD, "--json")
    assert 2 == done.returncode
    assert "standard input" in json.loads(done.stdout)["error"]["message"]
    assert GOOD not in done.stdout + done.stderr


def test_nothing_listens(verifier_command, free_port, tmp_path):
    tcp, unix = f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/none.sock"
    for target, hint in ((tcp, "nothing listens"), (unix, "no such socket")):
        done = verifier_command("check", "--target", target, "--timeout", "0.3", stdin=GOOD)
        assert 3 == done.returncode
        assert hint in done.stderr
        assert GOOD not in done.stderr


@contextmanager
def talking(answer: bytes):
    """A TCP server that answers every connection with the same bytes, after it has been spoken to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(("answer", "hint"), [
    (HTTP + b'{"state":"SERVING","revision":12}', "metrics port"),
    (HTTP + b'{"revision":12,"addresses":["127.0.0.1:50077"]}', "here: 127.0.0.1:50077"),
    (HTTP + b"# HELP verifier_revision served", "metrics port"),
    (HTTP + b"<html>", "HTTP/1 server"),
    (b"HTTP/1.0 404 Not Found\r\n\r\n", "HTTP/1 server"),
])
def test_the_wrong_port_is_named(verifier_command, answer, hint):
    with talking(answer) as target:
        done = verifier_command("check", "--target", target, "--timeout", "0.5", "--json", stdin=GOOD)
    assert 3 == done.returncode
    error = json.loads(done.stdout)["error"]
    assert hint in error["hint"]
    assert "--listen" in error["hint"]
    assert target == error["details"]["target"]


def test_a_grpc_server_that_is_no_verifier_is_named(verifier_command):
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    try:
        done = verifier_command("check", "--target", f"127.0.0.1:{port}", stdin=GOOD)
    finally:
        other.stop(None).wait()
    assert 3 == done.returncode
    assert "is it a verifier node?" in done.stderr
