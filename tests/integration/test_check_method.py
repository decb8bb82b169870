"""Envoy's Check over a real channel: where keys are found and taken off, what goes into headers, faults, counts."""

import json
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import pytest

from tests.support.ext_authz import CHECK, Gateway, ordinary_request, request, told
from tests.support.groups import wait_until
from tests.support.http2 import Http2Client
from tests.support.image import NEVER, REVOKED, WATCH, Facts, image_of, view_of
from tests.support.loops import RunningLoop, running
from tests.support.node import RunningNode
from tests.support.publications import Stocked, native
from verifier._authz import FIXED_HEADERS, Authz
from verifier._loop import Loop
from verifier.admin.v1.node_pb2 import ReportUsageRequest
from verifier.client._channel import VERIFY
from verifier.server.loops import LoopGroup
from verifier.v1 import verifier_pb2 as pb

GOOD, OTHER, FENCED, ODD, LONG, OLD = (native(number) for number in range(6))
LONG_VALUE = "é" * 500
ODD_ID = " a,b\r\nx-verifier-client: root\x00é%41 "
FACTS = {
    GOOD: Facts(key_id="key_good", scopes=("read", "trade"), metadata={"plan": "gold", "zone": "eu"}, ordinal=5),
    OTHER: Facts(key_id="key_other", ordinal=6),
    FENCED: Facts(key_id="key_fenced", rules=["203.0.113.0/24", "2001:db8::/32"]),
    ODD: Facts(client_id=ODD_ID, key_id="key\n", metadata={"plan": "\r\nset-cookie: a=b", "zone": " eu "}),
    LONG: Facts(client_id="c" * 255, key_id="k" * 255, metadata={"plan": LONG_VALUE}),
    OLD: Facts(key_id="key_old", superseded_at=1_700_000_000, superseded_by=2, end=4_000_000_000, ordinal=9),
}  # fmt: skip
PLACES = (("scheme", "authorization", "bearer"), ("header", "x-api-key", ""), ("query", "api_key", ""))
AUTHZ = Authz(PLACES, metadata=(("plan", "x-verifier-plan"), ("zone", "x-verifier-zone")))
VIEW = view_of(image_of(FACTS), revision=3)


@pytest.fixture(scope="module")
def node() -> Iterator[RunningLoop]:
    with running(VIEW, authz=AUTHZ) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(node: RunningLoop) -> Iterator[Gateway]:
    with Gateway(node.target) as client:
        yield client


# --- Where keys are, and what is taken off ---------------------------------------------------------------------------


@pytest.mark.parametrize(("headers", "path", "removed", "removed_query"), [
    ({"authorization": f"Bearer {GOOD}"}, "/", ["authorization"], []),
    ({"authorization": f"bEARER \t {GOOD} "}, "/", ["authorization"], []),
    ({"x-api-key": GOOD}, "/", ["x-api-key"], []),
    ({}, f"/orders?limit=2&api_key={GOOD}&x", [], ["api_key"]),
    ({}, "/?api_key=" + GOOD.replace("_", "%5f"), [], ["api_key"]),
    ({"authorization": "Basic dXNlcjpwYXNz", "x-api-key": GOOD}, "/", ["x-api-key"], []),
    ({"authorization": "Bearer", "x-api-key": GOOD}, "/?api_key=", ["x-api-key"], []),
    ({"x-api-key": "", "authorization": f"Bearer {GOOD}"}, "/?api_key", ["authorization"], []),
])
def test_a_key_is_found_and_taken_off(gateway: Gateway, headers, path, removed, removed_query):
    found = gateway.ask(headers, path=path)
    assert (200, "key_good") == (found.status, found.headers["x-verifier-key-id"])
    assert (removed, removed_query) == (found.removed, found.removed_query)


