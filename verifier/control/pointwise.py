"""Comparing two publications that have the same base: only what their deltas say is looked at.

The numbers of the earlier one's manifest are moved by what changed, so neither costs more than the changes. Clients
that were switched off or on are counted by the registry; while the store is held that is an estimate, since what is
served then is older.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from verifier.control.building import Rows, bits_of
from verifier.control.comparing import Change, Difference, Widening
from verifier.keyring.reader import KeyringFile
from verifier.keyring.records import ABSENT, KEY_OFF, NONE, REVOKED, decode_record
from verifier.registry.activity import Activity
from verifier.store.manifest import Manifest

_FLAGS = struct.Struct("<16xH2xII")  # flags, not_before, end
_ORDINALS = struct.Struct("<40xII")  # of the version, of the client

Activities = Callable[[int], Activity]


@dataclass(frozen=True, slots=True)
class Side:
    """What one of two publications serves.

    Attributes:
        base: their common base.
        rows: records of its delta by tag head.
        switches: its client switches.
    """

    base: KeyringFile
    rows: Rows
    switches: bytes

    def record(self, head: bytes) -> bytes | None:
        """Return the record of a tag head, as a node finds it; None if there is none."""
        record = self.rows.get(head)
        if record is None:
            found = self.base.find(head)
            return None if found is None else found[1]
        return None if _FLAGS.unpack_from(record)[0] & ABSENT else record

    def is_off(self, client: int) -> bool:
        """Tell whether a client is switched off."""
        at = client >> 3
        return at < len(self.switches) and bool(self.switches[at] >> (client & 7) & 1)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What callers will notice, and the numbers of the later publication.

    Attributes:
        difference: to the earlier one.
        records: that are served.
        lost: ordinals of the versions that are lost, without those of clients that were switched off.
        effective: something differs that a node serves.
        switched_off: how many versions are lost since their client was switched off, and for nothing else.
    """

    difference: Difference
    records: int
    lost: tuple[int, ...]
    effective: bool
    switched_off: int = 0


def changed_records(before: Side, after: Side) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Yield what differs as (tag head, record before, record after), None for no record."""
    was = before.rows.get
    heads = [head for head, record in after.rows.items() if was(head) != record]
    for head in (*heads, *(before.rows.keys() - after.rows.keys())):
        old, new = before.record(head), after.record(head)
        if old != new:
            yield head, old, new


def compare_on_base(
    before: Side,
    after: Side,
    manifest: Manifest,
    now_s: int,
    activity: Activities,
    *,
    examples_max: int = 0,
    dormant: bool = False,
) -> Outlook:
    """Compare two publications of the same base.

    Args:
        before: what is served.
        after: what will be.
        manifest: the publication that ``before`` is of; its numbers are taken on trust.
        now_s: seconds since 1970 at which both are judged.
        activity: counts a client's versions, asked when its switch changed.
        examples_max: how many changes to name.
        dormant: count as widened what is not active, too.
    """
    tally = _Tally(before, after, now_s, examples_max, dormant)
    for head, old, new in changed_records(before, after):
        tally.take(head, old, new)
    flipped = _flipped(before.switches, after.switches)
    used = sum(tally.take_client(client, activity(client)) for client in flipped)
    difference = tally.difference
    active = manifest.active + difference.gained - difference.lost
    records = max(0, manifest.records + tally.records)
    return Outlook(
        replace(
            difference,
            before_active=manifest.active,
            after_active=max(0, min(active, records)),
            dead_on_arrival=max(0, min(manifest.dead_on_arrival + difference.dead_on_arrival, records)),
            lost_used_24h=used,
            after_records=records,
        ),
        records,
        tuple(tally.lost),
        tally.effective or bool(flipped),
        tally.switched_off,
    )


def _flipped(before: bytes, after: bytes) -> list[int]:
    """List the clients whose switch differs."""
    length = max(len(before), len(after))
    one, other = (int.from_bytes(switches, "little") for switches in (before, after))
    return list(bits_of((one ^ other).to_bytes(length, "little"))) if one != other else []


class _Tally:
    """Counts what callers notice, record by record."""

    def __init__(self, before: Side, after: Side, now_s: int, examples_max: int, dormant: bool) -> None:
        self._before, self._after = before, after
        self._now_s, self._dormant, self._examples_max = now_s, dormant, examples_max
        self._counts = dict.fromkeys(("gained", "lost", "widened", "extended", "denied", "dead_on_arrival"), 0)
        self._clients: dict[int, list[bytes]] = {}
        self._examples: list[Change] = []
        self._is_wider = Widening()
        self.lost: list[int] = []
        self.records = 0
        self.switched_off = 0
        self.effective = False

    @property
    def difference(self) -> Difference:
        """What was counted; ``dead_on_arrival`` is how many more."""
        return Difference(**self._counts, examples=tuple(self._examples))

    def take(self, head: bytes, old: bytes | None, new: bytes | None) -> None:
        """Count one version whose record differs."""
        self.effective = True
        was, was_denied, was_end, was_dead = self._judged(self._before, old)
        now, now_denied, now_end, now_dead = self._judged(self._after, new)
        self.records += (new is not None) - (old is not None)
        both = was and now and old is not None and new is not None
        kinds = {
            "lost": was and not now,
            "gained": now and not was,
            "denied": now_denied and not was_denied and old is not None,
            "extended": both and now_end > was_end,
            "widened": (both or self._dormant) and old is not None and new is not None and self._is_wider(old, new),
        }
        for kind, happened in kinds.items():
            self._counts[kind] += happened
        self._counts["dead_on_arrival"] += now_dead - was_dead
        newest = new if new is not None else old
        assert newest is not None
        ordinal, client = _ORDINALS.unpack_from(newest)
        if kinds["lost"]:
            self.lost.append(ordinal)
        if new is not None:
            self._clients.setdefault(client, []).append(new)
        if len(self._examples) < self._examples_max and any(kinds.values()):
            told = decode_record(head, newest)[1]
            self._examples += [Change(kind, told.client_id, told.key_id, told.version) for kind in kinds if kinds[kind]]

    def take_client(self, client: int, activity: Activity) -> int:
        """Count a client whose switch changed, but for the versions that were taken; return how many were in use."""
        undenied, active = activity.undenied, activity.active
        for record in self._clients.get(client, ()):
            flags, _, end = _FLAGS.unpack_from(record)
            if not flags & (REVOKED | KEY_OFF):
                undenied -= 1
                active -= end == NONE or end > self._now_s
        if self._after.is_off(client):
            self._counts["lost"] += max(0, active)
            self.switched_off += max(0, active)
            self._counts["denied"] += max(0, undenied)
            return min(activity.used, max(0, active))
        self._counts["gained"] += max(0, active)
        return 0

    def _judged(self, side: Side, record: bytes | None) -> tuple[bool, bool, int, bool]:
        """Return whether a record is active, whether it is denied, its end, and whether its window is empty."""
        if record is None:
            return False, False, 0, False
        flags, not_before, end = _FLAGS.unpack_from(record)
        denied = bool(flags & (REVOKED | KEY_OFF)) or side.is_off(_ORDINALS.unpack_from(record)[1])
        return not denied and (end == NONE or end > self._now_s), denied, end, end <= not_before
