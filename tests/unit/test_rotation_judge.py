"""The judge of rotations under load: that it lets pass what is right, and finds each thing that is wrong."""

from collections.abc import Iterable

import pytest

from loadtest.rotation.calls import FAULT, LOST, Call, packed, unpacked
from loadtest.rotation.judging import Findings, judge
from loadtest.rotation.life import NS, Life, Window
from loadtest.rotation.safety import Check, Crash, safety_of
from loadtest.rotation.script import Notes, Reached
from verifier.vocabulary import Verdict

QUIET_S = 4
ROTATED_S, END_S = 1000, 1030
MS = NS // 1000


def rotated() -> Notes:
    """Version 1 was replaced at second 1000.2, its window ends at 1030."""
    life = Life()
    life.change(ROTATED_S * NS + 200 * MS, ROTATED_S * NS + 300 * MS,
                {1: Window(None, ROTATED_S, 2, END_S), 2: Window()})
    return Notes(lives=[life])


def call(version: int, at_s: float, verdict: int = Verdict.VALID, node: int = 0, revision: int = 5,
         probe: int = 0) -> Call:
    sent = int(at_s * NS)
    return Call(0, 0, version, node, sent, sent + MS, verdict, revision, probe)


BASE = [call(1, at / 2) for at in range(1990, 2020)] + [call(2, 1005), call(1, END_S + 0.01, Verdict.EXPIRED)]


def judged(notes: Notes, calls: Iterable[Call], nodes: int = 1) -> Findings:
    return judge(notes, [*BASE, *calls], nodes=nodes, quiet_s=QUIET_S, interval_s=0.3)


def check(at_s: float, *reasons: str, safety: str | None = None, known_s: int | None = None, quiet_s: int = QUIET_S,
          version: int = 1, accept_gaps: bool = False) -> Check:
    asked = int(at_s * NS)
    known = int(at_s) if known_s is None else known_s
    return Check(0, version, asked, asked + MS, accept_gaps, safety or safety_of(reasons), reasons, known, quiet_s,
                 {"n1": known})


def test_calls_are_handed_over_as_they_were():
    calls = [call(1, 1.5), call(2, 2.5, FAULT)]
    assert calls == list(unpacked(packed(calls)))


# --- Calls -----------------------------------------------------------------------------------------------------------


def test_right_answers_pass():
    found = judged(rotated(), [call(1, END_S - 0.01), call(2, END_S + 1), call(2, 999.9, Verdict.UNKNOWN)])
    assert [] == found.problems
    assert (0.011, -0.01) == pytest.approx((found.ends[0].first_refused_s, found.ends[0].last_valid_s))


@pytest.mark.parametrize(("wrong", "refused"), [
    (call(1, END_S + 0.01), 0), (call(1, END_S - 0.01, Verdict.EXPIRED), 1), (call(2, 1001, Verdict.UNKNOWN), 1),
    (call(2, 1001, Verdict.NOT_YET_ACTIVE), 1), (call(2, 999, Verdict.VALID), 0), (call(1, 1001, FAULT), 0),
    (call(1, 1001, LOST), 0), (call(1, END_S + 1, Verdict.REVOKED), 0),
])  # fmt: skip
def test_wrong_answers_are_found(wrong: Call, refused: int):
    found = judged(rotated(), [wrong])
    assert 1 == len(found.problems)
    assert refused == found.calls["refused, though valid"]


def test_while_a_change_is_made_either_answer_is_right():
    assert [] == judged(rotated(), [call(2, 1000.25), call(2, 1000.25, Verdict.UNKNOWN)]).problems


def test_a_late_end_is_found():
    calls = [one for one in BASE if one.verdict != Verdict.EXPIRED]
    for last in (call(2, END_S + 5), call(1, END_S + 1.2, Verdict.EXPIRED)):
        found = judge(rotated(), [*calls, last], nodes=1, quiet_s=QUIET_S, interval_s=0.3)
        assert ["fixed v1 was not refused within a second of its end"] == found.problems


def test_faults_are_right_only_of_a_node_that_is_down():
    notes = rotated()
    notes.crashes.append(Crash("n2", 1010 * NS, 1021 * NS, 1022 * NS))
    assert [] == judged(notes, [call(1, 1015, FAULT, node=1)]).problems
    assert 1 == len(judged(notes, [call(1, 1015, FAULT, node=0)]).problems)
    assert 1 == len(judged(notes, [call(1, 1015, LOST, node=1)]).problems)


# --- Safe to retire --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("right", [
    check(999, "not_superseded", "no_valid_successor", "successor_unused", "window_shorter_than_rhythm"),
    check(1002, "successor_unused", "used_recently", "window_shorter_than_rhythm"),
    check(1007, "successor_unused", "used_recently", known_s=1004), check(1008, "used_recently"), check(1020),
    check(1020, "node_silent:n1", known_s=1015), check(1031, "not_superseded:expired"),
])  # fmt: skip
def test_right_outcomes_pass(right: Check):
    notes = rotated()
    notes.checks.append(right)
    found = judged(notes, [])
    assert ([], 1) == (found.problems, found.decided)


@pytest.mark.parametrize("wrong", [
    check(1002), check(1008), check(1008, "successor_unused", "used_recently"), check(1020, "used_recently"),
    check(1020, "gap:n1"), check(1020, known_s=1015), check(1020, "node_silent:n1"), check(1020, known_s=1021),
    check(1020, safety="UNKNOWN"), check(1020, quiet_s=5), check(1031), check(1020, "not_superseded"),
    check(1002, "successor_unused", "used_recently"),
])  # fmt: skip
def test_wrong_outcomes_are_found(wrong: Check):
    notes = rotated()
    notes.checks.append(wrong)
    assert 1 == len(judged(notes, []).problems)


def test_probes_are_no_use():
    notes = rotated()
    notes.checks.append(check(1020))
    assert [] == judged(notes, [call(1, 1019, probe=1)]).problems
    assert 1 == len(judged(notes, [call(1, 1018)]).problems)


@pytest.mark.parametrize(("answer", "right"), [
    (check(1024, "gap:n1"), True), (check(1024), False), (check(1024, accept_gaps=True), True),
    (check(1024, "gap:n1", accept_gaps=True), False), (check(1029), True), (check(1029, "gap:n1"), False),
    (check(1020, "node_silent:n1", known_s=1009), True), (check(1020, "node_silent:n1", known_s=1012), False),
])  # fmt: skip
def test_the_gap_of_a_node_that_was_killed(answer: Check, right: bool):
    notes = rotated()
    notes.crashes.append(Crash("n1", 1010 * NS, 1021 * NS, 1022 * NS))
    notes.checks.append(answer)
    assert right == (judged(notes, []).problems == [])


# --- Propagation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("took_ms", "off_ms"), [(5, -5), (15, 0), (30, 9)])
def test_what_is_said_of_a_publication_is_compared_with_what_callers_saw(took_ms: int, off_ms: float):
    notes = rotated()
    notes.reached.append(Reached(6, 1020_000, took_ms, 2))
    calls = [call(2, 1020 + at_ms / 1000, node=node, revision=5 + (at_ms >= 20)) for at_ms in (10, 20)
             for node in (0, 1)]  # fmt: skip
    seen = judged(notes, calls, nodes=2).seen
    assert 1 == len(seen)
    assert off_ms == pytest.approx(seen[0].off_ms)
