"""Counts by version as rows: merged and cut without losing or doubling any."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier._uses import Uses
from verifier.admin.v1.node_pb2 import ReportUsageRequest

MOST = (1 << 32) - 1
Rows = list[tuple[int, int, int]]

numbers = st.integers(0, 5) | st.integers(MOST - 3, MOST)
rows = st.lists(st.tuples(st.integers(0, 12) | st.integers(0, MOST), numbers, numbers), max_size=20).map(sorted)


def taken(uses: Uses, limit: int) -> tuple[list[int], list[int], list[int]]:
    """Take rows as a report holds them."""
    report = ReportUsageRequest.FromString(uses.take(limit))
    return list(report.ordinals), list(report.valid), list(report.refused)


def drained(uses: Uses, limit: int = 3) -> tuple[Counter[tuple[int, str]], list[list[int]]]:
    """Take everything; return the sums, and the ordinals of each portion."""
    sums: Counter[tuple[int, str]] = Counter()
    portions = []
    while len(uses):
        ordinals, valid, refused = taken(uses, limit)
        portions.append(ordinals)
        for ordinal, yes, no in zip(ordinals, valid, refused, strict=True):
            sums[ordinal, "valid"] += yes
            sums[ordinal, "refused"] += no
    return +sums, portions


def summed(*parts: Rows) -> Counter[tuple[int, str]]:
    sums: Counter[tuple[int, str]] = Counter()
    for ordinal, valid, refused in (row for part in parts for row in part):
        sums[ordinal, "valid"] += valid
        sums[ordinal, "refused"] += refused
    return +sums


@given(rows, rows, rows, st.integers(1, 5))
def test_sums_survive_merging_and_cutting(one: Rows, two: Rows, three: Rows, limit: int):
    uses = Uses(one).merged(Uses(two)).merged(Uses(three))
    sums, portions = drained(uses, limit)
    assert sums == summed(one, two, three)
    for ordinals in portions:
        assert 1 <= len(ordinals) <= limit
        assert ordinals == sorted(set(ordinals))
    assert [ordinals[0] for ordinals in portions] == sorted(ordinals[0] for ordinals in portions)


@given(rows, rows, st.integers(1, 4))
def test_what_was_taken_is_not_merged_again(one: Rows, two: Rows, limit: int):
    uses = Uses(one)
    first = summed(list(zip(*taken(uses, limit), strict=True)))
    assert first + drained(uses.merged(Uses(two)))[0] == summed(one, two)


def test_counts_beyond_32_bits_take_two_portions():
    uses = Uses([(5, MOST, 1)]).merged(Uses([(5, 2, 1), (6, 1, 0)]))
    assert taken(uses, 10) == ([5], [MOST], [2])
    assert taken(uses, 10) == ([5, 6], [2, 1], [0, 0])
    assert uses.take(10) == b""


def test_rows_must_ascend():
    with pytest.raises(ValueError, match="ascend"):
        Uses([(2, 1, 0), (1, 1, 0)])
