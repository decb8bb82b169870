"""Ending overlaps early, where the policy asks for it and nobody uses the version before any more."""

import time
from array import array
from collections.abc import Callable

from verifier.control import rotation
from verifier.control.acting import SCHEDULE
from verifier.control.clockwork import PAUSE_S, Begin
from verifier.control.lifecycle import is_live
from verifier.control.policy import BUILT_IN, Policy, policy_of
from verifier.control.retirement import Safety, check_retirement
from verifier.errors import Conflict
from verifier.registry import clock, queries
from verifier.registry.database import Registry
from verifier.registry.facts import Key

ROUND_EACH_S = 5
KEYS_AT_ONCE = 20
BUDGET_S = 0.3


class SafeRetiring:
    """Looks at all open overlaps in turn.

    Args:
        registry: where.
        begin: begins an act there.
        pause: lets others in.
    """

    def __init__(self, registry: Registry, begin: Begin, pause: Callable[[float], None]) -> None:
        self._registry = registry
        self._begin = begin
        self._pause = pause
        self._keys: array[int] = array("q")
        self._next = 0
        self._round_at = 0

    def retire(self, now_s: int, budget_s: float = BUDGET_S) -> int:
        """Retire what is SAFE to retire, never what is not known to be; return how many versions that were.

        Looks at what it can within the time given, and goes on there the next time.
        """
        if self._next >= len(self._keys) and not self._begin_round(now_s):
            return 0
        until, retired = time.monotonic() + budget_s, 0
        while self._next < len(self._keys) and time.monotonic() < until:
            part = self._keys[self._next : self._next + KEYS_AT_ONCE]
            self._next += len(part)
            with self._registry.read() as connection:
                safe = [
                    (key.key_id, number)
                    for key in queries.keys_at(connection, list(part))
                    if policy_of(connection, key).retire_when_safe
                    for number in overlapping(key, now_s)
                    if check_retirement(connection, key, number, now_s).safety is Safety.SAFE
                ]
            for key_id, number in safe:
                retired += self._one(key_id, number, now_s)
                self._pause(PAUSE_S)
        return retired

    def _begin_round(self, now_s: int) -> bool:
        """Find the open overlaps, at times; tell whether there are any to look at."""
        if now_s < self._round_at + ROUND_EACH_S:
            return False
        self._round_at, self._next = now_s, 0
        with self._registry.read() as connection:
            policies = [BUILT_IN, *(Policy.from_text(text) for text in clock.policies(connection))]
            wanted = any(policy.retire_when_safe for policy in policies)
            self._keys = clock.with_open_windows(connection, now_s) if wanted else array("q")
        return bool(self._keys)

    def _one(self, key_id: str, number: int, now_s: int) -> bool:
        """Retire one version, unless it was used in the meantime."""
        try:
            with self._begin(SCHEDULE, now_s) as act:
                rotation.retire(act, key_id, number)
        except Conflict:
            return False
        return bool(act.entries)


def overlapping(key: Key, now_s: int) -> list[int]:
    """Return the versions that another has taken the place of, and that are still valid."""
    return [
        version.number for version in key.versions
        if version.superseded_at is not None and version.superseded_at <= now_s and is_live(key, version, now_s)
    ]  # fmt: skip
