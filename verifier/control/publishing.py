"""Publishing: from the registry to a signed publication that nodes take up.

The order survives a crash at any point:

1. records, switches and prefixes are read in one transaction, and a keyring is built beside the store's own;
2. the registry notes the *intent*: the next revision and the digest of its manifest;
3. keyring, manifest, signature and ``CURRENT`` become durable, one after the other;
4. the registry notes the revision as its last one.

A publisher that died before ``CURRENT`` moved has published nothing: its number is skipped and its files are removed.
One that died after that has published: the next publisher knows its own work by the intent, and notes what is missing.
"""

import logging
import time
from dataclasses import dataclass, replace
from typing import Any

from verifier import __version__
from verifier.control.comparing import Difference, Keyrings, compare
from verifier.control.progress import Progress, silent
from verifier.errors import Conflict, NotFound, Unavailable, UnsoundPublication, VerifierError
from verifier.keyring.builder import build_keyring
from verifier.keyring.description import KeyringDescription
from verifier.registry import intents, queries
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, digest_of, time_text
from verifier.store.secrets import Secrets
from verifier.store.signing import SigningKey, Trust
from verifier.store.writer import Publisher

_log = logging.getLogger(__name__)

DROP_SHARE = 0.2
DROP_RECORDS_MIN = 10


@dataclass(frozen=True, slots=True)
class DropGuard:
    """When a publication takes too many active keys away to be believed.

    Attributes:
        share: part of the active keys that may go without being asked, 0 to 1.
        records_min: fewer than this may always go.
    """

    share: float = DROP_SHARE
    records_min: int = DROP_RECORDS_MIN

    def trips(self, lost: int, active: int) -> bool:
        """Tell whether losing so many of so many active keys needs a person's word."""
        return lost >= self.records_min and lost > self.share * active


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a publication did.

    Attributes:
        manifest: the current publication, new or not.
        changed: whether it is new.
        difference: to the publication before.
    """

    manifest: Manifest
    changed: bool
    difference: Difference

    @property
    def revision(self) -> int:
        """The current revision."""
        return self.manifest.revision

    def to_json(self) -> dict[str, Any]:
        """Return the object of ``publish --json``."""
        manifest, difference = self.manifest, self.difference
        delta = manifest.delta
        return {
            "revision": manifest.revision,
            "changed": self.changed,
            "content_of": manifest.content_of,
            "held": manifest.held,
            "published_at": time_text(manifest.published_at),
            "records": manifest.records,
            "active": manifest.active,
            "tombstones": sum(file.count for file in manifest.tombstones),
            "delta": {"records": delta.records, "bytes": delta.bytes} if delta else None,
            "difference": {
                "gained": difference.gained, "lost": difference.lost, "lost_used_24h": 0,
                "widened": difference.widened, "extended": difference.extended, "denials_kept": 0,
            },
            "nodes": {"expected": 0, "behind": []},
            "propagation_ms": None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a publication starts from: the registry's facts, and the publication that is current."""

    state: queries.State
    revision: int
    manifest: Manifest | None
    digest: str | None


def publish(
    home: Home,
    *,
    allow_drop: bool = False,
    allow_clock_back: bool = False,
    guard: DropGuard | None = None,
    progress: Progress = silent,
    now_s: int | None = None,
) -> Receipt:
    """Publish what the registry says now, unless that is what is published already.

    Args:
        home: the ``--store`` folder.
        allow_drop: publish even if many active keys are lost, or if the publication before cannot be compared with.
        allow_clock_back: publish even if the clock is behind the publication before.
        guard: how many active keys may be lost without ``allow_drop``.
        progress: called with a stage, how much of it is done, and how much there is.
        now_s: the time of the publication, seconds since 1970; the clock's when None.

    Raises:
        Conflict: ``PUBLISHER_BUSY``, ``REGISTRY_BEHIND``, ``STORE_BEHIND``, ``OTHER_STORE``, ``HELD``, ``DROP_GUARD``,
            ``CLOCK_BACK`` or ``NOT_TRUSTED``; nothing was published.
        Unavailable: the disk or the database refused.
        UnsoundPublication: what was built, or the publication before, is not sound.
    """
    secrets = Secrets(home.secrets)
    key, trust = secrets.signing_key(), secrets.trust()
    if key.key_id not in trust.key_ids:
        raise Conflict(
            f"nodes would refuse what signing key {key.key_id} signs: it is not in {secrets.trusted_path}",
            hint="add its public key to the trusted ones, on the nodes first",
            code="NOT_TRUSTED",
        )
    with open_registry(home) as registry, Publisher(Store(home.store)) as publisher:
        work = _Work(registry, publisher, key, trust, int(time.time()) if now_s is None else now_s, progress)
        return work.run(guard or DropGuard(), allow_drop=allow_drop, allow_clock_back=allow_clock_back)


