"""ASGI middleware with the real frameworks and a real server, over a node and in process."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route as Endpoint
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.guarded import (
    BOUND,
    EARLY,
    END_S,
    ENDLESS,
    GOOD,
    LEAKED,
    OVER,
    RETIRING,
    STRANGER,
    SUPERSEDED_S,
    TRADER,
    facts,
    stock,
    verifiers,
)
from tests.support.image import REVOKED, Facts
from tests.support.node import until
from tests.support.publications import Stocked, native
from verifier._answer import Answer
from verifier.client import Access, AsyncVerifierClient, Route, VerifierClient, caller, current_decision
from verifier.client.asgi import VerifierMiddleware
from verifier.client.starlette import caller as caller_of
from verifier.client.starlette import decision, requires
from verifier.errors import InvalidInput, NotAuthenticated, Unavailable
from verifier.serving.keyring import Keyring

PROBLEM = "application/problem+json"
ACCESS = Access(
    places=["authorization: Bearer", "x-api-key", "query:api_key"], scopes=["read"], exempt=["/healthz", "/ws-open"],
    routes=[Route("/orders", ["trade"], ["POST"])],
)  # fmt: skip


def seen(request: Request) -> dict[str, Any]:
    """What an endpoint gets to see of its request."""
    found = decision(request)
    return {
        "client": found.answer.client_id if found and found.answer else None,
        "same": current_decision() is found,
        "headers": {name: value for name, value in request.headers.items() if name.startswith(("x-", "auth"))},
        "query": request.url.query,
    }


def starlette_app() -> Starlette:
    async def plain(request: Request) -> Response:
        return JSONResponse(seen(request))

    def threaded(request: Request) -> Response:
        return JSONResponse(seen(request))

    async def deep(_request: Request) -> Response:
        return JSONResponse({"client": await run_in_threadpool(lambda: caller().client_id)})

    async def cached(_request: Request) -> Response:
        return Response("x", headers={"cache-control": "public, max-age=60"})

    async def stream(_request: Request) -> Response:
        async def parts() -> Any:
            for _ in range(3):
                await asyncio.sleep(0)
                yield caller().client_id + "\n"

        return StreamingResponse(parts())

    names = {"/": plain, "/threaded": threaded, "/deep": deep, "/cached": cached, "/stream": stream, "/healthz": plain}
    everything = [Endpoint(path, function) for path, function in names.items()]
    return Starlette(routes=[*everything, Endpoint("/orders", plain, methods=["GET", "POST"])])


def fastapi_app(verifier: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(VerifierMiddleware, verifier=verifier, access=ACCESS)

    @app.get("/me")
    async def me(who: Annotated[Answer, Depends(caller_of)]) -> dict[str, Any]:
        return {"client": who.client_id, "key": who.key_id, "scopes": who.scopes, "metadata": who.metadata}

    @app.get("/trades")
    def trades(who: Annotated[Answer, Depends(requires("trade"))]) -> str:
        return who.client_id

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, who: Annotated[Answer, Depends(caller_of)]) -> None:
        await websocket.accept()
        await websocket.send_json({"client": who.client_id, "same": caller().client_id == who.client_id})
        await websocket.close()

    @app.websocket("/ws-trade")
    async def ws_trade(websocket: WebSocket, who: Annotated[Answer, Depends(requires("trade"))]) -> None:
        await websocket.accept()
        await websocket.send_text(who.client_id)
        await websocket.close()

    return app


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return stock(tmp_path_factory.mktemp("asgi") / "home")


@pytest.fixture(scope="module", params=["keyring", "node"])
def verifier(request: pytest.FixtureRequest, stocked: Stocked) -> Iterator[Any]:
    with verifiers(request.param, stocked.home.folder) as (_, in_loops):
        yield in_loops


def for_another_loop(verifier: Any) -> Any:
    """Return a verifier like this one: a client belongs to the event loop of its first call."""
    if isinstance(verifier, AsyncVerifierClient):
        return AsyncVerifierClient(*verifier._settings.targets, timeout_s=5)
    return verifier


class Calling:
    """Calls an ASGI application in one event loop, as a synchronous client would."""

    def __init__(self, app: Any, peer: str = "192.0.2.7") -> None:
        self.loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app, client=(peer, 4711))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://service")

    def __call__(
        self, path: str = "/", token: str | None = None, method: str = "GET", **options: Any
    ) -> httpx.Response:
        headers = list(options.pop("headers", ()))
        if token is not None:
            headers.append(("authorization", f"Bearer {token}"))
        return self.loop.run_until_complete(self.http.request(method, path, headers=headers, **options))


@contextmanager
def calling(app: Any, **options: Any) -> Iterator[Calling]:
    call = Calling(app, **options)
    try:
        yield call
        call.loop.run_until_complete(call.http.aclose())
    finally:
        call.loop.close()


@pytest.fixture(scope="module")
def call(verifier: Any) -> Iterator[Calling]:
    with calling(VerifierMiddleware(starlette_app(), verifier, ACCESS)) as call:
        yield call
        if isinstance(verifier, AsyncVerifierClient):
            call.loop.run_until_complete(verifier.close())


@pytest.mark.parametrize("path", ["/", "/threaded"])
def test_a_good_key_passes_and_its_caller_is_known(call: Calling, path: str):
    answer = call(path, GOOD)
    assert 200 == answer.status_code
    assert {"client": "acme", "same": True} == {name: answer.json()[name] for name in ("client", "same")}
    assert "x-api-key-phase" not in answer.headers
    assert {"client": "acme"} == call("/deep", GOOD).json()
    assert "acme\n" * 3 == call("/stream", GOOD).text


def test_the_application_sees_neither_key_nor_forged_identity(call: Calling):
    forged = [("x-verifier-client", "root"), ("X-Verifier-Scopes", "admin"), ("x_verifier_client", "root")]
    forged.append(("x-mine", "1"))
    assert {"x-mine": "1"} == call("/", GOOD, headers=forged).json()["headers"]
    assert {"x-mine": "1"} == call("/", headers=[*forged, ("x-api-key", GOOD)]).json()["headers"]
    assert "a=%20&b" == call(f"/?a=%20&api_key={GOOD}&b").json()["query"]
    basic = call("/", headers=[("authorization", "Basic dXNlcg=="), ("x-api-key", GOOD)])
    assert {"authorization": "Basic dXNlcg=="} == basic.json()["headers"]


@pytest.mark.parametrize(("token", "status", "code"), [
    (STRANGER, 401, "invalid_key"), ("nonsense", 401, "invalid_key"), ("x" * 600, 401, "invalid_key"),
    (LEAKED, 401, "key_revoked"), (OVER, 401, "key_expired"), (EARLY, 401, "key_not_active"),
])
def test_refused_keys(call: Calling, token: str, status: int, code: str):
    answer = call("/", token)
    assert (status, code) == (answer.status_code, answer.json()["code"])
    assert (PROBLEM, "no-store") == (answer.headers["content-type"], answer.headers["cache-control"])
    assert 'Bearer realm="api", error="invalid_token"' == answer.headers["www-authenticate"]
    assert 'ApiKey realm="api"' == call("/", headers=[("x-api-key", token)]).headers["www-authenticate"]
    assert token not in answer.text


def test_no_key_and_more_than_one(call: Calling):
    missing = call("/")
    assert (401, "missing_key") == (missing.status_code, missing.json()["code"])
    assert 'Bearer realm="api"' == missing.headers["www-authenticate"]
    for headers, query in (([("x-api-key", GOOD)] * 2, ""), ([("x-api-key", GOOD)], f"?api_key={GOOD}")):
        answer = call(f"/{query}", headers=headers)
        assert (401, "multiple_keys") == (answer.status_code, answer.json()["code"])
    assert 401 == call("/", GOOD, headers=[("x-api-key", GOOD)]).status_code


def test_scopes_of_routes(call: Calling):
    refused = call("/orders", GOOD, "POST")
    assert (403, "insufficient_scope") == (refused.status_code, refused.json()["code"])
    assert 'Bearer realm="api", error="insufficient_scope", scope="trade"' == refused.headers["www-authenticate"]
    assert [200, 200] == [call("/orders", GOOD).status_code, call("/orders", TRADER, "POST").status_code]


def test_exempt_paths_need_no_key_and_have_no_identity(call: Calling):
    answer = call("/healthz", headers=[("x-verifier-client", "root")])
    assert {"client": None, "same": True, "headers": {}, "query": ""} == answer.json()
    assert 401 == call("/healthz/../").status_code


def test_the_address_is_that_of_the_peer(verifier: Any, stocked: Stocked):
    with Keyring.open(stocked.home.folder) as keyring:
        for peer, access, forwarded, status in (
            ("192.0.2.7", Access(), "10.0.0.1", 200), ("10.0.0.1", Access(), "192.0.2.7", 403),
            ("10.0.0.1", Access(trusted_proxies=["10.0.0.0/8"]), "192.0.2.7", 200),
            ("10.0.0.1", Access(trusted_proxies=["10.0.0.0/8"]), "192.0.2.7, 6.6.6.6", 403),
        ):
            with calling(VerifierMiddleware(starlette_app(), keyring, access), peer=peer) as call:
                assert status == call("/", BOUND, headers=[("x-forwarded-for", forwarded)]).status_code


def test_the_caller_is_told_of_the_end_of_its_version(call: Calling):
    answer = call("/", RETIRING)
    assert f"retiring; successor=2; end={END_S}" == answer.headers["x-api-key-phase"]
    assert (f"@{SUPERSEDED_S}", "Wed, 18 May 2033 03:33:20 GMT") == (
        answer.headers["deprecation"], answer.headers["sunset"])
    assert "private" == answer.headers["cache-control"]
    endless = call("/", ENDLESS).headers
    assert ("retiring; successor=3", False) == (endless["x-api-key-phase"], "sunset" in endless)
    cached = call("/cached", RETIRING).headers
    assert ["public, max-age=60", "private"] == cached.get_list("cache-control")


def test_fastapi_dependencies(verifier: Any):
    verifier = for_another_loop(verifier)
    with calling(fastapi_app(verifier)) as call:
        assert {"client": "acme", "key": "key_good", "scopes": ["read"], "metadata": {"tier": "gold"}} == (
            call("/me", GOOD).json())
        assert (200, "trader") == ((answer := call("/trades", TRADER)).status_code, answer.json())
        refused = call("/trades", GOOD)
        assert (403, PROBLEM, "insufficient_scope") == (
            refused.status_code, refused.headers["content-type"], refused.json()["code"])
        assert 'scope="trade"' in refused.headers["www-authenticate"]
        assert 401 == call("/me").status_code
        if isinstance(verifier, AsyncVerifierClient):
            call.loop.run_until_complete(verifier.close())


def test_refusals_from_within_pass_other_middleware(stocked: Stocked):
    class Between(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            answer: Response = await call_next(request)
            answer.headers["x-between"] = caller().client_id
            return answer

    with Keyring.open(stocked.home.folder) as keyring:
        app = FastAPI()
        app.add_middleware(Between)
        app.add_middleware(VerifierMiddleware, verifier=keyring)

        @app.get("/trades")
        async def trades(_who: Annotated[Answer, Depends(requires("trade"))]) -> str:
            return caller().client_id

        with calling(app) as call:
            assert ("trader", "trader") == ((answer := call("/trades", TRADER)).json(), answer.headers["x-between"])
            assert "insufficient_scope" == call("/trades", GOOD).json()["code"]


def test_a_refusal_after_the_response_began_is_an_error(stocked: Stocked):
    async def late(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        requires("trade")(HTTPConnection(_scope))

    with (
        Keyring.open(stocked.home.folder) as keyring,
        calling(VerifierMiddleware(late, keyring)) as call,
        pytest.raises(NotAuthenticated),
    ):
        call("/", GOOD)


# --- Faults ----------------------------------------------------------------------------------------------------------

class Broken:
    def verify(self, *_arguments: object) -> Answer:
        raise Unavailable("no keyring")


def test_faults_are_503_and_pass_only_where_told():
    with calling(VerifierMiddleware(starlette_app(), Broken(), ACCESS)) as call:
        answer = call("/", GOOD)
        assert (503, "1", "unavailable") == (answer.status_code, answer.headers["retry-after"], answer.json()["code"])
        assert "www-authenticate" not in answer.headers
        assert [401, 200] == [call("/").status_code, call("/healthz").status_code]
    with calling(VerifierMiddleware(starlette_app(), Broken(), Access(on_unavailable="allow"))) as call:
        answer = call("/", GOOD, headers=[("x-verifier-client", "root")])
        assert (200, None, {}) == (answer.status_code, answer.json()["client"], answer.json()["headers"])
        assert 401 == call("/").status_code
    app = Starlette(routes=[Endpoint("/", lambda _request: Response(caller().client_id))])
    app.add_middleware(VerifierMiddleware, verifier=Broken(), access=Access(on_unavailable="allow"))
    with calling(app) as call:
        assert 503 == call("/", GOOD).status_code, "what must know its caller is not there for nobody"


def test_a_node_that_is_gone_is_a_fault():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = AsyncVerifierClient(f"127.0.0.1:{unused.getsockname()[1]}", timeout_s=0.3)
        with calling(VerifierMiddleware(starlette_app(), client, ACCESS)) as call:
            assert 503 == call("/", GOOD).status_code
            call.loop.run_until_complete(client.close())


def test_a_closed_keyring_is_a_fault(stocked: Stocked):
    keyring = Keyring.open(stocked.home.folder)
    with calling(VerifierMiddleware(starlette_app(), keyring, ACCESS)) as call:
        assert 200 == call("/", GOOD).status_code
        keyring.close()
        assert 503 == call("/", GOOD).status_code


def test_what_would_block_the_loop_or_slip_past_is_refused(stocked: Stocked):
    with VerifierClient("127.0.0.1:1") as client, pytest.raises(InvalidInput):
        VerifierMiddleware(starlette_app(), client)
    middleware = VerifierMiddleware(starlette_app(), Broken())
    with pytest.raises(RuntimeError):
        asyncio.run(middleware({"type": "webtransport", "path": "/healthz"}, None, None))  # type: ignore[arg-type]


# --- Over real sockets -----------------------------------------------------------------------------------------------

@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application with uvicorn; yields host and port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def websocket(place: str, token: str | None) -> Any:
    return connect(f"ws://{place}", additional_headers={} if token is None else {"x-api-key": token})


def test_websockets_through_uvicorn(verifier: Any):
    with serving(fastapi_app(for_another_loop(verifier))) as place:
        with websocket(f"{place}/ws", GOOD) as socket_:
            assert {"client": "acme", "same": True} == json.loads(socket_.recv())
        with websocket(f"{place}/ws", RETIRING) as socket_:
            assert socket_.response.headers["x-api-key-phase"].startswith("retiring")
        with websocket(f"{place}/ws?api_key={GOOD}", None) as socket_:
            assert "acme" == json.loads(socket_.recv())["client"]
        with websocket(f"{place}/ws-trade", TRADER) as socket_:
            assert "trader" == socket_.recv()
        for path, token, status, code in (
            ("/ws", None, 401, "missing_key"), ("/ws", STRANGER, 401, "invalid_key"),
            ("/ws", LEAKED, 401, "key_revoked"), ("/ws-trade", GOOD, 403, "insufficient_scope"),
        ):
            with pytest.raises(InvalidStatus) as caught:
                websocket(f"{place}{path}", token)
            answer = caught.value.response
            assert (status, code) == (answer.status_code, json.loads(answer.body)["code"])


def test_a_websocket_on_a_server_without_denials_is_closed(stocked: Stocked):
    with Keyring.open(stocked.home.folder) as keyring:
        for guard, token, code in ((keyring, STRANGER, 1008), (Broken(), GOOD, 1013)):
            sent: list[Any] = []

            async def send(message: Any, sent: list[Any] = sent) -> None:
                sent.append(message)

            scope = {"type": "websocket", "path": "/ws", "headers": [(b"x-api-key", token.encode())]}
            middleware = VerifierMiddleware(starlette_app(), guard)
            asyncio.run(middleware(scope, None, send))  # type: ignore[arg-type]
            assert [("websocket.close", code)] == [(message["type"], message["code"]) for message in sent]


class Driving:
    """Calls a service without pause, each key on a connection of its own, until it is told to stop."""

    def __init__(self, place: str, tokens: dict[str, set[int]]) -> None:
        self.statuses = {token: Counter[int]() for token in tokens}
        self.phases: set[str] = set()
        self.faults: list[str] = []
        self._place = place
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=each, daemon=True) for each in tokens.items()]
        for thread in self._threads:
            thread.start()

    def _run(self, token: str, allowed: set[int]) -> None:
        with httpx.Client(base_url=f"http://{self._place}", headers={"x-api-key": token}, timeout=10) as http:
            while not self._stop.is_set():
                answer = http.get("/")
                self.statuses[token][answer.status_code] += 1
                self.phases.add(answer.headers.get("x-api-key-phase", ""))
                if answer.status_code not in allowed:
                    self.faults.append(f"{answer.status_code} {answer.text}")

    def until_more(self, token: str, status: int) -> None:
        """Wait until two more calls, one of them begun now, were answered so."""
        before = self.statuses[token][status]
        until(lambda: self.statuses[token][status] > before + 1)

    def stop(self) -> None:
        """Stop, and see that nothing went wrong."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        assert [] == self.faults


