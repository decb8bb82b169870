"""Whether a superseded version may go without cutting anybody off, and the evidence (docs/usage.md has the definition).

Absence of reports is not absence of use: besides SAFE and NOT_SAFE the answer may be UNKNOWN.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, select

from verifier.control import coverage
from verifier.control.coverage import Gap
from verifier.control.lifecycle import effective_end, is_live, phase
from verifier.control.policy import policy_of
from verifier.control.rhythm import quiet_time, rhythm_of
from verifier.control.used import as_of, query_usage, used_lately
from verifier.errors import InvalidInput
from verifier.registry import nodes, schema, usage
from verifier.registry.facts import Key, Version
from verifier.registry.nodes import Node
from verifier.vocabulary import Phase

__all__ = ["NodeCoverage", "Retirement", "Safety", "check_retirement", "query_usage", "used_lately"]

HOUR_S = 3600
DAY_S = 86_400
SUCCESSOR_FOR_S = 7 * DAY_S
SILENT_AFTER_S = 30


class Safety(Enum):
    """The outcome."""

    SAFE = "SAFE"
    NOT_SAFE = "NOT_SAFE"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class NodeCoverage:
    """What one node reported over the quiet time.

    Attributes:
        node: its name.
        from_s: from when on, seconds since 1970; None when it reported nothing.
        to_s: until when.
        gap_s: time in between for which nothing is known.
    """

    node: str
    from_s: int | None
    to_s: int | None
    gap_s: float


@dataclass(frozen=True, slots=True)
class Retirement:
    """The answer, with its evidence. Times are seconds since 1970.

    Attributes:
        version: that was looked at.
        safety: the outcome.
        reasons: why, as code or code:detail; empty when safe.
        as_of: until when all expected nodes have reported; None when no node is known.
        quiet_required_s: how long the version must not have been used.
        quiet_because: where that comes from.
        last_used_at: no reported use was later.
        last_used_node: which node reported it, if the version was watched.
        old_valid: its verified calls over the quiet time, by whole hours.
        new_valid: those of its successors.
        addresses: networks that it was used from over the quiet time or the last day, the busiest first.
        nodes: what each node reported.
    """

    version: int
    safety: Safety
    reasons: tuple[str, ...]
    as_of: int | None
    quiet_required_s: int
    quiet_because: str
    last_used_at: int | None
    last_used_node: str | None
    old_valid: int
    new_valid: int
    addresses: tuple[str, ...]
    nodes: tuple[NodeCoverage, ...]

    @property
    def share_moved(self) -> float:
        """The part of the calls that has moved to successors, 0 to 1; 0 when there were none."""
        return self.new_valid / (self.old_valid + self.new_valid) if self.new_valid else 0.0


def check_retirement(
    connection: Connection, key: Key, number: int, now_s: int, accept_gaps: bool = False
) -> Retirement:
    """Judge whether a version may be retired now: every reason against it is named.

    Args:
        connection: any transaction.
        key: with all its versions.
        number: of the version; 0 for the one superseded last, of those that are still live if there are any.
        now_s: seconds since 1970.
        accept_gaps: do not count times for which nodes' reports are missing.

    Raises:
        InvalidInput: the key has no such version (``VERSION_NOT_FOUND``).
    """
    version = _chosen(key, number, now_s)
    successors = _successors(key, version)
    rhythm = rhythm_of(connection, version, now_s)
    min_quiet_s = policy_of(connection, key).min_quiet_s or 0
    quiet_s, because = quiet_time(min_quiet_s, rhythm.pause_s)
    since_s = now_s - quiet_s
    covered = _coverage(connection, since_s, now_s)

    client_on = connection.scalar(
        select(schema.clients.c.enabled).where(schema.clients.c.ordinal == key.client_ordinal)
    )
    not_safe = []
    if problem := _not_superseded(key, version, now_s):
        not_safe.append(problem)
    if not (client_on and key.enabled and any(_valid_for_long(key, one, now_s) for one in successors)):
        not_safe.append("no_valid_successor")
    if not (rhythm.was_unused or _ever_valid(connection, successors)):
        not_safe.append("successor_unused")
    if version.last_used_at is not None and version.last_used_at >= since_s:
        not_safe.append("used_recently")
    unknown = list(covered.silent(now_s, _silent_after_s(quiet_s)))
    if not accept_gaps:
        unknown += covered.gaps()
    if quiet_s > _known_for_s(connection, version, now_s):
        unknown.append("window_shorter_than_rhythm")

    found = _evidence(connection, version, successors, since_s, now_s)
    return Retirement(
        version=version.number,
        safety=Safety.NOT_SAFE if not_safe else Safety.UNKNOWN if unknown else Safety.SAFE,
        reasons=(*not_safe, *unknown),
        as_of=covered.as_of,
        quiet_required_s=quiet_s,
        quiet_because=because,
        last_used_at=version.last_used_at,
        last_used_node=found.node,
        old_valid=found.old_valid,
        new_valid=found.new_valid,
        addresses=found.addresses,
        nodes=covered.nodes,
    )


# --- The version and those after it ----------------------------------------------------------------------------------


def _chosen(key: Key, number: int, now_s: int) -> Version:
    if number == 0:
        # A successor that a forced rotation withdrew is superseded, too, in the same second; nobody retires that.
        return max(key.versions, key=lambda one: (one.superseded_at is not None, is_live(key, one, now_s),
                                                  one.superseded_at or 0, one.number))  # fmt: skip
    for version in key.versions:
        if version.number == number:
            return version
    raise InvalidInput(f"key {key.key_id} has no version {number}", code="VERSION_NOT_FOUND")


def _successors(key: Key, version: Version) -> list[Version]:
    """Follow the chain of those that took its place, up to the label."""
    by_number = {one.number: one for one in key.versions}
    chain: list[Version] = []
    after = by_number.get(version.superseded_by)
    while after is not None and after is not version and after not in chain:
        chain.append(after)
        after = by_number.get(after.superseded_by)
    return chain


def _not_superseded(key: Key, version: Version, now_s: int) -> str | None:
    """S1: it is superseded, and still live."""
    if version.superseded_at is None or version.superseded_at > now_s:
        return "not_superseded"
    now = phase(key, version, now_s)
    return f"not_superseded:{now.name.lower()}" if now in (Phase.EXPIRED, Phase.REVOKED) else None


def _valid_for_long(key: Key, version: Version, now_s: int) -> bool:
    """S2, without the switches."""
    if phase(key, version, now_s) not in (Phase.CURRENT, Phase.RETIRING):
        return False
    end = effective_end(key, version)
    return end is None or end >= now_s + SUCCESSOR_FOR_S


def _ever_valid(connection: Connection, versions: Sequence[Version]) -> bool:
    """S3: a successor was used."""
    counted = usage.days(connection, [version.ordinal for version in versions], 0)
    return any(day.valid for days in counted.values() for day in days)


# --- What is known ---------------------------------------------------------------------------------------------------


def _silent_after_s(quiet_s: int) -> int:
    """Return how late reports may be: some of the quiet time must be known, or want of reports would be quiet."""
    return min(SILENT_AFTER_S, quiet_s) if quiet_s else SILENT_AFTER_S


def _known_for_s(connection: Connection, version: Version, now_s: int) -> int:
    """S7: how long ago it was superseded and usage was first reported, whichever is less."""
    since = nodes.usage_began(connection)
    if since is None or version.superseded_at is None:
        return -1
    return now_s - max(since, version.superseded_at)


@dataclass(frozen=True, slots=True)
class _Coverage:
    """What is known of each node over the quiet time."""

    expected: tuple[Node, ...]
    nodes: tuple[NodeCoverage, ...]
    longest_ms: dict[str, int]  # of a node's gaps that reach into it
    as_of: int | None

    def silent(self, now_s: int, after_s: int) -> Iterator[str]:
        """S5: every expected node reported through so long ago; a store without nodes knows nothing."""
        if not self.expected:
            yield "node_silent"
        for node in self.expected:
            known_ms = coverage.known_to_ms(node)
            if known_ms is None or known_ms < (now_s - after_s) * 1000:
                yield f"node_silent:{node.name}"

    def gaps(self) -> Iterator[str]:
        """S6: no gap of more than 10 s, of any node, reaches into it."""
        too_long = (name for name, gap_ms in self.longest_ms.items() if gap_ms > coverage.LOST_MS_MAX)
        yield from (f"gap:{name}" for name in sorted(too_long))


def _coverage(connection: Connection, since_s: int, now_s: int) -> _Coverage:
    every = nodes.every(connection)
    expected = tuple(node for node in every if coverage.is_expected(node, now_s))
    known_to = as_of(coverage.known_to_ms(node) for node in (expected or every))
    by_name: dict[str, list[Gap]] = {}
    for row in nodes.gaps(connection, since_s * 1000):
        by_name.setdefault(row.node, []).append(Gap(row.from_ms, row.to_ms))
    for node in every:
        gap = coverage.unreported(node)
        if gap and node not in expected and gap.to_ms > since_s * 1000:
            by_name.setdefault(node.name, []).append(gap)
    within = {name: [_within_s(gap, since_s) for gap in gaps] for name, gaps in by_name.items()}
    shown = (node for node in every if node in expected or sum(within.get(node.name, ())) > 0)
    return _Coverage(
        expected,
        tuple(_node_coverage(node, since_s, sum(within.get(node.name, ()))) for node in shown),
        {name: max(gap.to_ms - gap.from_ms for gap in gaps) for name, gaps in by_name.items()},
        known_to,
    )


def _within_s(gap: Gap, since_s: int) -> float:
    return max(0.0, (gap.to_ms - max(gap.from_ms, since_s * 1000)) / 1000)


def _node_coverage(node: Node, since_s: int, gap_s: float) -> NodeCoverage:
    known_ms = coverage.known_to_ms(node)
    if known_ms is None or node.usage_from_ms is None:
        return NodeCoverage(node.name, None, None, gap_s)
    return NodeCoverage(node.name, max(node.usage_from_ms // 1000, since_s), known_ms // 1000, gap_s)


# --- Evidence --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Evidence:
    old_valid: int
    new_valid: int
    addresses: tuple[str, ...]
    node: str | None


def _evidence(
    connection: Connection, version: Version, successors: Sequence[Version], since_s: int, now_s: int
) -> _Evidence:
    ordinals = [version.ordinal, *(one.ordinal for one in successors)]
    hours = usage.hours(connection, ordinals, since_s // HOUR_S)
    valid = {ordinal: sum(hour.valid for hour in rows) for ordinal, rows in hours.items()}
    old_valid = valid.pop(version.ordinal, 0)
    seen = usage.networks(connection, version.ordinal, min(since_s, now_s - DAY_S) // DAY_S)
    calls: dict[str, int] = {}
    for row in seen:
        if row.network:
            calls[row.network] = calls.get(row.network, 0) + row.calls
    busiest = sorted(calls, key=lambda network: (-calls[network], network))[: usage.NETWORKS_MAX]
    last = max(seen, key=lambda row: row.last_at, default=None)
    return _Evidence(old_valid, sum(valid.values()), tuple(busiest), last.node if last else None)
