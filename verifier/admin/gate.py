"""The gate of the operators' API: who calls, and whether he may. Only health needs nobody's name."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Executor
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import grpc
from grpc_status import rpc_status

from verifier.admin import identities
from verifier.admin.context import Caller
from verifier.admin.errors import to_status
from verifier.admin.roles import ALLOWED, REFLECTION, Role, require
from verifier.errors import NotAuthenticated, VerifierError
from verifier.registry.database import Registry

REFUSAL_DELAY_S = 0.5  # before whoever cannot say who he is learns so
PACKAGE = "/verifier.admin.v1."
HEALTH = "/grpc.health.v1.Health/"
REFLECTING = "/grpc.reflection."
BEARER = "bearer "

_log = logging.getLogger(__name__)
_caller: ContextVar[Caller] = ContextVar("caller")


def present_caller() -> Caller:
    """Return who made the call that is being answered."""
    return _caller.get()


class Gate(grpc.aio.ServerInterceptor):
    """Lets calls through to their methods, or refuses them.

    Args:
        registry: where identities are.
        executor: for looking them up.
    """

    def __init__(self, registry: Registry, executor: Executor) -> None:
        self._registry = registry
        self._executor = executor

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Put the gate before a method."""
        handler = await continuation(details)
        method: str = details.method
        if handler is None or method.startswith(HEALTH):
            return handler
        name = method.removeprefix(PACKAGE)
        allowed = REFLECTION if method.startswith(REFLECTING) else ALLOWED.get(name, frozenset())
        return self._guarded(handler, name, allowed)

    def _guarded(self, handler: Any, name: str, allowed: frozenset[Role]) -> Any:
        async def one(request: Any, context: Any) -> Any:
            await self._admit(context, name, allowed)
            return await (handler.unary_unary or handler.stream_unary)(request, context)

        async def many(requests: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(context, name, allowed)
            async for response in handler.stream_stream(requests, context):
                yield response

        codecs = {
            "request_deserializer": handler.request_deserializer, "response_serializer": handler.response_serializer
        }  # fmt: skip
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(one, **codecs)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(one, **codecs)
        return grpc.stream_stream_rpc_method_handler(many, **codecs)

    async def _admit(self, context: Any, name: str, allowed: frozenset[Role]) -> None:
        """Find out who calls, and remember it for the method; or end the call."""
        left_s: float | None = context.time_remaining()
        try:
            token, names = _token(context.invocation_metadata()), _certificate_names(context.auth_context())
            caller = await asyncio.get_running_loop().run_in_executor(
                self._executor, identities.authenticate, self._registry, token, names, int(time.time())
            )
            require(caller.role, allowed, name)
        except VerifierError as error:
            await self._refuse(context, name, error)
        else:
            _caller.set(replace(caller, deadline=None if left_s is None else time.monotonic() + left_s))

    async def _refuse(self, context: Any, name: str, error: VerifierError) -> None:
        if isinstance(error, NotAuthenticated):
            # Never what was sent: it may be a good token of somewhere else.
            _log.warning("%s from %s was refused: %s", name, context.peer(), error.message)
            await asyncio.sleep(REFUSAL_DELAY_S)
        await context.abort_with_status(rpc_status.to_status(to_status(error)))


def _token(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """Return the bearer token of a call; None when it has none.

    Raises:
        NotAuthenticated: the header is there, but is no single bearer token.
    """
    values = [value for name, value in metadata or () if name == "authorization"]
    if not values:
        return None
    if len(values) > 1 or not isinstance(values[0], str) or not values[0].lower().startswith(BEARER):
        raise NotAuthenticated("the authorization header is not one bearer token")
    return values[0][len(BEARER) :].strip()


def _certificate_names(auth: Any) -> list[str]:
    """Return the names in a verified client certificate."""
    found = [
        value.decode("utf-8", "replace")
        for name in ("x509_common_name", "x509_subject_alternative_name")
        for value in auth.get(name, ())
    ]
    return list(dict.fromkeys(found))
