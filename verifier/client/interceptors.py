"""gRPC server interceptors: no call reaches a servicer without a good key. For grpcio, threads and asyncio.

    server = grpc.server(pool, interceptors=[VerifierInterceptor(Keyring.open("/srv/verifier"))])
    server = grpc.aio.server(interceptors=[AsyncVerifierInterceptor(AsyncVerifierClient("127.0.0.1:50051"))])

Each call is judged once, streams too, before its first message is taken. Servicers learn whom they serve by
:func:`verifier.client.caller`, never from metadata: what a caller writes there proves nothing.
"""

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from verifier.client._decision import Decision
from verifier.client.guard.access import Access
from verifier.client.guard.current import current
from verifier.client.guard.guarding import AsyncGuard, Guard, Verifies, VerifiesAsync
from verifier.client.guard.presented import Presented
from verifier.client.guard.rpc import client_address, presented_in, refusal, trailers

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in its stub only


class _Asked(NamedTuple):
    """What is known of a call before it is judged."""

    presented: Presented
    scopes: tuple[str, ...]
    metadata: Any

    @classmethod
    def of(cls, guard: Guard | AsyncGuard, details: grpc.HandlerCallDetails) -> "_Asked | None":
        scopes = guard.routing.scopes(details.method, "")
        if scopes is None:
            return None
        return cls(presented_in(guard, details.invocation_metadata), scopes, details.invocation_metadata)


class _Over(Exception):
    """Ends a handler whose call was refused; grpcio has sent the status already."""


class VerifierInterceptor(grpc.ServerInterceptor):
    """Guards a ``grpc.server``.

    Args:
        verifier: a ``VerifierClient``, the in-process ``Keyring``, or anything with such a ``verify``.
        access: how the services are guarded; paths are ``/package.Service/Method``.

    Raises:
        InvalidInput: the verifier is for event loops.
    """

    def __init__(self, verifier: Verifies, access: Access | None = None) -> None:
        self._guard = Guard(verifier, access)

    def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], "Handler | None"], handler_call_details: Any
    ) -> "Handler | None":
        """Put the judgement in front of a call's handler."""
        handler = continuation(handler_call_details)
        asked = _Asked.of(self._guard, handler_call_details)
        if handler is None or asked is None:
            return handler

        def begin(context: Any) -> contextvars.Context:
            address = client_address(self._guard, context.peer(), asked.metadata)
            decision = self._guard.judge(asked.presented, asked.scopes, address)
            return _entered(context, decision, self._guard, asked)

        return _rebuilt(handler, _unary(handler, begin), _stream(handler, begin))


class AsyncVerifierInterceptor(grpc.aio.ServerInterceptor):
    """Guards a ``grpc.aio.server``, whether its handlers are coroutines, generators or plain functions.

    Args:
        verifier: an ``AsyncVerifierClient``, the in-process ``Keyring``, or anything with such a ``verify``.
        access: how the services are guarded; paths are ``/package.Service/Method``.

    Raises:
        InvalidInput: the verifier would block the event loop.
    """

    def __init__(self, verifier: Verifies | VerifiesAsync, access: Access | None = None) -> None:
        self._guard = AsyncGuard(verifier, access)

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Put the judgement in front of a call's handler."""
        handler = await continuation(handler_call_details)
        asked = _Asked.of(self._guard, handler_call_details)
        if handler is None or asked is None:
            return handler
        loop = asyncio.get_running_loop()

        async def judged(context: Any) -> Decision:
            address = client_address(self._guard, context.peer(), asked.metadata)
            return await self._guard.judge(asked.presented, asked.scopes, address)

        def begin(context: Any) -> contextvars.Context:
            # Plain functions run in threads of grpcio's, where waiting for the loop is no harm.
            decision = asyncio.run_coroutine_threadsafe(judged(context), loop).result()
            return _entered(context, decision, self._guard, asked)

        async def enter(context: Any) -> None:
            decision = await judged(context)
            if not decision.allowed:
                code, text, metadata = refusal(self._guard, decision, asked.scopes)
                await context.abort(code, text, metadata)
            _announce(context, decision)
            current.set(decision)  # each call has a task of its own

        behavior = _behavior(handler)
        if inspect.isasyncgenfunction(behavior):
            return _rebuilt(handler, None, _async_stream(behavior, enter))
        if inspect.iscoroutinefunction(behavior):
            wrapped = _async_unary(behavior, enter)
            return _rebuilt(handler, wrapped, wrapped)
        return _rebuilt(handler, _unary(handler, begin), _stream(handler, begin))


def _entered(context: Any, decision: Decision, guard: Guard | AsyncGuard, asked: _Asked) -> contextvars.Context:
    """Return the context to run a handler in, or end the call."""
    if not decision.allowed:
        code, text, metadata = refusal(guard, decision, asked.scopes)
        context.set_trailing_metadata(metadata)
        context.abort(code, text)
        raise _Over  # in a thread of an asyncio server, abort returns
    _announce(context, decision)
    within = contextvars.copy_context()
    within.run(current.set, decision)
    return within


def _announce(context: Any, decision: Decision) -> None:
    metadata = trailers(decision)
    if metadata:
        context.set_trailing_metadata(metadata)


def _unary(handler: Any, begin: Callable[[Any], contextvars.Context]) -> Callable[[Any, Any], Any]:
    behavior = _behavior(handler)

    def unary(request: Any, context: Any) -> Any:
        return begin(context).run(behavior, request, context)

    return unary


def _stream(handler: Any, begin: Callable[[Any], contextvars.Context]) -> Callable[[Any, Any], Iterator[Any]]:
    behavior = _behavior(handler)

    def stream(request: Any, context: Any) -> Iterator[Any]:
        within = begin(context)
        answers = within.run(behavior, request, context)
        iterator = within.run(iter, answers)
        try:
            # Piece by piece in the call's context: grpcio may take them from different threads.
            while (answer := within.run(next, iterator, _END)) is not _END:
                yield answer
        finally:
            close = getattr(answers, "close", None)
            if close is not None:
                within.run(close)

    return stream


def _async_unary(behavior: Any, enter: Callable[[Any], Awaitable[None]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def unary(request: Any, context: Any) -> Any:
        await enter(context)
        return await behavior(request, context)

    return unary


def _async_stream(behavior: Any, enter: Callable[[Any], Awaitable[None]]) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await enter(context)
        async with aclosing(behavior(request, context)) as answers:
            async for answer in answers:
                yield answer

    return stream


def _behavior(handler: Any) -> Any:
    return handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream


def _rebuilt(handler: Any, unary: Any, stream: Any) -> "Handler":
    """Return the handler with another function in it: ``unary`` where it answers once, else ``stream``."""
    make: Any
    if handler.response_streaming:
        make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else (
            grpc.unary_stream_rpc_method_handler)
    else:
        make = grpc.stream_unary_rpc_method_handler if handler.request_streaming else (
            grpc.unary_unary_rpc_method_handler)
    rebuilt: Handler = make(
        stream if handler.response_streaming else unary,
        request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer,
    )
    return rebuilt


_END: Any = object()
