"""What an application tells its own caller, for an answer and for a fault.

Three outcomes, never two: allowed, refused, or "cannot tell now" (503). A fault must not look like a refusal, or
callers throw good keys away; nor like a yes.
"""

from dataclasses import dataclass
from typing import Final, Literal

from verifier._answer import Answer
from verifier.errors import InvalidInput, VerifierError
from verifier.vocabulary import Verdict

OnUnavailable = Literal["refuse", "allow"]

# Verdict -> HTTP status and public code (semantics, section 1.2). MALFORMED and UNKNOWN must look the same.
PUBLIC: Final[dict[int, tuple[int, str]]] = {
    Verdict.MALFORMED: (401, "invalid_key"),
    Verdict.UNKNOWN: (401, "invalid_key"),
    Verdict.REVOKED: (401, "key_revoked"),
    Verdict.CLIENT_DISABLED: (401, "key_disabled"),
    Verdict.KEY_DISABLED: (401, "key_disabled"),
    Verdict.NOT_YET_ACTIVE: (401, "key_not_active"),
    Verdict.EXPIRED: (401, "key_expired"),
    Verdict.ADDRESS_NOT_ALLOWED: (403, "address_not_allowed"),
    Verdict.INSUFFICIENT_SCOPE: (403, "insufficient_scope"),
    Verdict.RATE_LIMITED: (429, "rate_limited"),
    Verdict.QUOTA_EXCEEDED: (429, "quota_exceeded"),
}
_UNKNOWN_VERDICT = (401, "invalid_key")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a request that presented a key.

    Attributes:
        allowed: let it pass.
        http_status: 200, 401, 403 or 429 by verdict; 400 for a bad call; 503 when no node could tell.
        code: what the caller may be told, None with 200.
        answer: the node's answer, None on a fault.
        fault: the fault, None with an answer. Log it; it holds no token.
    """

    allowed: bool
    http_status: int
    code: str | None
    answer: Answer | None
    fault: VerifierError | None

    @property
    def retry_after_s(self) -> int | None:
        """Seconds for a ``Retry-After`` header; None = send none."""
        return 1 if self.http_status == 503 else None


def checked_policy(policy: str) -> OnUnavailable:
    """Return the policy; InvalidInput when it is not "refuse" or "allow"."""
    if policy == "refuse":
        return "refuse"
    if policy == "allow":
        return "allow"
    raise InvalidInput(f"on_unavailable is {policy!r}; it can be 'refuse' or 'allow'")


def decide(outcome: Answer | VerifierError, on_unavailable: OnUnavailable = "refuse") -> Decision:
    """Map an answer or a fault to a decision.

    Args:
        outcome: what a call returned or raised.
        on_unavailable: "refuse" answers 503 to every fault. "allow" lets requests pass while no node answers: then
            whoever can keep the verifier from answering gets in with any key. A BadRequest is refused either
            way, since callers may be able to provoke one.
    """
    if not isinstance(outcome, VerifierError):
        if outcome.valid:
            return Decision(True, 200, None, outcome, None)
        status, code = PUBLIC.get(outcome.verdict, _UNKNOWN_VERDICT)
        return Decision(False, status, code, outcome, None)
    if isinstance(outcome, InvalidInput):
        return Decision(False, 400, "bad_request", None, outcome)
    allowed = on_unavailable == "allow"
    return Decision(allowed, 200 if allowed else 503, None if allowed else "unavailable", None, outcome)
