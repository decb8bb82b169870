"""Verify, written a second time in plain Python: the oracle of the compiled hot path.

Nothing here uses the compiled modules or the keyring's encoding. Requests are read by an own decoder, tags are made
by hashlib and hmac, records are Python data, the checks are the rows of the decision table one below the other
(gates G1 to G6, verdicts V1 to V12), and responses are encoded by the protobuf runtime. The clock and the staleness
are arguments.
"""

import hashlib
import hmac
import ipaddress
import string
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from grpc import StatusCode

from tests.support.canonical import canonical, canonical_batch
from verifier.v1 import verifier_pb2 as pb
from verifier.vocabulary import Phase, RevocationReason, Verdict

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
SCOPE_CHARACTERS = frozenset(chr(c) for c in range(0x21, 0x7F)) - set('"\\,')
BATCH_MAX = 1000
RETRY_AFTER_MS = 50


class Fault(Exception):
    """A gate: the call ends with a gRPC status and no verdict."""

    def __init__(self, status: StatusCode, trailers: Mapping[str, str] | None = None) -> None:
        super().__init__(status.name)
        self.status = status
        self.trailers = dict(trailers or {})


# --- What is served --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A record; times in seconds since 1970, None = none."""

    client_id: str
    key_id: str
    version: int = 1
    not_before: int | None = None
    expires_at: int | None = None
    superseded_at: int | None = None
    superseded_by: int = 0
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    revoked: bool = False
    key_off: bool = False
    client_ordinal: int = 0
    scopes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """What a node serves. ``delta`` overrides ``base``; None in it means: counts as missing."""

    revision: int
    base: Mapping[bytes, Entry]
    delta: Mapping[bytes, Entry | None] = field(default_factory=dict)
    clients_off: frozenset[int] = frozenset()
    prefixes: Mapping[str, str] = field(default_factory=lambda: {"vk_live": "NATIVE"})
    accepts_foreign: bool = False
    peppers: Sequence[bytes] = (b"\x01" * 32,)
    max_staleness_ms: int = 0

    def find(self, tag: bytes) -> Entry | None:
        """Look a tag up, in the delta first."""
        return self.delta[tag] if tag in self.delta else self.base.get(tag)


@dataclass(frozen=True)
class Moment:
    """What one turn of a node's loop goes by."""

    now_s: int
    staleness_ms: int = 0
    expired: bool = False  # the caller's deadline was over before the call


# --- Decoding --------------------------------------------------------------------------------------------------------


@dataclass
class Request:
    """A ``VerifyRequest`` with a key of any bytes."""

    key: bytes = b""
    scopes: list[bytes] = field(default_factory=list)
    address: bytes = b""
    min_revision: int = 0
    probe: bool = False
    critical: bool = False


