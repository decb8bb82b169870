"""The bucket sort: ascending, complete, within its memory, and strict about what it is given."""

import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import Row, plain, rows, tag
from verifier._build import slot_count
from verifier._sort import Sorter
from verifier.errors import InvalidInput
from verifier.keyring.records import encode_absent, encode_record


def sorted_by_it(given_rows: list[Row], memory_bytes: int, at_once: int = 7) -> tuple[list[Row], int]:
    """What comes out, and how many bytes went through the file."""
    with tempfile.TemporaryFile() as spill:
        sorter = Sorter(spill.fileno(), memory_bytes)
        for start in range(0, len(given_rows), at_once):
            sorter.add(given_rows[start : start + at_once])
        assert len(given_rows) == sorter.count
        return [row for batch in sorter.batches() for row in batch], sorter.spilled_bytes


def as_stored(given_rows: list[Row]) -> list[Row]:
    return sorted((each[:16], record) for each, record in given_rows)


# Tags that share buckets, heads and more, as HMAC would never make them.
close_tags = st.binary(min_size=4, max_size=4).map(lambda few: few[:1] + bytes(13) + few[1:3] + bytes(15) + few[3:])


@given(st.lists(st.binary(min_size=32, max_size=32) | close_tags, max_size=60, unique_by=lambda each: each[:16]),
       st.integers(1, 4000))  # fmt: skip
def test_any_tags_any_memory(tags: list[bytes], memory_bytes: int):
    given_rows = [(each, encode_record(plain(number, key_id="k" * (1 + number)), each))
                  for number, each in enumerate(tags)]  # fmt: skip
    found, _ = sorted_by_it(given_rows, memory_bytes)
    assert as_stored(given_rows) == found


def test_nothing_is_spilled_as_long_as_it_fits():
    given_rows = rows(1000)
    size = sum(2 + 16 + len(record) for _, record in given_rows)
    assert (as_stored(given_rows), 0) == sorted_by_it(given_rows, size)
    found, spilled = sorted_by_it(given_rows, size - 1)
    assert as_stored(given_rows) == found
    assert size == spilled


@pytest.mark.parametrize("memory_bytes", [1, 1 << 20])
def test_one_tag_twice(memory_bytes: int):
    given_rows = [*rows(300), rows(300)[17]]
    with pytest.raises(InvalidInput) as refusal:
        sorted_by_it(given_rows, memory_bytes)
    assert "DUPLICATE_TAG" == refusal.value.code
    assert tag(17)[:16].hex() in refusal.value.message


def test_one_tag_head_with_two_rests_is_a_duplicate_too():
    other = tag(1)[:16] + tag(2)[16:]
    with pytest.raises(InvalidInput):
        sorted_by_it([*rows(3), (other, encode_record(plain(9), other))], 1 << 20)


@pytest.mark.parametrize("row", [
    (tag(1)[:31], rows(2)[1][1]), (tag(2), rows(2)[1][1]), (tag(1), b""), (tag(1), rows(2)[1][1] + bytes(8)),
    (bytearray(tag(1)), rows(2)[1][1]), (tag(1), memoryview(rows(2)[1][1])), (tag(1), None), (None, rows(2)[1][1]),
    (tag(1), encode_absent(tag(1))),
])  # fmt: skip
def test_rows_that_are_none(row: tuple):
    with tempfile.TemporaryFile() as spill, pytest.raises(InvalidInput) as refusal:
        Sorter(spill.fileno(), 1 << 20).add([row])
    assert "BAD_RECORD" == refusal.value.code


def test_a_full_disk_is_an_os_error():
    # Written to a file that is open for reading only, as a disk that refuses.
    with tempfile.NamedTemporaryFile() as named, open(named.name, "rb") as readonly:  # noqa: PTH123
        sorter = Sorter(readonly.fileno(), 100)
        with pytest.raises(OSError):
            sorter.add(rows(10))


def test_a_temporary_file_that_was_cut_is_an_error():
    with tempfile.TemporaryFile() as spill:
        sorter = Sorter(spill.fileno(), 5000)
        sorter.add(rows(500))
        spill.truncate(100)
        with pytest.raises((OSError, InvalidInput)):
            list(sorter.batches())


def test_noise_in_the_temporary_file_is_an_error():
    with tempfile.TemporaryFile() as spill:
        sorter = Sorter(spill.fileno(), 5000)
        sorter.add(rows(500))
        spill.write(b"\xff" * sorter.spilled_bytes)
        spill.flush()
        with pytest.raises((OSError, InvalidInput)):
            list(sorter.batches())


@pytest.mark.parametrize(("records", "slots"), [
    (0, 64), (1, 64), (44, 64), (45, 72), (46, 72), (700, 1000), (701, 1008), (10_000_000, 14_285_720),
])
def test_slot_count(records: int, slots: int):
    assert slots == slot_count(records)
    assert records < slots
