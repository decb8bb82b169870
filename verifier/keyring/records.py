"""The record of a key version in a keyring: what it says, as bytes and back.

The layout is that of docs/keyring-format.md, "Record". The limits are enforced here, when a record is encoded, so that
no keyring can be built that a node would refuse.
"""

import ipaddress
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from verifier import _records
from verifier._records import RECORD_BYTES_MAX, Shape, encode_absent
from verifier.errors import InvalidInput, UnsoundPublication
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import RevocationReason

__all__ = [
    "RECORD_BYTES_MAX", "Record", "Shape", "answer_part", "decode_record", "encode_absent", "encode_many",
    "encode_record", "shape_of",
]  # fmt: skip

TAG_BYTES = 32
HEAD_BYTES = 16
FIXED_BYTES = 52
RULE_BYTES = 17
SCOPES_MAX = 64
SCOPE_BYTES_MAX = 128
METADATA_PAIRS_MAX = 16
METADATA_BYTES_MAX = 1024
RULES_MAX = 32
CLIENT_ID_BYTES_MAX = 255
TIME_S_MAX = 0xFFFFFFFE
VERSION_MAX = 0x7FFFFFFF
NONE = 0xFFFFFFFF

REVOKED, KEY_OFF, WATCH, HAS_RULES, ABSENT = 1, 2, 4, 8, 16

_FIXED = struct.Struct("<16sHBB7I2H")
_SCOPE = re.compile(r"[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+")  # scope-token of RFC 6749, without the comma
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Record:
    """What a keyring says of one key version.

    Args:
        client_id: who owns the key.
        key_id: the key's public name.
        version: 1, 2, 3 ...
        not_before: seconds since 1970; None means active from the start. Times are at least 1, at most 2^32 - 2.
        expires_at: the effective end, everything considered; None means never.
        superseded_at: when a successor takes its place; None means there is none.
        superseded_by: that successor's version; 0 means there is none.
        reason: why it was revoked; None unless ``revoked``.
        revoked: the version is refused for good.
        key_off: the key is switched off.
        watch: its use is of interest, for usage reports.
        own_end: the version's own expiry.
        key_end: the key's expiry.
        version_ordinal: of the version, stable for ever.
        client_ordinal: of the client; its bit among the client switches.
        scopes: that the key holds.
        metadata: told with VALID answers.
        rules: networks in CIDR notation that the key may be used from; none means from anywhere.
        absent: in a delta only, the base's record of this tag counts as missing; nothing else is said.
    """

    client_id: str
    key_id: str
    version: int
    not_before: int | None = None
    expires_at: int | None = None
    superseded_at: int | None = None
    superseded_by: int = 0
    reason: RevocationReason | None = None
    revoked: bool = False
    key_off: bool = False
    watch: bool = False
    own_end: int | None = None
    key_end: int | None = None
    version_ordinal: int = 0
    client_ordinal: int = 0
    scopes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()
    absent: bool = False


def encode_record(record: Record, tag: bytes) -> bytes:
    """Return the record as the value in the table ``keys``; scopes, metadata and rules are sorted on the way.

    Args:
        record: what to encode.
        tag: all 32 bytes; the first 16 are the key in the table.

    Raises:
        InvalidInput: a field is not usable, or the record would be longer than ``RECORD_BYTES_MAX`` bytes.
    """
    if record.absent:
        return encode_absent(tag)
    return shape_of(record).encode(record.key_id, tag, _u32("version ordinal", record.version_ordinal))


def encode_many(
    shared: Record, key_ids: Sequence[str], tags: Sequence[bytes], version_ordinals: Sequence[int]
) -> list[bytes]:
    """Encode many records that differ from ``shared`` in key id, tag and version ordinal only; about 0.1 us each.

    Raises:
        InvalidInput: as :func:`encode_record`, or the sequences differ in length.
    """
    return _records.encode_many(shape_of(shared), key_ids, tags, version_ordinals)


def shape_of(record: Record) -> Shape:
    """Check all of a record but its key id and ordinal, and encode it once for many.

    Raises:
        InvalidInput: a field is not usable.
    """
    if record.reason is not None and not record.revoked:
        raise InvalidInput("a version that is not revoked has no revocation reason")
    if not 1 <= record.version <= VERSION_MAX or not 0 <= record.superseded_by <= VERSION_MAX:
        raise InvalidInput(f"versions are numbered from 1 to {VERSION_MAX}")
    client_id = _utf8("the client id", record.client_id)
    if not 1 <= len(client_id) <= CLIENT_ID_BYTES_MAX:
        raise InvalidInput(f"a client id is 1 to {CLIENT_ID_BYTES_MAX} bytes of UTF-8")
    rules = _rules(record.rules)
    flags = (
        REVOKED * record.revoked | KEY_OFF * record.key_off | WATCH * record.watch | (HAS_RULES if rules else 0)
    )  # fmt: skip
    return Shape(
        flags,
        _reason(record.reason),
        client_id,
        record.version,
        _time("not-before", record.not_before),
        _time("end", record.expires_at),
        _time("superseded-at", record.superseded_at),
        record.superseded_by,
        _time("own end", record.own_end),
        _time("key's end", record.key_end),
        _u32("client ordinal", record.client_ordinal),
        [scope.encode() for scope in check_scopes(record.scopes)],
        _metadata(record.metadata),
        rules,
    )