@pytest.mark.parametrize("kind", ["keyring", "node"])
def test_a_rotation_under_traffic(tmp_path: Path, kind: str):
    stocked = stock(tmp_path / "home")
    new = native(50)
    old = Facts(key_id="key_good", scopes=("read",))
    successor = Facts(key_id="key_good", version=2, scopes=("read",))
    with verifiers(kind, stocked.home.folder) as (_, verifier), serving(
        VerifierMiddleware(starlette_app(), verifier, ACCESS)
    ) as place:
        driving = Driving(place, {GOOD: {200, 401}, new: {401, 200}, TRADER: {200}})
        driving.until_more(GOOD, 200)
        driving.until_more(new, 401)
        assert {""} == driving.phases
        retiring = replace(old, superseded_at=int(time.time()), superseded_by=2)
        stocked.publish({**facts(), GOOD: retiring, new: successor})
        driving.until_more(new, 200)
        driving.until_more(GOOD, 200)
        assert 0 == driving.statuses[GOOD][401]
        assert {"", "retiring; successor=2"} == driving.phases
        for _ in range(5):
            stocked.publish({**facts(), GOOD: retiring, new: successor})
            driving.until_more(TRADER, 200)
        refused = driving.statuses[new][401]
        stocked.publish({**facts(), GOOD: replace(retiring, end=int(time.time())), new: successor})
        driving.until_more(GOOD, 401)
        driving.until_more(new, 200)
        driving.stop()
        assert refused == driving.statuses[new][401], "once the successor was good, it stayed so"


def test_a_revocation_reaches_open_connections(tmp_path: Path):
    stocked = stock(tmp_path / "home")
    with Keyring.open(stocked.home.folder) as keyring, serving(
        VerifierMiddleware(starlette_app(), keyring, ACCESS)
    ) as place, httpx.Client(base_url=f"http://{place}", headers={"x-api-key": GOOD}) as http:
        assert 200 == http.get("/").status_code
        stocked.publish({**facts(), GOOD: Facts(flags=REVOKED, scopes=("read",))})
        until(lambda: keyring.revision == 2)
        assert (401, "key_revoked") == ((answer := http.get("/")).status_code, answer.json()["code"])
