"""Each example of docs/python-services.md is run as it stands, but for the places of store and node."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.style._sources import ROOT
from tests.support.guarded import GOOD, STRANGER, TRADER, stock
from tests.support.node import RunningNode
from verifier.client import Access
from verifier.client.guard.access import DEFAULT_PLACES

PAGE = (ROOT / "docs" / "python-services.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
KEY = {"authorization": f"Bearer {GOOD}"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    home: Path = tmp_path_factory.mktemp("page") / "home"
    stock(home)
    with RunningNode(home) as node:
        node.wait_for("serving")
        yield {"/srv/verifier": str(home), "127.0.0.1:50051": node.target}


def run(places: dict[str, str], mark: str) -> dict[str, Any]:
    """Run the example that holds a text; returns what it defines."""
    (source,) = [example for example in EXAMPLES if mark in example]
    for written, real in places.items():
        source = source.replace(written, real)
    defined: dict[str, Any] = {"__name__": "example"}
    exec(compile(source, mark, "exec"), defined)
    return defined


def ask(app: Any, *calls: tuple[str, str, dict[str, str]]) -> list[httpx.Response]:
    """Make calls to an ASGI application in one event loop."""

    async def asking() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
            return [await http.request(method, path, headers=headers) for method, path, headers in calls]

    return asyncio.run(asking())


def test_every_example_has_a_test_here():
    marks = ("FastAPI()", "def service", "Flask(", "get_wsgi_application()", "grpc.server(", "grpc.aio.server(")
    assert [1] * len(marks) == [sum(mark in example for example in EXAMPLES) for mark in marks]
    assert len(marks) == len(EXAMPLES)


def test_fastapi(places: dict[str, str]):
    app = run(places, "FastAPI()")["app"]
    trader = {"x-api-key": TRADER}
    me, nobody, refused, trades, order, health = ask(
        app, ("GET", "/me", KEY), ("GET", "/me", {}), ("GET", "/trades", KEY), ("GET", "/trades", trader),
        ("POST", "/orders", KEY), ("GET", "/healthz", {}),
    )  # fmt: skip
    assert {"client": "acme", "key": "key_good", "tier": "gold"} == me.json()
    assert [401, 403, 403, 404] == [each.status_code for each in (nobody, refused, order, health)]
    assert "trader" == trades.json()


def test_asgi_over_grpc(places: dict[str, str]):
    good, bad = ask(run(places, "def service")["app"], ("GET", "/", KEY), ("GET", "/", {"x-api-key": STRANGER}))
    assert ("acme", 401) == (good.text, bad.status_code)


def test_flask(places: dict[str, str]):
    with httpx.Client(transport=httpx.WSGITransport(run(places, "Flask(")["app"]), base_url="http://service") as http:
        assert ("acme", 401) == (http.get("/", headers=KEY).text, http.get("/").status_code)


def test_django(places: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    import django.core.wsgi

    def get_wsgi_application() -> Any:
        def application(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [environ["verifier.decision"].answer.client_id.encode()]

        return application

    # Django can be set up once in a process; test_wsgi.py does it, with a view.
    monkeypatch.setattr(django.core.wsgi, "get_wsgi_application", get_wsgi_application)
    app = run(places, "get_wsgi_application()")["application"]
    with httpx.Client(transport=httpx.WSGITransport(app), base_url="http://service") as http:
        assert ("acme", 401) == (http.get("/", headers=KEY).text, http.get("/").status_code)


def handlers(behavior: Any) -> Any:
    return grpc.method_handlers_generic_handler("shop.Orders", {"List": grpc.unary_unary_rpc_method_handler(behavior)})


def code_of(target: str, token: str) -> str:
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/shop.Orders/List").future(b"", metadata=(("x-api-key", token),), timeout=10)
        return call.code().name


def test_grpc_in_threads(places: dict[str, str]):
    server = run(places, "grpc.server(")["server"]
    server.add_generic_rpc_handlers([handlers(lambda request, _context: request)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert ["OK", "PERMISSION_DENIED", "UNAUTHENTICATED"] == [
        code_of(f"127.0.0.1:{port}", token) for token in (TRADER, GOOD, STRANGER)]
    server.stop(None)


def test_grpc_in_an_event_loop(places: dict[str, str]):
    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    async def serve() -> list[str]:
        server = run(places, "grpc.aio.server(")["make_server"]()
        server.add_generic_rpc_handlers((handlers(echo),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        codes = [await asyncio.to_thread(code_of, f"127.0.0.1:{port}", token) for token in (GOOD, STRANGER)]
        await server.stop(None)
        return codes

    assert ["OK", "UNAUTHENTICATED"] == asyncio.run(serve())


def test_every_setting_is_documented_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    assert set(Access.__dataclass_fields__) == set(rows)
    default = Access()
    assert ", ".join(f"`{place}`" for place in DEFAULT_PLACES) == rows["places"]
    assert [f"`{default.realm}`", f"`{default.disclose}`", f"`{default.on_unavailable}`"] == [
        rows["realm"], rows["disclose"], rows["on_unavailable"]]
    assert [()] * 4 == [default.scopes, default.routes, default.exempt, default.trusted_proxies]
    assert (True, "on") == (default.deprecation, rows["deprecation"])
