"""What becomes of nodes' reports of usage in either database: counted once, by day and hour, with what follows."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from tests.support import usage as support
from tests.support.acts import act_at
from tests.support.usage import START_S, FakeNode, counts, put, put_client, rows, version, watched
from verifier.control import issuing, rotation, usage, used
from verifier.control.acting import Act, Actor, acting
from verifier.control.retirement import query_usage, used_lately
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.control.terms import Terms
from verifier.control.usage import Applied, network, sweep
from verifier.errors import InvalidInput, NotFound
from verifier.registry import queries, schema
from verifier.registry import usage as tables
from verifier.registry.database import Registry
from verifier.vocabulary import Verdict

shared_registry, registry = support.shared_registry, support.registry  # emptied for each test: founding is slow
HOUR_S = 3600
DAY_S = 86_400
MIDNIGHT_S = START_S // DAY_S * DAY_S


@pytest.fixture
def node(registry: Registry) -> FakeNode:
    return FakeNode(registry)


# --- Days, hours, uses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("to_ms", "day", "hour"), [
    (MIDNIGHT_S * 1000, -1, 23), (MIDNIGHT_S * 1000 + 1, 0, 0), ((MIDNIGHT_S + HOUR_S) * 1000, 0, 0),
    ((MIDNIGHT_S + HOUR_S) * 1000 + 1, 0, 1), ((MIDNIGHT_S + DAY_S) * 1000, 0, 23),
])  # fmt: skip
def test_counts_belong_to_the_last_moment_of_their_report(
    registry: Registry, node: FakeNode, to_ms: int, day: int, hour: int
):
    one, two = put(registry, {"superseded_at": START_S - DAY_S, "superseded_by": 2}, {})
    node.send(node.cut(to_ms, {one: (2, 0), two: (0, 3)}), to_ms // 1000 + 1)
    today = MIDNIGHT_S // DAY_S + day
    assert [(one, today, 2, 0, 1 << hour), (two, today, 0, 3, 0)] == counts(registry)
    by_hour = rows(registry, schema.usage_hours, "version_ordinal", "hour", "valid", "refused")
    assert [(one, today * 24 + hour, 2, 0), (two, today * 24 + hour, 0, 3)] == by_hour


def test_hours_are_counted_only_where_a_window_is_or_was_lately(registry: Registry, node: FakeNode):
    old_s = START_S - 31 * DAY_S
    (plain,) = put(registry, {}, key_id="plain")
    open_ = put(registry, {"superseded_at": old_s, "superseded_by": 2}, {}, key_id="open")
    gone = put(registry, {"superseded_at": old_s - 9, "retire_at": old_s, "superseded_by": 2}, {}, key_id="gone")
    revoked = put(registry, {"superseded_at": old_s - 9, "revoked_at": old_s, "reason": 4}, {}, key_id="revoked")
    lately = put(registry, {"superseded_at": old_s, "retire_at": START_S - 29 * DAY_S}, {}, key_id="lately")
    node.use(START_S, dict.fromkeys([plain, *open_, *gone, *revoked, *lately], (1, 0)))
    assert sorted([*open_, *lately]) == [row[0] for row in rows(registry, schema.usage_hours, "version_ordinal")]
    assert 9 == len(counts(registry))


def test_versions_that_are_gone_are_ignored_and_counted(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    assert 2 == node.use(START_S, {one: (1, 0), one + 1: (5, 5), 4_000_000_000: (1, 0)}).unknown
    assert [one] == [row[0] for row in counts(registry)]


def test_the_last_use_moves_once_an_hour_unless_the_version_is_watched(registry: Registry, node: FakeNode):
    (plain,) = put(registry, {"first_used_at": START_S}, key_id="plain")
    old, new = put(registry, {"superseded_at": START_S, "superseded_by": 2}, {})
    seen = []
    for seconds in (0, 10, 3599, 3600, 3610):
        node.use(START_S + seconds, {plain: (1, 0), old: (1, 0), new: (0, 1)})
        seen.append([version(registry, 1, "plain").last_used_at, version(registry, 1).last_used_at])
    expected = [[-1, -1], [-1, 9], [-1, 3598], [3599, 3599], [3599, 3609]]  # a report's end is not part of it
    assert expected == [[moment - START_S for moment in pair] for pair in seen]
    assert version(registry, 2).last_used_at is None


def test_a_watched_version_was_used_at_the_second_that_was_told(registry: Registry, node: FakeNode):
    (old, _) = put(registry, {"superseded_at": START_S, "superseded_by": 2}, {})
    use = [watched(old, Verdict.VALID, START_S + 3), watched(old, Verdict.VALID, START_S + 5)]
    node.use(START_S + 10, {old: (2, 0)}, watched=use)
    assert START_S + 5 == version(registry).last_used_at
    node.use(START_S + 20, {old: (3, 0)}, watched=[watched(old, Verdict.VALID, START_S + 13)])  # two were not told
    assert START_S + 19 == version(registry).last_used_at
    node.use(START_S + 30, watched=[watched(old, Verdict.VALID, START_S + 29)])  # its count comes later
    assert START_S + 29 == version(registry).last_used_at


def test_a_use_is_dated_late_rather_than_early(registry: Registry, node: FakeNode):
    (one,) = put(registry, {"superseded_at": START_S - 99, "superseded_by": 2}, {})[:1]
    node.ahead_ms = -30_000
    node.status(START_S * 1000)
    node.use(START_S + 10, {one: (1, 0)})
    assert START_S + 9 == version(registry).last_used_at
    node.ahead_ms = 900_000
    node.status((START_S + 11) * 1000)
    node.use(START_S + 20, {one: (1, 0)})
    assert START_S + 20 == version(registry).last_used_at  # not in the future


def test_the_first_use_is_kept(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    (later,) = put(registry, {"not_before": START_S + 100}, key_id="later")
    node.use(START_S + 10, {one: (0, 1)})
    assert version(registry).first_used_at is None
    node.use(START_S + 20, {one: (1, 0)})
    node.use(START_S + 30, {one: (1, 0), later: (1, 0)})
    assert START_S + 19 == version(registry).first_used_at
    assert START_S + 100 == version(registry, 1, "later").first_used_at  # a clock that runs ahead


# --- Rotations that wait for a first use ------------------------------------------------------------------------------


@pytest.fixture
def rotated(registry: Registry, node: FakeNode) -> str:
    """Return a key whose overlap of two hours waits for the first use of version 2, with a node that reports."""
    node.status(START_S * 1000)
    node.use(START_S)
    with registry.write() as connection:
        put_client(connection)
    key = act_at(START_S - DAY_S, registry, issuing.issue_key, [b"p" * 32], "acme", Terms()).key
    terms = RotateTerms(overlap_s=7200, clock="on_first_use")
    act_at(START_S, registry, rotation.rotate, key.key_id, terms, NewSecret([b"p" * 32]))
    return key.key_id


def state_of(registry: Registry, key_id: str) -> tuple[list[bytes], list[int], int]:
    """Return the records of the versions, those marked as changed, and the number of changes."""
    with registry.read() as connection:
        records = connection.scalars(select(schema.versions.c.record).order_by(schema.versions.c.number)).all()
        marked = connection.scalars(select(schema.dirty.c.version_ordinal)).all()
        return list(records), sorted(marked), queries.state(connection).changes


def test_the_first_use_starts_the_overlap(registry: Registry, node: FakeNode, rotated: str):
    old, new = (version(registry, number, rotated).ordinal for number in (1, 2))
    before = state_of(registry, rotated)
    assert not node.use(START_S + 10, {old: (5, 0), new: (0, 1)}).publish
    assert before == state_of(registry, rotated)
    use = [watched(new, Verdict.VALID, START_S + 13, "10.0.0.1")]
    told = node.cut((START_S + 20) * 1000, {old: (1, 0), new: (3, 0)}, watched=use)
    assert node.send(told, START_S + 20).publish
    assert START_S + 13 + 7200 == version(registry, 1, rotated).retire_at
    assert START_S + 13 == version(registry, 2, rotated).first_used_at
    assert not node.send(told, START_S + 21).publish
    assert ["rotation.first_use"] == [one.kind for one in events(registry)][-1:]
    after = state_of(registry, rotated)
    assert before[0] != after[0]
    assert not node.use(START_S + 4000, {old: (1, 0), new: (3, 0)}).publish
    assert after == state_of(registry, rotated)
    assert START_S + 3999 == version(registry, 2, rotated).last_used_at


def test_many_first_uses_are_noted_a_part_at_a_time(registry: Registry, node: FakeNode):
    node.use(START_S)
    with registry.write() as connection:
        put_client(connection)
    keys = [act_at(START_S - DAY_S, registry, issuing.issue_key, [b"p" * 32], "acme", Terms()).key for _ in range(7)]
    for key in keys:
        terms = RotateTerms(overlap_s=7200, clock="on_first_use")
        act_at(START_S, registry, rotation.rotate, key.key_id, terms, NewSecret([b"p" * 32]))
    new = [version(registry, 2, key.key_id).ordinal for key in keys]
    begun: list[Act] = []

    @contextmanager
    def begin() -> Iterator[Act]:
        with acting(registry, Actor("token:n1"), START_S + 20) as act:
            begun.append(act)
            yield act

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage, "FIRST_USES_AT_ONCE", 3)
        done = usage.take_report(begin, node.cut((START_S + 11) * 1000, dict.fromkeys(new, (2, 0))))
    assert Applied(2, publish=True) == done
    assert [3, 3, 1] == [len(act.events) for act in begun]
    assert {START_S + 10} == {version(registry, 2, key.key_id).first_used_at for key in keys}
    assert {START_S + 10 + 7200} == {version(registry, 1, key.key_id).retire_at for key in keys}


def test_an_earlier_first_use_may_be_told_later(registry: Registry, node: FakeNode, rotated: str):
    new = version(registry, 2, rotated).ordinal
    node.use(START_S + 50, {new: (1, 0)})
    other = FakeNode(registry, "n2", to_ms=START_S * 1000)
    other.send(other.cut((START_S + 31) * 1000, {new: (1, 0)}), START_S + 60)
    assert START_S + 30 == version(registry, 2, rotated).first_used_at
    assert START_S + 30 + 7200 == version(registry, 1, rotated).retire_at


# --- What is told, and what is not -----------------------------------------------------------------------------------


def events(registry: Registry) -> list[Any]:
    with registry.read() as connection:
        return connection.execute(select(schema.events).order_by(schema.events.c.sequence)).all()


def test_the_use_of_an_ended_version_is_told_once_an_hour(registry: Registry, node: FakeNode):
    (old, new) = put(registry, {"superseded_at": START_S - 99, "retire_at": START_S, "superseded_by": 2}, {})
    for at_s in (START_S + 5, START_S + 15, START_S + HOUR_S):
        ended = watched(old, Verdict.EXPIRED, at_s - 2, "203.0.113.7")
        node.use(at_s, {old: (0, 2)}, watched=[ended, watched(old, Verdict.EXPIRED, at_s - 3)])
    node.use(START_S + HOUR_S + 6, watched=[watched(old, Verdict.EXPIRED, START_S + HOUR_S + 5)])
    node.use(START_S + HOUR_S + 9, watched=[watched(new, Verdict.VALID, START_S + HOUR_S + 8)])
    told = [one for one in events(registry) if one.kind == "version.used_after_end"]
    assert [START_S + 5, START_S + HOUR_S + 6] == [one.at for one in told]
    assert ("acme", "k", 1) == (told[0].client_id, told[0].key_id, told[0].version)
    expected = {"used_at": START_S + 3, "node": "n1", "network": "203.0.113.0/24", "verdict": "EXPIRED"}
    assert expected == json.loads(told[0].details)
    assert "network" not in json.loads(told[1].details)


@pytest.mark.parametrize(("address", "kept", "full"), [
    ("203.0.113.7", "203.0.113.0/24", "203.0.113.7"), ("2001:db8:1:2::3", "2001:db8:1::/48", "2001:db8:1:2::3"),
    ("::ffff:203.0.113.7", "203.0.113.0/24", "203.0.113.7"), ("", "", ""),
])  # fmt: skip
def test_addresses_are_kept_as_networks_unless_wanted_whole(address: str, kept: str, full: str):
    packed = watched(1, 1, 1, address).address
    assert (kept, full) == (network(packed), network(packed, full=True))


def test_no_whole_address_is_stored_anywhere(registry: Registry, node: FakeNode):
    (old, _) = put(registry, {"superseded_at": START_S - 99, "retire_at": START_S, "superseded_by": 2}, {})
    use = [watched(old, Verdict.REVOKED, START_S + 1, "198.51.100.77")]
    node.use(START_S + 5, {old: (0, 1)}, watched=use)
    assert "198.51.100.77" not in repr(use) and repr(use[0].address) not in repr(use)
    with registry.read() as connection:
        for table in schema.metadata.sorted_tables:
            text = str([tuple(row) for row in connection.execute(select(table))])
            assert "100.77" not in text, table.name
            if table.name not in ("events", "usage_addresses"):
                assert "198.51.100" not in text, table.name


def test_the_busiest_networks_of_a_day_are_kept(registry: Registry, node: FakeNode):
    (old, _) = put(registry, {"superseded_at": START_S - 99, "superseded_by": 2}, {})
    for round_ in range(2):
        use = [watched(old, Verdict.VALID, START_S + 1, f"10.0.{net}.1") for net in range(40) for _ in range(net + 1)]
        node.use(START_S + 10 + round_, watched=use)
    there = rows(registry, schema.usage_addresses, "calls", "network", "node", "last_at")
    assert tables.NETWORKS_MAX == len(there)
    assert (80, "10.0.39.0/24", "n1", START_S + 1) == there[-1]
    assert 18 == there[0][0]


def test_whole_addresses_by_setting(registry: Registry, node: FakeNode):
    (old, _) = put(registry, {"superseded_at": START_S - 99, "superseded_by": 2}, {})
    node.send(node.cut(START_S * 1000, watched=[watched(old, 1, START_S, "10.1.2.3")]), START_S, full_addresses=True)
    assert [("10.1.2.3",)] == rows(registry, schema.usage_addresses, "network")


# --- Reading and sweeping --------------------------------------------------------------------------------------------


def test_usage_by_day_the_newest_first(registry: Registry, node: FakeNode):
    (one,) = put(registry, {}, key_id="a")
    two, three = put(registry, {}, {}, key_id="b")
    node.status(MIDNIGHT_S * 1000)
    node.use(MIDNIGHT_S, {one: (1, 0)})
    node.use(MIDNIGHT_S + 3 * HOUR_S, {one: (2, 0), two: (1, 1), three: (0, 4)})
    node.use(MIDNIGHT_S + 5 * HOUR_S, {one: (2, 0)})
    now_s = MIDNIGHT_S + 5 * HOUR_S + 20
    with registry.read() as connection:
        found = query_usage(connection, now_s, client_id="acme")
        of_key = query_usage(connection, now_s, key_id="a", limit=1)
        late = query_usage(connection, now_s + 60, key_id="a", since_s=now_s)
    described = [(day.key_id, day.version, day.day, day.valid, day.refused, day.hours) for day in found.days]
    assert [
        ("a", 1, "2023-11-14", 4, 0, (2, 4)), ("b", 1, "2023-11-14", 1, 1, (2,)), ("b", 2, "2023-11-14", 0, 4, ()),
        ("a", 1, "2023-11-13", 1, 0, (23,)),
    ] == described  # fmt: skip
    assert (MIDNIGHT_S + 5 * HOUR_S, ()) == (found.as_of, found.silent_nodes)
    assert found.days[:1] == of_key.days
    assert (("n1",), 1) == (late.silent_nodes, len(late.days))


@pytest.mark.parametrize(("asked", "error"), [
    ({}, InvalidInput), ({"key_id": "a", "client_id": "acme"}, InvalidInput), ({"key_id": "none"}, NotFound),
    ({"client_id": "none"}, NotFound), ({"client_id": "acme", "limit": 0}, InvalidInput),
])  # fmt: skip
def test_questions_without_an_answer(registry: Registry, asked: dict[str, Any], error: type[Exception]):
    put(registry, {}, key_id="a")
    with registry.read() as connection, pytest.raises(error):
        query_usage(connection, START_S, **asked)


def test_what_was_used_lately(registry: Registry, node: FakeNode):
    now_s = MIDNIGHT_S + DAY_S + 6 * HOUR_S + 1800
    (plain,) = put(registry, {}, key_id="plain")
    (silent,) = put(registry, {}, key_id="silent")
    (old, new) = put(registry, {"superseded_at": START_S - DAY_S, "superseded_by": 2}, {})
    for hour, calls in ((2, 100), (20, 30), (24 + 5, 7)):
        node.use(MIDNIGHT_S + hour * HOUR_S + 60, {plain: (calls, 5), old: (calls, 0)})
    with registry.read() as connection:
        found = used_lately(connection, [plain, silent, old, new, 999], now_s)
    last_s = MIDNIGHT_S + (24 + 5) * HOUR_S + 59
    # The plain one's day is shared out by its hours: one of two hours of use lies within the 24.
    assert {plain: (last_s, 65 + 7), silent: (None, 0), old: (last_s, 30 + 7), new: (None, 0)} == found


@pytest.mark.parametrize(("valid", "mask", "first", "share"), [
    (100, 0b1, 0, 100), (100, 0b1, 1, 0), (1, 0b111, 2, 1), (100, 0, 5, 100), (10, 0b1100, 3, 5), (7, 0b11, -20, 7),
])  # fmt: skip
def test_the_share_of_a_day(valid: int, mask: int, first: int, share: int):
    assert share == used._share(valid, mask, first)


def test_what_is_too_old_is_swept_a_part_at_a_time(registry: Registry):
    today = START_S // DAY_S
    days = range(today - 402, today + 1)
    with registry.write() as connection:
        put_client(connection)
        connection.execute(insert(schema.usage), [
            {"version_ordinal": 1, "day": day, "valid": 1, "refused": 0, "hours": 0} for day in days])
        connection.execute(insert(schema.usage_hours), [
            {"version_ordinal": 1, "hour": day * 24, "valid": 1, "refused": 0} for day in days])
        connection.execute(insert(schema.usage_addresses), [
            {"version_ordinal": 1, "day": day, "network": "", "calls": 1, "node": "n", "last_at": 1} for day in days])
        connection.execute(insert(schema.requests), [
            {"principal": "p", "request_id": str(day), "digest": "", "response": b"", "at": day * DAY_S}
            for day in days])
        connection.execute(insert(schema.events), [
            {"sequence": number, "at": day * DAY_S, "kind": "k", "details": "{}"}
            for number, day in enumerate(days, 1)])
    swept = []
    for _ in range(9):
        with acting(registry, Actor("schedule"), START_S) as act:
            swept.append(sweep(act, limit=100))
        if not swept[-1].more:
            break
    assert 4 == len(swept)
    gone = {name: sum(part.rows[name] for part in swept) for name in swept[0].rows}
    expected = {"usage": 2, "usage_hours": 362, "usage_addresses": 372, "requests": 396, "nodes": 0, "node_gaps": 0,
                "events": 313}
    assert expected == gone
    assert today - 400 == rows(registry, schema.usage, "day")[0][0]
    assert (today - 30,) == rows(registry, schema.usage_addresses, "day")[0]
    assert 41 == len(rows(registry, schema.usage_hours, "hour"))
    assert 7 == len(rows(registry, schema.requests, "at"))
    assert 403 - 313 == len(rows(registry, schema.events, "sequence"))


def test_the_newest_event_stays_and_numbers_go_on(registry: Registry):
    def swept(days: int, **options: int) -> list[int]:
        with acting(registry, Actor("schedule"), START_S + days * DAY_S) as act:
            sweep(act, **options)
        return [row[0] for row in rows(registry, schema.events, "sequence")]

    with acting(registry, Actor("schedule"), START_S) as act:
        for _ in range(3):
            act.emit("k")
    assert [1, 2, 3] == swept(1000, events_s=0) == swept(7, events_s=7 * DAY_S)
    assert [3] == swept(1000)
    with acting(registry, Actor("schedule"), START_S) as act:
        act.emit("k")
        assert act.events[0].sequence == 4


# --- At scale --------------------------------------------------------------------------------------------------------


def test_a_report_looks_at_no_other_versions(registry: Registry, node: FakeNode):
    """With ten million versions, going through all of them for each report would be the end."""
    if registry.engine.dialect.name != "sqlite":
        pytest.skip("asks SQLite for its plans")
    (one,) = put(registry, {})
    with explained(registry) as plans:
        node.use(START_S, {one: (1, 0)}, watched=[watched(one, Verdict.VALID, START_S - 1, "10.1.1.1")])
    scans = [plan for plan in plans if plan.startswith("SCAN") and "reported" not in plan]
    assert len(plans) > 10
    assert [] == [plan for plan in scans if "versions" in plan or "usage" in plan or "keys" in plan]


@contextmanager
def explained(registry: Registry) -> Iterator[list[str]]:
    """Yield a list that fills with the plan of each statement that changes or reads a table."""
    plans: list[str] = []

    def before(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            first = parameters[0] if many else parameters
            plan = connection.connection.cursor().execute("EXPLAIN QUERY PLAN " + statement, first)
            plans.extend(row[3] for row in plan.fetchall())

    event.listen(registry.engine, "before_cursor_execute", before)
    try:
        yield plans
    finally:
        event.remove(registry.engine, "before_cursor_execute", before)
