"""The decision table, row by row: in the plain reference and in the compiled code.

The compiled code reads the wall clock, so its table is built for a second that is about to begin, and all rows are
asked within that second.
"""

import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import pytest

from tests.conformance import reference, table
from tests.conformance.comparing import without_staleness
from tests.conformance.reference import Fault, Moment, World
from tests.conformance.requests import BYTES, VARINT, piece, varint
from tests.conformance.server import InProcess
from tests.conformance.table import L0, L1, L2, ROWS
from tests.conformance.worlds import view_of
from tests.support.loops import running
from verifier._answer import Answer
from verifier._view import View
from verifier.client._channel import VERIFY, VERIFY_BATCH
from verifier.v1 import verifier_pb2 as pb

T = 1_800_000_000
NUMBERED = list(enumerate(ROWS))
IDS = [row.name for row in ROWS]
L1_FIELDS = {"client_id", "key_id", "version", "not_before", "expires_at", "superseded_at", "superseded_by",
             "revocation_reason"}
HEAD_FIELDS = {"verdict", "phase", "revision", "staleness_ms"}
ALLOWED_FIELDS = {L0: HEAD_FIELDS, L1: HEAD_FIELDS | L1_FIELDS, L2: HEAD_FIELDS | L1_FIELDS | {"scopes", "metadata"}}


def ask_in_process(world: World, view: View, wait: Callable[[], None]) -> list[bytes]:
    compiled = InProcess(world, view)
    wait()
    return [compiled.verify(table.message_of(number)) for number in range(len(ROWS))]


def ask_node(_world: World, view: View, wait: Callable[[], None]) -> list[bytes]:
    with running(view) as node, grpc.insecure_channel(node.target) as channel:
        call = channel.unary_unary(VERIFY)
        call(b"", timeout=10)
        wait()
        calls = [call.future(table.message_of(number), timeout=10) for number in range(len(ROWS))]
        return [made.result() for made in calls]


@pytest.fixture(scope="module", params=[ask_in_process, ask_node], ids=["view", "node"])
def compiled(request) -> tuple[int, list[bytes]]:
    """Ask all rows within one second that begins with their records' bounds; return that second and the answers."""
    for _ in range(5):
        t = int(time.time()) + 1
        world = table.world_at(t)
        answers = request.param(world, view_of(world), lambda t=t: time.sleep(max(0.0, t + 0.01 - time.time())))
        if int(time.time()) == t:
            return t, answers
    raise AssertionError("the machine is too slow to ask all rows within a second")


@pytest.mark.parametrize(("number", "row"), NUMBERED, ids=IDS)
def test_reference(number, row):
    response = reference.verify(table.world_at(T), Moment(T), table.message_of(number))
    answer = Answer(response)
    assert (row.verdict, row.phase) == (answer.verdict, answer.phase)
    check_disclosure(row, response)


@pytest.mark.parametrize(("number", "row"), NUMBERED, ids=IDS)
def test_compiled(number, row, compiled):
    t, answers = compiled
    answer = Answer(answers[number])
    assert (row.verdict, row.phase) == (answer.verdict, answer.phase)
    check_disclosure(row, answers[number])
    expected = reference.verify(table.world_at(t), Moment(t), table.message_of(number))
    assert expected == without_staleness(answers[number])


def check_disclosure(row, response):
    """Levels: what is told depends on the verdict alone."""
    message = pb.VerifyResponse.FromString(response)
    told = {field.name for field, _value in message.ListFields()}
    assert told <= ALLOWED_FIELDS[row.level]
    assert (row.level != L0) == bool(message.key_id)
    if row.level == L2 and message.client_id and row.name == "V12 valid":
        assert ["read", "trade"] == message.scopes
        assert {"tier": "gold"} == message.metadata
    assert (message.verdict == pb.VERDICT_VALID) <= (message.phase in (pb.PHASE_CURRENT, pb.PHASE_RETIRING))


def test_malformed_and_unknown_differ_in_the_verdict_only():
    world = table.world_at(T)
    malformed = reference.verify(world, Moment(T), piece(1, BYTES, b"junk"))
    unknown = reference.verify(world, Moment(T), piece(1, BYTES, b"old_junk"))
    assert malformed[2:] == unknown[2:]
    assert len(malformed) == len(unknown)


def test_effective_end_is_what_is_told():
    """B8, B13: the end in answers is the one that counts, whichever of the ends it came from."""
    number = IDS.index("B2 end, the second before")
    message = pb.VerifyResponse.FromString(reference.verify(table.world_at(T), Moment(T), table.message_of(number)))
    assert T + 1 == message.expires_at.seconds
    assert 0 == message.expires_at.nanos


# --- Gates -----------------------------------------------------------------------------------------------------------

