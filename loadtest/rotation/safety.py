"""What safe-to-retire must say, from the script's own books: each reason must be given, may be, or must not be.

It is the definition of docs/usage.md over what callers noted, not over what nodes reported. What the script cannot know
to the millisecond - which second it was when the question arrived, what was in a report that was under way - leaves a
reason open; all else is decided.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from loadtest.rotation.calls import Call
from loadtest.rotation.life import NS, Life, Windows
from verifier.vocabulary import Verdict

SUCCESSOR_FOR_S = 7 * 86_400
SILENT_S = 30
ROUNDING_NS = NS // 2  # of as_of: what clocks and delays leave open
LATE_S = 1.5  # a use is dated to the end of its report; on a busy machine that may be later than its interval says
OUTCOMES = ("SAFE", "UNKNOWN", "NOT_SAFE")  # the later ones win
NOT_SAFE = ("not_superseded", "no_valid_successor", "successor_unused", "used_recently")


@dataclass(frozen=True)
class Check:
    """A question and its answer. Times are in nanoseconds since 1970 where not said otherwise.

    Attributes:
        key: index of the key.
        version: that was asked about.
        asked, answered: when.
        accept_gaps: as asked.
        safety: SAFE, NOT_SAFE or UNKNOWN.
        reasons: as given.
        as_of_s: until when all nodes have reported; None when one never did.
        quiet_s: how long the version must not have been used.
        known_to_s: until when each node has reported.
    """

    key: int
    version: int
    asked: int
    answered: int
    accept_gaps: bool
    safety: str
    reasons: tuple[str, ...]
    as_of_s: int | None
    quiet_s: int
    known_to_s: Mapping[str, int]


@dataclass(frozen=True)
class Crash:
    """A node that was killed, and started again.

    Attributes:
        node: its name.
        killed_ns: before it was killed.
        begun_ns: when it was started again.
        back_ns: when it answered again.
    """

    node: str
    killed_ns: int
    begun_ns: int
    back_ns: int


@dataclass(frozen=True)
class Expected:
    """What an answer must say: all of these reasons, and none but these and the open ones."""

    reasons: frozenset[str]
    open: frozenset[str]

    @property
    def outcomes(self) -> set[str]:
        """The outcomes that are right."""
        kinds = {safety_of([reason]) for reason in self.open} | {"SAFE"}
        return {max(safety_of(self.reasons), kind, key=OUTCOMES.index) for kind in kinds}

    def problem(self, check: Check) -> str | None:
        """Say what is wrong with an answer, None if nothing is."""
        told = frozenset(check.reasons)
        if missing := self.reasons - told:
            return f"{check.safety} without {', '.join(sorted(missing))}"
        if wrong := told - self.reasons - self.open:
            return f"{check.safety} for {', '.join(sorted(wrong))}"
        if check.safety != (means := safety_of(told)):
            return f"{check.safety}, but its reasons mean {means}"
        return None


def safety_of(reasons: Iterable[str]) -> str:
    """Return what reasons add up to."""
    reasons = list(reasons)
    if any(reason.partition(":")[0] in NOT_SAFE for reason in reasons):
        return "NOT_SAFE"
    return "UNKNOWN" if reasons else "SAFE"


class Uses:
    """The VALID calls of one version that nodes count."""

    def __init__(self, calls: Iterable[Call]) -> None:
        times = sorted((call.received, call.sent) for call in calls)
        self._received = [received for received, _ in times]
        self._latest_sent = list(accumulate((sent for _, sent in times), max))
        self._sent = sorted(sent for _, sent in times)

    def last_sent(self, received_by_ns: int) -> int | None:
        """Return when the last of the calls was sent that were answered by then."""
        found = bisect_right(self._received, received_by_ns)
        return self._latest_sent[found - 1] if found else None

    def any_sent(self, by_ns: int) -> bool:
        """Tell whether any was under way by then."""
        return bool(self._sent) and self._sent[0] <= by_ns

    def any_within(self, from_ns: int, to_ns: int) -> bool:
        """Tell whether any may have been answered in a time."""
        return bisect_right(self._sent, to_ns) > bisect_right(self._received, from_ns)


class Books:
    """All that the script knows.

    Args:
        lives: of the keys.
        calls: of all callers.
        crashes: of nodes.
        quiet_s: the policy's min_quiet.
        interval_s: of reports.
    """

    def __init__(self, lives: Sequence[Life], calls: Iterable[Call], crashes: Sequence[Crash], *, quiet_s: int,
                 interval_s: float) -> None:
        self._lives = lives
        self._crashes = crashes
        self._quiet_s = quiet_s
        self._dated_late_s = interval_s + LATE_S
        counted: dict[tuple[int, int], dict[str, list[Call]]] = {}
        for call in calls:
            if call.verdict == Verdict.VALID and not call.probe:
                by_node = counted.setdefault((call.key, call.version), {})
                by_node.setdefault(f"n{call.node + 1}", []).append(call)
        self._uses = {name: {node: Uses(there) for node, there in by_node.items()} for name, by_node in counted.items()}

    def expected(self, check: Check) -> Expected:
        """Return what an answer must say."""
        seconds = range(check.asked // NS, check.answered // NS + 1)
        cases = [
            self._at(check, windows, at_s)
            for windows in self._lives[check.key].during(check.asked, check.answered)
            for at_s in seconds
        ]
        must = frozenset.intersection(*(case.reasons for case in cases))
        return Expected(must, frozenset.union(*(case.reasons | case.open for case in cases)) - must)

    def _at(self, check: Check, windows: Windows, at_s: int) -> Expected:
        must, may = set(), set()
        for reason, given in self._reasons(check, windows, at_s):
            (must if given else may).add(reason)
        if check.quiet_s != self._quiet_s:
            must.add(f"(a quiet time of {check.quiet_s} s)")
        return Expected(frozenset(must), frozenset(may - must))

    def _reasons(self, check: Check, windows: Windows, at_s: int) -> Iterator[tuple[str, bool]]:
        """Yield reasons, with whether they must be given."""
        window = windows.get(check.version)
        if window is None:
            return
        if window.superseded_at is None or window.superseded_at > at_s:
            yield "not_superseded", True
        elif window.end is not None and window.end <= at_s:
            yield "not_superseded:expired", True
        after = _successors(windows, check.version)
        if not any(_valid_for_long(windows, number, at_s) for number in after):
            yield "no_valid_successor", True
        if not any(self._reported(check, number) for number in after):
            begun = any(uses.any_sent(check.answered) for number in after for uses in self._of(check, number).values())
            yield "successor_unused", not begun
        is_close = window.superseded_at is not None and window.superseded_at <= at_s
        yield from self._used_recently(check, at_s, is_close)
        yield from self._not_known(check, at_s)
        if window.superseded_at is None or at_s - window.superseded_at < check.quiet_s:
            yield "window_shorter_than_rhythm", True

    def _of(self, check: Check, number: int) -> Mapping[str, Uses]:
        return self._uses.get((check.key, number), {})

    def _reported(self, check: Check, number: int) -> list[int]:
        """Return when the last call of a version was sent to each node that has certainly reported it."""
        last = [
            uses.last_sent(check.known_to_s.get(node, 0) * NS - ROUNDING_NS)
            for node, uses in self._of(check, number).items()
        ]
        return [sent for sent in last if sent is not None]

    def _used_recently(self, check: Check, at_s: int, is_close: bool) -> Iterator[tuple[str, bool]]:
        """The last use of a version that is not superseded is known to the hour only."""
        since_s = at_s - check.quiet_s
        if any(sent // NS >= since_s for sent in self._reported(check, check.version)):
            yield "used_recently", is_close
            return
        begin_ns = int((since_s - self._dated_late_s) * NS)
        if any(uses.any_within(begin_ns, check.answered) for uses in self._of(check, check.version).values()):
            yield "used_recently", False

    def _not_known(self, check: Check, at_s: int) -> Iterator[tuple[str, bool]]:
        silent_s = min(SILENT_S, check.quiet_s)
        for node, to_s in check.known_to_s.items():
            if to_s < at_s - silent_s:
                yield f"node_silent:{node}", True
        for crash in () if check.accept_gaps else self._crashes:
            is_over = (at_s - check.quiet_s) * NS > crash.back_ns + NS
            if check.answered < crash.begun_ns or is_over:
                continue
            is_told = check.known_to_s.get(crash.node, 0) * NS >= crash.back_ns
            yield f"gap:{crash.node}", is_told and (at_s - check.quiet_s) * NS < crash.begun_ns

    def overclaimed(self, check: Check) -> Iterator[str]:
        """Yield nodes that are said to have reported what they cannot have."""
        for node, to_s in check.known_to_s.items():
            latest_ns = check.answered
            for crash in self._crashes:
                if crash.node == node and crash.killed_ns < check.answered and check.asked < crash.begun_ns:
                    latest_ns = min(latest_ns, crash.killed_ns)
            if to_s * NS > latest_ns + ROUNDING_NS:
                yield f"{node} is known to {to_s}"


def _successors(windows: Windows, number: int) -> list[int]:
    chain: list[int] = []
    number = windows[number].superseded_by
    while number in windows and number not in chain:
        chain.append(number)
        number = windows[number].superseded_by
    return chain


def _valid_for_long(windows: Windows, number: int, at_s: int) -> bool:
    window = windows[number]
    lasts = window.end is None or window.end >= at_s + SUCCESSOR_FOR_S
    return window.verdict(at_s) == Verdict.VALID and lasts
