"""What the control plane knows of a node's usage, and for which times: pure rules over plain data.

Reports of a node are numbered, in one series for each run of its process (its epoch). A number is counted once, in its
order; so counts can be late or, when the process is killed, missing, but never twice. What is missing is known: from
the end of the last report that came to the beginning of the next process's first one lies a gap.

Clocks: a report's times are the node's. Coverage is corrected by what its clock is known to be wrong, and never reaches
past the moment at which the node was heard last. A use is dated forward where the clock runs behind, but never back:
rather later than it was.
"""

from dataclasses import dataclass, replace

from verifier.errors import Conflict
from verifier.registry.nodes import Node

EXPECTED_FOR_S = 86_400  # a node that was silent for longer is not waited for
LOST_MS_MAX = 10_000  # what a report covers at most: less is not worth a doubt
CLOCK_SLACK_MS = 2_000  # how exactly a node's clock is known, at worst


@dataclass(frozen=True, slots=True)
class Gap:
    """A time for which a node's usage is not known, by our clock."""

    from_ms: int
    to_ms: int


@dataclass(frozen=True, slots=True)
class Span:
    """Where a report belongs.

    Attributes:
        epoch: of the process that counted, 16 hexadecimal digits.
        sequence: 1, 2, 3 and so on in that epoch.
        from_ms: end of the report before, or when the process began; milliseconds since 1970, the node's clock.
        to_ms: end of the counts.
        partial: whether more reports of the same time follow.
    """

    epoch: str
    sequence: int
    from_ms: int
    to_ms: int
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What a report changes: the node after it, and the gaps that it shows."""

    node: Node
    gaps: tuple[Gap, ...] = ()


def is_expected(node: Node, now_s: int) -> bool:
    """Tell whether a node counts: heard within 24 hours, not stopped by itself, not forgotten by an operator."""
    gone = node.stopped_at is not None or node.forgotten_at is not None
    return not gone and node.last_seen_at >= now_s - EXPECTED_FOR_S


def known_to_ms(node: Node) -> int | None:
    """Return until when a node's usage is known, None when it never reported any."""
    if node.usage_to_ms is None:
        return None
    return min(node.usage_to_ms - (node.clock_skew_ms or 0), node.last_seen_at * 1000)


def used_s(node: Node, moment_ms: int, now_s: int) -> int:
    """Return the second of a use by our clock, given the node's; rather later than it was, but not in the future."""
    return min((moment_ms - min(0, node.clock_skew_ms or 0)) // 1000, now_s)


def unreported(node: Node) -> Gap | None:
    """Return the time for which a node was heard alive, but of which no report of usage came."""
    known = known_to_ms(node)
    began = node.first_seen_at * 1000 if known is None else known
    heard = node.last_seen_at * 1000
    return Gap(began, heard) if heard - began > LOST_MS_MAX else None


def restarted(node: Node, epoch: str, now_s: int, clock_skew_ms: int | None) -> Step:
    """Begin anew with another process of a node.

    One that follows a process which stopped, or was forgotten, was not there in between. A process that simply vanished
    is another matter: it may have answered until a moment before its successor. What it reported last stays known; if
    it never reported any usage, all since it was first heard is missing.

    Args:
        node: as the process before left it.
        epoch: of the new process.
        now_s: when that was first heard.
        clock_skew_ms: by how much its clock is ahead; None when it did not tell.
    """
    fresh = replace(node, epoch=epoch, clock_skew_ms=clock_skew_ms)
    if node.stopped_at is None and node.forgotten_at is None:
        old_skew_ms, skew_ms = node.clock_skew_ms or 0, clock_skew_ms or 0
        heard_ms = node.first_seen_at * 1000 + old_skew_ms
        known_ms = heard_ms if node.usage_to_ms is None else node.usage_to_ms
        # By the clock of the new process, with whose reports it will be compared.
        return Step(replace(fresh, usage_to_ms=known_ms - old_skew_ms + skew_ms))
    gap = unreported(node)
    fresh = replace(
        fresh, stopped_at=None, forgotten_at=None, usage_epoch=None, usage_sequence=0, usage_from_ms=None,
        usage_to_ms=None, first_seen_at=now_s, last_seen_at=now_s,
    )  # fmt: skip
    return Step(fresh, () if gap is None else (gap,))


def is_repeat(node: Node, span: Span) -> bool:
    """Tell whether a report was counted already."""
    return span.epoch == node.usage_epoch and span.sequence <= node.usage_sequence


def advanced(node: Node, span: Span, now_s: int) -> Step:
    """Take the next report of a node.

    Args:
        node: before it.
        span: of the report; not a repeat.
        now_s: when it came.

    Raises:
        Conflict: a report before it is missing (``USAGE_GAP``; ``details["applied"]`` is the last one that was
            counted, after which the node may go on), or the node has been restarted since (``EPOCH_OVER``).
    """
    if span.epoch == node.usage_epoch:
        if span.sequence != node.usage_sequence + 1:
            raise _missing(node.usage_sequence, span)
        step = Step(node)
    else:
        step = _series(node, span)
    node, gaps = step.node, step.gaps
    begin_ms, end_ms, is_doubtful = _within(node, span, now_s)
    known_ms = node.usage_to_ms
    if known_ms is not None and begin_ms > known_ms and not (is_doubtful and span.epoch == node.usage_epoch):
        skew_ms = node.clock_skew_ms or 0
        gaps = (*gaps, Gap(known_ms - skew_ms, begin_ms - skew_ms))
    if known_ms is None or begin_ms > known_ms or span.epoch != node.usage_epoch:
        known_ms = begin_ms
    after = replace(
        node, epoch=node.epoch or span.epoch, usage_epoch=span.epoch, usage_sequence=span.sequence,
        usage_from_ms=begin_ms if node.usage_from_ms is None else node.usage_from_ms,
        usage_to_ms=known_ms if span.partial else end_ms, last_seen_at=max(node.last_seen_at, now_s), forgotten_at=None,
    )  # fmt: skip
    return Step(after, gaps)


def _within(node: Node, span: Span, now_s: int) -> tuple[int, int, bool]:
    """Return begin and end of a report, and whether they had to be brought back from the future.

    A node whose clock was set back goes on from the end of its report before, which lies ahead until its clock has
    caught up. That must not pass for knowledge of what is to come.
    """
    latest_ms = now_s * 1000 + 999 + (node.clock_skew_ms or 0) + CLOCK_SLACK_MS
    end_ms = min(span.to_ms, latest_ms)
    return min(span.from_ms, end_ms), end_ms, span.to_ms > latest_ms


def _series(node: Node, span: Span) -> Step:
    """Begin the series of another process."""
    if node.epoch not in ("", span.epoch):
        raise Conflict(
            f"node {node.name} has been started again since it counted this",
            hint="if it has not, two nodes report under one name", code="EPOCH_OVER",
        )  # fmt: skip
    if span.sequence != 1:
        raise _missing(0, span)
    return Step(node)


def _missing(applied: int, span: Span) -> Conflict:
    return Conflict(
        f"report {span.sequence} of usage came, but {applied + 1} is the next", code="USAGE_GAP",
        details={"applied": applied},
    )  # fmt: skip
