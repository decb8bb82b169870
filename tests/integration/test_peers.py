"""The grpcio peers give the bytes of the in-process view, and the statuses of the gates that they know."""

import asyncio
import threading
import time
from contextlib import contextmanager

import grpc
import pytest
from google.protobuf.message import DecodeError

from loadtest.peers import grpcio_aio, grpcio_sync, http_asgi
from tests.conformance.comparing import outcome, settled, without_staleness
from tests.conformance.reference import Moment
from tests.conformance.requests import Requests
from tests.conformance.server import Reference
from tests.conformance.worlds import random_world, view_of
from tests.support.web import GOOD, UNKNOWN, answers_of, head, web_server, world
from verifier.client import VerifierClient
from verifier.client._channel import VERIFY
from verifier.v1.verifier_pb2 import VerifyRequest


@contextmanager
def sync_peer(keyring):
    server, port = grpcio_sync.make_server(keyring, "127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@contextmanager
def aio_peer(keyring):
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start():
        server, port = grpcio_aio.make_server(keyring, "127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield f"127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.mark.parametrize("peer", [sync_peer, aio_peer])
def test_answers_are_those_of_the_reference(peer):
    world, tokens = random_world(11, int(time.time()))
    plain = Reference(world, lambda: Moment(int(time.time())))
    requests = Requests(11, tokens, world.revision)
    with peer(view_of(world)) as target, grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(VERIFY)
        compared = 0
        for _ in range(500):
            message = requests.request()
            expected = outcome(plain.verify, message)
            if expected[0] in ("INVALID_ARGUMENT", "UNIMPLEMENTED") or not _is_stock(message):
                continue  # where protobuf's own decoder stands in front
            assert expected == settled(call.future(message, timeout=10))
            compared += 1
        assert compared > 200
        with VerifierClient(target, timeout_s=10) as client:
            one_by_one = [without_staleness(client.verify(token).response) for token in tokens[:50]]
            assert one_by_one == [without_staleness(answer.response) for answer in client.verify_batch(tokens[:50])]


def _is_stock(message: bytes) -> bool:
    """Tell whether protobuf's own decoder, which wants UTF-8, takes the message."""
    try:
        VerifyRequest.FromString(message)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize("token", [GOOD, UNKNOWN])
def test_http_peers_tell_the_identity_that_a_node_tells(monkeypatch, token: str):
    view = world()
    monkeypatch.setattr(http_asgi, "keyring", lambda: view)
    sent: list = []

    async def send(message: dict) -> None:
        sent.append(message)

    headers = [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode())]
    asyncio.run(http_asgi.bare({"type": "http", "headers": headers}, None, send))
    with web_server(world()) as server:
        (answer,) = answers_of(server.say(head("/v1/authz", f"authorization: Bearer {token}")))
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert answer.status == sent[0]["status"]
    same = {name: value for name, value in told.items() if name.startswith("x-verifier")}
    assert same == {name: value for name, value in answer.headers.items() if name in same}
    assert (token == GOOD) == bool(same)
