"""What the clock does to a key, and when: pure rules over plain data. Times are seconds since 1970."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from verifier.control.lifecycle import effective_end
from verifier.control.policy import ON_FIRST_USE
from verifier.registry.facts import Key, Version

ACTIVATED = "version.activated"
RETIRING = "version.retiring"
RETIRED = "version.retired"
EXPIRED = "version.expired"
KEY_EXPIRED = "key.expired"
WITHOUT_CURRENT = "key.without_current"
NOTICE = "rotation.notice"

OVERLAP, VERSION, KEY = "overlap", "version", "key"  # whose end a notice is of


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing that happens to a key at a second by the clock alone.

    Attributes:
        at_s: when.
        kind: of the event.
        version: it happens to; None if to the key.
        details: of the event.
    """

    at_s: int
    kind: str
    version: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


def moments_of(key: Key, notices_s: Iterable[int], after_s: int, until_s: int) -> list[Moment]:
    """Return what happens to a key in ``(after_s, until_s]``, in order.

    What a revocation or an earlier end forestalled does not happen. Of ends at the same second the key's tells, then
    the version's own. A notice is given only if what ends had begun by then.

    Args:
        key: with all its versions.
        notices_s: how long before an end to remind.
    """
    notices = tuple(notices_s)
    every = [*_of_key(key, notices)]
    for version in key.versions:
        every += _of_version(key, version, notices)
    within = [moment for moment in every if after_s < moment.at_s <= until_s]
    return sorted(within, key=lambda moment: (moment.at_s, moment.version or 0))


def _of_key(key: Key, notices_s: tuple[int, ...]) -> Iterator[Moment]:
    if key.expires_at is None:
        return
    yield Moment(key.expires_at, KEY_EXPIRED)
    yield from _notices(key.expires_at, key.created_at, notices_s, None, {"of": KEY})


def _of_version(key: Key, version: Version, notices_s: tuple[int, ...]) -> Iterator[Moment]:
    end = effective_end(key, version)
    begun = version.issued_at if version.not_before is None else version.not_before
    dates = _kinds(key, version, begun, end, notices_s)
    # Of a revoked version only what came before; at its very second the revocation is told, by whoever did it.
    yield from (date for date in dates if version.revoked_at is None or date.at_s < version.revoked_at)


def _kinds(
    key: Key, version: Version, begun: int, end: int | None, notices_s: tuple[int, ...]
) -> Iterator[Moment]:
    number, superseded_at = version.number, version.superseded_at
    if version.not_before is not None and (end is None or begun < end):
        yield Moment(begun, ACTIVATED, number)
    if superseded_at is not None and (end is None or superseded_at < end):
        yield Moment(superseded_at, RETIRING, number,
                     {"superseded_by": version.superseded_by, "ends_at": end, "clock": version.clock})
    if end is None or end == key.expires_at:
        return
    if end == version.expires_at:
        yield Moment(end, EXPIRED, number)
        if superseded_at is None:
            yield Moment(end, WITHOUT_CURRENT, number)
        yield from _notices(end, begun, notices_s, number, {"of": VERSION})
    elif superseded_at is not None:
        yield Moment(end, RETIRED, number, {"superseded_by": version.superseded_by})
        awaited = version.clock == ON_FIRST_USE and version.retire_at == version.ceiling
        of = {"of": OVERLAP, "successor_unused": True} if awaited else {"of": OVERLAP}
        yield from _notices(end, superseded_at, notices_s, number, of)


def _notices(
    end: int, begun: int, notices_s: tuple[int, ...], number: int | None, of: dict[str, Any]
) -> Iterator[Moment]:
    for notice_s in notices_s:
        if notice_s and end - notice_s >= begun:
            yield Moment(end - notice_s, NOTICE, number, {**of, "ends_at": end, "left_s": notice_s})
