"""/v1/verify against Python's json and protobuf's json_format: a request means what they say, or is refused, and the
answer is what MessageToDict makes of the answer over gRPC."""

import json
import random
import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import json_format

from tests.conformance.comparing import without_staleness
from tests.conformance.worlds import random_world, view_of
from tests.support.web import GOOD, RULED, WebServer, answers_of, head, web_server, world
from verifier.v1.verifier_pb2 import VerifyRequest, VerifyResponse

VERIFY = "/verifier.v1.VerifierService/Verify"


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with web_server(world()) as running:
        yield running


def ask(server: WebServer, body: bytes) -> tuple[int, dict]:
    lines = ["content-type: application/json", f"content-length: {len(body)}"]
    (answer,) = answers_of(server.say(head("/v1/verify", *lines, method="POST") + body))
    return answer.status, answer.json()


def settled(answer: dict) -> dict:
    """Without what time changes."""
    return {name: value for name, value in answer.items() if name != "stalenessMs"}


def no_pairs_twice(pairs: list) -> dict:
    assert len(dict(pairs)) == len(pairs), "a name stands twice"
    return dict(pairs)


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_those_of_grpc_in_protobufs_json(seed: int):
    made, tokens = random_world(seed, int(time.time()))
    rng = random.Random(seed)
    with web_server(view_of(made)) as server, \
            grpc.insecure_channel("{}:{}".format(*server.address)) as channel:
        call = channel.unary_unary(VERIFY, VerifyRequest.SerializeToString, VerifyResponse.FromString)
        for token in rng.sample(tokens, min(150, len(tokens))):
            scopes = rng.sample(["read", "trade", "admin:all"], rng.choice((0, 0, 1, 2)))
            request = VerifyRequest(key=token, required_scopes=scopes, probe=True,
                                    client_address=rng.choice(["", "10.1.2.3", "2001:db8::1"]))
            expected = VerifyResponse.FromString(without_staleness(call(request, timeout=5).SerializeToString()))
            body = json_format.MessageToJson(request, preserving_proto_field_name=rng.random() < 0.5).encode()
            status, answer = ask(server, body)
            assert (200, json_format.MessageToDict(expected)) == (status, settled(answer))


# --- Requests --------------------------------------------------------------------------------------------------------

GOOD_BODIES = [
    f'{{"key":"{GOOD}"}}', f'{{ "key" : "{GOOD}" , "requiredScopes" : [ "read" , "trade" ] }}',
    f'{{"required_scopes":["nothing"],"key":"{GOOD}"}}', f'{{"key":"{RULED}","clientAddress":"10.0.0.1"}}',
    f'{{"key":"{RULED}","client_address":"::1","probe":true}}', f'{{"key":"{GOOD}","minRevision":"3","probe":false}}',
    f'{{"key":"{GOOD}","min_revision":3}}', '{"key":null,"probe":null,"requiredScopes":null,"minRevision":null}',
    '{"key":"\\u0061\\ud83d\\ude00\\n\\"\\\\\\/"}', '{"key":"\u20ac\U0001f600"}', "{}", '{"minRevision":-1}',
    f'\t\r\n{{"key":"{GOOD[:4]}\\u00{ord(GOOD[4]):02x}{GOOD[5:]}"}}\n ', '{"requiredScopes":[]}',
]  # fmt: skip
BAD_BODIES = [
    "", " ", "[]", "null", '"x"', "1", "{", "}", '{"key"}', '{"key":}', '{"key":"x",}', '{,"key":"x"}', '{"key":"x"}}',
    '{"key":"x"} x', '{"key":"x""probe":true}', '{"key":"x","key":"x"}', '{"requiredScopes":[],"required_scopes":[]}',
    '{"Key":"x"}', '{"other":1}', '{"key":1}', '{"key":["x"]}', '{"key":{}}', '{"requiredScopes":"read"}',
    '{"requiredScopes":["a",]}', '{"requiredScopes":[null]}', '{"requiredScopes":[["a"]]}',
    '{"requiredScopes":["a" "b"]}',
    '{"requiredScopes":[""]}', '{"requiredScopes":["a,b"]}', '{"clientAddress":"x"}',
    '{"clientAddress":"1.2.3.4\\u0000"}',
    '{"probe":1}', '{"probe":"true"}', '{"probe":tru}', '{"probe":TRUE}', '{"minRevision":01}', '{"minRevision":1.5}',
    '{"minRevision":"x"}', '{"minRevision":" 1"}', '{"minRevision":9223372036854775808}', '{"minRevision":--1}',
    '{"minRevision":+1}', '{"minRevision":"1" 2}', '{"minRevision":-9223372036854775809}', '{"key":"\\ud800"}',
    '{"key":"\\udc00x"}', '{"key":"\\ud800\\u0041"}', '{"key":"\\ud800\\ud800"}', '{"key":"\\x41"}', '{"key":"\\u12"}',
    '{"key":"\\u12g4"}', '{"key":"a\nb"}', '{"key":"a\x00b"}', '{"key":"a\tb"}', '{"key":"x', "{'key':'x'}", "{key:1}",
    '{"key":"x"/**/}', '\ufeff{"key":"x"}', '{"probe":NaN}', '{"key":nul}', '{"key":"x"\x0c}',
    '{"k\\u0065y":"x","key":"y"}',
]  # fmt: skip
BAD_BYTES = [
    b'{"key":"\xff"}', b'{"key":"\xc0\x80"}', b'{"key":"\xed\xa0\x80"}', b'{"key":"\xf4\x90\x80\x80"}',
    b'{"key":"\xe2\x82"}',
    b'{"key":"\xc3"}', b'{"key":"\x80"}', b'{"key":"\xf8\x88\x80\x80\x80"}', b'{"key":"\xe0\x80\x80"}',
    b'\xff\xfe{\x00}\x00',
]  # fmt: skip


