"""Interceptors with real grpcio servers, of threads and of asyncio, over a node and in process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tests.support.guarded import (
    BOUND,
    EARLY,
    END_S,
    ENDLESS,
    GOOD,
    LEAKED,
    OVER,
    RETIRING,
    STRANGER,
    TRADER,
    facts,
    stock,
    verifiers,
)
from tests.support.image import REVOKED, Facts
from tests.support.node import until
from tests.support.publications import Stocked
from verifier.client import Access, AsyncVerifierClient, Route, VerifierClient, caller, current_decision
from verifier.client.interceptors import AsyncVerifierInterceptor, VerifierInterceptor
from verifier.errors import InvalidInput, Unavailable
from verifier.serving.keyring import Keyring

SERVICE = "test.Echo"
ACCESS = Access(
    scopes=["read"], exempt=["/grpc.health.v1.Health/*"], routes=[Route(f"/{SERVICE}/Trade", ["trade"])],
)  # fmt: skip
METHODS = ("Unary", "Down", "Up", "Both")
MAKERS = {"Unary": grpc.unary_unary_rpc_method_handler, "Trade": grpc.unary_unary_rpc_method_handler,
          "Down": grpc.unary_stream_rpc_method_handler, "Up": grpc.stream_unary_rpc_method_handler,
          "Both": grpc.stream_stream_rpc_method_handler, "Written": grpc.unary_stream_rpc_method_handler,
          "Custom": grpc.unary_unary_rpc_method_handler}  # fmt: skip


def who() -> bytes:
    return caller().client_id.encode()


# What the servers do: each answers with its caller, as often as it is asked.

def unary(_request: bytes, _context: Any) -> bytes:
    return who()


def down(_request: bytes, _context: Any) -> Iterator[bytes]:
    for _ in range(3):
        yield who()


def up(requests: Iterator[bytes], _context: Any) -> bytes:
    return who() * len(list(requests))


def both(requests: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    for _ in requests:
        yield who()


async def unary_async(_request: bytes, _context: Any) -> bytes:
    await asyncio.sleep(0)
    return who()


async def down_async(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
    for _ in range(3):
        await asyncio.sleep(0)
        yield who()


async def written_async(_request: bytes, context: Any) -> None:
    for _ in range(3):
        await context.write(who())


async def up_async(requests: AsyncIterator[bytes], _context: Any) -> bytes:
    return who() * len([request async for request in requests])


async def both_async(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for _ in requests:
        yield who()


IN_THREADS = {"Unary": unary, "Trade": unary, "Down": down, "Up": up, "Both": both}
IN_LOOP = {"Unary": unary_async, "Trade": unary_async, "Down": down_async, "Up": up_async, "Both": both_async,
           "Written": written_async}  # fmt: skip
# grpcio runs plain functions of an asyncio server in threads; those that take a stream cannot be plain.
MIXED = {**IN_LOOP, "Unary": unary, "Trade": unary, "Down": down}


def handlers(behaviors: dict[str, Any]) -> Any:
    return grpc.method_handlers_generic_handler(SERVICE, {name: MAKERS[name](each) for name, each in behaviors.items()})


@contextmanager
def serving_threads(verifier: Any, access: Access = ACCESS) -> Iterator[str]:
    interceptor = VerifierInterceptor(verifier, access)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[interceptor])
    server.add_generic_rpc_handlers([handlers(IN_THREADS)])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


@contextmanager
def serving_loop(verifier: Any, access: Access = ACCESS, behaviors: dict[str, Any] | None = None) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Any, int]:
        interceptor = AsyncVerifierInterceptor(verifier, access)
        server = grpc.aio.server(interceptors=[interceptor], migration_thread_pool=ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((handlers(behaviors or IN_LOOP),))
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(10)
        if isinstance(verifier, AsyncVerifierClient):
            asyncio.run_coroutine_threadsafe(verifier.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def serving_mixed(verifier: Any, access: Access = ACCESS) -> Any:
    return serving_loop(verifier, access, MIXED)


SERVERS = {"threads": serving_threads, "asyncio": serving_loop, "mixed": serving_mixed}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return stock(tmp_path_factory.mktemp("grpc") / "home")


@pytest.fixture(scope="module", params=["keyring", "node"])
def pair(request: pytest.FixtureRequest, stocked: Stocked) -> Iterator[Any]:
    with verifiers(request.param, stocked.home.folder) as pair:
        yield pair


@pytest.fixture(scope="module", params=SERVERS)
def target(request: pytest.FixtureRequest, pair: Any) -> Iterator[str]:
    in_threads, in_loops = pair
    if isinstance(in_loops, AsyncVerifierClient):
        in_loops = AsyncVerifierClient(*in_loops._settings.targets, timeout_s=5)  # one for each loop
    verifier = in_threads if request.param == "threads" else in_loops
    with SERVERS[request.param](verifier) as target:
        yield target


class Caller:
    """Calls the methods of the service; each call on a connection of its own."""

    def __init__(self, target: str, token: str | None = None, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.target = target
        self.metadata = (*metadata, *([("authorization", f"Bearer {token}")] if token else []))

    def __call__(self, method: str = "Unary") -> tuple[list[bytes], dict[str, Any]]:
        """Return answers and trailers."""
        path = f"/{SERVICE}/{method}"
        with grpc.insecure_channel(self.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            options = {"metadata": self.metadata, "timeout": 10}
            if method in ("Down", "Written"):
                call = channel.unary_stream(path)(b"", **options)
                return list(call), dict(call.trailing_metadata())
            if method == "Both":
                call = channel.stream_stream(path)(iter([b"1", b"2", b"3"]), **options)
                return list(call), dict(call.trailing_metadata())
            if method == "Up":
                answer, call = channel.stream_unary(path).with_call(iter([b"1", b"2", b"3"]), **options)
            else:
                answer, call = channel.unary_unary(path).with_call(b"", **options)
            return [answer], dict(call.trailing_metadata())

    def refused(self, method: str = "Unary") -> tuple[grpc.StatusCode, str]:
        """Return the code, and the reason of ErrorInfo."""
        with pytest.raises(grpc.RpcError) as caught:
            self(method)
        status = rpc_status.from_call(caught.value)
        info = error_details_pb2.ErrorInfo()
        assert status is not None and status.details[0].Unpack(info)
        assert "verifier" == info.domain
        return caught.value.code(), info.reason


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_call_knows_its_caller(target: str, method: str):
    answers, trailers = Caller(target, GOOD)(method)
    assert b"acme" * (1 if method == "Unary" else 3) == b"".join(answers)
    assert "x-api-key-phase" not in trailers


def test_streams_that_are_written(stocked: Stocked):
    with Keyring.open(stocked.home.folder) as keyring, serving_loop(keyring) as target:
        assert [b"acme"] * 3 == Caller(target, GOOD)("Written")[0]
        assert "MISSING_KEY" == Caller(target).refused("Written")[1]


@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_call_is_refused_without_a_key(target: str, method: str):
    assert (grpc.StatusCode.UNAUTHENTICATED, "MISSING_KEY") == Caller(target).refused(method)
    assert (grpc.StatusCode.UNAUTHENTICATED, "INVALID_KEY") == Caller(target, STRANGER).refused(method)


@pytest.mark.parametrize(("token", "reason"), [
    ("nonsense", "INVALID_KEY"), (LEAKED, "KEY_REVOKED"), (OVER, "KEY_EXPIRED"), (EARLY, "KEY_NOT_ACTIVE"),
])
def test_refused_keys(target: str, token: str, reason: str):
    assert (grpc.StatusCode.UNAUTHENTICATED, reason) == Caller(target, token).refused()


def test_other_places_and_two_keys(target: str):
    assert [b"acme"] == Caller(target, None, (("x-api-key", GOOD),))()[0]
    assert "MULTIPLE_KEYS" == Caller(target, GOOD, (("x-api-key", GOOD),)).refused()[1]
    assert "MULTIPLE_KEYS" == Caller(target, None, (("x-api-key", GOOD),) * 2).refused()[1]


def test_scopes_of_methods(target: str):
    assert (grpc.StatusCode.PERMISSION_DENIED, "INSUFFICIENT_SCOPE") == Caller(target, GOOD).refused("Trade")
    assert [b"trader"] == Caller(target, TRADER)("Trade")[0]


def test_addresses(target: str, stocked: Stocked):
    forwarded = (("x-forwarded-for", "192.0.2.7"),)
    assert (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_NOT_ALLOWED") == Caller(target, BOUND, forwarded).refused()
    with Keyring.open(stocked.home.folder) as keyring:
        for serving in SERVERS.values():
            with serving(keyring, Access(trusted_proxies=["127.0.0.0/8"])) as behind:
                assert [b"acme"] == Caller(behind, BOUND, forwarded)()[0]


@pytest.mark.parametrize("method", METHODS)
def test_the_caller_is_told_of_the_end_of_its_version(target: str, method: str):
    assert f"retiring; successor=2; end={END_S}" == Caller(target, RETIRING)(method)[1]["x-api-key-phase"]
    assert "retiring; successor=3" == Caller(target, ENDLESS)(method)[1]["x-api-key-phase"]


def test_health_is_exempt_and_unknown_methods_are_unknown(target: str):
    with grpc.insecure_channel(target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert health_pb2.HealthCheckResponse.SERVING == answer.status
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{SERVICE}/Nothing")(b"", timeout=5)
        assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


class Broken:
    def verify(self, *_arguments: object) -> Any:
        raise Unavailable("no keyring")


@pytest.mark.parametrize("serving", SERVERS.values(), ids=SERVERS)
def test_faults(serving: Any):
    with serving(Broken(), Access()) as target:
        for method in METHODS:
            assert (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE") == Caller(target, GOOD).refused(method)
        with pytest.raises(grpc.RpcError) as caught:
            Caller(target, GOOD)()
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(caught.value).details[1].Unpack(retry)
        assert 1 == retry.retry_delay.seconds
        assert "MISSING_KEY" == Caller(target).refused()[1]


def test_verifiers_of_the_wrong_kind():
    with pytest.raises(InvalidInput):
        VerifierInterceptor(AsyncVerifierClient("127.0.0.1:1"))  # type: ignore[arg-type]
    with VerifierClient("127.0.0.1:1") as client, pytest.raises(InvalidInput):
        AsyncVerifierInterceptor(client)


@pytest.mark.parametrize("serving", SERVERS.values(), ids=SERVERS)
def test_callers_are_not_mixed_up(serving: Any, stocked: Stocked):
    with Keyring.open(stocked.home.folder) as keyring, serving(keyring) as target:
        with ThreadPoolExecutor(4) as pool:
            wishes = [(GOOD, b"acme"), (TRADER, b"trader")] * 20
            answers = list(pool.map(lambda wish: Caller(target, wish[0])("Down")[0], wishes))
        assert [[client] * 3 for _, client in wishes] == answers
    assert None is current_decision()


@pytest.mark.parametrize("serving", [serving_threads, serving_loop])
def test_a_revocation_reaches_open_connections(serving: Any, tmp_path: Path):
    stocked = stock(tmp_path / "home")
    with (
        Keyring.open(stocked.home.folder) as keyring,
        serving(keyring) as target,
        grpc.insecure_channel(target) as channel,
    ):
        ask = channel.unary_unary(f"/{SERVICE}/Unary")
        metadata = (("x-api-key", GOOD),)
        assert b"acme" == ask(b"", metadata=metadata, timeout=5)
        stocked.publish({**facts(), GOOD: Facts(flags=REVOKED, scopes=("read",))})
        until(lambda: keyring.revision == 2)
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", metadata=metadata, timeout=5)
        assert (grpc.StatusCode.UNAUTHENTICATED, "key revoked") == (caught.value.code(), caught.value.details())
