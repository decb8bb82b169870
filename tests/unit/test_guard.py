"""The rules of guards: where keys are, what paths ask for, whose address counts, what callers are told."""

import json
import logging
import posixpath
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier import client
from verifier._answer import Answer
from verifier.client import Access, AsyncVerifierClient, Route, VerifierClient, caller
from verifier.client._decision import PUBLIC, Decision, decide
from verifier.client.guard import retiring, rpc
from verifier.client.guard.addresses import Addresses
from verifier.client.guard.guarding import LOG_PAUSE_S, MISSING_KEY, MULTIPLE_KEYS, AsyncGuard, Guard
from verifier.client.guard.presented import MISSING, Places, is_identity, parse_place
from verifier.client.guard.refusing import Refusals
from verifier.client.guard.routing import Routing
from verifier.errors import InvalidInput, NotAuthenticated, Unavailable
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import Phase, Verdict

BEARER, API_KEY = b"authorization", b"x-api-key"
PLACES = Places(["authorization: Bearer", "x-api-key", "query:api_key"])


def answer(verdict: Verdict = Verdict.VALID, phase: Phase = Phase.CURRENT, **fields: object) -> Answer:
    message = VerifyResponse(verdict=int(verdict), phase=int(phase), **fields)  # type: ignore[arg-type]
    return Answer(message.SerializeToString())


# --- Where keys are --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("headers", "query", "token"), [
    ([(BEARER, b"Bearer abc")], b"", b"abc"),
    ([(BEARER, b"bEARER   abc ")], b"", b"abc"),
    ([(API_KEY, b" abc ")], b"", b"abc"),
    ([(API_KEY, b"Bearer abc")], b"", b"Bearer abc"),
    ([(BEARER, b"Basic dXNlcg=="), (API_KEY, b"abc")], b"", b"abc"),
    ([], b"a=1&api_key=abc", b"abc"),
    ([], b"api%5Fkey=a%62c", b"abc"),
    ([], b"api_key=a+b", b"a+b"),
    ([], b"api_key=a,b", b"a,b"),
    ([(BEARER, b"Bearer\tabc")], b"", b"abc"),
    ([(BEARER, b"Basic a"), (BEARER, b"Digest b, c"), (API_KEY, b"abc")], b"", b"abc"),
    ([(b"other", b"Bearer abc"), (API_KEY, b"\xff")], b"", b"\xff"),
])
def test_one_key_is_found(headers: list[tuple[bytes, bytes]], query: bytes, token: bytes):
    assert (1, token) == PLACES.find(headers, query)[:2]


def test_a_key_is_not_printed():
    assert "secret" not in repr(PLACES.find([(API_KEY, b"secret")]))


@pytest.mark.parametrize(("headers", "query"), [
    ([], b""), ([(BEARER, b"Bearer")], b""), ([(BEARER, b"Bearer ")], b""), ([(BEARER, b"Basic abc")], b""),
    ([(BEARER, b"Bearerabc")], b""), ([(API_KEY, b"")], b""), ([], b"api_key="), ([], b"API_KEY=abc"), ([], b"api_key"),
])
def test_no_key_is_found(headers: list[tuple[bytes, bytes]], query: bytes):
    assert MISSING is PLACES.find(headers, query)


@pytest.mark.parametrize(("headers", "query"), [
    ([(API_KEY, b"a"), (API_KEY, b"a")], b""),
    ([(API_KEY, b"a,b")], b""),
    ([(BEARER, b"Bearer a, Bearer b")], b""),
    ([(BEARER, b"Bearer a"), (API_KEY, b"a")], b""),
    ([(BEARER, b"Bearer a"), (BEARER, b"Basic b")], b""),
    ([(BEARER, b"Basic b, Bearer a")], b""),
    ([(API_KEY, b""), (API_KEY, b"a")], b""),
    ([(API_KEY, b"a")], b"api_key=a"),
    ([], b"api_key=a&api_key=b"),
    ([], b"api_key=a&api%5fkey=b"),
])
def test_two_keys_are_too_many(headers: list[tuple[bytes, bytes]], query: bytes):
    assert 2 == PLACES.find(headers, query).keys


