"""Connections that send almost the right bytes: whatever arrives, the loop lives on and answers everybody else.

Recorded conversations are changed at random - bytes flipped, cut out, doubled, cut short, frames swapped - and played
to one running loop. Run under the sanitizers (make sanitize), this looks for memory errors as well. Seeds are fixed, so
a failure repeats.
"""

import random
import socket
from contextlib import suppress

import hpack
import hyperframe.frame as frames
import pytest

from tests.support.groups import EchoServer, echo_server
from tests.support.http2 import ECHO, PREFACE, Http2Client, message
from tests.support.image import Facts, image_of, view_of
from tests.support.publications import native
from verifier._authz import Authz
from verifier.v1.verifier_pb2 import VerifyBatchRequest, VerifyRequest

VERIFY = "/verifier.v1.VerifierService/Verify"
BATCH = "/verifier.v1.VerifierService/VerifyBatch"
KNOWN = native(1)
SEEDS = 12
CONNECTIONS_PER_SEED = 40


@pytest.fixture(scope="module")
def server():
    with echo_server(authz=Authz()) as group:
        assert group.publish(view_of(image_of({KNOWN: Facts(scopes=("read",), rules=("10.0.0.0/8",))})))
        yield group


def conversation(chance: random.Random) -> list[bytes]:
    """The frames of a proper client with a few calls in flight."""
    encoder = hpack.Encoder()
    parts = [PREFACE + frames.SettingsFrame(0, settings={}).serialize()]
    request = VerifyRequest(key=KNOWN, required_scopes=["read"], client_address="10.0.0.1", min_revision=1)
    batch = VerifyBatchRequest(requests=[request] * chance.randint(0, 20))
    for number in range(chance.randint(1, 8)):
        stream = 2 * number + 1
        if chance.random() < 0.3:
            parts += plain_request(encoder, stream, chance)
            continue
        path, body = chance.choice([(VERIFY, request.SerializeToString()), (BATCH, batch.SerializeToString()),
                                    (ECHO, b"x" * chance.randint(0, 3000)), ("/grpc.health.v1.Health/Check", b"")])
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a"), ("te", "trailers"),
                  ("content-type", "application/grpc"), ("grpc-timeout", chance.choice(["5S", "0n", "99999999H"]))]
        parts.append(frames.HeadersFrame(stream, encoder.encode(fields), flags=["END_HEADERS"]).serialize())
        data = message(body)
        cut = chance.randint(0, len(data))
        parts.append(frames.DataFrame(stream, data[:cut]).serialize())
        parts.append(frames.DataFrame(stream, data[cut:], flags=["END_STREAM"]).serialize())
        parts.append(chance.choice([
            frames.PingFrame(0, opaque_data=b"12345678").serialize(),
            frames.WindowUpdateFrame(0, window_increment=chance.randint(1, 1 << 20)).serialize(),
            frames.RstStreamFrame(stream, error_code=8).serialize(),
            frames.SettingsFrame(0, settings={4: chance.randint(0, 1 << 17)}).serialize(),
            b"",
        ]))
    return parts


def plain_request(encoder: hpack.Encoder, stream: int, chance: random.Random) -> list[bytes]:
    """A request of a gateway, or one for JSON."""
    path, kind, body = chance.choice([
        ("/v1/authz?scopes=read&profile=nginx", "text/plain", b"thrown away"), ("/v1/authz", "text/plain", b""),
        ("/v1/verify", "application/json", b'{"key":"%s","requiredScopes":["read"]}' % KNOWN.encode()),
    ])  # fmt: skip
    fields = [(":method", chance.choice(["GET", "HEAD", "POST"])), (":scheme", "http"), (":path", path),
              (":authority", "a"), ("content-type", kind), ("authorization", f"Bearer {KNOWN}"),
              ("x-real-ip", "10.0.0.1"), ("x-forwarded-uri", "/a?b=c"), ("x-long", "y" * chance.choice([1, 500, 5000]))]
    cut = chance.randint(0, len(body))
    return [frames.HeadersFrame(stream, encoder.encode(fields), flags=["END_HEADERS"]).serialize(),
            frames.DataFrame(stream, body[:cut]).serialize(),
            frames.DataFrame(stream, body[cut:], flags=["END_STREAM"]).serialize()]


def spoilt(parts: list[bytes], chance: random.Random) -> bytes:
    """The same conversation, a little wrong."""
    parts = list(parts)
    if chance.random() < 0.3 and len(parts) > 2:
        one, other = chance.sample(range(1, len(parts)), 2)
        parts[one], parts[other] = parts[other], parts[one]
    data = bytearray(b"".join(parts))
    first = len(PREFACE) if chance.random() < 0.9 else 0
    for _ in range(chance.choice([0, 1, 1, 2, 8])):
        at = chance.randrange(first, len(data))
        change = chance.random()
        if change < 0.6:
            data[at] ^= 1 << chance.randrange(8)
        elif change < 0.8:
            del data[at : at + chance.randint(1, 30)]
        else:
            data[at:at] = data[at : at + chance.randint(1, 60)]
        if len(data) <= first + 1:
            break
    return bytes(data[: chance.randint(1, len(data))] if chance.random() < 0.2 else data)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_loop_outlives_every_conversation(server: EchoServer, seed: int):
    chance = random.Random(seed)
    with Http2Client(server.address) as witness:
        for turn in range(CONNECTIONS_PER_SEED):
            with socket.create_connection(server.address, timeout=5) as peer, suppress(OSError):
                data = spoilt(conversation(chance), chance)
                cut = chance.randint(0, len(data))
                peer.sendall(data[:cut])
                peer.sendall(data[cut:])
                if chance.random() < 0.5:
                    peer.settimeout(0.02)
                    peer.recv(65536)
            witness.call(2 * turn + 1, b"still there?")
            assert message(b"still there?") == witness.response(2 * turn + 1).body
    assert server.running
