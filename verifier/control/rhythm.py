"""How long a version must not have been used before its silence tells: a Monday job has not moved on Tuesday."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Connection, Row

from verifier.registry import nodes, usage
from verifier.registry.facts import Version

HOUR_S = 3600
DAY_S = 86_400
RHYTHM_DAYS = 35  # before its supersession: from these days a version's rhythm is read
PAUSE_MAX_S = 8 * DAY_S


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How a version was used in the 35 days before its supersession.

    Attributes:
        pause_s: the longest time that passed between two hours with a VALID call.
        was_unused: there was none, for certain.
    """

    pause_s: int
    was_unused: bool


def rhythm_of(connection: Connection, version: Version, now_s: int) -> Rhythm:
    """Read a version's rhythm from its usage; of one that is not superseded, from the days before now.

    Args:
        connection: any transaction.
        version: any.
        now_s: seconds since 1970.
    """
    end_s = now_s if version.superseded_at is None else min(version.superseded_at, now_s)
    begin_s = end_s - RHYTHM_DAYS * DAY_S
    begin_hour, end_hour = begin_s // HOUR_S, end_s // HOUR_S
    days = usage.days(connection, [version.ordinal], begin_s // DAY_S).get(version.ordinal, [])
    used = [hour for hour in _hours_used(days) if begin_hour <= hour <= end_hour]
    since = nodes.usage_began(connection)
    is_whole = since is not None and since <= max(begin_s, version.issued_at)
    # What was used before and pauses as the days begin, has paused at least since then.
    pausing = [begin_hour] if version.first_used_at is not None and version.first_used_at < begin_s else []
    return Rhythm(longest_pause_s([*pausing, *used], end_hour) if used else 0, not used and is_whole)


def _hours_used(days: Iterable[Row[tuple[int, int, int, int]]]) -> Iterator[int]:
    """Yield the hours since 1970 in which there was a VALID."""
    for day in days:
        yield from (day.day * 24 + hour for hour in range(24) if day.hours >> hour & 1)


def longest_pause_s(used_hours: Iterable[int], end_hour: int) -> int:
    """Return the longest time between used hours, the hour of the supersession taken for one; 0 when none was used."""
    used = sorted(set(used_hours))
    if not used:
        return 0
    return max(later - earlier for earlier, later in pairwise([*used, max(end_hour, used[-1])])) * HOUR_S


def quiet_time(min_quiet_s: int, pause_s: int) -> tuple[int, str]:
    """Return how long a version must not have been used, and why.

    Args:
        min_quiet_s: of its key's policy.
        pause_s: of its :class:`Rhythm`.
    """
    rhythm_s = min(pause_s * 3 // 2, PAUSE_MAX_S)
    if rhythm_s <= min_quiet_s:
        return min_quiet_s, "the policy's min_quiet"
    pause = f"the longest pause in the {RHYTHM_DAYS} days before it was superseded, {pause_s // HOUR_S} h"
    if rhythm_s == PAUSE_MAX_S:
        return rhythm_s, f"{pause}; no more than {PAUSE_MAX_S // DAY_S} days"
    return rhythm_s, f"1.5 times {pause}"
