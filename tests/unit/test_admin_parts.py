"""The small parts of the operators' API: errors, times, pages, places, etags, digests of requests."""

import dataclasses
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from verifier import errors as all_errors
from verifier.admin import errors, listening, paging, policies, replay, times
from verifier.admin.messages import etag_of, key_message
from verifier.admin.v1 import lifecycle_pb2, types_pb2
from verifier.control.policy import BUILT_IN, Policy
from verifier.errors import Conflict, InvalidInput, NotFound, Unavailable, VerifierError
from verifier.registry.facts import Client, Key, Version
from verifier.vocabulary import RevocationReason

CLASSES = [made for made in vars(all_errors).values() if isinstance(made, type) and issubclass(made, VerifierError)]


class Call(grpc.RpcError):
    """A call that failed, as grpcio shows it."""

    def __init__(self, code: grpc.StatusCode, details: str, status: status_pb2.Status | None = None) -> None:
        self._code, self._details, self._status = code, details, status

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        if self._status is None:
            return ()
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


def sent(error: VerifierError) -> VerifierError:
    """Send an error and make it again."""
    status = errors.to_status(error)
    return errors.from_rpc_error(Call(errors.code_of(error), status.message, status))


# --- Errors ----------------------------------------------------------------------------------------------------------

texts = st.text(max_size=60)


@given(st.sampled_from(CLASSES), texts, st.none() | texts, st.none() | st.from_regex(r"[A-Z_]{1,30}", fullmatch=True),
       st.dictionaries(st.text(max_size=10), st.none() | st.booleans() | st.integers(-9, 9) | texts, max_size=4))
def test_an_error_is_the_same_after_its_way(made, message, hint, code, details):
    error = made(message, hint=hint, code=code, details=details)
    again = sent(error)
    assert (type(again), again.message, again.hint, again.code, again.details, again.exit_code) == (
        made, message, hint, error.code, details, error.exit_code
    )  # fmt: skip


@pytest.mark.parametrize(("error", "code"), [
    (InvalidInput("x"), "INVALID_ARGUMENT"), (NotFound("x"), "NOT_FOUND"), (Conflict("x"), "FAILED_PRECONDITION"),
    (Conflict("x", code="ETAG_MISMATCH"), "ABORTED"), (Conflict("x", code="PUBLISHER_BUSY"), "ABORTED"),
    (Conflict("x", code="REQUEST_ID_REUSED"), "ALREADY_EXISTS"), (Unavailable("x"), "UNAVAILABLE"),
    (all_errors.NotAuthenticated("x"), "UNAUTHENTICATED"), (all_errors.NotAllowed("x"), "PERMISSION_DENIED"),
    (all_errors.UnsoundPublication("x"), "DATA_LOSS"), (VerifierError("x"), "INTERNAL"),
])
def test_errors_have_the_codes_that_other_clients_know(error: VerifierError, code: str):
    assert errors.code_of(error).name == code
    assert errors.to_status(error).code == getattr(grpc.StatusCode, code).value[0]


@given(st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=300), max_size=200) | st.text(max_size=5000)))
def test_details_never_outgrow_the_trailers(details):
    status = errors.to_status(Conflict("x" * 5000, hint="h" * 5000, details=details))
    assert status.ByteSize() < 6000
    assert sent(Conflict("x", details=details)).details.keys() <= details.keys()


