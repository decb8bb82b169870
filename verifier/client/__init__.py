"""Clients of the Verify API for gateways and services, over grpcio.

    from verifier.client import VerifierClient

    with VerifierClient("127.0.0.1:50051") as client:
        answer = client.verify(token, required_scopes=["read"])
        if answer.valid:
            ...

A refused key is an answer. A fault (nothing listens, too late, no keyring) is an exception, so that it can be neither
taken for a refusal nor for a yes. :meth:`VerifierClient.decide` turns both into what an application answers its own
caller, and refuses during faults unless told otherwise.
"""

from verifier.client._asyncio import AsyncVerifierClient
from verifier.client._decision import Decision
from verifier.client._request import BATCH_MAX, Question
from verifier.client._retry import Retries
from verifier.client._sync import VerifierClient
from verifier.client.errors import BadRequest, DeadlineExceeded, RevisionNotServed, VerifierUnavailable

__all__ = [
    "BATCH_MAX",
    "AsyncVerifierClient",
    "BadRequest",
    "DeadlineExceeded",
    "Decision",
    "Question",
    "Retries",
    "RevisionNotServed",
    "VerifierClient",
    "VerifierUnavailable",
]
