"""A node as a program: start, answers, hot swap, status, metrics, signals."""

import contextlib
import http.client
import json
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.support.hammer import swap_under_traffic
from tests.support.image import REVOKED, Facts
from tests.support.node import RunningNode, until
from tests.support.publications import Stocked, native
from verifier.v1 import verifier_pb2, verifier_pb2_grpc

A, B = native(1), native(2)
VALID, REVOKED_VERDICT, UNKNOWN = 1, 4, 3
SWAPS = 100


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    return Stocked(tmp_path / "home")


def test_it_answers_on_tcp_and_on_a_unix_socket(stocked: Stocked, tmp_path: Path):
    stocked.publish({A: Facts(scopes=("read",))})
    path = tmp_path / "run" / "verifier.sock"
    with RunningNode(stocked.home.folder, "--listen", f"unix:{path}", "--threads", "2") as node:
        node.wait_for("serving", revision=1)
        assert (VALID, ["read"]) == ((answer := node.verify(A)).verdict, list(answer.scopes))
        with grpc.insecure_channel(f"unix:{path}") as channel:
            stub = verifier_pb2_grpc.VerifierServiceStub(channel)
            assert UNKNOWN == stub.Verify(verifier_pb2.VerifyRequest(key=B), timeout=5).verdict
        assert [node.target, f"unix:{path}"] == node.status()["addresses"]
        assert path.stat().st_mode & 0o777 == 0o660
        node.signal(signal.SIGTERM)
        assert 0 == node.process.wait(10)
    assert not path.exists()


def test_it_raises_the_limit_of_descriptors_to_what_its_connections_need(stocked: Stocked):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1] if before[1] != resource.RLIM_INFINITY else 100_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with RunningNode(stocked.home.folder, "--connections-max", "1000") as node:
            assert min(1256, hard) == resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_without_a_keyring_it_runs_and_answers_unavailable(stocked: Stocked):
    with RunningNode(stocked.home.folder) as node:
        until(lambda: node.status()["state"] == "NOT_SERVING")
        with pytest.raises(grpc.RpcError) as caught:
            node.verify("nonsense")
        assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
        assert (503, 200) == (node.get("/readyz")[0], node.get("/healthz")[0])
        assert (0, None) == (node.metric("verifier_revision"), node.status()["last_refusal"])
        stocked.publish({A: Facts()})
        node.wait_for("serving", revision=1)
        assert VALID == node.verify(A).verdict
        assert (200, "SERVING\n") == node.get("/readyz")


def test_status_and_metrics(stocked: Stocked):
    stocked.publish({A: Facts(), B: Facts()}, {B: Facts(flags=REVOKED, reason=1)})
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        for token in (A, A, B, "junk"):
            node.verify(token)
        status = node.status()
        names = ("state", "revision", "highest_revision", "content_of", "store_id", "last_refusal")
        assert ("SERVING", 1, 1, 1, "st_test", None) == tuple(status[name] for name in names)
        assert (2, 1) == (status["base"]["records"], status["delta"]["records"])
        assert status["published_at"] == "2027-01-15T08:00:00Z"
        assert status["staleness_ms"] < 2000
        for name, value in {
            'verifier_verifications_total{verdict="VALID"}': 2, 'verifier_verifications_total{verdict="REVOKED"}': 1,
            'verifier_verifications_total{verdict="MALFORMED"}': 1,
            'verifier_calls_total{code="OK",method="Verify"}': 4,
            "verifier_revision": 1, "verifier_call_seconds_count": 4, "verifier_swap_seconds_count": 1,
            'verifier_keyring_records{kind="delta"}': 1, 'verifier_state{state="SERVING"}': 1,
            'verifier_publications_refused_total{code="BAD_DIGEST"}': 0, "verifier_stuck_publications": 0,
        }.items():
            assert value == node.metric(name), name
        assert 0 < node.metric("verifier_tag_nanoseconds") < 100_000
        assert node.get("/nothing")[0] == 404
        page = node.get("/metrics")[1]
        assert A not in page and "acme" not in page and "key_1" not in page


