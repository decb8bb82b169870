"""The scenes of a run, each in a thread of its own, all at the same time on the same nodes.

Every scene has one key. Its callers use version 1, then move at random times within the overlap.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask

from loadtest.rotation.life import NS
from loadtest.rotation.safety import Crash
from loadtest.rotation.script import PlayedKey, Script, sleep_until
from verifier.admin.times import stamp
from verifier.admin.v1 import lifecycle_pb2 as lifecycle
from verifier.admin.v1 import types_pb2 as types

SWAP_EACH_S = 0.1
PUBLISHED = types.Options(wait=types.WAIT_PUBLISHED)
CHECK_EACH_S = 0.05
PAST_END_S = 1.3  # callers go on for so long after a window's end: it must be over within a second
DEAD_S = 9.8  # and as long as it takes to start: what is missing for 10 s or less is no gap
AFTER_RETIRING_S = 0.5
MAX_PENDING_S = 3600
WARM_UP_S = 20.0
WARM_S = 0.5  # of calls before anything happens
SAFE_S = 60.0


@dataclass(frozen=True)
class Tempo:
    """How long things take, in seconds.

    Attributes:
        overlap_s: the unit: of the fixed rotation's window.
        quiet_s: the policy's min_quiet.
        crash_after_s: when a node is killed, counted from the rotations; None for never.
    """

    overlap_s: int
    quiet_s: int
    crash_after_s: float | None

    def part(self, share: float) -> int:
        """Return a share of the overlap, in whole seconds, at least 2."""
        return max(2, round(self.overlap_s * share))


Scene = Callable[[Script, PlayedKey, Tempo, threading.Barrier], None]


def fixed(script: Script, key: PlayedKey, tempo: Tempo, rotated: threading.Barrier) -> None:
    """Callers move; a straggler runs into the end of the window."""
    key.rotate(overlap=tempo.overlap_s)
    rotated.wait()
    *movers, straggler = key.callers
    key.use(2, movers, within_s=tempo.overlap_s * 0.7)
    end = key.life.now[1].end
    assert end is not None
    sleep_until(end + PAST_END_S)
    key.use(2, [straggler])


def on_first_use(script: Script, key: PlayedKey, tempo: Tempo, rotated: threading.Barrier) -> None:
    """Nobody moves for a while, and the window does not begin; then all do, and somebody sees how it ends.

    He sends probes, which are no use: so the version may become safe to retire before its end.
    """
    overlap_s = tempo.part(0.6)
    key.rotate(clock=types.CLOCK_ON_FIRST_USE, overlap=overlap_s, max_pending=MAX_PENDING_S)
    latest = key.life.now[1].end
    assert latest is not None
    rotated.wait()
    time.sleep(tempo.overlap_s * 0.12)
    first, *others, straggler = key.callers
    used = time.time_ns()
    key.use(2, [first])
    end = key.await_first_use(2, overlap_s, latest)
    script.notes.expect(end >= used // NS + overlap_s, "an overlap began before the first use")
    key.use(2, others, within_s=overlap_s * 0.3)
    key.use(1, [straggler], probe=True, at_ns=used + int(overlap_s * 0.3 * NS))
    sleep_until(end + PAST_END_S)
    key.use(2, [straggler])


def scheduled(script: Script, key: PlayedKey, tempo: Tempo, rotated: threading.Barrier) -> None:
    """The successor is active later; one caller tries it before, one leaves too late."""
    activate = int(time.time()) + tempo.part(0.2) + 1
    overlap_s = tempo.part(0.45)
    key.rotate(activate_at=stamp(activate), overlap=overlap_s)
    rotated.wait()
    early, *movers, straggler = key.callers
    key.use(2, [early])
    key.use(2, movers, within_s=overlap_s * 0.7, at_ns=activate * NS)
    sleep_until(activate + overlap_s + PAST_END_S)
    key.use(2, [straggler])


def rolled_back(script: Script, key: PlayedKey, tempo: Tempo, rotated: threading.Barrier) -> None:
    """In the middle of moving, the operator goes back: all have to return, and one does so too late."""
    key.rotate(overlap=tempo.overlap_s)
    rotated.wait()
    key.use(2, key.callers, within_s=tempo.overlap_s * 0.25)
    time.sleep(tempo.overlap_s * 0.2)
    overlap_s = tempo.part(0.4)
    key.roll_back(overlap_s)
    *movers, straggler = key.callers
    # A caller's last move counts, so nobody goes to version 2 after he was told to return.
    key.use(1, movers, within_s=overlap_s * 0.7, at_ns=time.time_ns() + int(tempo.overlap_s * 0.06 * NS))
    end = key.life.now[2].end
    assert end is not None
    sleep_until(end + PAST_END_S)
    key.use(1, [straggler])


def retired(script: Script, key: PlayedKey, tempo: Tempo, rotated: threading.Barrier) -> None:
    """All callers move, and the old version is retired as soon as that is safe, not before."""
    key.rotate(overlap=3600)
    rotated.wait()
    prober, *movers = key.callers
    key.use(2, movers, within_s=tempo.overlap_s * 0.3)
    key.use(1, [prober], probe=True)  # what is not counted must not keep it from being safe
    script.notes.expect(not key.retire(1), "a version in use was retired")
    if tempo.crash_after_s is not None:
        script.crashed.wait(tempo.crash_after_s + DEAD_S + SAFE_S)
    begin = time.monotonic()
    while key.check(1).safety != "SAFE":
        if time.monotonic() - begin > tempo.overlap_s + tempo.quiet_s + SAFE_S:
            script.notes.problems.append("a version that nobody uses did not become safe to retire")
            return
        time.sleep(CHECK_EACH_S)
    script.notes.expect(key.retire(1), "a version was safe to retire, and then was not retired")
    time.sleep(AFTER_RETIRING_S)


SCENES: dict[str, Scene] = {
    "fixed": fixed,
    "on_first_use": on_first_use,
    "scheduled": scheduled,
    "rolled_back": rolled_back,
    "retired": retired,
}


def crash(script: Script, after_s: float) -> None:
    """Kill the last node, and start it again once that is a gap in what is known."""
    node = script.stage.nodes[-1]
    time.sleep(after_s)
    script.all_up.clear()
    killed = time.time_ns()
    node.program.kill()
    time.sleep(DEAD_S)
    begun = time.time_ns()
    script.notes.crashes.append(Crash(node.name, killed, begun, begun + 3600 * NS))
    node.start_again()
    node.await_revision(1)
    script.notes.crashes[-1] = Crash(node.name, killed, begun, time.time_ns())
    script.all_up.set()
    script.crashed.set()


def swaps(script: Script) -> None:
    """Publish something every 100 ms, which nodes swap in under the calls."""
    with script.stage.connect() as admin:
        key = PlayedKey(script, admin, ())
        due = time.monotonic()
        while not script.over.wait(max(0.0, due - time.monotonic())):
            due = max(due + SWAP_EACH_S, time.monotonic())
            script.notes.publications += 1
            number = script.notes.publications
            changed = admin.lifecycle.UpdateKey(lifecycle.UpdateKeyRequest(
                key=types.Key(key_id=key.key_id, metadata={"turn": str(number)}),
                update_mask=FieldMask(paths=["metadata"]), options=PUBLISHED if number % 3 else script.options()))
            script.note(changed.receipt)


def ask(script: Script, keys: list[PlayedKey]) -> None:
    """Ask all the time whether versions are safe to retire; every fourth time, without counting gaps."""
    asked = 0
    while not script.over.is_set():
        for key in keys:
            for version in key.watched:
                asked += 1
                key.check(version, accept_gaps=asked % 4 == 0)
        time.sleep(CHECK_EACH_S)


def play(script: Script, tempo: Tempo, callers_each: int) -> None:
    """Play all scenes, to their end."""
    with script.stage.connect() as admin:
        policy = types.Policy(max_live=4)
        keys = [
            PlayedKey(script, admin, range(number * callers_each, (number + 1) * callers_each), policy)
            for number in range(len(SCENES))
        ]
        for key in keys:
            key.use(1, key.callers)
        _await_reports(script, keys)
        rotated = threading.Barrier(len(SCENES) + (tempo.crash_after_s is not None))
        with _together(script, swaps, script), _together(script, ask, script, keys):
            threads = [_thread(script, rotated, scene, script, key, tempo, rotated)
                       for scene, key in zip(SCENES.values(), keys, strict=True)]
            if tempo.crash_after_s is not None:
                rotated.wait()
                crash(script, tempo.crash_after_s)
            for thread in threads:
                thread.join()
            script.over.set()


def _await_reports(script: Script, keys: list[PlayedKey]) -> None:
    """Wait until the use of every key was reported: only what was used before tells of a use that ends."""
    with script.stage.connect() as admin:
        deadline = time.monotonic() + WARM_UP_S
        for key in keys:
            while not admin.lifecycle.GetKey(
                lifecycle.GetKeyRequest(key_id=key.key_id)
            ).key.versions[0].HasField("first_used_at"):
                if time.monotonic() > deadline:
                    raise TimeoutError("nodes did not report the first calls")
                time.sleep(0.05)
    time.sleep(WARM_S)


def _thread(script: Script, rotated: threading.Barrier | None, function: Callable[..., None],
            *arguments: object) -> threading.Thread:
    def run() -> None:
        try:
            function(*arguments)
        except Exception as error:
            script.notes.problems.append(f"{function.__name__}: {type(error).__name__}: {error}")
            if rotated is not None:
                rotated.abort()

    thread = threading.Thread(target=run, name=function.__name__, daemon=True)
    thread.start()
    return thread


@contextmanager
def _together(script: Script, function: Callable[..., None], *arguments: object) -> Iterator[None]:
    thread = _thread(script, None, function, *arguments)
    try:
        yield
    finally:
        script.over.set()
        thread.join()

