"""`verifier control` as it runs: real processes, real clocks, real nodes, and kills."""

import multiprocessing
import random
import signal
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.support.control import RunningControl, folder_for_tokens, make_token
from tests.support.node import RunningNode, until
from tests.support.turns import Turns
from verifier import tokens
from verifier.control import clients, issuing, keys, rotation
from verifier.control.acting import SCHEDULE, Act, Actor, acting
from verifier.control.founding import found
from verifier.control.policy import Policy
from verifier.control.publishing import publish
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.control.terms import Terms
from verifier.errors import InvalidInput
from verifier.registry import queries, schema
from verifier.registry.database import Registry, open_registry
from verifier.registry.facts import Key
from verifier.serving.keyring import Keyring
from verifier.store.home import Home
from verifier.store.secrets import Secrets
from verifier.v1 import verifier_pb2 as pb

FORKED = multiprocessing.get_context("forkserver")  # of a process that has no threads, and all modules
FORKED.set_forkserver_preload([__name__])
KILLS = 4
START_S = 1_900_000_000
DONE = ("version.expired", "key.rotated")


class Owner:
    """Who makes keys in a home, beside its control plane."""

    def __init__(self, home: Home, registry: Registry) -> None:
        self.home = home
        self.registry = registry
        self.peppers = issuing.pepper_secrets(registry, Secrets(home.secrets).peppers())
        with acting(registry) as act:
            clients.create_client(act, "acme")

    def key(self, policy: Policy | None = None, **terms: object) -> tuple[str, str]:
        """Make a key; return its id and its token."""
        with acting(self.registry) as act:
            issued = issuing.issue_key(act, self.peppers, "acme", Terms(scopes=("read",), **terms), policy=policy)
        return issued.key.key_id, str(issued.token)

    def rotate(self, key_id: str, **terms: object) -> str:
        """Rotate a key; return the new token."""
        with acting(self.registry) as act:
            return str(rotation.rotate(act, key_id, RotateTerms(**terms), NewSecret(self.peppers)).token)

    def publish(self) -> None:
        """Publish."""
        publish(self.home, registry=self.registry)

    def shown(self, key_id: str) -> Key:
        """Return a key as it is."""
        return keys.show_key(self.registry, key_id)

    def events(self, *kinds: str) -> Counter[tuple[str, str | None, int | None]]:
        """Count events by kind, key and version."""
        e = schema.events.c
        with self.registry.read() as connection:
            rows = connection.execute(select(e.kind, e.key_id, e.version).where(e.kind.in_(kinds)))
            return Counter(tuple(row) for row in rows)


@pytest.fixture
def owner(registry_place: Home, registry: Registry) -> Owner:
    return Owner(registry_place, registry)


@pytest.fixture
def file_owner(tmp_path: Path) -> Iterator[Owner]:
    found(home := Home(tmp_path / "home"))
    with open_registry(home) as registry:
        yield Owner(home, registry)


def check_tokens(owner: Owner, handout: Path) -> int:
    """See that whoever took the tokens from the folder has that of every version; return how many there are."""
    with owner.registry.read() as connection:
        rotated = [version for key in queries.list_keys(connection) for version in key.versions if version.number > 1
                   for version in [(key.key_id, version)]]
    for key_id, version in rotated:
        file = handout / f"{key_id}.{version.number}"
        token = (file if file.exists() else file.with_name(file.name + ".pending")).read_text().strip()
        assert tokens.tag(token, owner.peppers) == version.tag
    return len(rotated)


# --- Killed --------------------------------------------------------------------------------------------------------


def _turn_for_ever(home: Home, handout: Path) -> None:
    """Take turns in simulated time that goes on from where the last process was, until it stands still."""
    with open_registry(home) as registry:
        with registry.read() as connection:
            begun = connection.scalar(select(schema.registry.c.events_to)) or START_S
        turns = Turns(home, registry, begun, handout, rotations_per_turn=3)
        while turns.now_s < START_S + 12_000:
            turns.turn(200)


