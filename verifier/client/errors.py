"""What a call can fail with. None of these is a refusal, and none holds a token."""

from collections.abc import Sequence

import grpc

from verifier.errors import InvalidInput, Unavailable

# Trailers of an unsatisfied min_revision (semantics: gate G6).
REVISION_TRAILER = "verifier-revision"
RETRY_TRAILER = "retry-after-ms"
RETRY_AFTER_MS_DEFAULT = 50
RETRY_AFTER_MS_MAX = 60_000


class VerifierUnavailable(Unavailable):
    """No node answered: nothing listens, no keyring, too stale, overloaded, or an internal fault.

    Attributes:
        retryable: whether the same call may succeed in a moment.
    """

    def __init__(self, message: str, *, retryable: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class DeadlineExceeded(Unavailable):
    """The call did not end within its time."""

    code = "DEADLINE_EXCEEDED"


class RevisionNotServed(Unavailable):
    """The node serves a lower revision than ``min_revision`` asked for.

    Attributes:
        revision: what it serves, None if it did not say.
        retry_after_ms: when to ask again.
    """

    code = "REVISION_NOT_SERVED"

    def __init__(self, message: str, *, revision: int | None, retry_after_ms: int) -> None:
        hint = None if revision is None else f"the node serves revision {revision}"
        super().__init__(message, hint=hint, details={"revision": revision, "retry_after_ms": retry_after_ms})
        self.revision = revision
        self.retry_after_ms = retry_after_ms


class BadRequest(InvalidInput):
    """The call itself is wrong (a bad scope or address, too large); asking again is no use."""

    code = "BAD_REQUEST"


Fault = VerifierUnavailable | DeadlineExceeded | RevisionNotServed | BadRequest
Trailers = Sequence[tuple[str, str | bytes]]

_BAD_REQUEST = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


def fault_of(status: grpc.StatusCode, message: str, trailers: Trailers) -> Fault:
    """Turn a gRPC status into the error to raise.

    Args:
        status: anything but OK.
        message: the node's or grpcio's text.
        trailers: the trailing metadata of the call.
    """
    text = f"{status.name}: {message}" if message else status.name
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(text)
    if status is grpc.StatusCode.FAILED_PRECONDITION:
        revision = _number(trailers, REVISION_TRAILER)
        wait_ms = _number(trailers, RETRY_TRAILER)
        if wait_ms is None:
            wait_ms = RETRY_AFTER_MS_DEFAULT
        return RevisionNotServed(text, revision=revision, retry_after_ms=min(wait_ms, RETRY_AFTER_MS_MAX))
    if status in _BAD_REQUEST:
        return BadRequest(text, details={"grpc_status": status.name})
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return VerifierUnavailable(text, hint="the target answers gRPC, but not this call: is it a verifier node?")
    return VerifierUnavailable(text, retryable=status is grpc.StatusCode.UNAVAILABLE)


def _number(trailers: Trailers, name: str) -> int | None:
    """Return a trailer that is a number from 0 on, None when it is missing or anything else."""
    for key, value in trailers:
        if key == name:
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
            return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else None
    return None
