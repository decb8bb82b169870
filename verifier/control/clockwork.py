"""Telling what the clock did to keys: each event once, whenever and however often the control plane was away.

Events are emitted in the transaction that notes how far they were emitted, key by key in small ones, so that whoever
has something urgent to change gets in between. Who finds the note moved on by another stops.
"""

import time
from array import array
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from verifier.control.acting import SCHEDULE, Act, Actor
from verifier.control.moments import moments_of
from verifier.control.policy import BUILT_IN, Policy, policy_of
from verifier.registry import clock, queries
from verifier.registry.clock import Cursor
from verifier.registry.database import Registry

# Begins an act at a second, the clock's when None.
Begin = Callable[[Actor, int | None], AbstractContextManager[Act]]

LAG_S = 2  # whoever changes something "now" must have done it before that second is told: others' clocks may lag
SLICE_S = 86_400  # told together, when there is much to catch up with
KEYS_AT_ONCE = 100
SAVE_EACH_S = 60  # a note that nothing happened costs a transaction, too
BUDGET_S = 0.5  # of one turn
PAUSE_S = 0.002  # between two transactions, for those that wait


class Clockwork:
    """Emits the events of the clock, for one leader at a time.

    Args:
        registry: where.
        begin: begins an act there.
        pause: lets others in.
    """

    def __init__(self, registry: Registry, begin: Begin, pause: Callable[[float], None] = time.sleep) -> None:
        self._registry = registry
        self._begin = begin
        self._pause = pause
        self._quiet_to: int | None = None  # nothing happened up to here, which is not noted yet
        self._keys: array[int] = array("q")  # of the slice that is being told, and the first that is left
        self._next = 0
        self._noted: Cursor | None = None  # that they belong to

    def told_to(self) -> int | None:
        """Return the second up to which everything is told, as far as this process knows."""
        return self._quiet_to

    def tell(self, now_s: int, budget_s: float = BUDGET_S) -> int:
        """Emit what happened up to :data:`LAG_S` ago, for about so long; return how many events that were."""
        until = time.monotonic() + budget_s
        told = 0
        while True:
            count, more = self._step(now_s)
            told += count
            if not more or time.monotonic() >= until:
                return told
            self._pause(PAUSE_S)

    def _step(self, now_s: int) -> tuple[int, bool]:
        """Do the next part; return how many events were emitted, and whether more is left."""
        last_s = now_s - LAG_S
        with self._registry.read() as connection:
            at = clock.cursor(connection)
            after_s = max(at.told_to or 0, self._quiet_to or 0)
            until_s = min(after_s + SLICE_S, last_s) if at.until is None else at.until
            if at.told_to is not None and until_s > after_s and (at != self._noted or self._next >= len(self._keys)):
                self._keys = clock.touched(
                    connection, after_s, until_s, lengths(clock.policies(connection)), at.place
                )
                self._next, self._noted = 0, at
        if at.told_to is None:
            self._begin_at(Cursor(last_s))
            return 0, False
        if until_s <= after_s:
            self._quiet_to = after_s
            return 0, False
        if not self._keys and at.until is None and until_s - at.told_to < SAVE_EACH_S:
            self._quiet_to = until_s
            return 0, False
        return self._emit(at, after_s, until_s, now_s), until_s < last_s or self._next < len(self._keys)

    def _emit(self, at: Cursor, after_s: int, until_s: int, now_s: int) -> int:
        last = min(self._next + KEYS_AT_ONCE, len(self._keys))
        part = self._keys[self._next : last]
        done = Cursor(at.told_to, until_s, part[-1]) if last < len(self._keys) else Cursor(until_s)
        self._noted = None
        with self._begin(SCHEDULE, now_s) as act:
            if clock.cursor(act.connection) != at:
                return 0  # another leader goes on from there
            for key in queries.keys_at(act.connection, list(part)):
                notices_s = policy_of(act.connection, key).notices_s or ()
                for moment in moments_of(key, notices_s, after_s, until_s):
                    act.emit(moment.kind, client_id=key.client_id, key_id=key.key_id, version=moment.version,
                             since=moment.at_s, **moment.details)
            clock.set_cursor(act.connection, done)
        self._next, self._noted = last, done
        if last == len(self._keys):
            self._quiet_to = until_s
        return len(act.events)

    def _begin_at(self, first: Cursor) -> None:
        """Begin to tell, from now on."""
        with self._begin(SCHEDULE, None) as act:
            if clock.cursor(act.connection).told_to is None:
                clock.set_cursor(act.connection, first)


def lengths(policies: Iterable[str]) -> set[int]:
    """Return all lengths of notices that policies ask for."""
    said = [*(Policy.from_text(text) for text in policies), BUILT_IN]
    return {notice_s for policy in said for notice_s in policy.notices_s or () if notice_s}