@pytest.mark.parametrize(("code", "text", "made", "told"), [
    ("UNAVAILABLE", "failed to connect to all addresses\nsecond line", Unavailable, "UNAVAILABLE"),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", Unavailable, "DEADLINE_EXCEEDED"),
    ("UNIMPLEMENTED", "Method not found!", Unavailable, "UNIMPLEMENTED"),
    ("RESOURCE_EXHAUSTED", "Received message larger than max (5 vs. 4)", InvalidInput, "TOO_LARGE"),
    ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", Unavailable, "OVERLOADED"),
    ("CANCELLED", "", Unavailable, "UNAVAILABLE"),
    ("INTERNAL", "", VerifierError, "INTERNAL"),
    ("PERMISSION_DENIED", "by a proxy", all_errors.NotAllowed, "NOT_ALLOWED"),
])
def test_errors_of_others_are_told_apart(code: str, text: str, made: type[VerifierError], told: str):
    error = errors.from_rpc_error(Call(getattr(grpc.StatusCode, code), text))
    assert (type(error), error.code) == (made, told)
    assert "\n" not in error.message and "second line" not in error.message


def test_details_of_others_and_broken_ones_are_not_taken_for_ours():
    foreign = status_pb2.Status(code=9, message="no")
    foreign.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUOTA", domain="example.org"))
    assert errors.from_rpc_error(Call(grpc.StatusCode.FAILED_PRECONDITION, "no", foreign)).code == "CONFLICT"
    broken = status_pb2.Status(code=9, message="no")
    broken.details.add().Pack(error_details_pb2.ErrorInfo(reason="GAP", domain="verifier", metadata={"details": "{"}))
    error = errors.from_rpc_error(Call(grpc.StatusCode.FAILED_PRECONDITION, "no", broken))
    assert (error.code, error.details) == ("GAP", {})
    # A status that contradicts the call is nobody's.
    other = errors.to_status(Conflict("x", code="GAP"))
    assert errors.from_rpc_error(Call(grpc.StatusCode.UNAVAILABLE, "gone", other)).code == "UNAVAILABLE"


# --- Values ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**40))
def test_times_come_back(milliseconds: int):
    request = lifecycle_pb2.CreateKeyRequest(not_before=times.stamp_ms(milliseconds))
    assert times.moment_ms(request, "not_before") == milliseconds
    assert times.moment_s(request, "not_before") == milliseconds // 1000
    request = lifecycle_pb2.RotateKeyRequest(overlap=times.span_ms(milliseconds))
    assert times.span_s(request, "overlap") == milliseconds // 1000


def test_absent_is_not_zero():
    request = lifecycle_pb2.RotateKeyRequest()
    assert (times.span_s(request, "overlap"), times.moment_s(request, "activate_at")) == (None, None)
    request = lifecycle_pb2.RotateKeyRequest(overlap=Duration(), activate_at=Timestamp())
    assert (times.span_s(request, "overlap"), times.moment_s(request, "activate_at")) == (0, 0)
    assert times.stamp(None) is times.span(None) is times.span_ms(None) is times.stamp_ms(None) is None


@pytest.mark.parametrize("duration", [Duration(seconds=-1), Duration(nanos=-1)])
def test_negative_durations_are_refused(duration: Duration):
    with pytest.raises(InvalidInput):
        times.span_s(lifecycle_pb2.RotateKeyRequest(overlap=duration), "overlap")


@pytest.mark.parametrize(("asked", "size"), [(0, 20), (1, 1), (1000, 1000), (1001, None), (-1, None)])
def test_pages_have_a_size(asked: int, size: int | None):
    if size is None:
        with pytest.raises(InvalidInput):
            paging.page_size(asked, 20)
    else:
        assert paging.page_size(asked, 20) == size


@pytest.mark.parametrize("token", ["x", "-1", "1.5", "٣", "9" * 19, " 1"])
def test_page_tokens_of_others_are_refused(token: str):
    with pytest.raises(InvalidInput):
        paging.begin(token, 0)
    assert (paging.begin("", 7), paging.begin("12", 7)) == (7, 12)


