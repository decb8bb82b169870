"""Check on random and on damaged messages: what a stock parser can read is answered as the oracle says.

The stock parser reads texts as bytes and maps as repeated entries, as the compiled decoder does. Where it cannot read a
message, the decoder may still (it steps over what it does not need), but it never allows what it has not understood:
its answer is then one of its own refusals, or that of the parts that it read.
"""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance import gateway
from tests.conformance.gateway import Config, Request
from tests.conformance.reference import Moment, World
from tests.conformance.requests import ADDRESSES, BAD_ADDRESSES, BYTES, GROUP, piece, unknown_field
from tests.conformance.worlds import random_world, view_of
from tests.support.ext_authz import Gateway, RawCheckRequest, ordinary_request, told
from tests.support.loops import running

CONFIG = Config(
    places=(("scheme", "authorization", "bearer"), ("scheme", "authorization", "token"), ("header", "x-api-key", ""),
            ("header", "x-key-id1", ""), ("query", "api_key", ""), ("query", "k", "")),
    metadata=(("k0", "x-verifier-k0"), ("k1", "x-verifier-k1")),
)  # fmt: skip
HOPS = Config(forwarded_hops=2)
WORLD, TOKENS = random_world(17, int(time.time()), keys=60)
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

tokens = st.sampled_from([token.encode() for token in TOKENS])
keys = tokens | tokens | st.sampled_from([b"", b" ", b"a,b", b"\xff\xfe", b"x" * 513, b"%76k_live", b"bearer"])
names = st.sampled_from([b"authorization", b"x-api-key", b"x-key-id1", b"accept", b"x-forwarded-for", b":path", b"",
                         b"x_verifier-key_id", b"x_verifier_k0", b"x-apI-key", b"authorizatiom", b"x" * 64,
                         b"y" * 200])  # fmt: skip
blanks = st.sampled_from([b"", b" ", b"\t ", b"  "])
schemes = st.sampled_from([b"Bearer", b"bearer", b"BEARER", b"Token", b"Basic", b"Bearerx", b"", b"Bear"])
credentials = st.builds(lambda before, scheme, between, key, after: before + scheme + between + key + after,
                        blanks, schemes, blanks, keys, blanks)
addresses = st.sampled_from([*ADDRESSES, *BAD_ADDRESSES, b""])
hops = st.lists(st.sampled_from([*ADDRESSES, b"10.0.0.1:80", b"[2001:db8::1]:443", b"fe80::1%eth0", b"[::1", b"x",
                                 b""]), max_size=4).map(b", ".join)
values = credentials | keys | st.lists(credentials | keys, max_size=3).map(b",".join) | hops | st.binary(max_size=300)
parameters = st.builds(lambda name, equals, key: name + equals + key,
                       st.sampled_from([b"api_key", b"k", b"api%5fkey", b"limit", b"", b"API_KEY"]),
                       st.sampled_from([b"=", b"", b"=="]), keys | st.just(b"%41%zz%4"))
paths = st.builds(lambda path, query: path + b"".join(query), st.sampled_from([b"/", b"", b"/a/b", b"?", b"/a?x=1"]),
                  st.lists(st.builds(bytes.__add__, st.sampled_from([b"?", b"&", b"&&", b"#"]), parameters),
                           max_size=4))
noise = st.sampled_from([b"accept", b"x-verifier-client", b"x_verifier_clien", b"y_verifier_client",
                         b"x-forwarded-for", b":path", b"authorizatiom", b"x" * 64, b"y" * 200])  # fmt: skip
presented = st.tuples(st.just(b"x-api-key"), tokens) | st.tuples(
    st.just(b"authorization"), st.builds(bytes.__add__, st.sampled_from([b"Bearer ", b"bearer\t "]), tokens))
extensions = st.sampled_from([
    b"required_scopes", b"required_scopes", b"required_scopes", b"tenant", b"", b"required", b"scopes",
    b"Required-Scope", b"scop",
])
scopes = st.lists(st.sampled_from([b"read", b"write", b"admin:all", b"a" * 128, b"a" * 129, b"", b'"', b"\xff"]),
                  max_size=3).map(b", ".join) | st.just(b"read " * 65) | st.just(b"read\twrite")


@st.composite
def messages(draw: st.DrawFn) -> Any:
    """A CheckRequest of any content, headers in one form or the other or both."""
    made = RawCheckRequest()
    http = made.attributes.request.http
    sound = draw(st.integers(0, 2)) > 0  # one key, and nothing that makes a bad request: or hardly any would be judged
    headers = draw(st.lists(st.tuples(noise if sound else names, values), max_size=4))
    if sound:
        headers.insert(draw(st.integers(0, len(headers))), draw(presented))
    for name, value in headers:
        if draw(st.booleans()):
            http.headers.add(key=name, value=value)
        else:
            http.header_map.headers.add(key=name, **{draw(st.sampled_from(["value", "raw_value"])): value})
    if draw(st.booleans()):
        http.path = b"/a?limit=2" if sound else draw(paths)
    for _ in range(draw(st.integers(0, 2))):
        made.attributes.context_extensions.add(key=draw(extensions),
                                               value=draw(st.sampled_from([b"", b"read"]) if sound else scopes))
    kind = draw(st.sampled_from(["socket_address", "pipe", "envoy_internal_address", None]))
    if kind == "socket_address":
        made.attributes.source.address.socket_address.address = draw(st.sampled_from(ADDRESSES) if sound else addresses)
    elif kind is not None:
        getattr(made.attributes.source.address, kind).path = b"10.0.0.1"
    made.attributes.destination.address.socket_address.address = b"10.9.9.9"
    http.body = draw(st.binary(max_size=200))
    return made


