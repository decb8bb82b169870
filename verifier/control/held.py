"""What is served while the store is held after a rollback: the content of R, with the denials of now.

The rule, for each version of the registry: one that R has keeps what R says of it, but is revoked or switched off if it
is so now, and ends no later than its own end and its key's are now. One that R lacks, issued since, is served as the
registry has it, or refused if the rollback was to drop newer ones. All that this needs stands in two records of the
version: that of R and that of now.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from verifier._tagset import relayered
from verifier.control.building import HEAD_BYTES
from verifier.control.lifecycle import earliest
from verifier.keyring.records import KEY_OFF, REVOKED, decode_record, encode_absent, encode_record
from verifier.vocabulary import RevocationReason

_DENIALS = REVOKED | KEY_OFF
_HEADER = struct.Struct("<16xHB5xI4xII")  # flags, reason, end, own end, key's end; no time is the greatest number

Pair = tuple[bytes, bytes | None, bytes | None]
Find = Callable[[bytes], bytes | None]


@dataclass(slots=True)
class Kept:
    """Denials of now that a rollback does not lift, as they are found.

    Attributes:
        revoked: versions.
        keys_off: keys, by their ids.
        clients_off: clients.
    """

    revoked: int = 0
    keys_off: set[str] = field(default_factory=set)
    clients_off: int = 0

    def take(self, head: bytes, then: bytes, now: bytes) -> None:
        """Compare a version's record of then with that of now."""
        added = _HEADER.unpack_from(now)[0] & ~_HEADER.unpack_from(then)[0]
        self.revoked += bool(added & REVOKED)
        if added & KEY_OFF:
            self.keys_off.add(decode_record(head, now)[1].key_id)

    @property
    def count(self) -> int:
        """How many."""
        return self.revoked + len(self.keys_off) + self.clients_off


def held_record(head: bytes, then: bytes | None, now: bytes | None, *, drop_newer: bool = False) -> bytes | None:
    """Return the record that is served of one version while the store is held.

    Args:
        head: of its tag.
        then: its record in the content that is held; None if it is not there.
        now: its record in the registry; None if the registry has it no longer.
        drop_newer: refuse a version that was issued since.

    Returns:
        None when it is not served at all.
    """
    if now is None:
        return None
    if then is None:
        return _refused(head, now) if drop_newer else now
    return _denied(head, then, now)


def held_rows(
    pairs: Iterable[Pair], base: Find, *, drop_newer: bool, kept: Kept | None = None
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield what a delta says of the versions whose records of then and now differ.

    Args:
        pairs: (tag head, record in the content that is held, record in the registry).
        base: finds a record in the base that the delta is for.
        drop_newer: as for :func:`held_record`.
        kept: counts the denials that a rollback keeps.

    Yields:
        Tag head and record; None instead of a record that the base has already, or when neither has one.
    """
    for head, then, now in pairs:
        if kept is not None and then is not None and now is not None:
            kept.take(head, then, now)
        served, there = held_record(head, then, now, drop_newer=drop_newer), base(head)
        if served is None and there is not None:
            yield head, encode_absent(head + there[:HEAD_BYTES])
        else:
            yield head, None if served == there else served


def overlaid(rows: dict[bytes, bytes], changes: Iterable[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    """Put what :func:`held_rows` yields over the rows of a delta."""
    for head, record in changes:
        if record is None:
            rows.pop(head, None)
        else:
            rows[head] = record
    return rows


def rekeyed(rows: Iterable[tuple[bytes, bytes]], peppers: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield rows of (tag head, record) as (tag, record), put under further layers of peppers.

    Args:
        rows: under the layers that they have.
        peppers: the layers that are to be added, in their order.
    """
    layers = list(peppers)
    for head, record in rows:
        tag = relayered(head + record[:HEAD_BYTES], layers)
        yield tag, tag[HEAD_BYTES:] + record[HEAD_BYTES:]


def _denied(head: bytes, then: bytes, now: bytes) -> bytes:
    """Return the record of then with the denials and the own ends of now."""
    flags_then, reason_then, end, own_then, key_then = _HEADER.unpack_from(then)
    flags_now, reason_now, _, own_now, key_now = _HEADER.unpack_from(now)
    same_denials = (flags_then & _DENIALS, reason_then) == (flags_now & _DENIALS, reason_now)
    if same_denials and own_now >= own_then and key_now >= key_then and min(own_now, key_now) >= end:
        return then
    tag, record = decode_record(head, then)
    present = decode_record(head, now)[1]
    return encode_record(
        replace(
            record,
            revoked=present.revoked,
            reason=present.reason,
            key_off=present.key_off,
            own_end=earliest(record.own_end, present.own_end),
            key_end=earliest(record.key_end, present.key_end),
            expires_at=earliest(record.expires_at, present.own_end, present.key_end),
        ),
        tag,
    )


def _refused(head: bytes, now: bytes) -> bytes:
    """Return the record of a version, revoked; one that is revoked already keeps its reason."""
    if _HEADER.unpack_from(now)[0] & REVOKED:
        return now
    tag, record = decode_record(head, now)
    return encode_record(replace(record, revoked=True, reason=RevocationReason.UNSPECIFIED), tag)
