"""A node's reports over real sockets: exact counts, whatever fails on the way, and what the control plane sees."""

import ipaddress
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from tests.support.certificates import Authority
from tests.support.control_plane import ControlPlane
from tests.support.image import REVOKED, WATCH, Facts
from tests.support.node import RunningNode, until
from tests.support.publications import Stocked, flip, native
from verifier.cli.config import find_problems
from verifier.errors import InvalidInput
from verifier.server.settings import read_settings
from verifier.serving.keyring import Keyring
from verifier.v1 import verifier_pb2, verifier_pb2_grpc

GOOD, GONE, WATCHED, ABSENT = (native(number) for number in range(4))
FACTS = {GOOD: Facts(ordinal=10), GONE: Facts(ordinal=5000, flags=REVOKED),
         WATCHED: Facts(ordinal=600, flags=WATCH, version=2)}  # fmt: skip


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    made = Stocked(tmp_path)
    made.publish(FACTS)
    return made


def reporting(stocked: Stocked, control: ControlPlane, *options: str, interval: str = "200ms") -> RunningNode:
    """Run a node that reports often, and already serves."""
    node = RunningNode(stocked.home.folder, "--report-to", control.target, "--node-name", "n1",
                       "--report-interval", interval, *options)
    node.wait_for("serving")
    return node


class Caller:
    """Calls a node on a connection of its own until it is stopped, and keeps its own books.

    Attributes:
        valid, refused: answers by outcome.
    """

    def __init__(self, node: RunningNode) -> None:
        self.valid = self.refused = 0
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        request = verifier_pb2.VerifyRequest
        batch = verifier_pb2.VerifyBatchRequest(
            requests=[request(key=key) for key in (GOOD, GONE, ABSENT, GOOD)] + [request(key=GOOD, probe=True)])
        with self._node.channel() as channel:
            stub = verifier_pb2_grpc.VerifierServiceStub(channel)
            while not self._stop.is_set() and self._node.process.poll() is None:
                self._ask(stub, request, batch)

    def _ask(self, stub: Any, request: Any, batch: Any) -> None:
        try:
            assert stub.Verify(request(key=GOOD), timeout=10).verdict == verifier_pb2.VERDICT_VALID
            assert stub.Verify(request(key=GOOD, probe=True), timeout=10).verdict == verifier_pb2.VERDICT_VALID
            assert stub.Verify(request(key=ABSENT), timeout=10).verdict == verifier_pb2.VERDICT_UNKNOWN
            assert len(stub.VerifyBatch(batch, timeout=10).responses) == 5
        except grpc.RpcError:
            if self._node.process.poll() is None:
                time.sleep(0.2)
            assert self._node.process.poll() is not None, "a call failed, and the node was not killed"
            return
        self.valid += 3
        self.refused += 1

    def stop(self) -> None:
        """End, with the call in flight."""
        self._stop.set()
        self._thread.join(15)


def totals(callers: list[Caller]) -> dict[int, tuple[int, int]]:
    """What callers know to have been counted."""
    return {10: (sum(caller.valid for caller in callers), 0), 5000: (0, sum(caller.refused for caller in callers))}


def stop_and_compare(node: RunningNode, callers: list[Caller], control: ControlPlane) -> None:
    """End callers, then the node as an operator would; all that was answered must have been reported, once."""
    for caller in callers:
        caller.stop()
    node.process.terminate()
    assert node.process.wait(20) == 0, "".join(node.text)
    assert control.counts == totals(callers)
    assert min(caller.valid for caller in callers) > 0


def test_counts_are_exact_over_swaps_and_exchanges_in_two_loops(stocked: Stocked, control: ControlPlane):
    with reporting(stocked, control, "--threads", "2", interval="100ms") as node:
        node.wait_for("serving", revision=1)
        callers = [Caller(node) for _ in range(4)]
        for number in range(2, 12):
            stocked.publish(FACTS, FACTS if number % 2 else None)
            node.wait_for("serving", revision=number)
            time.sleep(0.05)
        until(lambda: control.last_status().revision == 11)
        stop_and_compare(node, callers, control)
    (series,) = control.series.values()
    assert series.applied > 5
    assert control.last_status().stopping
    assert control.last_status().revision == 11


def test_lost_reports_and_lost_answers_change_nothing(stocked: Stocked, control: ControlPlane):
    control.lose_requests = control.lose_answers = 0.25
    with reporting(stocked, control, "--threads", "2", interval="100ms") as node:
        callers = [Caller(node) for _ in range(2)]
        until(lambda: any(series.applied > 2 for series in control.series.values()), 20)
        until(lambda: node.metric('verifier_reports_total{outcome="failed",report="usage"}') > 0)
        control.lose_requests = control.lose_answers = 0.0
        stop_and_compare(node, callers, control)


def test_a_control_plane_that_was_away_gets_everything(stocked: Stocked, control: ControlPlane):
    with reporting(stocked, control, interval="100ms") as node:
        callers = [Caller(node)]
        until(lambda: any(series.applied > 1 for series in control.series.values()))
        control.stop()
        node.wait_for("reports fail", report="usage")
        until(lambda: node.status()["usage"]["backlog"] > 0)
        control.start()
        node.wait_for("reports are taken again", report="usage")
        until(lambda: node.status()["usage"]["backlog"] == 0 or len(control.counts) > 0)
        stop_and_compare(node, callers, control)


