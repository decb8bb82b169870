"""Verifications counted by version, in-process: what is counted, exchanged, watched, and given back."""

from pathlib import Path

import pytest

from tests.support.image import KEY_OFF, REVOKED, WATCH, Facts, image_of, view_of
from tests.support.publications import native
from verifier._usage import Usage
from verifier._view import View
from verifier.admin.v1.node_pb2 import ReportUsageRequest

GOOD, EXPIRED, GONE, OFF, WATCHED, FENCED = (native(number) for number in range(6))
FACTS = {
    GOOD: Facts(ordinal=0), EXPIRED: Facts(ordinal=1, end=1000), GONE: Facts(ordinal=4095, flags=REVOKED),
    OFF: Facts(ordinal=4096, flags=KEY_OFF), WATCHED: Facts(ordinal=(1 << 32) - 1, flags=WATCH, scopes=["read"]),
    FENCED: Facts(ordinal=70_000, flags=WATCH, rules=["10.0.0.0/8"]),
}  # fmt: skip
VALID, ADDRESS_NOT_ALLOWED, INSUFFICIENT_SCOPE = 1, 9, 10
WATCHED_MAX = 4096


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def view(usage: Usage) -> View:
    view = view_of(image_of(FACTS))
    view.count_into(usage)
    return view


def drained(usage: Usage) -> dict[int, list[int]]:
    """Exchange the sets and return what was counted."""
    usage.ask()
    usage.exchange()
    report = ReportUsageRequest.FromString(usage.drain().take(1 << 20))
    rows = zip(report.ordinals, report.valid, report.refused, strict=True)
    return {ordinal: counts for ordinal, *counts in rows}


def test_each_verdict_of_a_version_counts_once(usage: Usage, view: View):
    for token in FACTS:
        for _ in range(3):
            view.verify(token)
    view.verify_batch([GOOD] * 40 + [GONE, EXPIRED])
    assert drained(usage) == {0: [43, 0], 1: [0, 4], 4095: [0, 4], 4096: [0, 3], (1 << 32) - 1: [3, 0], 70_000: [0, 3]}
    assert drained(usage) == {}


def test_what_no_version_answers_for_is_not_counted(usage: Usage, view: View):
    view.verify("vk_live_nonsense")
    view.verify(native(99))
    view.verify_batch(["", native(98), b"\xff"])
    assert drained(usage) == {}


def test_probes_change_nothing(usage: Usage, view: View):
    view.verify(WATCHED, probe=True)
    view.verify_batch([GOOD, WATCHED, GONE], probe=True)
    assert (drained(usage), usage.watched()) == ({}, [])


def test_nothing_is_lost_or_doubled_over_many_exchanges(usage: Usage, view: View):
    total = 0
    for number in range(1, 60):
        view.verify_batch([GOOD] * number)
        total += drained(usage)[0][0]
    assert total == sum(range(1, 60))


@pytest.mark.parametrize("calls", [255, 256, 257, 511, 512, 70_000])
def test_large_counts_carry(usage: Usage, view: View, calls: int):
    view.verify_batch([GOOD] * calls)
    view.verify_batch([GONE] * (calls + 1))
    view.verify_batch([OFF] * 3)
    assert drained(usage) == {0: [calls, 0], 4095: [0, calls + 1], 4096: [0, 3]}
    view.verify(GOOD)
    drained(usage)
    assert drained(usage) == {}


def test_counts_that_nobody_drained_stay(usage: Usage, view: View):
    view.verify(GOOD)
    usage.ask()
    usage.exchange()
    view.verify(GOOD)
    usage.ask()  # the first set, with its count, is counted in again
    usage.exchange()
    view.verify(GOOD)
    assert drained(usage) == {0: [2, 0]}
    assert drained(usage) == {0: [1, 0]}


def test_a_set_that_is_not_exchanged_cannot_be_drained(usage: Usage):
    usage.ask()
    assert not usage.exchanged
    with pytest.raises(RuntimeError):
        usage.drain()
    usage.exchange()
    assert usage.exchanged
    assert len(usage.drain()) == 0


def test_watched_calls_are_told_one_by_one(usage: Usage, view: View):
    view.verify(WATCHED, ["read"], "192.0.2.1")
    view.verify(WATCHED, ["write"], "2001:db8::1")
    view.verify(FENCED)
    view.verify(GOOD, (), "192.0.2.1")
    found = usage.watched()
    assert [
        ((1 << 32) - 1, VALID, bytes([192, 0, 2, 1])),
        ((1 << 32) - 1, INSUFFICIENT_SCOPE, bytes.fromhex("20010db8000000000000000000000001")),
        (70_000, ADDRESS_NOT_ALLOWED, b""),
    ] == [(ordinal, verdict, address) for ordinal, verdict, _, address in found]
    assert all(second > 1_700_000_000 for *_, second, _ in found)
    assert usage.watched() == []


def test_a_watched_call_is_told_once_in_a_while(usage: Usage, view: View):
    for _ in range(100):
        view.verify(WATCHED, (), "192.0.2.1")
        view.verify(WATCHED, (), "192.0.2.2")
    # Twice each where the interval of 10 s changed meanwhile.
    assert len(usage.watched()) in (2, 4)
    assert drained(usage)[(1 << 32) - 1] == [200, 0]


def test_too_many_watched_calls_are_left_out_and_counted(usage: Usage, view: View):
    for number in range(WATCHED_MAX + 500):
        view.verify(WATCHED, (), f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(usage.watched()) == WATCHED_MAX
    assert usage.watched_lost == 500
    view.verify(WATCHED, (), "10.255.0.1")
    assert len(usage.watched()) == 1


def test_memory_is_given_back_when_versions_are_no_longer_used():
    usage, pages = Usage(), 3000
    tokens = [native(number) for number in range(pages)]
    view = view_of(image_of({token: Facts(ordinal=4096 * number) for number, token in enumerate(tokens)}))
    view.count_into(usage)
    view.verify_batch(tokens[:1])
    drained(usage)
    before = resident_bytes()
    view.verify_batch(tokens)
    assert len(drained(usage)) == pages
    assert resident_bytes() - before > pages * 4096 * 0.9  # kept for the next counts
    for _ in range(4):
        view.verify(tokens[0])
        drained(usage)
    assert resident_bytes() - before < pages * 4096 * 0.3
    assert drained(usage) == {}


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
