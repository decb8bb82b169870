"""Every gateway before a real node and a real upstream, driven as a caller would: who is let in, and what is told."""

import json
import posixpath
import re
import time
from urllib.parse import parse_qsl, unquote

import pytest

from tests.gateways.conftest import Running
from tests.gateways.support.calling import Caller, Headers, bearer, by_key, call
from tests.gateways.support.keys import CLIENT, Issued

pytestmark = pytest.mark.gateways

FIXED = ("client", "key-id", "version", "phase", "scopes", "revision")
PLAN = "x-verifier-plan"
# What a caller may try, in spellings that one upstream or another takes for the same.
FORGED: Headers = [
    *[(f"X-Verifier-{name.title()}", "root") for name in FIXED],
    *[(f"x_verifier_{name.replace('-', '_')}", "root") for name in FIXED],
    ("X-Verifier-Plan", "root"),
]


def identity(running: Running, key: Issued, **other: str) -> dict[str, str]:
    """What the upstream should be told of a good key."""
    return {
        "x-verifier-client": CLIENT, "x-verifier-key-id": key.key_id, "x-verifier-version": "1",
        "x-verifier-phase": "CURRENT", "x-verifier-scopes": "read",
        "x-verifier-revision": str(running.stage.node.status()["revision"]), **other,
    }  # fmt: skip


@pytest.fixture(scope="module")
def good(stage) -> Issued:
    """A key that may read."""
    key = stage.keys.issue()
    stage.publish()
    return key


def meaning(target: str) -> tuple[str, list[tuple[str, str]]]:
    """What a target means to an application."""
    path, _, query = target.partition("?")
    return path, parse_qsl(query, keep_blank_values=True)


def reached(running: Running) -> int:
    """How many requests the upstream got."""
    return len(running.stage.application.requests)


@pytest.mark.parametrize("present", [by_key, bearer])
def test_a_good_key_is_let_in_and_the_upstream_told_whose_it_is(running: Running, good: Issued, present):
    answer = call(running.port, "/things/1?a=1&b=%20x", present(good.token), method="POST", body=b"x" * 3000)
    arrived = answer.arrived
    assert ("POST", "/things/1?a=1&b=%20x", 3000) == (arrived["method"], arrived["path"], arrived["body_bytes"])
    assert identity(running, good) == answer.identity
    assert not {"x-api-key-phase", "deprecation", "sunset", "www-authenticate"} & answer.headers.keys()


def test_bodies_are_handed_on_whole_and_only_to_the_upstream(running: Running, good: Issued):
    """The verifier is asked before a body is there, or without it: neither may hang, and refused ones go nowhere."""
    body = b"x" * 1_000_000
    assert len(body) == call(running.port, "/", by_key(good.token), method="PUT", body=body).arrived["body_bytes"]
    before = reached(running)
    assert 401 == call(running.port, "/", (), method="POST", body=body[:1000]).status
    assert before == reached(running)


def test_all_methods_are_let_in(running: Running, good: Issued):
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert method == call(running.port, "/x", by_key(good.token), method=method).arrived["method"]
    assert (200, b"") == ((head := call(running.port, "/", by_key(good.token), method="HEAD")).status, head.body)


def test_answers_of_the_upstream_are_not_touched(running: Running, good: Issued):
    for status in (401, 403, 404, 500, 503):
        answer = call(running.port, f"/status/{status}", by_key(good.token))
        assert (status, f"/status/{status}") == (answer.status, json.loads(answer.body)["path"])


@pytest.mark.parametrize("present", [by_key, bearer])
def test_the_key_does_not_reach_the_upstream(running: Running, good: Issued, present):
    arrived = call(running.port, "/", present(good.token)).arrived
    assert good.token not in json.dumps(arrived)
    assert not {"x-api-key", "authorization"} & {name for name, _ in arrived["headers"]}


@pytest.mark.parametrize(("asked", "passed_on"), [
    ("/q?api_key={}", "/q"), ("/q?api_key={}&b=2", "/q?b=2"), ("/q?a=1&api_key={}", "/q?a=1"),
    ("/q?a=1&api_key={}&b=%26api_key", "/q?a=1&b=%26api_key"), ("/q?api_key={}&b=%20+&c", "/q?b=%20+&c"),
])
def test_a_key_in_the_query_is_good_and_goes_no_further(running: Running, good: Issued, asked: str, passed_on: str):
    for written in (good.token, good.token.replace("_", "%5F"), f"%{ord('v'):x}{good.token[1:]}"):
        answer = call(running.port, asked.format(written))
        assert identity(running, good) == answer.identity
        assert written not in json.dumps(answer.arrived)
        # Some write the rest of the query in another way that means the same.
        assert meaning(passed_on) == meaning(answer.arrived["path"])


