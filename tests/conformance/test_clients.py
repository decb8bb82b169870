"""Real gRPC clients against a node: right answers, right errors, many calls at once."""

import asyncio
import gzip
import json
import os
import re
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.conformance.reference import Entry, World
from tests.conformance.worlds import native, tagged, view_of
from tests.support.image import PEPPER
from tests.support.loops import running
from verifier.client import AsyncVerifierClient, Retries, RevisionNotServed, VerifierClient
from verifier.client._channel import HEALTH, VERIFY
from verifier.v1 import verifier_pb2 as pb
from verifier.v1.verifier_pb2_grpc import VerifierServiceStub
from verifier.vocabulary import Verdict

GOOD, REVOKED, UNKNOWN = (native(number) for number in range(3))
REVISION, TIMEOUT_S = 7, 30
HERE = Path(__file__).parent
STATUS = grpc.StatusCode


@pytest.fixture(scope="module", params=["tcp", "unix"])
def node(request, tmp_path_factory):
    entries = {GOOD: Entry("acme", "key_1", scopes=("read",), metadata={"tier": "gold"}),
               REVOKED: Entry("acme", "key_2", revoked=True)}
    world = World(revision=REVISION, base=tagged(entries), peppers=(PEPPER,))
    path = str(tmp_path_factory.mktemp("s") / "v.sock") if request.param == "unix" else None
    with running(view_of(world), path) as server:
        yield server


@pytest.fixture
def channel(node):
    with grpc.insecure_channel(node.target) as made:
        yield made


def check_answer(answer: pb.VerifyResponse) -> None:
    assert (pb.VERDICT_VALID, pb.PHASE_CURRENT, REVISION) == (answer.verdict, answer.phase, answer.revision)
    assert ("acme", "key_1", ["read"], {"tier": "gold"}) == (
        answer.client_id, answer.key_id, list(answer.scopes), dict(answer.metadata))


# --- grpcio ----------------------------------------------------------------------------------------------------------


def test_grpcio_generated_stub(channel):
    stub = VerifierServiceStub(channel)
    check_answer(stub.Verify(pb.VerifyRequest(key=GOOD, required_scopes=["read"]), timeout=TIMEOUT_S))
    batch = stub.VerifyBatch(
        pb.VerifyBatchRequest(requests=[pb.VerifyRequest(key=key) for key in (GOOD, REVOKED, UNKNOWN)]),
        timeout=TIMEOUT_S,
    )
    assert [1, 4, 3] == [answer.verdict for answer in batch.responses]
    check_answer(batch.responses[0])


def test_grpcio_many_in_flight(channel):
    stub = VerifierServiceStub(channel)
    calls = [stub.Verify.future(pb.VerifyRequest(key=(GOOD, REVOKED, UNKNOWN)[i % 3]), timeout=TIMEOUT_S)
             for i in range(1500)]
    assert [1, 4, 3] * 500 == [call.result().verdict for call in calls]


def test_grpcio_cancelled_calls_harm_no_others(channel):
    stub = VerifierServiceStub(channel)
    calls = [stub.Verify.future(pb.VerifyRequest(key=GOOD), timeout=TIMEOUT_S) for _ in range(300)]
    for call in calls[::3]:
        call.cancel()
    for i, call in enumerate(calls):
        if i % 3:
            check_answer(call.result())


def test_grpcio_large_metadata_and_keepalive(node):
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_permit_without_calls", 1)]
    with grpc.insecure_channel(node.target, options) as channel:
        verify = VerifierServiceStub(channel).Verify
        for metadata in ((("x-trace", "y" * 3000),), (("x-bin", bytes(range(256))),), ()):
            check_answer(verify(pb.VerifyRequest(key=GOOD), timeout=TIMEOUT_S, metadata=metadata))


def failure(call, message: bytes, **options) -> tuple[STATUS, dict]:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, timeout=options.pop("timeout", TIMEOUT_S), **options)
    return caught.value.code(), dict(caught.value.trailing_metadata() or ())