def test_the_status_command(stocked: Stocked, verifier_command: Command, free_port: Callable[[], int]):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        done = verifier_command("status", "--target", node.metrics, "--json")
        assert (0, 1) == (done.returncode, json.loads(done.stdout)["revision"])
        done = verifier_command("status", "--target", node.metrics)
        assert done.returncode == 0 and "SERVING" in done.stdout
        done = verifier_command("status", "--target", node.target)
        assert done.returncode == 2 and "gRPC port" in done.stderr and "metrics port" in done.stderr
    done = verifier_command("status", "--target", f"127.0.0.1:{free_port()}", "--json")
    assert (3, "UNAVAILABLE") == (done.returncode, json.loads(done.stdout)["error"]["code"])


@pytest.mark.parametrize("threads", [1, 2])
def test_swaps_under_traffic(stocked: Stocked, threads: int):
    swap_under_traffic(stocked, threads, SWAPS)


def test_drain_answers_what_is_in_flight_and_exits_0(stocked: Stocked):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        with node.channel() as channel:
            stub = verifier_pb2_grpc.VerifierServiceStub(channel)
            futures = [stub.Verify.future(verifier_pb2.VerifyRequest(key=A), timeout=5) for _ in range(200)]
            assert VALID == futures[0].result().verdict
            node.signal(signal.SIGTERM)
            assert 0 == node.process.wait(10)
        verdicts = [future.result().verdict for future in futures if future.exception() is None]
        assert [VALID] * len(verdicts) == verdicts
        codes = {future.exception().code() for future in futures if future.exception() is not None}
        assert codes <= {grpc.StatusCode.UNAVAILABLE}
        node.lines += [json.loads(line) for line in node.text]
        assert "drained" in [line["event"] for line in node.lines]


def silent_call(target: str) -> socket.socket:
    """Open a connection with a call that is begun and never finished."""
    host, port = target.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=5)
    path = b"/verifier.v1.VerifierService/Verify"
    headers = b"\x83\x86" + b"\x04" + bytes([len(path)]) + path + b"\x01\x01x" + b"\x0f\x10\x10application/grpc"
    frame = len(headers).to_bytes(3, "big") + b"\x01\x04\x00\x00\x00\x01" + headers
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + frame)
    assert connection.recv(9)
    time.sleep(0.1)
    return connection


def test_a_second_signal_stops_at_once(stocked: Stocked):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        with silent_call(node.target):
            node.signal(signal.SIGTERM)
            node.wait_for("draining")
            time.sleep(0.3)
            assert node.process.poll() is None, "it did not wait for the call"
            assert node.get("/readyz") == (503, "DRAINING\n")
            began = time.monotonic()
            node.signal(signal.SIGINT)
            assert 5 == node.process.wait(10)
            assert time.monotonic() - began < 2


def test_the_drain_timeout_ends_it(stocked: Stocked):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder, "--drain-timeout", "500ms") as node:
        node.wait_for("serving")
        with silent_call(node.target):
            node.signal(signal.SIGTERM)
            assert 5 == node.process.wait(5)


def test_sighup_rereads(stocked: Stocked):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        node.signal(signal.SIGHUP)
        node.wait_for("rereading the store")
        assert VALID == node.verify(A).verdict


def test_a_port_that_is_taken_is_an_error_not_a_share(stocked: Stocked, verifier_command: Command):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        home = stocked.home.folder
        done = verifier_command("--store", home, "serve", "--listen", node.target, "--metrics", "off")
        assert done.returncode in (3, 4) and "another program listens" in done.stderr
        done = verifier_command("--store", home, "serve", "--listen", "127.0.0.1:0", "--metrics", node.metrics)
        assert done.returncode == 3 and "--metrics" in done.stderr