@dataclass(slots=True)
class _Work:
    """One publication in the making, under the publisher's lock."""

    registry: Registry
    publisher: Publisher
    key: SigningKey
    trust: Trust
    now_s: int
    progress: Progress

    def run(self, guard: DropGuard, *, allow_drop: bool, allow_clock_back: bool) -> Receipt:
        """Carry it out; arguments as for :func:`publish`."""
        self._settle()
        origin = self._origin(allow_drop)
        if origin.manifest is not None and self.now_s < origin.manifest.published_at and not allow_clock_back:
            raise Conflict(
                f"the clock says {time_text(self.now_s)}, but revision {origin.revision} was published at "
                f"{time_text(origin.manifest.published_at)}",
                hint="set the clock right, or publish with --allow-clock-back",
                code="CLOCK_BACK",
            )
        state, base = self._build()
        if state.last_revision != origin.revision:
            raise Conflict("the registry changed its revision meanwhile", hint="publish again", code="REGISTRY_BEHIND")
        manifest = self._manifest(origin, base)
        if origin.manifest is not None and manifest.content() == origin.manifest.content():
            self._confirm(origin.manifest, state)
            return Receipt(origin.manifest, False, Difference())
        difference = self._compared(origin, base, allow_drop)
        manifest = replace(
            manifest,
            active=difference.after_active,
            dead_on_arrival=difference.dead_on_arrival,
            drop_override=self._overrides(guard, origin, base, difference, allow_drop),
        )
        self._commit(origin, manifest, state.changes)
        return Receipt(manifest, True, difference)

    def _confirm(self, current: Manifest, state: queries.State) -> None:
        """Note that what is published is what the registry says; put its keyring back if that was lost."""
        try:
            keyrings_of(self.publisher.store, current)
        except (NotFound, UnsoundPublication):
            self._install(current.base)
        if state.pending_changes:
            self._note(current.revision, current.revision, state.changes)

    def _settle(self) -> None:
        """Bring registry and store together after a publisher that died, or refuse if they do not belong together."""
        with self.registry.read() as connection:
            last, intent = queries.state(connection).last_revision, intents.intent(connection)
        store = self.publisher.store
        current = store.current() or 0
        if intent is not None and intent.revision > last:
            if current == last:  # it died before CURRENT moved
                self.publisher.discard(intent.revision, intent.digest)
            elif current == intent.revision and digest_of(store.manifest_bytes(current)) == intent.digest:
                self._note(current, last, intent.changes)
                last = current
        if current != last:
            raise _apart(last, current)

    def _origin(self, allow_drop: bool) -> _Origin:
        """Read what is current; a damaged manifest is a reason to stop, unless a person said to go on."""
        with self.registry.read() as connection:
            state = queries.state(connection)
        if state.hold is not None:
            raise Conflict(
                f"the store is held at revision {state.hold} after a rollback", hint="resume first", code="HELD"
            )
        revision = self.publisher.store.current() or 0
        if not revision:
            return _Origin(state, 0, None, None)
        data = self.publisher.store.manifest_bytes(revision)
        try:
            manifest = self.publisher.store.publication(revision, self.trust)
        except UnsoundPublication as error:
            if not allow_drop:
                raise _incomparable(error) from error
            return _Origin(state, revision, None, digest_of(data))
        if manifest.store_id != state.store_id:
            raise Conflict(
                f"the store belongs to {manifest.store_id}, the registry to {state.store_id}",
                hint="give the folder whose registry and store belong together",
                code="OTHER_STORE",
            )
        return _Origin(state, revision, manifest, digest_of(data))

    def _build(self) -> tuple[queries.State, KeyringDescription]:
        """Build a keyring from one state of the registry."""
        with self.registry.read() as connection:
            state = queries.state(connection)
            versions, clients = queries.ordinals(connection)
            base = build_keyring(
                self.publisher.building,
                queries.iterate_records(connection),
                peppers=state.peppers,
                prefixes=queries.prefix_modes(connection),
                accepts_foreign=state.accepts_foreign,
                clients_off=queries.clients_off(connection),
                client_count=clients,
                expected=versions,
                progress=self.progress,
            )
        return state, base

    def _manifest(self, origin: _Origin, base: KeyringDescription) -> Manifest:
        """Write the manifest, without what only the comparison tells."""
        with self.registry.read() as connection:
            intent = intents.intent(connection)
        revision = max(self.publisher.newest_written(), intent.revision if intent else 0) + 1
        return Manifest(
            store_id=origin.state.store_id,
            revision=revision,
            content_of=revision,
            published_at=self.now_s,
            previous=origin.digest,
            records=base.records,
            active=0,
            base=base,
            publisher=f"verifier {__version__}",
        )

    def _compared(self, origin: _Origin, base: KeyringDescription, allow_drop: bool) -> Difference:
        after = Keyrings(self.publisher.building / f"{base.sha256}.mdb")
        try:
            before = keyrings_of(self.publisher.store, origin.manifest) if origin.manifest else None
            return compare(before, after, self.now_s, progress=self.progress)
        except (UnsoundPublication, NotFound) as error:
            if not allow_drop:
                raise _incomparable(error) from error
            return compare(None, after, self.now_s, progress=self.progress)

    def _overrides(
        self,
        guard: DropGuard,
        origin: _Origin,
        base: KeyringDescription,
        difference: Difference,
        allow_drop: bool,
    ) -> bool:
        """Apply the drop guard; tell whether a person overrode it."""
        lost, active = difference.lost, difference.before_active
        if origin.manifest is not None and origin.manifest.base.peppers != base.peppers:
            lost = max(0, active - difference.after_active)  # other peppers, other tags: only the numbers compare
        if not guard.trips(lost, active):
            return False
        if not allow_drop:
            raise Conflict(
                f"{lost} of {active} active keys would be refused from now on",
                hint="if that is meant: verifier publish --allow-drop",
                code="DROP_GUARD",
                details={"lost": lost, "active": active, "share": guard.share},
            )
        return True

    def _commit(self, origin: _Origin, manifest: Manifest, changes: int) -> None:
        data = manifest.to_bytes()
        signature = self.key.sign(data)
        # What nodes will check: a publication that they would refuse must not become current.
        self.trust.verify(data, signature)
        if Manifest.from_bytes(data) != manifest:
            raise Unavailable("the manifest does not read back as it was written", code="INTERNAL")
        with self.registry.write() as connection:
            wanted = intents.Intent(manifest.revision, digest_of(data), changes)
            intents.set_intent(connection, wanted, expected=origin.revision)
        self._install(manifest.base)
        self.publisher.commit(manifest, signature)
        try:
            self._note(manifest.revision, origin.revision, changes)
        except VerifierError as error:
            # Nodes take it up already, so it is no failure; the intent lets the next publisher catch up.
            _log.warning("revision %d is published, but the registry has not noted it: %s", manifest.revision, error)

    def _install(self, keyring: KeyringDescription) -> None:
        self.publisher.add_keyring(self.publisher.building / f"{keyring.sha256}.mdb", keyring.sha256)

    def _note(self, revision: int, expected: int, changes: int) -> None:
        with self.registry.write() as connection:
            queries.set_last_revision(connection, revision, expected=expected, changes=changes)


