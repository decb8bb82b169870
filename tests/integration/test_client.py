"""The clients against a real grpcio server that answers by the plain reference."""

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.conformance.reference import Entry, Fault, Moment, World
from tests.conformance.server import Reference, serving
from tests.conformance.worlds import native, tagged
from tests.support.image import PEPPER
from verifier._answer import Answer
from verifier.client import (
    AsyncVerifierClient,
    BadRequest,
    DeadlineExceeded,
    Question,
    Retries,
    RevisionNotServed,
    VerifierClient,
    VerifierUnavailable,
)
from verifier.errors import InvalidInput, Unavailable
from verifier.vocabulary import Phase, RevocationReason, Verdict

TOKEN, BOUND, UNKNOWN = native(1), native(2), native(3)
PATIENT_S = 10.0


def make_world() -> World:
    entries = {
        TOKEN: Entry("acme", "key_1", 2, scopes=("read", "trade"), metadata={"tier": "gold"}, expires_at=2_000_000_000),
        BOUND: Entry("acme", "key_2", rules=("10.0.0.0/8",)),
    }
    return World(revision=7, base=tagged(entries), peppers=(PEPPER,))


class Scripted(Reference):
    """The reference with faults in front of it, and a log of what was asked."""

    def __init__(self, *faults: Exception | float) -> None:
        super().__init__(make_world(), lambda: Moment(int(time.time()), 12))
        self.faults = list(faults)
        self.messages: list[bytes] = []

    def verify(self, message: bytes) -> bytes:
        self.messages.append(message)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, float):
                time.sleep(fault)
            else:
                raise fault
        return super().verify(message)


def unavailable() -> Fault:
    import grpc

    return Fault(grpc.StatusCode.UNAVAILABLE)


class Blocking:
    """The asyncio client behind the blocking client's face, so that one set of tests holds for both."""

    def __init__(self, *arguments, **settings):
        self.loop = asyncio.new_event_loop()
        self.client = AsyncVerifierClient(*arguments, **settings)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return lambda *arguments, **settings: self.loop.run_until_complete(method(*arguments, **settings))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()
        self.loop.close()


@pytest.fixture(params=[VerifierClient, Blocking], ids=["sync", "asyncio"])
def make_client(request):
    return request.param


@pytest.fixture(scope="module", params=["tcp", "unix"])
def target(request, tmp_path_factory):
    listen = "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path_factory.mktemp('s')}/v.sock"
    with serving(Scripted(), listen) as server:
        yield server.target


def test_answers_are_typed(make_client, target):
    with make_client(target, timeout_s=PATIENT_S) as client:
        answer = client.verify(TOKEN, ["read"])
        assert (True, Verdict.VALID, Phase.CURRENT) == (answer.valid, answer.verdict, answer.phase)
        assert (7, 12, "acme", "key_1", 2) == (
            answer.revision, answer.staleness_ms, answer.client_id, answer.key_id, answer.version)
        assert ("read", "trade") == answer.scopes
        assert {"tier": "gold"} == answer.metadata
        assert answer.expires_at is not None
        assert 2_000_000_000 == answer.expires_at.timestamp()
        refused = client.verify(TOKEN, ["write"])
        assert (False, Verdict.INSUFFICIENT_SCOPE) == (refused.valid, refused.verdict)
        assert Verdict.UNKNOWN is client.verify(UNKNOWN).verdict
        assert Verdict.MALFORMED is client.verify(TOKEN[:-1]).verdict


def test_addresses_may_be_text_or_objects(make_client, target):
    with make_client(target, timeout_s=PATIENT_S) as client:
        assert Verdict.ADDRESS_NOT_ALLOWED is client.verify(BOUND).verdict
        assert client.verify(BOUND, client_address="10.1.2.3").valid
        assert client.verify(BOUND, client_address=ipaddress.ip_address("::ffff:10.1.2.3")).valid
        assert Verdict.ADDRESS_NOT_ALLOWED is client.verify(BOUND, client_address="192.0.2.1").verdict