def undecodable() -> Fault:
    return Fault(StatusCode.INVALID_ARGUMENT)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return (value, offset after it)."""
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise undecodable()
        value |= (data[at + i] & 0x7F) << (7 * i)
        if not data[at + i] & 0x80:
            if value >> 64:
                raise undecodable()
            return value, at + i + 1
    raise undecodable()


def read_tag(data: bytes, at: int) -> tuple[int, int, int]:
    """Return (field number, wire type, offset after the tag)."""
    tag, at = read_varint(data, at)
    if tag >> 32 or tag >> 3 == 0:
        raise undecodable()
    return tag >> 3, tag & 7, at


def read_value(data: bytes, at: int, number: int, wire: int, depth: int = 0) -> tuple[int | bytes | None, int]:
    """Return (value, offset after it); groups are read and dropped."""
    if wire == 0:
        return read_varint(data, at)
    if wire == 3:
        if depth == 100:
            raise undecodable()
        while True:
            inner, inner_wire, at = read_tag(data, at)
            if inner_wire == 4:
                if inner != number:
                    raise undecodable()
                return None, at
            _, at = read_value(data, at, inner, inner_wire, depth + 1)
    if wire in (1, 5):
        length = 8 if wire == 1 else 4
    elif wire == 2:
        length, at = read_varint(data, at)
    else:
        raise undecodable()
    if at + length > len(data):
        raise undecodable()
    return data[at : at + length], at + length


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes | None]]:
    """Yield (number, wire type, value) of every field."""
    at = 0
    while at < len(data):
        number, wire, at = read_tag(data, at)
        value, at = read_value(data, at, number, wire)
        yield number, wire, value


def decode(data: bytes) -> Request:
    """Read a request; a known field of the wrong wire type is an unknown field."""
    request = Request()
    for number, wire, value in fields(data):
        match number, wire, value:
            case 1, 2, bytes():
                request.key = value
            case 2, 2, bytes():
                request.scopes.append(value)
            case 3, 2, bytes():
                request.address = value
            case 4, 0, int():
                request.min_revision = value - (1 << 64) if value >> 63 else value
            case 5, 0, int():
                request.probe = value != 0
            case _:
                request.critical |= 48 <= number <= 63
    return request


def check(request: Request) -> None:
    """G1, the content: scopes and address."""
    if len(request.scopes) > 64:
        raise undecodable()
    for scope in request.scopes:
        if not 1 <= len(scope) <= 128 or not set(scope.decode("latin-1")) <= SCOPE_CHARACTERS:
            raise undecodable()
    if request.address and parse_address(request.address) is None:
        raise undecodable()


def parse_address(text: bytes) -> int | None:
    """Return an address as an IPv6 number, IPv4 as ::ffff:a.b.c.d; None when it is none."""
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return 0xFFFF << 32 | int(address)
    return None if address.scope_id is not None else int(address)


# --- Gates -----------------------------------------------------------------------------------------------------------


def pass_gates(world: World | None, moment: Moment, requests: Sequence[Request], critical: bool) -> World:
    """G3 to G6; G1 has been passed."""
    if critical:
        raise Fault(StatusCode.UNIMPLEMENTED)
    if moment.expired:
        raise Fault(StatusCode.DEADLINE_EXCEEDED)
    if world is None or 0 < world.max_staleness_ms < moment.staleness_ms:
        raise Fault(StatusCode.UNAVAILABLE)
    if world.revision < max((request.min_revision for request in requests), default=0):
        raise Fault(
            StatusCode.FAILED_PRECONDITION,
            {"verifier-revision": str(world.revision), "retry-after-ms": str(RETRY_AFTER_MS)},
        )
    return world


# --- Tokens ----------------------------------------------------------------------------------------------------------


def checksum(text: str) -> str:
    """Six base62 digits of the CRC-32."""
    value = zlib.crc32(text.encode())
    digits = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = BASE62[digit] + digits
    return digits


def tag_of(token: bytes, peppers: Sequence[bytes]) -> bytes:
    """HMAC over SHA-256, one layer for each pepper."""
    tag = hashlib.sha256(token).digest()
    for pepper in peppers:
        tag = hmac.digest(pepper, tag, "sha256")
    return tag


def is_native(token: str) -> bool:
    """Tell whether the part after the last underscore is a secret with its checksum."""
    body = token.rpartition("_")[2]
    return len(body) >= 33 and set(body) <= set(BASE62) and checksum(token[:-6]) == token[-6:]


def is_well_formed(world: World, token: bytes) -> bool:
    """The opposite of V1."""
    if not 1 <= len(token) <= 512 or not token.isascii():
        return False
    text = token.decode("ascii")
    if any(mode == "MIXED" and text.startswith(prefix + "_") for prefix, mode in world.prefixes.items()):
        return True
    prefix, separator, _body = text.rpartition("_")
    if separator and world.prefixes.get(prefix) == "NATIVE":
        return is_native(text)
    return world.accepts_foreign


# --- Verdicts --------------------------------------------------------------------------------------------------------


def phase_of(entry: Entry, now_s: int) -> Phase:
    if entry.revoked:
        return Phase.REVOKED
    if entry.expires_at is not None and now_s >= entry.expires_at:
        return Phase.EXPIRED
    if entry.not_before is not None and now_s < entry.not_before:
        return Phase.PENDING
    if entry.superseded_at is not None and now_s >= entry.superseded_at:
        return Phase.RETIRING
    return Phase.CURRENT


def is_allowed(entry: Entry, address: bytes) -> bool:
    number = parse_address(address) if address else None
    if number is None:
        return False
    for rule in entry.rules:
        network = ipaddress.ip_network(rule)
        base = 0xFFFF << 32 if network.version == 4 else 0
        shift = network.max_prefixlen - network.prefixlen
        if number >> shift == (base | int(network.network_address)) >> shift:
            return True
    return False


def verdict_of(world: World, entry: Entry, request: Request, now_s: int) -> Verdict:
    """V3 to V12, the first that holds."""
    if entry.revoked:
        return Verdict.REVOKED
    if entry.client_ordinal in world.clients_off:
        return Verdict.CLIENT_DISABLED
    if entry.key_off:
        return Verdict.KEY_DISABLED
    if entry.not_before is not None and now_s < entry.not_before:
        return Verdict.NOT_YET_ACTIVE
    if entry.expires_at is not None and now_s >= entry.expires_at:
        return Verdict.EXPIRED
    if entry.rules and not is_allowed(entry, request.address):
        return Verdict.ADDRESS_NOT_ALLOWED
    if not {scope.decode("ascii") for scope in request.scopes} <= set(entry.scopes):
        return Verdict.INSUFFICIENT_SCOPE
    return Verdict.VALID


def judge(world: World, moment: Moment, request: Request) -> pb.VerifyResponse:
    """Answer one request that has passed the gates."""
    response = pb.VerifyResponse(revision=world.revision, staleness_ms=moment.staleness_ms)
    if not is_well_formed(world, request.key):
        response.verdict = int(Verdict.MALFORMED)
        return response
    entry = world.find(tag_of(request.key, world.peppers))
    if entry is None:
        response.verdict = int(Verdict.UNKNOWN)
        return response
    response.verdict = int(verdict_of(world, entry, request, moment.now_s))
    response.phase = int(phase_of(entry, moment.now_s))
    disclose(entry, response)
    return response


def disclose(entry: Entry, response: pb.VerifyResponse) -> None:
    """Level 1 for any record, level 2 with VALID only."""
    response.client_id, response.key_id, response.version = entry.client_id, entry.key_id, entry.version
    for name in ("not_before", "expires_at", "superseded_at"):
        seconds = getattr(entry, name)
        if seconds is not None:
            getattr(response, name).seconds = seconds
    response.superseded_by = entry.superseded_by
    if entry.revoked:
        response.revocation_reason = int(entry.reason)
    if response.verdict == Verdict.VALID:
        response.scopes.extend(sorted(entry.scopes))
        response.metadata.update(entry.metadata)


# --- The methods -----------------------------------------------------------------------------------------------------


def verify(world: World | None, moment: Moment, message: bytes) -> bytes:
    """Answer ``Verify``: bytes in, bytes out.

    Raises:
        Fault: the call ends with a gRPC status.
    """
    request = decode(message)
    check(request)
    world = pass_gates(world, moment, [request], request.critical)
    return canonical(judge(world, moment, request))


def verify_batch(world: World | None, moment: Moment, message: bytes) -> bytes:
    """Answer ``VerifyBatch``: bytes in, bytes out.

    Raises:
        Fault: the call ends with a gRPC status.
    """
    requests: list[Request] = []
    critical = False
    for number, wire, value in fields(message):
        if number == 1 and wire == 2:
            assert isinstance(value, bytes)
            requests.append(decode(value))
        else:
            critical |= 48 <= number <= 63
    if len(requests) > BATCH_MAX:
        raise undecodable()
    for request in requests:
        check(request)
    critical |= any(request.critical for request in requests)
    world = pass_gates(world, moment, requests, critical)
    return canonical_batch(judge(world, moment, request) for request in requests)
