"""Outcomes of calls in a form that two implementations can be compared in."""

from collections.abc import Callable
from typing import Any

import grpc

from tests.conformance import reference
from tests.conformance.reference import Fault
from tests.conformance.requests import BYTES, piece

# ("OK", bytes) or (status name, trailers that the API defines)
Outcome = tuple[str, bytes] | tuple[str, dict[str, str]]
TRAILERS = ("verifier-revision", "retry-after-ms")
STALENESS_TAG = 4 << 3


def without_staleness(response: bytes) -> bytes:
    """A VerifyResponse's bytes without field 4, the one thing that may differ between two good answers."""
    at = 0
    while at < len(response) and response[at] < STALENESS_TAG:
        at = reference.read_varint(response, at + 1)[1]
    if at < len(response) and response[at] == STALENESS_TAG:
        return response[:at] + response[reference.read_varint(response, at + 1)[1] :]
    return response


def batch_without_staleness(response: bytes) -> bytes:
    """The same for every answer of a VerifyBatchResponse."""
    out = b""
    for number, wire, value in reference.fields(response):
        assert (number, wire) == (1, BYTES)
        assert isinstance(value, bytes)
        out += piece(1, BYTES, without_staleness(value))
    return out


def outcome(method: Callable[[bytes], bytes], message: bytes, *, batch: bool = False) -> Outcome:
    """Call a method in this process."""
    try:
        response = method(message)
    except Fault as fault:
        return fault.status.name, fault.trailers
    return "OK", batch_without_staleness(response) if batch else without_staleness(response)


def settled(call: Any, *, batch: bool = False) -> Outcome:
    """Wait for a call that grpcio made, a future from bytes to bytes."""
    try:
        response = call.result()
    except grpc.RpcError:
        sent = dict(call.trailing_metadata() or ())
        return call.code().name, {name: sent[name] for name in TRAILERS if name in sent}
    return "OK", batch_without_staleness(response) if batch else without_staleness(response)
