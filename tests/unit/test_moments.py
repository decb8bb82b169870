"""What the clock does to a key, and when."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.control.moments import moments_of
from verifier.registry.facts import Key, Version
from verifier.vocabulary import RevocationReason

LONG = 10**6


def version(number: int = 1, **facts: Any) -> Version:
    return Version(number, number, bytes(32), **{"issued_at": 100, **facts})


def key(*versions: Version, **facts: Any) -> Key:
    return Key(1, "key_1", 1, "acme", True, 100, **{"expires_at": None, **facts}, scopes=(), rules=(), metadata={},
               prefix="vk", versions=versions)


def told(of: Key, notices_s: tuple[int, ...] = (), after_s: int = 0, until_s: int = LONG) -> list[tuple[Any, ...]]:
    return [(one.at_s, one.kind, one.version) for one in moments_of(of, notices_s, after_s, until_s)]


OLD = version(1, superseded_at=1000, superseded_by=2, retire_at=1600, clock="fixed", overlap_s=600)
NEW = version(2, issued_at=900, not_before=1000)


@pytest.mark.parametrize(("of", "expected"), [
    (key(version()), []),
    (key(version(not_before=500)), [(500, "version.activated", 1)]),
    (key(version(not_before=500, expires_at=500)), [(500, "version.expired", 1), (500, "key.without_current", 1)]),
    (key(OLD, NEW), [(1000, "version.retiring", 1), (1000, "version.activated", 2), (1600, "version.retired", 1)]),
    # Without an overlap it is over at once.
    (key(replace(OLD, retire_at=1000), NEW), [(1000, "version.retired", 1), (1000, "version.activated", 2)]),
    # Its own end comes first, or at the same second: that one tells.
    (key(replace(OLD, expires_at=1300), version(2)), [(1000, "version.retiring", 1), (1300, "version.expired", 1)]),
    (key(replace(OLD, expires_at=1600), version(2)), [(1000, "version.retiring", 1), (1600, "version.expired", 1)]),
    # Over before it was superseded.
    (key(replace(OLD, expires_at=900), version(2)), [(900, "version.expired", 1)]),
    # The key's end is nobody else's.
    (key(replace(OLD, expires_at=1600), version(2), expires_at=1600),
     [(1000, "version.retiring", 1), (1600, "key.expired", None)]),
    (key(version(expires_at=700), expires_at=1600),
     [(700, "version.expired", 1), (700, "key.without_current", 1), (1600, "key.expired", None)]),
    # By hand: nothing ends.
    (key(replace(OLD, retire_at=None, clock="manual"), version(2)), [(1000, "version.retiring", 1)]),
])  # fmt: skip
def test_what_happens(of: Key, expected: list[tuple[Any, ...]]):
    assert expected == told(of)


@pytest.mark.parametrize(("revoked_at", "kinds"), [
    (999, []), (1000, []), (1001, ["version.retiring"]), (1600, ["version.retiring"]),
    (1601, ["version.retiring", "version.retired"]),
])
def test_a_revocation_forestalls_what_would_come(revoked_at: int, kinds: list[str]):
    of = key(replace(OLD, revoked_at=revoked_at, reason=RevocationReason.KEY_COMPROMISE), version(2))
    assert kinds == [kind for _, kind, _ in told(of)]


def notices(of: Key, *notices_s: int) -> list[tuple[int, Any, Any]]:
    moments = moments_of(of, notices_s, 0, LONG)
    return [(one.at_s, one.version, one.details["of"]) for one in moments if one.kind == "rotation.notice"]


def test_notices_come_before_every_end_that_had_begun_by_then():
    assert [(1000, 1, "overlap"), (1500, 1, "overlap")] == notices(key(OLD, NEW), 700, 601, 600, 100)
    assert [(100, 1, "version"), (800, 1, "version")] == notices(key(version(expires_at=900)), 801, 800, 100)
    assert [(800, None, "key")] == notices(key(version(expires_at=1000), expires_at=900), 100)
    # The end that counts is the earliest.
    assert [(1200, 1, "version")] == notices(key(replace(OLD, expires_at=1300), version(2)), 100)


def test_a_notice_says_when_nobody_has_used_the_successor():
    waiting = replace(OLD, clock="on_first_use", ceiling=1600)
    (awaited,) = [m.details for m in moments_of(key(waiting, NEW), (100,), 1400, 1599)]
    assert {"of": "overlap", "ends_at": 1600, "left_s": 100, "successor_unused": True} == awaited
    running = replace(waiting, retire_at=1500)
    (other,) = [m.details for m in moments_of(key(running, NEW), (100,), 1399, 1499)]
    assert {"of": "overlap", "ends_at": 1500, "left_s": 100} == other


seconds = st.none() | st.integers(100, 140)


@st.composite
def keys(draw: st.DrawFn) -> Key:
    versions = [
        version(number, not_before=draw(seconds), expires_at=draw(seconds), superseded_at=draw(st.integers(100, 140)),
                superseded_by=number + 1, retire_at=draw(seconds), revoked_at=draw(seconds))
        for number in range(1, draw(st.integers(1, 3)))
    ]  # fmt: skip
    label = version(len(versions) + 1, not_before=draw(seconds), expires_at=draw(seconds), revoked_at=draw(seconds))
    return key(*versions, label, expires_at=draw(seconds))


@given(keys(), st.lists(st.integers(95, 145), max_size=5))
def test_however_time_is_cut_everything_comes_once_and_in_order(of: Key, cuts: list[int]):
    edges = [90, *sorted(cuts), 150]
    parts = [one for after, until in pairwise(edges) for one in told(of, (5, 20), after, until)]
    assert told(of, (5, 20), 90, 150) == parts
    assert sorted(at for at, _, _ in parts) == [at for at, _, _ in parts]


@given(keys())
def test_a_version_ends_once_and_nothing_of_it_follows(of: Key):
    ends: dict[Any, int] = {}
    for at, kind, number in told(of, (5,)):
        assert number is None or number not in ends or kind == "key.without_current"
        if kind in {"version.retired", "version.expired"}:
            ends[number] = at