@pytest.mark.parametrize("token", [
    b"\xff\xfe not utf-8", "caf\xe9", "\udcff lone surrogate", "\ud800", "", b"", "x" * 2_000_000, "a\0b",
])
def test_any_garbage_is_a_verdict_and_no_fault(make_client, target, token):
    """Whatever a caller presents is a refusal: the gateway must not answer 503 or crash."""
    with make_client(target, timeout_s=PATIENT_S) as client:
        assert Verdict.MALFORMED is client.verify(token).verdict
        assert [Verdict.MALFORMED] == [answer.verdict for answer in client.verify_batch([token])]


def test_cutting_a_long_token_never_makes_another_one(target):
    world = make_world()
    methods = Scripted()
    methods.world = replace(world, accepts_foreign=True)
    with serving(methods) as server, VerifierClient(server.target, timeout_s=PATIENT_S) as client:
        assert Verdict.UNKNOWN is client.verify("x" * 512).verdict
        assert Verdict.MALFORMED is client.verify("x" * 513).verdict
        assert Verdict.MALFORMED is client.verify("x" * 514).verdict


def test_batches_keep_their_order(make_client, target):
    with make_client(target, timeout_s=PATIENT_S) as client:
        questions = [TOKEN, b"junk", Question(TOKEN, ["write"]), Question(BOUND, client_address="10.0.0.1"), "",
                     UNKNOWN]
        verdicts = [answer.verdict for answer in client.verify_batch(questions)]
        assert [Verdict.VALID, Verdict.MALFORMED, Verdict.INSUFFICIENT_SCOPE, Verdict.VALID, Verdict.MALFORMED,
                Verdict.UNKNOWN] == verdicts
        assert [] == client.verify_batch([])
        many = client.verify_batch([TOKEN] * 999 + [UNKNOWN])
        assert 999 == sum(answer.valid for answer in many)
        assert not many[-1].valid
        with pytest.raises(BadRequest, match="1001"):
            client.verify_batch([TOKEN] * 1001)


def test_probe_and_conditions_are_sent(make_client):
    from verifier.v1.verifier_pb2 import VerifyRequest

    methods = Scripted()
    with serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        client.verify(TOKEN, ["a", "b"], "10.0.0.1", min_revision=5, probe=True)
    expected = VerifyRequest(
        key=TOKEN, required_scopes=["a", "b"], client_address="10.0.0.1", min_revision=5, probe=True
    )
    assert expected.SerializeToString() == methods.messages[0]


@pytest.mark.parametrize("conditions", [
    {"required_scopes": ["a b"]}, {"required_scopes": "read"}, {"required_scopes": [7]},
    {"required_scopes": ["\udcff"]}, {"required_scopes": ["x"] * 65}, {"client_address": "localhost"},
    {"client_address": "\udcff"}, {"min_revision": 1 << 63},
])
def test_bad_conditions_are_bad_requests(make_client, target, conditions):
    with make_client(target, timeout_s=PATIENT_S, on_unavailable="allow") as client:
        with pytest.raises(BadRequest) as caught:
            client.verify(TOKEN, **conditions)
        assert TOKEN not in str(caught.value)
        decision = client.decide(TOKEN, **conditions)
        assert (False, 400) == (decision.allowed, decision.http_status)


def test_unavailable_is_tried_again(make_client):
    methods = Scripted(unavailable(), unavailable())
    with serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        assert client.verify(TOKEN).valid
    assert 3 == len(methods.messages)


def test_attempts_are_limited(make_client):
    methods = Scripted(*[unavailable() for _ in range(10)])
    with serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        with pytest.raises(VerifierUnavailable):
            client.verify(TOKEN)
        assert 4 == len(methods.messages)
    methods = Scripted(unavailable())
    once = Retries(attempts=1)
    with serving(methods) as server, make_client(server.target, retries=once, timeout_s=PATIENT_S) as client:
        with pytest.raises(VerifierUnavailable):
            client.verify(TOKEN)
        assert 1 == len(methods.messages)


