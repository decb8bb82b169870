"""What the control plane says of usage, against the truth: nodes are killed, stopped and cut off, reports are delayed,
repeated and overtaken, clocks are wrong. Nothing may be counted twice (I23), and SAFE must be true (I24).
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select, update

from tests.support.usage import START_S, empty, put_client, put_key, watched
from verifier.control.acting import Actor, acting
from verifier.control.founding import found
from verifier.control.nodes import NodeBoard, StatusReport
from verifier.control.policy import Policy
from verifier.control.retirement import Retirement, Safety, check_retirement
from verifier.control.usage import UsageReport, apply_report
from verifier.errors import Conflict
from verifier.registry import nodes, queries, schema
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home
from verifier.vocabulary import Verdict

QUIET_S = 40
INTERVAL_MS = 10_000
NAMES = ("n1", "n2", "n3")
OLD, NEW = 0, 1
AHEAD_MS = st.one_of(st.integers(-4000, 4000), st.sampled_from([-40_000, 40_000]))


@dataclass
class Call:
    """A call that was answered VALID."""

    at_ms: int
    node: str
    which: int
    counted: bool = False
    lost: bool = False  # with the process that counted it


@dataclass
class Message:
    """A report under way."""

    report: UsageReport
    calls: list[Call]


@dataclass
class Process:
    """A node's process, by the protocol of docs/usage.md."""

    name: str
    epoch: int
    ahead_ms: int
    began_ms: int
    calls: list[Call] = field(default_factory=list)
    watched: list[Call] = field(default_factory=list)
    sequence: int = 0
    cut_ms: int = 0
    under_way: Message | None = None
    is_cut_off: bool = False

    def clock(self, now_ms: int) -> int:
        return now_ms + self.ahead_ms

    def cut(self, ordinals: list[int], now_ms: int, *, only_watched: bool) -> Message:
        """Make the next report: of all that was counted, or only of calls that were watched."""
        calls = [] if only_watched else self.calls
        self.sequence += 1
        counts = {ordinals[call.which]: 0 for call in calls}
        for call in calls:
            counts[ordinals[call.which]] += 1
        seen = [watched(ordinals[c.which], Verdict.VALID, self.clock(c.at_ms) // 1000) for c in self.watched]
        order = sorted(counts)
        begin_ms = self.cut_ms or self.clock(self.began_ms)
        report = UsageReport(
            self.name, self.epoch, self.sequence, begin_ms, self.clock(now_ms), order, [counts[o] for o in order],
            [0] * len(order), seen, partial=only_watched,
        )  # fmt: skip
        self.watched = []
        if not only_watched:
            self.calls, self.cut_ms = [], report.to_ms
        self.under_way = Message(report, calls)
        return self.under_way


class UsageTruth(RuleBasedStateMachine):
    """Version 1 was superseded by version 2; callers move over as they like."""

    registry: Registry  # set by the test

    @initialize(offset_ms=st.integers(0, 3_600_000), seed=st.integers(0, 999), moved=st.booleans(), ahead_ms=AHEAD_MS)
    def begin(self, offset_ms: int, seed: int, moved: bool, ahead_ms: int) -> None:
        self.now_ms = START_S * 1000 + offset_ms
        self.epochs = seed
        self.truth: list[Call] = []
        self.network: list[Message] = []
        self.processes: dict[str, Process] = {}
        now_s = self.now_ms // 1000
        with self.registry.write() as connection:
            empty(connection)
            put_client(connection)
            superseded = {"superseded_at": now_s, "superseded_by": 2}
            policy = Policy(min_quiet_s=QUIET_S).to_text()
            self.ordinals = put_key(connection, superseded, {}, policy=policy)
            connection.execute(update(schema.registry).values(usage_since=now_s - 40 * 86_400))
        self.board = NodeBoard(self.registry)
        for name in NAMES[:2]:
            self.start(name, ahead_ms)
        for _ in range(6 if moved else 0):
            self.go_on("n1", NEW, 1)
        assert not moved or self.check().safety is Safety.SAFE

    # --- What happens --------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), ahead_ms=AHEAD_MS)
    def start(self, name: str, ahead_ms: int) -> None:
        if name not in self.processes:
            self.now_ms += 1  # a start takes time
            self.epochs += 1
            self.processes[name] = Process(name, self.epochs, ahead_ms, self.now_ms)
            self.tell(self.processes[name])

    @rule(name=st.sampled_from(NAMES), which=st.sampled_from([OLD, OLD, NEW]), is_told=st.booleans())
    def call(self, name: str, which: int, is_told: bool = True) -> None:
        process = self.processes.get(name)
        if process is not None:
            call = Call(self.now_ms, name, which)
            self.truth.append(call)
            process.calls.append(call)
            if is_told:  # else there were too many of them
                process.watched.append(call)

    @rule(milliseconds=st.one_of(st.integers(1, 2000), st.integers(2000, 15_000)), is_calm=st.booleans())
    def wait(self, milliseconds: int, is_calm: bool = False) -> None:
        """Let time pass; status is reported each second, so at its end as well."""
        self.now_ms += milliseconds
        for process in self.processes.values():
            self.tell(process)
            if is_calm and not process.is_cut_off:
                self.drain(process)

    @rule(name=st.sampled_from(NAMES), which=st.sampled_from([OLD, NEW]), times=st.integers(1, 5))
    def go_on(self, name: str, which: int, times: int) -> None:
        """Let a while pass in which all goes well, with calls now and then."""
        for _ in range(times):
            self.call(name, which, False)
            self.wait(9000, True)

    @rule(name=st.sampled_from(NAMES), only_watched=st.booleans())
    def report(self, name: str, only_watched: bool) -> None:
        process = self.processes.get(name)
        if process is not None and process.under_way is None:
            self.network.append(process.cut(self.ordinals, self.now_ms, only_watched=only_watched))

    @rule(back=st.integers(0, 9), answered=st.booleans())
    def deliver(self, back: int, answered: bool) -> None:
        """Deliver any report that was sent lately, once more; the answer may be lost."""
        if back < len(self.network):
            self.take(self.network[-1 - back], answered)

    @rule()
    def repeat_all(self) -> None:
        """Deliver all that was sent lately once more, the last first."""
        for message in self.network[:-10:-1]:
            self.take(message, True)

    @rule()
    def deliver_all(self) -> None:
        for process in self.processes.values():
            if process.under_way is not None:
                self.take(process.under_way, True)

    @rule(name=st.sampled_from(NAMES))
    def kill(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            under_way = process.under_way.calls if process.under_way else []
            for call in [*process.calls, *under_way]:
                call.lost = True  # unless its report, already sent, arrives later

    @rule(name=st.sampled_from(NAMES), down_ms=st.integers(0, 30_000), ahead_ms=AHEAD_MS, is_told=st.booleans())
    def crash(self, name: str, down_ms: int, ahead_ms: int, is_told: bool) -> None:
        """Kill a node soon after a call of the old version, and start it again a little later."""
        self.call(name, OLD, is_told)
        self.kill(name)
        self.wait(down_ms, True)
        self.start(name, ahead_ms)
        self.wait(9000, True)

    @rule(name=st.sampled_from(NAMES))
    def stop(self, name: str) -> None:
        process = self.processes.get(name)
        if process is not None and not process.is_cut_off:
            self.drain(process)
            self.tell(process, stopping=True)
            del self.processes[name]

    @rule(name=st.sampled_from(NAMES))
    def cut_off(self, name: str) -> None:
        """Cut a node off from the control plane, or connect it again; callers reach it all the time."""
        process = self.processes.get(name)
        if process is not None:
            process.is_cut_off = not process.is_cut_off

    # --- How it happens ------------------------------------------------------------------------------------------

    def tell(self, process: Process, **values: Any) -> None:
        if not process.is_cut_off:
            report = StatusReport(process.name, process.epoch, clock_ms=process.clock(self.now_ms), **values)
            self.board.report(report, self.now_ms)

    def take(self, message: Message, answered: bool) -> None:
        report = message.report
        process = self.processes.get(report.node)
        is_sender = process is not None and process.epoch == report.epoch
        if is_sender and process is not None and process.is_cut_off:
            return
        try:
            with acting(self.registry, Actor(f"token:{report.node}"), self.now_ms // 1000) as act:
                applied = apply_report(act, report)
        except Conflict as error:
            assert not is_sender, error
            return
        if not applied.repeated:
            for call in message.calls:
                assert not call.counted
                call.counted, call.lost = True, False
        if is_sender and process is not None and answered and process.under_way is message:
            assert applied.sequence == report.sequence
            process.under_way = None

    def drain(self, process: Process) -> None:
        process.is_cut_off = False
        for _ in range(2):
            if process.under_way is not None:
                self.take(process.under_way, True)
            if process.calls or process.watched or process.cut_ms < process.clock(self.now_ms):
                self.network.append(process.cut(self.ordinals, self.now_ms, only_watched=False))
                self.take(self.network[-1], True)

    # --- What must be true ---------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_counted_twice(self) -> None:
        with self.registry.read() as connection:
            counted = dict(connection.execute(select(schema.usage.c.version_ordinal, schema.usage.c.valid)).all())
        for which, ordinal in enumerate(self.ordinals):
            assert counted.get(ordinal, 0) == sum(call.counted for call in self.truth if call.which == which)

    def check(self) -> Retirement:
        now_s = self.now_ms // 1000
        with self.registry.read() as connection:
            key = queries.find_key(connection, "k")
            found = check_retirement(connection, key, 1, now_s)
            holes = [tuple(row) for row in nodes.gaps(connection, 0)]
        if found.safety is Safety.SAFE:
            assert found.as_of is not None and found.quiet_required_s >= QUIET_S
            for call in self.truth:
                if call.which == OLD and (now_s - found.quiet_required_s) * 1000 <= call.at_ms < found.as_of * 1000:
                    assert call.lost, f"SAFE although {call} of {call.node} at {self.now_ms}: {found}"
                    self.assert_in_small_hole(call, holes)
        return found

    def assert_in_small_hole(self, call: Call, holes: list[tuple[Any, ...]]) -> None:
        """What was lost is known to be lost, and was tolerated as it is less than one interval."""
        if call.node not in self.processes:
            return  # it vanished in the same interval and was not expected any more: it had stopped
        around = [end - begin for name, begin, end in holes if name == call.node and begin <= call.at_ms < end]
        assert around and max(around) <= INTERVAL_MS, f"{call} is missing unseen: {holes}"

    @invariant()
    def safe_is_safe(self) -> None:
        self.check()

    def teardown(self) -> None:
        """In the end everything is counted that was not lost with its process, and peace is SAFE."""
        if not hasattr(self, "processes"):
            return
        for name in NAMES:
            self.start(name, 0)
            self.processes[name].is_cut_off = False
        self.call("n1", NEW)
        for _ in range(QUIET_S // 9 + 4):
            self.wait(9000, True)
            self.check()
        self.nothing_is_counted_twice()
        assert [] == [call for call in self.truth if not call.counted and not call.lost]
        assert (Safety.SAFE, ()) == (self.check().safety, self.check().reasons)


@pytest.fixture(scope="module")
def fast_registry() -> Iterator[Registry]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="verifier-test-") as folder:
        home = Home(Path(folder, "home"))
        found(home)
        with open_registry(home) as registry:
            yield registry


def run(registry: Registry, examples: int, steps: int) -> None:
    machine = type("Truth", (UsageTruth,), {"registry": registry})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=examples, stateful_step_count=steps, deadline=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    ))  # fmt: skip


def test_usage_agrees_with_the_truth(fast_registry: Registry):
    run(fast_registry, 20, 25)


@pytest.mark.campaign
def test_usage_agrees_with_the_truth_for_long(fast_registry: Registry):
    run(fast_registry, 2000, 80)