def test_keys_that_are_not_good_are_refused(running: Running):
    keys = running.stage.keys
    revoked, expired, later = keys.issue(), keys.issue(expires_at=int(time.time()) + 2), keys.issue(
        not_before=int(time.time()) + 3600)
    keys.revoke(revoked)
    running.stage.publish()
    time.sleep(2.1)
    before = reached(running)
    refusals: list[tuple[Headers, str]] = [
        ((), "missing_key"), (by_key("vk_live_nonsense"), "invalid_key"), (by_key(revoked.token), "key_revoked"),
        (by_key(expired.token), "key_expired"), (by_key(later.token), "key_not_active"),
        (bearer(revoked.token), "key_revoked"),
    ]  # fmt: skip
    for headers, code in refusals:
        answer = call(running.port, "/", headers)
        assert 401 == answer.status, (code, answer)
        assert answer.headers["www-authenticate"].startswith(("Bearer ", "ApiKey ")), (code, answer)
        assert "application/problem+json" == answer.headers["content-type"]
        assert 401 == (body := json.loads(answer.body))["status"]
        assert code == body["code"]
        assert CLIENT.encode() not in answer.body
    assert before == reached(running)


def test_clients_that_are_turned_off_are_refused(running: Running, good: Issued):
    running.stage.keys.set_client(False)
    running.stage.publish()
    try:
        assert 401 == call(running.port, "/", by_key(good.token)).status
    finally:
        running.stage.keys.set_client(True)
        running.stage.publish()
    assert 200 == call(running.port, "/", by_key(good.token)).status


def test_keys_that_may_not_do_it_are_refused(running: Running, good: Issued):
    trader = running.stage.keys.issue(scopes=("read", "trade"))
    running.stage.publish()
    before = reached(running)
    answer = call(running.port, "/trade/1", by_key(good.token))
    assert (403, before) == (answer.status, reached(running))
    assert 403 == (body := json.loads(answer.body))["status"]
    assert "insufficient_scope" == body["code"]
    assert ("no-store", 'ApiKey realm="api"') == (answer.headers["cache-control"], answer.headers["www-authenticate"])
    told = call(running.port, "/trade/1", by_key(trader.token)).identity
    assert {"read", "trade"} == set(told["x-verifier-scopes"].split())


@pytest.mark.parametrize("path", [
    "/%74rade", "/t%72ade/1", "//trade", "/./trade", "/x/../trade", "/x/%2e%2e/trade", "/%2e/trade", "/x//../trade",
    "/x/..%2Ftrade", "/.//trade", "/%2Ftrade", "/trade%2F1", "/x/%252e%252e/trade", "/trade/../trade", "/%2ftrade/1",
    "/x%2F..%2Ftrade",
])
def test_no_other_spelling_of_a_path_gets_around_its_scopes(running: Running, good: Issued, path: str):
    """Applications decode and tidy paths in their own ways: what may mean the same path must need the same scope."""
    answer = call(running.port, path, by_key(good.token))
    if answer.status == 200:
        arrived = re.sub("/+", "/", unquote(answer.arrived["path"]))
        assert not posixpath.normpath(arrived).startswith("/trade"), (path, answer)
    else:
        assert answer.status in {301, 302, 307, 308, 400, 403, 404}, answer


def test_the_address_that_counts_is_the_callers_own(running: Running):
    key = running.stage.keys.issue(rules=("127.0.0.2/32",))
    running.stage.publish()
    assert CLIENT == call(running.port, "/", by_key(key.token), source="127.0.0.2").identity["x-verifier-client"]
    before = reached(running)
    said: list[Headers] = [
        [], [("X-Forwarded-For", "127.0.0.2")], [("X-Real-IP", "127.0.0.2")], [("Forwarded", "for=127.0.0.2")],
        [("X-Forwarded-For", "127.0.0.2"), ("X-Forwarded-For", "127.0.0.2, 127.0.0.2")],
        [("X-Envoy-External-Address", "127.0.0.2")],
    ]  # fmt: skip
    for headers in said:
        answer = call(running.port, "/", [*headers, *by_key(key.token)])
        assert 403 == answer.status, (headers, answer)
    assert before == reached(running)


def test_a_caller_cannot_say_who_it_is(running: Running, good: Issued):
    planned = running.stage.keys.issue(metadata={"plan": "gold"})
    running.stage.publish()
    assert identity(running, good) == call(running.port, "/", [*FORGED, *by_key(good.token)]).identity
    assert identity(running, planned, **{PLAN: "gold"}) == call(
        running.port, "/", [*FORGED, *by_key(planned.token)]).identity
    before = reached(running)
    assert 401 == call(running.port, "/", FORGED).status
    assert 401 == call(running.port, "/", [*FORGED, *by_key("vk_live_nonsense")]).status
    assert 403 == call(running.port, "/trade", [*FORGED, *by_key(good.token)]).status
    assert before == reached(running)