def test_a_late_answer_is_a_deadline_and_not_tried_again(make_client):
    methods = Scripted(1.0)
    with serving(methods) as server, make_client(server.target) as client:
        client.health(timeout_s=PATIENT_S)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.verify(TOKEN, timeout_s=0.1)
        assert time.monotonic() - started < 0.9
        assert 1 == len(methods.messages)
        with pytest.raises(DeadlineExceeded):
            client.verify(TOKEN, timeout_s=0)


def test_nothing_listens(make_client, free_port):
    with make_client(f"127.0.0.1:{free_port()}", timeout_s=0.3) as client:
        started = time.monotonic()
        with pytest.raises((VerifierUnavailable, DeadlineExceeded)) as caught:
            client.verify(TOKEN)
        assert time.monotonic() - started < 2
        assert TOKEN not in str(caught.value) + repr(caught.value)
        assert isinstance(caught.value, Unavailable)


def test_a_node_that_comes_back_is_found_again(make_client, tmp_path):
    listen = f"unix:{tmp_path}/v.sock"
    with make_client(listen, timeout_s=PATIENT_S) as client:
        with serving(Scripted(), listen):
            assert client.verify(TOKEN).valid
        with pytest.raises(VerifierUnavailable):
            client.verify(TOKEN, timeout_s=0.5)
        with serving(Scripted(), listen):
            started = time.monotonic()
            while True:
                try:
                    assert client.verify(TOKEN).valid
                    break
                except VerifierUnavailable:
                    assert time.monotonic() - started < 5
            assert time.monotonic() - started < 5


def test_min_revision_is_waited_for(make_client):
    methods = Scripted()
    with serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        threading.Timer(0.3, lambda: setattr(methods, "world", replace(make_world(), revision=8))).start()
        assert 8 == client.verify(TOKEN, min_revision=8).revision
        assert len(methods.messages) < 9
        with pytest.raises(RevisionNotServed) as caught:
            client.verify(TOKEN, min_revision=9, timeout_s=0.2)
        assert (8, 50) == (caught.value.revision, caught.value.retry_after_ms)
        assert caught.value.to_json()["error"]["code"] == "REVISION_NOT_SERVED"


def test_that_a_revision_is_not_served_yet_says_more_than_that_time_ran_out(make_client):
    methods = Scripted(0.0, 3.0)
    with serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        client.health(timeout_s=PATIENT_S)
        with pytest.raises(RevisionNotServed) as caught:
            client.verify(TOKEN, min_revision=99, timeout_s=1.0)
        assert 7 == caught.value.revision
        assert 2 == len(methods.messages)


def test_health(make_client, free_port):
    with serving(Scripted()) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        assert client.health()
        server.health.serving = False
        assert not client.health()
    with make_client(f"127.0.0.1:{free_port()}") as client, pytest.raises(Unavailable):
        client.health(timeout_s=0.3)


def test_several_targets_share_calls_and_stand_in_for_each_other(make_client, free_port):
    first, second = Scripted(), Scripted()
    with serving(first) as one, serving(second) as two:
        with make_client([one.target, two.target], timeout_s=PATIENT_S) as client:
            for _ in range(10):
                assert client.verify(TOKEN).valid
        assert (5, 5) == (len(first.messages), len(second.messages))
        with make_client([f"127.0.0.1:{free_port()}", two.target], timeout_s=PATIENT_S) as client:
            for _ in range(10):
                assert client.verify(TOKEN).valid


@pytest.mark.parametrize(("policy", "allowed", "status"), [("refuse", False, 503), ("allow", True, 200)])
def test_what_happens_when_no_node_answers_is_chosen(make_client, free_port, policy, allowed, status):
    with make_client(f"127.0.0.1:{free_port()}", timeout_s=0.2, on_unavailable=policy) as client:
        decision = client.decide(TOKEN)
        assert (allowed, status, None) == (decision.allowed, decision.http_status, decision.answer)
        assert isinstance(decision.fault, Unavailable)


def test_refusing_is_the_default_and_other_words_are_refused(make_client, free_port):
    with make_client(f"127.0.0.1:{free_port()}", timeout_s=0.1) as client:
        decision = client.decide(TOKEN)
        assert (False, 503, "unavailable", 1) == (
            decision.allowed, decision.http_status, decision.code, decision.retry_after_s)
    with pytest.raises(InvalidInput):
        make_client("127.0.0.1:1", on_unavailable="maybe")


