"""What the grpcio peers answer: the same verdicts from the same compiled keyring, behind grpcio's Python server.

The peers are given the best case that grpcio's Python server allows: requests are decoded by protobuf's C code, the
verdict is the compiled one, and responses are bytes already. What is measured against them is therefore the
transport. They differ from a node where the protobuf runtime does: a key that is not UTF-8 ends as INTERNAL, and
unknown critical fields are not noticed.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc

from verifier.client._request import varint
from verifier.errors import InvalidInput, Unavailable
from verifier.serving.keyring import Keyring
from verifier.v1.verifier_pb2 import VerifyBatchRequest, VerifyRequest

SERVICE = "verifier.v1.VerifierService"
BATCH_MAX = 1000
RETRY_AFTER_MS = "50"
OPTIONS = [("grpc.so_reuseport", 0)]


class Refused(Exception):
    """A call that ends with a gRPC status."""

    def __init__(self, status: grpc.StatusCode, message: str, trailers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.trailers = tuple((trailers or {}).items())


class Answers:
    """Answers decoded requests with encoded responses.

    Args:
        keyring: the in-process keyring; anything with its ``verify``.
    """

    def __init__(self, keyring: Any) -> None:
        self.keyring = keyring

    def verify(self, request: VerifyRequest) -> bytes:
        """Answer Verify; raises Refused."""
        try:
            answer = self.keyring.verify(
                request.key, request.required_scopes, request.client_address or None, probe=request.probe
            )
        except InvalidInput as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, error.message) from None
        except Unavailable as error:
            raise Refused(grpc.StatusCode.UNAVAILABLE, error.message) from None
        if answer.revision < request.min_revision:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION, "min_revision is not served yet",
                {"verifier-revision": str(answer.revision), "retry-after-ms": RETRY_AFTER_MS},
            )
        response: bytes = answer.response
        return response

    def verify_batch(self, batch: VerifyBatchRequest) -> bytes:
        """Answer VerifyBatch; raises Refused. Not of one second and revision, unlike a node's."""
        if len(batch.requests) > BATCH_MAX:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"more than {BATCH_MAX} requests in a batch")
        answers = [self.verify(request) for request in batch.requests]
        return b"".join(b"\x0a" + varint(len(answer)) + answer for answer in answers)


def arguments(description: str) -> argparse.Namespace:
    """Read the command line of a peer: --store, --listen, --workers."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--store", required=True, type=Path, help="folder with store and secrets")
    parser.add_argument("--listen", default="127.0.0.1:50061", help="host:port or unix:path; port 0 = any free one")
    parser.add_argument("--workers", type=int, default=8, help="threads (sync peer only)")
    return parser.parse_args()


def open_keyring(store: Path) -> Keyring:
    """Open the keyring that the peer answers from; it follows the store as a node does."""
    return Keyring.open(store)


def announce(listen: str, port: int) -> None:
    """Print where the peer listens, once it does; benchmarks wait for this line."""
    target = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
    print(f"listening on {target}", flush=True)
