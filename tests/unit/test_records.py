"""Records: what is encoded is what protobuf encodes, limits are kept, and damage is noticed."""

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.canonical import canonical
from tests.support.records import plain, records, response_of, tag
from verifier._records import fault_of, varint
from verifier.errors import InvalidInput, UnsoundPublication
from verifier.keyring import records as rules_of
from verifier.keyring.records import (
    RECORD_BYTES_MAX,
    Record,
    answer_part,
    decode_record,
    encode_absent,
    encode_many,
    encode_record,
    shape_of,
)
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import RevocationReason

TAG = tag(1)


def normalised(record: Record) -> Record:
    """A record as it comes back: rules as a set of networks, reasons said."""
    reason = RevocationReason.UNSPECIFIED if record.revoked and record.reason is None else record.reason
    return replace(record, rules=tuple(sorted(map(str, map(ipaddress.ip_network, record.rules)))), reason=reason)


@given(records())
@example(plain(1, metadata={"a": "", "aa": "x", "b": "é\0"}, not_before=1, expires_at=2**32 - 2))
@example(plain(1, client_id="x" * 200, key_id="k" * 255, scopes=tuple("abc"), revoked=True))
def test_round_trip(record: Record):
    value = encode_record(record, TAG)
    found_tag, found = decode_record(TAG[:16], value)
    assert TAG == found_tag
    assert normalised(record) == normalised(found)
    assert value == encode_record(found, TAG)


@given(records())
@example(plain(1, metadata={"k1": "a", "k10": "b", "k": ""}))
def test_answer_part_is_what_protobuf_writes(record: Record):
    value = encode_record(record, TAG)
    level_1 = canonical(response_of(record, full=False))
    message = response_of(record, full=True)
    whole = canonical(message)
    assert whole == answer_part(value)
    assert level_1 == answer_part(value)[: int.from_bytes(value[48:50], "little")]
    assert message == VerifyResponse.FromString(whole)
    message.MergeFrom(VerifyResponse(verdict=1, phase=2, revision=3, staleness_ms=4))  # type: ignore[arg-type]
    head = VerifyResponse(verdict=1, phase=2, revision=3, staleness_ms=4).SerializeToString()  # type: ignore[arg-type]
    assert head + whole == canonical(message)


@given(records())
def test_every_record_is_a_multiple_of_8_and_sound(record: Record):
    value = encode_record(record, TAG)
    assert 0 == len(value) % 8
    assert TAG[16:] == value[:16]
    assert fault_of(value) is None


@given(records(), st.integers(0), st.integers(1, 255))
def test_what_passes_the_check_after_damage_says_something_else_or_is_exact(record: Record, at: int, change: int):
    value = bytearray(encode_record(record, TAG))
    at %= len(value)
    value[at] ^= change
    if fault_of(bytes(value)) is not None:
        with pytest.raises(UnsoundPublication):
            decode_record(TAG[:16], bytes(value))
        return
    try:
        found_tag, found = decode_record(TAG[:16], bytes(value))
    except UnsoundPublication:  # a revocation reason that has no name
        assert at == 18 or at >= 52
        return
    assert found != decode_record(TAG[:16], encode_record(record, TAG))[1] or found_tag != TAG
    assert bytes(value) == encode_record(found, found_tag)


@given(st.binary(max_size=400))
def test_any_bytes_can_be_checked(noise: bytes):
    assert fault_of(noise) is not None


@given(records(), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5))
def test_many_are_encoded_like_one(record: Record, ordinals: list[int]):
    names = [f"key_{ordinal}" * (1 + ordinal % 9) for ordinal in ordinals]
    tags = [tag(ordinal) for ordinal in ordinals]
    one_by_one = [
        encode_record(replace(record, key_id=name, version_ordinal=ordinal), each)
        for name, each, ordinal in zip(names, tags, ordinals, strict=True)
    ]
    assert one_by_one == encode_many(record, names, tags, ordinals)


