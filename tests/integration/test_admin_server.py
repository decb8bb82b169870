"""The operators' API over gRPC: who may do what, TLS, health, reflection, limits, and stopping."""

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.admin import GENERATE, RECORDED, Served, imported, make_client, make_identity, make_key, served
from verifier.admin import identities, remote
from verifier.admin.desk import Desk
from verifier.admin.roles import ALLOWED, Role
from verifier.admin.server import SERVICES, AdminServer, Settings
from verifier.admin.v1 import audit_pb2
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.admin.v1 import types_pb2 as types
from verifier.control.acting import acting
from verifier.control.founding import found
from verifier.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    Unavailable,
    VerifierError,
)
from verifier.store.home import Home
from verifier.store.writer import Publisher

READING = {Role.VIEWER, Role.OPERATOR, Role.PUBLISHER, Role.ADMIN}
# Written down a second time: the semantics' own table, by the first word of a method.
EXPECTED = {
    "Get": READING, "List": READING, "Compare": READING, "Check": READING, "Verify": READING, "Query": READING,
    "Publish": {Role.PUBLISHER, Role.ADMIN}, "RollBack": {Role.PUBLISHER, Role.ADMIN},
    "Prune": {Role.PUBLISHER, Role.ADMIN}, "Reconcile": {Role.PUBLISHER, Role.ADMIN},
    "Report": {Role.NODE}, "Reinstate": {Role.ADMIN},
}  # fmt: skip
OPERATING = {Role.OPERATOR, Role.ADMIN}
METHODS = [
    (part, service.name, method) for part, service in SERVICES.items() for method in service.methods
]  # fmt: skip


@pytest.fixture(scope="module")
def control(tmp_path_factory) -> Iterator[Served]:
    home = Home(tmp_path_factory.mktemp("home"))
    found(home)
    with served(home) as there:
        make_client(there.connect())
        yield there


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch):
    monkeypatch.setattr("verifier.admin.gate.REFUSAL_DELAY_S", 0.01)


def expected_roles(method: str) -> set[Role]:
    if method == "RollBackKey":
        return OPERATING
    return next((roles for word, roles in EXPECTED.items() if method.startswith(word)), OPERATING)


# --- Who may do what -------------------------------------------------------------------------------------------------


def test_every_method_has_its_roles():
    assert set(ALLOWED) == {f"{name}/{method.name}" for _, name, method in METHODS}
    assert {name: set(roles) for name, roles in ALLOWED.items()} == {
        f"{name}/{method.name}": expected_roles(method.name) for _, name, method in METHODS
    }


@pytest.mark.parametrize("role", Role)
def test_each_role_may_do_its_own_and_nothing_else(control: Served, role: Role):
    admin = control.connect(role)
    for part, _, method in METHODS:
        request: Any = GetMessageClass(method.input_type)()
        if "options" in method.input_type.fields_by_name:
            request.options.validate_only = True
        call = getattr(getattr(admin, part), method.name)
        try:
            call(iter([request]) if method.client_streaming else request)
            refused = False
        except NotAllowed:
            refused = True
        except VerifierError:  # an empty request may be no good: but it came through
            refused = False
        assert refused == (role not in expected_roles(method.name)), method.name


def test_nobody_is_let_in_without_a_name(control: Served):
    for part, _, method in METHODS:
        request: Any = GetMessageClass(method.input_type)()
        with pytest.raises(NotAuthenticated):
            getattr(getattr(control.connect(None), part), method.name)(
                iter([request]) if method.client_streaming else request
            )


@pytest.mark.parametrize("token", ["", "va_", "va_" + "x" * 43, "x" * 300, "va_" + "x" * 300])
def test_tokens_that_are_none_are_refused(control: Served, token: str):
    with pytest.raises(NotAuthenticated):
        control.connect(token=token).lifecycle.ListClients(pb.ListClientsRequest())