@pytest.mark.parametrize(("text", "target", "local"), [
    ("127.0.0.1:5", "127.0.0.1:5", True), ("127.9.9.9:5", "127.9.9.9:5", True), ("localhost:5", "localhost:5", True),
    ("[::1]:5", "[::1]:5", True), ("unix:/run/a", "unix:/run/a", True), ("0.0.0.0:5", "0.0.0.0:5", False),
    ("[::]:5", "[::]:5", False), ("10.0.0.1:5", "10.0.0.1:5", False),
    ("localhost.example:5", "localhost.example:5", False), ("[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.1]:5", False),
])  # fmt: skip
def test_places_know_whether_others_reach_them(text: str, target: str, local: bool):
    place = listening.parse(text)
    assert (place.target, place.is_local) == (target, local)


durations = st.none() | st.integers(0, 10**9)


@given(st.builds(
    Policy, max_age_s=durations, overlap_s=durations, clock=st.sampled_from([None, "fixed", "on_first_use", "manual"]),
    max_pending_s=durations, notices_s=st.none() | st.lists(st.integers(0, 10**6), min_size=1).map(tuple),
    expires_in_s=durations, retire_when_safe=st.none() | st.booleans(), min_quiet_s=durations,
    max_live=st.none() | st.integers(1, 16),
))
def test_policies_come_back(policy: Policy):
    assert policies.policy_of(policies.policy_message(policy)) == policy
    assert {field.name for field in types_pb2.Policy.DESCRIPTOR.fields} == {
        field.name.removesuffix("_s") for field in dataclasses.fields(Policy)
    }


# --- Etags and digests -----------------------------------------------------------------------------------------------

VERSION = Version(ordinal=1, number=1, tag=bytes(32), issued_at=5)
KEY = Key(
    ordinal=1, key_id="k", client_ordinal=1, client_id="c", enabled=True, created_at=5, expires_at=None,
    scopes=("read",), rules=(), metadata={"a": "1", "b": "2"}, prefix="vk_live", versions=(VERSION,),
)  # fmt: skip


@pytest.mark.parametrize(("change", "same"), [
    ({"enabled": False}, False), ({"scopes": ("read", "write")}, False), ({"metadata": {"a": "1"}}, False),
    ({"metadata": {"b": "2", "a": "1"}}, True), ({"policy": "{}"}, False), ({"due_at": 9}, True),
    ({"versions": (dataclasses.replace(VERSION, reason=RevocationReason.SUPERSEDED),)}, False),
    ({"versions": (dataclasses.replace(VERSION, retire_at=9),)}, False),
    ({"versions": (dataclasses.replace(VERSION, last_used_at=9),)}, True),
])
def test_an_etag_changes_with_what_people_change(change: dict[str, Any], same: bool):
    assert (etag_of(dataclasses.replace(KEY, **change)) == etag_of(KEY)) == same


def test_a_client_has_an_etag_of_its_own():
    client = Client(1, "c", None, True, 5)
    assert etag_of(client) != etag_of(dataclasses.replace(client, enabled=False))


def test_no_tag_is_in_a_message():
    tag = bytes(range(32))
    key = dataclasses.replace(KEY, versions=(dataclasses.replace(VERSION, tag=tag),))
    assert tag not in key_message(key, BUILT_IN, 10).SerializeToString()


def test_a_digest_is_of_what_is_asked_for():
    def digest(**options: Any) -> str:
        return replay.digest_of(lifecycle_pb2.CreateKeyRequest(
            client_id="c", metadata={"a": "1", "b": "2"}, options=types_pb2.Options(**options)))

    plain = digest()
    assert plain == digest(request_id="x", wait=types_pb2.WAIT_SERVED, timeout=Duration(seconds=9))
    assert plain != digest(note="other")
    assert plain != replay.digest_of(lifecycle_pb2.CreateKeyRequest(client_id="d", metadata={"a": "1", "b": "2"}))
    promote, cancel = lifecycle_pb2.PromoteVersionRequest(key_id="k"), lifecycle_pb2.CancelRotationRequest(key_id="k")
    assert promote.SerializeToString() == cancel.SerializeToString()
    assert replay.digest_of(promote) != replay.digest_of(cancel)
