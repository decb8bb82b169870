"""Random requests of every kind, as bytes: sound ones, odd ones, and garbage."""

import random
from collections.abc import Sequence

from tests.conformance.worlds import SCOPES, native

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)
ADDRESSES = (b"10.1.2.3", b"192.0.2.7", b"192.0.2.8", b"2001:db8::1", b"::1", b"::ffff:10.0.0.1", b"::ffff:0a00:1",
             b"198.51.100.127", b"198.51.100.128", b"203.0.113.9", b"::", b"fe80::1", b"10.1.3.255", b"10.1.4.0",
             b"0:0:0:0:0:ffff:255.255.255.255", b"2001:DB8:0:0:0:0:0:1")
BAD_ADDRESSES = (b"localhost", b"10.0.0.1:80", b"[::1]", b"10.0.0", b"10.0.0.256", b"01.2.3.4", b"fe80::1%eth0",
                 b" 10.0.0.1", b"10.0.0.1\0", b"\xff", b"1" * 46, b":::", b"0x7f.1", b"10.0.0.1\n", b"::1/128",
                 b"0:0:0:0:0:ffff:255.255.255.2555", b"\xd9\xa1.1.1.1")
BAD_SCOPES = (b"", b"a b", b'"', b"\\", b"a,b", b"\x7f", b"\xc3\xa9", b"\xff", b"a" * 129, b"a\0", b"x" * 5000, b"\n")


def varint(value: int, padding: int = 0) -> bytes:
    """A varint; ``padding`` more bytes than needed, for those that do not use the shortest form."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


def piece(number: int, wire: int, value: bytes) -> bytes:
    """One field."""
    body = varint(len(value)) + value if wire == BYTES else value
    return varint(number << 3 | wire) + body


def random_value(rng: random.Random, wire: int, depth: int = 0) -> bytes:
    """A value of a wire type, for a field that is not known."""
    if wire == VARINT:
        return varint(rng.getrandbits(rng.randrange(65)))
    if wire in (FIXED64, FIXED32):
        return rng.randbytes(8 if wire == FIXED64 else 4)
    return rng.randbytes(rng.choice((0, 1, 5, 200)))


def unknown_field(rng: random.Random, number: int, depth: int = 0) -> bytes:
    """A field with some number and any wire type."""
    wire = rng.choice((VARINT, FIXED64, BYTES, GROUP, FIXED32))
    if wire != GROUP:
        return piece(number, wire, random_value(rng, wire))
    count = rng.randrange(3) if depth < 4 else 0
    inner = b"".join(unknown_field(rng, rng.choice((1, 2, 5, 48, 1000)), depth + 1) for _ in range(count))
    return varint(number << 3 | GROUP) + inner + varint(number << 3 | GROUP_END)


class Requests:
    """Makes requests; the same seed makes the same ones.

    Args:
        seed: for the random generator.
        tokens: tokens that are known.
        revision: the revision that is served.
    """

    def __init__(self, seed: int, tokens: Sequence[str], revision: int) -> None:
        self.rng = random.Random(seed)
        self.tokens = tokens
        self.revision = revision

    def token(self) -> bytes:
        """A key, good or bad."""
        rng = self.rng
        known = rng.choice(self.tokens).encode()
        kind = rng.random()
        if kind < 0.7:
            return known
        at = rng.randrange(len(known))
        return rng.choice((
            native(rng.randrange(10**6, 10**9)).encode(), b"", b"x" * 512, b"x" * 513, b"old_" + b"y" * 508,
            b"old_" + b"y" * 509, known[:at] + bytes([rng.randrange(256)]) + known[at + 1 :], known[:at], known + b"0",
            b"vk_live_", b"vk_live", b"_", b"old_", b"nope_" + known, rng.randbytes(40), b"\xff\xfe", "é".encode(),
            known.swapcase(), known + b"\n", b" " + known, known + known, known.replace(b"_", b"__", 1), b"\0" * 60,
        ))

    def scopes(self) -> list[bytes]:
        """Required scopes."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.5:
            return []
        if kind < 0.85:
            return [scope.encode() for scope in rng.choices(SCOPES, k=rng.randrange(1, 4))]
        if kind < 0.9:
            return [b"read"] * rng.choice((63, 64, 65, 66, 200))
        return [b"read", rng.choice((*BAD_SCOPES, b"unknown", b"rea", b"reads", b"!", b"~"))]

    def fields(self) -> list[bytes]:
        """The fields of a request, before anything odd is done to it."""
        rng = self.rng
        out = [piece(1, BYTES, self.token())]
        out += [piece(2, BYTES, scope) for scope in self.scopes()]
        if rng.random() < 0.6:
            out.append(piece(3, BYTES, rng.choice((*ADDRESSES, b"") if rng.random() < 0.9 else BAD_ADDRESSES)))
        if rng.random() < 0.3:
            ask = rng.choice((0, 1, self.revision, self.revision, -1, -(2**63)) if rng.random() < 0.8
                             else (self.revision + 1, 2**63 - 1))
            out.append(piece(4, VARINT, varint(ask)))
        if rng.random() < 0.3:
            out.append(piece(5, VARINT, varint(rng.choice((0, 1, 2, 2**64 - 1)))))
        return out

    def request(self) -> bytes:
        """One ``VerifyRequest``."""
        rng = self.rng
        out = self.fields()
        while rng.random() < 0.3:
            out.insert(rng.randrange(len(out) + 1), self._oddity())
        if rng.random() < 0.2:
            rng.shuffle(out)
        return self._damaged(b"".join(out)) if rng.random() < 0.1 else b"".join(out)

    def batch(self) -> bytes:
        """One ``VerifyBatchRequest``."""
        rng = self.rng
        count = rng.choice((0, 1, 2, 15, 16, 17, 31, 33, 100))
        if rng.random() < 0.7:  # one bad item spoils the whole batch, so most have none
            out = [piece(1, BYTES, piece(1, BYTES, self.token())) for _ in range(count)]
        else:
            out = [piece(1, BYTES, self.request()) for _ in range(count)]
        while rng.random() < 0.2:
            out.insert(rng.randrange(len(out) + 1), self._oddity(critical=0.3))
        return self._damaged(b"".join(out)) if rng.random() < 0.05 else b"".join(out)

    def _oddity(self, critical: float = 0.1) -> bytes:
        """A field that is not as it should be."""
        rng = self.rng
        kind = rng.random()
        if kind < critical:
            return unknown_field(rng, rng.choice((48, 49, 55, 62, 63)))
        if kind < 0.6:
            return unknown_field(rng, rng.choice((6, 7, 15, 16, 47, 64, 65, 1000, 18999, 2**29 - 1)))
        if kind < 0.8:  # a known number with another wire type; a second value of a singular field
            return unknown_field(rng, rng.choice((2, 3, 4, 5)))
        return rng.choice(self.fields())

    def _damaged(self, message: bytes) -> bytes:
        """A message with a piece missing, changed or added."""
        rng = self.rng
        at = rng.randrange(len(message) + 1)
        return rng.choice((
            message[:at], message[at:], message[:at] + rng.randbytes(1) + message[at + 1 :],
            message[:at] + rng.randbytes(3) + message[at:], message + b"\x0a\xff\xff\xff\xff\x0f",
            message + b"\x00", message + b"\x0c", message + b"\x0e\x01", message + b"\xff" * 11, message + b"\x13",
            rng.randbytes(rng.randrange(60)), message + varint(5 << 3, 2) + varint(1, 8),
            message + varint(5 << 3, 3) + varint(1, 3),
        ))
