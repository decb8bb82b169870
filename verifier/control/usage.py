"""Taking reports of usage into the registry, and keeping what is counted within bounds (docs/usage.md)."""

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from verifier.control import events, rotation
from verifier.control.acting import Act
from verifier.control.coverage import Span, advanced, is_repeat, used_s
from verifier.control.nodes import epoch_text
from verifier.control.terms import check_id
from verifier.errors import InvalidInput
from verifier.registry import nodes, schema, usage
from verifier.registry.nodes import Node
from verifier.vocabulary import Verdict

HOUR_S = 3600
DAY_S = 86_400
WINDOW_DAYS = 30  # by the hour for versions whose window was open this recently
ADDRESSES_DAYS = 30
HOURS_DAYS = 40
USAGE_DAYS = 400
GAPS_DAYS = 60
NODES_DAYS = 60
REQUESTS_DAYS = 7
EVENTS_DAYS = 90  # unless somebody says otherwise
SWEEP_ROWS = 50_000
FIRST_USES_AT_ONCE = 100  # some milliseconds each
COUNT_MAX = (1 << 63) - 1
ENDED = (Verdict.EXPIRED, Verdict.REVOKED)


@dataclass(frozen=True, slots=True)
class WatchedUse:
    """A call of a version that is watched.

    Attributes:
        ordinal: of the version.
        verdict: what was answered.
        used_at_s: when, by the node's clock.
        address: 4 or 16 bytes; empty when it is not known.
    """

    ordinal: int
    verdict: int
    used_at_s: int
    address: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a node counted since its report before. Numbers that belong together stand at the same place.

    Attributes:
        node: its name.
        epoch: chosen at random when its process began.
        sequence: 1, 2, 3 and so on for each epoch.
        from_ms: end of the report before, or when the process began; milliseconds since 1970, the node's clock.
        to_ms: end of the counts.
        ordinals: of versions, ascending.
        valid: calls answered VALID.
        refused: calls answered otherwise.
        watched: calls of versions that are watched, each once in a while.
        watched_lost: watched calls that were left out.
        partial: more reports of the same time follow.
    """

    node: str
    epoch: int
    sequence: int
    from_ms: int
    to_ms: int
    ordinals: Sequence[int] = ()
    valid: Sequence[int] = ()
    refused: Sequence[int] = ()
    watched: Sequence[WatchedUse] = ()
    watched_lost: int = 0
    partial: bool = False


FirstUse = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a report.

    Attributes:
        sequence: the last that was counted of this process.
        repeated: it had been counted before; nothing changed.
        unknown: versions in it that the registry does not hold (any more).
        publish: an overlap began to run, or a version is no longer watched: a publication is needed.
        first_uses: (key id, version, second) of first uses that are still to be noted, by :func:`note_first_uses`.
    """

    sequence: int
    repeated: bool = False
    unknown: int = 0
    publish: bool = False
    first_uses: Sequence[FirstUse] = ()


# --- A report --------------------------------------------------------------------------------------------------------


def take_report(
    begin: Callable[[], AbstractContextManager[Act]], report: UsageReport, *, full_addresses: bool = False
) -> Applied:
    """Apply a report, in one act unless it holds many first uses of successors, which rewrite records.

    Those follow in acts of their own, so that nobody waits for long. If they are interrupted, the next use of these
    versions counts as their first: an overlap begins later, never earlier.

    Args:
        begin: begins an act.
        report: as for :func:`apply_report`.
        full_addresses: likewise.

    Raises:
        InvalidInput, Conflict: as :func:`apply_report`.
    """
    with begin() as act:
        applied = apply_report(act, report, full_addresses=full_addresses)
    publish, left = applied.publish, applied.first_uses
    while left:
        with begin() as act:
            publish |= note_first_uses(act, left[:FIRST_USES_AT_ONCE])
        left = left[FIRST_USES_AT_ONCE:]
    return replace(applied, publish=publish, first_uses=())