def test_a_caller_cannot_speak_for_the_gateway(running: Running, good: Issued):
    """What gateways tell the verifier of a request, said by a caller: it changes nothing."""
    for name in ("X-Forwarded-Uri", "X-Original-URI", "X-Original-URL", "X-Forwarded-Method", "X-Original-Method"):
        assert 401 == call(running.port, "/", [(name, f"/?api_key={good.token}")]).status, name
        assert 403 == call(running.port, "/trade?scopes=read", [(name, "/?scopes=read"), *by_key(good.token)]).status
        assert 200 == call(running.port, "/", [(name, "/"), *by_key(good.token)]).status, name


@pytest.mark.parametrize(
    "name", ["X-Verifier-Client", "X-Verifier-Scopes", "X-Real-IP", "X-Forwarded-Uri", "X-API-Key"])
def test_a_caller_cannot_have_headers_taken_off_as_hop_by_hop(running: Running, good: Issued, name: str):
    """`Connection: X-Verifier-Client` asks proxies to drop that header: some do it last, and drop what they set."""
    hop = [("Connection", f"keep-alive, {name}"), ("Keep-Alive", "timeout=5")]
    for key, source in ((good, "127.0.0.1"), (running.stage.keys.issue(rules=("127.0.0.2/32",)), "127.0.0.1")):
        running.stage.publish()
        answer = call(running.port, "/", [*hop, *FORGED, *by_key(key.token)], source=source)
        if answer.status == 200:
            assert identity(running, good) == answer.identity
            assert key is good
        else:
            assert answer.status in {400, 401, 403}
    # The caller may take its own header back, and has presented one key then.
    answer = call(running.port, f"/?api_key={good.token}", [*hop, *by_key(good.token)])
    assert 400 <= answer.status < 500 or (name == "X-API-Key" and identity(running, good) == answer.identity), answer


def test_callers_with_many_headers_are_let_in(running: Running, good: Issued):
    """What browsers and tracing add to a request: 40 headers, 10 KiB."""
    many = [("Cookie", "c=" + "x" * 4000), *((f"X-Trace-{number}", "x" * 150) for number in range(38))]
    assert identity(running, good) == call(running.port, "/", [*many, *by_key(good.token)]).identity


def test_more_headers_than_a_node_takes_let_nobody_in(running: Running, good: Issued):
    """A question that cannot be asked is no reason to let somebody in; where it can be, the key decides."""
    many = [(f"X-Filler-{number}", "x" * 900) for number in range(60)]
    answer = call(running.port, "/", [*many, *FORGED, *by_key(good.token)])
    assert answer.status >= 400 or identity(running, good) == answer.identity
    assert call(running.port, "/", [*many, *FORGED, *by_key("vk_live_nonsense")]).status >= 400


def test_keys_presented_twice_are_refused(running: Running, good: Issued):
    other = running.stage.keys.issue()
    running.stage.publish()
    before = reached(running)
    twice: list[tuple[str, Headers]] = [
        ("/", [*by_key(good.token), *by_key(good.token)]),
        ("/", [*by_key(good.token), *by_key(other.token)]),
        ("/", [*bearer(good.token), *bearer(good.token)]),
        ("/", [*by_key(good.token), *bearer(other.token)]),
        (f"/?api_key={good.token}", by_key(good.token)),
        (f"/?api_key={good.token}", bearer(other.token)),
        (f"/?api_key={good.token}&api_key={other.token}", []),
    ]
    for path, headers in twice:
        answer = call(running.port, path, headers)
        assert 400 <= answer.status < 500, (path, headers, answer)  # some gateways themselves refuse some of these
        if answer.status == 401:
            assert json.loads(answer.body)["code"] in {"multiple_keys", "invalid_key"}, (path, headers, answer)
    assert before == reached(running)


def test_the_caller_is_told_that_its_key_is_being_replaced(running: Running):
    keys = running.stage.keys
    old = keys.issue()
    new = keys.rotate(old, overlap_s=3600)
    running.stage.publish()
    answer = call(running.port, "/", by_key(old.token))
    assert identity(running, old, **{"x-verifier-phase": "RETIRING"}) == answer.identity
    assert answer.headers["x-api-key-phase"].startswith("retiring; successor=2; end="), answer
    assert abs(int(answer.headers["deprecation"].removeprefix("@")) - time.time()) < 60
    assert answer.headers["sunset"].endswith(" GMT")
    assert "private" in answer.headers["cache-control"]
    answer = call(running.port, "/", by_key(new.token))
    assert identity(running, new, **{"x-verifier-version": "2"}) == answer.identity
    assert not {"x-api-key-phase", "deprecation", "sunset", "cache-control"} & answer.headers.keys()


def test_connections_to_nodes_are_kept(running: Running, good: Issued):
    accepted = "verifier_connections_accepted_total"
    with Caller(running.port) as caller:
        for _ in range(10):
            caller.call("/", by_key(good.token))
        before = running.stage.node.metric(accepted)
        assert {200} == {caller.call("/", by_key(good.token)).status for _ in range(100)}
    assert running.stage.node.metric(accepted) - before <= 3
