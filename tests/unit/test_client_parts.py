"""The parts of the clients that need no server: waits, faults, requests as bytes."""

import grpc
import pytest

from verifier.client._decision import PUBLIC, decide
from verifier.client._request import Question, encode_batch, split_batch, varint
from verifier.client._retry import Retries
from verifier.client.errors import BadRequest, RevisionNotServed, VerifierUnavailable, fault_of
from verifier.errors import Unavailable
from verifier.v1.verifier_pb2 import VerifyBatchRequest, VerifyBatchResponse, VerifyRequest, VerifyResponse
from verifier.vocabulary import Verdict

DOWN = VerifierUnavailable("down", retryable=True)


def test_waits_grow_are_random_and_end():
    retries = Retries(attempts=8, first_wait_s=0.01, wait_max_s=0.05)
    for failures, longest in ((1, 0.01), (2, 0.02), (3, 0.04), (4, 0.05), (7, 0.05)):
        waits = [retries.wait_s(DOWN, failures, 10.0) for _ in range(200)]
        assert all(wait is not None and 0 <= wait <= longest for wait in waits)
        assert len(set(waits)) > 100
    assert retries.wait_s(DOWN, 8, 10.0) is None


def test_no_wait_goes_beyond_the_deadline():
    late = RevisionNotServed("late", revision=1, retry_after_ms=50)
    assert Retries().wait_s(late, 0, 0.049) is None
    assert all(0.05 <= (Retries().wait_s(late, 0, 1.0) or 0) <= 0.075 for _ in range(100))
    assert Retries(first_wait_s=5, wait_max_s=5).wait_s(DOWN, 1, 0.0) is None


def test_what_is_not_worth_repeating_is_not():
    for fault in (VerifierUnavailable("x"), BadRequest("x"), fault_of(grpc.StatusCode.DEADLINE_EXCEEDED, "", ())):
        assert Retries().wait_s(fault, 1, 10.0) is None
    assert Retries(attempts=1).wait_s(DOWN, 1, 10.0) is None


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK])
def test_every_status_is_a_fault_and_never_allows_by_default(status):
    fault = fault_of(status, "text", ())
    decision = decide(fault)
    assert not decision.allowed
    assert decision.http_status in (400, 503)
    assert isinstance(fault, (Unavailable, BadRequest))
    assert (status is grpc.StatusCode.UNAVAILABLE) == getattr(fault, "retryable", False)


@pytest.mark.parametrize(("trailers", "revision", "wait_ms"), [
    ((("verifier-revision", "41"), ("retry-after-ms", "70")), 41, 70), ((), None, 50),
    ((("verifier-revision", "x"), ("retry-after-ms", "-1")), None, 50),
    ((("retry-after-ms", "9" * 30),), None, 50), ((("retry-after-ms", "99999999"),), None, 60_000),
    ((("verifier-revision", b"7"), ("retry-after-ms", "0")), 7, 0),
])
def test_hints_of_an_unsatisfied_revision(trailers, revision, wait_ms):
    fault = fault_of(grpc.StatusCode.FAILED_PRECONDITION, "", trailers)
    assert isinstance(fault, RevisionNotServed)
    assert (revision, wait_ms) == (fault.revision, fault.retry_after_ms)
    assert fault.hint == (None if revision is None else f"the node serves revision {revision}")


def test_every_refusal_has_a_public_code():
    refusals = set(Verdict) - {Verdict.UNSPECIFIED, Verdict.VALID}
    assert refusals == set(PUBLIC)
    assert PUBLIC[Verdict.MALFORMED] == PUBLIC[Verdict.UNKNOWN]
    assert {401, 403, 429} == {status for status, _code in PUBLIC.values()}


def test_requests_are_those_of_the_protobuf_runtime():
    full = VerifyRequest(key="k", required_scopes=["a", "b"], client_address="::1", min_revision=3, probe=True)
    assert full.SerializeToString() == Question("k", ["a", "b"], "::1", 3, True).to_bytes()
    assert VerifyRequest(key="x" * 300).SerializeToString() == Question(b"x" * 300).to_bytes()
    assert b"" == Question("").to_bytes()
    batch = VerifyBatchRequest(requests=[full, VerifyRequest(), VerifyRequest(key="z" * 400)])
    questions = [Question("k", ["a", "b"], "::1", 3, True), "", b"z" * 400]
    assert batch.SerializeToString() == encode_batch(questions)


def test_batches_are_split_into_their_answers():
    answers = [VerifyResponse(verdict="VERDICT_VALID", client_id="c" * length) for length in (0, 1, 120, 130, 20_000)]
    whole = VerifyBatchResponse(responses=answers).SerializeToString()
    assert [answer.SerializeToString() for answer in answers] == split_batch(whole)
    for cut in range(1, 60):
        with pytest.raises(ValueError, match=r"cut off|does not end"):
            split_batch(whole[:-cut])


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63])
def test_varints(value):
    assert VerifyRequest(min_revision=value - (1 << 64) if value >> 63 else value).SerializeToString() == (
        b"\x20" + varint(value) if value else b"")