def test_a_mistyped_store_is_not_created(tmp_path: Path, verifier_command: Command):
    done = verifier_command("--store", tmp_path / "typo", "serve", "--listen", "127.0.0.1:0", "--metrics", "off")
    assert done.returncode == 4 and "init" in done.stderr
    assert not (tmp_path / "typo").exists()


def test_stale_answers_are_faults(stocked: Stocked):
    stocked.publish({A: Facts()})
    with RunningNode(stocked.home.folder, "--max-staleness", "300ms", "--poll-interval", "50ms") as node:
        node.wait_for("serving")
        assert VALID == node.verify(A).verdict
        stocked.store.pointer.write_text("damaged\n")
        node.wait_for("publication refused", code="UNREADABLE")
        until(lambda: node.status()["state"] == "NOT_SERVING")
        with pytest.raises(grpc.RpcError) as caught:
            node.verify(A)
        assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
        stocked.point(1)
        until(lambda: node.status()["state"] == "SERVING")
        assert VALID == node.verify(A).verdict


def test_config_show_and_check(stocked: Stocked, tmp_path: Path, verifier_command: Command):
    config = tmp_path / "verifier.toml"
    config.write_text('threads = 2\nlog_format = "json"\n')
    home = stocked.home.folder
    done = verifier_command("--store", home, "config", "show", "--config", config, "--threads", "3", "--json")
    settings = json.loads(done.stdout)["settings"]
    assert {"value": 3, "source": "--threads"} == settings["threads"]
    assert {"value": "json", "source": f"{config}: log_format"} == settings["log_format"]
    assert {"value": str(home), "source": "--store"} == settings["store"]
    assert verifier_command("--store", home, "config", "check").returncode == 0
    (stocked.home.secrets / "trusted.pem").unlink()
    done = verifier_command("--store", home, "config", "check", "--listen", f"unix:{tmp_path}/no/x.sock", "--json")
    assert done.returncode == 4
    assert [problem.split(":")[0] for problem in json.loads(done.stdout)["problems"]] == ["trusted keys"]


def test_it_answers_plain_http_where_it_is_told_to(stocked: Stocked, tmp_path: Path):
    stocked.publish({A: Facts(scopes=("read",), rules=("10.0.0.0/8",)), B: Facts(flags=REVOKED)})
    options = ("--http-listen", "127.0.0.1:0", "--http-listen", f"unix:{tmp_path}/http.sock", "--threads", "2",
               "--http-address-header", "x-real-ip")
    with RunningNode(stocked.home.folder, *options) as node:
        node.wait_for("serving", revision=1)
        (where, unix) = node.wait_for("listening")["http"]
        # The same address as that for calls (port 0, by its text), so both are answered there.
        assert (node.target, f"unix:{tmp_path}/http.sock") == (where, unix)
        assert VALID == node.verify(A, client_address="10.0.0.1").verdict
        with contextlib.closing(http.client.HTTPConnection(*where.rsplit(":", 1), timeout=5)) as client:
            for token, address, status in ((A, "10.0.0.1", 200), (A, "11.0.0.1", 403), (B, "10.0.0.1", 401)):
                client.request("GET", "/v1/authz?scopes=read", headers={"x-api-key": token, "x-real-ip": address})
                answer = client.getresponse()
                assert status == answer.status
                answer.read()
            assert 1 == node.metric('verifier_calls_total{code="OK",method="authz"}')
            assert 1 == node.metric('verifier_calls_total{code="PERMISSION_DENIED",method="authz"}')
            # Draining ends the connection with an answer; until then it goes on.
            node.signal(signal.SIGTERM)
            ends = None
            while ends is None:
                client.request("GET", "/v1/authz", headers={"x-api-key": B})
                answer = client.getresponse()
                assert 401 == answer.status
                ends = answer.headers["connection"]
                answer.read()
            assert "close" == ends
        assert 0 == node.process.wait(10)
