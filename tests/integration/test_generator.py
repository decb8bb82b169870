"""The load generator must not flatter: it counts what it was answered, and says so when an answer is wrong."""

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from loadtest.bench import tools
from loadtest.bench.revisions import Reel, mixed_answers
from tests.support.web import GOOD, UNKNOWN, head, web_server, world
from verifier.v1.verifier_pb2 import VERDICT_KEY_DISABLED, VERDICT_VALID, VerifyRequest, VerifyResponse

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
KEYS = 50


def respond(request: VerifyRequest, context: grpc.ServicerContext) -> VerifyResponse:
    if request.key == "fault":
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    verdict = VERDICT_KEY_DISABLED if request.key == "off" else VERDICT_VALID
    return VerifyResponse(verdict=verdict, phase=2, revision=300, client_id="acme" * 40)


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    handler = grpc.unary_unary_rpc_method_handler(
        respond, request_deserializer=VerifyRequest.FromString, response_serializer=VerifyResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("verifier.v1.VerifierService", {"Verify": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


@pytest.fixture
def generate(target, tmp_path):
    def run(keys: list[str], *options: str) -> dict:
        messages = [VerifyRequest(key=key).SerializeToString() for key in keys]
        requests = tmp_path / "requests"
        requests.write_bytes(b"".join(struct.pack(">I", len(message)) + message for message in messages))
        command = [tools.generator(), "--target", target, "--requests", requests, "--warmup", "0", *options]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout)

    return run


@pytest.mark.parametrize("headers", [(), ("--literal",)])
def test_every_answer_is_counted_by_verdict_and_revision(generate, headers):
    report = generate(["good"] * KEYS, "--connections", "3", "--streams", "4", "--calls", "200", *headers)
    assert report["calls"] >= 200
    assert report["errors"] == 0
    answered = sum(report["statuses"].values())
    assert {"0": answered} == report["statuses"]
    assert {"1": answered} == report["verdicts"]
    assert [{"revision": 300, "verdicts": {"1": answered}, "canaries": {}}] == report["revisions"]
    assert 0 < report["latency_us"]["p50"] <= report["latency_us"]["p99"] <= report["latency_us"]["max"]


def test_an_unexpected_verdict_is_an_error(generate):
    report = generate(["good", "off"], "--calls", "40", "--expect", "1")
    assert report["error_kinds"]["verdict"] == report["verdicts"]["6"] > 0


def test_a_failed_call_is_an_error(generate):
    report = generate(["good", "fault"], "--calls", "40", "--expect", "1")
    assert report["error_kinds"]["status"] == report["statuses"]["14"] > 0
    assert report["errors"] == report["statuses"]["14"]


def test_a_schedule_is_kept_and_latency_counts_from_it(generate):
    report = generate(["good"], "--rate", "200", "--duration", "0.5", "--streams", "8")
    assert 90 <= report["latency_us"]["count"] <= 110
    assert report["errors"] == 0


def test_canaries_are_counted_apart_and_mixed_answers_found(generate, tmp_path):
    report = generate(["off"] * 5 + ["good"] * 5, "--canaries", "5", "--calls", "50", "--expect", "1")
    (row,) = report["revisions"]
    assert report["errors"] == 0
    assert {"6"} == set(row["canaries"])
    assert {"1"} == set(row["verdicts"])
    played = Reel(tmp_path, tmp_path, 299, 301, tmp_path, 5)
    assert mixed_answers(played, [report]) == 0
    assert mixed_answers(Reel(tmp_path, tmp_path, 300, 301, tmp_path, 5), [report]) == row["canaries"]["6"]


def test_http_1_is_counted_by_what_it_answers(tmp_path):
    with web_server(world()) as server:
        def run(token: str, *options: str) -> dict:
            request = head("/v1/authz", f"x-api-key: {token}")
            requests = tmp_path / "requests"
            requests.write_bytes(struct.pack(">I", len(request)) + request)
            command = [tools.generator(), "--protocol", "http1", "--target", "{}:{}".format(*server.address),
                       "--requests", requests, "--warmup", "0", "--calls", "200", *options]  # fmt: skip
            return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout)

        good = run(GOOD, "--connections", "2", "--streams", "4", "--expect", "1")
        assert 0 == good["errors"]
        assert list(good["verdicts"]) == ["1"]
        assert good["verdicts"]["1"] >= good["calls"] >= 200
        refused = run(UNKNOWN, "--expect", "1")
        assert list(refused["verdicts"]) == ["3"]
        assert refused["errors"] >= refused["calls"] >= 200
