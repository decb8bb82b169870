"""Keyring files that are built: whole, reproducible, readable by LMDB, by the reader and by the hot path."""

import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.records import Row, built, path_of, plain, records, rows, tag
from verifier._map import Map
from verifier._view import View
from verifier.errors import InvalidInput, UnsoundPublication
from verifier.keyring.builder import map_size
from verifier.keyring.description import KeyringDescription
from verifier.keyring.inspect import count, describe, find_index, find_tag, iterate, verify_file
from verifier.keyring.reader import KeyringFile
from verifier.keyring.records import encode_absent, encode_record
from verifier.tokens import generate
from verifier.tokens import tag as tag_of

MANY = 30_000
PEPPER = bytes(range(32))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Path, KeyringDescription]:
    """A keyring with branch pages of more than one level."""
    folder = tmp_path_factory.mktemp("large")
    given_rows = rows(MANY)
    keyring = built(folder, given_rows, clients_off=[3], client_count=20)
    return given_rows, path_of(folder, keyring), keyring


def test_only_the_keyring_is_left(large):
    _, path, keyring = large
    assert [path] == list(path.parent.iterdir())
    assert path.stat().st_size == keyring.bytes
    assert hashlib.sha256(path.read_bytes()).hexdigest() == keyring.sha256
    assert 0o644 == path.stat().st_mode & 0o777


def test_segments(large):
    _, path, keyring = large
    data, piece = path.read_bytes(), keyring.segments.bytes
    assert 16 << 20 == piece
    wanted = [xxhash.xxh3_64(data[at : at + piece]).hexdigest() for at in range(0, len(data), piece)]
    assert wanted == list(keyring.segments.xxh3_64)


def test_lmdb_reads_it(large):
    given_rows, path, _ = large
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_dbs=4) as environment:
        keys, index = (environment.open_db(name, create=False) for name in (b"keys", b"index"))
        with environment.begin() as transaction:
            assert sorted((each[:16], record) for each, record in given_rows) == list(transaction.cursor(keys))
            assert [b"slots", b"switches"] == [key for key, _ in transaction.cursor(index)]


def test_every_record_is_found_through_the_slots(large):
    given_rows, path, _ = large
    with KeyringFile(path) as file:
        for each, record in given_rows:
            offset, found = file.find(each[:16])
            assert record == found
            assert each == file.read(offset, 32)
        assert file.find(tag(MANY)[:16]) is None
        assert MANY == file.records


def test_blocks_lie_where_the_description_says(large):
    _, path, keyring = large
    data = path.read_bytes()
    for block, magic in ((keyring.slots, b"VKSLOTS1"), (keyring.switches, b"VKSWTCH1")):
        assert magic == data[block.offset : block.offset + 8]
        assert 16 == block.offset % 4096
        assert 4096 <= block.bytes
    assert b"\x08\0\0" == data[keyring.switches.offset + 48 :][:3]


def test_the_hot_path_takes_it(tmp_path: Path):
    tokens = [generate() for _ in range(500)]
    found = {token: tag_of(token, [PEPPER]) for token in tokens}
    given_rows = [(each, encode_record(plain(number), each)) for number, each in enumerate(found.values())]
    keyring = built(tmp_path, given_rows)
    path = path_of(tmp_path, keyring)
    slots, switches = ((block.offset, block.bytes) for block in (keyring.slots, keyring.switches))
    view = View(Map.sealed(path, keyring.bytes), slots, switches, [PEPPER], [("vk_live", "NATIVE")], False, 7)
    assert len(tokens) == view.check()
    for number, token in enumerate(tokens):
        answer = view.verify(token, ["read"])
        assert (True, f"key_{number}") == (answer.valid, answer.key_id)
    assert not view.verify(generate()).valid


def test_order_chunks_and_memory_do_not_matter(large, tmp_path: Path):
    given_rows, path, keyring = large
    mixed = list(given_rows)
    random.Random(4).shuffle(mixed)
    chunks = [mixed[at : at + 777] for at in range(0, len(mixed), 777)]
    for of, memory_bytes in ((iter(mixed), 256 << 20), (chunks, 100_000), (iter(chunks), 20_000)):
        assert keyring == built(tmp_path, of, clients_off=[3], client_count=20, memory_bytes=memory_bytes)
        assert path.read_bytes() == path_of(tmp_path, keyring).read_bytes()


