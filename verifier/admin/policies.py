"""Rotation policies as messages."""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration

from verifier.admin.times import span, span_s, whole_s
from verifier.admin.v1 import types_pb2 as pb
from verifier.control.policy import Policy

CLOCKS: Mapping[str, pb.Clock] = {
    "fixed": pb.CLOCK_FIXED,
    "on_first_use": pb.CLOCK_ON_FIRST_USE,
    "manual": pb.CLOCK_MANUAL,
}
CLOCK_NAMES = {number: name for name, number in CLOCKS.items()}


def policy_message(policy: Policy) -> pb.Policy:
    """Write a policy; what it leaves open is absent."""
    return pb.Policy(
        max_age=span(policy.max_age_s),
        overlap=span(policy.overlap_s),
        clock=CLOCKS[policy.clock] if policy.clock else pb.CLOCK_UNSPECIFIED,
        max_pending=span(policy.max_pending_s),
        notices=[Duration(seconds=notice_s) for notice_s in policy.notices_s or ()],
        expires_in=span(policy.expires_in_s),
        retire_when_safe=policy.retire_when_safe,
        min_quiet=span(policy.min_quiet_s),
        max_live=policy.max_live or 0,
    )


def stored_policy(text: str | None) -> pb.Policy | None:
    """Write a policy as the registry stores it; None when there is none."""
    return policy_message(Policy.from_text(text)) if text else None


def policy_of(message: pb.Policy) -> Policy:
    """Read a policy; whether it is usable is for the act to say.

    Raises:
        InvalidInput: a time in it is negative (``BAD_DURATION``).
    """
    return Policy(
        max_age_s=span_s(message, "max_age"),
        overlap_s=span_s(message, "overlap"),
        clock=CLOCK_NAMES.get(message.clock),
        max_pending_s=span_s(message, "max_pending"),
        notices_s=tuple(whole_s(notice, "a notice") for notice in message.notices) or None,
        expires_in_s=span_s(message, "expires_in"),
        retire_when_safe=message.retire_when_safe if message.HasField("retire_when_safe") else None,
        min_quiet_s=span_s(message, "min_quiet"),
        max_live=message.max_live or None,
    )