def test_grpcio_errors(channel):
    verify = channel.unary_unary(VERIFY)
    assert STATUS.INVALID_ARGUMENT is failure(verify, b"\xff")[0]
    assert STATUS.UNIMPLEMENTED is failure(channel.unary_unary("/verifier.v1.VerifierService/Nonesuch"), b"")[0]
    assert STATUS.UNIMPLEMENTED is failure(channel.unary_unary("/nonesuch.Service/Verify"), b"")[0]
    assert STATUS.RESOURCE_EXHAUSTED is failure(verify, b"\x0a\x80\x80\x80\x01" + b"x" * (2 << 20))[0]
    ahead = pb.VerifyRequest(key=GOOD, min_revision=REVISION + 1).SerializeToString()
    status, trailers = failure(verify, ahead)
    assert STATUS.FAILED_PRECONDITION is status
    assert ("7", "50") == (trailers["verifier-revision"], trailers["retry-after-ms"])
    check_answer(pb.VerifyResponse.FromString(verify(GOOD_MESSAGE, timeout=TIMEOUT_S)))


GOOD_MESSAGE = pb.VerifyRequest(key=GOOD).SerializeToString()


def test_grpcio_compressed_message(channel):
    """A client that compresses is told UNIMPLEMENTED and what to send instead."""
    verify = channel.unary_unary(VERIFY)
    large = pb.VerifyRequest(key="x" * 500).SerializeToString()
    assert len(gzip.compress(large)) < len(large)
    assert STATUS.UNIMPLEMENTED is failure(verify, large, compression=grpc.Compression.Gzip)[0]


def test_grpcio_health(channel):
    health = channel.unary_unary(HEALTH)
    assert b"\x08\x01" == health(b"", timeout=TIMEOUT_S)
    assert b"\x08\x01" == health(b"\x0a\x1bverifier.v1.VerifierService", timeout=TIMEOUT_S)
    assert STATUS.NOT_FOUND is failure(health, b"\x0a\x04none")[0]


def test_grpcio_aio(node):
    async def ask() -> None:
        async with grpc.aio.insecure_channel(node.target) as channel:
            stub = VerifierServiceStub(channel)
            calls = [stub.Verify(pb.VerifyRequest(key=(GOOD, UNKNOWN)[i % 2]), timeout=TIMEOUT_S) for i in range(1000)]
            answers = await asyncio.gather(*calls)
            assert [1, 3] * 500 == [answer.verdict for answer in answers]
            check_answer(answers[0])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Verify(pb.VerifyRequest(key=GOOD, client_address="no"), timeout=TIMEOUT_S)
            assert STATUS.INVALID_ARGUMENT is caught.value.code()

    asyncio.run(ask())


# --- The project's own clients ----------------------------------------------------------------------------------------


def test_own_client(node):
    with VerifierClient(node.target, timeout_s=TIMEOUT_S) as client:
        assert client.health()
        assert client.verify(GOOD, ["read"]).valid
        assert Verdict.MALFORMED is client.verify(b"\xff" * 1000).verdict
        verdicts = [answer.verdict for answer in client.verify_batch([GOOD, REVOKED, UNKNOWN, ""])]
        assert [Verdict.VALID, Verdict.REVOKED, Verdict.UNKNOWN, Verdict.MALFORMED] == verdicts
        with pytest.raises(RevisionNotServed) as caught:
            client.verify(GOOD, min_revision=REVISION + 1, timeout_s=0.2)
        assert REVISION == caught.value.revision


def test_own_asyncio_client(node):
    async def ask() -> list[bool]:
        async with AsyncVerifierClient(node.target, timeout_s=TIMEOUT_S) as client:
            assert await client.health()
            return [a.valid for a in await asyncio.gather(*(client.verify((GOOD, REVOKED)[i % 2]) for i in range(500)))]

    assert [True, False] * 250 == asyncio.run(ask())