def test_no_memory_at_all_gives_the_same_file(tmp_path: Path):
    assert built(tmp_path, rows(50)) == built(tmp_path, rows(50)[::-1], memory_bytes=1)


def test_everything_that_is_said_matters(tmp_path: Path):
    one = built(tmp_path, rows(3))
    others = [
        built(tmp_path, rows(4)), built(tmp_path, rows(3, scopes=("write",))), built(tmp_path, rows(3), peppers=["p2"]),
        built(tmp_path, rows(3), prefixes=[]), built(tmp_path, rows(3), accepts_foreign=True),
        built(tmp_path, rows(3), clients_off=[1]), built(tmp_path, rows(3), client_count=9),
        built(tmp_path, rows(3), kind="delta", base="ab" * 32),
    ]  # fmt: skip
    assert len(others) + 1 == len({each.sha256 for each in [one, *others]})


def test_no_memory_of_the_process_is_in_the_file(tmp_path: Path):
    secret = b"SECRETTOKEN-0123456789"
    kept = [bytearray(secret * 200) for _ in range(500)]
    del kept
    keyring = built(tmp_path, rows(2000))
    assert secret not in path_of(tmp_path, keyring).read_bytes()


@pytest.mark.parametrize("number", [0, 1, 24, 25, 64, 700])
def test_small_keyrings(tmp_path: Path, number: int):
    keyring = built(tmp_path, rows(number))
    report = verify_file(path_of(tmp_path, keyring))
    assert report.sound, report.checks
    assert all(check.passed for check in report.checks)
    assert sorted(rows(number)) == list(iterate(path_of(tmp_path, keyring)))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records(), max_size=40))
def test_any_records(tmp_path: Path, many):
    given_rows = [(tag(number), encode_record(record, tag(number))) for number, record in enumerate(many)]
    keyring = built(tmp_path, given_rows)
    path = path_of(tmp_path, keyring)
    assert sorted(given_rows) == list(iterate(path))
    assert keyring == describe(path).keyring
    report = verify_file(path)
    assert report.sound, report.checks


def test_metadata_names_that_begin_with_one_another(tmp_path: Path):
    report = verify_file(path_of(tmp_path, built(tmp_path, rows(9, metadata={"k1": "a", "k10": "b", "k": ""}))))
    assert report.sound, report.checks


def test_records_of_every_size(tmp_path: Path):
    sizes = [rows(1, scopes=tuple(f"{n:03}" + "x" * 60 for n in range(amount)))[0][1] for amount in range(28)]
    given_rows = [(tag(n), tag(n)[16:] + record[16:]) for n, record in enumerate(sizes * 5)]
    path = path_of(tmp_path, built(tmp_path, given_rows))
    assert sorted(given_rows) == list(iterate(path))
    assert verify_file(path).sound


def test_describe_says_what_the_builder_said(large):
    _, path, keyring = large
    found, header = describe(path)
    assert keyring == found
    assert {"format": 1, "kind": "base", "records": MANY}.items() <= header.items()


def test_counts(tmp_path: Path):
    kinds = [
        {}, {"revoked": True}, {"key_off": True}, {"not_before": 200}, {"expires_at": 100}, {"superseded_at": 100},
        {"client_ordinal": 2}, {"rules": ("::/0",)}, {"watch": True, "expires_at": 101},
        {"revoked": True, "expires_at": 5},
    ]  # fmt: skip
    given_rows = [(tag(n), encode_record(plain(n, **changes), tag(n))) for n, changes in enumerate(kinds)]
    path = path_of(tmp_path, built(tmp_path, given_rows, clients_off=[2]))
    found = count(path, 100)
    sizes = [len(record) for _, record in given_rows]
    assert {
        "records": 10, "record_bytes": sum(sizes), "record_bytes_max": max(sizes), "revoked": 2, "key_off": 1,
        "watch": 1, "with_rules": 1, "absent": 0, "client_off": 1, "pending": 1, "current": 5, "retiring": 1,
        "expired": 1, "valid": 4,
    } == found  # fmt: skip


def test_single_records(large):
    given_rows, path, _ = large
    ascending = sorted(given_rows)
    for index in (0, 1, 4095, 4096, MANY - 1):
        found = find_index(path, index)
        assert (index, *ascending[index]) == (found.index, found.tag, found.value)
        for digits in (found.tag[:16].hex(), found.tag.hex().upper(), found.tag.hex()[:12]):
            assert found.tag == find_tag(path, digits).tag