@pytest.mark.parametrize("header", [
    [("authorization", "Basic dGVzdDp0ZXN0")],
    [("authorization", "Bearer a"), ("authorization", "Bearer b")],
    [("authorization", "")],
])
def test_headers_that_are_no_bearer_token_are_refused(control: Served, header: list[tuple[str, str]]):
    with grpc.insecure_channel(control.server.target) as channel:
        call = channel.unary_unary("/verifier.admin.v1.LifecycleService/ListClients")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", metadata=header, timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_an_identity_ends_expires_and_gets_a_new_token_at_once(control: Served):
    def listed(token: str) -> bool:
        try:
            control.connect(token=token).lifecycle.ListClients(pb.ListClientsRequest())
        except NotAuthenticated:
            return False
        return True

    registry = control.desk.registry
    token = make_identity(control.desk, "temp", Role.VIEWER, expires_at=int(time.time()) + 60)
    assert listed(token)
    with acting(registry) as act:
        identities.set_enabled(act, "temp", False)
    assert not listed(token)
    with acting(registry) as act:
        identities.set_enabled(act, "temp", True)
    assert listed(token)
    with acting(registry) as act:
        renewed = identities.renew(act, "temp", expires_at=int(time.time()) + 60).token
    assert renewed is not None
    assert (listed(token), listed(renewed)) == (False, True)
    end = int(time.time()) + 2
    with acting(registry) as act:
        brief = identities.renew(act, "temp", expires_at=end).token
    assert brief is not None
    while listed(brief):
        assert time.time() < end + 5
    assert time.time() >= end
    assert not listed(brief)


def test_identities_are_checked_and_audited(control: Served):
    def create(*arguments: Any, **terms: Any) -> None:
        with acting(control.desk.registry) as act:
            identities.create(act, *arguments, **terms)

    with pytest.raises(Conflict):
        create("test-admin", "viewer")
    for arguments, terms in ((("a b", "viewer"), {}), (("new", "root"), {}), (("new", "viewer"), {"expires_at": 5}),
                             (("new", "viewer"), {"certificate_name": ""})):
        with pytest.raises(InvalidInput):
            create(*arguments, **terms)
    told = control.connect().audit.ListEntries(audit_pb2.ListEntriesRequest(action="identity", page_size=1000))
    details = "".join(entry.details_json for entry in told.entries)
    assert '"test-operator"' in details
    assert not any(token in details or identities.digest_of(token) in details for token in control.tokens.values())


def test_refusals_are_logged_without_what_was_sent_and_answered_late(control: Served, caplog, monkeypatch):
    monkeypatch.setattr("verifier.admin.gate.REFUSAL_DELAY_S", 0.4)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(NotAuthenticated):
        control.connect(token="va_not-a-good-one").lifecycle.ListClients(pb.ListClientsRequest())
    assert time.monotonic() - began >= 0.4
    assert "127.0.0.1" in caplog.text and "ListClients" in caplog.text
    assert "not-a-good-one" not in caplog.text


def test_what_is_done_is_done_in_the_name_of_the_identity(control: Served):
    admin = control.connect(Role.OPERATOR)
    options = types.Options(note="because", request_id="by-name", wait=types.WAIT_RECORDED)
    made = make_key(admin, options=options)
    (entry,) = (entry for entry in admin.audit.ListEntries(audit_pb2.ListEntriesRequest(page_size=1000)).entries
                if entry.audit_id == made.receipt.audit_id)
    assert (entry.principal, entry.request_id, entry.action) == ("token:test-operator", "by-name", "key.create")
    assert '"note":"because"' in entry.details_json


def test_no_secret_is_logged(control: Served, caplog):
    with caplog.at_level(logging.DEBUG):
        token = make_key(control.connect(Role.OPERATOR)).token
    assert token
    assert token not in caplog.text
    assert not any(secret in caplog.text for secret in control.tokens.values())


# --- The protocol ----------------------------------------------------------------------------------------------------


def test_a_fault_of_ours_says_where_and_nothing_of_the_request(control: Served, caplog, monkeypatch):
    secret = Random(1).randbytes(8).hex()  # not in a line of source, which a traceback shows

    def broken(*_: Any) -> None:
        raise KeyError(secret)

    monkeypatch.setattr("verifier.admin.service.clients.clients.show_client", broken)
    with caplog.at_level(logging.DEBUG), pytest.raises(VerifierError) as raised:
        control.connect().lifecycle.GetClient(pb.GetClientRequest(client_id="acme"))
    assert (type(raised.value), raised.value.code) == (VerifierError, "INTERNAL")
    assert "KeyError" in raised.value.message and secret not in raised.value.message
    assert "KeyError" in caplog.text and "GetClient" in caplog.text
    assert secret not in caplog.text


