"""Verify behind grpcio's asyncio server.

    python -m loadtest.peers.grpcio_aio --store DIR --listen 127.0.0.1:50062
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from loadtest.peers._answers import OPTIONS, SERVICE, Answers, Refused, announce, arguments, open_keyring
from verifier.v1.verifier_pb2 import VerifyBatchRequest, VerifyRequest


def _handler(method: Callable[[Any], bytes], request_type: Any) -> Any:
    async def answer(request: Any, context: "grpc.aio.ServicerContext[Any, bytes]") -> bytes:
        try:
            return method(request)
        except Refused as refused:
            await context.abort(refused.status, refused.message, refused.trailers)
            raise

    return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=request_type.FromString)


def make_server(keyring: Any, listen: str) -> tuple[grpc.aio.Server, int]:
    """Return a server that is not started yet, and its port; call it inside the running loop."""
    answers = Answers(keyring)
    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "Verify": _handler(answers.verify, VerifyRequest),
        "VerifyBatch": _handler(answers.verify_batch, VerifyBatchRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server, server.add_insecure_port(listen)


async def serve(keyring: Any, listen: str) -> None:
    """Serve until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server, port = make_server(keyring, listen)
    await server.start()
    announce(listen, port)
    await stop.wait()
    await server.stop(0.2)


def main() -> None:
    """Open the keyring and serve."""
    options = arguments(__doc__ or "")
    with open_keyring(options.store) as keyring:
        asyncio.run(serve(keyring, options.listen))


if __name__ == "__main__":
    main()
