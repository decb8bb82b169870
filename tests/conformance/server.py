"""A grpcio server that answers VerifierService by functions from bytes to bytes: the oracle as a real server."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tests.conformance import reference
from tests.conformance.reference import Fault, Moment, Request, World
from verifier._view import View
from verifier.errors import InvalidInput

SERVICE = "verifier.v1.VerifierService"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
Method = Callable[[bytes], bytes]


class Reference:
    """Answers by the pure-Python reference.

    Attributes:
        world: what is served; None = no keyring.
        moment: makes clock and staleness for each call.
    """

    def __init__(self, world: World | None, moment: Callable[[], Moment]) -> None:
        self.world = world
        self.moment = moment

    def verify(self, message: bytes) -> bytes:
        return reference.verify(self.world, self.moment(), message)

    def verify_batch(self, message: bytes) -> bytes:
        return reference.verify_batch(self.world, self.moment(), message)


class InProcess:
    """Answers by the in-process view: decoder and gates of the reference, verdicts and bytes of the compiled code."""

    def __init__(self, world: World, view: View) -> None:
        self.world = world
        self.view = view

    def verify(self, message: bytes) -> bytes:
        request = reference.decode(message)
        reference.check(request)
        reference.pass_gates(self.world, Moment(0), [request], request.critical)
        return self._judge(request)

    def verify_batch(self, message: bytes) -> bytes:
        reference.verify_batch(self.world, Moment(0), message)  # the gates
        items = [value for number, wire, value in reference.fields(message) if (number, wire) == (1, 2)]
        answers = [self._judge(reference.decode(item)) for item in items if isinstance(item, bytes)]
        return b"".join(b"\x0a" + _varint(len(answer)) + answer for answer in answers)

    def _judge(self, request: Request) -> bytes:
        try:
            return self.view.verify(
                request.key, [scope.decode("ascii") for scope in request.scopes],
                request.address.decode("ascii") or None, probe=request.probe,
            ).response
        except InvalidInput:
            raise Fault(grpc.StatusCode.INVALID_ARGUMENT) from None


def _varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + _varint(value >> 7) if value > 0x7F else bytes([value])


def _handler(oracle: "OracleServer", name: str) -> Any:
    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            method: Method = getattr(oracle.methods, name)
            return method(message)
        except Fault as fault:
            context.set_trailing_metadata(tuple(fault.trailers.items()))
            context.abort(fault.status, "refused by a gate")
            raise

    return grpc.unary_unary_rpc_method_handler(answer)


class _Health(grpc.GenericRpcHandler):
    """Answers every health check with what it is told."""

    def __init__(self) -> None:
        self.serving = True

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(lambda _message, _context: SERVING if self.serving else NOT_SERVING)


class OracleServer:
    """A running server.

    Attributes:
        methods: what answers; may be replaced while it runs.
        target: where it listens.
        health: its health service.
    """

    def __init__(self, methods: Any, listen: str) -> None:
        self.methods = methods
        self.health = _Health()
        self.server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Verify": _handler(self, "verify"),
            "VerifyBatch": _handler(self, "verify_batch"),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers), self.health))
        port = self.server.add_insecure_port(listen)
        self.target = listen if listen.startswith("unix:") else f"127.0.0.1:{port}"
        self.server.start()


@contextmanager
def serving(methods: Any, listen: str = "127.0.0.1:0") -> Iterator[OracleServer]:
    """Run a server for the time of a ``with`` block."""
    oracle = OracleServer(methods, listen)
    try:
        yield oracle
    finally:
        oracle.server.stop(None).wait()