def test_a_control_plane_that_was_restored_is_told_where_it_left_off(stocked: Stocked, control: ControlPlane):
    with reporting(stocked, control, interval="100ms") as node:
        node.verify(GOOD)
        until(lambda: control.counts.get(10) == (1, 0))
        control.forget()
        node.verify(GOOD)
        until(lambda: control.counts.get(10) == (1, 0), 20)
        (series,) = control.series.values()
        until(lambda: series.applied >= 2)
        assert node.wait_for("reports fail", report="usage")["code"] == "USAGE_GAP"


def test_a_killed_node_loses_its_last_interval_at_most_and_begins_anew(stocked: Stocked, control: ControlPlane):
    with reporting(stocked, control, interval="300ms") as node:
        callers = [Caller(node)]
        until(lambda: any(series.applied > 1 for series in control.series.values()))
        before, moment_ms = totals(callers), time.time_ns() // 10**6
        until(lambda: any(not partial and end > moment_ms for series in control.series.values()
                          for _, end, partial in series.spans))
        node.process.kill()
        node.process.wait(10)
        callers[0].stop()
    after = control.counts
    # All that was answered an interval ago is there, and nothing that was not answered.
    assert before[10][0] <= after[10][0] <= callers[0].valid + 3
    assert before[5000][1] <= after[5000][1] <= callers[0].refused + 1
    with reporting(stocked, control, interval="100ms") as node:
        until(lambda: len(control.series) == 2 and all(series.applied for series in control.series.values()))
    first, second = control.series.values()
    assert second.spans[0][0] > first.spans[-1][1], "the gap shows"


def test_watched_calls_arrive_within_a_second_with_their_address(stocked: Stocked, control: ControlPlane):
    with reporting(stocked, control, interval="10s") as node:
        node.wait_for("serving", revision=1)
        until(lambda: len(control.statuses) > 0)
        called = time.time()
        for _ in range(5):
            node.verify(WATCHED, client_address="192.0.2.7")
        node.verify(WATCHED, client_address="192.0.2.7", probe=True)
        node.verify(GOOD, client_address="192.0.2.8")
        until(lambda: len(control.watched) > 0)
        (use, came), *more = control.watched
        assert came - called < 1.0
        assert (600, verifier_pb2.VERDICT_VALID, bytes([192, 0, 2, 7])) == (use.ordinal, use.verdict, use.address)
        assert abs(use.used_at.seconds - called) <= 2
        assert len(more) <= 1, "once in ten seconds"
        (series,) = control.series.values()
        assert series.counts == {} and series.spans[0][2], "the counts of that time are not known yet"
        node.process.terminate()
        assert node.process.wait(20) == 0
    assert control.counts == {600: (5, 0), 10: (1, 0)}


def test_status_is_reported_at_once_with_what_is_served_and_refused(stocked: Stocked, control: ControlPlane):
    control.ahead_s = -3.0
    with reporting(stocked, control, "--listen", f"unix:{stocked.home.folder}/s") as node:
        until(lambda: bool(control.statuses) and control.last_status().revision == 1)
        manifest = stocked.publish(FACTS | {native(50): Facts(ordinal=50)})
        until(lambda: control.last_status().revision == 2)
        request, came = next(status for status in control.statuses if status[0].revision == 2)
        assert came - request.served_at.ToNanoseconds() / 1e9 < 0.5
        assert ("n1", "st_test", False) == (request.node, request.store_id, request.stopping)
        assert len(request.addresses) == 2 and request.version and request.load_time.ToNanoseconds() > 0
        broken = stocked.store.keyring_path(stocked.publish(FACTS, current=False).base.sha256)
        assert broken.exists() and manifest.revision == 2
        stocked.publish({native(60): Facts()}, current=False, revision=3)
        flip(stocked.store.signature_path(3), 10)
        stocked.point(3)
        until(lambda: control.last_status().last_refusal.revision == 3)
        assert (2, "BAD_SIGNATURE") == (control.last_status().revision, control.last_status().last_refusal.code)
        status = node.status()
        assert 2900 < status["clock_skew_ms"] < 3500
        assert node.wait_for("this clock differs from the control plane's: windows begin and end early or late")
        assert status["usage"].keys() == {"sequence", "backlog", "watched_lost", "reported_to"}
        assert node.metric("verifier_clock_skew_seconds") > 2.9
    assert len({request.epoch for request, _ in control.statuses}) == 1


def test_the_token_is_sent_read_anew_and_never_logged(stocked: Stocked, tmp_path: Path):
    token = "vat_" + "x" * 40
    file = tmp_path / "token"
    file.write_text("vat_wrong\n")
    with ControlPlane(token=token) as control:
        with reporting(stocked, control, "--report-token-file", str(file)) as node:
            assert node.wait_for("reports fail", report="status")["code"] == "UNAUTHENTICATED"
            node.verify(GOOD)
            file.write_text(token + "\n")
            until(lambda: control.counts.get(10) == (1, 0), 15)
        assert token not in "".join(node.text)