def test_the_order_of_scopes_metadata_and_rules_does_not_matter():
    one = plain(1, scopes=("b", "a", "b"), metadata={"y": "1", "x": "2"}, rules=("::/0", "10.0.0.0/8", "::/0"))
    other = plain(1, scopes=("a", "b"), metadata={"x": "2", "y": "1"}, rules=("::ffff:10.0.0.0/104", "::/0"))
    assert encode_record(one, TAG) == encode_record(other, TAG)


@pytest.mark.parametrize(("text", "stored", "read"), [
    ("10.0.0.0/8", "68" + "00" * 10 + "ffff0a000000", "10.0.0.0/8"),
    ("192.0.2.7", "80" + "00" * 10 + "ffffc0000207", "192.0.2.7/32"),
    ("0.0.0.0/0", "60" + "00" * 10 + "ffff00000000", "0.0.0.0/0"),
    ("::/0", "00" + "00" * 16, "::/0"),
    ("::ffff:0:0/95", "5f" + "00" * 10 + "fffe00000000", None),
    ("2001:db8::/32", "20" + "20010db8" + "00" * 12, "2001:db8::/32"),
    ("2001:db8::1", "80" + "20010db8" + "00" * 11 + "01", "2001:db8::1/128"),
])  # fmt: skip
def test_address_rules(text: str, stored: str, read: str | None):
    if read is None:
        with pytest.raises(InvalidInput):
            encode_record(plain(1, rules=(text,)), TAG)
        return
    value = encode_record(plain(1, rules=(text,)), TAG)
    at = 52 + len(answer_part(value))
    assert stored == value[at : at + 17].hex()
    assert (read,) == decode_record(TAG[:16], value)[1].rules
    assert 8 == value[16]


@pytest.mark.parametrize("changes", [
    {"scopes": ("",)}, {"scopes": ("a b",)}, {"scopes": ("a,b",)}, {"scopes": ('a"',)}, {"scopes": ("a\\",)},
    {"scopes": ("é",)}, {"scopes": ("a\n",)}, {"scopes": ("x" * 129,)},
    {"scopes": tuple(f"s{number}" for number in range(65))},
    {"metadata": {f"m{number}": "" for number in range(17)}}, {"metadata": {"": "x"}},
    {"metadata": {"a": "x" * 1024}}, {"metadata": {"a": "\ud800"}},
    {"rules": ("10.0.0.1/8",)}, {"rules": ("fe80::1%eth0",)}, {"rules": ("nowhere",)}, {"rules": ("",)},
    {"rules": tuple(f"10.0.0.{number}" for number in range(33))},
    {"client_id": ""}, {"client_id": "x" * 256}, {"client_id": "\udfff"}, {"key_id": ""}, {"key_id": "x" * 256},
    {"key_id": "\ud800"}, {"version": 0}, {"version": 2**31}, {"superseded_by": -1}, {"superseded_by": 2**31},
    {"not_before": 0}, {"expires_at": 2**32 - 1}, {"superseded_at": -1}, {"own_end": 2**32}, {"key_end": 0},
    {"version_ordinal": 2**32}, {"version_ordinal": -1}, {"client_ordinal": 2**32}, {"client_ordinal": -1},
    {"reason": RevocationReason.SUPERSEDED}, {"revoked": True, "reason": 2},
], ids=str)  # fmt: skip
def test_what_does_not_fit_is_refused(changes: dict):
    with pytest.raises(InvalidInput):
        encode_record(plain(1, **changes), TAG)


@pytest.mark.parametrize("changes", [
    {"scopes": ("x" * 128,)}, {"scopes": tuple(f"s{number}" for number in range(64))},
    {"metadata": {f"m{number}": "" for number in range(16)}}, {"metadata": {"a": "x" * 1023}},
    {"rules": tuple(f"10.0.0.{number}" for number in range(32))},
    {"client_id": "x" * 255}, {"key_id": "x" * 255}, {"version": 2**31 - 1}, {"not_before": 1},
    {"expires_at": 2**32 - 2}, {"version_ordinal": 2**32 - 1}, {"client_ordinal": 2**32 - 1},
], ids=str)  # fmt: skip
def test_what_just_fits_is_taken(changes: dict):
    value = encode_record(plain(1, **changes), TAG)
    for name, wanted in changes.items():
        found = getattr(decode_record(TAG[:16], value)[1], name)
        assert (set(found) if name == "scopes" else len(found) if name == "rules" else found) == (
            set(wanted) if name == "scopes" else len(wanted) if name == "rules" else wanted
        )


