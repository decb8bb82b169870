"""Verify behind grpcio's thread-pool server.

    python -m loadtest.peers.grpcio_sync --store DIR --listen 127.0.0.1:50061
"""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from loadtest.peers._answers import OPTIONS, SERVICE, Answers, Refused, announce, arguments, open_keyring
from verifier.v1.verifier_pb2 import VerifyBatchRequest, VerifyRequest


def _handler(method: Callable[[Any], bytes], request_type: Any) -> Any:
    def answer(request: Any, context: grpc.ServicerContext) -> bytes:
        try:
            return method(request)
        except Refused as refused:
            context.set_trailing_metadata(refused.trailers)
            context.abort(refused.status, refused.message)
            raise

    return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=request_type.FromString)


def make_server(keyring: Any, listen: str, workers: int = 8) -> tuple[grpc.Server, int]:
    """Return a server that is not started yet, and its port (1 for a Unix socket)."""
    answers = Answers(keyring)
    server = grpc.server(ThreadPoolExecutor(workers), options=OPTIONS)
    handlers = {
        "Verify": _handler(answers.verify, VerifyRequest),
        "VerifyBatch": _handler(answers.verify_batch, VerifyBatchRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server, server.add_insecure_port(listen)


def main() -> None:
    """Serve until a signal."""
    options = arguments(__doc__ or "")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with open_keyring(options.store) as keyring:
        server, port = make_server(keyring, options.listen, options.workers)
        server.start()
        announce(options.listen, port)
        stop.wait()
        server.stop(0.2).wait()


if __name__ == "__main__":
    main()
