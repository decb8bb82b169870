"""What a guard adds to a request of a Python service, in process: ``python -m loadtest.guards``.

The service answers at once, so that a guarded minus a bare request is the guard. CPU of this process, best of rounds.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REQUESTS = 5_000
ROUNDS = 5
HEADERS = {
    "host": "api.example.com", "user-agent": "curl/8.5.0", "accept": "*/*", "accept-encoding": "gzip",
    "x-request-id": "3f0c6a52-77d1-4b73-a34d-5e5ff3d4a0c1", "cookie": "a=b", "content-type": "application/json",
}  # fmt: skip


def main() -> None:
    """Print one line for each kind of service."""
    from tests.support.guarded import GOOD, stock
    from verifier.client import Access
    from verifier.serving.keyring import Keyring

    with tempfile.TemporaryDirectory() as folder:
        stock(Path(folder) / "home")
        with Keyring.open(Path(folder) / "home") as keyring:
            verdict_us = _best_us(lambda: _repeat(lambda: keyring.verify(GOOD.encode(), ("read",), "192.0.2.7")))
            print(f"verdict alone       {verdict_us:7.2f} us")
            for name, measure in (("ASGI", _asgi), ("Starlette", _starlette), ("WSGI", _wsgi), ("gRPC", _grpc)):
                bare_us, guarded_us = measure(keyring, Access(scopes=["read"]), GOOD)
                print(f"{name:10} bare {bare_us:7.2f} us  guarded {guarded_us:7.2f} us  "
                      f"adds {guarded_us - bare_us:6.2f} us")


def _best_us(run: Callable[[], None]) -> float:
    best_s = float("inf")
    for _ in range(ROUNDS):
        begin_s = time.process_time()
        run()
        best_s = min(best_s, time.process_time() - begin_s)
    return best_s / REQUESTS * 1e6


def _repeat(call: Callable[[], Any]) -> None:
    for _ in range(REQUESTS):
        call()


def _asgi_us(app: Any, token: str) -> float:
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    headers.append((b"authorization", b"Bearer " + token.encode()))
    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "root_path": "",
             "headers": headers, "client": ("192.0.2.7", 4711), "server": ("127.0.0.1", 80), "scheme": "http",
             "http_version": "1.1"}  # fmt: skip

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def run() -> None:
        for _ in range(REQUESTS):
            await app(dict(scope), receive, send)

    return _best_us(lambda: asyncio.run(run()))


def _asgi(keyring: Any, access: Any, token: str) -> tuple[float, float]:
    from verifier.client.asgi import VerifierMiddleware

    async def service(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return _asgi_us(service, token), _asgi_us(VerifierMiddleware(service, keyring, access), token)


def _starlette(keyring: Any, access: Any, token: str) -> tuple[float, float]:
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import Response
    from starlette.routing import Route

    from verifier.client.asgi import VerifierMiddleware

    async def service(_request: Any) -> Response:
        return Response("ok")

    routes = [Route("/", service)]
    guard = Middleware(VerifierMiddleware, verifier=keyring, access=access)
    return _asgi_us(Starlette(routes=routes), token), _asgi_us(Starlette(routes=routes, middleware=[guard]), token)


def _wsgi(keyring: Any, access: Any, token: str) -> tuple[float, float]:
    from verifier.client.wsgi import VerifierMiddleware

    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in HEADERS.items()}
    environ |= {"HTTP_AUTHORIZATION": f"Bearer {token}", "REQUEST_METHOD": "GET", "PATH_INFO": "/",
                "REMOTE_ADDR": "192.0.2.7"}  # fmt: skip

    def service(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"ok"]

    def answered(status: str, _headers: Any) -> None:
        assert status == "200 OK"

    guarded = VerifierMiddleware(service, keyring, access)
    return tuple(  # type: ignore[return-value]
        _best_us(lambda app=app: _repeat(lambda: app(dict(environ), answered)))  # type: ignore[misc]
        for app in (service, guarded)
    )


class _Context:
    """What the interceptor asks of grpcio's context of a call."""

    def peer(self) -> str:
        """Return the peer as grpcio writes it."""
        return "ipv4:192.0.2.7:4711"


class _Details(NamedTuple):
    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


def _grpc(keyring: Any, access: Any, token: str) -> tuple[float, float]:
    import grpc

    from verifier.client.interceptors import VerifierInterceptor

    metadata = (("user-agent", "grpc-python/1.80"), ("x-request-id", "3f0c6a52"), ("authorization", f"Bearer {token}"))
    details, context = _Details("/shop.Orders/List", metadata), _Context()
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    interceptor = VerifierInterceptor(keyring, access)

    def guarded() -> None:
        found = interceptor.intercept_service(lambda _details: handler, details)
        assert found.unary_unary(b"ok", context) == b"ok"

    return _best_us(lambda: _repeat(lambda: handler.unary_unary(b"ok", context))), _best_us(lambda: _repeat(guarded))


if __name__ == "__main__":
    main()
