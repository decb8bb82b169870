"""What is done to keys while callers use them: acts through the operators' API, noted as the truth to judge by."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import Message

from loadtest.rotation.callers import Move
from loadtest.rotation.life import NS, Life, Window
from loadtest.rotation.safety import Check, Crash
from loadtest.rotation.stage import CLIENT, Callers, Stage
from verifier.admin.face import Admin
from verifier.admin.times import moment_ms, moment_s, span
from verifier.admin.v1 import lifecycle_pb2 as lifecycle
from verifier.admin.v1 import types_pb2 as types
from verifier.errors import Conflict

GENERATE = types.Secret(generate=True)
ALL_SERVE_S = 5


@dataclass(frozen=True)
class Reached:
    """A publication that a command waited for, and how long that took by its own account.

    Attributes:
        revision: of it.
        committed_ms: when it became current, in milliseconds since 1970.
        took_ms: until the last node served it.
        nodes: how many nodes were waited for.
    """

    revision: int
    committed_ms: int
    took_ms: int
    nodes: int


@dataclass
class Notes:
    """What a run leaves to be judged.

    Attributes:
        lives: of the keys, by index.
        checks: answers about safety.
        crashes: of nodes.
        reached: publications that were waited for.
        publications: how many were made only to be swapped in.
        propagation: publications that the control plane's own metric counts, and their mean time in milliseconds.
        problems: what was wrong at once.
    """

    lives: list[Life] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    reached: list[Reached] = field(default_factory=list)
    publications: int = 0
    propagation: tuple[int, float] = (0, 0.0)
    problems: list[str] = field(default_factory=list)

    def expect(self, is_so: bool, otherwise: str) -> None:
        """Note a problem unless something is so."""
        if not is_so:
            self.problems.append(otherwise)


class Script:
    """All that scenes share.

    Args:
        stage: with everything running.
        callers: on it.
        seed: of what is chosen at random.

    Attributes:
        notes: what is to be judged.
        all_up: set while no node is down.
        over: set when the run ends.
        crashed: set when a node that was killed is back.
    """

    def __init__(self, stage: Stage, callers: Callers, seed: int) -> None:
        self.stage = stage
        self.notes = Notes()
        self.random = random.Random(seed)
        self.all_up = threading.Event()
        self.all_up.set()
        self.over = threading.Event()
        self.crashed = threading.Event()
        self._callers = callers
        self._ordering = threading.Lock()

    def order(self, move: Move) -> None:
        """Pass an order on to the callers."""
        with self._ordering:
            self._callers.order(move)

    def options(self) -> types.Options:
        """Return how changes are made: they return when all nodes serve them, while all nodes are there."""
        if not self.all_up.is_set():
            return types.Options(wait=types.WAIT_PUBLISHED)
        return types.Options(wait=types.WAIT_SERVED, timeout=span(ALL_SERVE_S))

    def note(self, receipt: types.Receipt) -> bool:
        """Note how a change reached the nodes; return whether all serve it, as far as its receipt tells."""
        if not receipt.HasField("propagation") or receipt.propagation.behind:
            return False
        committed_ms, took_ms = moment_ms(receipt, "committed_at"), receipt.propagation.took.ToMilliseconds()
        if committed_ms is not None:
            self.notes.reached.append(Reached(receipt.revision, committed_ms, took_ms, receipt.propagation.expected))
        return True

    def done(self, receipt: types.Receipt) -> int:
        """Wait until all nodes that are up serve a change; return when that was so."""
        if not self.note(receipt):
            # The first is never killed; one that comes back begins with the newest.
            for node in self.stage.nodes if self.all_up.is_set() else self.stage.nodes[:1]:
                node.await_revision(receipt.revision)
        return time.time_ns()


class PlayedKey:
    """One key with its callers, in the hands of one scene.

    Args:
        script: it belongs to.
        admin: a connection of its own.
        callers: the numbers of those who use it.
        policy: of this key.

    Attributes:
        index: of the key.
        life: what is known of it.
        callers: likewise.
        watched: versions whose safety is asked for all the time.
    """

    def __init__(
        self, script: Script, admin: Admin, callers: Sequence[int], policy: types.Policy | None = None
    ) -> None:
        self.script = script
        self.admin = admin
        self.callers = list(callers)
        self.index = len(script.notes.lives)
        self.life = Life()
        self.watched: list[int] = []
        script.notes.lives.append(self.life)
        begun = time.time_ns()
        made = admin.lifecycle.CreateKey(lifecycle.CreateKeyRequest(
            client_id=CLIENT, scopes=["read"], secret=GENERATE, policy=policy, options=script.options()))
        self.key_id = made.key.key_id
        self.tokens = {1: made.token}
        self.life.changes[0] = replace(self.life.changes[0], begun_ns=begun, done_ns=script.done(made.receipt))

    def use(self, version: int, callers: Sequence[int], *, within_s: float = 0.0, probe: bool = False,
            at_ns: int | None = None) -> None:
        """Have callers use a version, each from a random moment within a time on."""
        begin = time.time_ns() if at_ns is None else at_ns
        for caller in callers:
            at = begin + int(self.script.random.uniform(0, within_s) * NS)
            self.script.order(Move(caller, at, self.index, version, self.tokens[version], probe))

    def rotate(self, **terms: Any) -> int:
        """Rotate the key, and see that its windows are as asked for; return the number of the new version."""
        expect, lives = self.script.notes.expect, self.life.now
        begun = time.time_ns()
        given = {name: value if isinstance(value, Message) else span(value) if name in ("overlap", "max_pending")
                 else value for name, value in terms.items()}
        done = self.admin.lifecycle.RotateKey(lifecycle.RotateKeyRequest(
            key_id=self.key_id, secret=GENERATE, options=self.script.options(), **given))
        end_ns = self.script.done(done.receipt)
        self.tokens[done.version] = done.token
        old, superseded = done.previous.version, moment_s(done.previous, "superseded_at")
        activate = moment_s(lifecycle.RotateKeyRequest(**given), "activate_at")
        assert superseded is not None
        expect(superseded == activate if activate else begun // NS <= superseded <= end_ns // NS,
               f"{self.key_id} was superseded at {superseded}")
        waits = terms.get("clock") == types.CLOCK_ON_FIRST_USE
        end = superseded + terms["overlap"] + (terms["max_pending"] if waits else 0)
        expect(moment_s(done.previous, "retire_at") == end, f"the window of {self.key_id} ends at another time")
        self.life.change(begun, end_ns, {
            old: replace(lives[old], superseded_at=superseded, superseded_by=done.version, end=end),
            done.version: Window(not_before=activate),
        })
        self.watched = [old]
        return int(done.version)

    def roll_back(self, overlap_s: int) -> None:
        """Go back to the version before."""
        begun, windows = time.time_ns(), self.life.now
        done = self.admin.lifecycle.RollBackKey(lifecycle.RollBackKeyRequest(
            key_id=self.key_id, overlap=span(overlap_s), options=self.script.options()))
        end_ns = self.script.done(done.receipt)
        label = next(one for one in done.key.versions if not one.superseded_by)
        left = next(one for one in done.key.versions if one.superseded_by == label.version)
        superseded = moment_s(left, "superseded_at")
        assert superseded is not None
        self.script.notes.expect(
            begun // NS <= superseded <= end_ns // NS and moment_s(left, "retire_at") == superseded + overlap_s,
            f"{self.key_id} was rolled back with another window",
        )
        self.life.change(begun, end_ns, {
            label.version: replace(windows[label.version], superseded_at=None, superseded_by=0, end=None),
            left.version: replace(windows[left.version], superseded_at=superseded, superseded_by=label.version,
                                  end=superseded + overlap_s),
        })
        self.watched = [label.version, left.version]

    def retire(self, version: int) -> bool:
        """Retire a version without force; return whether that was done."""
        begun = time.time_ns()
        try:
            done = self.admin.lifecycle.RetireVersion(lifecycle.RetireVersionRequest(
                key_id=self.key_id, version=version, options=self.script.options()))
        except Conflict as error:
            self.script.notes.expect(error.code == "IN_USE", f"{self.key_id} was not retired: {error.code}")
            return False
        ended = next(moment_s(one, "retire_at") for one in done.key.versions if one.version == version)
        assert ended is not None
        self.life.moved(version, begun, self.script.done(done.receipt), ended)
        return True

    def await_first_use(self, version: int, overlap_s: int, latest_end: int) -> int:
        """Wait until the overlap of the version before runs; return its end."""
        while True:
            key = self.admin.lifecycle.GetKey(lifecycle.GetKeyRequest(key_id=self.key_id)).key
            old = next(one for one in key.versions if one.superseded_by == version)
            new = next(one for one in key.versions if one.version == version)
            end = moment_s(old, "retire_at")
            if end is not None and end < latest_end:
                break
            time.sleep(0.05)
        used = moment_s(new, "first_used_at")
        self.script.notes.expect(used is not None and used + overlap_s <= end <= time.time_ns() // NS + overlap_s,
                                 f"{self.key_id}: first used at {used}, its overlap ends at {end}")
        self.life.moved(old.version, self.life.changes[-1].done_ns, time.time_ns() + NS, end)
        return end

    def check(self, version: int, accept_gaps: bool = False) -> Check:
        """Ask whether a version is safe to retire, and note the answer."""
        asked = time.time_ns()
        answer = self.admin.lifecycle.CheckRetirement(lifecycle.CheckRetirementRequest(
            key_id=self.key_id, version=version, accept_gaps=accept_gaps))
        check = Check(
            key=self.index, version=version, asked=asked, answered=time.time_ns(), accept_gaps=accept_gaps,
            safety=lifecycle.Safety.Name(answer.safety).removeprefix("SAFETY_"), reasons=tuple(answer.reasons),
            as_of_s=moment_s(answer, "as_of"), quiet_s=answer.quiet_required.seconds,
            known_to_s={node.node: moment_s(node, "to") or 0 for node in answer.nodes},
        )  # fmt: skip
        self.script.notes.checks.append(check)
        return check


def sleep_until(at_s: float) -> None:
    """Sleep until a moment, in seconds since 1970."""
    time.sleep(max(0.0, at_s - time.time()))