def test_a_delta_may_say_absent(tmp_path: Path):
    given_rows = [*rows(3), (tag(3), encode_absent(tag(3)))]
    keyring = built(tmp_path, given_rows, kind="delta", base="ab" * 32)
    report = verify_file(path_of(tmp_path, keyring))
    assert report.sound, report.checks
    assert 1 == count(path_of(tmp_path, keyring), 0)["absent"]
    assert describe(path_of(tmp_path, keyring)).keyring.base == "ab" * 32
    with pytest.raises(InvalidInput):
        built(tmp_path, given_rows)


@pytest.mark.parametrize("changes", [
    {"kind": "delta"}, {"base": "ab" * 32}, {"kind": "other"}, {"peppers": []}, {"peppers": list("12345")},
    {"prefixes": [(f"p{n}", "NATIVE") for n in range(65)]}, {"prefixes": [("a", "NATIVE"), ("a", "MIXED")]},
    {"prefixes": [("a", "OTHER")]}, {"clients_off": [8]}, {"clients_off": [-1]}, {"client_count": -1},
])  # fmt: skip
def test_arguments_that_make_no_sense(tmp_path: Path, changes: dict):
    with pytest.raises(InvalidInput):
        built(tmp_path, rows(1), **changes)
    assert [] == list(tmp_path.iterdir())


def test_64_prefixes_fit(tmp_path: Path):
    prefixes = [(f"{n:02}" + "x" * 30, "MIXED") for n in range(64)]
    keyring = built(tmp_path, rows(1), prefixes=prefixes[::-1])
    assert tuple(prefixes) == keyring.prefixes == describe(path_of(tmp_path, keyring)).keyring.prefixes


def test_a_duplicate_leaves_nothing_behind(tmp_path: Path):
    with pytest.raises(InvalidInput) as refusal:
        built(tmp_path, [*rows(50), rows(50)[9]])
    assert "DUPLICATE_TAG" == refusal.value.code
    assert [] == list(tmp_path.iterdir())


def test_an_error_of_the_rows_leaves_nothing_behind_and_comes_through(tmp_path: Path):
    def failing() -> Iterator[Row]:
        yield rows(1)[0]
        raise KeyError("database went away")

    with pytest.raises(KeyError):
        built(tmp_path, failing())
    assert [] == list(tmp_path.iterdir())


def test_progress_is_told(tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    built(tmp_path, [rows(100)], expected=100, progress=lambda *said: told.append(said))
    assert ["sort", "write", "index", "digest"] == list(dict.fromkeys(stage for stage, _, _ in told))
    assert {("sort", 100, 100), ("write", 100, 100)} <= set(told)
    assert all(done <= total for _, done, total in told)


def test_the_map_is_large_enough_for_the_longest_records(tmp_path: Path):
    long = rows(1, scopes=tuple(f"{n:03}" + "x" * 98 for n in range(17)), metadata={"note": "x" * 30})[0][1]
    assert 1870 < len(long)
    number = 40_000
    given_rows = [(tag(n), tag(n)[16:] + long[16:]) for n in range(number)]
    keyring = built(tmp_path, given_rows, client_count=10_000_000)
    assert keyring.bytes < map_size(number, 10_000_000)
    assert number == keyring.records


def test_file_size_budget(tmp_path: Path):
    given_rows = rows(MANY, metadata={"note": "x" * 48})
    assert 144 == len(given_rows[-1][1])
    keyring = built(tmp_path, given_rows)
    assert 190 >= keyring.bytes / MANY


def test_a_file_built_again_replaces_itself(tmp_path: Path):
    first = built(tmp_path, rows(5))
    held = os.open(path_of(tmp_path, first), os.O_RDONLY)
    assert first == built(tmp_path, rows(5))
    assert first.bytes == os.fstat(held).st_size
    os.close(held)


def test_a_missing_or_strange_file(tmp_path: Path):
    from verifier.errors import NotFound

    with pytest.raises(NotFound):
        verify_file(tmp_path / "none.mdb")
    with pytest.raises(InvalidInput):
        verify_file(tmp_path)
    empty = tmp_path / "empty.mdb"
    empty.touch()
    assert not verify_file(empty).sound
    with pytest.raises(UnsoundPublication):
        describe(empty)