@pytest.mark.parametrize(("headers", "path"), [
    ({}, "/"), ({"authorization": f"Basic {GOOD}"}, "/"), ({"authorization": f"Bearer{GOOD}"}, "/"),
    ({"authorization": GOOD}, "/"), ({"x-api-key": " \t"}, "/"), ({"x-api-keys": GOOD}, "/"),
    ({"proxy-authorization": f"Bearer {GOOD}"}, "/"), ({}, f"/api_key={GOOD}"), ({}, f"/?API_KEY={GOOD}"),
    ({}, f"/?my_api_key={GOOD}"), ({}, f"/?api%5fkey={GOOD}"), ({":path": f"/?api_key={GOOD}"}, "/"),
    ({"cookie": f"x-api-key={GOOD}"}, "/"),
])
def test_no_key(gateway: Gateway, headers, path):
    found = gateway.ask(headers, path=path)
    assert (401, 16, "missing_key") == (found.status, found.code, json.loads(found.body)["code"])
    assert 'Bearer realm="api"' == found.headers["www-authenticate"]


@pytest.mark.parametrize(("headers", "path", "raw"), [
    ({"authorization": f"Bearer {GOOD}", "x-api-key": OTHER}, "/", []),
    ({"authorization": f"Bearer {GOOD}", "x-api-key": GOOD}, "/", []),
    ({"authorization": f"Bearer {GOOD}", "x-api-key": "nonsense"}, "/", []),
    ({"authorization": f"Bearer {GOOD}"}, f"/?api_key={OTHER}", []),
    ({}, f"/?api_key={GOOD}&api_key={GOOD}", []),
    ({"x-api-key": f"{GOOD},{OTHER}"}, "/", []),
    ({"x-api-key": f"{GOOD},"}, "/", []),
    ({"authorization": f"Bearer {GOOD}, Bearer {OTHER}"}, "/", []),
    ({"authorization": f"Basic dXNlcjpwYXNz,bearer {GOOD}"}, "/", []),
    ({"authorization": f"Bearer {GOOD},Basic dXNlcjpwYXNz"}, "/", []),
    ({}, "/", [("x-api-key", GOOD), ("x-api-key", OTHER)]),
    ({}, "/", [("x-api-key", GOOD), ("x-api-key", GOOD)]),
    ({}, "/", [("x-api-key", ""), ("x-api-key", GOOD)]),
    ({}, "/", [("authorization", "Basic dXNlcjpwYXNz"), ("authorization", f"Bearer {GOOD}")]),
    ({"x-api-key": GOOD}, "/", [("x-api-key", GOOD)]),
])
def test_more_than_one_key_is_refused_whatever_they_are(gateway: Gateway, headers, path, raw):
    found = gateway.ask(headers, path=path, raw=[(name, value.encode()) for name, value in raw])
    assert (401, 16, "multiple_keys") == (found.status, found.code, json.loads(found.body)["code"])
    assert {"code": "multiple_keys"} == found.metadata


def test_headers_of_a_map_and_raw_ones_are_read_alike(gateway: Gateway):
    headers = {"accept": "*/*", "authorization": f"Bearer {GOOD}", "x-request-id": "1"}
    raw = gateway.ask(raw=[(name, value.encode()) for name, value in headers.items()])
    assert gateway.ask(headers) == raw
    assert "key_good" == raw.headers["x-verifier-key-id"]


# --- What goes into headers ------------------------------------------------------------------------------------------


def test_the_whole_set_of_identity_headers_is_always_there(gateway: Gateway):
    names = [*FIXED_HEADERS, "x-verifier-plan", "x-verifier-zone"]
    good, bare = gateway.ask({"x-api-key": GOOD}), gateway.ask({"x-api-key": OTHER})
    assert names == list(good.headers) == list(bare.headers)
    assert ["acme", "key_good", "1", "CURRENT", "read trade", "3", "gold", "eu"] == list(good.headers.values())
    assert ["", "", ""] == [bare.headers[f"x-verifier-{name}"] for name in ("scopes", "plan", "zone")]
    assert {"verdict": "VALID", "client": "acme", "key_id": "key_good", "version": "1", "phase": "CURRENT",
            "scopes": "read trade", "revision": "3", "plan": "gold", "zone": "eu"} == good.metadata


