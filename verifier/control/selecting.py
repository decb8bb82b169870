"""Choosing the versions of a revocation: by name, client, prefix, token or time of issue."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, and_, exists, select, true

from verifier._tag import Tagger
from verifier.control.lifecycle import is_live, may_come_back
from verifier.errors import InvalidInput
from verifier.registry import changes, queries, schema
from verifier.registry.facts import Key, Version
from verifier.registry.herds import Herd, herds

ALL_LIVE = 0

Picks = Callable[[Key, Version], bool]


def _is_revoked(key: Key, version: Version, now_s: int) -> bool:
    return version.revoked_at is not None


@dataclass(frozen=True, slots=True)
class Selection:
    """Versions that any of the lists names, narrowed by the times. With no list, the times alone choose.

    Args:
        versions: of keys, as (key id, number); 0 means all live ones.
        client_ids: all live versions of these clients.
        prefixes: all live versions of keys with these token prefixes.
        token_sha256s: versions with these tokens, 32 bytes each, live or not.
        created_before: only versions issued before this second.
        created_after: only versions issued at this second or later.
        peppers: the secrets, in the order of the registry's pepper ids; tokens need them.
    """

    versions: Sequence[tuple[str, int]] = ()
    client_ids: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    token_sha256s: Sequence[bytes] = ()
    created_before: int | None = None
    created_after: int | None = None
    peppers: Sequence[bytes] = field(default=(), repr=False)

    @property
    def is_bounded(self) -> bool:
        """Whether it names anything but times."""
        return bool(self.versions or self.client_ids or self.prefixes or self.token_sha256s)


@dataclass(slots=True)
class Chosen:
    """A herd, and the numbers of those of its versions that were chosen."""

    herd: Herd
    numbers: list[int]


class Choice:
    """What a selection chooses in a registry at a second.

    Args:
        connection: any transaction.
        selection: what to choose.
        now_s: decides what is live.
        for_good: take what could come back for what is live, too: versions whose overlap is over, or that are revoked
            for less than key_compromise.
        revoked: take those that are revoked for what is live, instead.

    Raises:
        InvalidInput: the selection names nothing at all (``EMPTY_SELECTION``), or a digest is not 32 bytes.
    """

    def __init__(
        self, connection: Connection, selection: Selection, now_s: int, *, for_good: bool = False,
        revoked: bool = False,
    ) -> None:  # fmt: skip
        if not selection.is_bounded and selection.created_before is None and selection.created_after is None:
            raise InvalidInput("nothing was selected", code="EMPTY_SELECTION")
        if any(len(digest) != 32 for digest in selection.token_sha256s):
            raise InvalidInput("a SHA-256 has 32 bytes", code="BAD_DIGEST")
        self._connection = connection
        self._selection = selection
        self._now_s = now_s
        self._counts_as_live = _is_revoked if revoked else may_come_back if for_good else is_live
        self._named: dict[str, set[int]] = {}
        for key_id, number in selection.versions:
            self._named.setdefault(key_id, set()).add(number)
        self._tags = self._tags_of(selection)
        self._clients = self._clients_of(selection.client_ids)
        self.unmatched = len(set(selection.client_ids)) - len(self._clients)

    def __iter__(self) -> Iterator[Chosen]:
        """Yield what is chosen, every version once; ``unmatched`` is true afterwards."""
        keys = schema.keys.c
        singled_out = self._singled_out()
        for part in queries.parts(sorted(singled_out)):
            yield from self._chosen(keys.ordinal.in_(part), self._picks_one, alone=True)
        rest = self._outside(singled_out)
        for ordinal in self._clients:
            yield from self._chosen(keys.client_ordinal == ordinal, rest)
        elsewhere = keys.client_ordinal.not_in(self._clients) if self._clients else true()
        if self._selection.prefixes:
            yield from self._chosen(and_(elsewhere, keys.prefix.in_(self._selection.prefixes)), rest)
            self.unmatched += self._missing_prefixes()
        if not self._selection.is_bounded:
            yield from self._chosen(self._issued_in_time(), rest)

    def _chosen(self, condition: ColumnElement[bool], picks: Picks, *, alone: bool = False) -> Iterator[Chosen]:
        for herd in herds(self._connection, condition, alone=alone):
            numbers = [
                v.number for v in herd.key.versions if self._is_in_time(v) and picks(herd.key, v)
            ]  # fmt: skip
            if numbers:
                yield Chosen(herd, numbers)

    def _is_in_time(self, version: Version) -> bool:
        before, after = self._selection.created_before, self._selection.created_after
        return (before is None or version.issued_at < before) and (after is None or version.issued_at >= after)

    def _picks_live(self, key: Key, version: Version) -> bool:
        return self._counts_as_live(key, version, self._now_s)

    def _picks_one(self, key: Key, version: Version) -> bool:
        """Judge a version of a key that was singled out, by name or token, or besides by client or prefix."""
        numbers = self._named.get(key.key_id, set())
        if version.number in numbers or version.tag in self._tags:
            return True
        wide = ALL_LIVE in numbers or key.client_ordinal in self._clients or key.prefix in self._selection.prefixes
        return wide and self._picks_live(key, version)

    def _outside(self, singled_out: Mapping[int, str]) -> Picks:
        """Return what picks live versions of keys that were not singled out: those had their turn."""
        if not singled_out:
            return self._picks_live
        names = set(singled_out.values())
        return lambda key, version: key.key_id not in names and self._picks_live(key, version)

    def _singled_out(self) -> dict[int, str]:
        """Return ordinal and id of the keys that are named, or that a token is of; count what is neither."""
        keys, versions = schema.keys.c, schema.versions.c
        found: dict[int, str] = {}
        numbers: dict[str, set[int]] = {}
        query = select(keys.ordinal, keys.key_id, versions.number).join(schema.versions)
        for part in queries.parts(self._named):
            for ordinal, key_id, number in self._connection.execute(query.where(keys.key_id.in_(part))):
                found[ordinal] = key_id
                numbers.setdefault(key_id, {ALL_LIVE}).add(number)
        self.unmatched += sum(len(asked - numbers.get(key_id, set())) for key_id, asked in self._named.items())
        present = changes.existing_tags(self._connection, self._tags)
        self.unmatched += len(self._tags) - len(present)
        for part in queries.parts(present.values()):
            rows = self._connection.execute(query.where(versions.ordinal.in_(part)))
            found.update((ordinal, key_id) for ordinal, key_id, _ in rows)
        return found

    def _tags_of(self, selection: Selection) -> set[bytes]:
        if not selection.token_sha256s:
            return set()
        tagger = Tagger(selection.peppers)
        return {tagger.tag_of_digest(digest) for digest in selection.token_sha256s}

    def _clients_of(self, client_ids: Iterable[str]) -> list[int]:
        table = schema.clients.c
        found: set[int] = set()
        for part in queries.parts(set(client_ids)):
            found.update(self._connection.scalars(select(table.ordinal).where(table.client_id.in_(part))))
        return sorted(found)

    def _missing_prefixes(self) -> int:
        known = {prefix for prefix, _ in queries.prefix_modes(self._connection)}
        return len(set(self._selection.prefixes) - known)

    def _issued_in_time(self) -> ColumnElement[bool]:
        versions, selection = schema.versions.c, self._selection
        bounds = [versions.key_ordinal == schema.keys.c.ordinal]
        if selection.created_before is not None:
            bounds.append(versions.issued_at < selection.created_before)
        if selection.created_after is not None:
            bounds.append(versions.issued_at >= selection.created_after)
        return exists().where(*bounds)
