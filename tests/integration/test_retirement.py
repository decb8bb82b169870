"""Is it safe to retire? Each condition by itself, in either database."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, update

from tests.support import usage as support
from tests.support.usage import START_S, FakeNode, put_client, put_key, watched
from verifier.control.policy import Policy
from verifier.control.retirement import NodeCoverage, Retirement, Safety, check_retirement
from verifier.control.rhythm import longest_pause_s, quiet_time
from verifier.errors import InvalidInput
from verifier.registry import nodes, queries, schema
from verifier.registry.database import Registry
from verifier.vocabulary import Verdict

shared_registry, registry = support.shared_registry, support.registry  # emptied for each test: founding is slow
HOUR_S = 3600
DAY_S = 86_400
MOVED_S = START_S + 10 * DAY_S  # when version 1 was superseded
NOW_S = MOVED_S + 6 * HOUR_S


class World:
    """A registry in which version 1 of key ``k`` is safe to retire at NOW_S; tests take away from that.

    Version 1 was used every hour of the day before it was superseded, and version 2 since: so its silence has to last
    for an hour and a half. Usage has been reported for 40 days, by one node.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        with registry.write() as connection:
            put_client(connection)
            old = {"superseded_at": MOVED_S, "superseded_by": 2, "retire_at": MOVED_S + 7 * DAY_S}
            self.old, self.new = put_key(connection, {**old, "first_used_at": MOVED_S - DAY_S, "clock": "fixed"}, {})
            nodes.usage_began(connection, MOVED_S - 40 * DAY_S)
        self.used_hours(self.old, range(MOVED_S - DAY_S, MOVED_S + 1, HOUR_S))
        self.node = FakeNode(registry, to_ms=(MOVED_S - DAY_S) * 1000)
        self.node.status((MOVED_S - DAY_S) * 1000)
        self.node.use(MOVED_S + 60, {self.old: (4, 0), self.new: (1, 0)})
        self.node.use(NOW_S - HOUR_S, {self.new: (9, 0)})
        self.node.use(NOW_S - 5)

    def used_hours(self, ordinal: int, moments: Sequence[int]) -> None:
        """Note that a version was used in the hours of these seconds."""
        masks: dict[int, int] = {}
        for moment in moments:
            masks[moment // DAY_S] = masks.get(moment // DAY_S, 0) | 1 << moment // HOUR_S % 24
        rows = [
            {"version_ordinal": ordinal, "day": day, "valid": 1, "refused": 0, "hours": hours}
            for day, hours in masks.items()
        ]
        with self.registry.write() as connection:
            connection.execute(insert(schema.usage), rows)

    def change(self, table: Any, where: Any = None, **values: Any) -> None:
        with self.registry.write() as connection:
            query = update(table).values(values)
            connection.execute(query if where is None else query.where(where))

    def change_version(self, number: int, **values: Any) -> None:
        self.change(schema.versions, schema.versions.c.number == number, **values)

    def check(self, number: int = 1, now_s: int = NOW_S, **options: Any) -> Retirement:
        with self.registry.read() as connection:
            return check_retirement(connection, queries.find_key(connection, "k"), number, now_s, **options)

    def outcome(self, *arguments: Any, **options: Any) -> tuple[Safety, tuple[str, ...]]:
        found = self.check(*arguments, **options)
        return found.safety, found.reasons


@pytest.fixture
def world(registry: Registry) -> World:
    return World(registry)


def not_safe(*reasons: str) -> tuple[Safety, tuple[str, ...]]:
    return Safety.NOT_SAFE, reasons


def unknown(*reasons: str) -> tuple[Safety, tuple[str, ...]]:
    return Safety.UNKNOWN, reasons


SAFE = (Safety.SAFE, ())


def test_safe_with_its_evidence(world: World):
    assert Retirement(
        version=1, safety=Safety.SAFE, reasons=(), as_of=NOW_S - 5, quiet_required_s=5400,
        quiet_because="1.5 times the longest pause in the 35 days before it was superseded, 1 h",
        last_used_at=MOVED_S + 59, last_used_node=None, old_valid=0, new_valid=9, addresses=(),
        nodes=(NodeCoverage("n1", NOW_S - 5400, NOW_S - 5, 0),),
    ) == world.check()  # fmt: skip
    assert 1.0 == world.check().share_moved
    assert world.check() == world.check(0)  # the version superseded last


def test_a_live_version_is_meant_rather_than_a_successor_that_was_withdrawn(world: World):
    world.change_version(2, superseded_at=NOW_S, superseded_by=1, revoked_at=NOW_S, reason=4)
    assert 1 == world.check(0).version
    world.change_version(1, revoked_at=NOW_S, reason=4)
    assert 2 == world.check(0).version


# --- S1 and S2: the versions -----------------------------------------------------------------------------------------


def test_s1_the_version_is_superseded_and_live(world: World):
    label = world.check(2)
    assert (Safety.NOT_SAFE, "not_superseded") == (label.safety, label.reasons[0])
    world.change_version(1, retire_at=NOW_S)
    assert not_safe("not_superseded:expired") == world.outcome()
    world.change_version(1, retire_at=NOW_S + 1)
    assert SAFE == world.outcome()
    world.change_version(1, revoked_at=NOW_S, reason=4)
    assert not_safe("not_superseded:revoked") == world.outcome()


def test_s1_a_version_with_a_pending_successor_is_not_superseded_yet(world: World):
    world.change_version(1, superseded_at=NOW_S + 1)
    world.change_version(2, not_before=NOW_S + 1)
    found = world.check()
    assert (Safety.NOT_SAFE, ("not_superseded", "no_valid_successor")) == (found.safety, found.reasons[:2])


@pytest.mark.parametrize(("values", "fits"), [
    ({"expires_at": NOW_S + 7 * DAY_S}, True), ({"expires_at": NOW_S + 7 * DAY_S - 1}, False),
    ({"revoked_at": NOW_S - 1, "reason": 4}, False), ({"not_before": NOW_S + 1}, False), ({"not_before": NOW_S}, True),
])  # fmt: skip
def test_s2_a_successor_is_valid_for_a_week(world: World, values: dict[str, Any], fits: bool):
    world.change_version(2, **values)
    assert (SAFE if fits else not_safe("no_valid_successor")) == world.outcome()


@pytest.mark.parametrize(("table", "values"), [
    (schema.clients, {"enabled": False}), (schema.keys, {"enabled": False}), (schema.keys, {"expires_at": NOW_S + 60}),
])  # fmt: skip
def test_s2_client_and_key_are_on(world: World, table: Any, values: dict[str, Any]):
    world.change(table, **values)
    assert not_safe("no_valid_successor") == world.outcome()


def test_s2_a_successor_of_the_successor_will_do(world: World):
    with world.registry.write() as connection:
        key = queries.find_key(connection, "k")
        row = {"ordinal": 99, "tag": b"3" * 32, "record": b"", "key_ordinal": key.ordinal, "number": 3, "issued_at": 1}
        connection.execute(insert(schema.versions).values(row))
    world.change_version(2, superseded_at=NOW_S - 60, superseded_by=3, retire_at=NOW_S + 60)
    assert SAFE == world.outcome()
    world.change_version(3, expires_at=NOW_S + DAY_S)
    assert not_safe("no_valid_successor") == world.outcome()


# --- S3 and S4: their use --------------------------------------------------------------------------------------------


def forget_use(world: World, ordinal: int) -> None:
    with world.registry.write() as connection:
        for table in (schema.usage, schema.usage_hours):
            connection.execute(table.delete().where(table.c.version_ordinal == ordinal))


def test_s3_the_successor_was_used(world: World):
    forget_use(world, world.new)
    assert not_safe("successor_unused") == world.outcome()
    world.node.use(NOW_S, {world.new: (0, 5)})  # refusals are no use
    assert not_safe("successor_unused") == world.outcome()
    world.node.use(NOW_S, {world.new: (1, 0)})
    assert SAFE == world.outcome()


def test_s3_a_key_that_was_not_used_needs_no_use_of_its_successor(world: World):
    forget_use(world, world.new)
    forget_use(world, world.old)
    assert SAFE == world.outcome()
    world.used_hours(world.old, [MOVED_S - 36 * DAY_S])  # too long ago to matter
    assert SAFE == world.outcome()
    world.used_hours(world.old, [MOVED_S - 34 * DAY_S])
    assert "successor_unused" in world.check().reasons


def test_s3_no_report_is_not_no_use(world: World):
    forget_use(world, world.new)
    forget_use(world, world.old)
    with world.registry.write() as connection:
        connection.execute(update(schema.registry).values(usage_since=START_S + 1))
    world.change_version(1, issued_at=START_S)
    assert not_safe("successor_unused") == world.outcome()


@pytest.mark.parametrize(("used_at", "safe"), [
    (NOW_S - 5401, True), (NOW_S - 5400, False), (NOW_S - 6, False), (NOW_S, False), (None, True),
])  # fmt: skip
def test_s4_the_version_was_quiet_for_long_enough(world: World, used_at: int | None, safe: bool):
    world.change_version(1, last_used_at=used_at)
    assert (SAFE if safe else not_safe("used_recently")) == world.outcome()


# --- S5 to S7: what is known -----------------------------------------------------------------------------------------


def test_s5_every_expected_node_has_reported(world: World):
    silent = unknown("node_silent:n1")
    assert [SAFE, silent] == [world.outcome(now_s=NOW_S + late) for late in (25, 26)]
    other = FakeNode(world.registry, "n2")
    other.status(NOW_S * 1000)  # of its usage nothing is known yet
    assert unknown("node_silent:n2") == world.outcome()
    assert world.check().as_of is None
    other.use(NOW_S)
    assert (SAFE, NOW_S - 5) == (world.outcome(), world.check().as_of)
    other.status(NOW_S * 1000, stopping=True)
    assert SAFE == world.outcome(now_s=NOW_S + 20)


def test_s5_a_short_quiet_time_is_not_quiet_for_want_of_reports(world: World):
    forget_use(world, world.old)  # no rhythm: the policy alone says how long
    world.used_hours(world.old, [MOVED_S])
    for quiet_s, outcome in ((4, unknown("node_silent:n1")), (5, SAFE), (0, SAFE)):
        world.change(schema.keys, policy=Policy(min_quiet_s=quiet_s).to_text())
        assert outcome == world.outcome()


def test_s5_a_store_without_nodes_knows_nothing(world: World):
    world.node.status(NOW_S * 1000, stopping=True)
    assert unknown("node_silent") == world.outcome()
    with world.registry.write() as connection:
        connection.execute(schema.nodes.delete())
    assert (unknown("node_silent"), None) == (world.outcome(), world.check().as_of)


def test_s5_a_node_whose_clock_runs_ahead_knows_no_more(world: World):
    world.node.ahead_ms = 60_000
    world.node.status(NOW_S * 1000)
    world.node.to_ms = (NOW_S - 100) * 1000 + 60_000
    world.node.send(world.node.cut((NOW_S - 40) * 1000), NOW_S)
    assert (NOW_S - 40, "node_silent:n1") == (world.check().as_of, world.check().reasons[0])


def test_s6_no_time_is_missing(world: World):
    def with_gap(begin: int, end: int) -> tuple[Safety, tuple[str, ...]]:
        with world.registry.write() as connection:
            connection.execute(schema.node_gaps.delete())
            nodes.add_gap(connection, "n1", begin, end)
        return world.outcome()

    since = (NOW_S - 5400) * 1000
    assert SAFE == with_gap(since - 50_000, since)
    assert unknown("gap:n1") == with_gap(since - 50_000, since + 1)
    assert SAFE == with_gap(since - 9_000, since + 1_000)
    assert SAFE == with_gap(since + 50_000, since + 60_000)
    assert unknown("gap:n1") == with_gap(since + 50_000, since + 60_001)
    assert [NodeCoverage("n1", NOW_S - 5400, NOW_S - 5, 10.001)] == list(world.check().nodes)
    assert SAFE == world.outcome(accept_gaps=True)


def test_s6_a_node_that_is_gone_leaves_what_it_never_reported(world: World):
    gone = FakeNode(world.registry, "n2")
    gone.status((NOW_S - 2000) * 1000)
    gone.use(NOW_S - 2000)
    gone.status((NOW_S - 1980) * 1000, stopping=True)
    assert unknown("gap:n2") == world.outcome()
    assert ["n1", "n2"] == [node.node for node in world.check().nodes]
    gone.use(NOW_S - 1980)
    assert SAFE == world.outcome()


def test_s7_long_enough_since_it_was_superseded(world: World):
    at_s = MOVED_S + 5400
    world.change_version(1, last_used_at=MOVED_S - 2)
    world.node.use(NOW_S + 1)
    world.change(schema.nodes, usage_to_ms=at_s * 1000, last_seen_at=at_s)
    assert [unknown("window_shorter_than_rhythm"), SAFE] == [world.outcome(now_s=at) for at in (at_s - 1, at_s)]


def test_s7_usage_has_been_reported_for_long_enough(world: World):
    for since, outcome in ((NOW_S - 5400, SAFE), (NOW_S - 5399, unknown("window_shorter_than_rhythm"))):
        with world.registry.write() as connection:
            connection.execute(update(schema.registry).values(usage_since=since))
        assert outcome == world.outcome()


def test_what_speaks_against_it_wins_over_what_is_not_known(world: World):
    world.change_version(1, last_used_at=NOW_S)
    late = world.outcome(now_s=NOW_S + 60)
    assert not_safe("used_recently", "node_silent:n1") == late


def test_an_unknown_version(world: World):
    with pytest.raises(InvalidInput):
        world.check(3)


# --- How long is quiet -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "end", "pause_h"), [
    ([], 500, 0), ([500], 500, 0), ([490], 500, 10), ([490, 491, 499], 500, 8), ([499, 490], 500, 9), ([501], 500, 0),
])  # fmt: skip
def test_the_longest_pause(hours: list[int], end: int, pause_h: int):
    assert pause_h * HOUR_S == longest_pause_s(hours, end)