def test_the_longest_record_and_one_byte_more():
    # 52 + 6 (acme) + 7 (key_1) + 2 + 17 scopes; the last scope takes what is left up to 1,904 bytes.
    long = tuple(f"{number:03}" + "x" * 97 for number in range(17))
    room = RECORD_BYTES_MAX - len(encode_record(plain(1, scopes=long), TAG).rstrip(b"\0"))
    last = "y" * (room - 3)
    assert RECORD_BYTES_MAX == len(encode_record(plain(1, scopes=(*long, last)), TAG))
    with pytest.raises(InvalidInput) as refusal:
        encode_record(plain(1, scopes=(*long, last + "y")), TAG)
    assert "RECORD_TOO_LARGE" == refusal.value.code


@pytest.mark.parametrize("wrong", [b"", bytes(16), bytes(31), bytes(33)])
def test_a_tag_has_32_bytes(wrong: bytes):
    with pytest.raises(InvalidInput):
        encode_record(plain(1), wrong)
    with pytest.raises(InvalidInput):
        encode_absent(wrong)


def test_many_need_as_many_of_each():
    with pytest.raises(InvalidInput):
        encode_many(plain(1), ["a", "b"], [TAG], [1])


def test_a_shape_does_not_depend_on_key_id_and_ordinal():
    shape = shape_of(plain(1, key_id="other", version_ordinal=99))
    assert encode_record(plain(5), TAG) == shape.encode("key_5", TAG, 5)


def test_absent_records_are_for_deltas_only():
    value = encode_absent(TAG)
    assert 56 == len(value)
    assert fault_of(value) is not None
    assert fault_of(value, in_delta=True) is None
    found_tag, found = decode_record(TAG[:16], value)
    assert (TAG, True, "") == (found_tag, found.absent, found.client_id)
    assert value == encode_record(found, TAG)


def sound(**changes: object) -> bytearray:
    return bytearray(encode_record(plain(1, **changes), TAG))


def rewritten(value: bytearray, level_1: bytes, level_2: bytes = b"") -> bytes:
    """A record with another answer part."""
    value[48:52] = len(level_1).to_bytes(2, "little") + (len(level_1) + len(level_2)).to_bytes(2, "little")
    whole = bytes(value[:52]) + level_1 + level_2
    return whole + bytes(-len(whole) % 8)


CLIENT, KEY, VERSION = b"\x42\x01c", b"\x4a\x01k", b"\x50\x01"


def test_the_smallest_answer_part_is_sound():
    assert fault_of(rewritten(sound(), CLIENT + KEY + VERSION)) is None


