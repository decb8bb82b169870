"""The decision table of Verify, row by row, through Envoy's Check: statuses, codes, headers, bodies, disclosure."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.conformance import gateway, table
from tests.conformance.gateway import Config, Request
from tests.conformance.reference import Moment
from tests.conformance.table import ROWS
from tests.conformance.worlds import view_of
from tests.support.ext_authz import Gateway, Told, request, told
from tests.support.loops import running

CONFIGS = {
    "full": Config(metadata=(("tier", "x-verifier-tier"), ("absent", "x-verifier-absent"))),
    "minimal": Config(minimal=True, deprecation=False, realm="orders (v1)"),
    "api-key": Config(places=(("header", "x-api-key", ""),)),
    "query": Config(places=(("query", "api_key", ""), ("scheme", "authorization", "apikey"))),
}  # fmt: skip
NUMBERED = list(enumerate(ROWS))
IDS = [row.name for row in ROWS]


def asked(config: Config, number: int) -> Request:
    """The request of a row, with its key in the first place of a configuration."""
    row = ROWS[number]
    token = row.token(table.token_of(number))
    kind, name, scheme = config.places[0]
    scopes = [" ".join(row.ask.scopes).encode()] if row.ask.scopes else []
    address = row.ask.address.encode()
    if kind == "query":
        return Request((), b"/a?x=1&" + name.encode() + b"=" + b"".join(b"%%%02x" % byte for byte in token) + b"&y",
                       scopes, address)
    value = scheme.title().encode() + b" " + token if kind == "scheme" else token
    return Request([(b"accept", b"*/*"), (name.encode(), value)], b"/a?x=1", scopes, address)


def message_of(wanted: Request) -> bytes:
    """A request on the wire, in the form that may hold any bytes."""
    made = request(None, path="", address=wanted.address.decode() or None,
                   scopes=wanted.scopes[0].decode() if wanted.scopes else None,
                   raw=[(name.decode(), value) for name, value in wanted.headers])
    made.attributes.request.http.path = wanted.path.decode()
    return made.SerializeToString()  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=CONFIGS)
def answered(request: pytest.FixtureRequest) -> Iterator[tuple[Config, int, list[bytes]]]:
    """All rows, asked within one second that begins with their records' bounds; that second and the answers."""
    config = CONFIGS[request.param]
    for _ in range(5):
        t = int(time.time()) + 1
        with running(view_of(table.world_at(t)), authz=config.authz()) as node, Gateway(node.target) as client:
            messages = [message_of(asked(config, number)) for number in range(len(ROWS))]
            client.send(messages[0])
            time.sleep(max(0.0, t + 0.01 - time.time()))
            answers = [client.send(message) for message in messages]
        if int(time.time()) == t:
            yield config, t, answers
            return
    raise AssertionError("the machine is too slow to ask all rows within a second")


@pytest.mark.parametrize(("number", "row"), NUMBERED, ids=IDS)
def test_row(number, row, answered):
    config, t, answers = answered
    found = told(answers[number])
    expected = gateway.answer(config, table.world_at(t), Moment(t), asked(config, number))
    assert expected == found
    if found.body:
        check_refusal(config, found)
    else:
        assert set(found.headers) == {*gateway_headers(config)}


def gateway_headers(config: Config) -> set[str]:
    """The fixed set."""
    fixed = ("client", "key-id", "version", "phase", "scopes", "revision")
    return {f"x-verifier-{name}" for name in fixed} | {header for _, header in config.metadata}


def check_refusal(config: Config, found: Told) -> None:
    """What no refusal may tell its caller, whoever the key belongs to."""
    body = json.loads(found.body)
    assert found.status == body["status"]
    assert set(body) <= {"type", "title", "status", "code", "detail", "expires_at", "not_before"}
    everything = found.body + "".join(found.headers.values())
    for secret in ("acme", "key_1", "gold", "compromise", "x-verifier"):
        assert secret not in everything
    assert not any(name.startswith("x-verifier") for name in found.headers)
    if config.minimal and found.status == 401:
        assert "unauthorized" == body["code"]


def test_malformed_and_unknown_are_answered_alike_to_the_byte(answered):
    _, _, answers = answered
    rows = [told(answers[number]) for number, row in NUMBERED if row.verdict.name in ("MALFORMED", "UNKNOWN")]
    rows = [row for row in rows if row.metadata.get("code") == "invalid_key"]
    assert {"MALFORMED", "UNKNOWN"} == {row.metadata["verdict"] for row in rows}
    assert 1 == len({row.body for row in rows}) == len({tuple(row.headers.items()) for row in rows})


def test_with_minimal_disclosure_every_401_has_one_body(answered):
    config, _, answers = answered
    bodies = {told(answer).body for answer in answers if told(answer).status == 401}
    assert (len(bodies) == 1) == config.minimal
