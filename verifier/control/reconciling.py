"""Reconciling: a registry that is older than the store learns what was published since.

After a database was restored from a backup, or lost, the newest publication knows what the registry does not: keys
issued and denials made in between. Every record of it holds all that the registry needs, but for the token, which
nobody needs. So the registry takes them in, and every token is answered as before.

What no publication holds is lost with the database: the audit log, usage, policies, names of clients, who may use the
operators' API, and the settings of rotations under way (of a window, its end is kept).
"""

import secrets as randomness
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice

import xxhash
from sqlalchemy import func, select, update

from verifier.control import journal, published, rekeying, tombstoning
from verifier.control.acting import Act, Actor, acting
from verifier.control.adopting import Adoption
from verifier.control.building import bits_of
from verifier.control.progress import Progress, silent
from verifier.control.published import Published
from verifier.errors import Conflict, NotFound
from verifier.keyring.records import HEAD_BYTES, decode_record
from verifier.registry import bases, changes, intents, queries, schema
from verifier.registry.database import Registry, create_registry, open_registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, digest_of
from verifier.store.secrets import Secrets
from verifier.store.tombstones import Tombstone, read_set
from verifier.store.writer import Publisher
from verifier.tokens import DEFAULT_PREFIX

AT_ONCE = 2_000
_AT_VERSION, _AT_CLIENT = 40, 44


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was done.

    Attributes:
        revision: of the publication that the registry knows now.
        behind: whether the registry was behind it; if not, nothing was done.
        founded: a new registry was founded.
        clients_added: clients that it did not know.
        keys_added: keys.
        versions_added: versions.
        versions_changed: versions that it knew otherwise.
        revoked: versions of those that are revoked now.
        switched_off: clients and keys that are switched off now.
        replaced: versions that were never published, and whose place a published one has now.
        tombstones_added: tombstones.
        hold_cleared: it was held after a rollback, or the publication is: it is not any more.
        audit_id: of the entry that tells of it; None if nothing was done.
    """

    revision: int
    behind: bool = True
    founded: bool = False
    clients_added: int = 0
    keys_added: int = 0
    versions_added: int = 0
    versions_changed: int = 0
    revoked: int = 0
    switched_off: int = 0
    replaced: int = 0
    tombstones_added: int = 0
    hold_cleared: bool = False
    audit_id: str | None = None


def reconcile(
    home: Home,
    *,
    registry: Registry | None = None,
    actor: Actor | None = None,
    now_s: int | None = None,
    progress: Progress = silent,
) -> Reconciled:
    """Teach the registry what the newest publication of its store says; without a registry, found one.

    Denials of both are kept; of all else, what was published counts. The next publication builds a new base.

    Args:
        home: the ``--store`` folder.
        registry: the registry, if it is open already.
        actor: who does it; the user of this process when None.
        now_s: when, in seconds since 1970; the clock's when None.
        progress: told ``digest`` (bytes) and ``reconcile`` (records), how much is done, and how much there is.

    Raises:
        NotFound: nothing was published yet, or a keyring is missing.
        UnsoundPublication: the newest publication is damaged.
        Conflict: ``PUBLISHER_BUSY``; ``STORE_BEHIND``, ``OTHER_STORE`` or ``OTHER_PEPPERS``: registry and store do not
            belong together; ``PEPPER_MISSING``.
    """
    moment = int(time.time()) if now_s is None else now_s
    secrets = Secrets(home.secrets)
    with Publisher(Store(home.store)) as publisher:
        store = publisher.store
        revision = store.current()
        if revision is None:
            raise NotFound("nothing was published in this store yet", code="NOT_PUBLISHED")
        manifest = store.publication(revision, secrets.trust())
        with _opened(home, registry, manifest, moment) as (place, founded):
            if not founded and not _is_behind(place, store, manifest):
                return Reconciled(revision, behind=False)
            with published.opened(store, manifest, progress) as publication:
                work = _Work(store, publication, secrets.peppers(), progress)
                with acting(place, actor, moment) as act:
                    return work.run(act, founded=founded)


@contextmanager
def _opened(
    home: Home, registry: Registry | None, manifest: Manifest, now_s: int
) -> Iterator[tuple[Registry, bool]]:
    """Open the registry, or found one; tell which."""
    if registry is not None:
        yield registry, False
        return
    founded = False
    try:
        place = open_registry(home)
    except NotFound:
        create_registry(home, peppers=manifest.base.peppers, now_s=now_s)
        place, founded = open_registry(home), True
    with place:
        yield place, founded


def _is_behind(registry: Registry, store: Store, manifest: Manifest) -> bool:
    """Tell whether the registry does not know the publication, or refuse if it is not one of its own."""
    with registry.read() as connection:
        state, intent = queries.state(connection), intents.intent(connection)
        is_new = not state.last_revision and not connection.scalar(select(func.count()).select_from(schema.clients))
    if state.store_id != manifest.store_id and not is_new:
        raise Conflict(
            f"the store belongs to {manifest.store_id}, the registry to {state.store_id}",
            hint="give the folder whose registry and store belong together",
            code="OTHER_STORE",
        )
    if state.last_revision > manifest.revision:
        raise Conflict(
            f"the registry published revision {state.last_revision}, the store has only {manifest.revision}",
            hint="is the store an old copy? Bring back the newer one",
            code="STORE_BEHIND",
        )
    if intent is not None and intent.revision == manifest.revision > state.last_revision:
        # Its own publication, whose publisher died before it was noted: the next one notes it.
        return intent.digest != digest_of(store.manifest_bytes(manifest.revision))
    return state.last_revision < manifest.revision


@dataclass(slots=True)
class _Work:
    """One reconciliation."""

    store: Store
    publication: Published
    peppers: Mapping[str, bytes]
    progress: Progress

    def run(self, act: Act, *, founded: bool) -> Reconciled:
        """Carry it out, all in one transaction."""
        connection, manifest = act.connection, self.publication.manifest
        state = queries.state(connection)
        layers = self._bring_together(act, state.peppers)
        # The delta goes with the base: the next publication has a new one.
        bases.forget(connection)
        known = _Known(act)
        total = self._raise_counters(act)
        adoption = Adoption(act, manifest.published_at, self._prefix(), held=manifest.held)
        off = self._take(adoption, known, layers, total)
        for client_id in sorted({*off.values(), *self._off_without_keys(act, off)}):
            adoption.switch_off(client_id)
        adoption.settle()
        self._take_prefixes(act)
        added, revoked = tombstoning.put_right(act, self._tombstones(layers))
        tally = replace(adoption.tally, revoked=adoption.tally.revoked + revoked)
        connection.execute(update(schema.registry).values(
            store_id=manifest.store_id, last_revision=manifest.revision, hold=None, held_since=None, drop_newer=False,
            intent_revision=None, intent_digest=None, intent_changes=None, intent_outcome=None,
        ))  # fmt: skip
        changes.count_changes(connection, 1 + tally.versions_added + tally.versions_changed + tally.replaced)
        done = Reconciled(
            manifest.revision, founded=founded, tombstones_added=added,
            hold_cleared=state.hold is not None or manifest.held, **asdict(tally),
        )  # fmt: skip
        head = act.audit(journal.ACTION, **asdict(done), before={"last_revision": state.last_revision})
        adoption.journal.write(act, head.audit_id)
        return replace(done, audit_id=head.audit_id)

    def _bring_together(self, act: Act, registry: Sequence[str]) -> list[bytes]:
        """Give registry and publication the same peppers: return the layers that the publication's tags lack."""
        theirs = self.publication.manifest.base.peppers
        if theirs[: len(registry)] == tuple(registry):
            rekeying.add_layers(act, theirs[len(registry) :], self.peppers)
            return []
        if tuple(registry[: len(theirs)]) == theirs:
            return rekeying.pepper_values(registry[len(theirs) :], self.peppers)
        raise Conflict(
            f"the registry has the peppers {', '.join(registry)}, the publication {', '.join(theirs)}",
            code="OTHER_PEPPERS",
        )

    def _raise_counters(self, act: Act) -> int:
        """Let no ordinal of the publication be given again; return how many records it serves."""
        highest, count = 0, 0
        for _, record in self.publication.rows():
            highest = max(highest, int.from_bytes(record[_AT_VERSION : _AT_VERSION + 4], "little"))
            count += 1
        row = schema.registry.c
        versions, clients = act.connection.execute(select(row.next_version, row.next_client)).one()
        act.connection.execute(update(schema.registry).values(
            next_version=max(versions, highest + 1), next_client=max(clients, self.publication.client_count)
        ))  # fmt: skip
        return count

    def _take(self, adoption: Adoption, known: "_Known", layers: Sequence[bytes], total: int) -> dict[int, str]:
        """Take what differs; return the ids of clients that are switched off, by their ordinals there."""
        switches, off = self.publication.clients_off(), dict[int, str]()
        any_off = any(switches)
        done = 0
        rows = self.publication.rows(layers)
        while part := list(islice(rows, AT_ONCE)):
            if any_off:
                for tag, record in part:
                    client = int.from_bytes(record[_AT_CLIENT : _AT_CLIENT + 4], "little")
                    if client not in off and switches[client >> 3] >> (client & 7) & 1:
                        off[client] = decode_record(tag[:HEAD_BYTES], record)[1].client_id
            # In a held publication versions of a key may disagree on what belongs to the key: all of them are asked.
            held = self.publication.manifest.held
            new = [(tag, record) for tag, record in part if held or not known.has(tag, record)]
            if new:
                adoption.take([(tag, record, decode_record(tag[:HEAD_BYTES], record)[1]) for tag, record in new])
            done += len(part)
            self.progress("reconcile", done, total)
        return off

    def _off_without_keys(self, act: Act, named: Mapping[int, str]) -> Iterator[str]:
        """Yield the ids of clients that are switched off and have no key there, which would tell whose ordinal it is.

        One that the registry made itself since it was restored may have the ordinal of another: it is younger.
        """
        c, published_at = schema.clients.c, self.publication.manifest.published_at
        unnamed = [ordinal for ordinal in bits_of(self.publication.clients_off()) if ordinal not in named]
        for part in queries.parts(unnamed):
            yield from act.connection.scalars(
                select(c.client_id).where(c.ordinal.in_(part), c.created_at <= published_at)
            )

    def _tombstones(self, layers: Sequence[bytes]) -> Iterator[Tombstone]:
        for file in self.publication.manifest.tombstones:
            yield from tombstoning.translated(read_set(self.store.tombstone_path(file.sha256), file), layers)

    def _take_prefixes(self, act: Act) -> None:
        newest = self.publication.manifest.delta or self.publication.manifest.base
        for prefix, mode in newest.prefixes:
            changes.use_prefix(act.connection, prefix, mode)
        if newest.accepts_foreign:
            changes.accept_foreign(act.connection)

    def _prefix(self) -> str:
        """Choose what further tokens of keys begin with that the registry does not know."""
        newest = self.publication.manifest.delta or self.publication.manifest.base
        native = [prefix for prefix, mode in newest.prefixes if mode == schema.NATIVE]
        return native[0] if len(native) == 1 else DEFAULT_PREFIX


class _Known:
    """Which rows the registry has already, byte for byte: 8 bytes of memory for each ordinal."""

    def __init__(self, act: Act) -> None:
        self._seed = randomness.randbits(63)
        self._hashes = array("Q", bytes(8 * int(act.connection.scalar(select(schema.registry.c.next_version)) or 0)))
        v = schema.versions.c
        query = select(v.ordinal, v.tag, v.record).execution_options(yield_per=10_000)
        for ordinal, tag, record in act.connection.execute(query):
            self._hashes[ordinal] = self._hash(tag, record)

    def has(self, tag: bytes, record: bytes) -> bool:
        """Tell whether a row is there with the same ordinal, tag and record."""
        ordinal = int.from_bytes(record[_AT_VERSION : _AT_VERSION + 4], "little")
        return ordinal < len(self._hashes) and self._hashes[ordinal] == self._hash(tag, record)

    def _hash(self, tag: bytes, record: bytes) -> int:
        return xxhash.xxh3_64_intdigest(bytes(tag) + bytes(record), self._seed) or 1

