"""/v1/authz and /v1/verify over HTTP/1.1 on real sockets: verdicts, gates, headers, and the rules of the connection."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.support.web import (
    EARLY,
    GOOD,
    LATE,
    OFF,
    PLACES,
    RETIRING,
    REVOKED_KEY,
    RULED,
    UNKNOWN,
    Answer,
    WebServer,
    answers_of,
    head,
    verify,
    web_server,
    world,
)
from verifier._authz import Authz
from verifier.server.loops import LoopGroup

BEARER = f"authorization: Bearer {GOOD}"
IDENTITY = ("client", "key-id", "version", "phase", "scopes", "revision", "tier")


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server(world(), address_header="X-Real-IP") as running:
        yield running


def one(server: WebServer, request: bytes, *, heads: int = 0) -> Answer:
    (answer,) = answers_of(server.say(request), heads=heads)
    return answer


def identity(answer: Answer) -> list[str | None]:
    return [answer.headers.get(f"x-verifier-{name}") for name in IDENTITY]


# --- /v1/authz -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_good_key_is_let_in_with_its_identity(server: WebServer, method: str):
    answer = one(server, head("/v1/authz", BEARER, method=method), heads=method == "HEAD")
    assert (200, b"") == (answer.status, answer.body)
    assert ["acme", "key_1", "1", "CURRENT", "read trade", "3", "gold"] == identity(answer)
    assert "no-store" == answer.headers["cache-control"]


def test_identity_headers_are_there_without_a_value(server: WebServer):
    answer = one(server, head("/v1/authz", f"x-api-key: {RETIRING}"))
    assert ["acme", "key_2", "1", "RETIRING", "", "3", ""] == identity(answer)
    assert "retiring; successor=2; end=4000000000" == answer.headers["x-api-key-phase"]
    assert "@1000000" == answer.headers["deprecation"]
    assert "Tue, 02 Oct 2096 07:06:40 GMT" == answer.headers["sunset"]


@pytest.mark.parametrize(("token", "status", "code"), [
    (UNKNOWN, 401, "invalid_key"), ("nonsense", 401, "invalid_key"), (REVOKED_KEY, 401, "key_revoked"),
    (OFF, 401, "key_disabled"), (EARLY, 401, "key_not_active"), (LATE, 401, "key_expired"),
    (RULED, 403, "address_not_allowed"),
])
def test_refusals_say_why_and_nobodys_name(server: WebServer, token: str, status: int, code: str):
    answer = one(server, head("/v1/authz", f"authorization: Bearer {token}"))
    assert (status, status, code) == (answer.status, answer.json()["status"], answer.json()["code"])
    assert "application/problem+json" == answer.headers["content-type"]
    assert [] == [name for name in answer.headers if name.startswith("x-verifier-")]
    assert (status == 401) == ("www-authenticate" in answer.headers)


def test_malformed_and_unknown_are_told_alike(server: WebServer):
    first, second = (server.say(head("/v1/authz", f"x-api-key: {token}")) for token in (UNKNOWN, "x"))
    assert first == second
    assert b"401" in first


def test_no_key_and_two_keys_are_refused(server: WebServer):
    assert "missing_key" == one(server, head()).json()["code"]
    for more in (f"x-api-key: {GOOD}", BEARER, f"X-Forwarded-Uri: /?api_key={GOOD}"):
        answer = one(server, head("/v1/authz", BEARER, more))
        assert (401, "multiple_keys") == (answer.status, answer.json()["code"])


@pytest.mark.parametrize(("query", "status"), [
    ("scopes=read", 200), ("scopes=read,trade", 200), ("scopes=read+trade", 200), ("scopes=read%20trade", 200),
    ("scopes=read&scopes=trade", 200), ("", 200), ("scopes=", 200), ("scopes=read&", 200), ("scopes=admin", 403),
    ("scopes=read,admin", 403), ("scopes=read&scopes=admin", 403), ("scopes=re%61d", 200), ("scopes=READ", 403),
    ("scope=read", 400), ("scopes", 400), ("scopes=%2", 400), ("scopes=%zz", 400), ("scopes=a%00b", 400),
    ("scopes=" + ",".join(f"s{n}" for n in range(65)), 400), ("scopes=" + "s" * 129, 400), ("profile=apache", 400),
    ("scopes=read&profile=nginx", 200), ("Scopes=read", 400), ("scopes%3Dread", 400),
])
def test_scopes_are_required_by_the_query(server: WebServer, query: str, status: int):
    answer = one(server, head(f"/v1/authz?{query}", BEARER))
    assert status == answer.status
    if status == 403:
        assert "insufficient_scope" == answer.json()["code"]
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("minimal", [False, True])
def test_the_profile_of_nginx_tells_the_code_in_a_header(minimal: bool):
    """And no more than the body does."""
    with web_server(world(), authz=Authz(PLACES, minimal=minimal)) as server:
        for lines, query in (((), ""), ((f"x-api-key: {REVOKED_KEY}",), ""), ((BEARER,), "&scopes=admin")):
            answer = one(server, head(f"/v1/authz?profile=nginx{query}", *lines))
            assert answer.json()["code"] == answer.headers["x-verifier-code"]
            assert "x-verifier-code" not in one(server, head(f"/v1/authz?{query[1:]}", *lines)).headers
        assert "x-verifier-code" not in one(server, head("/v1/authz?profile=nginx", BEARER)).headers


@pytest.mark.parametrize("name", ["X-Forwarded-Uri", "X-Original-URI", "X-Original-URL"])
def test_the_key_may_stand_in_the_callers_query(server: WebServer, name: str):
    assert 200 == one(server, head("/v1/authz", f"{name}: /orders?x=1&api_key={GOOD}")).status
    assert 401 == one(server, head("/v1/authz", f"{name}: /orders?x=1&api_key={UNKNOWN}")).status
    # The query of the gateway's own request is not the caller's.
    assert 400 == one(server, head(f"/v1/authz?api_key={GOOD}")).status


def test_the_callers_target_is_told_once(server: WebServer):
    uri = "X-Forwarded-Uri: /a"
    assert 400 == one(server, head("/v1/authz", BEARER, uri, uri)).status
    assert 400 == one(server, head("/v1/authz", BEARER, uri, "X-Original-URI: /b")).status
    assert 200 == one(server, head("/v1/authz", BEARER, uri, "X-Original-URI: /a")).status


@pytest.mark.parametrize(("lines", "status"), [
    (["x-real-ip: 10.1.2.3"], 200), (["x-real-ip: 11.1.2.3"], 403), ([], 403), (["x-real-ip: ::ffff:10.1.2.3"], 200),
    (["x-real-ip: 10.1.2.3", "x-real-ip: 10.1.2.3"], 400), (["x-real-ip: ten"], 400),
    (["x-forwarded-for: 10.1.2.3"], 403),
])
def test_the_callers_address_comes_from_one_header(server: WebServer, lines: list[str], status: int):
    assert status == one(server, head("/v1/authz", f"x-api-key: {RULED}", *lines)).status


@pytest.mark.parametrize(("options", "live"), [({}, False), ({"max_staleness_ms": 1}, True)])
def test_without_a_fresh_keyring_all_is_unavailable(options: dict[str, int], live: bool):
    with web_server(world(**options) if live else None) as server:
        if live:
            time.sleep(0.05)
        for request in (head("/v1/authz", BEARER), head("/v1/authz?profile=nginx", BEARER), head(),
                        verify({"key": GOOD})):
            answer = one(server, request)
            assert (503, "1") == (answer.status, answer.headers["retry-after"])
        assert 400 == one(server, head("/v1/authz?scopes=%22", BEARER)).status


def test_gateways_can_be_turned_off():
    group = LoopGroup(1)
    group.listen([], http=["127.0.0.1:0"])
    group.start()
    try:
        group.publish(world())
        server = WebServer(group.loops[0], int(group.http_addresses[0].rpartition(":")[2]))
        assert 404 == one(server, head("/v1/authz", BEARER)).status
        assert "VERDICT_VALID" == one(server, verify({"key": GOOD})).json()["verdict"]
    finally:
        group.stop()


def test_verdicts_and_refusals_are_counted():
    with web_server(world()) as server:
        server.say(head("/v1/authz", BEARER) + head("/v1/authz", f"x-api-key: {UNKNOWN}") + head())
        server.say(verify({"key": GOOD}) + verify({"key": GOOD, "probe": True}) + head("/nowhere"))
        counters = server.loop.counters()
    assert [2, 1] == [counters["verdicts"][1], counters["verdicts"][3]]
    assert 1 == counters["asked"][1]
    assert (1, 2) == (counters["calls"][4][0], counters["calls"][4][16])
    assert (2, 1) == (counters["calls"][5][0], counters["calls"][7][12])
    assert 6 == counters["streams"] == sum(counters["latency_counts"])


# --- /v1/verify ------------------------------------------------------------------------------------------------------

def test_verify_answers_in_json(server: WebServer):
    answer = one(server, verify({"key": GOOD, "requiredScopes": ["read"]}))
    assert (200, "application/json", "no-store") == (
        answer.status, answer.headers["content-type"], answer.headers["cache-control"])
    said = answer.json()
    said.pop("stalenessMs", None)
    assert {
        "verdict": "VERDICT_VALID", "phase": "PHASE_CURRENT", "revision": "3", "clientId": "acme", "keyId": "key_1",
        "version": 1, "scopes": ["read", "trade"], "metadata": {"tier": "gold", "note": "caf\u00e9 \u20ac"},
    } == said  # fmt: skip


def test_a_refused_key_is_an_answer(server: WebServer):
    said = one(server, verify({"key": REVOKED_KEY})).json()
    assert ("VERDICT_REVOKED", "REVOCATION_REASON_KEY_COMPROMISE") == (said["verdict"], said["revocationReason"])
    assert "VERDICT_ADDRESS_NOT_ALLOWED" == one(server, verify({"key": RULED})).json()["verdict"]
    assert "VERDICT_VALID" == one(server, verify({"key": RULED, "clientAddress": "10.0.0.1"})).json()["verdict"]


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"[]", 400), ({"key": GOOD, "requiredScopes": ["a b"]}, 400), ({"clientAddress": "ten"}, 400),
    ({"key": GOOD, "requiredScopes": ["x"] * 65}, 400), ({"key": GOOD, "minRevision": 4}, 503),
    ({"key": GOOD, "minRevision": "3"}, 200), ({}, 200), ({"key": "x" * 600}, 200), ({"key": "\u20ac"}, 200),
])
def test_faults_of_verify_are_statuses(server: WebServer, body: object, status: int):
    assert status == one(server, verify(body)).status


@pytest.mark.parametrize(("line", "status"), [
    ("content-type: application/json", 200), ("Content-Type: APPLICATION/JSON; charset=utf-8", 200),
    ("content-type: text/plain", 415), ("content-type: application/jsonp", 415), ("x: y", 415),
    ("content-type: application/json\r\ncontent-type: application/json", 415),
])
def test_the_body_is_json_by_its_own_word(server: WebServer, line: str, status: int):
    assert status == one(server, head("/v1/verify", line, "content-length: 2", method="POST") + b"{}").status


@pytest.mark.parametrize(("method", "target", "status"), [
    ("GET", "/", 404), ("GET", "/v1/authz/", 404), ("POST", "/v1/verify/x", 404), ("GET", "/V1/AUTHZ", 404),
    ("PUT", "/v1/authz", 405), ("GET", "/v1/verify", 405), ("OPTIONS", "/v1/verify", 405),
    ("DELETE", "/v1/authz?scopes=a", 405), ("get", "/v1/authz", 405),
])
def test_other_paths_and_methods(server: WebServer, method: str, target: str, status: int):
    answer = one(server, head(target, method=method))
    assert (status, status) == (answer.status, answer.json()["status"])
    if status == 405:
        assert ("GET, HEAD, POST" if "authz" in target else "POST") == answer.headers["allow"]


# --- The connection --------------------------------------------------------------------------------------------------

def test_a_stock_client_keeps_its_connection(server: WebServer):
    before = server.loop.counters()["accepted"]
    client = http.client.HTTPConnection(*server.address, timeout=5)
    for number in range(5):
        client.request("GET", "/v1/authz", headers={"Authorization": f"Bearer {GOOD}"})
        assert (200, b"") == ((answer := client.getresponse()).status, answer.read())
        client.request("HEAD", "/v1/authz")
        assert (401, b"") == ((answer := client.getresponse()).status, answer.read())
        body = json.dumps({"key": GOOD})
        # http.client sends what is iterated over in chunks.
        client.request("POST", "/v1/verify", [part.encode() for part in body] if number % 2 else body,
                       {"Content-Type": "application/json"}, encode_chunked=bool(number % 2))
        assert "VERDICT_VALID" == json.loads(client.getresponse().read())["verdict"]
    client.close()
    assert before + 1 == server.loop.counters()["accepted"]


@pytest.mark.parametrize("request_bytes", [head(), head(method="HEAD"), head("/nowhere"), verify({}), b"?"])
def test_every_answer_has_a_date(server: WebServer, request_bytes: bytes):
    (answer,) = answers_of(server.say(request_bytes), heads=request_bytes.startswith(b"HEAD"))
    moment = parsedate_to_datetime(answer.headers["date"])
    assert moment.strftime("%a, %d %b %Y %H:%M:%S GMT") == answer.headers["date"]
    assert abs(moment - datetime.now(UTC)) <= timedelta(seconds=2)


@pytest.mark.parametrize(("version", "line", "stays"), [
    ("HTTP/1.1", "x: y", True), ("HTTP/1.1", "connection: close", False),
    ("HTTP/1.1", "connection: a, CLOSE ,b", False),
    ("HTTP/1.1", "connection: closed", True), ("HTTP/1.0", "x: y", False), ("HTTP/1.0", "connection: keep-alive", True),
    ("HTTP/1.0", "connection: keep-alive, close", False),
])
def test_who_ends_the_connection(server: WebServer, version: str, line: str, stays: bool):
    answers = answers_of(server.say(head("/v1/authz", BEARER, line, version=version) + head()))
    assert [200, 401] == [answer.status for answer in answers] if stays else [200] == [a.status for a in answers]
    if version == "HTTP/1.0" or not stays:
        assert ("keep-alive" if stays else "close") == answers[0].headers["connection"]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 50, 997])
def test_answers_come_in_order_however_requests_are_cut(server: WebServer, piece: int):
    chunked = (head("/v1/verify", "content-type: application/json", "transfer-encoding: chunked", method="POST")
               + b"2;x=y\r\n{\"\r\n3\r\nkey\r\n3\r\n\":\"\r\n2\r\n\"}\r\n0\r\ntrailer: x\r\n\r\n")
    requests = [(head("/v1/authz", BEARER), 200), (verify({"key": UNKNOWN}), 200), (head(), 401),
                (chunked, 200), (head("/v1/authz", BEARER, "content-length: 5", method="POST") + b"GET /", 200),
                (head("/v1/authz", "transfer-encoding: chunked", method="POST") + b"3\r\nabc\r\n0\r\n\r\n", 401),
                (head("/nowhere", "content-length: 3", method="PUT") + b"abc", 404), (verify({"key": GOOD}), 200)]
    answers = answers_of(server.say(b"".join(request for request, _ in requests), piece))
    assert [status for _, status in requests] == [answer.status for answer in answers]
    verdicts = [answer.json()["verdict"] for answer in answers if b"verdict" in answer.body]
    assert ["VERDICT_UNKNOWN", "VERDICT_MALFORMED", "VERDICT_VALID"] == verdicts


def test_expect_is_answered_when_the_body_is_wanted(server: WebServer):
    request = verify({"key": GOOD}, "expect: 100-continue")
    at = request.index(b"\r\n\r\n") + 4
    with server.connect() as client:
        client.sendall(request[:at])
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == client.recv(4096)
        client.sendall(request[at:])
        assert client.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    assert [200] == [answer.status for answer in answers_of(server.say(request))]
    # A body that nobody needs is not asked for, and since nobody knows whether it comes, that is the end.
    unwanted = head("/v1/authz", BEARER, "expect: 100-continue", "content-length: 3", method="POST")
    assert ["close"] == [answer.headers["connection"] for answer in answers_of(server.say(unwanted + head()))]


def test_more_answers_than_fit_wait_until_they_are_taken(server: WebServer):
    count = 6000
    request = head("/v1/authz", BEARER)
    with server.connect(20) as client:
        sender = threading.Thread(target=lambda: client.sendall(request * count))
        sender.start()
        received = b""
        while received.count(b"\r\n\r\n") < count:
            received += client.recv(1 << 16)
        sender.join()
    assert [200] * count == [answer.status for answer in answers_of(received)]