def test_the_query_is_no_place_unless_named():
    places = Places(["x-api-key"])
    assert MISSING is places.find([], b"api_key=abc")
    assert b"api_key=abc" == places.stripped_query(b"api_key=abc")


@pytest.mark.parametrize("text", [
    "", "authorization Bearer", "a: b c", "query:", "query:a b", "x y", "x-verifier-client", "X-Verifier-Key: Bearer",
    "host", "X-Forwarded-For",
])
def test_what_is_no_place_is_refused(text: str):
    with pytest.raises(InvalidInput):
        parse_place(text)


@pytest.mark.parametrize("texts", [[], ["x-api-key", "X-API-Key"], ["authorization", "authorization: Bearer"]])
def test_places_that_contradict_each_other_are_refused(texts: list[str]):
    with pytest.raises(InvalidInput):
        Places(texts)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"api_key", b"api%5fkey", b"%61pi_key", b"apikey"]),
                          st.binary(max_size=4).filter(lambda value: b"&" not in value))))
def test_a_stripped_query_holds_no_key_and_all_else(pairs: list[tuple[bytes, bytes]]):
    query = b"&".join(name + b"=" + value for name, value in pairs)
    stripped = PLACES.stripped_query(query)
    assert MISSING is PLACES.find([], stripped)
    kept = [name + b"=" + value for name, value in pairs if name in (b"a", b"apikey")]
    assert b"&".join(kept) == stripped


@pytest.mark.parametrize(("name", "claims"), [
    (b"x-verifier-client", True), (b"x_verifier_client", True), (b"x-verifier-", True), (b"x_verifier-anything", True),
    (b"x-verifier", False), (b"x-api-key", False), (b"my-x-verifier-client", False),
])
def test_headers_that_claim_an_identity(name: bytes, claims: bool):
    assert claims == is_identity(name)


# --- What paths ask for ----------------------------------------------------------------------------------------------

ROUTING = Routing(Access(
    scopes=["read"], exempt=["/healthz", "/public/*"],
    routes=[Route("/admin/*", ["admin"]), Route("/orders", ["trade"], ["POST"]), Route("/open", ()),
            Route("/items", ["list"], ["get"])],
))  # fmt: skip


@pytest.mark.parametrize(("method", "path", "scopes"), [
    ("GET", "/", ("read",)),
    ("GET", "/healthz", None), ("GET", "/healthz/", None),
    ("GET", "/healthz/x", ("read",)), ("GET", "/Healthz", ("read",)),
    ("GET", "/public", None), ("GET", "/public/a/b", None), ("GET", "/publicity", ("read",)),
    ("GET", "/public/../secret", ("read",)), ("GET", "/public/../admin/x", ("admin",)),
    ("GET", "//public/x", ("read",)), ("GET", "/public//x", ("read",)),
    ("GET", "/public/./x", ("read",)), ("GET", "/secret/../public/x", ("read",)),
    ("GET", "/admin", ("admin",)), ("GET", "/admin/", ("admin",)), ("GET", "/admin/a", ("admin",)),
    ("GET", "//admin//a", ("admin",)), ("GET", "/./admin", ("admin",)), ("GET", "/administration", ("read",)),
    ("POST", "/orders", ("trade",)), ("POST", "/orders/", ("trade",)), ("GET", "/orders", ("read",)),
    ("POST", "/orders/1", ("read",)), ("DELETE", "/open", ()),
    ("post", "/orders", ("trade",)), ("Get", "/items", ("list",)), ("head", "/items", ("list",)),
    ("GET", "admin/a", ("admin",)), ("GET", "public/a", ("read",)), ("GET", "", ("read",)),
    ("GET", "/items", ("list",)), ("HEAD", "/items", ("list",)), ("POST", "/items", ("read",)),
])
def test_scopes_of_a_path(method: str, path: str, scopes: tuple[str, ...] | None):
    assert scopes == ROUTING.scopes(path, method)