def test_reports_over_tls_with_certificates_of_both_sides_that_are_replaced(stocked: Stocked, tmp_path: Path):
    ours, theirs, strangers = (Authority(tmp_path, name) for name in ("node-ca", "control-ca", "stranger-ca"))
    chain, key = theirs.issue("server", "control", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), chain.read_bytes())], ours.path.read_bytes(), True)
    cert, private = strangers.issue("node", "n1")
    with ControlPlane(credentials=credentials) as control, reporting(
        stocked, control, "--report-ca", str(theirs.path), "--report-cert", str(cert), "--report-key", str(private)
    ) as node:
        assert node.wait_for("reports fail", report="status")["code"] == "UNAVAILABLE"
        node.verify(GOOD)
        ours.issue("node", "n1")
        until(lambda: control.counts.get(10) == (1, 0), 20)
        assert node.wait_for("reports are taken again", report="status")


def test_without_report_to_nothing_is_counted_or_imported(stocked: Stocked):
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving")
        node.verify(GOOD)
        assert (None, None) == (node.status()["usage"], node.status()["clock_skew_ms"])
        assert "verifier_reports_total" not in node.get("/metrics")[1]
        assert "grpc" not in Path(f"/proc/{node.process.pid}/maps").read_text()


def test_stopping_is_bounded_when_nobody_listens(stocked: Stocked, control: ControlPlane):
    with reporting(stocked, control) as node:
        control.stop()
        node.verify(GOOD)
        node.process.terminate()
        assert node.process.wait(12) == 0
        assert node.wait_for("the last counts of usage were not taken")


@pytest.mark.parametrize(("problem", "flags"), [
    ("need TLS", {"report_to": "control.example:50052"}),
    ("need TLS", {"report_to": "10.0.0.1:50052"}),
    ("belong together", {"report_to": "127.0.0.1:50052", "report_ca": "system", "report_key": "key.pem"}),
    ("needs TLS", {"report_to": "127.0.0.1:50052", "report_cert": "cert.pem", "report_key": "key.pem"}),
    ("cannot read", {"report_to": "127.0.0.1:50052", "report_token_file": "missing"}),
    ("", {"report_to": "127.0.0.1:50052"}),
    ("", {"report_to": "[::1]:50052"}),
    ("", {"report_to": "unix:control.sock"}),
    ("", {"report_to": "control.example:50052", "report_ca": "system"}),
    ("", {"report_to": "control.example:50052", "report_plaintext": "allow"}),
])
def test_settings_that_would_send_tokens_in_clear_or_cannot_work_are_found(problem: str, flags: dict[str, str]):
    problems = [text for text in find_problems(read_settings(flags, {})) if text.startswith("reports: ")]
    assert bool(problem) == bool(problems)
    assert problem in "".join(problems)


@pytest.mark.parametrize("flags", [
    {"report_to": "control"}, {"report_to": "127.0.0.1:0"}, {"node_name": "a b"}, {"node_name": "n" * 65},
    {"report_interval": "30s"}, {"report_interval": "0"}, {"report_plaintext": "yes"},
])
def test_values_that_are_not_accepted(flags: dict[str, str]):
    with pytest.raises(InvalidInput):
        read_settings(flags, {})


# --- In-process ------------------------------------------------------------------------------------------------------


def test_a_keyring_reports_what_all_threads_verify(stocked: Stocked, control: ControlPlane):
    keyring = Keyring.open(stocked.home.folder, report_to=control.target, node_name="app")
    threads = [threading.Thread(target=lambda: [keyring.verify(GOOD) for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    stocked.publish(FACTS, FACTS)
    until(lambda: keyring.revision == 2)
    for thread in threads:
        thread.join()
    keyring.verify_batch([GOOD, GONE, ABSENT], probe=True)
    keyring.verify_batch([GONE] * 20 + [ABSENT])
    until(lambda: bool(control.statuses) and control.last_status().revision == 2)
    keyring.close()
    assert control.counts == {10: (2000, 0), 5000: (0, 20)}
    assert (control.last_status().node, control.last_status().stopping) == ("app", True)


def test_watched_calls_beyond_the_ring_are_counted_as_lost(stocked: Stocked, control: ControlPlane):
    calls = 20_000
    with Keyring.open(stocked.home.folder, report_to=control.target) as keyring:
        for number in range(calls):
            keyring.verify(WATCHED, (), f"10.0.{number >> 8}.{number & 255}")
    (series,) = control.series.values()
    assert len(series.watched) + series.watched_lost == calls
    assert series.watched_lost > 0 and len(series.watched) >= 4096
    assert control.counts == {600: (calls, 0)}


@pytest.mark.parametrize(("target", "name"), [("control.example:1", None), ("nowhere", None), ("127.0.0.1:1", "a b")])
def test_a_keyring_refuses_targets_and_names_that_cannot_be_used(stocked: Stocked, target: str, name: str | None):
    with pytest.raises(InvalidInput):
        Keyring.open(stocked.home.folder, report_to=target, node_name=name)
