"""Clients of the Verify API for gateways and services, over grpcio.

    from verifier.client import VerifierClient

    with VerifierClient("127.0.0.1:50051") as client:
        answer = client.verify(token, required_scopes=["read"])
        if answer.valid:
            ...

A refused key is an answer. A fault (nothing listens, too late, no keyring) is an exception, so that it can be neither
taken for a refusal nor for a yes. :meth:`VerifierClient.decide` turns both into what an application answers its own
caller, and refuses during faults unless told otherwise.

Services guard themselves with :mod:`verifier.client.asgi`, :mod:`verifier.client.wsgi` or
:mod:`verifier.client.interceptors`, and learn by :func:`caller` whom they serve.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from verifier.client._decision import Decision
from verifier.client.guard.access import Access, Route
from verifier.client.guard.current import caller, current_decision

if TYPE_CHECKING:
    from verifier.client._asyncio import AsyncVerifierClient
    from verifier.client._request import BATCH_MAX, Question
    from verifier.client._retry import Retries
    from verifier.client._sync import VerifierClient
    from verifier.client.errors import BadRequest, DeadlineExceeded, RevisionNotServed, VerifierUnavailable

__all__ = [
    "BATCH_MAX",
    "Access",
    "AsyncVerifierClient",
    "BadRequest",
    "DeadlineExceeded",
    "Decision",
    "Question",
    "Retries",
    "RevisionNotServed",
    "Route",
    "VerifierClient",
    "VerifierUnavailable",
    "caller",
    "current_decision",
]

# Loaded when they are first asked for: a service with a Keyring in process does without grpcio, its time and memory.
_OVER_GRPC = {
    "AsyncVerifierClient": "_asyncio",
    "BATCH_MAX": "_request",
    "BadRequest": "errors",
    "DeadlineExceeded": "errors",
    "Question": "_request",
    "Retries": "_retry",
    "RevisionNotServed": "errors",
    "VerifierClient": "_sync",
    "VerifierUnavailable": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _OVER_GRPC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_OVER_GRPC[name]}"), name)
    globals()[name] = value
    return value