def test_a_path_without_its_slash_is_one_with_it():
    routing = Routing(Access(routes=[Route("/*", ["all"])]))
    assert ("all",) == routing.scopes("", "GET") == routing.scopes("orders", "GET") == routing.scopes("*", "OPTIONS")


@given(st.lists(st.sampled_from(["public", "admin", "healthz", "..", ".", "", "x"]), max_size=6))
def test_no_spelling_of_a_path_gets_around_its_scopes(parts: list[str]):
    path = "/" + "/".join(parts)
    plain = posixpath.normpath("/" + path.lstrip("/"))
    scopes = ROUTING.scopes(path, "GET")
    if plain == "/admin" or plain.startswith("/admin/"):
        assert ("admin",) == scopes
    elif scopes is None:
        assert path.rstrip("/") == plain
        assert plain == "/healthz" or plain.startswith("/public")
    else:
        assert ("read",) == scopes


@pytest.mark.parametrize("settings", [
    {"scopes": "read"}, {"scopes": ["a b"]}, {"exempt": "/x"}, {"exempt": ["x"]}, {"exempt": ["/a*"]},
    {"exempt": ["/*/a"]}, {"trusted_proxies": ["10.0.0.1/8"]}, {"trusted_proxies": ["nonsense"]},
    {"disclose": "everything"}, {"on_unavailable": "ignore"}, {"realm": 'a"b'}, {"realm": "a\nb"}, {"realm": "é"},
    {"realm": ""}, {"places": "x-api-key"},
])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object]):
    with pytest.raises(InvalidInput):
        Access(**settings)  # type: ignore[arg-type]


def test_routes_that_mean_nothing_are_refused():
    for arguments in (("x",), ("/x", "read"), ("/x", ["a,b"]), ("/x", [], "GET")):
        with pytest.raises(InvalidInput):
            Route(*arguments)


# --- Whose address counts --------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("peer", "forwarded", "client"), [
    ("192.0.2.1", [], "192.0.2.1"),
    ("192.0.2.1", [b"10.9.9.9"], "192.0.2.1"),
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", [b"192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", [b"10.6.6.6, 192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", [b"192.0.2.7, 10.0.0.2"], "192.0.2.7"),
    ("10.0.0.1", [b"6.6.6.6", b"192.0.2.7, 10.0.0.2"], "192.0.2.7"),
    ("10.0.0.1", [b"192.0.2.7:4711"], "192.0.2.7"),
    ("10.0.0.1", [b"[2001:db8::7]:4711"], "2001:db8::7"),
    ("10.0.0.1", [b"2001:db8::7"], "2001:db8::7"),
    ("::ffff:10.0.0.1", [b"::ffff:192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", [b"10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", [b"192.0.2.7, unknown"], None),
    ("10.0.0.1", [b"192.0.2.7,"], None),
    ("fe80::1%eth0", [], "fe80::1"),
    ("testclient", [b"192.0.2.7"], None),
    (None, [b"192.0.2.7"], "192.0.2.7"),
    (None, [], None),
])
def test_the_client_s_address(peer: str | None, forwarded: list[bytes], client: str | None):
    assert client == Addresses(["10.0.0.0/8", "unix"]).client(peer, forwarded)


@given(st.lists(st.text(st.characters(codec="latin-1"))), st.lists(st.sampled_from([b"10.0.0.2", b"10.7.7.7:80"])))
def test_nothing_that_a_client_writes_changes_its_address(written: list[str], hops: list[bytes]):
    lines = [text.encode("latin-1") for text in written]
    appended = b", ".join([*lines[-1:], b"192.0.2.7", *hops])
    assert "192.0.2.7" == Addresses(["10.0.0.0/8"]).client("10.0.0.1", [*lines[:-1], appended])


def test_nobody_is_trusted_by_default():
    assert "10.0.0.1" == Addresses([]).client("10.0.0.1", [b"192.0.2.7"])
    assert None is Addresses(["10.0.0.0/8"]).client(None, [b"192.0.2.7"])


