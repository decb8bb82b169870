"""What the control plane does by itself, a turn at a time: tells what the clock did, rotates what is due, retires what
is safe to retire, and forgets what is kept no longer.

Every part takes small transactions, and leaves the registry to others between them. Nothing depends on turns that come
in time: what nodes answer at a second is in their records. Two leaders at once, for the moment that a lost one takes to
notice, do nothing twice.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from verifier.control import usage
from verifier.control.acting import SCHEDULE
from verifier.control.clockwork import PAUSE_S, Begin, Clockwork
from verifier.control.due import DueKeys, Rotations
from verifier.control.handing_over import Handover
from verifier.control.retiring import SafeRetiring
from verifier.registry.database import Registry

ROTATIONS_PER_TURN = 20
SWEEP_EACH_S = 3600
SWEEP_ROWS = 5_000

__all__ = ["Begin", "Rotations", "Schedule", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did.

    Attributes:
        events: of the clock that were told.
        rotations: of keys that were due.
        retired: versions whose overlap was ended.
        swept: rows that were deleted.
    """

    events: int = 0
    rotations: Rotations = field(default_factory=Rotations)
    retired: int = 0
    swept: int = 0

    @property
    def changed(self) -> bool:
        """Whether nodes have to learn of it."""
        return bool(self.rotations.rotated or self.retired)


class Schedule:
    """The turns of one leader.

    Args:
        registry: where.
        begin: begins an act there at a second.
        peppers: returns the secrets that tags are made with.
        handout: folder for the tokens of rotations; None for none, and no rotation.
        rotations_per_turn: most keys rotated in one turn.
        events_s: how long events are kept, in seconds; 0 for ever.
        pause: sleeps so many seconds, between two transactions.
    """

    def __init__(
        self, registry: Registry, begin: Begin, peppers: Callable[[], Sequence[bytes]], *, handout: Path | None = None,
        rotations_per_turn: int = ROTATIONS_PER_TURN, events_s: int = usage.EVENTS_DAYS * usage.DAY_S,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._registry = registry
        self._begin = begin
        self._pause = pause
        self._rotations_per_turn = rotations_per_turn
        self._events_s = events_s
        self._clockwork = Clockwork(registry, begin, pause)
        self._due = DueKeys(registry, begin, peppers, handout, pause)
        self._handover = Handover(registry, peppers, handout)
        self._retiring = SafeRetiring(registry, begin, pause)
        self._swept_at = 0

    @property
    def told_to(self) -> int | None:
        """The second up to which events of the clock are told; None before the first turn."""
        return self._clockwork.told_to()

    def turn(self, now_s: int | None = None, *, may_rotate: bool = True) -> Turn:
        """Do what is due.

        Args:
            now_s: seconds since 1970; the clock's when None.
            may_rotate: whether new versions may be made.

        Raises:
            Conflict: another writer held the registry for too long (``REGISTRY_BUSY``).
            Unavailable: the database, the hand-out or a pepper cannot be used. What was done until then stays done.
        """
        now_s = int(time.time()) if now_s is None else now_s
        events = self._clockwork.tell(now_s)
        retired = self._retiring.retire(now_s)
        rotations = self._due.rotate(now_s, self._rotations_per_turn) if may_rotate else Rotations()
        self._handover.look(now_s)
        return Turn(events, rotations, retired, self._sweep(now_s))

    def _sweep(self, now_s: int) -> int:
        """Delete what is too old, once an hour, a part of it in each turn."""
        if now_s < self._swept_at + SWEEP_EACH_S:
            return 0
        with self._begin(SCHEDULE, now_s) as act:
            swept = usage.sweep(act, SWEEP_ROWS, self._events_s)
        if not swept.more:
            self._swept_at = now_s
        self._pause(PAUSE_S)
        return sum(swept.rows.values())
