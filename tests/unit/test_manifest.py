"""Manifests: what is written reads back, and nothing else is read."""

import dataclasses
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.errors import UnsoundPublication
from verifier.keyring.description import Block, KeyringDescription, Segments
from verifier.store.manifest import MANIFEST_BYTES_MAX, REVISION_MAX, Manifest, TombstoneFile

BASE = KeyringDescription(
    sha256="b" * 64, bytes=40960, format=1, kind="base", base=None, features=(), records=9, peppers=("p1",),
    prefixes=(("vk_live", "NATIVE"), ("old", "MIXED")), accepts_foreign=False, slots=Block(8208, 4096),
    switches=Block(16400, 4096), segments=Segments(16 << 20, ("0123456789abcdef",)),
)  # fmt: skip
DELTA = dataclasses.replace(BASE, sha256="d" * 64, kind="delta", base=BASE.sha256, records=3)
MANIFEST = Manifest(
    store_id="st_0123", revision=12, content_of=12, published_at=1_790_000_000, previous="a" * 64, records=9, active=8,
    dead_on_arrival=1, base=BASE, publisher="verifier 0.1.0",
)  # fmt: skip

digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def manifests(draw):
    revision = draw(st.integers(1, REVISION_MAX))
    held = revision > 1 and draw(st.booleans())
    delta = draw(st.booleans())
    records = draw(st.integers(0, 12)) if delta else 9
    return Manifest(
        store_id="st_" + draw(st.text("abcXYZ09_-", min_size=1, max_size=61)),
        revision=revision,
        content_of=draw(st.integers(1, revision - 1)) if held else revision,
        held=held,
        published_at=draw(st.integers(0, 2**32)),
        previous=draw(st.none() | digests),
        records=records,
        active=draw(st.integers(0, records)),
        dead_on_arrival=draw(st.integers(0, records)),
        drop_override=draw(st.booleans()),
        tombstones=tuple(draw(st.lists(
            st.builds(TombstoneFile, digests, st.integers(1, 2**40 - 1)), max_size=2, unique_by=lambda file: file.sha256
        ))),
        base=BASE,
        delta=DELTA if delta else None,
        publisher=draw(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128)),
    )


def changed(**fields):
    return json.dumps({**json.loads(MANIFEST.to_bytes()), **fields}).encode()


def without(name):
    return json.dumps({key: value for key, value in json.loads(MANIFEST.to_bytes()).items() if key != name}).encode()


def code_of(data):
    with pytest.raises(UnsoundPublication) as caught:
        Manifest.from_bytes(data)
    return caught.value.code


@given(manifests())
def test_what_is_written_reads_back(manifest):
    data = manifest.to_bytes()
    assert manifest == Manifest.from_bytes(data)
    assert data == Manifest.from_bytes(data).to_bytes()


def test_the_bytes_are_those_of_the_page():
    body = json.loads(MANIFEST.to_bytes())
    assert {
        "format": 1, "features": [], "store_id": "st_0123", "revision": 12, "content_of": 12, "held": False,
        "published_at": datetime.fromtimestamp(1_790_000_000, UTC).isoformat().replace("+00:00", "Z"),
        "previous": "a" * 64, "records": 9, "active": 8, "dead_on_arrival": 1, "drop_override": False,
        "tombstones": [], "base": BASE.to_json(), "delta": None, "publisher": "verifier 0.1.0",
    } == body  # fmt: skip
    assert json.dumps(body, sort_keys=True, separators=(",", ":")).encode() == MANIFEST.to_bytes()


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_are_refused_with_a_code(data):
    assert "FORMAT" == code_of(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(MANIFEST.to_bytes()))), json_values)
def test_a_field_with_another_value_is_read_or_refused_never_a_crash(name, value):
    try:
        manifest = Manifest.from_bytes(changed(**{name: value}))
    except UnsoundPublication as error:
        assert error.code in {"FORMAT", "FEATURE", "LIMIT"}
    else:
        written = json.loads(manifest.to_bytes())[name]
        if (name, value) == ("tombstones", None):  # how publications said so before there were any
            value = []
        assert value == written
        assert type(value) is type(written)