def test_own_client_waits_for_a_revision_and_for_a_keyring():
    world = World(revision=1, base=tagged({GOOD: Entry("acme", "key_1")}), peppers=(PEPPER,))
    patient = Retries(attempts=50, wait_max_s=0.1)
    with running(None) as node, VerifierClient(node.target, timeout_s=TIMEOUT_S, retries=patient) as client:
        assert not client.health()
        threading.Timer(0.05, lambda: node.publish(view_of(world))).start()
        threading.Timer(0.4, lambda: node.publish(view_of(replace(world, revision=2)))).start()
        started = time.monotonic()
        assert 2 == client.verify(GOOD, min_revision=2).revision
        assert time.monotonic() - started < 5


# --- Other implementations --------------------------------------------------------------------------------------------


def test_grpclib(node):
    """Pure Python, on PyPI `h2`."""
    from grpclib.client import Channel, UnaryUnaryMethod
    from grpclib.exceptions import GRPCError

    async def ask() -> None:
        if node.target.startswith("unix:"):
            channel = Channel(path=node.target.removeprefix("unix:"))
        else:
            host, _, port = node.target.rpartition(":")
            channel = Channel(host, int(port))
        verify = UnaryUnaryMethod(channel, VERIFY, pb.VerifyRequest, pb.VerifyResponse)
        try:
            check_answer(await verify(pb.VerifyRequest(key=GOOD), timeout=TIMEOUT_S))
            answers = await asyncio.gather(
                *(verify(pb.VerifyRequest(key=(GOOD, UNKNOWN)[i % 2]), timeout=TIMEOUT_S) for i in range(600)))
            assert [1, 3] * 300 == [answer.verdict for answer in answers]
            with pytest.raises(GRPCError) as caught:
                await verify(pb.VerifyRequest(key=GOOD, min_revision=REVISION + 1), timeout=TIMEOUT_S)
            assert STATUS.FAILED_PRECONDITION.value[0] == caught.value.status.value
            check_answer(await verify(pb.VerifyRequest(key=GOOD), timeout=TIMEOUT_S))
        finally:
            channel.close()

    asyncio.run(ask())


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed (nghttp2-client)")
def test_h2load(node, tmp_path):
    """The load generator of the benchmarks, from nghttp2: every call ends well."""
    if node.target.startswith("unix:"):
        pytest.skip("h2load needs a host")
    message = tmp_path / "message"
    message.write_bytes(b"\0" + len(GOOD_MESSAGE).to_bytes(4, "big") + GOOD_MESSAGE)
    before = node.loop.counters()["verdicts"][1]
    done = subprocess.run(
        ["h2load", "-n", "3000", "-c", "5", "-m", "20", "-d", str(message), "-H", "content-type: application/grpc",
         "-H", "te: trailers", f"http://{node.target}{VERIFY}"],
        capture_output=True, text=True, timeout=60, check=True,
    )
    assert re.search(r"3000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout), done.stdout
    assert 3000 == node.loop.counters()["verdicts"][1] - before


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """@grpc/grpc-js, installed once into the user's cache."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "verifier-tests" / "grpc-js"
    if not (cache / "node_modules" / "@grpc" / "grpc-js").is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["npm", "install", "--prefix", str(cache), "--no-audit", "--no-fund", "--silent", "@grpc/grpc-js@1"],
            capture_output=True, text=True, timeout=120, check=False,
        )
        if done.returncode != 0:
            pytest.skip("npm cannot install @grpc/grpc-js here")
    return cache / "node_modules"


def test_grpc_js(node, node_modules):
    """Pure JavaScript, on node's HTTP/2."""
    done = subprocess.run(
        ["node", str(HERE / "grpc_js_client.cjs"), node.target, GOOD, UNKNOWN],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "NODE_PATH": str(node_modules)},
    )
    assert (0, "") == (done.returncode, done.stderr)
    told = json.loads(done.stdout)
    check_answer(pb.VerifyResponse.FromString(bytes.fromhex(told["answer"])))
    assert {"1": 500, "3": 500} == told["verdicts"]
    assert [9, "7", "50"] == told["ahead"]
    assert [12, 8, 3] == told["errors"]
