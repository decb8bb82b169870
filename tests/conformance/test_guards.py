"""Guards of Python services answer callers as a node's own gateway endpoints do, to the byte."""

import asyncio
import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st

from tests.support.ext_authz import Gateway, Told, request, told
from tests.support.guarded import (
    BOUND,
    EARLY,
    ENDLESS,
    GOOD,
    LEAKED,
    OVER,
    RETIRING,
    STRANGER,
    TRADER,
    stock,
)
from tests.support.node import RunningNode
from verifier.client import Access
from verifier.client.asgi import VerifierMiddleware
from verifier.client.wsgi import VerifierMiddleware as WsgiMiddleware
from verifier.errors import Unavailable
from verifier.serving.keyring import Keyring

PLACES = ["authorization: Bearer", "x-api-key", "query:api_key"]
SETTINGS = {"full": {}, "minimal": {"disclose": "minimal", "realm": "shop", "deprecation": False}}
LITTLE = ["--authz-disclose", "minimal", "--authz-realm", "shop", "--authz-deprecation", "off"]
HTTP = ["--http-listen", "127.0.0.1:0", "--http-address-header", "x-real-ip"]
OPTIONS = {"full": [], "minimal": LITTLE}
# What refusals and retirement are told with; what else the application's response has is its own.
TOLD = {"www-authenticate", "cache-control", "retry-after", "x-api-key-phase", "deprecation", "sunset"}
TOKENS = {"good": GOOD, "trader": TRADER, "leaked": LEAKED, "retiring": RETIRING, "over": OVER, "bound": BOUND,
          "early": EARLY, "endless": ENDLESS, "stranger": STRANGER, "malformed": "vk_live_nonsense",
          "long": "x" * 600}  # fmt: skip


