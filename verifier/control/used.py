"""Reading what was counted: how much keys are used, by day and lately."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from sqlalchemy import Connection

from verifier.control import coverage
from verifier.errors import InvalidInput
from verifier.registry import nodes, queries, usage

HOUR_S = 3600
DAY_S = 86_400
SINCE_DAYS = 30
SILENT_AFTER_S = 30
LIMIT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class UsageDay:
    """Usage of one version on one day.

    Attributes:
        key_id: the key.
        version: the number of the version.
        day: in UTC, as YYYY-MM-DD.
        valid: calls answered VALID.
        refused: calls answered otherwise.
        hours: of the day, 0 to 23, in which a call was answered VALID.
    """

    key_id: str
    version: int
    day: str
    valid: int
    refused: int
    hours: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage by day, and how far it can be relied on.

    Attributes:
        days: the newest first, then by key and version.
        as_of: until when all expected nodes have reported, seconds since 1970; None when none is expected, or one
            never reported.
        silent_nodes: expected nodes whose reports are missing for more than 30 s.
    """

    days: tuple[UsageDay, ...]
    as_of: int | None
    silent_nodes: tuple[str, ...]


def query_usage(
    connection: Connection,
    now_s: int,
    *,
    key_id: str | None = None,
    client_id: str | None = None,
    since_s: int | None = None,
    limit: int = 1000,
) -> Usage:
    """Return the usage of a key, or of all keys of a client.

    Args:
        connection: any transaction.
        now_s: seconds since 1970.
        key_id: of this key; or
        client_id: of this client.
        since_s: from the day of this second on; of the last 30 days when None.
        limit: at most so many rows.

    Raises:
        InvalidInput: neither or both are given, or the limit is not 1 to 10,000.
        NotFound: there is no such key or client.
    """
    if (key_id is None) == (client_id is None):
        raise InvalidInput("usage is asked of a key, or of a client")
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidInput(f"the limit lies between 1 and {LIMIT_MAX}")
    if key_id is not None:
        queries.find_key(connection, key_id)
    if client_id is not None:
        queries.find_client(connection, client_id)
    since_s = now_s - SINCE_DAYS * DAY_S if since_s is None else since_s
    rows = usage.history(connection, since_s // DAY_S, limit, key_id=key_id, client_id=client_id)
    expected = [node for node in nodes.every(connection) if coverage.is_expected(node, now_s)]
    known = {node.name: coverage.known_to_ms(node) for node in expected}
    late_ms = (now_s - SILENT_AFTER_S) * 1000
    return Usage(
        tuple(UsageDay(r.key_id, r.version, _day(r.day), r.valid, r.refused, hours_of(r.hours)) for r in rows),
        as_of(known.values()),
        tuple(name for name, known_ms in known.items() if known_ms is None or known_ms < late_ms),
    )


def as_of(known_ms: Iterable[int | None]) -> int | None:
    """Return the second until which all have reported; None when nobody is asked, or one never reported."""
    moments = list(known_ms)
    there = [moment for moment in moments if moment is not None]
    return min(there) // 1000 if there and len(there) == len(moments) else None


def hours_of(mask: int) -> tuple[int, ...]:
    """Return the hours that a day's mask names."""
    return tuple(hour for hour in range(24) if mask >> hour & 1)


def used_lately(connection: Connection, ordinals: Iterable[int], now_s: int) -> dict[int, tuple[int | None, int]]:
    """Tell when versions were used last, and about how much in the last 24 hours.

    Where calls are counted by the hour, those of the last 24 hours and the hour before are told; else those of today
    and, of yesterday's, the share of the hours of use that lie within the 24 hours, rounded up.

    Args:
        connection: any transaction.
        ordinals: of the versions.
        now_s: seconds since 1970.

    Returns:
        (last use in seconds since 1970 or None, VALID calls) by ordinal, for all versions that exist.
    """
    last = usage.last_uses(connection, ordinals)
    lately = [ordinal for ordinal, used_at in last.items() if used_at is not None and used_at >= now_s - 2 * DAY_S]
    since_hour = (now_s - DAY_S) // HOUR_S
    by_hour = usage.hours(connection, lately, since_hour)
    by_day = usage.days(connection, [one for one in lately if one not in by_hour], since_hour // 24)
    valid = {ordinal: sum(row.valid for row in rows) for ordinal, rows in by_hour.items()}
    for ordinal, rows in by_day.items():
        valid[ordinal] = sum(_share(row.valid, row.hours, since_hour - row.day * 24) for row in rows)
    return {ordinal: (used_at, valid.get(ordinal, 0)) for ordinal, used_at in last.items()}


def _share(valid: int, hours: int, first_hour: int) -> int:
    """Return about how many of a day's calls came from an hour of it on."""
    if first_hour <= 0 or not hours:
        return valid
    return ceil(valid * (hours >> first_hour).bit_count() / hours.bit_count())


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y-%m-%d")
