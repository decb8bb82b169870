"""WSGI middleware with Flask, Django and a bare application, in process and over a node."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults

import django
import flask
import httpx
import pytest
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path as django_path

from tests.support.guarded import BOUND, END_S, GOOD, LEAKED, RETIRING, STRANGER, TRADER, facts, stock, verifiers
from tests.support.image import REVOKED, Facts
from tests.support.node import until
from tests.support.publications import Stocked
from verifier.client import Access, AsyncVerifierClient, Route, caller, current_decision
from verifier.client.wsgi import VerifierMiddleware
from verifier.errors import InvalidInput, NotAuthenticated, Unavailable
from verifier.serving.keyring import Keyring

ACCESS = Access(
    places=["authorization: Bearer", "x-api-key", "query:api_key"], scopes=["read"], exempt=["/healthz"],
    routes=[Route("/orders", ["trade"], ["POST"])],
)  # fmt: skip


def flask_app() -> flask.Flask:
    app = flask.Flask("guarded")

    def seen() -> Any:
        decision = flask.request.environ.get("verifier.decision")
        request = flask.request
        return {"client": caller().client_id if decision else None, "same": current_decision() is decision,
                "headers": [name for name, _ in request.headers if name.lower().startswith(("x-", "auth"))],
                "query": request.query_string.decode(), "raw": "REQUEST_URI" in request.environ}

    def stream() -> Any:
        def parts() -> Iterator[str]:
            for _ in range(3):
                yield caller().client_id + "\n"

        return flask.Response(parts())

    app.add_url_rule("/", view_func=seen, endpoint="root")
    app.add_url_rule("/healthz", view_func=seen, endpoint="health")
    app.add_url_rule("/orders", view_func=seen, endpoint="orders", methods=["GET", "POST"])
    app.add_url_rule("/stream", view_func=stream)
    return app


def django_view(request: HttpRequest) -> JsonResponse:
    claims = [name for name in request.META if name.startswith(("HTTP_X_VERIFIER", "HTTP_AUTHORIZATION"))]
    return JsonResponse({"client": caller().client_id, "claims": claims,
                         "same": request.META["verifier.decision"] is current_decision()})


urlpatterns = [django_path("", django_view)]


@pytest.fixture(scope="module")
def django_app() -> Any:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="for tests only", MIDDLEWARE=[])
    django.setup()
    return get_wsgi_application()


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Stocked:
    return stock(tmp_path_factory.mktemp("wsgi") / "home")


@pytest.fixture(scope="module", params=["keyring", "node"])
def verifier(request: pytest.FixtureRequest, stocked: Stocked) -> Iterator[Any]:
    with verifiers(request.param, stocked.home.folder) as (in_threads, _):
        yield in_threads


def client(app: Any, peer: str = "192.0.2.7") -> httpx.Client:
    return httpx.Client(transport=httpx.WSGITransport(app, remote_addr=peer), base_url="http://service")


@pytest.fixture
def http(verifier: Any) -> httpx.Client:
    return client(VerifierMiddleware(flask_app(), verifier, ACCESS))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_flask_knows_the_caller_and_sees_no_key(http: httpx.Client):
    forged = {"x-verifier-client": "root", "x_verifier_client": "root", "x-mine": "1"}
    seen = http.get("/", headers={**bearer(GOOD), **forged}).json()
    assert {"client": "acme", "same": True, "headers": ["X-Mine"], "query": "", "raw": False} == seen
    seen = http.get(f"/?a=1&api_key={GOOD}").json()
    assert ("acme", "a=1", False) == (seen["client"], seen["query"], seen["raw"])
    assert "acme\n" * 3 == http.get("/stream", headers=bearer(GOOD)).text
    assert None is current_decision()


@pytest.mark.parametrize(("headers", "code", "challenge"), [
    ({}, "missing_key", 'Bearer realm="api"'),
    ({"x-api-key": STRANGER}, "invalid_key", 'ApiKey realm="api"'),
    ({"x-api-key": f"{GOOD},{GOOD}"}, "multiple_keys", 'Bearer realm="api", error="invalid_request"'),
    ({**bearer(GOOD), "x-api-key": GOOD}, "multiple_keys", 'Bearer realm="api", error="invalid_request"'),
    (bearer(LEAKED), "key_revoked", 'Bearer realm="api", error="invalid_token"'),
])
def test_refusals(http: httpx.Client, headers: dict[str, str], code: str, challenge: str):
    answer = http.get("/", headers=headers)
    assert (401, code) == (answer.status_code, answer.json()["code"])
    assert "application/problem+json" == answer.headers["content-type"]
    assert challenge == answer.headers["www-authenticate"]


def test_scopes_and_exempt_paths(http: httpx.Client):
    assert 403 == http.post("/orders", headers=bearer(GOOD)).status_code
    assert [200, 200] == [http.get("/orders", headers=bearer(GOOD)).status_code,
                          http.post("/orders", headers=bearer(TRADER)).status_code]
    seen = http.get("/healthz", headers={"x-verifier-client": "root"}).json()
    assert (None, []) == (seen["client"], seen["headers"])
    head = http.head("/")
    assert (401, b"") == (head.status_code, head.content)
    assert 0 < int(head.headers["content-length"])


def test_the_caller_is_told_of_the_end_of_its_version(http: httpx.Client):
    headers = http.get("/", headers=bearer(RETIRING)).headers
    assert f"retiring; successor=2; end={END_S}" == headers["x-api-key-phase"]
    assert ("@1700000000", "private") == (headers["deprecation"], headers["cache-control"])
    assert "x-api-key-phase" not in http.get("/", headers=bearer(GOOD)).headers


def test_addresses(stocked: Stocked):
    with Keyring.open(stocked.home.folder) as keyring:
        for peer, access, status in (
            ("192.0.2.7", Access(), 200), ("10.0.0.1", Access(), 403),
            ("10.0.0.1", Access(trusted_proxies=["10.0.0.0/8"]), 200), ("", Access(trusted_proxies=["unix"]), 200),
            ("", Access(), 403),
        ):
            with client(VerifierMiddleware(flask_app(), keyring, access), peer) as http:
                answer = http.get("/", headers={**bearer(BOUND), "x-forwarded-for": "6.6.6.6, 192.0.2.7"})
                assert status == answer.status_code


def test_django(django_app: Any, verifier: Any):
    with client(VerifierMiddleware(django_app, verifier, ACCESS)) as http:
        answer = http.get("/", headers={**bearer(GOOD), "x-verifier-client": "root"})
        assert {"client": "acme", "claims": [], "same": True} == answer.json()
        assert 401 == http.get("/").status_code


def bare(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])
    return [b"ok"]


def ask(app: Any, **variables: str) -> tuple[str, Any]:
    environ: dict[str, Any] = {"HTTP_X_API_KEY": GOOD, "REMOTE_ADDR": "192.0.2.7", **variables}
    setup_testing_defaults(environ)
    status: list[str] = []
    return (body := app(environ, lambda line, _headers, _exc_info=None: status.append(line))) and status[0], body


class Broken:
    def verify(self, *_arguments: object) -> Any:
        raise Unavailable("no keyring")


def test_faults(stocked: Stocked):
    assert "503 Service Unavailable" == ask(VerifierMiddleware(bare, Broken(), ACCESS))[0]
    assert "200 OK" == ask(VerifierMiddleware(bare, Broken(), Access(on_unavailable="allow")))[0]
    with pytest.raises(InvalidInput):
        VerifierMiddleware(bare, AsyncVerifierClient("127.0.0.1:1"))  # type: ignore[arg-type]


def test_paths_are_read_as_the_application_reads_them(stocked: Stocked):
    access = Access(routes=[Route("/büro/*", ["trade"]), Route("/mounted/x", ["trade"])])
    with Keyring.open(stocked.home.folder) as keyring:
        app = VerifierMiddleware(bare, keyring, access)
        assert "403 Forbidden" == ask(app, PATH_INFO="/büro/1".encode().decode("latin-1"))[0]
        assert "403 Forbidden" == ask(app, SCRIPT_NAME="/mounted", PATH_INFO="/x")[0]
        assert "200 OK" == ask(app, PATH_INFO="/x")[0]


def test_generators_run_and_are_closed_as_the_caller(stocked: Stocked, tmp_path: Path):
    closed: list[str] = []

    def generating(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield caller().client_id.encode()
            yield b"more"
        finally:
            closed.append(caller().client_id)

    with Keyring.open(stocked.home.folder) as keyring:
        environ: dict[str, Any] = {"HTTP_X_API_KEY": GOOD}
        setup_testing_defaults(environ)
        body: Any = VerifierMiddleware(generating, keyring)(environ, lambda *_: None)  # type: ignore[arg-type,return-value]
        assert b"acme" == next(body)
        with pytest.raises(NotAuthenticated):
            caller()
        body.close()
    assert ["acme"] == closed


def test_files_are_left_to_the_server(stocked: Stocked, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"content")

    def sending(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"]((tmp_path / "file").open("rb"))

    with Keyring.open(stocked.home.folder) as keyring:
        environ = {"HTTP_X_API_KEY": GOOD, "wsgi.file_wrapper": FileWrapper}
        setup_testing_defaults(environ)
        body = VerifierMiddleware(sending, keyring)(environ, lambda *_: None)  # type: ignore[arg-type,return-value]
        assert isinstance(body, FileWrapper)
        body.close()


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_revocation_under_traffic_over_a_real_socket(tmp_path: Path):
    stocked = stock(tmp_path / "home")
    with Keyring.open(stocked.home.folder) as keyring:
        server = make_server("127.0.0.1", 0, VerifierMiddleware(flask_app(), keyring, ACCESS), handler_class=Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", headers=bearer(GOOD)) as http:
            assert 200 == http.get("/").status_code
            stocked.publish({**facts(), GOOD: Facts(flags=REVOKED, scopes=("read",))})
            until(lambda: http.get("/").status_code == 401)
            assert "key_revoked" == http.get("/").json()["code"]
        server.shutdown()
        server.server_close()