def meaning(body: bytes) -> VerifyRequest | None:
    """What protobuf's parser reads, from JSON in which no name stands twice; None when it refuses."""
    try:
        text = body.decode()
        json.loads(text, object_pairs_hook=no_pairs_twice, parse_constant=lambda _: 1 / 0)
        return json_format.Parse(text, VerifyRequest())
    except (ValueError, AssertionError, ZeroDivisionError, json_format.ParseError, RecursionError):
        return None


@pytest.mark.parametrize("body", GOOD_BODIES)
def test_good_requests_are_read_as_protobuf_reads_them(server: WebServer, body: str):
    request = meaning(body.encode())
    assert request is not None
    assert_same(server, body.encode(), request)


@pytest.mark.parametrize("body", [*(text.encode() for text in BAD_BODIES), *BAD_BYTES])
def test_bad_requests_are_refused(server: WebServer, body: bytes):
    status, answer = ask(server, body)
    assert (400, "bad_request") == (status, answer["code"])


def test_a_number_may_be_the_least_and_the_greatest(server: WebServer):
    assert 200 == ask(server, b'{"minRevision":-9223372036854775808}')[0]
    assert 503 == ask(server, b'{"minRevision":9223372036854775807}')[0]
    assert 503 == ask(server, b'{"minRevision":"9223372036854775807"}')[0]


@pytest.mark.parametrize("opening", [b"[", b'{"key":', b'{"requiredScopes":['])
def test_depth_costs_nothing(server: WebServer, opening: bytes):
    assert 400 == ask(server, opening * (60_000 // len(opening)))[0]


def assert_same(server: WebServer, body: bytes, request: VerifyRequest) -> None:
    """Ask in JSON and over gRPC."""
    with grpc.insecure_channel("{}:{}".format(*server.address)) as channel:
        call = channel.unary_unary(VERIFY, VerifyRequest.SerializeToString, VerifyResponse.FromString)
        status, answer = ask(server, body)
        try:
            expected = VerifyResponse.FromString(without_staleness(call(request, timeout=5).SerializeToString()))
        except grpc.RpcError as error:
            assert status == {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 503}[error.code().name]
        else:
            assert (200, json_format.MessageToDict(expected)) == (status, settled(answer))


@pytest.mark.parametrize("seed", range(4))
def test_damaged_requests_mean_the_same_or_are_refused(server: WebServer, seed: int):
    rng = random.Random(seed)
    pieces = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"\\u0041", b"\\ud800", b"\x00",
              b"\xc3",
              b"1", b"-", b".", b"e1", b'"key"', b'"probe":true,', b" ", b"\xe2\x82\xac"]  # fmt: skip
    good = refused = 0
    for _ in range(500):
        body = bytearray(rng.choice(GOOD_BODIES).encode())
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(body) + 1)
            if rng.random() < 0.5 and at < len(body):
                del body[at : at + rng.randint(1, 3)]
            else:
                body[at:at] = rng.choice(pieces)
        request = meaning(bytes(body))
        if request is None:
            assert 400 == ask(server, bytes(body))[0], bytes(body)
            refused += 1
        elif ask(server, bytes(body))[0] != 400:  # stricter than protobuf's parser, never laxer
            assert_same(server, bytes(body), request)
            good += 1
    assert good > 20
    assert refused > 100
