"""Changing very many keys in one act, by the same rules as one: a herd of like keys costs little more than one key."""

from collections.abc import Iterator
from dataclasses import replace

from verifier.control import lifecycle, records, rows
from verifier.control.acting import Act
from verifier.control.policy import Policy, effective, inherited
from verifier.keyring.records import encode_many
from verifier.registry import changes, tombstones
from verifier.registry.facts import Key, Version
from verifier.registry.herds import Herd
from verifier.store.tombstones import Tombstone
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
        """Store a herd as its first key is after a change of its versions' columns; new versions are not for herds.

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
        changed: list[int] = []
        for old, new in zip(before.versions, after.versions, strict=True):
            known, values = rows.version_values(old), rows.version_values(new)
            different = {name: value for name, value in values.items() if value != known[name]}
            if different:
                ordinals = _ordinals(herd, new)
                changed += ordinals
                changes.update_versions(self._act.connection, ordinals, **different)
                self._bury(herd, new)
        self._rewrite(herd, after)
        return after, changed

    def _rewrite(self, herd: Herd, after: Key) -> None:
        if len(herd.members) == 1:
            records.rewrite(self._act.connection, after, herd.key)
            return
        names, tags, ordinals = [], [], []
        for one in herd.members:
            names.append(one.key_id)
            tags.append(one.tag)
            ordinals.append(one.version_ordinal)
        encoded = encode_many(records.record_of(after, after.versions[0]), names, tags, ordinals)
        changes.set_records(self._act.connection, zip(ordinals, encoded, strict=True))

    def _bury(self, herd: Herd, version: Version) -> None:
        if version.reason is RevocationReason.KEY_COMPROMISE:
            tombstones.add(self._act.connection, _tombs(herd, version, self._act.now_s))

    def _max_age_s(self, key: Key) -> int | None:
        if key.client_ordinal not in self._inherited:
            self._inherited[key.client_ordinal] = inherited(self._act.connection, key.client_ordinal)
        return effective(Policy.from_text(key.policy), self._inherited[key.client_ordinal]).max_age_s


def _ordinals(herd: Herd, version: Version) -> list[int]:
    """Return the ordinals of a version in all keys of the herd."""
    return [version.ordinal] if len(herd.members) == 1 else [one.version_ordinal for one in herd.members]


def _tombs(herd: Herd, version: Version, now_s: int) -> Iterator[Tombstone]:
    if len(herd.members) == 1:
        yield Tombstone(version.tag, herd.key.key_id, version.number, now_s)
        return
    for one in herd.members:
        yield Tombstone(one.tag, one.key_id, version.number, now_s)