@pytest.mark.parametrize(("min_quiet_s", "pause_s", "quiet_s"), [
    (3600, 0, 3600), (3600, 3600, 5400), (7200, 3600, 7200), (3600, 7 * DAY_S, 8 * DAY_S),
    (9 * DAY_S, 7 * DAY_S, 9 * DAY_S),
])  # fmt: skip
def test_the_quiet_time(min_quiet_s: int, pause_s: int, quiet_s: int):
    assert quiet_s == quiet_time(min_quiet_s, pause_s)[0]


def test_a_monday_job_has_not_moved_on_tuesday(world: World):
    forget_use(world, world.old)
    world.used_hours(world.old, [MOVED_S - weeks * 7 * DAY_S for weeks in range(5)])
    found = world.check()
    assert (8 * DAY_S, Safety.NOT_SAFE) == (found.quiet_required_s, found.safety)
    assert found.quiet_because.endswith("168 h; no more than 8 days")


def test_a_monthly_job_that_was_used_once_in_the_days_before_is_no_steady_one(world: World):
    forget_use(world, world.old)
    world.used_hours(world.old, [MOVED_S - HOUR_S])
    world.change_version(1, last_used_at=MOVED_S - HOUR_S)
    assert 5400 == world.check().quiet_required_s
    world.change_version(1, first_used_at=MOVED_S - 100 * DAY_S)
    assert 8 * DAY_S == world.check().quiet_required_s
    assert not_safe("used_recently", "window_shorter_than_rhythm") == world.outcome()


def test_the_policy_of_the_key_says_what_is_quiet(world: World):
    world.change(schema.keys, policy=Policy(min_quiet_s=2 * HOUR_S).to_text())
    assert (7200, "the policy's min_quiet") == (world.check().quiet_required_s, world.check().quiet_because)


# --- Evidence --------------------------------------------------------------------------------------------------------


def test_who_has_not_moved(world: World):
    use = [
        watched(world.old, Verdict.VALID, NOW_S - 3, address)
        for address in ("10.0.0.1", "10.0.0.2", "2001:db8::1", "")
    ]
    FakeNode(world.registry, "n7", to_ms=(NOW_S - 10) * 1000).use(NOW_S, {world.old: (4, 0)}, watched=use)
    found = world.check()
    assert (Safety.NOT_SAFE, ("used_recently",)) == (found.safety, found.reasons)
    assert ("n7", NOW_S - 3) == (found.last_used_node, found.last_used_at)
    assert ("10.0.0.0/24", "2001:db8::/48") == found.addresses
    assert (4, 9, 9 / 13) == (found.old_valid, found.new_valid, found.share_moved)
    assert 0.0 == replace(found, old_valid=0, new_valid=0).share_moved