def apply_report(act: Act, report: UsageReport, *, full_addresses: bool = False) -> Applied:
    """Count what a node reports, once: its number moves on in the same transaction as the counts.

    :func:`take_report` does all that a report asks for; this leaves first uses that are too many for one act.

    Args:
        act: whose transaction; ``act.now_s`` is when the report came.
        report: from the node.
        full_addresses: keep addresses whole, not only their /24 or /48.

    Raises:
        InvalidInput: it contradicts itself (``BAD_REPORT``), or its node's name cannot be used.
        Conflict: a report before it is missing, or its node has been restarted since (see
            :func:`verifier.control.coverage.advanced`).
    """
    _check(report)
    span = Span(epoch_text(report.epoch), report.sequence, report.from_ms, report.to_ms, report.partial)
    before = nodes.find(act.connection, report.node)
    if before is None:
        before = Node(name=report.node, epoch="", first_seen_at=act.now_s, last_seen_at=act.now_s)
    if is_repeat(before, span):
        return Applied(before.usage_sequence, repeated=True)
    step = advanced(before, span, act.now_s)
    nodes.store(act.connection, step.node)
    for gap in step.gaps:
        nodes.add_gap(act.connection, report.node, gap.from_ms, gap.to_ms)
    nodes.usage_began(act.connection, act.now_s)
    unknown, first_uses = _count(act, step.node, report)
    _note_watched(act, step.node, report, full_addresses)
    publish = note_first_uses(act, first_uses[:FIRST_USES_AT_ONCE])
    return Applied(report.sequence, unknown=unknown, publish=publish, first_uses=first_uses[FIRST_USES_AT_ONCE:])


def note_first_uses(act: Act, first_uses: Sequence[FirstUse]) -> bool:
    """Note first uses of successors, for which overlaps may be waiting; tell whether a publication is needed."""
    changed = [rotation.first_use(act, *first) for first in first_uses]
    return any(changed)