@pytest.mark.parametrize(("peer", "client"), [
    ("ipv4:192.0.2.1:4711", "192.0.2.1"), ("ipv6:%5B2001:db8::1%5D:4711", "2001:db8::1"),
    ("ipv6:[2001:db8::1]:4711", "2001:db8::1"), ("ipv6:%5B::ffff:192.0.2.1%5D:4711", "192.0.2.1"),
    ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::1"), ("unix:", None), ("unix:/run/v.sock", None), ("vsock:1:2", None),
])
def test_peers_as_grpcio_writes_them(peer: str, client: str | None):
    forwarded = (("x-forwarded-for", "10.9.9.9"),)
    assert client == rpc.client_address(Guard(Broken()), peer, forwarded)
    expected = "10.9.9.9" if peer.startswith("unix") else client
    assert expected == rpc.client_address(Guard(Broken(), Access(trusted_proxies=["unix"])), peer, forwarded)


# --- What callers are told -------------------------------------------------------------------------------------------

def refusals(**settings: object) -> Refusals:
    first = parse_place(str(settings.pop("first", "authorization: Bearer")))
    return Refusals(Access(**settings), first)  # type: ignore[arg-type]


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict > Verdict.VALID])
def test_each_verdict_has_its_status_and_code(verdict: Verdict):
    decision = decide(answer(verdict))
    body = json.loads(refusals().body(decision))
    assert PUBLIC[verdict] == (body["status"], body["code"]) == (decision.http_status, decision.code)


def test_malformed_and_unknown_cannot_be_told_apart():
    malformed, unknown = decide(answer(Verdict.MALFORMED)), decide(answer(Verdict.UNKNOWN))
    place = parse_place("x-api-key")
    for each in (refusals(), refusals(disclose="minimal")):
        assert each.body(malformed) == each.body(unknown)
        assert each.headers(malformed, place, ()) == each.headers(unknown, place, ())


def test_minimal_disclosure_gives_all_401_one_body():
    each = refusals(disclose="minimal")
    decisions = [decide(answer(verdict)) for verdict, (status, _) in PUBLIC.items() if status == 401]
    assert 1 == len({each.body(decision) for decision in [*decisions, MISSING_KEY, MULTIPLE_KEYS]})
    assert each.body(decide(answer(Verdict.INSUFFICIENT_SCOPE))) != each.body(decisions[0])


@pytest.mark.parametrize(("text", "decision", "challenge"), [
    ("x-api-key", MISSING_KEY, 'ApiKey realm="api"'),
    ("authorization: Bearer", decide(answer(Verdict.EXPIRED)), 'Bearer realm="api", error="invalid_token"'),
    ("authorization: Bearer", MULTIPLE_KEYS, 'Bearer realm="api", error="invalid_request"'),
    ("authorization: Bearer", decide(answer(Verdict.INSUFFICIENT_SCOPE)),
     'Bearer realm="api", error="insufficient_scope", scope="a b"'),
    ("query:key", decide(answer(Verdict.INSUFFICIENT_SCOPE)), 'ApiKey realm="api"'),
    ("authorization: Bearer", decide(answer(Verdict.RATE_LIMITED)), None),
    ("authorization: Bearer", decide(answer(Verdict.ADDRESS_NOT_ALLOWED)), None),
    ("authorization: Bearer", decide(Unavailable("x")), None),
])
def test_challenges(text: str, decision: Decision, challenge: str | None):
    place = None if decision is MISSING_KEY else parse_place(text)
    assert challenge == dict(refusals(first=text).headers(decision, place, ("a", "b"))).get("www-authenticate")


def test_long_scopes_are_not_quoted_back():
    scopes = tuple(f"{number:0100}" for number in range(20))
    refused = decide(answer(Verdict.INSUFFICIENT_SCOPE))
    told = dict(refusals().headers(refused, parse_place("authorization: Bearer"), scopes))
    assert 'Bearer realm="api", error="insufficient_scope"' == told["www-authenticate"]


def test_nothing_of_the_record_is_told():
    record = {"client_id": "acme", "key_id": "key_1", "revocation_reason": 1, "metadata": {"a": "b"}}
    told = refusals().body(decide(answer(Verdict.REVOKED, **record)))
    assert refusals().body(decide(answer(Verdict.REVOKED))) == told


