"""Random requests of every kind: a node's answers over a real socket are, byte for byte, those of the oracles.

Two oracles, both behind real grpcio servers: the plain reference (checks the rules) and the in-process view (checks
the transport: the verdicts come from the same compiled code). Only staleness_ms is left out of the comparison.
"""

import time
from collections.abc import Sequence

import grpc
import pytest

from tests.conformance.comparing import Outcome, outcome, settled
from tests.conformance.reference import Moment
from tests.conformance.requests import BYTES, Requests, piece
from tests.conformance.server import InProcess, Reference, serving
from tests.conformance.worlds import random_world, view_of
from tests.support.loops import running
from verifier.client._channel import VERIFY, VERIFY_BATCH

SEED, IN_FLIGHT = 23, 100
OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


@pytest.fixture(scope="module")
def world():
    return random_world(SEED, int(time.time()))


@pytest.fixture(scope="module")
def view(world):
    return view_of(world[0])


@pytest.fixture(scope="module")
def node(view):
    with running(view) as server:
        yield server


@pytest.fixture(scope="module")
def plain(world):
    return Reference(world[0], lambda: Moment(int(time.time())))


def ask_all(target: str, method: str, messages: Sequence[bytes]) -> list[Outcome]:
    """Send messages on one connection, many in flight, and return their outcomes in order."""
    outcomes = []
    with grpc.insecure_channel(target, OPTIONS) as channel:
        call = channel.unary_unary(method)
        for first in range(0, len(messages), IN_FLIGHT):
            futures = [call.future(message, timeout=30) for message in messages[first : first + IN_FLIGHT]]
            outcomes += [settled(future, batch=method == VERIFY_BATCH) for future in futures]
    return outcomes


def assert_alike(expected: Sequence[Outcome], got: Sequence[Outcome], messages: Sequence[bytes]) -> None:
    for message, one, other in zip(messages, expected, got, strict=True):
        assert one == other, message.hex()


def test_verify(node, world, view, plain):
    requests = Requests(SEED, world[1], world[0].revision)
    messages = [requests.request() for _ in range(3000)]
    got = ask_all(node.target, VERIFY, messages)
    for oracle in (plain, InProcess(world[0], view)):
        with serving(oracle) as server:
            assert_alike(ask_all(server.target, VERIFY, messages), got, messages)
    assert {"OK", "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION"} == {status for status, _ in got}


def test_verify_batch(node, world, view, plain):
    requests = Requests(SEED + 1, world[1], world[0].revision)
    messages = [requests.batch() for _ in range(300)]
    got = ask_all(node.target, VERIFY_BATCH, messages)
    for oracle in (plain, InProcess(world[0], view)):
        with serving(oracle) as server:
            assert_alike(ask_all(server.target, VERIFY_BATCH, messages), got, messages)
    assert {"OK", "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION"} == {status for status, _ in got}


@pytest.mark.parametrize("count", [999, 1000, 1001])
def test_the_largest_batch(node, world, plain, count):
    requests = Requests(SEED + 2, world[1], world[0].revision)
    message = b"".join(piece(1, BYTES, piece(1, BYTES, requests.token()[:100])) for _ in range(count))
    [got] = ask_all(node.target, VERIFY_BATCH, [message])
    assert outcome(plain.verify_batch, message, batch=True) == got
    assert ("INVALID_ARGUMENT" if count > 1000 else "OK") == got[0]


def test_more_requests_of_other_worlds(node, plain):
    """Each with prefixes, delta and switches of its own, swapped in on the running loop."""
    try:
        for seed in range(5):
            world, tokens = random_world(seed, int(time.time()), keys=50, accepts_foreign=seed % 2 == 1)
            node.publish(view_of(world))
            reference = Reference(world, plain.moment)
            requests = Requests(seed, tokens, world.revision)
            messages = [requests.request() for _ in range(500)]
            expected = [outcome(reference.verify, message) for message in messages]
            assert_alike(expected, ask_all(node.target, VERIFY, messages), messages)
    finally:
        node.publish(node.views[0])


def test_without_a_keyring(world, plain):
    nothing = Reference(None, plain.moment)
    requests = Requests(SEED + 3, world[1], world[0].revision)
    messages = [requests.request() for _ in range(300)]
    with running(None) as bare:
        got = ask_all(bare.target, VERIFY, messages)
    assert_alike([outcome(nothing.verify, message) for message in messages], got, messages)
    assert {"UNAVAILABLE", "INVALID_ARGUMENT", "UNIMPLEMENTED"} == {status for status, _ in got}
