"""How keys are to be rotated: what a key leaves open its client decides, then the store, then what is built in."""

import json
from dataclasses import asdict, dataclass, fields

from sqlalchemy import Connection, select

from verifier.errors import InvalidInput
from verifier.registry import schema
from verifier.registry.facts import Key

FIXED = "fixed"
ON_FIRST_USE = "on_first_use"
MANUAL = "manual"
CLOCKS = (FIXED, ON_FIRST_USE, MANUAL)

HOUR_S = 3600
DAY_S = 24 * HOUR_S
DURATION_MAX_S = 20 * 366 * DAY_S
NOTICES_MAX = 10
MAX_LIVE_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Policy:
    """How keys are rotated; None leaves a field to the level above. All times are in seconds.

    Attributes:
        max_age_s: age at which a version is replaced; 0 for never.
        overlap_s: how long a replaced version stays valid.
        clock: when the overlap begins to run: ``fixed``, ``on_first_use`` or ``manual``.
        max_pending_s: with ``on_first_use``, the longest wait for the first use.
        notices_s: how long before an end to remind, the longest first.
        expires_in_s: life of a new version from its activation; 0 for no end; left out on every level: the end of the
            version before.
        retire_when_safe: retire a replaced version before the end of its overlap once that is safe.
        min_quiet_s: the shortest time without use that counts as quiet.
        max_live: most versions of a key that may be live at once.
    """

    max_age_s: int | None = None
    overlap_s: int | None = None
    clock: str | None = None
    max_pending_s: int | None = None
    notices_s: tuple[int, ...] | None = None
    expires_in_s: int | None = None
    retire_when_safe: bool | None = None
    min_quiet_s: int | None = None
    max_live: int | None = None

    def checked(self) -> "Policy":
        """Return the policy in canonical form.

        Raises:
            InvalidInput: something in it is not usable (``BAD_POLICY``).
        """
        for name in ("max_age_s", "overlap_s", "max_pending_s", "expires_in_s", "min_quiet_s"):
            _check_duration(name, getattr(self, name))
        if self.clock is not None and self.clock not in CLOCKS:
            raise _bad(f"the clock is one of {', '.join(CLOCKS)}")
        if self.max_live is not None and not 1 <= self.max_live <= MAX_LIVE_LIMIT:
            raise _bad(f"max_live lies between 1 and {MAX_LIVE_LIMIT}")
        if self.notices_s is None:
            return self
        for notice_s in self.notices_s:
            _check_duration("a notice", notice_s)
        if len(self.notices_s) > NOTICES_MAX:
            raise _bad(f"there are at most {NOTICES_MAX} notices")
        return effective(Policy(notices_s=tuple(sorted(set(self.notices_s), reverse=True))), self)

    def to_text(self) -> str | None:
        """Write the policy as the registry stores it: JSON without what is left open; None when all of it is."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(said, sort_keys=True, separators=(",", ":")) if said else None

    @staticmethod
    def from_text(text: str | None) -> "Policy":
        """Read what :meth:`to_text` wrote."""
        said = json.loads(text) if text else {}
        if "notices_s" in said:
            said["notices_s"] = tuple(said["notices_s"])
        return Policy(**said)


BUILT_IN = Policy(
    max_age_s=0, overlap_s=DAY_S, clock=FIXED, max_pending_s=30 * DAY_S, notices_s=(14 * DAY_S, 7 * DAY_S, DAY_S),
    retire_when_safe=False, min_quiet_s=HOUR_S, max_live=3,
)  # fmt: skip


def effective(*policies: Policy) -> Policy:
    """Lay policies over each other, the most specific first; what none of them says stays open."""
    chosen = {}
    for field in fields(Policy):
        said = (getattr(policy, field.name) for policy in policies)
        chosen[field.name] = next((value for value in said if value is not None), None)
    return Policy(**chosen)


def policy_of(connection: Connection, key: Key) -> Policy:
    """Return the policy that holds for a key: every field is set, but ``expires_in_s`` where nobody gave one."""
    return effective(Policy.from_text(key.policy), inherited(connection, key.client_ordinal))


def inherited(connection: Connection, client_ordinal: int) -> Policy:
    """Return the policy of a client's keys that say nothing themselves."""
    client = select(schema.clients.c.policy).where(schema.clients.c.ordinal == client_ordinal)
    store = select(schema.registry.c.policy)
    said = (Policy.from_text(connection.scalar(query)) for query in (client, store))
    return effective(*said, BUILT_IN)


def _check_duration(name: str, duration_s: int | None) -> None:
    if duration_s is not None and not 0 <= duration_s <= DURATION_MAX_S:
        raise _bad(f"{name} lies between 0 and 20 years")


def _bad(message: str) -> InvalidInput:
    return InvalidInput(message, code="BAD_POLICY")