def test_garbage_is_answered_and_harms_nobody(control: Served):
    random = Random(7)
    metadata = [("authorization", f"Bearer {control.tokens[Role.VIEWER]}")]
    answered = set()
    with grpc.insecure_channel(control.server.target) as channel:
        for _, service, method in METHODS:
            if method.client_streaming:
                continue
            call = channel.unary_unary(f"/verifier.admin.v1.{service}/{method.name}")
            for size in (1, 7, 60):
                try:
                    call(random.randbytes(size), metadata=metadata, timeout=20)
                except grpc.RpcError as error:
                    answered.add(error.code())  # type: ignore[attr-defined]
    assert answered and not answered & {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert control.connect().lifecycle.GetClient(pb.GetClientRequest(client_id="acme")).client.enabled


def test_health_needs_no_name(control: Served):
    with grpc.insecure_channel(control.server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *(service.full_name for service in SERVICES.values())):
            status = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10).status
            assert status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services_to_viewers(control: Served):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(control.server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        for role, allowed in ((Role.VIEWER, True), (Role.NODE, False), (None, False)):
            metadata = [] if role is None else [("authorization", f"Bearer {control.tokens[role]}")]
            try:
                (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=10)
                names = {service.name for service in answer.list_services_response.service}
            except grpc.RpcError:
                names = set()
            assert bool(names) == allowed
            assert not allowed or {service.full_name for service in SERVICES.values()} <= names


def test_messages_that_are_too_large_are_refused(control: Served):
    request = pb.CreateClientRequest(client_id="acme", name="x" * (5 << 20))
    with pytest.raises(InvalidInput) as raised:
        control.connect().lifecycle.CreateClient(request)
    assert raised.value.code == "TOO_LARGE"


def test_an_error_with_long_details_arrives(control: Served):
    rows = [pb.ImportRow(sha256=b"bad") for _ in range(300)]
    terms = pb.ImportTerms(client_id="acme", foreign_prefix="new", entropy_bits=128)
    with pytest.raises(InvalidInput) as raised:
        control.connect().lifecycle.ImportKeys(imported(terms, rows))
    assert raised.value.code == "BAD_ROWS"
    assert raised.value.details["bad"] == 300
    assert 1 <= len(raised.value.details["rows"]) < 100


def test_what_answers_something_else_is_told_apart(control: Served, free_port):
    with pytest.raises(Unavailable) as raised:
        remote.connect(f"127.0.0.1:{free_port()}", "va_x").lifecycle.ListClients(pb.ListClientsRequest())
    assert "cannot be reached" in raised.value.message
    with grpc.insecure_channel(control.server.target) as channel, pytest.raises(grpc.RpcError) as answered:
        channel.unary_unary("/verifier.v1.VerifierService/Verify")(b"", timeout=10)
    assert answered.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_a_deadline_is_kept_to(control: Served):
    """The answer comes in time and says what is known, although the publisher stays busy."""
    admin = control.connect(Role.OPERATOR)
    make_key(admin, options=types.Options())
    with Publisher(control.desk.store), grpc.insecure_channel(control.server.target) as channel:
        call = channel.unary_unary(
            "/verifier.admin.v1.LifecycleService/CreateKey",
            request_serializer=lambda message: message.SerializeToString(),
        )
        metadata = [("authorization", f"Bearer {control.tokens[Role.OPERATOR]}")]
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as raised:
            call(pb.CreateKeyRequest(client_id="acme", secret=GENERATE), metadata=metadata, timeout=1.5)
    assert time.monotonic() - began < 5
    # Said by the service, before the caller's own clock would have ended the call as DEADLINE_EXCEEDED.
    assert raised.value.code() is grpc.StatusCode.ABORTED  # type: ignore[attr-defined]


def test_a_stream_that_breaks_off_imports_nothing(control: Served):
    reading = control.connect(Role.VIEWER)

    def count() -> int:
        return len(reading.lifecycle.ListKeys(pb.ListKeysRequest(page_size=1000)).keys)

    before = count()
    terms = pb.ImportTerms(client_id="acme", foreign_prefix="new", entropy_bits=128, options=RECORDED)
    sent = threading.Event()

    def stream() -> Iterator[pb.ImportKeysRequest]:
        yield pb.ImportKeysRequest(terms=terms, rows=[pb.ImportRow(sha256=bytes(32))])
        sent.set()
        time.sleep(30)

    with grpc.insecure_channel(control.server.target) as channel:
        call = channel.stream_unary(
            "/verifier.admin.v1.LifecycleService/ImportKeys",
            request_serializer=lambda message: message.SerializeToString(),
        )
        metadata = [("authorization", f"Bearer {control.tokens[Role.OPERATOR]}")]
        future = call.future(stream(), metadata=metadata)
        assert sent.wait(10)
        time.sleep(0.3)
        future.cancel()
    for _ in range(10):
        time.sleep(0.1)
        assert count() == before

    def failing() -> Iterator[pb.ImportKeysRequest]:
        yield pb.ImportKeysRequest(terms=terms, rows=[pb.ImportRow(sha256=bytes(32))])
        raise ValueError("the file could not be read on")

    rows = [pb.ImportRow(sha256=bytes(32))]
    for total in (None, 0, 2):  # as a proxy would end it that takes a reset for an end
        with pytest.raises(InvalidInput) as raised:
            control.connect().lifecycle.ImportKeys(
                iter([pb.ImportKeysRequest(terms=terms, rows=rows), pb.ImportKeysRequest(rows_total=total)])
            )
        assert raised.value.code == "BAD_STREAM"
    with pytest.raises(ValueError, match="read on"):
        control.connect().lifecycle.ImportKeys(failing())
    time.sleep(0.3)
    assert count() == before


# --- Starting and stopping -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "example.org:1", "192.0.2.1:50061"])
def test_without_tls_only_this_machine_is_served(control: Served, listen: str):
    with pytest.raises(Unavailable) as raised:
        AdminServer(control.desk, Settings(listen))
    assert raised.value.code == "TLS_NEEDED"
    with pytest.raises(InvalidInput) as refused:
        remote.connect(listen, "va_token")
    assert refused.value.code == "TLS_NEEDED"


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "127.0.0.1:99999", "::1:5", "unix:", ":1"])
def test_places_that_are_none_are_refused(control: Served, listen: str):
    with pytest.raises(InvalidInput) as raised:
        AdminServer(control.desk, Settings(listen))
    assert raised.value.code == "BAD_ADDRESS"


