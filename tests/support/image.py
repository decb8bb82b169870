"""A keyring's bytes made by hand, straight from docs/keyring-format.md: no LMDB, no builder, so that the hot path is
tested against the page and not against the code that normally feeds it."""

import hashlib
import hmac
import ipaddress
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.canonical import canonical
from verifier._map import Map
from verifier._view import View
from verifier.v1.verifier_pb2 import VerifyResponse

NEVER = 0xFFFFFFFF
PEPPER = bytes(range(32))
REVOKED, KEY_OFF, WATCH, HAS_RULES, ABSENT = 1, 2, 4, 8, 16
START = 4096


def tag_of(token: str | bytes, peppers: Sequence[bytes] = (PEPPER,)) -> bytes:
    """The tag of a token, by hashlib."""
    value = hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()
    for pepper in peppers:
        value = hmac.digest(pepper, value, "sha256")
    return value


@dataclass
class Facts:
    """What a record says."""

    client_id: str = "acme"
    key_id: str = "key_1"
    version: int = 1
    flags: int = 0
    reason: int = 0
    not_before: int = 0
    end: int = NEVER
    superseded_at: int = NEVER
    superseded_by: int = 0
    client: int = 1
    ordinal: int = 7
    scopes: Sequence[str] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    rules: Sequence[str] = ()

    def response(self, *, full: bool) -> VerifyResponse:
        """Fields 8 and up of the answer."""
        message = VerifyResponse(client_id=self.client_id, key_id=self.key_id, version=self.version,
                                 superseded_by=self.superseded_by, revocation_reason=self.reason)  # type: ignore[arg-type]
        for name, value, none in (("not_before", self.not_before, 0), ("expires_at", self.end, NEVER),
                                  ("superseded_at", self.superseded_at, NEVER)):
            if value != none:
                getattr(message, name).seconds = value
        if full:
            message.scopes.extend(sorted(self.scopes))
            for key in sorted(self.metadata):
                message.metadata[key] = self.metadata[key]
        return message

    def encode(self, tag: bytes) -> bytes:
        """The record's bytes."""
        l1 = canonical(self.response(full=False))
        l2 = canonical(self.response(full=True))
        assert l2.startswith(l1)
        rules = sorted(_rule(text) for text in self.rules)
        flags = self.flags | (HAS_RULES if rules else 0)
        body = tag[16:] + struct.pack("<HBBIIIIIIIHH", flags, self.reason, len(rules), self.not_before, self.end,
                                      self.superseded_at, NEVER, NEVER, self.ordinal, self.client, len(l1), len(l2))
        body += l2 + b"".join(rules)
        return body + bytes(-len(body) % 8)


def _rule(text: str) -> bytes:
    network = ipaddress.ip_network(text)
    if network.version == 4:
        return bytes([96 + network.prefixlen]) + bytes(10) + b"\xff\xff" + network.network_address.packed
    return bytes([network.prefixlen]) + network.network_address.packed


@dataclass
class Image:
    """The bytes of a keyring, and where its blocks are."""

    data: bytes
    slots: tuple[int, int]
    switches: tuple[int, int]
    offsets: dict[bytes, int]

    def map(self) -> Map:
        """The bytes as a Map."""
        return Map.from_bytes(self.data)


def make_image(records: Mapping[bytes, bytes], clients_off: Sequence[int] = (), clients: int = 64,
               slot_count: int | None = None) -> Image:
    """Lay out records (tag -> record), slots and switches."""
    out = bytearray(START)
    offsets = {}
    for tag in sorted(records):
        offsets[tag] = len(out)
        out += tag[:16] + records[tag]
    count = slot_count or max(64, math.ceil(len(records) / 0.7) + 7 & ~7)
    table = [0] * count
    for tag, offset in offsets.items():
        head = int.from_bytes(tag[:8], "big")
        at = ((head >> 32) * count) >> 32
        while table[at]:
            at = (at + 1) % count
        table[at] = offset << 20 | head & 0xFFFFF
    out += bytes(-len(out) % 4096 + 16)
    slots = (len(out), 48 + 8 * count)
    out += struct.pack("<8sQQ24x", b"VKSLOTS1", count, len(records)) + struct.pack(f"<{count}Q", *table)
    out += bytes(-len(out) % 4096 + 16)
    bits = bytearray((clients + 7) // 8)
    for ordinal in clients_off:
        bits[ordinal >> 3] |= 1 << (ordinal & 7)
    switches = (len(out), 48 + len(bits))
    out += struct.pack("<8sQQ24x", b"VKSWTCH1", clients, len(clients_off)) + bits
    return Image(bytes(out), slots, switches, offsets)


def image_of(facts: Mapping[str, Facts], **layout: object) -> Image:
    """An image that holds one record for each token."""
    return make_image({tag_of(token): fact.encode(tag_of(token)) for token, fact in facts.items()}, **layout)  # type: ignore[arg-type]


def view_of(base: Image, delta: Image | None = None, *, revision: int = 3, accepts_foreign: bool = False,
            prefixes: Sequence[tuple[str, str]] = (("vk_live", "NATIVE"),), max_staleness_ms: int = 0) -> View:
    """A view over hand-made images."""
    newest = base if delta is None else delta
    return View(base.map(), base.slots, newest.switches, [PEPPER], prefixes, accepts_foreign, revision,
                None if delta is None else delta.map(), None if delta is None else delta.slots, max_staleness_ms)
