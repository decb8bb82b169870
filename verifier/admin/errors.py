"""Errors over gRPC: a ``google.rpc.Status`` with an ``ErrorInfo``, from which the very same error is made again.

``ErrorInfo.reason`` is the error's code, its domain is ``verifier``, and its metadata holds hint and details.
"""

import json
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from verifier.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Unavailable,
    UnsoundPublication,
    VerifierError,
)

DOMAIN = "verifier"
DETAILS_BYTES_MAX = 3000  # many clients take no more than 8 KiB of trailers, and these go there in base64
TEXT_CHARACTERS_MAX = 1000

_CLASSES: Mapping[grpc.StatusCode, type[VerifierError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: UnsoundPublication,
    grpc.StatusCode.UNAUTHENTICATED: NotAuthenticated,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.INTERNAL: VerifierError,
}
_CODES = {made: code for code, made in reversed(list(_CLASSES.items()))}  # the first of each class
# Conflicts of other kinds than "not in this state": what a repeat can solve, and what is there already.
_ABORTED = {"ETAG_MISMATCH", "REGISTRY_BUSY", "PUBLISHER_BUSY"}
_EXISTING = {"REQUEST_ID_REUSED", "CLIENT_EXISTS", "KEY_EXISTS"}


def code_of(error: VerifierError) -> grpc.StatusCode:
    """Return the gRPC code that an error is sent with."""
    if isinstance(error, Conflict):
        if error.code in _ABORTED:
            return grpc.StatusCode.ABORTED
        if error.code in _EXISTING:
            return grpc.StatusCode.ALREADY_EXISTS
    return next((_CODES[made] for made in type(error).__mro__ if made in _CODES), grpc.StatusCode.INTERNAL)


def to_status(error: VerifierError) -> status_pb2.Status:
    """Write an error as it is sent."""
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN)
    if error.hint is not None:
        info.metadata["hint"] = error.hint[:TEXT_CHARACTERS_MAX]
    if error.details:
        info.metadata["details"] = _details_text(error.details)
    packed = any_pb2.Any()
    packed.Pack(info)
    number: int = code_of(error).value[0]
    return status_pb2.Status(code=number, message=error.message[:TEXT_CHARACTERS_MAX], details=[packed])


def from_rpc_error(error: grpc.RpcError) -> VerifierError:
    """Make the error again that the other side raised, or one that says why it could not be asked."""
    call: Any = error
    code: grpc.StatusCode = call.code()
    status = _status_of(call)
    info = None if status is None else _info_of(status)
    if status is not None and info is not None:
        return _CLASSES.get(code, VerifierError)(
            status.message, hint=info.metadata.get("hint"), code=info.reason, details=_details_of(info)
        )
    return _foreign(code, str(call.details() or code.name.lower()))


def _foreign(code: grpc.StatusCode, text: str) -> VerifierError:
    """Say what gRPC itself, or something in between, says."""
    text = text.splitlines()[0][:TEXT_CHARACTERS_MAX]
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(
            f"the control plane cannot be reached: {text}", hint="is `verifier control` running there, with TLS or not?"
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(
            "the control plane did not answer in time", hint="the command may have been carried out: repeat it with "
            "the same request id", code="DEADLINE_EXCEEDED",
        )  # fmt: skip
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if "larger than max" in text:
            return InvalidInput(f"too much for one message: {text}", code="TOO_LARGE")
        return Unavailable(f"the control plane takes no more calls now: {text}", code="OVERLOADED")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unavailable(
            "what answers there does not offer this", hint="is it the admin port, and a control plane of this version?",
            code="UNIMPLEMENTED",
        )  # fmt: skip
    made = _CLASSES.get(code, Unavailable)
    return made(text) if made is not VerifierError else VerifierError(text)


def _status_of(call: Any) -> status_pb2.Status | None:
    try:
        status: status_pb2.Status | None = rpc_status.from_call(call)
    except ValueError:  # of another server, or changed on its way
        return None
    return status


def _info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo | None:
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _details_of(info: error_details_pb2.ErrorInfo) -> dict[str, Any]:
    try:
        details = json.loads(info.metadata.get("details", "{}"))
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _details_text(details: Mapping[str, Any]) -> str:
    """Write details as JSON; lists that are too long for a trailer lose their ends."""
    kept = dict(details)
    while len(text := json.dumps(kept, separators=(",", ":"), default=str)) > DETAILS_BYTES_MAX:
        longest = max(kept, key=lambda name: len(json.dumps(kept[name], default=str)))
        if isinstance(kept[longest], list) and len(kept[longest]) > 1:
            kept[longest] = kept[longest][: len(kept[longest]) // 2]
        else:
            del kept[longest]
    return text