async def application(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class All:
    """A node, asked by Envoy's Check and by plain HTTP, and a guarded application over the same store."""

    def __init__(self, gateway: Gateway, http: http.client.HTTPConnection, verifier: Any, disclose: str) -> None:
        self._gateway = gateway
        self._http = http
        self._verifier = verifier
        self._settings: dict[str, Any] = SETTINGS[disclose]

    def forwarded(self, headers: list[tuple[str, str]], query: str, scopes: list[str], address: str) -> tuple[Any, ...]:
        self._http.putrequest("GET", f"/v1/authz?scopes={','.join(scopes)}" if scopes else "/v1/authz")
        asked = [*headers, ("x-real-ip", address), ("x-forwarded-uri", f"/x?{query}" if query else "/x")]
        for name, value in asked:
            self._http.putheader(name, value)
        self._http.endheaders()
        answer = self._http.getresponse()
        body, told_ = answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
        if answer.status != 200:
            assert "application/problem+json" == told_["content-type"]
        else:  # this answer itself, which nobody but the gateway gets, is not to be kept either
            assert "no-store" == told_.pop("cache-control")
            if "x-api-key-phase" in told_:
                told_["cache-control"] = "private"
        return answer.status, body, {name: value for name, value in told_.items() if name in TOLD}

    def check(self, headers: list[tuple[str, str]], query: str, scopes: list[str], address: str) -> tuple[Any, ...]:
        raw = [(name, value.encode()) for name, value in headers]
        message = request(raw=raw, path=f"/x?{query}" if query else "/x", scopes=" ".join(scopes), address=address)
        answer: Told = told(self._gateway.send(message.SerializeToString()))
        caller = answer.caller if answer.status == 200 else answer.headers
        return answer.status, answer.body, {name: value for name, value in caller.items() if name in TOLD}

    def guard(self, headers: list[tuple[str, str]], query: str, scopes: list[str], address: str) -> tuple[Any, ...]:
        access = Access(places=PLACES, scopes=scopes, **self._settings)
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/x", "query_string": query.encode(), "client": (address, 1),
                 "headers": [(name.encode(), value.encode()) for name, value in headers]}  # fmt: skip
        asyncio.run(VerifierMiddleware(application, self._verifier, access)(scope, None, send))  # type: ignore[arg-type]
        start, body = sent
        if start["status"] != 200:
            assert (b"content-type", b"application/problem+json") in start["headers"]
        told_ = {name.decode(): value.decode() for name, value in start["headers"] if name.decode() in TOLD}
        return start["status"], body["body"].decode(), told_

    def wsgi(self, headers: list[tuple[str, str]], query: str, scopes: list[str], address: str) -> tuple[Any, ...]:
        environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "QUERY_STRING": query,
                                   "REMOTE_ADDR": address}  # fmt: skip
        for name, value in headers:  # servers join a header that comes twice
            variable = f"HTTP_{name.upper().replace('-', '_')}"
            environ[variable] = f"{environ[variable]},{value}" if variable in environ else value
        started: list[Any] = []

        def application(_environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return []

        access = Access(places=PLACES, scopes=scopes, **self._settings)
        guarded = WsgiMiddleware(application, self._verifier, access)
        body = b"".join(guarded(environ, lambda *arguments: started.extend(arguments)))  # type: ignore[arg-type,func-returns-value]
        told_ = {name.lower(): value for name, value in started[1]}
        return int(started[0][:3]), body.decode(), {name: value for name, value in told_.items() if name in TOLD}

    def agree(self, headers: list[tuple[str, str]], query: str = "", scopes: tuple[str, ...] = (),
              address: str = "203.0.113.9") -> tuple[Any, ...]:  # fmt: skip
        told_ = self.guard(headers, query, list(scopes), address)
        assert told_ == self.wsgi(headers, query, list(scopes), address)
        assert told_ == self.check(headers, query, list(scopes), address)
        assert told_ == self.forwarded(headers, query, list(scopes), address)
        return told_


def connection_to(node: RunningNode) -> Any:
    return closing(http.client.HTTPConnection(node.wait_for("listening")["http"][0], timeout=10))


@pytest.fixture(scope="module", params=SETTINGS)
def every(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[All]:
    stocked = stock(tmp_path_factory.mktemp("guards") / "home")
    places = [part for place in PLACES for part in ("--authz-keys", place)]
    with (
        RunningNode(stocked.home.folder, *places, *HTTP, *OPTIONS[request.param]) as node,
        Keyring.open(stocked.home.folder) as keyring,
    ):
        node.wait_for("serving")
        with Gateway(node.target) as gateway, connection_to(node) as connection:
            yield All(gateway, connection, keyring, request.param)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("place", ["bearer", "header", "query"])
def test_every_verdict_in_every_place(every: All, place: str, token: str):
    headers = {"bearer": [("authorization", f"Bearer {TOKENS[token]}")], "header": [("x-api-key", TOKENS[token])]}
    query = f"api_key={TOKENS[token]}" if place == "query" else ""
    for scopes in ((), ("read",), ("trade", "admin")):
        for address in ("203.0.113.9", "192.0.2.7"):
            status = every.agree(headers.get(place, []), query, scopes, address)[0]
    assert status == (403 if token in ("good", "trader", "retiring", "endless", "bound") else 401)


VALUES = ["", " ", "Bearer", f"Bearer {GOOD}", f"bearer\t{GOOD} ", "Bearer a, Bearer b", f"Basic a, Bearer {GOOD}",
          "Basic a", GOOD, f"{GOOD},", f" {GOOD}", "a,b", "Bearer Bearer", f"Bearer{GOOD}"]  # fmt: skip


@configured(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["authorization", "x-api-key", "x-other"]), st.sampled_from(VALUES)),
             max_size=3),
    st.lists(st.sampled_from([f"api_key={GOOD}", "api_key=", "api_key", "a=b", "", f"api_key={GOOD}%20", "api_key=%"]),
             max_size=3),
)
def test_whatever_presents_keys(every: All, headers: list[tuple[str, str]], parameters: list[str]):
    every.agree(headers, "&".join(parameters))


def test_faults(tmp_path: Path):
    class Broken:
        def verify(self, *_arguments: object) -> Any:
            raise Unavailable("no keyring")

    (tmp_path / "home" / "store").mkdir(parents=True)
    with (
        RunningNode(tmp_path / "home", *HTTP) as node,
        Gateway(node.target) as gateway,
        connection_to(node) as connection,
    ):
        every = All(gateway, connection, Broken(), "full")
        told_ = every.forwarded([("x-api-key", GOOD)], "", [], "192.0.2.7")
        assert told_ == every.guard([("x-api-key", GOOD)], "", [], "192.0.2.7")
        assert (503, {"retry-after": "1", "cache-control": "no-store"}) == (told_[0], told_[2])
