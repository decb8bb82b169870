"""Taking versions into a registry that an earlier publication of it knows better: row by row, key by key.

What was published wins over what a restored registry says, but for denials: these are united. Versions that only the
registry knows stay, unless a published one has their place. Everything belongs to one transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, exists, insert, or_, select, update

from verifier.control import lifecycle, records
from verifier.control.acting import Act
from verifier.control.journal import Journal
from verifier.control.lifecycle import earliest
from verifier.control.policy import policy_of
from verifier.keyring.records import Record
from verifier.registry import bulk, changes, queries, schema
from verifier.registry.engines import is_postgres
from verifier.registry.facts import Key, Version, metadata_text, version_of

AT_ONCE = 500
CLIENTS_REMEMBERED = 100_000

_c, _k, _v = schema.clients.c, schema.keys.c, schema.versions.c

_ROW = [column for column in schema.versions.c if column.name != "record"]

_NO_WINDOW: dict[str, Any] = {"retire_at": None, "clock": None, "ceiling": None, "overlap_s": None}

Taken = tuple[bytes, bytes, Record]  # tag, record as bytes, record


@dataclass(slots=True)
class Tally:
    """How much was changed."""

    clients_added: int = 0
    keys_added: int = 0
    versions_added: int = 0
    versions_changed: int = 0
    revoked: int = 0
    switched_off: int = 0
    replaced: int = 0


class Adoption:
    """Takes records into the registry.

    Args:
        act: whose transaction; the registry's counters are beyond every ordinal of the publication.
        published_at: of the publication, seconds since 1970.
        prefix: of tokens, for keys that the registry does not know: records do not tell it.
        held: the publication is held, so that versions of a key may differ in what belongs to the key.

    Attributes:
        tally: what was done so far.
        journal: the same, for the audit log.
    """

    def __init__(self, act: Act, published_at: int, prefix: str, *, held: bool) -> None:
        self.tally = Tally()
        self._act = act
        self._connection = act.connection
        self._published_at = published_at
        self._prefix = prefix
        self._held = held
        self._numbers: dict[int, int] = {}
        self._clients: dict[str, int] = {}
        self._touched = bytearray()
        self._fresh = not self._connection.scalar(select(exists().where(_v.ordinal >= 0)))
        self.journal = Journal(founding=self._fresh)
        # Sorted once at the end, the index of tags costs a fifth: each of them goes to a random page.
        self._untagged = self._fresh and not is_postgres(self._connection)
        if self._untagged:
            schema.tag_index.drop(self._connection)
        self._policies = bool(self._connection.scalar(
            select(or_(exists().where(_c.policy.is_not(None)), exists().where(schema.registry.c.policy.is_not(None))))
        ))  # fmt: skip

    def take(self, rows: Sequence[Taken]) -> None:
        """Take some records that differ from the registry's, or that it does not have."""
        clients = self._take_clients({record.client_id: record.client_ordinal for _, _, record in rows})
        keys, new = self._take_keys([record for _, _, record in rows], clients)
        self._take_versions(rows, keys, new, clients)

    def switch_off(self, client_id: str) -> None:
        """Switch a client off that the publication has switched off."""
        client = queries.find_client(self._connection, client_id)
        if client.enabled:
            changes.update_client(self._connection, client.ordinal, enabled=False)
            self.tally.switched_off += 1
            self.journal.switched_off(client_id=client_id)

    def settle(self) -> None:
        """Give every key that was touched exactly one label, and bring its records up to date."""
        if self._untagged:
            schema.tag_index.create(self._connection)
        for ordinals in _parts(self._touched_keys(), AT_ONCE):
            for key in queries.keys_at(self._connection, ordinals):
                self._settle(key)

    # --- Clients -----------------------------------------------------------------------------------------------------

    def _take_clients(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """Return the registry's ordinals of clients, after adding those that it does not know.

        They are those that the publication has: older ones that somebody may go back to have them, too.
        """
        if len(self._clients) > CLIENTS_REMEMBERED:
            self._clients.clear()
        unknown = [client_id for client_id in wanted if client_id not in self._clients]
        for part in _parts(unknown, AT_ONCE):
            found = self._connection.execute(select(_c.client_id, _c.ordinal).where(_c.client_id.in_(part)))
            self._clients.update((client_id, ordinal) for client_id, ordinal in found)
        for client_id in unknown:
            if self._clients.get(client_id) != wanted[client_id]:
                self._clients[client_id] = self._place_client(client_id, wanted[client_id])
        return {client_id: self._clients[client_id] for client_id in wanted}

    def _place_client(self, client_id: str, ordinal: int) -> int:
        """Give a client the ordinal that it has in the publication, and whoever has that one here another."""
        present = self._clients.get(client_id)
        if not ordinal:
            ordinal = changes.reserve(self._connection, "next_client") if present is None else present
        elif self._connection.scalar(select(_c.ordinal).where(_c.ordinal == ordinal)) is not None:
            self._move_client(ordinal, changes.reserve(self._connection, "next_client"))
        if present is None:
            values = {"ordinal": ordinal, "client_id": client_id, "enabled": True, "created_at": self._published_at}
            self._connection.execute(insert(schema.clients).values(values))
            self.tally.clients_added += 1
            self.journal.client_added(client_id)
        elif present != ordinal:
            self._move_client(present, ordinal)
        return ordinal

    def _move_client(self, old: int, new: int) -> None:
        """Give a client another ordinal: it was made while the registry did not know who has this one."""
        client_id = changes.move_client(self._connection, old, new)
        if client_id in self._clients:
            self._clients[client_id] = new
        for key_ordinal in self._connection.scalars(select(_k.ordinal).where(_k.client_ordinal == new)):
            self._touch(key_ordinal)

    # --- Keys --------------------------------------------------------------------------------------------------------

    def _take_keys(
        self, found: Sequence[Record], clients: Mapping[str, int]
    ) -> tuple[dict[str, int], set[str]]:
        """Return the ordinals of the keys, and the ids of those that were added."""
        newest: dict[str, Record] = {}
        for record in found:
            if record.key_id not in newest or record.version > newest[record.key_id].version:
                newest[record.key_id] = record
        known = {row.key_id: row for row in self._known_keys(newest)}
        new = [record for key_id, record in newest.items() if key_id not in known]
        ordinals = {key_id: int(row.ordinal) for key_id, row in known.items()}
        ordinals |= self._add_keys(new, clients)
        for key_id, row in known.items():
            self._update_key(row, newest[key_id], clients)
        for record in found:  # a denial counts, whichever version tells of it
            if record.key_off and newest[record.key_id] is not record:
                changes.update_key(self._connection, ordinals[record.key_id], enabled=False)
        return ordinals, {record.key_id for record in new}

    def _known_keys(self, key_ids: Iterable[str]) -> Iterator[Any]:
        for part in _parts(key_ids, AT_ONCE):
            yield from self._connection.execute(select(schema.keys).where(_k.key_id.in_(part)))

    def _add_keys(self, new: Sequence[Record], clients: Mapping[str, int]) -> dict[str, int]:
        if not new:
            return {}
        first = changes.reserve(self._connection, "next_key", len(new))
        bulk.insert_keys(self._connection, [
            (first + at, record.key_id, clients[record.client_id], not record.key_off, self._published_at,
             record.key_end, " ".join(record.scopes), " ".join(record.rules), metadata_text(record.metadata),
             self._prefix, None, None)
            for at, record in enumerate(new)
        ])  # fmt: skip
        self.tally.keys_added += len(new)
        for at, record in enumerate(new):
            self._remember_number(first + at, record.version)
        return {record.key_id: first + at for at, record in enumerate(new)}

    def _update_key(self, row: Any, record: Record, clients: Mapping[str, int]) -> None:
        values = _key_facts(record, clients) if self._remember_number(row.ordinal, record.version) else {}
        values = {name: value for name, value in values.items() if getattr(row, name) != value}
        if record.key_off and row.enabled:
            values["enabled"] = False
            self.tally.switched_off += 1
            self.journal.switched_off(key_id=row.key_id)
        if values:
            changes.update_key(self._connection, row.ordinal, **values)
            self._touch(row.ordinal)

    def _remember_number(self, key_ordinal: int, number: int) -> bool:
        """Tell whether a version decides of its key: in a held publication the greatest, else any of them."""
        if not self._held:
            return True
        decides = number >= self._numbers.get(key_ordinal, 0)
        if decides:
            self._numbers[key_ordinal] = number
        return decides

    # --- Versions ----------------------------------------------------------------------------------------------------

    def _take_versions(
        self, rows: Sequence[Taken], keys: Mapping[str, int], new: set[str], clients: Mapping[str, int]
    ) -> None:
        # Nothing was there before: what is there now was published, and no two of that have anything in common.
        there = _Present(self._connection, [] if self._fresh else rows, keys, new)
        plain: list[tuple[Any, ...]] = []
        added: list[dict[str, Any]] = []
        for tag, stored, record in rows:
            place = keys[record.key_id], record.version
            same = there.by_tag.get(tag)
            if same is not None and same.place == place:
                self._change(same.version, record)
                self._touch(place[0])
                continue
            for other in (same, there.by_place.get(place)):
                if other is not None:
                    self._drop(other, there)
            occupant = there.by_ordinal.get(record.version_ordinal)
            if occupant is not None:
                self._move(occupant, there)
            version = _version_of(tag, record, self._published_at, self._act.now_s, self._held)
            if version.superseded_at is None and version.revoked_at is None:
                plain.append((version.ordinal, tag, stored, *place, version.issued_at, version.not_before,
                              version.expires_at, None))  # fmt: skip
            else:
                facts = {name: getattr(version, name) for name in Version.__slots__}
                added.append({**facts, "key_ordinal": place[0], "record": stored})
            # A lone version whose client keeps its ordinal: its record stays as it was published, byte for byte.
            alone = record.version == 1 and record.superseded_at is None and not record.watch
            unchanged = clients[record.client_id] == record.client_ordinal and version.expires_at == record.own_end
            if not (alone and unchanged and record.key_id in new) or self._policies:
                self._touch(place[0])
            self.journal.version_added(record.key_id, record.version, version.ordinal, version.reason)
        bulk.insert_versions(self._connection, plain)
        if added:
            self._connection.execute(insert(schema.versions), added)
        self.tally.versions_added += len(plain) + len(added)

    def _change(self, before: Version, record: Record) -> None:
        after = _adopted(before, record, self._act.now_s, self._held)
        if before.revoked_at is None and after.reason is not None:
            self.tally.revoked += 1
            self.journal.revoked(record.key_id, record.version, before.ordinal, after.reason)
        facts = ((name, getattr(after, name)) for name in Version.__slots__)
        values = {name: value for name, value in facts if value != getattr(before, name)}
        if values:
            changes.update_version(self._connection, before.ordinal, **values)
            self.tally.versions_changed += 1

    def _drop(self, found: "_Found", there: "_Present") -> None:
        """Remove a version that a published one takes the place of: its token never reached a node."""
        key_ordinal, number = found.place
        self._connection.execute(delete(schema.versions).where(_v.ordinal == found.version.ordinal))
        there.forget(found)
        self._touch(key_ordinal)
        self.tally.replaced += 1
        key_id = self._connection.scalar(select(_k.key_id).where(_k.ordinal == key_ordinal))
        self.journal.replaced(key_id, number)

    def _move(self, found: "_Found", there: "_Present") -> None:
        """Give a version that was never published another ordinal: its own is that of a published one."""
        old, new = found.version.ordinal, changes.reserve(self._connection, "next_version")
        self._connection.execute(update(schema.versions).where(_v.ordinal == old).values(ordinal=new))
        there.forget(found)
        there.remember(_Found(found.place[0], replace(found.version, ordinal=new)))
        self._touch(found.place[0])

    # --- The end -----------------------------------------------------------------------------------------------------

    def _settle(self, key: Key) -> None:
        if not key.versions:
            self._connection.execute(delete(schema.keys).where(_k.ordinal == key.ordinal))
            return
        settled = labelled(key, self._act.now_s)
        settled = replace(settled, due_at=lifecycle.due_at(settled, policy_of(self._connection, settled).max_age_s))
        for before, after in zip(key.versions, settled.versions, strict=True):
            if before != after:
                changes.update_version(
                    self._connection, after.ordinal, superseded_at=after.superseded_at,
                    superseded_by=after.superseded_by, retire_at=after.retire_at, clock=after.clock,
                    ceiling=after.ceiling, overlap_s=after.overlap_s,
                )  # fmt: skip
        if key.due_at != settled.due_at:
            changes.update_key(self._connection, key.ordinal, due_at=settled.due_at)
        records.rewrite(self._connection, settled)

    def _touch(self, key_ordinal: int) -> None:
        at = key_ordinal >> 3
        if at >= len(self._touched):
            self._touched.extend(bytes(at + 1024 - len(self._touched)))
        self._touched[at] |= 1 << (key_ordinal & 7)

    def _touched_keys(self) -> Iterator[int]:
        for at, bits in enumerate(self._touched):
            if bits:
                yield from (8 * at + bit for bit in range(8) if bits >> bit & 1)


class _Found(NamedTuple):
    """A version of the registry."""

    key_ordinal: int
    version: Version

    @property
    def place(self) -> tuple[int, int]:
        return self.key_ordinal, self.version.number


class _Present:
    """The registry's versions that have something in common with published ones."""

    def __init__(
        self, connection: Connection, rows: Sequence[Taken], keys: Mapping[str, int], new: set[str]
    ) -> None:
        self.by_tag: dict[bytes, _Found] = {}
        self.by_place: dict[tuple[int, int], _Found] = {}
        self.by_ordinal: dict[int, _Found] = {}
        self._connection = connection
        self._find(_v.tag, [tag for tag, _, _ in rows])
        self._find(_v.ordinal, [record.version_ordinal for _, _, record in rows])
        self._find(_v.key_ordinal, sorted({keys[record.key_id] for _, _, record in rows if record.key_id not in new}))

    def remember(self, found: _Found) -> None:
        self.by_tag[found.version.tag] = found
        self.by_place[found.place] = found
        self.by_ordinal[found.version.ordinal] = found

    def forget(self, found: _Found) -> None:
        self.by_tag.pop(found.version.tag, None)
        self.by_place.pop(found.place, None)
        self.by_ordinal.pop(found.version.ordinal, None)

    def _find(self, column: Any, wanted: Sequence[Any]) -> None:
        for part in _parts(wanted, AT_ONCE):
            for row in self._connection.execute(select(*_ROW).where(column.in_(part))).mappings():
                values = dict(row)
                self.remember(_Found(values.pop("key_ordinal"), version_of(values)))


def labelled(key: Key, now_s: int) -> Key:
    """Return the key with exactly one label: of the versions that are not superseded the live one of greatest number.

    Other such versions stay valid as long as they were, as predecessors of the label. Every supersession names a
    version that is there.
    """
    numbers = {version.number for version in key.versions}
    unsuperseded = [version for version in key.versions if version.superseded_at is None]
    label = max(unsuperseded or key.versions, key=lambda version: (version.revoked_at is None, version.number))
    return replace(key, versions=tuple(_under(version, label, numbers, now_s) for version in key.versions))


def _under(version: Version, label: Version, numbers: set[int], now_s: int) -> Version:
    """Return the version as it is beside the label of its key."""
    if version.number == label.number:
        return replace(version, superseded_at=None, superseded_by=0, **_NO_WINDOW) if version.superseded_at else version
    if version.superseded_at is None:
        moment = label.not_before or now_s
        return replace(version, superseded_at=moment, superseded_by=label.number, **{**_NO_WINDOW, "clock": "manual"})
    if version.superseded_by not in numbers or version.superseded_by == version.number:
        return replace(version, superseded_by=label.number)
    return version


def _adopted(version: Version, record: Record, now_s: int, held: bool) -> Version:
    """Return a version of the registry as it was published, with the denials of both."""
    window = _window(record, held)
    if version.superseded_at == record.superseded_at and version.superseded_by == record.superseded_by:
        if version.retire_at == window["retire_at"]:
            window = {"not_before": record.not_before, "expires_at": window["expires_at"]}
        else:
            window |= {"clock": version.clock, "ceiling": version.ceiling, "overlap_s": version.overlap_s}
    version = replace(version, **window)
    if not record.revoked:
        return version
    known = version.reason is not None and version.revoked_at is not None
    stronger = known and lifecycle.strength(version.reason) > lifecycle.strength(record.reason)
    return replace(
        version,
        revoked_at=version.revoked_at if version.revoked_at is not None else now_s,
        reason=version.reason if stronger else record.reason,
    )


def _version_of(tag: bytes, record: Record, published_at: int, now_s: int, held: bool) -> Version:
    """Return a version that only the publication knows."""
    return Version(
        ordinal=record.version_ordinal, number=record.version, tag=tag, issued_at=published_at,
        revoked_at=now_s if record.revoked else None, reason=record.reason if record.revoked else None,
        **_window(record, held),
    )  # fmt: skip


def _window(record: Record, held: bool) -> dict[str, Any]:
    """Split the one end that a record tells into what led to it.

    In a held publication versions of a key may tell different ends of the key, of which it gets one: then each keeps
    the end of the key, as its own.
    """
    end, natural = record.expires_at, earliest(record.own_end, record.key_end)
    own = natural if held else record.own_end
    early = end is not None and (natural is None or end < natural)
    superseded = record.superseded_at is not None
    return {
        "not_before": record.not_before,
        "expires_at": end if early and not superseded else own,
        "superseded_at": record.superseded_at,
        "superseded_by": record.superseded_by,
        "retire_at": end if early and superseded else None,
        "clock": ("fixed" if early else "manual") if superseded else None,
        "ceiling": None,
        "overlap_s": None,
    }


def _key_facts(record: Record, clients: Mapping[str, int]) -> dict[str, Any]:
    return {
        "client_ordinal": clients[record.client_id], "expires_at": record.key_end, "scopes": " ".join(record.scopes),
        "rules": " ".join(record.rules), "metadata": metadata_text(record.metadata),
    }  # fmt: skip


def _parts(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