def test_killed_at_random_moments_nothing_is_told_or_rotated_twice(owner: Owner, tmp_path: Path):
    handout = folder_for_tokens(tmp_path)
    turns = Turns(owner.home, owner.registry, START_S)
    turns.turn()
    wanted = Counter[tuple[str, str | None, int | None]]()
    for number in range(12):
        end = START_S + 1000 * (number // 2 + 1)
        with acting(owner.registry, SCHEDULE, START_S) as act:
            first = issuing.issue_key(act, owner.peppers, "acme", Terms(expires_at=end))
            second = issuing.issue_key(act, owner.peppers, "acme", Terms(), policy=Policy(
                max_age_s=1500 + 200 * number, overlap_s=100))
        wanted[("version.expired", first.key.key_id, 1)] += 1
        wanted[("key.without_current", first.key.key_id, 1)] += 1
        assert second.token
    chance, kills = random.Random(4), 0
    while True:
        began = sum(owner.events(*DONE).values())
        process: ForkServerProcess = FORKED.Process(target=_turn_for_ever, args=(owner.home, handout))
        process.start()
        while kills < KILLS and process.is_alive() and sum(owner.events(*DONE).values()) == began:
            time.sleep(0.01)
        process.join(chance.random() * 0.2 if kills < KILLS else 60)
        if not process.is_alive():
            break
        process.kill()
        process.join(30)
        kills += 1
    assert (KILLS, 0) == (kills, process.exitcode)
    assert wanted == owner.events("version.expired", "key.without_current")
    rotated = owner.events("key.rotated")
    assert {1} == set(rotated.values())
    assert len(rotated) == check_tokens(owner, handout) >= 12
    ended = owner.events("version.retired")
    assert {1} == set(ended.values())


def test_who_lost_the_lead_in_the_middle_of_a_turn_tells_nothing(owner: Owner):
    slow, quick = (Turns(owner.home, owner.registry, START_S) for _ in range(2))
    quick.turn()
    with acting(owner.registry, SCHEDULE, START_S) as act:
        issuing.issue_key(act, owner.peppers, "acme", Terms(expires_at=START_S + 10))
    slow.now_s = quick.now_s = START_S + 100
    begin = slow._begin

    @contextmanager
    def overtaken(actor: Actor, now_s: int | None) -> Iterator[Act]:
        quick.turn()
        with begin(actor, now_s) as act:
            yield act

    slow._begin = overtaken  # type: ignore[method-assign]
    assert 0 == slow.another().turn(slow.now_s).events
    assert [1] == list(owner.events("version.expired").values())


def test_when_the_leader_is_killed_the_other_one_goes_on(owner: Owner, tmp_path: Path):
    handout = folder_for_tokens(tmp_path)
    options = ("--interval", "100ms", "--handout", str(handout))
    owner.publish()
    with RunningControl(owner.home, *options) as first, RunningControl(owner.home, *options) as second:
        until(lambda: first.leads)
        assert (1.0, 0.0) == tuple(one.metric("verifier_control_leader") for one in (first, second))
        made = [owner.key(Policy(max_age_s=2 + number % 5, overlap_s=1000, max_live=2))[0] for number in range(15)]
        until(lambda: bool(owner.events("key.rotated")), 20)
        first.process.kill()
        until(lambda: second.leads)
        until(lambda: len(owner.events("key.rotated")) == len(made), 20)
        assert {("key.rotated", key_id, 2): 1 for key_id in made} == owner.events("key.rotated")
        assert check_tokens(owner, handout) == len(made)
        until(lambda: len(owner.events("version.retiring")) == len(made), 20)
        time.sleep(0.5)
        assert {1} == set(owner.events("version.retiring").values())
        # What the dead one had recorded is published, too.
        until(lambda: _pending(owner) == 0, 20)
        until(lambda: all((handout / f"{key_id}.2").exists() for key_id in made), 20)
        with Keyring.open(owner.home.folder) as keyring:
            for key_id in made:
                assert keyring.verify((handout / f"{key_id}.2").read_text().strip()).valid
        second.process.terminate()
        assert 0 == second.process.wait(30)


def _pending(owner: Owner) -> int:
    with owner.registry.read() as connection:
        return queries.state(connection).pending_changes


# --- With nodes ----------------------------------------------------------------------------------------------------


@contextmanager
def reporting_node(owner: Owner, control: RunningControl) -> Iterator[RunningNode]:
    token = make_token(owner.home, "n1", "node")
    with RunningNode(
        owner.home.folder, "--report-to", control.target, "--node-name", "n1", "--report-token-file", str(token),
        "--report-interval", "200ms",
    ) as node:  # fmt: skip
        until(lambda: node.status()["usage"] is not None and node.status()["usage"]["sequence"] > 0, 20)
        yield node


def test_a_rotation_runs_its_course_without_an_operator(file_owner: Owner, tmp_path: Path):
    owner, handout = file_owner, folder_for_tokens(tmp_path)
    with RunningControl(owner.home, "--handout", str(handout)) as control:
        owner.publish()
        with reporting_node(owner, control) as node:
            key_id, old = owner.key(Policy(
                max_age_s=6, overlap_s=5, clock="on_first_use", max_pending_s=1000, notices_s=(1,), max_live=2))
            owner.publish()
            until(lambda: node.verify(old).verdict == pb.VERDICT_VALID)
            until((handout / f"{key_id}.2").exists, 20)
            new = (handout / f"{key_id}.2").read_text().strip()
            assert node.verify(new, probe=True).verdict == pb.VERDICT_VALID, "whoever takes it finds it VALID"
            # Until its first use nothing is cut.
            until(lambda: node.verify(old).phase == pb.PHASE_RETIRING)
            first, second = owner.shown(key_id).versions
            assert first.superseded_at is not None
            assert first.superseded_at + 1005 == first.retire_at
            used_at = time.time()
            answer = node.verify(new)
            assert (pb.VERDICT_VALID, pb.PHASE_CURRENT, 2) == (answer.verdict, answer.phase, answer.version)
            until(lambda: owner.shown(key_id).versions[1].first_used_at is not None)
            end = owner.shown(key_id).versions[0].retire_at
            assert end is not None
            assert used_at + 4 <= end <= used_at + 8
            # Published without being asked for, within a second or so.
            until(lambda: node.verify(old).expires_at.seconds == end, 5)
            while (before := time.time()) < end + 1:
                verdict = node.verify(old, probe=True).verdict
                after = time.time()
                if after < end:
                    assert verdict == pb.VERDICT_VALID
                if before >= end + 0.01:
                    assert verdict == pb.VERDICT_EXPIRED
                time.sleep(0.02)
            assert node.verify(new).verdict == pb.VERDICT_VALID
            kinds = [("rotation.first_use", 2), ("rotation.notice", 1), ("version.retired", 1)]
            until(lambda: all(owner.events(kind)[kind, key_id, number] for kind, number in kinds), 10)
            for kind in ("key.rotated", "rotation.first_use", "version.retired"):
                control.wait_for(kind, key_id=key_id)
            assert second.number == 2
            assert not [line for line in control.text if new in line or old in line]
            until(lambda: control.metric("verifier_control_propagation_seconds_count") >= 1)
            assert control.metric('verifier_control_nodes{state="expected"}') == 1
            # What ended is published by the next tick, like any other change.
            until(lambda: control.metric("verifier_control_pending_changes") == 0, 10)


def test_what_is_safe_is_retired_early(file_owner: Owner, tmp_path: Path):
    owner = file_owner
    with RunningControl(owner.home, "--interval", "200ms") as control:
        policy = Policy(overlap_s=86_400, retire_when_safe=True, min_quiet_s=2)
        key_id, old = owner.key(policy)
        kept, kept_token = owner.key(Policy(overlap_s=86_400, min_quiet_s=2))
        owner.publish()
        with reporting_node(owner, control) as node:
            until(lambda: node.verify(old).verdict == pb.VERDICT_VALID)
            new, other = owner.rotate(key_id), owner.rotate(kept)
            owner.publish()
            until(lambda: node.verify(new).verdict == pb.VERDICT_VALID == node.verify(other).verdict)
            assert node.verify(old).verdict == pb.VERDICT_VALID
            until(lambda: bool(owner.events("key.retired")), 30)
            until(lambda: node.verify(old, probe=True).verdict == pb.VERDICT_EXPIRED, 5)
            assert node.verify(kept_token).verdict == pb.VERDICT_VALID
            assert node.verify(new).verdict == pb.VERDICT_VALID
            assert {("key.retired", key_id, 1): 1} == owner.events("key.retired")
            # The turn that retired it is counted when it is over.
            until(lambda: control.metric("verifier_control_retirements_total") >= 1)
            assert control.metric("verifier_control_retirements_total") == 1


# --- The process ---------------------------------------------------------------------------------------------------


def test_what_others_recorded_waits_for_its_author_unless_told_otherwise(file_owner: Owner):
    owner = file_owner
    owner.publish()
    with RunningControl(owner.home, "--interval", "100ms") as control:
        until(lambda: control.leads)
        owner.key()
        turns = control.metric("verifier_control_turn_seconds_count")
        until(lambda: control.metric("verifier_control_turn_seconds_count") > turns + 5, 30)
        assert 1 == _pending(owner) == control.metric("verifier_control_pending_changes")
    with RunningControl(owner.home, "--interval", "100ms", "--publish-pending", "1s"):
        until(lambda: _pending(owner) == 0, 10)


def test_it_answers_stops_and_tells_how_it_is(file_owner: Owner):
    with RunningControl(file_owner.home, "--interval", "100ms") as control:
        until(lambda: control.leads)
        assert (200, "SERVING\n") == control.get("/readyz")
        assert (200, "alive\n") == control.get("/healthz")
        assert 1 == control.metric("verifier_control_registry_up")
        until(lambda: control.metric("verifier_control_turn_seconds_count") > 2)
        control.signal(signal.SIGHUP)
        assert control.process.poll() is None
        control.signal(signal.SIGTERM)
        assert 0 == control.process.wait(20)
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        control.get("/healthz")


def test_a_folder_for_tokens_that_others_may_enter_is_refused(tmp_path: Path):
    from verifier.admin.controlplane import check_handout

    (open_to_all := tmp_path / "open").mkdir(mode=0o755)
    for folder in (open_to_all, tmp_path / "missing"):
        with pytest.raises(InvalidInput) as caught:
            check_handout(folder)
        assert "BAD_HANDOUT" == caught.value.code
    check_handout(folder_for_tokens(tmp_path))