@pytest.mark.parametrize(("level_1", "level_2"), [
    (KEY + VERSION, b""), (CLIENT + VERSION, b""), (CLIENT + KEY, b""),           # something missing
    (KEY + CLIENT + VERSION, b""), (CLIENT + CLIENT + KEY + VERSION, b""),        # order
    (b"\x42\0" + KEY + VERSION, b""), (CLIENT + KEY + b"\x50\0", b""),            # default values
    (CLIENT + KEY + b"\x50\x81\0", b""), (b"\xc2\0\x01c" + KEY + VERSION, b""),   # longer than need be
    (b"\x42\x01\xff" + KEY + VERSION, b""), (b"\x42\x03\xed\xa0\x80" + KEY + VERSION, b""),  # UTF-8
    (b"\x42\x02\xc0\x80" + KEY + VERSION, b""), (b"\x42\x04\xf4\x90\x80\x80" + KEY + VERSION, b""),
    (b"\x42\x02\xe2\x82" + KEY + VERSION, b""),
    (CLIENT + KEY + VERSION + b"\x5a\x02\x08\x05", b""),                          # a time that the fields deny
    (CLIENT + KEY + VERSION + b"\x78\x01", b""),                                  # a reason that the fields deny
    (CLIENT + KEY + VERSION + b"\x82\x01\x01a", b""),                             # a scope within level 1
    (CLIENT + KEY + VERSION, b"\x70\x01"),                                        # a field of level 1 beyond it
    (CLIENT + KEY + VERSION, b"\x82\x01\x01b\x82\x01\x01a"), (CLIENT + KEY + VERSION, b"\x82\x01\x01a\x82\x01\x01a"),
    (CLIENT + KEY + VERSION, b"\x82\x01\0"), (CLIENT + KEY + VERSION, b"\x82\x01\x01,"),
    (CLIENT + KEY + VERSION, b"\x82\x01\x09a"), (CLIENT + KEY + VERSION, b"\x80\x01\x01"),
    (CLIENT + KEY + VERSION, b"\x8a\x01\x02\x0a\0"), (CLIENT + KEY + VERSION, b"\x8a\x01\x04\x12\0\x0a\0"),
    (CLIENT + KEY + VERSION, b"\x8a\x01\x06\x0a\0\x12\0\x18\0"),
    (CLIENT + KEY + VERSION, b"\x8a\x01\x05\x0a\x01a\x12\0" * 2),
    (CLIENT + KEY + VERSION, b"\x92\x01\0" + b"\x82\x01\x01a"), (CLIENT + KEY + VERSION, b"\x91\x01" + bytes(8)),
])  # fmt: skip
def test_an_answer_part_that_is_not_canonical_is_noticed(level_1: bytes, level_2: bytes):
    assert fault_of(rewritten(sound(), level_1, level_2)) is not None


def test_fields_of_later_formats_pass():
    later = b"\x82\x01\x01a" + b"\x90\x01\x05" + b"\x9a\x01\x02xy"
    assert fault_of(rewritten(sound(), CLIENT + KEY + VERSION, later)) is None


@pytest.mark.parametrize(("at", "value"), [
    (16, 0x20), (17, 0x01), (17, 0x80), (16, 0x08), (16, 0x10), (18, 1), (19, 1), (48, 0xFF), (50, 0xFF), (51, 0xFF),
    (20, 9), (24, 9), (28, 9),
])
def test_fields_that_contradict_each_other_are_noticed(at: int, value: int):
    record = sound()
    record[at] = value
    assert fault_of(bytes(record)) is not None


def test_rules_must_be_canonical():
    record = sound(rules=("10.0.0.0/8", "10.0.0.0/16"))
    at = 52 + len(answer_part(bytes(record)))
    for change in (b"\x81", b"\x68" + bytes(10) + b"\xff\xff\x0a\x01\0\0", record[at + 17 : at + 34]):
        damaged = record[:]
        damaged[at : at + len(change)] = change
        assert fault_of(bytes(damaged)) is not None


def test_padding_is_zero_and_shorter_than_8():
    record = bytes(sound())
    assert record.endswith(b"\0")
    assert fault_of(record[:-1] + b"\1") is not None
    assert fault_of(record + bytes(8)) is not None
    assert fault_of(record[:-8]) is not None


@given(st.integers(0, 2**64 - 1))
def test_varints(number: int):
    encoded = varint(number)
    assert number == sum((digit & 0x7F) << 7 * place for place, digit in enumerate(encoded))
    assert [True] * (len(encoded) - 1) + [False] == [digit >= 0x80 for digit in encoded]


def test_the_limit_leaves_room_in_a_leaf_page():
    # LMDB keeps a node of up to half a page inline: (4096 - 16) / 2 - 2, header of 8 and key of 16 included.
    assert RECORD_BYTES_MAX + 16 + 8 <= (4096 - 16) // 2 - 2
    assert 0 == RECORD_BYTES_MAX % 8
    assert RECORD_BYTES_MAX > 52 + rules_of.METADATA_BYTES_MAX + rules_of.RULES_MAX * rules_of.RULE_BYTES
