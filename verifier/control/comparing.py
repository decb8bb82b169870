"""What changed between two publications, as callers feel it at one moment."""

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

from verifier._compare import Comparison
from verifier.control.progress import Progress, silent
from verifier.keyring.reader import KeyringFile
from verifier.keyring.records import Record, decode_record

REMEMBERED_MAX = 10_000
PAIRS_AT_ONCE = 4096
_NO_COUNTS = ("examples", "after_records")

Pair = tuple[bytes, bytes | None, bytes | None]

_LENGTHS = struct.Struct("<HH")
_AT_RULES, _AT_LENGTHS, _FIXED_BYTES, _RULE_BYTES = 19, 48, 52, 17


@dataclass(frozen=True, slots=True)
class Change:
    """One version whose callers notice a difference."""

    kind: str
    client_id: str
    key_id: str
    version: int


@dataclass(frozen=True, slots=True)
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
        lost_used_24h: of the lost ones, those used in the 24 hours before; only a registry knows.
        denials_kept: revocations and switches of now that a rollback did not lift.
        examples: some of these changes.
        after_records: records of the second.
    """

    before_active: int = 0
    after_active: int = 0
    dead_on_arrival: int = 0
    gained: int = 0
    lost: int = 0
    widened: int = 0
    extended: int = 0
    denied: int = 0
    lost_used_24h: int = 0
    denials_kept: int = 0
    examples: tuple[Change, ...] = ()
    after_records: int = 0

    def counts(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _NO_COUNTS}


@dataclass(frozen=True, slots=True)
class Keyrings:
    """The files of one publication: a base, and a delta if there is one."""

    base: Path
    delta: Path | None = None


def compare(
    before: Keyrings | None,
    after: Keyrings,
    now_s: int,
    *,
    examples_max: int = 0,
    progress: Progress = silent,
    lost: list[int] | None = None,
    dormant: bool = False,
) -> Difference:
    """Compare the records of two publications, in the order of their tags; 10 million take seconds.

    Args:
        before: None when there was no publication.
        after: the later publication.
        now_s: seconds since 1970 at which both are judged.
        examples_max: how many changes to name.
        progress: told ``compare``, how many tags are done, and about how many there are.
        lost: gets the ordinals of the versions that are lost.
        dormant: count as widened what is not active, too: whoever lifts its denial meets it.

    Raises:
        NotFound: a file is missing.
        UnsoundPublication: a file is damaged.
    """
    examples: list[Change] = []

    def tell(kinds: list[str], head: bytes, record: bytes) -> bool:
        told = decode_record(head, record)[1]
        examples.extend(Change(kind, told.client_id, told.key_id, told.version) for kind in kinds)
        return len(examples) < examples_max

    with ExitStack() as stack:
        old, new = (_opened(stack, side) for side in (before, after))
        total = max(sum(file.records for file in side) for side in (old, new))
        comparison = Comparison(_files(old), _switches(old), _files(new), _switches(new))
        counts = comparison.run(
            now_s,
            Widening(),
            tell if examples_max else None,
            lambda done: progress("compare", min(done, total), total),
            lost,
            dormant=dormant,
        )
    return Difference(**counts, examples=tuple(examples[:examples_max]))


def differing(before: Keyrings | None, after: Keyrings) -> Iterator[Pair]:
    """Yield what differs between two publications as (tag head, record before, record after), None for no record.

    Raises:
        NotFound: a file is missing.
        UnsoundPublication: a file is damaged.
    """
    with ExitStack() as stack:
        old, new = (_opened(stack, side) for side in (before, after))
        comparison = Comparison(_files(old), _switches(old), _files(new), _switches(new))
        while pairs := comparison.differing(PAIRS_AT_ONCE):
            yield from pairs


def _opened(stack: ExitStack, keyrings: Keyrings | None) -> list[KeyringFile]:
    paths = [path for path in (keyrings.base, keyrings.delta) if path is not None] if keyrings else []
    return [stack.enter_context(KeyringFile(path)) for path in paths]


def _files(side: list[KeyringFile]) -> list[tuple[int, int, int]]:
    return [(file.fd, file.pages, file.records) for file in side]


def _switches(side: list[KeyringFile]) -> tuple[bytes, int]:
    """Return the newest client switches of a side: those of the delta if there is one."""
    return (side[-1].switch_bytes(), side[-1].switch_count) if side else (b"", 0)


class Widening:
    """Tells whether the second of two records may do more, and remembers: a change in bulk is one change many times."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], bool] = {}

    def __call__(self, before: bytes, after: bytes) -> bool:
        pair = _powers(before), _powers(after)
        if pair[0] == pair[1]:
            return False
        if pair not in self._known:
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            head = bytes(16)  # not looked at
            self._known[pair] = is_wider(decode_record(head, before)[1], decode_record(head, after)[1])
        return self._known[pair]


def _powers(record: bytes) -> bytes:
    """Cut out what a record says of scopes, metadata and address rules."""
    l1, l2 = _LENGTHS.unpack_from(record, _AT_LENGTHS)
    end = _FIXED_BYTES + l2 + record[_AT_RULES] * _RULE_BYTES
    return record[_AT_RULES : _AT_RULES + 1] + record[_FIXED_BYTES + l1 : end]


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
        network.version == other.version and other.prefixlen <= network.prefixlen and network.network_address in other
        for other in known
    )
