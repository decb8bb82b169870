"""Serves the operators' API over gRPC: grpcio's own loop takes the calls, threads carry them out."""

import asyncio
import logging
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from verifier.admin import listening, local
from verifier.admin.desk import Desk
from verifier.admin.errors import to_status
from verifier.admin.face import Admin
from verifier.admin.gate import Gate, present_caller
from verifier.admin.tls import ServerTls, server_credentials
from verifier.admin.v1 import audit_pb2, lifecycle_pb2, node_pb2, publication_pb2, usage_pb2
from verifier.errors import Unavailable, VerifierError

# Attribute of Admin -> the service behind it.
SERVICES: dict[str, ServiceDescriptor] = {
    "lifecycle": lifecycle_pb2.DESCRIPTOR.services_by_name["LifecycleService"],
    "publication": publication_pb2.DESCRIPTOR.services_by_name["PublicationService"],
    "node": node_pb2.DESCRIPTOR.services_by_name["NodeService"],
    "audit": audit_pb2.DESCRIPTOR.services_by_name["AuditService"],
    "usage": usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
}
THREADS = 32
NODE_THREADS = 4
GATE_THREADS = 4
GRACE_S = 20.0
CALLS_MAX = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve.

    Args:
        listen: HOST:PORT (port 0 for any free one), or ``unix:PATH``.
        tls: needed unless only this machine can reach the place.
        message_bytes_max: largest request message; an import sends many.
    """

    listen: str
    tls: ServerTls | None = None
    message_bytes_max: int = 4 << 20


class AdminServer:
    """A server in a thread of its own. :meth:`start` and :meth:`stop` it, or use it as a context manager.

    Args:
        desk: what its methods work with; not closed here.
        settings: how to serve.

    Raises:
        InvalidInput: the place is no address.
        Unavailable: others could reach it, and there is no TLS (``TLS_NEEDED``), or TLS cannot be set up.
        NotFound: a certificate or key does not exist.
    """

    def __init__(self, desk: Desk, settings: Settings) -> None:
        self._desk = desk
        self._settings = settings
        self._place = listening.parse(settings.listen)
        if settings.tls is None and not self._place.is_local:
            raise Unavailable(
                f"{settings.listen} can be reached from other machines, and there is no TLS",
                hint="give a certificate and its key, or listen on 127.0.0.1 or a Unix socket",
                code="TLS_NEEDED",
            )
        self._credentials = None if settings.tls is None else server_credentials(settings.tls)
        self._threads = ThreadPoolExecutor(THREADS, "admin")
        # Apart: reports must come through while others wait for them, and whoever may read while reports wait.
        self._node_threads = ThreadPoolExecutor(NODE_THREADS, "admin-node")
        self._gate_threads = ThreadPoolExecutor(GATE_THREADS, "admin-gate")
        self._health = health.aio.HealthServicer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="admin-loop", daemon=True)
        self._server: Any = None
        self.port = 0

    @property
    def target(self) -> str:
        """Where it answers, as a client writes it."""
        if self._place.path is not None:
            return self._place.target
        return listening.Place(self._place.host, self.port).target

    def start(self) -> None:
        """Begin to serve.

        Raises:
            Unavailable: the place is taken, or cannot be listened at (``CANNOT_LISTEN``).
        """
        try:
            listening.check_free(self._place)
        except Unavailable:
            self._loop.close()
            raise
        self._thread.start()
        try:
            self._run(self._begin())
        except RuntimeError:
            self._end_loop()
            raise listening.cannot_listen(self._place) from None
        _log.info("the operators' API is served at %s", self.target)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Take no more calls, let those that are on their way end, and end.

        Args:
            grace_s: after so long the clients of calls that are still on their way are told that there is no answer;
                what such a call does is finished all the same.
        """
        if not self._thread.is_alive():
            return
        self._desk.stopping.set()
        self._run(self._end(grace_s))
        for threads in (self._threads, self._node_threads, self._gate_threads):
            threads.shutdown(wait=True, cancel_futures=True)
        self._end_loop()

    def __enter__(self) -> "AdminServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _begin(self) -> None:
        server = grpc.aio.server(
            interceptors=[Gate(self._desk.registry, self._gate_threads)],
            maximum_concurrent_rpcs=CALLS_MAX,
            options=[
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a lottery
                ("grpc.max_receive_message_length", self._settings.message_bytes_max),
                ("grpc.max_send_message_length", -1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
        )
        server.add_generic_rpc_handlers([self._handlers(part, service) for part, service in SERVICES.items()])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.full_name for service in SERVICES.values()]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        if self._credentials is None:
            self.port = server.add_insecure_port(self._place.target)
        else:
            self.port = server.add_secure_port(self._place.target, self._credentials)
        await server.start()
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server = server

    async def _end(self, grace_s: float) -> None:
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    # --- Methods -----------------------------------------------------------------------------------------------------

    def _handlers(self, part: str, service: ServiceDescriptor) -> Any:
        methods = {method.name: self._handler(part, method) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _handler(self, part: str, method: MethodDescriptor) -> Any:
        threads = self._node_threads if part == "node" else self._threads

        def called(admin: Admin) -> Callable[[Any], Any]:
            function: Callable[[Any], Any] = getattr(getattr(admin, part), method.name)
            return function

        async def one(request: Any, context: Any) -> Any:
            return await self._answer(called, request, context, threads)

        async def many(requests: Any, context: Any) -> Any:
            return await self._answer(called, self._pulled(requests, context), context, threads)

        kind = grpc.unary_unary_rpc_method_handler
        behaviour: Any = one
        if method.client_streaming:
            kind, behaviour = grpc.stream_unary_rpc_method_handler, many
        return kind(
            behaviour,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    async def _answer(
        self, called: Callable[[Admin], Callable[[Any], Any]], request: Any, context: Any, threads: Executor
    ) -> Any:
        """Have a thread carry a call out; answer with what it returns or raises."""
        caller = present_caller()

        def carry_out() -> Any:
            if caller.deadline is not None and time.monotonic() >= caller.deadline:
                raise Unavailable("the time for this call was over before it began", code="DEADLINE_EXCEEDED")
            return called(local.at(self._desk, caller))(request)

        error: VerifierError
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, carry_out)
        except VerifierError as raised:
            error = raised
        except Exception as raised:
            # The place, and nothing of the request: what an exception says may hold parts of it.
            place = "".join(traceback.format_tb(raised.__traceback__))
            _log.error("a call of the operators' API failed: %s\n%s", type(raised).__name__, place)
            error = VerifierError(f"the control plane failed: {type(raised).__name__}", hint="its log says where")
        await context.abort_with_status(rpc_status.to_status(to_status(error)))
        raise AssertionError("unreachable")

    def _pulled(self, requests: Any, context: Any) -> Iterator[Any]:
        """Yield the messages of a stream, in the thread that asks for them.

        Raises:
            Unavailable: the client went away; what came so far is not all.
        """

        async def following() -> Any:
            try:
                return await anext(requests)
            except StopAsyncIteration:
                return None

        while True:
            try:
                message = asyncio.run_coroutine_threadsafe(following(), self._loop).result()
            except BaseException as error:
                raise Unavailable("the stream broke off", code="CANCELLED") from error
            if message is None:
                break
            yield message
        if context.cancelled():
            raise Unavailable("the stream broke off", code="CANCELLED")
