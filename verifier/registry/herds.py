"""Very many keys at once: those that differ in their names only are read, judged and encoded as one.

A million keys of one client were mostly issued together, on the same terms. Where each has one version, a *herd* holds
the first of them as a :class:`Key`, and of the others only what they do not share. A key with several versions, or like
no other, is a herd of its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from verifier.registry import schema
from verifier.registry.facts import Key, key_of, version_of

PAGE = 2_000

_k, _v = schema.keys.c, schema.versions.c
_OWN = (_k.ordinal, _k.key_id, _v.ordinal, _v.tag, _v.first_used_at, _v.last_used_at)
_KEY = [column for column in _k if column.name not in ("ordinal", "key_id")]
_VERSION = [column for column in _v if column not in {*_OWN, _v.record, _v.key_ordinal}]
_KEY_NAMES = [*(column.name for column in _KEY), "client_id"]
_VERSION_NAMES = [column.name for column in _VERSION]


class Member(NamedTuple):
    """What a key with one version shares with no other."""

    key_ordinal: int
    key_id: str
    version_ordinal: int
    tag: bytes
    first_used_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class Herd:
    """Keys that are alike but for their members' fields; those of ``key`` are the first member's."""

    key: Key
    members: list[Member]

    def keys(self, like: Key | None = None) -> Iterator[Key]:
        """Yield the keys one by one.

        Args:
            like: the first one after a change that all of them underwent; None for the keys as they were read.
        """
        key = self.key if like is None else like
        if len(self.members) == 1:
            yield key
            return
        for one in self.members:
            label = replace(
                key.versions[0], ordinal=one.version_ordinal, tag=one.tag, first_used_at=one.first_used_at,
                last_used_at=one.last_used_at,
            )  # fmt: skip
            yield replace(key, ordinal=one.key_ordinal, key_id=one.key_id, versions=(label,))


def herds(connection: Connection, condition: ColumnElement[bool], *, alone: bool = False) -> Iterator[Herd]:
    """Yield all keys that a condition on ``keys`` names, a page at a time; the registry may be written meanwhile.

    Args:
        condition: on columns of ``keys``.
        alone: every key is a herd of its own.
    """
    after = -1
    while True:
        page = (
            select(_k.ordinal).where(condition, _k.ordinal > after).order_by(_k.ordinal).limit(PAGE).subquery("page")
        )  # fmt: skip
        query = (
            select(*_OWN, *_KEY, schema.clients.c.client_id, *_VERSION)
            .select_from(page)
            .join(schema.keys, _k.ordinal == page.c.ordinal)
            .join(schema.clients)
            .join(schema.versions)
            .order_by(_k.ordinal, _v.number)
        )
        rows = connection.execute(query).all()
        if not rows:
            return
        yield from _sorted_out(rows, alone)
        after = rows[-1][0]


def _sorted_out(rows: Iterable[Any], alone: bool) -> Iterator[Herd]:
    alike: dict[tuple[Any, ...], list[Member]] = {}
    for _, group in groupby(rows, key=itemgetter(0)):
        of_one = [tuple(row) for row in group]
        if len(of_one) > 1 or alone:
            yield Herd(_key(of_one), [Member(*of_one[-1][: len(_OWN)])])
        else:
            (row,) = of_one
            alike.setdefault(row[len(_OWN) :], []).append(Member(*row[: len(_OWN)]))
    for shared, members in alike.items():
        yield Herd(_key([(*members[0], *shared)]), members)


def _key(rows: list[tuple[Any, ...]]) -> Key:
    own, shared = rows[0][: len(_OWN)], rows[0][len(_OWN) :]
    fields = dict(zip(_KEY_NAMES, shared, strict=False))
    return key_of({**fields, "ordinal": own[0], "key_id": own[1]}, tuple(_version(row) for row in rows))


def _version(row: tuple[Any, ...]) -> Any:
    own = Member(*row[: len(_OWN)])
    fields = dict(zip(_VERSION_NAMES, row[len(_OWN) + len(_KEY_NAMES) :], strict=True))
    return version_of({
        **fields, "ordinal": own.version_ordinal, "tag": own.tag, "first_used_at": own.first_used_at,
        "last_used_at": own.last_used_at,
    })  # fmt: skip