@given(st.integers(0, len(MANIFEST.to_bytes()) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_read_or_refused_never_a_crash(at, flip):
    data = MANIFEST.to_bytes()
    try:
        Manifest.from_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
    except UnsoundPublication as error:
        assert error.code in {"FORMAT", "FEATURE", "LIMIT"}


@pytest.mark.parametrize("name", sorted(json.loads(MANIFEST.to_bytes())))
def test_every_field_is_required(name):
    assert "FORMAT" == code_of(without(name))


def test_unknown_keys_are_ignored():
    assert MANIFEST == Manifest.from_bytes(changed(comment="hello"))


@pytest.mark.parametrize("fields", [
    {"format": 2}, {"format": True}, {"format": 1.0}, {"format": "1"}, {"features": None}, {"features": [1]},
    {"features": ["UPPER"]}, {"store_id": "st_"}, {"store_id": "xx_1"}, {"store_id": "st_" + "a" * 62},
    {"store_id": "st_a\n"}, {"revision": 0}, {"revision": -1}, {"revision": True}, {"revision": 12.0},
    {"revision": REVISION_MAX + 1}, {"content_of": 11}, {"content_of": 13}, {"held": True}, {"held": 0},
    {"published_at": 1_790_000_000}, {"published_at": "2026-11-21T10:00:00+00:00"},
    {"published_at": "2026-02-30T10:00:00Z"},
    {"published_at": "2026-11-21 10:00:00Z"}, {"published_at": "2026-11-21T10:00:00.5Z"}, {"previous": "A" * 64},
    {"previous": "a" * 63}, {"previous": ""}, {"records": -1}, {"records": 8}, {"records": 10}, {"active": 10},
    {"dead_on_arrival": 10}, {"drop_override": None}, {"tombstones": {}}, {"tombstones": 0},
    {"tombstones": [{"sha256": "a" * 64, "count": 0}]}, {"tombstones": [{"sha256": "A" * 64, "count": 1}]},
    {"tombstones": [{"sha256": "a" * 64, "count": 1}] * 2}, {"tombstones": [None]},
    {"tombstones": [{"sha256": digit * 64, "count": 1} for digit in "abc"]},
    {"base": None}, {"base": {}}, {"base": DELTA.to_json()}, {"delta": BASE.to_json()},
    {"delta": {**DELTA.to_json(), "base": "c" * 64}}, {"delta": False}, {"publisher": ""}, {"publisher": "a\nb"},
    {"publisher": "a" * 129}, {"base": {**BASE.to_json(), "format": 2}}, {"base": {**BASE.to_json(), "records": "9"}},
], ids=str)  # fmt: skip
def test_what_is_out_of_form_or_range_is_refused(fields):
    assert "FORMAT" == code_of(changed(**fields))


@pytest.mark.parametrize("fields", [
    {"features": ["quota"]}, {"base": {**BASE.to_json(), "features": ["geo"]}},
    {"features": ["quota"], "revision": "later"}, {"delta": {**DELTA.to_json(), "features": ["geo"]}},
], ids=str)  # fmt: skip
def test_unknown_features_are_refused_as_such(fields):
    assert "FEATURE" == code_of(changed(**fields))


def test_too_much_is_refused_before_it_is_parsed():
    assert "LIMIT" == code_of(b"[" * (MANIFEST_BYTES_MAX + 1))
    assert "LIMIT" == code_of(changed(base={**BASE.to_json(), "prefixes": [[f"p{n}", "NATIVE"] for n in range(65)]}))
    assert "LIMIT" == code_of(changed(base={**BASE.to_json(), "peppers": [f"p{n}" for n in range(65)]}))


@pytest.mark.parametrize("data", [
    b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5_000, MANIFEST.to_bytes() + b"x", b"\xef\xbb\xbf" + MANIFEST.to_bytes(),
    MANIFEST.to_bytes().replace(b'"held":false', b'"held":false,"held":false'),
    MANIFEST.to_bytes().replace(b'"active":8', b'"active":NaN'), MANIFEST.to_bytes().decode().encode("utf-16"),
    MANIFEST.to_bytes().replace(b'"accepts_foreign":false', b'"accepts_foreign":false,"accepts_foreign":true'),
], ids=range(9))  # fmt: skip
def test_json_with_liberties_is_refused(data):
    assert "FORMAT" == code_of(data)


def test_content_ignores_what_callers_cannot_notice():
    later = dataclasses.replace(MANIFEST, revision=13, content_of=13, published_at=1_800_000_000, active=7)
    assert MANIFEST.content() == later.content()
    others = [
        dataclasses.replace(later, base=dataclasses.replace(BASE, sha256="c" * 64)),
        dataclasses.replace(later, delta=DELTA),
        dataclasses.replace(later, held=True, content_of=3),
        dataclasses.replace(later, tombstones=(TombstoneFile("e" * 64, 1),)),
        dataclasses.replace(later, store_id="st_other"),
    ]
    assert all(MANIFEST.content() != other.content() for other in others)


def test_publications_made_before_there_were_tombstones_are_read():
    fields = json.loads(MANIFEST.to_bytes()) | {"tombstones": None}
    assert () == Manifest.from_bytes(json.dumps(fields).encode()).tombstones
