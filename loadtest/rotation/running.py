"""One run, from an empty folder to its findings."""

import time
from dataclasses import dataclass

from loadtest.rotation.judging import Findings, judge
from loadtest.rotation.scenes import SCENES, Tempo, play
from loadtest.rotation.script import Notes, Script
from loadtest.rotation.stage import Callers, staged
from verifier.admin.times import span
from verifier.admin.v1 import types_pb2 as types

NODES = 2
INTERVAL_S = 0.3
CRASH_SHARE = 0.55
HOUR_S = 3600


@dataclass(frozen=True)
class Size:
    """What to run.

    Attributes:
        clients: callers in all.
        overlap_s: of the fixed rotation; the others take shares of it.
        quiet_s: the policy's min_quiet.
        crash: kill a node.
        seed: of what is chosen at random.
        crash_share: when, as a share of the overlap.
    """

    clients: int
    overlap_s: int
    quiet_s: int
    crash: bool
    seed: int
    crash_share: float = CRASH_SHARE

    @property
    def callers_each(self) -> int:
        """How many use each key: three play parts of their own."""
        return max(3, self.clients // len(SCENES))


def run(size: Size, registry: str | None = None) -> tuple[Findings, Notes]:
    """Play all scenes on new programs; return what was found, and the script's notes.

    Args:
        size: what to run.
        registry: URL of an empty database, None for SQLite.
    """
    _keep_clear_of_the_hour(8 + size.overlap_s // 2)
    policy = types.Policy(min_quiet=span(size.quiet_s))
    with staged(NODES, policy, INTERVAL_S, registry) as stage:
        callers = Callers([node.target for node in stage.nodes], size.callers_each * len(SCENES))
        try:
            script = Script(stage, callers, size.seed)
            crash_after_s = size.overlap_s * size.crash_share if size.crash else None
            play(script, Tempo(size.overlap_s, size.quiet_s, crash_after_s), size.callers_each)
            calls = callers.finish()
            script.notes.propagation = stage.propagation()
        finally:
            callers.close()
    return judge(script.notes, calls, nodes=NODES, quiet_s=size.quiet_s, interval_s=INTERVAL_S), script.notes


def _keep_clear_of_the_hour(needed_s: float) -> None:
    """Wait for the next hour if it is near: use in two hours reads as a pause of one, and asks for hours of quiet."""
    left_s = HOUR_S - time.time() % HOUR_S
    if left_s < needed_s:
        time.sleep(left_s + 0.1)
