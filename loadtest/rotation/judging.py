"""Compares what callers and operators were told with what was to be told."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from loadtest.rotation.calls import FAULT, LOST, Call
from loadtest.rotation.life import NS
from loadtest.rotation.safety import Books
from loadtest.rotation.scenes import SCENES
from loadtest.rotation.script import Notes
from verifier.vocabulary import Verdict

PROBLEMS_SHOWN = 20
REFUSED_WITHIN_S = 1.0
NODE_BACK_NS = 2 * NS


@dataclass(frozen=True)
class End:
    """How the end of a window went, in seconds from it: negative is before.

    Attributes:
        key, version: whose.
        last_valid_s: when the last VALID was sent.
        first_refused_s: when the first EXPIRED arrived; None if nobody asked after the end.
    """

    key: int
    version: int
    last_valid_s: float | None
    first_refused_s: float | None


@dataclass(frozen=True)
class Seen:
    """How long a publication took to the last node, in milliseconds from when it became current.

    Attributes:
        told_ms: as the command said.
        after_ms: a caller sent a call later than this that was still answered by the publication before.
        by_ms: all nodes had answered callers by it.
    """

    told_ms: float
    after_ms: float
    by_ms: float

    @property
    def off_ms(self) -> float:
        """By how much the command's figure lies outside what callers saw; negative is too early."""
        return min(0.0, self.told_ms - self.after_ms) or max(0.0, self.told_ms - self.by_ms)


@dataclass
class Findings:
    """What a run showed.

    Attributes:
        calls: by what was answered.
        ends: of windows.
        safety: answers about safety, by outcome.
        decided: of them, those for which only one outcome was right.
        seen: how long publications took, as told and as seen.
        problems: everything that was wrong.
    """

    calls: Counter[str] = field(default_factory=Counter)
    ends: list[End] = field(default_factory=list)
    safety: Counter[str] = field(default_factory=Counter)
    decided: int = 0
    seen: list[Seen] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def judge(notes: Notes, calls: Sequence[Call], *, nodes: int, quiet_s: int, interval_s: float) -> Findings:
    """Judge a run.

    Args:
        notes: of the script.
        calls: of the callers.
        nodes: how many there were.
        quiet_s: the policy's min_quiet.
        interval_s: of reports.
    """
    found = Findings(problems=list(notes.problems))
    found.problems += _few(_wrong_calls(notes, calls, found.calls))
    found.ends = list(_ends(notes, calls))
    late = [end for end in found.ends if end.first_refused_s is None or end.first_refused_s > REFUSED_WITHIN_S]
    found.problems += [f"{name_of(end.key, end.version)} was not refused within a second of its end" for end in late]
    books = Books(notes.lives, calls, notes.crashes, quiet_s=quiet_s, interval_s=interval_s)
    found.problems += _few(_wrong_answers(notes, books, found))
    found.seen = list(_seen(notes, calls, nodes))
    return found


def _wrong_calls(notes: Notes, calls: Sequence[Call], counts: Counter[str]) -> Iterator[str]:
    down = {int(crash.node[1:]) - 1: (crash.killed_ns, crash.back_ns + NODE_BACK_NS) for crash in notes.crashes}
    for call in calls:
        if call.verdict in (FAULT, LOST):
            begin, end = down.get(call.node, (0, 0))
            lost = call.verdict == LOST
            counts["no answer" if lost else "asked another node"] += 1
            if lost or not begin <= call.received <= end:
                yield f"{name_of(call.key, call.version)}: no answer of node {call.node + 1}"
            continue
        verdict = Verdict(call.verdict)
        counts[verdict.name] += 1
        allowed = notes.lives[call.key].verdicts(call.version, call.sent, call.received)
        if verdict not in allowed:
            if allowed == {Verdict.VALID}:
                counts["refused, though valid"] += 1
            wanted = " or ".join(sorted(one.name for one in allowed))
            yield f"{name_of(call.key, call.version)}: {verdict.name} instead of {wanted} at {call.sent / NS:.3f}"


def _ends(notes: Notes, calls: Sequence[Call]) -> Iterator[End]:
    last = max((call.received for call in calls), default=0)
    for index, life in enumerate(notes.lives):
        for number in life.now:
            over = life.over_ns(number)
            if over is None or over > last:
                continue
            mine = [call for call in calls if (call.key, call.version) == (index, number)]
            valid = max((call.sent for call in mine if call.verdict == Verdict.VALID), default=None)
            refused = min((call.received for call in mine if call.verdict == Verdict.EXPIRED), default=None)
            yield End(index, number, None if valid is None else (valid - over) / NS,
                      None if refused is None else (refused - over) / NS)


def _wrong_answers(notes: Notes, books: Books, found: Findings) -> Iterator[str]:
    for check in notes.checks:
        expected = books.expected(check)
        found.safety[check.safety] += 1
        found.decided += len(expected.outcomes) == 1
        problem = expected.problem(check)
        if problem is None:
            problem = next(books.overclaimed(check), None)
        if problem is not None:
            yield f"{name_of(check.key, check.version)} safe-to-retire at {check.asked / NS:.3f}: {problem}"


def _seen(notes: Notes, calls: Sequence[Call], nodes: int) -> Iterator[Seen]:
    """Yield what callers saw of the publications that a command waited for."""
    by_node = [
        sorted((call.received, call.sent, call.revision) for call in calls if call.node == node and call.revision)
        for node in range(nodes)
    ]
    highest = [list(accumulate((revision for _, _, revision in answers), max)) for answers in by_node]
    for reached in notes.reached:
        before, after = [], []
        for answers, revisions in zip(by_node, highest, strict=True):
            found = bisect_left(revisions, reached.revision)
            if 0 < found < len(answers):
                before.append(answers[found - 1][1])
                after.append(answers[found][0])
        if len(after) == reached.nodes == nodes:
            committed_ms = reached.committed_ms
            yield Seen(reached.took_ms, max(before) / 1e6 - committed_ms, max(after) / 1e6 - committed_ms)


def _few(problems: Iterator[str]) -> list[str]:
    every = list(problems)
    more = len(every) - PROBLEMS_SHOWN
    return every[:PROBLEMS_SHOWN] + ([f"... and {more} more like these"] if more > 0 else [])


def name_of(key: int, version: int) -> str:
    """Name a version for people."""
    names = [*SCENES, "swapped"]
    return f"{names[min(key, len(names) - 1)]} v{version}"