def _apart(registry: int, store: int) -> Conflict:
    """Say which of the two is an old copy."""
    details = {"registry": registry, "store": store}
    if registry < store:
        return Conflict(
            f"the store is at revision {store}, the registry knows only {registry}",
            hint="is the registry a restored backup? Publishing from it would drop the keys issued since and undo "
            "revocations: bring back the newer registry",
            code="REGISTRY_BEHIND",
            details=details,
        )
    return Conflict(
        f"the registry published revision {registry}, the store has only {store}",
        hint="is the store an old copy? Bring back the newer one: nodes never go back to a lower revision",
        code="STORE_BEHIND",
        details=details,
    )


def keyrings_of(store: Store, manifest: Manifest) -> Keyrings:
    """Say where the keyrings of a publication lie, after a look at their size.

    Raises:
        NotFound: one is missing.
        UnsoundPublication: one has another size.
    """
    paths = []
    for keyring in manifest.keyrings:
        path = store.keyring_path(keyring.sha256)
        if not path.is_file():
            raise NotFound(f"keyring {path.name} of revision {manifest.revision} is not in the store")
        if path.stat().st_size != keyring.bytes:
            raise UnsoundPublication(f"keyring {path.name} has not {keyring.bytes} bytes", code="BAD_DIGEST")
        paths.append(path)
    return Keyrings(paths[0], paths[1] if len(paths) > 1 else None)


def _incomparable(error: VerifierError) -> VerifierError:
    return UnsoundPublication(
        f"the current publication cannot be compared with: {error.message}",
        hint="verifier publish --allow-drop publishes without comparing",
        code=error.code if isinstance(error, UnsoundPublication) else "BAD_DIGEST",
    )