def test_a_place_that_is_taken_is_an_error(control: Served):
    server = AdminServer(control.desk, Settings(control.server.target))
    with pytest.raises(Unavailable) as raised:
        server.start()
    assert raised.value.code == "CANNOT_LISTEN"


def test_a_unix_socket_is_served(quick_path: Path):
    home = Home(quick_path / "home")
    found(home)
    with served(home, Settings(f"unix:{quick_path}/admin.sock")) as there:
        assert there.server.target == f"unix:{quick_path}/admin.sock"
        make_client(there.connect())
        assert there.connect(Role.VIEWER).lifecycle.GetClient(pb.GetClientRequest(client_id="acme")).client.enabled


def test_stopping_lets_calls_end(quick_path: Path):
    home = Home(quick_path)
    found(home)
    desk = Desk(home)
    token = make_identity(desk, "boss", Role.ADMIN)
    server = AdminServer(desk, Settings("127.0.0.1:0"))
    server.start()
    admin = remote.connect(server.target, token)
    make_client(admin)
    make_key(admin, options=types.Options())
    answers: list[Any] = []
    with Publisher(desk.store):  # so that the call has to wait
        calling = threading.Thread(target=lambda: answers.append(make_key(admin, options=types.Options())))
        calling.start()
        while len(admin.lifecycle.ListKeys(pb.ListKeysRequest()).keys) < 2:
            time.sleep(0.02)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(Unavailable):
            for _ in range(1000):  # until it takes no more calls
                admin.lifecycle.ListKeys(pb.ListKeysRequest())
                time.sleep(0.01)
        assert calling.is_alive() and stopping.is_alive()
    calling.join(20)
    stopping.join(20)
    assert answers[0].receipt.published and answers[0].token
    assert desk.store.current() == 2
    admin.close()
    desk.close()


def test_stopping_waits_for_no_node(quick_path: Path):
    home = Home(quick_path)
    found(home)
    with served(home) as there:
        admin = there.connect()
        make_client(admin)
        make_key(admin, options=types.Options())
        from verifier.admin.v1 import node_pb2

        there.connect(Role.NODE).node.ReportStatus(node_pb2.ReportStatusRequest(node="n1", epoch=1, revision=1))
        served_options = types.Options(wait=types.WAIT_SERVED, timeout=Duration(seconds=60))
        answers: list[Any] = []
        calling = threading.Thread(target=lambda: answers.append(make_key(admin, options=served_options)))
        calling.start()
        while there.desk.store.current() != 2:
            time.sleep(0.02)
        began = time.monotonic()
        there.server.stop(grace_s=20)
        calling.join(5)
        assert time.monotonic() - began < 5
        assert list(answers[0].receipt.propagation.behind) == ["n1"]
