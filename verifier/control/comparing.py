"""What changed between two publications, record by record, as callers feel it at one moment."""

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import lmdb

from verifier.control.progress import Progress
from verifier.errors import UnsoundPublication
from verifier.keyring.records import Record, decode_record

REVOKED, KEY_OFF, ABSENT = 1, 2, 16
NEVER = 0xFFFFFFFF
PROGRESS_EVERY = 1 << 16

_FIXED = struct.Struct("<16xHBBIIIIIII")
_BLOCK_HEADER_BYTES = 48

Item = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Change:
    """One version whose callers notice a difference."""

    kind: str
    client_id: str
    key_id: str
    version: int


@dataclass(slots=True)
class Difference:
    """Counts of what changed from one publication to another, both judged at the same second.

    Attributes:
        before_active: records of the first that are VALID for some caller, or will be.
        after_active: the same of the second.
        dead_on_arrival: records of the second whose window is empty.
        gained: active in the second only.
        lost: active in the first only.
        widened: active in both, with more scopes or addresses.
        extended: active in both, with a later end.
        denied: in both, and revoked or switched off in the second only.
        examples: some of these changes.
    """

    before_active: int = 0
    after_active: int = 0
    dead_on_arrival: int = 0
    gained: int = 0
    lost: int = 0
    widened: int = 0
    extended: int = 0
    denied: int = 0
    examples: list[Change] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "examples"}


@dataclass(frozen=True, slots=True)
class Keyrings:
    """The files of one publication: a base, and a delta if there is one."""

    base: Path
    delta: Path | None = None
    records: int = 0


def compare(
    before: Keyrings | None,
    after: Keyrings,
    now_s: int,
    *,
    examples_max: int = 0,
    progress: Progress | None = None,
) -> Difference:
    """Stream the records of two publications side by side, in the order of their tags.

    Args:
        before: None when there was no publication.
        after: the later publication.
        now_s: seconds since 1970 at which both are judged.
        examples_max: how many changes to name.
        progress: called with ("compare", records done, records in all).

    Raises:
        UnsoundPublication: a file is not a keyring (``FORMAT``).
    """
    difference = Difference()
    with _Side(before) as old, _Side(after) as new:
        total = max(before.records if before else 0, after.records)
        for done, (was, now) in enumerate(_merged(iter(old), iter(new))):
            if progress is not None and not done % PROGRESS_EVERY:
                progress("compare", done, total)
            _count(difference, _Judged(was, old, now_s), _Judged(now, new, now_s), examples_max)
    return difference


class _Side:
    """The records of one publication, as a node sees them: the delta's before the base's."""

    def __init__(self, keyrings: Keyrings | None) -> None:
        self._paths = [path for path in (keyrings.base, keyrings.delta) if path] if keyrings else []
        self._environments: list[lmdb.Environment] = []
        self._switches = b""

    def __enter__(self) -> "_Side":
        for path in self._paths:
            try:
                environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, max_dbs=4)
                self._environments.append(environment)
                with environment.begin(db=environment.open_db(b"index", create=False)) as transaction:
                    self._switches = transaction.get(b"switches")[_BLOCK_HEADER_BYTES:]
            except (lmdb.Error, TypeError) as error:
                self.__exit__()
                raise UnsoundPublication(f"{path.name} is not a keyring") from error
        return self

    def __exit__(self, *_: object) -> None:
        for environment in self._environments:
            environment.close()

    def __iter__(self) -> Iterator[Item]:
        sources = [_items(environment) for environment in self._environments]
        if len(sources) < 2:
            return iter(sources[0] if sources else ())
        pairs = _merged(*sources)
        return (item for base, delta in pairs if (item := delta or base) and not _flags(item) & ABSENT)

    def is_off(self, client: int) -> bool:
        """Tell whether a client is switched off."""
        return client >> 3 < len(self._switches) and bool(self._switches[client >> 3] >> (client & 7) & 1)


class _Judged:
    """A record in the light of its publication; all false when it is missing."""

    __slots__ = ("active", "dead", "denied", "end", "item")

    def __init__(self, item: Item | None, side: _Side, now_s: int) -> None:
        self.item = item
        self.active = self.dead = self.denied = False
        self.end = 0
        if item is None:
            return
        flags, _, _, not_before, self.end, _, _, _, _, client = _FIXED.unpack_from(item[1])
        self.denied = bool(flags & (REVOKED | KEY_OFF)) or side.is_off(client)
        self.dead = self.end <= not_before
        self.active = not self.denied and (self.end > now_s or self.end == NEVER)


def _count(difference: Difference, was: _Judged, now: _Judged, examples_max: int) -> None:
    difference.before_active += was.active
    difference.after_active += now.active
    difference.dead_on_arrival += now.dead
    kinds = []
    if was.active != now.active:
        kinds.append("gained" if now.active else "lost")
    if was.item is not None and now.item is not None:
        if now.denied and not was.denied:
            kinds.append("denied")
        if was.active and now.active and was.item != now.item:
            if now.end > was.end:
                kinds.append("extended")
            if is_wider(decode_record(*was.item)[1], decode_record(*now.item)[1]):
                kinds.append("widened")
    for kind in kinds:
        setattr(difference, kind, getattr(difference, kind) + 1)
        if len(difference.examples) < examples_max:
            item = now.item or was.item
            assert item is not None
            record = decode_record(*item)[1]
            difference.examples.append(Change(kind, record.client_id, record.key_id, record.version))


def is_wider(before: Record, after: Record) -> bool:
    """Tell whether a version may do more than before: a further scope, or an address that no rule covered."""
    if not set(after.scopes) <= set(before.scopes):
        return True
    if not before.rules or before.rules == after.rules:
        return False
    known = [ipaddress.ip_network(rule) for rule in before.rules]
    return not after.rules or not all(_covered(ipaddress.ip_network(rule), known) for rule in after.rules)


def _covered(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
    known: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> bool:
    return any(
        network.version == other.version
        and other.prefixlen <= network.prefixlen
        and network.network_address in other
        for other in known
    )


def _items(environment: lmdb.Environment) -> Iterator[Item]:
    with environment.begin(db=environment.open_db(b"keys", create=False)) as transaction:
        yield from transaction.cursor()


def _merged(left: Iterator[Item], right: Iterator[Item]) -> Iterator[tuple[Item | None, Item | None]]:
    """Pair two ascending streams by tag head; a tag of one side only is paired with None.

    Two tags that share their head count as two, not as one that changed.
    """
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0] < b[0]):
            yield a, None
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            yield None, b
            b = next(right, None)
        elif a[1][:16] != b[1][:16]:
            yield a, None
            yield None, b
            a, b = next(left, None), next(right, None)
        else:
            yield a, b
            a, b = next(left, None), next(right, None)


def _flags(item: Item) -> int:
    return int.from_bytes(item[1][16:18], "little")