def _count(act: Act, node: Node, report: UsageReport) -> tuple[int, list[FirstUse]]:
    """Add the counts; return how many versions are unknown, and the first uses of successors."""
    rows = list(_rows(act, node, report))
    if not rows:
        return 0, []
    connection = act.connection
    # All of a report is counted at its last moment.
    at_s = used_s(node, report.to_ms - 1, act.now_s)
    unknown = usage.load(connection, rows)
    usage.count_days(connection, at_s // DAY_S, at_s // HOUR_S % 24)
    usage.count_hours(connection, at_s // HOUR_S, act.now_s - WINDOW_DAYS * DAY_S)
    first_uses = [(row.key_id, row.number, row.first_at) for row in usage.take_awaited(connection)]
    usage.move_uses(connection)
    return unknown, first_uses


def _rows(act: Act, node: Node, report: UsageReport) -> Iterator[tuple[int, int, int, int | None, int | None]]:
    """Yield rows of ``usage.reported``."""
    end_s = used_s(node, report.to_ms - 1, act.now_s)
    seen: dict[int, list[int]] = {}
    for use in report.watched:
        if use.verdict == Verdict.VALID:
            seen.setdefault(use.ordinal, []).append(used_s(node, use.used_at_s * 1000 + 999, act.now_s))
    for ordinal, valid, refused in zip(report.ordinals, report.valid, report.refused, strict=True):
        seconds = seen.pop(ordinal, None) if seen else None
        if not valid and not seconds:
            yield ordinal, 0, refused, None, None
        elif seconds is None:
            yield ordinal, valid, refused, end_s, end_s
        else:  # each call is known by itself, or only that none was later
            yield ordinal, valid, refused, max(seconds) if len(seconds) >= valid else end_s, min(seconds)
    for ordinal, seconds in seen.items():
        yield ordinal, 0, 0, max(seconds), min(seconds)


def _check(report: UsageReport) -> None:
    check_id("node", report.node)
    counts = len(report.ordinals)
    if not counts == len(report.valid) == len(report.refused):
        raise _bad("its lists differ in length")
    if any(later <= earlier for earlier, later in zip(report.ordinals, report.ordinals[1:], strict=False)):
        raise _bad("its versions are not in ascending order")
    if report.sequence < 1:
        raise _bad("reports are numbered from 1")
    if any(not 0 <= number <= COUNT_MAX for number in (report.from_ms, report.to_ms)):
        raise _bad("its times are none")
    if any(len(use.address) not in (0, 4, 16) for use in report.watched):
        raise _bad("an address has 4 or 16 bytes")


def _bad(problem: str) -> InvalidInput:
    return InvalidInput(f"the report of usage cannot be read: {problem}", code="BAD_REPORT")


# --- Watched versions ------------------------------------------------------------------------------------------------


def _note_watched(act: Act, node: Node, report: UsageReport, full_addresses: bool) -> None:
    """Keep where watched versions were used from, and tell of the use of such as have ended."""
    if not report.watched:
        return
    known = usage.identities(act.connection, sorted({use.ordinal for use in report.watched}))
    networks: dict[tuple[int, int, str], list[int]] = {}
    ended: dict[int, tuple[int, WatchedUse]] = {}
    for use in report.watched:
        if use.ordinal not in known:
            continue
        at_s = used_s(node, use.used_at_s * 1000 + 999, act.now_s)
        place = (use.ordinal, at_s // DAY_S, network(use.address, full=full_addresses))
        calls, last_at = networks.get(place, (0, 0))
        networks[place] = [calls + 1, max(last_at, at_s)]
        if use.verdict in ENDED:
            ended[use.ordinal] = max(ended.get(use.ordinal, (0, use)), (at_s, use), key=lambda pair: pair[0])
    usage.count_networks(act.connection, [
        {"version_ordinal": ordinal, "day": day, "network": text, "calls": calls, "node": node.name, "last_at": last_at}
        for (ordinal, day, text), (calls, last_at) in networks.items()
    ])  # fmt: skip
    for ordinal, (at_s, use) in ended.items():
        _tell_of_use(act, node, known[ordinal], use, at_s)


def _tell_of_use(act: Act, node: Node, who: Any, use: WatchedUse, at_s: int) -> None:
    """Emit that an ended version is still being used, once an hour."""
    kind, e = "version.used_after_end", schema.events.c
    told = select(e.sequence).where(
        e.key_id == who.key_id, e.kind == kind, e.version == who.number, e.at > act.now_s - HOUR_S
    )
    if act.connection.execute(told.limit(1)).first() is None:
        act.emit(
            kind, client_id=who.client_id, key_id=who.key_id, version=who.number, used_at=at_s, node=node.name,
            network=network(use.address) or None, verdict=Verdict(use.verdict).name,
        )  # fmt: skip


def network(address: bytes, *, full: bool = False) -> str:
    """Write an address as it is kept: its /24 or /48 network, or whole; empty when it is not known."""
    if not address:
        return ""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if full:
        return str(ip)
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))


# --- What is kept ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Swept:
    """What :func:`sweep` deleted.

    Attributes:
        rows: how many, by table.
        more: there is more to delete: call it again.
    """

    rows: dict[str, int]
    more: bool


def sweep(act: Act, limit: int = SWEEP_ROWS, events_s: int = EVENTS_DAYS * DAY_S) -> Swept:
    """Delete what is older than it is kept.

    Args:
        act: whose transaction.
        limit: at most so many rows of each table, so that nobody waits for long.
        events_s: how long events are kept, in seconds; 0 for ever.
    """
    today = act.now_s // DAY_S
    gone = [
        (schema.usage_addresses, "day", today - ADDRESSES_DAYS),
        (schema.usage, "day", today - USAGE_DAYS),
        (schema.usage_hours, "hour", (today - HOURS_DAYS) * 24),
        (schema.requests, "at", act.now_s - REQUESTS_DAYS * DAY_S),
        (schema.node_gaps, "to_ms", (act.now_s - GAPS_DAYS * DAY_S) * 1000),
        (schema.nodes, "last_seen_at", act.now_s - NODES_DAYS * DAY_S),
    ]
    rows = {
        table.name: usage.delete_old(act.connection, table, column, before, limit) for table, column, before in gone
    }
    if events_s:
        rows["events"] = events.prune(act.connection, act.now_s - events_s, limit)
    return Swept(rows, any(number == limit for number in rows.values()))