def retiring_answer(**fields: object) -> Answer:
    made = VerifyResponse(verdict=1, phase=int(Phase.RETIRING), superseded_by=2)
    for name, second in fields.items():
        getattr(made, name).seconds = second
    return Answer(made.SerializeToString())


def test_the_phase_of_a_key_that_is_being_replaced():
    whole = retiring_answer(superseded_at=1_700_000_000, expires_at=2_000_000_000)
    assert ("x-api-key-phase", "retiring; successor=2; end=2000000000") == retiring.phase_header(whole)
    assert ("x-api-key-phase", "retiring; successor=2") == retiring.phase_header(retiring_answer())
    assert [("deprecation", "@1700000000"), ("sunset", "Wed, 18 May 2033 03:33:20 GMT")] == (
        retiring.standard_headers(whole))
    assert datetime(2033, 5, 18, 3, 33, 20, tzinfo=UTC) == whole.expires_at


def test_what_is_said_of_a_key_goes_into_no_shared_cache():
    whole = retiring_answer(superseded_at=1_700_000_000)
    few, all_ = retiring.headers_for(whole, False), retiring.headers_for(whole, True)
    assert ["x-api-key-phase", "deprecation", "cache-control"] == [name for name, _ in all_]
    assert ["x-api-key-phase", "cache-control"] == [name for name, _ in few]
    assert ("cache-control", "private") == few[-1] == all_[-1]


# --- Faults ----------------------------------------------------------------------------------------------------------

class Broken:
    def verify(self, *_arguments: object) -> Answer:
        raise Unavailable("no keyring")


def test_a_fault_is_neither_a_refusal_nor_a_yes(caplog: pytest.LogCaptureFixture):
    presented = PLACES.find([(API_KEY, b"abc")])
    guard = Guard(Broken())
    with caplog.at_level(logging.WARNING, "verifier.client"):
        decisions = [guard.judge(presented, (), None) for _ in range(50)]
    assert {(False, 503, "unavailable")} == {(each.allowed, each.http_status, each.code) for each in decisions}
    assert LOG_PAUSE_S >= 1 == len(caplog.records)
    assert ("retry-after", "1") in guard.refusals.headers(decisions[0], presented.place, ())
    assert not any(name == "www-authenticate" for name, _ in guard.refusals.headers(decisions[0], None, ()))


def test_failing_open_takes_an_explicit_setting_and_still_a_key():
    guard = Guard(Broken(), Access(on_unavailable="allow"))
    passed = guard.judge(PLACES.find([(API_KEY, b"abc")]), (), None)
    assert (True, None) == (passed.allowed, passed.answer)
    assert MISSING_KEY is guard.judge(MISSING, (), None)
    assert MULTIPLE_KEYS is guard.judge(PLACES.find([(API_KEY, b"a,b")]), (), None)


def test_other_exceptions_are_nobody_s_verdict():
    class Wrong:
        def verify(self, *_arguments: object) -> Answer:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Guard(Wrong(), Access(on_unavailable="allow")).judge(PLACES.find([(API_KEY, b"abc")]), (), None)


def test_a_verifier_of_the_wrong_kind_is_refused():
    with pytest.raises(InvalidInput):
        Guard(AsyncVerifierClient("127.0.0.1:1"))  # type: ignore[arg-type]
    with VerifierClient("127.0.0.1:1") as waiting, pytest.raises(InvalidInput):
        AsyncGuard(waiting)


def test_there_is_no_caller_outside_of_a_request():
    with pytest.raises(NotAuthenticated):
        caller()
    assert Decision(False, 401, "missing_key", None, None) == MISSING_KEY


def test_a_keyring_in_process_does_without_grpcio():
    code = """
import sys
import verifier.client.asgi, verifier.client.wsgi, verifier.client.starlette, verifier.serving.keyring
assert "grpc" not in sys.modules
from verifier.client import *
assert "grpc" in sys.modules and VerifierClient.waits
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    missing = [name for name in client.__all__ if not hasattr(client, name)]
    assert [] == missing