def read(message: Any) -> Request:
    """What a parsed message asks. `headers` and `header_map` are read in the order of their numbers."""
    http = message.attributes.request.http
    headers = [(entry.key, entry.value) for entry in http.headers]
    headers += [(entry.key, entry.raw_value or entry.value) for entry in http.header_map.headers]
    required = [entry.value if entry.key == b"required_scopes" else b"\xff"
                for entry in message.attributes.context_extensions
                if any(word in entry.key.lower() for word in (b"required", b"scope"))]
    return Request(headers, http.path, required, message.attributes.source.address.socket_address.address)


@pytest.fixture(scope="module", params=[CONFIG, HOPS], ids=["places", "hops"])
def asking(request: pytest.FixtureRequest) -> Iterator[tuple[Config, Gateway]]:
    with running(view_of(WORLD), authz=request.param.authz()) as node, Gateway(node.target) as client:
        yield request.param, client


def check(asking: tuple[Config, Gateway], message: bytes, world: World = WORLD) -> None:
    """Ask, and compare with the oracle, as far as a stock parser can read the message."""
    config, client = asking
    found = told(client.send(message))
    try:
        readable = RawCheckRequest.FromString(message)
    except DecodeError:
        return
    expected = gateway.answer(config, world, Moment(int(time.time())), read(readable))
    if expected == 400:
        assert (400, 3, "bad_request") == (found.status, found.code, found.metadata["code"])
    else:
        assert expected == found


@QUICK
@given(message=messages())
def test_random_messages_are_answered_as_the_oracle_says(asking, message):
    check(asking, message.SerializeToString())


@QUICK
@given(parts=st.lists(messages(), min_size=2, max_size=3))
def test_messages_in_pieces_are_merged_as_a_stock_parser_merges_them(asking, parts):
    check(asking, b"".join(part.SerializeToString() for part in parts))


@QUICK
@given(message=messages(), seed=st.integers(0, 2**32), number=st.sampled_from([2, 5, 7, 9, 15, 16, 1000]))
def test_unknown_fields_are_stepped_over(asking, message, seed, number):
    rng = random.Random(seed)
    unknown = unknown_field(rng, number)
    http = message.attributes.request.http.SerializeToString()
    rest = RawCheckRequest.FromString(message.SerializeToString())
    rest.attributes.request.http.Clear()
    wrapped = piece(1, BYTES, unknown + piece(4, BYTES, piece(2, BYTES, http + unknown_field(rng, 14))))
    check(asking, unknown + wrapped + rest.SerializeToString())


@QUICK
@given(message=messages(), data=st.data())
def test_damaged_messages_are_refused_or_read_as_a_stock_parser_reads_them(asking, message, data):
    damaged = bytearray(message.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        change = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if change == "flip":
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        elif change == "cut":
            del damaged[at : at + data.draw(st.integers(1, 9))]
        elif change == "insert":
            damaged[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        else:
            damaged[at:at] = damaged[at : at + data.draw(st.integers(1, 40))]
        if not damaged:
            return
    check(asking, bytes(damaged))


@settings(QUICK, max_examples=150)
@given(data=st.binary(max_size=200))
def test_garbage_is_refused(asking, data):
    check(asking, data)


def test_every_prefix_of_a_message_is_refused_or_read_as_a_stock_parser_reads_it(asking):
    message = ordinary_request(TOKENS[0]).SerializeToString()
    for length in range(0, len(message) + 1, 3):
        check(asking, message[:length])


@pytest.mark.parametrize("message", [
    b"\x0a", b"\x0a\x05\x22", b"\x00\x00", b"\x0a\x80", b"\x0a\xff\xff\xff\xff\x0f", piece(1, GROUP, b"\x0a"),
    piece(1, BYTES, piece(4, BYTES, b"\x12\x7f")), piece(1, BYTES, piece(10, BYTES, b"\x0a\x20abc")),
    piece(1, BYTES, piece(4, BYTES, piece(2, BYTES, piece(3, BYTES, b"\x0a\x0dauth")))),
])
def test_what_cannot_be_decoded_is_a_bad_request(asking, message):
    with pytest.raises(DecodeError):
        RawCheckRequest.FromString(message)
    found = told(asking[1].send(message))
    assert (400, 3) == (found.status, found.code)
    assert {"code": "bad_request"} == found.metadata