GOOD = piece(1, BYTES, table.token_of(IDS.index("V12 valid")).encode())
BAD_ADDRESS = piece(3, BYTES, b"localhost")
CRITICAL = piece(48, VARINT, varint(1))
FUTURE = piece(4, VARINT, varint(8))
S = grpc.StatusCode
GATES = [
    ("G1 cut off", GOOD[:-1], Moment(T), S.INVALID_ARGUMENT),
    ("G1 65 scopes", GOOD + piece(2, BYTES, b"read") * 65, Moment(T), S.INVALID_ARGUMENT),
    ("G1 empty scope", GOOD + piece(2, BYTES, b""), Moment(T), S.INVALID_ARGUMENT),
    ("G1 scope of 129 bytes", GOOD + piece(2, BYTES, b"x" * 129), Moment(T), S.INVALID_ARGUMENT),
    ("G1 scope with a comma", GOOD + piece(2, BYTES, b"a,b"), Moment(T), S.INVALID_ARGUMENT),
    ("G1 no address", GOOD + BAD_ADDRESS, Moment(T), S.INVALID_ARGUMENT),
    ("G1 before G3", GOOD + CRITICAL + BAD_ADDRESS, Moment(T), S.INVALID_ARGUMENT),
    ("G1 before G4", GOOD + BAD_ADDRESS, Moment(T, expired=True), S.INVALID_ARGUMENT),
    ("G3 field 48", GOOD + CRITICAL, Moment(T), S.UNIMPLEMENTED),
    ("G3 field 63", piece(63, BYTES, b"") + GOOD, Moment(T), S.UNIMPLEMENTED),
    ("G3 before V1", CRITICAL, Moment(T), S.UNIMPLEMENTED),
    ("G3 before G4", GOOD + CRITICAL, Moment(T, expired=True), S.UNIMPLEMENTED),
    ("G4", GOOD, Moment(T, expired=True), S.DEADLINE_EXCEEDED),
    ("G4 before G6", GOOD + FUTURE, Moment(T, expired=True), S.DEADLINE_EXCEEDED),
    ("B19 revision + 1", GOOD + FUTURE, Moment(T), S.FAILED_PRECONDITION),
    ("G6 before V1", FUTURE, Moment(T), S.FAILED_PRECONDITION),
]


@pytest.mark.parametrize(("message", "moment", "status"), [gate[1:] for gate in GATES], ids=[gate[0] for gate in GATES])
def test_gates(message, moment, status):
    with pytest.raises(Fault) as caught:
        reference.verify(table.world_at(T), moment, message)
    assert status is caught.value.status
    trailers = {"verifier-revision": "7", "retry-after-ms": "50"} if status is S.FAILED_PRECONDITION else {}
    assert trailers == caught.value.trailers


@pytest.mark.parametrize("ask", [7, 6, 0, -1])
def test_b19_a_revision_that_is_served(ask):
    response = reference.verify(table.world_at(T), Moment(T), GOOD + piece(4, VARINT, varint(ask)))
    assert Answer(response).valid


def test_what_is_just_allowed_passes_the_gates():
    world = table.world_at(T)
    for more in (piece(2, BYTES, b"read") * 64, piece(2, BYTES, b"x" * 128), piece(47, BYTES, b"x"),
                 piece(64, VARINT, varint(1)), piece(3, BYTES, b"")):
        assert reference.verify(world, Moment(T), GOOD + more)


def test_g5_without_a_keyring_nothing_is_said():
    """Not even MALFORMED: prefixes live in the keyring."""
    for message in (GOOD, b""):
        with pytest.raises(Fault) as caught:
            reference.verify(None, Moment(T), message)
        assert S.UNAVAILABLE is caught.value.status


def test_b24_an_empty_token_spoils_no_batch():
    message = piece(1, BYTES, GOOD) + piece(1, BYTES, b"") + piece(1, BYTES, GOOD)
    response = pb.VerifyBatchResponse.FromString(reference.verify_batch(table.world_at(T), Moment(T), message))
    assert [1, 2, 1] == [answer.verdict for answer in response.responses]


# --- What the tables cannot say: counting -----------------------------------------------------------------------------


def test_b23_only_calls_that_are_no_probe_are_counted():
    t = int(time.time())
    good, probe = GOOD, GOOD + piece(5, VARINT, varint(1))
    with running(view_of(table.world_at(t))) as node, grpc.insecure_channel(node.target) as channel:
        call = channel.unary_unary(VERIFY)
        for message in (good, probe, probe, b"", GOOD + BAD_ADDRESS, GOOD + FUTURE):
            with suppress(grpc.RpcError):
                call(message, timeout=10)
        batch = channel.unary_unary(VERIFY_BATCH)
        batch(b"".join(piece(1, BYTES, message) for message in (good, probe, b"", b"")), timeout=10)
        verdicts = node.loop.counters()["verdicts"]
    assert {1: 2, 2: 3} == {verdict: count for verdict, count in enumerate(verdicts) if count}