def test_nothing_in_a_record_can_break_out_of_its_header(gateway: Gateway):
    found = gateway.ask({"x-api-key": ODD})
    assert "%20a,b%0D%0Ax-verifier-client: root%00%C3%A9%2541%20" == found.headers["x-verifier-client"]
    assert ODD_ID == unquote(found.headers["x-verifier-client"])
    assert ("key%0A", "%0D%0Aset-cookie: a=b", "%20eu%20") == tuple(
        found.headers[f"x-verifier-{name}"] for name in ("key-id", "plan", "zone"))
    everything = [*found.headers.values(), *map(str, found.metadata.values())]
    assert all(text.isascii() and text.isprintable() for text in everything)
    assert found.headers["x-verifier-client"] == found.metadata["client"]


@pytest.mark.parametrize("name", ["x_verifier_client", "x-verifier_key-id", "x_verifier-scopes", "x_verifier_plan"])
def test_a_header_that_wsgi_takes_for_an_identity_header_is_refused(gateway: Gateway, name: str):
    found = gateway.ask({"x-api-key": GOOD, name: "root"})
    assert (400, 3, "bad_request") == (found.status, found.code, found.metadata["code"])
    harmless = {name.replace("_", "-"): "root", name + "s": "", "a" + name: ""}
    assert 200 == gateway.ask({"x-api-key": GOOD, **harmless}).status


def test_the_longest_values_fit(gateway: Gateway):
    found = gateway.ask({"x-api-key": LONG})
    assert ("c" * 255, "k" * 255) == (found.headers["x-verifier-client"], found.headers["x-verifier-key-id"])
    assert LONG_VALUE == unquote(found.headers["x-verifier-plan"])
    assert 3000 == len(found.headers["x-verifier-plan"])


def test_the_caller_of_a_retiring_key_is_warned(gateway: Gateway):
    found = gateway.ask({"x-api-key": OLD})
    assert {"x-api-key-phase": "retiring; successor=2; end=4000000000", "deprecation": "@1700000000",
            "sunset": "Tue, 02 Oct 2096 07:06:40 GMT", "cache-control": "private"} == found.caller
    assert "RETIRING" == found.headers["x-verifier-phase"]
    assert {} == gateway.ask({"x-api-key": GOOD}).caller


def test_dates_of_all_years_are_written_as_the_standards_want():
    rng = random.Random(4)
    days = [datetime(year, month, day, tzinfo=UTC) for year in (1972, 2000, 2026, 2027, 2028, 2099, 2100)
            for month, day in ((1, 1), (2, 28), (3, 1), (12, 31))] + [datetime(2096, 2, 29, tzinfo=UTC)]
    ends = [int(day.timestamp()) + 86_399 * (number % 2) for number, day in enumerate(days)]
    ends += [1, 86_399, 86_400, 0xFFFFFFFE, *(rng.randrange(1, 0xFFFFFFFE) for _ in range(300))]
    facts = {native(number): Facts(superseded_at=1, superseded_by=2, end=end) for number, end in enumerate(ends)}
    seen = 0
    with running(view_of(image_of(facts)), authz=Authz()) as node, Gateway(node.target) as client:
        for token, end in zip(facts, ends, strict=True):
            found = client.ask({"x-api-key": token})
            if found.status == 200:
                seen += 1
                assert formatdate(end, usegmt=True) == found.caller["sunset"]
            else:
                assert datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") == json.loads(
                    found.body)["expires_at"]
    assert 50 < seen < len(ends) - 50


def test_the_standard_warnings_can_be_left_out():
    with running(VIEW, authz=Authz(deprecation=False)) as node, Gateway(node.target) as client:
        assert {"x-api-key-phase", "cache-control"} == set(client.ask({"x-api-key": OLD}).caller)


