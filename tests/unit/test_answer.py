"""The typed answer: what it reads from a response, also from one of a later release."""

import pytest

from verifier._answer import Answer
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import Phase, RevocationReason, Verdict


def test_reads_all_fields() -> None:
    message = VerifyResponse(verdict=1, phase=3, revision=7, staleness_ms=40, client_id="acme", key_id="key_1",
                             version=2, superseded_by=3, scopes=["read"], metadata={"a": "b"})  # type: ignore[arg-type]
    message.expires_at.seconds = 1_800_000_000
    answer = Answer(message.SerializeToString())
    assert answer.to_json() == {
        "verdict": "VALID", "valid": True, "client_id": "acme", "key_id": "key_1", "version": 2, "phase": "RETIRING",
        "scopes": ["read"], "not_before": None, "expires_at": "2027-01-15T08:00:00Z", "superseded_at": None,
        "superseded_by": 3, "revision": 7, "staleness_ms": 40, "metadata": {"a": "b"},
    }


def test_unknown_numbers_are_never_valid() -> None:
    for number in (0, 13, 99, 2**31 - 1):
        answer = Answer(VerifyResponse(verdict=number, phase=77).SerializeToString())  # type: ignore[arg-type]
        assert (answer.verdict, answer.phase, answer.valid) == (Verdict.UNSPECIFIED, Phase.UNSPECIFIED, False)
    wide = b"\x08\x81\x80\x80\x80\x10"  # 2^32 + 1, which a careless cast would read as VALID
    assert not Answer(wide).valid
    later = VerifyResponse(verdict=4, phase=5, revocation_reason=77)  # type: ignore[arg-type]
    assert Answer(later.SerializeToString()).revocation_reason is RevocationReason.UNSPECIFIED


def test_an_empty_response_is_not_valid() -> None:
    assert not Answer(b"").valid


@pytest.mark.parametrize("junk", [b"\x08", b"\xff\xff\xff", b"\x42\x05ab", b"\x0f\x01"])
def test_junk_is_an_error(junk: bytes) -> None:
    with pytest.raises(ValueError, match="VerifyResponse"):
        Answer(junk)


def test_equal_by_content() -> None:
    assert Answer(b"\x08\x01") == Answer(b"\x08\x01")
    assert len({Answer(b"\x08\x01"), Answer(b"\x08\x01"), Answer(b"\x08\x02")}) == 2
