"""Changing very many keys in one act, by the same rules as one: a herd of like keys costs little more than one key."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from verifier.control import lifecycle, records, rows
from verifier.control.acting import Act
from verifier.control.policy import Policy, effective, inherited
from verifier.keyring.records import encode_many
from verifier.registry import changes, tombstones
from verifier.registry.facts import Key, Version
from verifier.registry.herds import Herd
from verifier.vocabulary import RevocationReason


class Drover:
    """Stores changed herds in one act, which does not change policies meanwhile.

    Args:
        act: whose transaction.
    """

    def __init__(self, act: Act) -> None:
        self._act = act
        self._inherited: dict[int, Policy] = {}

    def store(self, herd: Herd, after: Key) -> tuple[Key, list[int]]:
        """Store a herd as its first key is after a change of its versions; there are no new ones among them.

        Counts no changes: whoever calls does, with the number of versions.

        Args:
            herd: as it was read.
            after: its first key as it is to be.

        Returns:
            The first key as it was stored, and the ordinals of the versions that changed.
        """
        before = herd.key
        after = replace(after, due_at=lifecycle.due_at(after, self._max_age_s(after)))
        if after.due_at != before.due_at:
            changes.update_keys(self._act.connection, [one.key_ordinal for one in herd.members], due_at=after.due_at)
        if len(herd.members) > 1:
            return after, self._rewrite_all(herd, after)
        changed: list[int] = []
        for old, new in zip(before.versions, after.versions, strict=True):
            if different := _different(old, new):
                changed.append(new.ordinal)
                changes.update_version(self._act.connection, new.ordinal, **different)
                self._bury(new, [new.ordinal])
        records.rewrite(self._act.connection, after, before)
        return after, changed

    def _rewrite_all(self, herd: Herd, after: Key) -> list[int]:
        """Store the one version of all keys of a herd."""
        (old,), (new,) = herd.key.versions, after.versions
        names, tags, ordinals = [], [], []
        for one in herd.members:
            names.append(one.key_id)
            tags.append(one.tag)
            ordinals.append(one.version_ordinal)
        encoded = encode_many(records.record_of(after, new), names, tags, ordinals)
        changes.set_records(self._act.connection, zip(ordinals, encoded, strict=True), **_different(old, new))
        self._bury(new, ordinals)
        return ordinals

    def _bury(self, version: Version, ordinals: Iterable[int]) -> None:
        if version.reason is RevocationReason.KEY_COMPROMISE:
            tombstones.bury(self._act.connection, ordinals, self._act.now_s)

    def _max_age_s(self, key: Key) -> int | None:
        if key.client_ordinal not in self._inherited:
            self._inherited[key.client_ordinal] = inherited(self._act.connection, key.client_ordinal)
        return effective(Policy.from_text(key.policy), self._inherited[key.client_ordinal]).max_age_s


def _different(old: Version, new: Version) -> dict[str, Any]:
    known = rows.version_values(old)
    return {name: value for name, value in rows.version_values(new).items() if value != known[name]}