# --- Scopes and addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scopes", "status"), [
    (None, 200), ("", 200), ("read", 200), ("read trade", 200), (" trade,, read ", 200), ("write", 403),
    ("read,write", 403), ("read;trade", 403), ("a" * 129, 400), ('"read"', 400), ("read " * 65, 400), ("é", 400),
])
def test_required_scopes(gateway: Gateway, scopes: str | None, status: int):
    found = gateway.ask({"authorization": f"Bearer {GOOD}"}, scopes=scopes)
    assert status == found.status
    if status == 403:
        wanted = " ".join((scopes or "").split(","))
        assert f'Bearer realm="api", error="insufficient_scope", scope="{wanted}"' == found.headers["www-authenticate"]


@pytest.mark.parametrize(("name", "status"), [
    ("required_scopes", 403), ("required_scope", 400), ("required-scopes", 400), ("required", 400),
    ("required_scopes_", 400), ("scopes", 400), ("scope", 400), ("RequiredScopes", 400), ("x-scopes", 400),
    ("tenant", 200), ("scop", 200), ("", 200),
])
def test_what_a_route_requires_is_never_passed_over(gateway: Gateway, name: str, status: int):
    made = request({"x-api-key": GOOD})
    made.attributes.context_extensions[name] = "write"
    assert status == told(gateway.send(made.SerializeToString())).status


