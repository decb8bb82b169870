"""Files of tombstones byte for byte, and sets of tags."""

import hashlib
import hmac
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from verifier._tagset import contains, first_disorder, first_missing, ordered, relayered
from verifier.errors import InvalidInput, UnsoundPublication
from verifier.store.manifest import TombstoneFile
from verifier.store.tombstones import Tombstone, read_set, read_tags, write_set

TAG = bytes(range(32))

tombstones = st.builds(
    Tombstone, tag=st.binary(min_size=32, max_size=32), key_id=st.text(st.characters(codec="utf-8"), min_size=1,
                                                                       max_size=60),
    number=st.integers(0, 2**32 - 1), revoked_at=st.integers(0, 2**32 - 1),
)  # fmt: skip
sets = st.lists(tombstones, max_size=20, unique_by=lambda entry: entry.tag).map(
    lambda entries: sorted(entries, key=lambda entry: entry.tag)
)


def test_the_bytes_are_those_of_the_page(tmp_path: Path):
    entries = [Tombstone(TAG, "key_1", 2, 1_800_000_000), Tombstone(bytes([1]) * 32, "ü", 3, 7)]
    written = write_set(tmp_path, entries)
    data = (
        b"VKTOMBS1" + (2).to_bytes(8, "little") + TAG + bytes([1]) * 32
        + (1_800_000_000).to_bytes(4, "little") + (2).to_bytes(4, "little")
        + (7).to_bytes(4, "little") + (3).to_bytes(4, "little")
        + b"\x05key_1" + b"\x02\xc3\xbc"
    )  # fmt: skip
    assert TombstoneFile(hashlib.sha256(data).hexdigest(), 2) == written
    assert data == (tmp_path / written.sha256).read_bytes()
    assert [written.sha256] == [path.name for path in tmp_path.iterdir()]


@settings(deadline=None)
@given(sets)
@example([])
def test_a_set_reads_back(entries: list[Tombstone]):
    with tempfile.TemporaryDirectory() as name:
        written = write_set(Path(name), entries)
        if not entries:
            assert written is None and not list(Path(name).iterdir())
            return
        path = Path(name) / written.sha256
        assert len(entries) == written.count
        assert entries == list(read_set(path, written))
        assert b"".join(entry.tag for entry in entries) == read_tags(path, written)


@settings(deadline=None)
@given(sets.filter(bool), st.data())
def test_no_damage_goes_unnoticed(entries: list[Tombstone], data: st.DataObject):
    with tempfile.TemporaryDirectory() as name:
        written = write_set(Path(name), entries)
        path = Path(name) / written.sha256
        sound = path.read_bytes()
        at = data.draw(st.integers(0, len(sound) - 1))
        bad = data.draw(st.sampled_from([
            sound[:at], sound + b"\0", sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :],
            sound[:at] + sound[at:] * 2,
        ]))  # fmt: skip
        path.write_bytes(bad)
        for read in (lambda: read_tags(path, written), lambda: list(read_set(path, written))):
            with pytest.raises(UnsoundPublication) as refused:
                read()
            assert refused.value.code == "BAD_DIGEST"


@settings(deadline=None)
@given(sets.filter(bool), st.data())
def test_what_is_signed_but_no_set_is_refused_and_never_read_beyond(entries: list[Tombstone], data: st.DataObject):
    """As when a manifest was signed over anything: every digest fits."""
    with tempfile.TemporaryDirectory() as name:
        sound = (Path(name) / write_set(Path(name), entries).sha256).read_bytes()
        at, cut = data.draw(st.integers(0, len(sound) - 1)), data.draw(st.integers(0, len(sound)))
        bad = data.draw(st.sampled_from([
            sound[:cut], sound + b"\0" * 300, sound[:at] + bytes([sound[at] ^ 0x80]) + sound[at + 1 :], b"",
        ]))  # fmt: skip
        count = data.draw(st.sampled_from([len(entries), len(entries) + 1, 1, 2**40 - 1]))
        expected = TombstoneFile(hashlib.sha256(bad).hexdigest(), count)
        path = Path(name) / expected.sha256
        path.write_bytes(bad)
        try:
            read = list(read_set(path, expected))
        except UnsoundPublication as error:
            assert error.code == "FORMAT"
        else:
            assert count == len(read) and b"".join(entry.tag for entry in read) == read_tags(path, expected)


@pytest.mark.parametrize("entries", [
    [Tombstone(TAG, "b", 1, 1), Tombstone(TAG, "a", 1, 1)],
    [Tombstone(bytes([9]) * 32, "b", 1, 1), Tombstone(TAG, "a", 1, 1)],
    [Tombstone(TAG[:31], "a", 1, 1)], [Tombstone(TAG, "", 1, 1)], [Tombstone(TAG, "a" * 256, 1, 1)],
    [Tombstone(TAG, "a", 1 << 32, 1)], [Tombstone(TAG, "a", 1, -1)],
], ids=str)  # fmt: skip
def test_what_does_not_fit_is_not_written(entries: list[Tombstone], tmp_path: Path):
    with pytest.raises(InvalidInput):
        write_set(tmp_path, entries)
    assert not list(tmp_path.iterdir())


# --- Sets of tags ----------------------------------------------------------------------------------------------------

tag_sets = st.sets(st.binary(min_size=1, max_size=2).map(lambda head: head.ljust(32, b"\7")), max_size=40)


def joined(tags: set[bytes]) -> bytes:
    return b"".join(sorted(tags))


@given(tag_sets, st.lists(tag_sets, max_size=4))
def test_what_is_missing_is_found(wanted: set[bytes], held: list[set[bytes]]):
    missing = first_missing(joined(wanted), [joined(tags) for tags in held])
    expected = sorted(wanted - set().union(*held))
    assert (sorted(wanted).index(expected[0]) if expected else -1) == missing


@given(tag_sets, st.binary(min_size=32, max_size=32))
def test_membership(tags: set[bytes], other: bytes):
    assert all(contains(joined(tags), tag) for tag in tags)
    assert (other in tags) == contains(joined(tags), other)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20), st.lists(st.binary(min_size=32, max_size=32),
                                                                         max_size=4))
def test_further_layers_are_hmacs(tags: list[bytes], peppers: list[bytes]):
    expected = list(tags)
    for pepper in peppers:
        expected = [hmac.digest(pepper, tag, "sha256") for tag in expected]
    assert b"".join(expected) == relayered(b"".join(tags), peppers)
    assert b"".join(sorted(tags)) == ordered(b"".join(tags))


@given(st.lists(st.integers(0, 5), max_size=8))
def test_disorder_is_found(heads: list[int]):
    found = next((at for at in range(1, len(heads)) if heads[at - 1] >= heads[at]), -1)
    assert found == first_disorder(b"".join(bytes([head]) * 32 for head in heads))
    with pytest.raises(InvalidInput):
        first_disorder(b"x" * 33)