def decode_record(head: bytes, value: bytes) -> tuple[bytes, Record]:
    """Return the tag and what the record says.

    Args:
        head: the key in the table ``keys``: the first 16 bytes of the tag.
        value: the record.

    Raises:
        UnsoundPublication: the record is damaged, or of a later format.
    """
    fault = _records.fault_of(value, in_delta=True)
    if fault is not None or len(head) != HEAD_BYTES:
        raise UnsoundPublication(f"a record is not sound: {fault or 'its key is not 16 bytes'}")
    (rest, flags, reason, rule_count, not_before, end, superseded_at, own_end, key_end, version_ordinal, client_ordinal,
     _, answer_bytes) = _FIXED.unpack_from(value)  # fmt: skip
    answer = VerifyResponse.FromString(answer_part(value))
    answer.DiscardUnknownFields()
    if answer.ByteSize() != answer_bytes:  # fields that nobody here knows, or a name of its metadata twice
        raise UnsoundPublication("a record is not sound: its answer holds more than a reader of this format knows")
    return head + rest, Record(
        client_id=answer.client_id,
        key_id=answer.key_id,
        version=answer.version,
        not_before=not_before or None,
        expires_at=_moment(end),
        superseded_at=_moment(superseded_at),
        superseded_by=answer.superseded_by,
        reason=_known_reason(reason) if flags & REVOKED else None,
        revoked=bool(flags & REVOKED),
        key_off=bool(flags & KEY_OFF),
        watch=bool(flags & WATCH),
        own_end=_moment(own_end),
        key_end=_moment(key_end),
        version_ordinal=version_ordinal,
        client_ordinal=client_ordinal,
        scopes=tuple(answer.scopes),
        metadata=dict(sorted(answer.metadata.items())),
        rules=tuple(_rule_texts(value, FIXED_BYTES + answer_bytes, rule_count)),
        absent=bool(flags & ABSENT),
    )


def answer_part(value: bytes) -> bytes:
    """Return the fields of the answer that a sound record holds, as protobuf."""
    return value[FIXED_BYTES : FIXED_BYTES + int.from_bytes(value[50:52], "little")]


def _u32(what: str, number: int) -> int:
    if not 0 <= number <= 0xFFFFFFFF:
        raise InvalidInput(f"the {what} {number} is not a number of 32 bits")
    return number


def _time(what: str, moment: int | None) -> int | None:
    if moment is not None and not 1 <= moment <= TIME_S_MAX:
        raise InvalidInput(f"the {what} {moment} is not between 1970 and 2106", code="BAD_TIME")
    return moment


def _moment(stored: int) -> int | None:
    return None if stored == NONE else stored


def _reason(reason: RevocationReason | None) -> int:
    try:
        return 0 if reason is None else RevocationReason(reason).value
    except ValueError:
        raise InvalidInput(f"{reason} is not a revocation reason") from None


def _known_reason(number: int) -> RevocationReason:
    try:
        return RevocationReason(number)
    except ValueError:
        raise UnsoundPublication(f"a record has the unknown revocation reason {number}") from None


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{what} is not usable as UTF-8") from None


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes sorted, each once.

    Raises:
        InvalidInput: one is not a scope-token of RFC 6749 without commas, or there are too many.
    """
    distinct = tuple(sorted(set(scopes)))
    if len(distinct) > SCOPES_MAX:
        raise InvalidInput(f"a key holds at most {SCOPES_MAX} scopes, not {len(distinct)}", code="BAD_SCOPE")
    for scope in distinct:
        if len(scope) > SCOPE_BYTES_MAX or _SCOPE.fullmatch(scope) is None:
            raise InvalidInput(
                f"{scope[:40]!r} is not usable as a scope",
                hint=f"1 to {SCOPE_BYTES_MAX} printable ASCII characters without space, comma, quote and backslash",
                code="BAD_SCOPE",
            )
    return distinct


def _metadata(metadata: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    if len(metadata) > METADATA_PAIRS_MAX:
        raise InvalidInput(f"metadata has at most {METADATA_PAIRS_MAX} pairs, not {len(metadata)}", code="BAD_METADATA")
    pairs = sorted((_utf8("metadata", name), _utf8("metadata", value)) for name, value in metadata.items())
    if any(not name for name, _ in pairs):
        raise InvalidInput("a metadata name is empty", code="BAD_METADATA")
    if sum(len(name) + len(value) for name, value in pairs) > METADATA_BYTES_MAX:
        raise InvalidInput(f"metadata has at most {METADATA_BYTES_MAX} bytes in all", code="BAD_METADATA")
    return pairs


def _rules(rules: Iterable[str]) -> bytes:
    distinct = sorted({_rule(rule) for rule in rules})
    if len(distinct) > RULES_MAX:
        raise InvalidInput(f"a key has at most {RULES_MAX} address rules, not {len(distinct)}", code="BAD_RULE")
    return b"".join(distinct)


def _rule(text: str) -> bytes:
    try:
        network = ipaddress.ip_network(text)
    except (ValueError, TypeError):
        network = None
    if network is None or "%" in text:
        raise InvalidInput(
            f"{text[:60]!r} is not a network", hint="10.0.0.0/8 or 2001:db8::/32, without bits beyond the prefix",
            code="BAD_RULE",
        )  # fmt: skip
    if isinstance(network, ipaddress.IPv4Network):
        return bytes([96 + network.prefixlen]) + _MAPPED + network.network_address.packed
    return bytes([network.prefixlen]) + network.network_address.packed


def _rule_texts(value: bytes, at: int, count: int) -> Iterable[str]:
    for start in range(at, at + count * RULE_BYTES, RULE_BYTES):
        bits, address = value[start], value[start + 1 : start + RULE_BYTES]
        if bits >= 96 and address.startswith(_MAPPED):
            yield f"{ipaddress.IPv4Address(address[12:])}/{bits - 96}"
        else:
            yield f"{ipaddress.IPv6Address(address)}/{bits}"
