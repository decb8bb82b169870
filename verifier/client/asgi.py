"""ASGI middleware: no request reaches the application without a good key. Needs no framework.

    app = VerifierMiddleware(app, Keyring.open("/srv/verifier"), Access(scopes=["read"], exempt=["/healthz"]))

The application finds the decision in ``scope["verifier.decision"]``, and anything it calls by
:func:`verifier.client.caller`. It never sees the key, nor a header that claims an identity.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from verifier.client._decision import Decision
from verifier.client.guard.access import Access
from verifier.client.guard.current import NAME, Refused, current
from verifier.client.guard.guarding import AsyncGuard, Verifies, VerifiesAsync
from verifier.client.guard.presented import Place, Presented, is_identity
from verifier.client.guard.retiring import headers_for, is_retiring

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RawHeaders = list[tuple[bytes, bytes]]
DENIAL = "websocket.http.response"
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


class VerifierMiddleware:
    """Guards an ASGI application, its websockets included.

    Args:
        app: the application.
        verifier: an ``AsyncVerifierClient``, the in-process ``Keyring``, or anything with such a ``verify``.
        access: how the application is guarded; by default any good key will do.

    Raises:
        InvalidInput: the verifier would block the event loop.
    """

    def __init__(self, app: App, verifier: Verifies | VerifiesAsync, access: Access | None = None) -> None:
        self._app = app
        self._guard = AsyncGuard(verifier, access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the ASGI server."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise RuntimeError(f"requests of type {scope['type']!r} cannot be guarded")
        guard = self._guard
        scopes = guard.routing.scopes(scope["path"], scope.get("method", "GET"))
        if scopes is None:
            await self._app({**scope, "headers": _kept(scope["headers"], None)}, receive, send)
            return
        presented = guard.places.find(scope["headers"], scope.get("query_string", b""))
        decision = await guard.judge(presented, scopes, self._address(scope))
        if not decision.allowed:
            await self._refuse(decision, presented.place, scopes, scope, send)
            return
        await self._pass_on(decision, presented, scope, receive, send)

    async def _pass_on(
        self, decision: Decision, presented: Presented, scope: Scope, receive: Receive, send: Send
    ) -> None:
        response = _Response(send, decision, self._guard.access.deprecation)
        inner = {
            **scope,
            "headers": _kept(scope["headers"], presented.place),
            "query_string": self._guard.places.stripped_query(scope.get("query_string", b"")),
            NAME: decision,
        }
        token = current.set(decision)
        try:
            await self._app(inner, receive, response.send)
        except Refused as refused:
            if response.has_begun:
                raise
            await self._refuse(refused.decision, presented.place, refused.scopes, scope, send)
        finally:
            current.reset(token)

    def _address(self, scope: Scope) -> str | None:
        client = scope.get("client")
        forwarded: list[bytes] = []
        if self._guard.access.trusted_proxies:
            forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return self._guard.addresses.client(client[0] if client else None, forwarded)

    async def _refuse(
        self, decision: Decision, place: Place | None, scopes: tuple[str, ...], scope: Scope, send: Send
    ) -> None:
        refusals = self._guard.refusals
        kind = "http.response"
        if scope["type"] == "websocket":
            kind = DENIAL
            if DENIAL not in (scope.get("extensions") or {}):
                later = decision.http_status == HTTPStatus.SERVICE_UNAVAILABLE
                code = TRY_AGAIN_LATER if later else POLICY_VIOLATION
                await send({"type": "websocket.close", "code": code, "reason": refusals.code(decision)})
                return
        body = refusals.body(decision)
        headers = [*refusals.headers(decision, place, scopes), ("content-length", str(len(body)))]
        raw = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": f"{kind}.start", "status": decision.http_status, "headers": raw})
        await send({"type": f"{kind}.body", "body": body})


def _kept(headers: Iterable[tuple[bytes, bytes]], place: Place | None) -> RawHeaders:
    """Return the headers without the one that held the key, and without those that claim an identity."""
    held = b"" if place is None or place.in_query else place.name
    return [pair for pair in headers if pair[0] != held and not (pair[0].startswith(b"x") and is_identity(pair[0]))]


class _Response:
    """What the application sends, with what the caller is told of its key's version."""

    __slots__ = ("_added", "_send", "has_begun")

    def __init__(self, send: Send, decision: Decision, deprecation: bool) -> None:
        self.has_begun = False
        self._send = send
        self._added: RawHeaders = []
        if decision.answer is not None and is_retiring(decision):
            headers = headers_for(decision.answer, deprecation)
            self._added = [(name.encode(), value.encode()) for name, value in headers]

    async def send(self, message: Message) -> None:
        if not self.has_begun:
            self.has_begun = True
            if self._added and message["type"] in ("http.response.start", "websocket.accept"):
                message = {**message, "headers": [*(message.get("headers") or ()), *self._added]}
        await self._send(message)
