"""What is different about gRPC: where keys, addresses and refusals are."""

from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from verifier.client._decision import Decision
from verifier.client.guard.guarding import AsyncGuard, Guard
from verifier.client.guard.presented import Presented
from verifier.client.guard.retiring import is_retiring, phase_header

DOMAIN = "verifier"
DETAILS = "grpc-status-details-bin"

# HTTP status -> gRPC code (semantics 1.2).
CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
Metadata = tuple[tuple[str, str | bytes], ...]


def presented_in(guard: Guard | AsyncGuard, metadata: Any) -> Presented:
    """Look for keys in a call's metadata."""
    return guard.places.find((name.encode(), _bytes(value)) for name, value in metadata or ())


def client_address(guard: Guard | AsyncGuard, peer: str, metadata: Any) -> str | None:
    """Return the address of the client of a call.

    Args:
        peer: as grpcio writes it: ``ipv4:192.0.2.1:4711``, ``ipv6:%5B2001:db8::1%5D:4711``, ``unix:path``.
        metadata: of the call.
    """
    kind, _, rest = peer.partition(":")
    host = None if kind == "unix" else unquote(rest).rpartition(":")[0].strip("[]")
    forwarded = []
    if guard.access.trusted_proxies:
        forwarded = [_bytes(value) for name, value in metadata or () if name == "x-forwarded-for"]
    return guard.addresses.client(host, forwarded)


def refusal(
    guard: Guard | AsyncGuard, decision: Decision, scopes: tuple[str, ...]
) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return what ends a refused call: code, text, and trailers with ``google.rpc.ErrorInfo``."""
    code = CODES[decision.http_status]
    reason = guard.refusals.code(decision)
    text = reason.replace("_", " ")
    info = error_details_pb2.ErrorInfo(reason=reason.upper(), domain=DOMAIN)
    if reason == "insufficient_scope":
        info.metadata["required_scopes"] = " ".join(scopes)
    details = [_packed(info)]
    if decision.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = decision.retry_after_s
        details.append(_packed(retry))
    status = status_pb2.Status(code=code.value[0], message=text, details=details)
    return code, text, ((DETAILS, status.SerializeToString()),)


def trailers(decision: Decision) -> Metadata:
    """Return what a call that was let pass is told at its end."""
    if decision.answer is None or not is_retiring(decision):
        return ()
    return (phase_header(decision.answer),)


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", "replace")
