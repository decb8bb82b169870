"""The schedule on a registry, with a clock that tests move."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from verifier.control import issuing
from verifier.control.acting import Act, Actor, acting
from verifier.control.clockwork import LAG_S
from verifier.control.schedule import Schedule, Turn
from verifier.registry import schema
from verifier.registry.database import Registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets

ACTOR = Actor("local:test")


class Turns:
    """A schedule, and the clock that it and others go by.

    Args:
        home: founded.
        registry: its registry.
        now_s: the clock at the start.
        handout: folder for tokens.
    """

    def __init__(self, home: Home, registry: Registry, now_s: int, handout: Path | None = None, **options: Any) -> None:
        self.home = home
        self.registry = registry
        self.now_s = now_s
        self.options = {"handout": handout, "pause": lambda _: None, **options}
        self.schedule = self.another()

    def another(self) -> Schedule:
        """A new leader's."""
        return Schedule(self.registry, self._begin, self.peppers, **self.options)

    def peppers(self) -> list[bytes]:
        """The registry's peppers."""
        return issuing.pepper_secrets(self.registry, Secrets(self.home.secrets).peppers())

    def turn(self, after_s: int = 0, **options: Any) -> Turn:
        """Move the clock on, and have the schedule do a turn."""
        self.now_s += after_s
        return self.schedule.turn(self.now_s, **options)

    def catch_up(self, after_s: int = 0) -> Turn:
        """Move the clock on, and have the schedule do turns until all that happened is told; return the last one."""
        self.now_s += after_s
        while True:
            turn = self.schedule.turn(self.now_s)
            if self.schedule.told_to == self.now_s - LAG_S:
                return turn

    def do(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Carry out a function of :mod:`verifier.control` now."""
        with acting(self.registry, ACTOR, self.now_s) as act:
            return function(act, *arguments, **options)

    @contextmanager
    def _begin(self, actor: Actor, now_s: int | None) -> Iterator[Act]:
        with acting(self.registry, actor, self.now_s if now_s is None else now_s) as act:
            yield act

    def events(self, *kinds: str) -> list[tuple[str, str | None, int | None]]:
        """Kind, key and version of what was emitted, in order; only of some kinds, if named."""
        e = schema.events.c
        query = select(e.kind, e.key_id, e.version).order_by(e.sequence)
        with self.registry.read() as connection:
            return [tuple(row) for row in connection.execute(query) if not kinds or row.kind in kinds]