@pytest.mark.parametrize(("address", "status"), [
    ("203.0.113.9", 200), ("::ffff:203.0.113.9", 200), ("2001:db8::7", 200), ("2001:db8::7%eth0", 200),
    ("198.51.100.1", 403), (None, 403), ("", 403), ("localhost", 400), ("203.0.113.9:80", 400),
])
def test_addresses(gateway: Gateway, address: str | None, status: int):
    forged = {"x-api-key": FENCED, "x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    assert status == gateway.ask(forged, address=address).status


@pytest.mark.parametrize(("hops", "forwarded", "status"), [
    (1, "203.0.113.9", 200), (1, "198.51.100.1, 203.0.113.9", 200), (1, "203.0.113.9, 198.51.100.1", 403),
    (2, "198.51.100.1, 203.0.113.9, 10.0.0.1", 200), (2, "203.0.113.9, 198.51.100.1, 10.0.0.1", 403),
    (2, "203.0.113.9", 403), (1, "[2001:db8::7]:443", 200), (1, "203.0.113.9:5000", 200), (1, "unknown", 403),
    (1, "", 403),
])
def test_proxies_that_are_trusted(hops: int, forwarded: str, status: int):
    with running(VIEW, authz=Authz(forwarded_hops=hops)) as node, Gateway(node.target) as client:
        assert status == client.ask({"x-api-key": FENCED, "x-forwarded-for": forwarded}, address="203.0.113.9").status
        lines = [("x-api-key", FENCED.encode()), *(("x-forwarded-for", line.encode()) for line in forwarded.split(","))]
        assert status == client.ask(raw=lines, address="10.0.0.1").status


# --- Faults ----------------------------------------------------------------------------------------------------------


def fault(client: Gateway, **fields: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        client.ask(**fields)
    code: grpc.StatusCode = caught.value.code()
    return code


STALE = view_of(image_of(FACTS), max_staleness_ms=1)


@pytest.mark.parametrize("view", [None, STALE], ids=["no keyring", "stale"])
@pytest.mark.parametrize("headers", [{"x-api-key": GOOD}, {"x-api-key": "junk"}, {}, {"x-api-key": "a,b"}])
def test_faults_fail_the_call_and_say_nothing_of_the_key(view, headers):
    with running(view, authz=AUTHZ) as node, Gateway(node.target) as client:
        time.sleep(0.005)
        assert grpc.StatusCode.UNAVAILABLE == fault(client, headers=headers)
        assert 400 == client.ask(headers, address="nowhere").status
        counters = node.loop.counters()
    assert [0] * 16 == counters["verdicts"]
    assert [0, 0, 0, 0, 1, 0, 0, 0] == counters["asked"]


def test_faults_may_be_answered_as_errors():
    with running(None, authz=Authz(answer_faults=True)) as node, Gateway(node.target) as client:
        found = client.ask({"x-api-key": GOOD})
        assert (True, 503, 14) == (found.error, found.status, found.code)
        assert ("1", "no-store") == (found.headers["retry-after"], found.headers["cache-control"])
        assert "www-authenticate" not in found.headers
        node.publish(VIEW)
        assert 200 == client.ask({"x-api-key": GOOD}).status


def test_a_deadline_that_is_over_is_a_fault(node: RunningLoop):
    host, _, port = node.target.rpartition(":")
    message = request({"x-api-key": GOOD}).SerializeToString()
    with Http2Client((host, int(port))) as client:
        client.call(1, message, CHECK, extra=[("grpc-timeout", "0n")])
        assert 4 == client.response(1).status
        client.call(3, message, CHECK)
        assert 200 == told(client.response(3).message).status


def test_without_gateways_there_is_no_such_method():
    with running(VIEW) as node, Gateway(node.target) as client:
        assert grpc.StatusCode.UNIMPLEMENTED == fault(client, headers={"x-api-key": GOOD})


def test_a_body_may_come_along_up_to_the_limit_of_messages(gateway: Gateway):
    made = ordinary_request(GOOD)
    made.attributes.request.http.body = "x" * 400_000
    assert 200 == told(gateway.send(made.SerializeToString())).status
    made.attributes.request.http.body = "x" * 600_000
    with pytest.raises(grpc.RpcError) as caught:
        gateway.send(made.SerializeToString())
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == caught.value.code()


# --- Many calls, counts ----------------------------------------------------------------------------------------------


def test_checks_and_verifications_overlap_on_one_connection(node: RunningLoop):
    with grpc.insecure_channel(node.target) as channel:
        check, verify = channel.unary_unary(CHECK), channel.unary_unary(VERIFY)
        asked: list[tuple[int, Any]] = []
        for number in range(400):
            kind = number % 4
            if kind == 0:
                asked.append((kind, verify.future(pb.VerifyRequest(key=OLD).SerializeToString(), timeout=10)))
                continue
            headers = {1: {"x-api-key": GOOD}, 2: {}, 3: {"authorization": f"Bearer {native(1000 + number)}"}}[kind]
            asked.append((kind, check.future(request(headers).SerializeToString(), timeout=10)))
        for kind, call in asked:
            if kind == 0:
                assert "key_old" == pb.VerifyResponse.FromString(call.result()).key_id
            else:
                found = told(call.result())
                expected = {1: (200, None), 2: (401, "missing_key"), 3: (401, "invalid_key")}[kind]
                assert expected == (found.status, found.metadata.get("code"))


def test_answers_and_refusals_are_counted_as_they_are_for_verify():
    group = LoopGroup(1, authz=AUTHZ)
    loop: Loop = group.loops[0]
    loop.count_usage()
    (target,) = group.listen(["127.0.0.1:0"])
    group.publish(VIEW)
    group.start()
    try:
        with Gateway(target) as client:
            for headers in ({"x-api-key": GOOD},) * 3 + ({"x-api-key": OTHER}, {"x-api-key": "junk"}, {},
                                                         {"x-api-key": f"{GOOD},{OTHER}"}):
                client.ask(headers)
            client.ask({"x-api-key": OTHER}, scopes="admin")
            client.ask({"x-api-key": OTHER}, scopes='"')
        counters = group.counters()
        assert (4, 1, 1) == tuple(counters["verdicts"][number] for number in (1, 2, 10))
        assert 9 == counters["calls"][3][0]
        assert [0, 1, 1, 1, 0, 0, 0, 0] == counters["asked"]
        usage = loop.usage
        assert usage is not None
        usage.ask()
        wait_until(loop.exchange_usage)
        report = ReportUsageRequest.FromString(usage.drain().take(1 << 20))
        assert {5: (3, 0), 6: (1, 1)} == {row[0]: row[1:] for row in zip(report.ordinals, report.valid, report.refused,
                                                                         strict=True)}
    finally:
        group.stop()


def test_who_uses_a_watched_version_through_a_gateway_is_told_with_the_callers_address():
    group = LoopGroup(1, authz=AUTHZ)
    group.loops[0].count_usage()
    (target,) = group.listen(["127.0.0.1:0"])
    group.publish(view_of(image_of({GOOD: Facts(ordinal=7, flags=WATCH)})))
    group.start()
    try:
        with Gateway(target) as client:
            client.ask({"x-api-key": GOOD}, address="203.0.113.77")
        usage = group.loops[0].usage
        assert usage is not None
        ((ordinal, verdict, _second, address),) = usage.watched()
        assert (7, 1) == (ordinal, verdict)
        assert ip_address("203.0.113.77").packed == address
    finally:
        group.stop()


def test_swaps_under_checks_answer_from_one_keyring_each():
    views = [view_of(image_of({GOOD: Facts(key_id=f"key_{revision}", metadata={"plan": str(revision)})}),
                     revision=revision) for revision in range(1, 40)]
    seen: list[tuple[str, ...]] = []
    with running(views[0], authz=AUTHZ) as node, Gateway(node.target) as client:
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                found = client.ask({"x-api-key": GOOD}).headers
                seen.append(tuple(found[f"x-verifier-{name}"] for name in ("revision", "key-id", "plan")))

        thread = threading.Thread(target=ask)
        thread.start()
        for view in views[1:]:
            node.publish(view)
            time.sleep(0.002)
        stop.set()
        thread.join(10)
    assert len({revision for revision, _, _ in seen}) > 5
    assert all((f"key_{revision}", revision) == (key_id, plan) for revision, key_id, plan in seen)
    assert sorted(seen, key=lambda row: int(row[0])) == seen


# --- A node ----------------------------------------------------------------------------------------------------------


def test_a_node_answers_gateways_by_its_settings(tmp_path: Path):
    stocked = Stocked(tmp_path / "home")
    stocked.publish({GOOD: Facts(metadata={"cost.center": "42"}), OTHER: Facts(flags=REVOKED, end=NEVER)})
    options = ("--authz-keys", "X-Key", "--authz-keys", "query:token", "--authz-metadata", "cost.center",
               "--authz-disclose", "minimal", "--authz-realm", "orders")
    with RunningNode(stocked.home.folder, *options) as node:
        node.wait_for("serving", revision=1)
        with Gateway(node.target) as client:
            allowed = client.ask({"x-key": GOOD, "x-api-key": OTHER})
            assert "42" == allowed.headers["x-verifier-cost-center"]
            assert (200, ["x-key"]) == (allowed.status, allowed.removed)
            assert ["token"] == client.ask(path=f"/?token={GOOD}").removed_query
            refused, missing = client.ask({"x-key": OTHER}), client.ask({"authorization": f"Bearer {GOOD}"})
            client.ask({"x-key": GOOD}, path=f"/?token={GOOD}")
        assert refused.body == missing.body
        assert 'ApiKey realm="orders"' == refused.headers["www-authenticate"]
        assert 5 == node.metric('verifier_calls_total{code="OK",method="Check"}')
        assert (1, 1, 0) == tuple(node.metric(f'verifier_gateway_refusals_total{{code="{code}"}}')
                                  for code in ("missing_key", "multiple_keys", "bad_request"))
        assert 2 == node.metric('verifier_verifications_total{verdict="VALID"}')


def test_a_node_may_be_told_to_answer_no_gateways(tmp_path: Path):
    with RunningNode(Stocked(tmp_path / "home").home.folder, "--authz", "off") as node, Gateway(node.target) as client:
        assert grpc.StatusCode.UNIMPLEMENTED == fault(client, headers={"x-api-key": GOOD})