def test_decisions_hide_why_a_key_is_not_known(make_client, target):
    with make_client(target, timeout_s=PATIENT_S) as client:
        assert (True, 200, None) == _told(client.decide(TOKEN, ["read"]))
        assert (False, 403, "insufficient_scope") == _told(client.decide(TOKEN, ["write"]))
        assert (False, 401, "invalid_key") == _told(client.decide(UNKNOWN)) == _told(client.decide("junk"))


def _told(decision):
    return decision.allowed, decision.http_status, decision.code


def test_many_threads_share_a_client(target):
    with VerifierClient(target, timeout_s=PATIENT_S) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: client.verify((TOKEN, UNKNOWN)[i % 2]).valid, range(400)))
    assert [True, False] * 200 == answers


def test_many_calls_at_once_in_asyncio(target):
    async def ask() -> list[bool]:
        async with AsyncVerifierClient(target, timeout_s=PATIENT_S) as client:
            calls = (client.verify((TOKEN, UNKNOWN)[i % 2]) for i in range(400))
            return [answer.valid for answer in await asyncio.gather(*calls)]

    assert [True, False] * 200 == asyncio.run(ask())


def test_a_closed_client_says_so(make_client, target):
    client = make_client(target)
    with client:
        client.verify(TOKEN, timeout_s=PATIENT_S)
    with pytest.raises(VerifierUnavailable, match="closed"):
        if isinstance(client, Blocking):
            asyncio.run(client.client.verify(TOKEN))
        client.verify(TOKEN)


@pytest.mark.parametrize("name", ["", "localhost", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:http", [], "unix:"])
def test_targets_are_checked_at_once(make_client, name):
    with pytest.raises(InvalidInput):
        make_client(name)


def test_no_request_and_no_token_is_logged(make_client, caplog):
    caplog.set_level(logging.DEBUG)
    methods = Scripted(unavailable(), ValueError("boom"))
    with (serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client,
          pytest.raises(VerifierUnavailable)):
        client.verify(TOKEN, ["read"])
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(Question(TOKEN, ["read"]))


def test_an_answer_that_is_none_is_a_fault(make_client):
    class Garbage:
        def verify(self, message: bytes) -> bytes:
            return b"\x08\x01\xff"

        def verify_batch(self, message: bytes) -> bytes:
            return b"\x0a\x02\x08\x01" * 2 + self.tail

        tail = b""

    methods = Garbage()
    with serving(methods) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        with pytest.raises(VerifierUnavailable, match="not an answer"):
            client.verify(TOKEN)
        with pytest.raises(VerifierUnavailable, match="2 answers to 1"):
            client.verify_batch([TOKEN])
        for tail in (b"\x0a\x05\x08", b"\x12\x00", b"\x0a\xff", b"\x0a\x02\xff\xff"):
            methods.tail = tail
            with pytest.raises(VerifierUnavailable, match="not an answer"):
                client.verify_batch([TOKEN, TOKEN, TOKEN])


def test_numbers_of_a_later_release_are_not_valid(make_client):
    class Later:
        def verify(self, message: bytes) -> bytes:
            return b"\x08\x63\x10\x63\x78\x63"

    with serving(Later()) as server, make_client(server.target, timeout_s=PATIENT_S) as client:
        answer = client.verify(TOKEN)
        assert (False, Verdict.UNSPECIFIED, Phase.UNSPECIFIED) == (answer.valid, answer.verdict, answer.phase)
        assert answer.to_json()["valid"] is False
        assert RevocationReason.UNSPECIFIED is Answer(b"\x08\x04\x10\x05\x78\x63").revocation_reason
        decision = client.decide(TOKEN)
        assert (False, 401) == (decision.allowed, decision.http_status)


def test_a_peer_that_is_no_grpc_server_is_a_fault(make_client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        target = f"127.0.0.1:{listener.getsockname()[1]}"
        with make_client(target, timeout_s=0.5) as client, pytest.raises(Unavailable):
            client.verify(TOKEN)
