"""Running histories: one after the other, and shorter and shorter ones when one fails."""

import random
import shutil
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.history.steps import STEPS, let_time_pass
from tests.support.history.world import World
from verifier.control.founding import found
from verifier.registry.database import open_registry
from verifier.store.home import Home

SHRINK_S = 60.0

Move = tuple[str, int]  # the name of a step, and the number that it draws from


@dataclass
class Outcome:
    """What came of a history.

    Attributes:
        steps: how many were done.
        compared: how many answers were.
        publications: how many there were.
        log: what happened, step by step.
        failure: what went wrong; None when nothing did.
    """

    steps: int = 0
    compared: int = 0
    publications: int = 0
    log: list[str] = field(default_factory=list)
    failure: BaseException | None = None


def history(seed: int, steps: int) -> list[Move]:
    """Choose the steps of a history."""
    draw = random.Random(seed)
    names, weights = list(STEPS), [weight for weight, _ in STEPS.values()]
    first = [("client", 1), ("issue", 2), ("publish", 3)]
    return first + [(name, draw.getrandbits(40)) for name in draw.choices(names, weights, k=steps - len(first))]


def run(world: World, moves: Sequence[Move]) -> Outcome:
    """Carry a history out in a new world."""
    done = Outcome()
    try:
        for name, number in moves:
            draw = random.Random(number)
            let_time_pass(world, draw)
            done.log.append(f"{done.steps}: {world.now} {name}")
            said = STEPS[name][1](world, draw)
            done.log[-1] += f" {said}"
            done.steps += 1
    except Exception as error:
        done.failure = error
    done.compared, done.publications = world.compared, len(world.published)
    return done


class Histories:
    """Runs histories one after the other, each from a new home in the same place, and tells what fails.

    What is compiled for one registry serves for the next, so most of the time goes into the steps.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        self._founded, self._home = folder / "founded", Home(folder / "home")
        found(Home(self._founded))
        shutil.copytree(self._founded, self._home.folder)
        self._registry = open_registry(self._home)
        self.steps = self.compared = self.publications = 0
        self.log: list[str] = []

    def check(self, seed: int, steps: int) -> Outcome:
        """Run one history; when it fails, with the shortest one that was found to fail like it."""
        moves = history(seed, steps)
        done = self._run(moves)
        self.steps, self.compared = self.steps + done.steps, self.compared + done.compared
        self.publications += done.publications
        self.log += done.log
        if done.failure is not None:
            raise AssertionError(self._told(seed, steps, moves, done)) from done.failure
        return done

    def _told(self, seed: int, steps: int, moves: list[Move], done: Outcome) -> str:
        short, last = self.shrink(moves[: done.steps + 1], done)
        trace = "".join(traceback.format_exception(last.failure)[-3:])
        return "\n".join([
            f"history {seed} of {steps} steps failed at step {done.steps}: {done.failure}", "the shortest like it:",
            *last.log, trace, f"moves = {short!r}",
        ])  # fmt: skip

    def shrink(self, moves: list[Move], done: Outcome) -> tuple[list[Move], Outcome]:
        """Leave steps out as long as it fails the same way."""
        until, size, like = time.monotonic() + SHRINK_S, max(1, len(moves) // 2), kind_of(done.failure)
        while size and time.monotonic() < until:
            at, before = 0, len(moves)
            while at < len(moves) and time.monotonic() < until:
                fewer = moves[:at] + moves[at + size :]
                tried = self._run(fewer)
                if tried.failure is not None and kind_of(tried.failure) == like:
                    moves, done = fewer[: tried.steps + 1], tried
                else:
                    at += size
            size = size // 2 if size > 1 or len(moves) == before else 1
        return moves, done

    def _run(self, moves: Sequence[Move]) -> Outcome:
        self._registry.close()
        shutil.rmtree(self._home.folder)
        shutil.copytree(self._founded, self._home.folder)
        return run(World(self._home, self._registry), moves)


def kind_of(failure: Any) -> str:
    """Tell failures apart that are not of one kind."""
    return f"{type(failure).__name__} {str(failure).split(':')[0][:40]}"
