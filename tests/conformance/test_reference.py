"""The reference against the protobuf runtime, and against the compiled view in this process."""

import random
import time

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from tests.conformance import reference
from tests.conformance.comparing import outcome, without_staleness
from tests.conformance.reference import Entry, Fault, Moment, Request, World
from tests.conformance.requests import Requests
from tests.conformance.server import InProcess, Reference
from tests.conformance.worlds import native, random_world, tagged, view_of
from tests.support.image import PEPPER
from verifier.v1 import verifier_pb2 as pb
from verifier.vocabulary import Verdict


@pytest.fixture(scope="module")
def lenient_type():
    """VerifyRequest with ``bytes`` in place of ``string``, so that the stock parser takes any key."""
    file = descriptor_pb2.FileDescriptorProto(name="lenient.proto", package="lenient", syntax="proto3")
    pb.VerifyRequest.DESCRIPTOR.CopyToProto(file.message_type.add())
    for field in file.message_type[0].field:
        if field.type == field.TYPE_STRING:
            field.type = field.TYPE_BYTES
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("lenient.VerifyRequest"))


def stock_decode(lenient_type, message: bytes) -> Request | None:
    try:
        parsed = lenient_type.FromString(message)
    except DecodeError:
        return None
    critical = any(48 <= field.field_number <= 63 for field in UnknownFieldSet(parsed))
    return Request(parsed.key, list(parsed.required_scopes), parsed.client_address, parsed.min_revision,
                   parsed.probe, critical)


def own_decode(message: bytes) -> Request | None:
    try:
        return reference.decode(message)
    except Fault:
        return None


def test_decoder_reads_what_the_protobuf_runtime_reads(lenient_type):
    requests = Requests(1, random_world(1, 10**9)[1], 41)
    undecodable = 0
    for _ in range(20_000):
        message = requests.request()
        expected = stock_decode(lenient_type, message)
        undecodable += expected is None
        assert expected == own_decode(message), message.hex()
    assert undecodable > 100


def test_decoder_reads_noise_as_the_protobuf_runtime_does(lenient_type):
    rng = random.Random(2)
    readable = 0
    for _ in range(20_000):
        message = bytes(rng.choices((0, 1, 2, 8, 0x0A, 0x12, 0x1A, 0x20, 0x28, 0x2B, 0x2C, 0x80, 0x83, 0x84, 3, 0xFF),
                                    k=rng.randrange(12)))
        expected = stock_decode(lenient_type, message)
        readable += expected is not None
        assert expected == own_decode(message), message.hex()
    assert readable > 1000


@pytest.mark.parametrize("seed", range(4))
def test_in_process_view_answers_as_the_reference(seed):
    """Rules, tags, records and response bytes: the compiled verdict against the plain one."""
    world, tokens = random_world(seed, int(time.time()), accepts_foreign=seed == 1)
    plain, compiled = Reference(world, lambda: Moment(int(time.time()))), InProcess(world, view_of(world))
    requests = Requests(seed, tokens, world.revision)
    seen = set()
    for _ in range(5000):
        message = requests.request()
        expected = outcome(plain.verify, message)
        assert expected == outcome(compiled.verify, message), message.hex()
        seen.add(pb.VerifyResponse.FromString(expected[1]).verdict if expected[0] == "OK" else expected[0])
    assert {*range(1, 11), "INVALID_ARGUMENT", "UNIMPLEMENTED", "FAILED_PRECONDITION"} == seen


def test_every_address_notation_is_read_alike():
    """ipaddress in the reference and inet_pton in the compiled code must accept the same texts."""
    rng = random.Random(3)
    view = view_of(random_world(5, 10**9, keys=5)[0])
    texts = ["1.2.3.4", "::1", "1::2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8", "::1.2.3.4"]
    for _ in range(20_000):
        text = list(rng.choice(texts))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(2)] = rng.choice("0123456789abcdefF::..%/ ")
        joined = "".join(text)
        well_formed = reference.parse_address(joined.encode()) is not None
        try:
            view.verify("x", client_address=joined)
            accepted = True
        except ValueError:
            accepted = False
        except Exception as error:
            assert type(error).__name__ == "InvalidInput"
            accepted = False
        assert well_formed == accepted, joined


def test_staleness_is_taken_out_and_nothing_else():
    full = pb.VerifyResponse(verdict="VERDICT_VALID", revision=7, staleness_ms=300, client_id="acme")
    bare = pb.VerifyResponse(verdict="VERDICT_VALID", revision=7, client_id="acme")
    assert bare.SerializeToString() == without_staleness(full.SerializeToString())
    assert bare.SerializeToString() == without_staleness(bare.SerializeToString())


def test_scopes_that_a_sequence_makes_on_the_fly_are_kept():
    """A request points into the text of the scopes; protobuf's repeated fields make new strings at each access."""
    token = native(1)
    world = World(revision=7, base=tagged({token: Entry("acme", "key_1", scopes=("trade",))}), peppers=(PEPPER,))
    view = view_of(world)
    request = pb.VerifyRequest(required_scopes=["write", "trade", "trade"])
    assert Verdict.INSUFFICIENT_SCOPE is view.verify(token, request.required_scopes).verdict
    assert Verdict.INSUFFICIENT_SCOPE is view.verify(token, (scope for scope in request.required_scopes)).verdict
    assert [Verdict.INSUFFICIENT_SCOPE] == [a.verdict for a in view.verify_batch([token], request.required_scopes)]
    assert view.verify(token, iter(["trade"])).valid
