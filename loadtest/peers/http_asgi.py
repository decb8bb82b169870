"""HTTP peers: forward-auth by the in-process keyring, behind Python's servers.

Each answers ``GET /v1/authz`` with 200 or 401 and the identity headers that fit into one answer of the keyring. The
verdict is the compiled one, so what is measured against a node is the transport::

    uvicorn --loop uvloop --http httptools loadtest.peers.http_asgi:bare        # ASGI without a framework
    uvicorn --loop uvloop --http httptools loadtest.peers.http_asgi:starlette   # the plain ASGI framework
    granian --interface asgi loadtest.peers.http_asgi:bare                      # a server in Rust

The store comes from ``VERIFIER_STORE``.
"""

import os
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any

from verifier.serving.keyring import Keyring

Send = Callable[[dict[str, Any]], Awaitable[None]]
BEARER = b"Bearer "


@cache
def keyring() -> Keyring:
    """Open the keyring, once in a process and not before its server has forked."""
    return Keyring.open(os.environ["VERIFIER_STORE"])


def token_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return what the caller presented as a bearer token, or nothing."""
    for name, value in headers:
        if name == b"authorization" and value.startswith(BEARER):
            return value[len(BEARER):]
    return b""


def identity(token: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Judge a token; return the HTTP status and the headers of the answer."""
    answer = keyring().verify(token)
    if not answer.valid:
        return 401, [(b"content-length", b"0"), (b"www-authenticate", b'Bearer realm="verifier"')]
    return 200, [
        (b"content-length", b"0"), (b"cache-control", b"no-store"),
        (b"x-verifier-client", answer.client_id.encode()), (b"x-verifier-key-id", answer.key_id.encode()),
        (b"x-verifier-version", b"%d" % answer.version), (b"x-verifier-phase", answer.phase.name.encode()),
        (b"x-verifier-scopes", " ".join(answer.scopes).encode()), (b"x-verifier-revision", b"%d" % answer.revision),
    ]  # fmt: skip


async def bare(scope: dict[str, Any], receive: object, send: Send) -> None:
    """Answer as an ASGI application by hand."""
    if scope["type"] != "http":
        return
    status, headers = identity(token_of(scope["headers"]))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def authz(request: Request) -> Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        status, headers = identity(token.encode())
        return Response(status_code=status, headers={name.decode(): value.decode() for name, value in headers})

    return Starlette(routes=[Route("/v1/authz", authz, methods=["GET", "HEAD", "POST"])])


def __getattr__(name: str) -> Any:
    if name == "starlette":
        return _starlette()
    raise AttributeError(name)
