"""What the schedule does to a real registry, in both databases, by a clock that the tests move."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.control import folder_for_tokens
from tests.support.turns import Turns
from tests.support.usage import FakeNode
from verifier import tokens
from verifier.control import clients, clockwork, due, issuing, keys, revoking, rotation, scheduling
from verifier.control.acting import Act
from verifier.control.policy import Policy
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.control.terms import Terms
from verifier.errors import Conflict, Unavailable
from verifier.registry import clock, queries, schema
from verifier.registry.database import Registry
from verifier.registry.facts import Key
from verifier.store.home import Home
from verifier.vocabulary import RevocationReason

START_S = 1_900_000_000
DAY_S = 86_400
CLOCK_KINDS = ("version.activated", "version.retiring", "version.retired", "version.expired", "key.expired",
               "rotation.notice")  # fmt: skip


@pytest.fixture
def handout(tmp_path: Path) -> Path:
    return folder_for_tokens(tmp_path)


@pytest.fixture
def turns(registry_place: Home, registry: Registry, handout: Path) -> Turns:
    made = Turns(registry_place, registry, START_S, handout)
    made.do(clients.create_client, "acme")
    made.turn()  # from now on events are told
    return made


def make_key(turns: Turns, policy: Policy | None = None, **terms: Any) -> str:
    issued = turns.do(issuing.issue_key, turns.peppers(), "acme", Terms(scopes=("read",), **terms), policy=policy)
    return str(issued.key.key_id)


def rotate(turns: Turns, key_id: str, **terms: Any) -> int:
    return int(turns.do(rotation.rotate, key_id, RotateTerms(**terms), NewSecret(turns.peppers())).version)


def shown(turns: Turns, key_id: str) -> Key:
    return keys.show_key(turns.registry, key_id)


# --- Events of the clock ---------------------------------------------------------------------------------------------


def test_the_clock_is_told_each_second_once(turns: Turns):
    key_id = make_key(turns, expires_at=START_S + 50)
    rotate(turns, key_id, activate_at=START_S + 10, overlap_s=16)
    seen = {}
    for _ in range(60):
        turns.turn(1)
        for event in turns.events(*CLOCK_KINDS, "key.without_current"):
            seen.setdefault(event, turns.now_s)
    assert len(seen) == len(turns.events(*CLOCK_KINDS, "key.without_current"))
    late = START_S + clockwork.LAG_S
    assert {
        ("version.retiring", key_id, 1): late + 10, ("version.activated", key_id, 2): late + 10,
        ("version.retired", key_id, 1): late + 26, ("version.expired", key_id, 2): late + 50,
        ("key.without_current", key_id, 2): late + 50,
    } == seen  # fmt: skip


def test_what_is_done_now_is_told_after_its_second(turns: Turns):
    key_id = make_key(turns)
    turns.turn()
    rotate(turns, key_id, overlap_s=0)
    turns.turn()
    assert [] == turns.events(*CLOCK_KINDS)
    turns.turn(clockwork.LAG_S)
    assert [("version.retired", key_id, 1)] == turns.events(*CLOCK_KINDS)
    turns.turn(100)
    assert 1 == len(turns.events(*CLOCK_KINDS))


def test_what_came_before_the_first_turn_is_not_told(registry_place: Home, registry: Registry):
    turns = Turns(registry_place, registry, START_S)
    turns.do(clients.create_client, "acme")
    key_id = make_key(turns, expires_at=START_S + 10)
    turns.now_s += 1000
    turns.turn()
    turns.turn(1000)
    assert [] == turns.events(*CLOCK_KINDS)
    assert key_id


def test_notices_follow_the_policy_of_key_client_and_store(turns: Turns):
    plain = make_key(turns, expires_at=START_S + 30 * DAY_S)
    own = make_key(turns, Policy(notices_s=(3600,)), expires_at=START_S + 30 * DAY_S)
    turns.catch_up(30 * DAY_S + 60)
    with turns.registry.read() as connection:
        e = schema.events.c
        rows = connection.execute(select(e.key_id, e.details).where(e.kind == "rotation.notice")).all()
    left = Counter((row.key_id, *[int(part.split(":")[1]) for part in row.details.split(",") if "left_s" in part])
                   for row in rows)
    assert {(plain, 14 * DAY_S): 1, (plain, 7 * DAY_S): 1, (plain, DAY_S): 1, (own, 3600): 1} == left
    turns.do(scheduling.set_store_policy, Policy(notices_s=(50,)))
    other = make_key(turns, expires_at=turns.now_s + 100)
    turns.catch_up(60)
    assert ("rotation.notice", other, 1) in turns.events("rotation.notice")


def test_a_revoked_version_has_no_more_events(turns: Turns):
    key_id = make_key(turns)
    rotate(turns, key_id, overlap_s=100)
    turns.do(revoking.revoke_version, key_id, (1,), RevocationReason.KEY_COMPROMISE)
    turns.turn(1000)
    assert [] == turns.events(*CLOCK_KINDS)


def expected_events(turns: Turns, count: int, seed: int) -> Counter[tuple[str, str | None, int | None]]:
    """Make keys that come to all kinds of ends within ten days; return the events to come."""
    chance, wanted = random.Random(seed), Counter[Any]()
    for _ in range(count):
        match chance.randrange(4):
            case 0:
                key_id = make_key(turns, expires_at=START_S + chance.randrange(10, 60) * 10_000)
                wanted[("version.expired", key_id, 1)] += 1
                wanted[("key.without_current", key_id, 1)] += 1
            case 1:
                key_id = make_key(turns, key_expires_at=START_S + 500_000)  # many at the same second
                wanted[("key.expired", key_id, None)] += 1
            case 2:
                key_id = make_key(turns)
                rotate(turns, key_id, overlap_s=chance.randrange(1, 9) * 50_000)
                wanted[("version.retiring", key_id, 1)] += 1
                wanted[("version.retired", key_id, 1)] += 1
            case _:
                key_id = make_key(turns)
                rotate(turns, key_id, activate_at=START_S + 300_000, overlap_s=0)
                wanted[("version.activated", key_id, 2)] += 1
                wanted[("version.retired", key_id, 1)] += 1
    return wanted


TOLD = (*CLOCK_KINDS[:5], "key.without_current")


def test_after_a_long_absence_it_catches_up_in_small_transactions(turns: Turns, monkeypatch: pytest.MonkeyPatch):
    wanted = expected_events(turns, 60, 1)
    monkeypatch.setattr(clockwork, "KEYS_AT_ONCE", 7)
    assert 0 < turns.turn(10 * DAY_S).events
    turns.catch_up()
    assert wanted == Counter(turns.events(*TOLD))
    with turns.registry.read() as connection:
        assert clock.cursor(connection) == clock.Cursor(turns.now_s - clockwork.LAG_S)


def test_nothing_is_told_twice_or_lost_whatever_fails(turns: Turns, monkeypatch: pytest.MonkeyPatch):
    wanted = expected_events(turns, 30, 2)
    monkeypatch.setattr(clockwork, "KEYS_AT_ONCE", 3)
    monkeypatch.setattr(clockwork, "SAVE_EACH_S", 20_000)
    chance = random.Random(3)
    begin = turns._begin
    failures = 0

    @contextmanager
    def failing(actor: Any, now_s: int | None) -> Iterator[Act]:
        nonlocal failures
        with begin(actor, now_s) as act:
            yield act
            if chance.random() < 0.4:
                failures += 1
                raise Unavailable("the disk is full")

    turns._begin = failing  # type: ignore[method-assign]
    turns.schedule = turns.another()
    other = turns.another()  # a second leader, by mistake
    for step in range(60):
        turns.now_s = START_S + step * 16_000
        for schedule in (turns.schedule, other):
            try:
                schedule.turn(turns.now_s)
            except Unavailable:
                if chance.random() < 0.2:
                    turns.schedule = turns.another()
    assert failures > 10
    turns._begin = begin  # type: ignore[method-assign]
    turns.now_s, turns.schedule = START_S + 12 * DAY_S, turns.another()
    turns.catch_up()
    assert wanted == Counter(turns.events(*TOLD))


def test_a_clock_that_goes_back_tells_nothing_twice(turns: Turns):
    make_key(turns, expires_at=START_S + 10)
    turns.turn(100)
    for after_s in (-90, 50, 100, 100):
        turns.turn(after_s)
    assert 1 == len(turns.events("version.expired"))


# --- Rotation --------------------------------------------------------------------------------------------------------

MONTHLY = Policy(max_age_s=30 * DAY_S, overlap_s=3600)


def test_a_key_is_rotated_when_it_is_due(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    assert not turns.turn(30 * DAY_S - 1).rotations
    done = turns.turn(1)
    assert (1, True) == (done.rotations.rotated, done.changed)
    file = handout / f"{key_id}.2.pending"
    assert 0o600 == file.stat().st_mode & 0o777
    token = file.read_text().strip()
    after = shown(turns, key_id)
    assert tokens.tag(token, turns.peppers()) == after.label.tag
    assert (2, turns.now_s + 30 * DAY_S) == (after.label.number, after.due_at)
    assert turns.now_s + 3600 == after.versions[0].retire_at
    assert [("key.rotated", key_id, 2), ("rotation.handed_out", key_id, 2)] == turns.events(
        "key.rotated", "rotation.handed_out")
    with turns.registry.read() as connection:
        principals = connection.scalars(select(schema.audit.c.principal).where(schema.audit.c.action == "key.rotate"))
        assert ["schedule"] == principals.all()
    assert not turns.turn(10).rotations


def test_without_a_hand_out_it_is_only_said_once_a_day(registry_place: Home, registry: Registry):
    turns = Turns(registry_place, registry, START_S)
    turns.do(clients.create_client, "acme")
    key_id = make_key(turns, MONTHLY)
    assert 1 == turns.turn(30 * DAY_S).rotations.due
    for _ in range(20):
        turns.turn(3600)
    assert [("rotation.due", key_id, 1)] == turns.events("rotation.due")
    turns.turn(4 * 3600)
    assert 2 == len(turns.events("rotation.due"))
    assert 1 == len(shown(turns, key_id).versions)


def test_bursts_are_limited_and_the_longest_due_come_first(turns: Turns):
    turns.options["rotations_per_turn"] = 2
    turns.schedule = turns.another()
    made = []
    for _ in range(5):
        made.append(make_key(turns, MONTHLY))
        turns.now_s += 10
    turns.now_s += 30 * DAY_S
    assert [2, 2, 1, 0] == [turns.turn().rotations.rotated for _ in range(4)]
    assert made == [key_id for _, key_id, _ in turns.events("key.rotated")]


def test_what_stands_in_the_way_postpones(turns: Turns, handout: Path):
    is_open = make_key(turns, Policy(max_age_s=30 * DAY_S, overlap_s=40 * DAY_S))
    rotate(turns, is_open)
    off = make_key(turns, MONTHLY)
    turns.do(keys.set_key_enabled, off, False)
    unseen = make_key(turns, Policy(max_age_s=30 * DAY_S, clock="on_first_use"))
    short = make_key(turns, MONTHLY, expires_at=START_S + 20 * DAY_S)
    assert 4 == turns.turn(30 * DAY_S).rotations.postponed
    with turns.registry.read() as connection:
        e = schema.events.c
        rows = connection.execute(select(e.key_id, e.details).where(e.kind == "rotation.postponed"))
        reasons = {row.key_id: row.details.partition('"reason":"')[2].partition('"')[0] for row in rows}
    assert {is_open: "ROTATION_OPEN", off: "SWITCHED_OFF", unseen: "NO_REPORTS", short: "EMPTY_WINDOW"} == reasons
    assert [] == list(handout.iterdir())
    assert 0 == turns.turn(3600).rotations.postponed
    # A day later it is tried again.
    turns.do(keys.set_key_enabled, off, True)
    assert (3, 1) == ((done := turns.turn(DAY_S).rotations).postponed, done.rotated)


def test_an_open_rotation_is_tried_again_as_soon_as_it_is_over(turns: Turns):
    key_id = make_key(turns, Policy(max_age_s=1000, overlap_s=1500))
    turns.turn(1000)
    assert 1 == turns.turn(1000).rotations.postponed
    assert START_S + 2500 == shown(turns, key_id).due_at
    assert 1 == turns.turn(500).rotations.rotated


def test_a_first_use_is_awaited_if_nodes_tell_of_it(turns: Turns):
    key_id = make_key(turns, Policy(max_age_s=30 * DAY_S, clock="on_first_use"))
    turns.now_s += 30 * DAY_S
    node = FakeNode(turns.registry)
    node.status(turns.now_s * 1000)
    node.use(turns.now_s)
    assert 1 == turns.turn().rotations.rotated
    assert "on_first_use" == shown(turns, key_id).versions[0].clock


def test_nothing_is_rotated_in_a_registry_that_lags_behind_its_store(turns: Turns):
    make_key(turns, MONTHLY)
    assert not turns.turn(31 * DAY_S, may_rotate=False).rotations
    assert 1 == turns.turn().rotations.rotated


def test_a_failed_commit_takes_its_token_away(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    turns.now_s += 30 * DAY_S
    begin = turns._begin
    files = []

    @contextmanager
    def failing(actor: Any, now_s: int | None) -> Iterator[Act]:
        with begin(actor, now_s) as act:
            yield act
            if act.entries:
                files.extend(path.name for path in handout.iterdir())
                raise Unavailable("the disk is full")

    turns._begin = failing  # type: ignore[method-assign]
    turns.schedule = turns.another()
    with pytest.raises(Unavailable):
        turns.turn()
    assert [f"{key_id}.2.pending"] == files, "the token was on disk before the commit"
    assert [] == list(handout.iterdir())
    assert 1 == len(shown(turns, key_id).versions)


def test_a_lost_answer_to_a_commit_leaves_the_token(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    turns.now_s += 30 * DAY_S
    begin = turns._begin

    @contextmanager
    def lost(actor: Any, now_s: int | None) -> Iterator[Act]:
        with begin(actor, now_s) as act:
            yield act
        if act.entries:
            raise Unavailable("the connection broke")

    turns._begin = lost  # type: ignore[method-assign]
    turns.schedule = turns.another()
    with pytest.raises(Unavailable):
        turns.turn()
    token = (handout / f"{key_id}.2.pending").read_text().strip()
    assert tokens.tag(token, turns.peppers()) == shown(turns, key_id).label.tag


def test_the_file_of_a_process_that_died_is_kept_aside(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    (file := handout / f"{key_id}.2.pending").write_text("of a version that was never made\n")
    assert 1 == turns.turn(30 * DAY_S).rotations.rotated
    assert tokens.tag(file.read_text().strip(), turns.peppers()) == shown(turns, key_id).label.tag
    assert "of a version that was never made\n" == (handout / f"{key_id}.2.unused-{turns.now_s}").read_text()


def test_a_folder_that_is_gone_is_a_fault_and_rotates_nothing(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    handout.rmdir()
    with pytest.raises(Unavailable):
        turns.turn(30 * DAY_S)
    assert 1 == len(shown(turns, key_id).versions)
    handout.mkdir()
    assert 1 == turns.turn().rotations.rotated


def test_somebody_who_rotates_first_wins(turns: Turns, monkeypatch: pytest.MonkeyPatch):
    key_id = make_key(turns, MONTHLY)
    turns.now_s += 30 * DAY_S
    found = clock.due

    def then_rotated(*arguments: Any) -> Any:
        ordinals = found(*arguments)
        rotate(turns, key_id)
        return ordinals

    monkeypatch.setattr(due.clock, "due", then_rotated)
    assert not turns.turn().rotations
    assert 2 == len(shown(turns, key_id).versions)


# --- Retiring what is safe -------------------------------------------------------------------------------------------

SAFE = Policy(overlap_s=30 * DAY_S, retire_when_safe=True, min_quiet_s=60)


def used_until_now(turns: Turns, node: FakeNode, seconds: int, uses: dict[int, tuple[int, int]]) -> None:
    """Let time pass with a report every 10 seconds."""
    for _ in range(seconds // 10):
        turns.now_s += 10
        node.status(turns.now_s * 1000)
        node.use(turns.now_s, uses)


@pytest.mark.parametrize("clock_name", ["fixed", "manual"])
def test_a_version_that_nobody_uses_any_more_is_retired(turns: Turns, clock_name: str):
    key_id = make_key(turns, SAFE)
    other = make_key(turns, Policy(overlap_s=30 * DAY_S, min_quiet_s=60))
    rotate(turns, key_id, clock=clock_name)
    rotate(turns, other)
    old, new = (version.ordinal for version in shown(turns, key_id).versions)
    _, other_new = (version.ordinal for version in shown(turns, other).versions)
    node = FakeNode(turns.registry)
    used_until_now(turns, node, 20, {old: (1, 0), new: (1, 0), other_new: (1, 0)})
    used_until_now(turns, node, 40, {new: (1, 0), other_new: (1, 0)})
    assert 0 == turns.turn().retired
    used_until_now(turns, node, 40, {new: (1, 0), other_new: (1, 0)})
    done = turns.turn()
    assert (1, True) == (done.retired, done.changed)
    assert turns.now_s == shown(turns, key_id).versions[0].retire_at
    assert turns.now_s < (shown(turns, other).versions[0].retire_at or 0)
    assert [("key.retired", key_id, 1)] == turns.events("key.retired")
    assert 0 == turns.turn(60).retired


def test_what_is_not_known_to_be_safe_is_not_retired(turns: Turns):
    key_id = make_key(turns, SAFE)
    rotate(turns, key_id)
    _, new = (version.ordinal for version in shown(turns, key_id).versions)
    turns.turn(DAY_S)  # no node ever reported
    assert [] == turns.events("key.retired")
    node = FakeNode(turns.registry)
    used_until_now(turns, node, 90, {new: (1, 0)})
    turns.turn(300)  # the node is silent now
    assert [] == turns.events("key.retired")


# --- The rest --------------------------------------------------------------------------------------------------------


def test_old_rows_are_swept_in_parts(turns: Turns, monkeypatch: pytest.MonkeyPatch):
    from verifier.control import schedule

    monkeypatch.setattr(schedule, "SWEEP_ROWS", 2)
    node = FakeNode(turns.registry)
    make_key(turns)
    with turns.registry.read() as connection:
        (key,) = queries.list_keys(connection)
    for _ in range(5):
        node.use(turns.now_s, {key.label.ordinal: (1, 0)})
        turns.now_s += DAY_S

    def left() -> int:
        with turns.registry.read() as connection:
            return len(connection.execute(select(schema.usage)).all())

    turns.now_s += 500 * DAY_S
    counts = []
    for _ in range(4):
        turns.schedule.turn(turns.now_s)
        counts.append(left())
    assert [3, 1, 0, 0] == counts
    assert 0 == turns.turn().swept


def test_the_turns_of_an_idle_registry_write_next_to_nothing(turns: Turns):
    make_key(turns, expires_at=START_S + 100 * DAY_S)
    began: list[Any] = []
    begin = turns._begin

    @contextmanager
    def counted(actor: Any, now_s: int | None) -> Iterator[Act]:
        began.append(now_s)
        with begin(actor, now_s) as act:
            yield act

    turns._begin = counted  # type: ignore[method-assign]
    turns.schedule = turns.another()
    for _ in range(45):
        turns.turn(4)
    assert len(began) <= 180 // clockwork.SAVE_EACH_S + 2


def test_a_busy_registry_is_a_conflict_that_passes(turns: Turns):
    key_id = make_key(turns, MONTHLY)
    begin = turns._begin

    @contextmanager
    def busy(actor: Any, now_s: int | None) -> Iterator[Act]:
        raise Conflict("busy", code="REGISTRY_BUSY")
        yield

    turns._begin = busy  # type: ignore[method-assign]
    turns.schedule = turns.another()
    with pytest.raises(Conflict):
        turns.turn(30 * DAY_S)
    turns._begin = begin  # type: ignore[method-assign]
    turns.schedule = turns.another()
    assert 1 == turns.turn().rotations.rotated
    assert 2 == len(shown(turns, key_id).versions)


def test_policies_are_found_whatever_many_share_them(turns: Turns):
    for _ in range(5):
        make_key(turns, SAFE)
        make_key(turns, MONTHLY)
    turns.do(clients.update_client, "acme", policy=Policy(max_live=5))
    turns.do(scheduling.set_store_policy, Policy(max_live=4))
    with turns.registry.read() as connection:
        found = clock.policies(connection)
    wanted = [SAFE, MONTHLY, Policy(max_live=5), Policy(max_live=4)]
    assert sorted(str(policy.to_text()) for policy in wanted) == found
