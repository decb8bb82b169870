"""One publication in the making: what it starts from, and the order of steps that a crash cannot break.

1. The registry notes the *intent*: the next revision, the digest of its manifest, and all that follows from it.
2. Keyrings, tombstones, manifest, signature and ``CURRENT`` become durable, one after the other.
3. The registry notes that the revision is its last one.

A publisher that died before ``CURRENT`` moved has published nothing: its number is skipped and its files are removed.
One that died after that has published: the next publisher knows its own work by the intent, and notes what is missing.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from verifier.control import tombstoning
from verifier.control.acting import Actor, acting, local_actor
from verifier.control.building import Builder, check_present
from verifier.control.comparing import Keyrings
from verifier.control.progress import Progress
from verifier.errors import Conflict, NotFound, Unavailable, UnsoundPublication, VerifierError
from verifier.keyring.description import KeyringDescription
from verifier.registry import intents, queries
from verifier.registry.database import Registry, open_registry
from verifier.registry.intents import Intent
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, digest_of, time_text
from verifier.store.secrets import Secrets
from verifier.store.signing import SigningKey, Trust
from verifier.store.writer import Publisher

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a publication starts from.

    Attributes:
        state: the registry's facts.
        revision: the current one; 0 when there is none.
        manifest: the current publication's; None when there is none, or when it is damaged and a person said to go on.
        digest: SHA-256 of its bytes.
        skipped: the greatest number that was intended, carried out or not.
    """

    state: queries.State
    revision: int
    manifest: Manifest | None
    digest: str | None
    skipped: int


@dataclass(frozen=True, slots=True)
class Committed:
    """When a publication became current, in milliseconds since 1970, and its entry in the audit log."""

    at_ms: int
    audit_id: str | None


@dataclass(slots=True)
class Work:
    """Everything a publisher needs, under the store's lock."""

    registry: Registry
    publisher: Publisher
    builder: Builder
    key: SigningKey
    trust: Trust
    peppers: dict[str, bytes]
    actor: Actor
    now_s: int

    @property
    def store(self) -> Store:
        """The store."""
        return self.publisher.store

    def origin(self, *, go_on: bool = False) -> Origin:
        """Bring registry and store together after a publisher that died, and read what is current.

        Args:
            go_on: take a damaged manifest for none, since a person said so.

        Raises:
            Conflict: they do not belong together (``REGISTRY_BEHIND``, ``STORE_BEHIND``, ``OTHER_STORE``).
            UnsoundPublication: the current manifest is damaged.
        """
        revision = self.store.current() or 0
        state, intent = self._settled(revision)
        skipped = intent.revision if intent else 0
        if not revision:
            return Origin(state, 0, None, None, skipped)
        digest = digest_of(self.store.manifest_bytes(revision))
        try:
            manifest = self.store.publication(revision, self.trust)
        except UnsoundPublication as error:
            if not go_on:
                raise incomparable(error) from error
            return Origin(state, revision, None, digest, skipped)
        if manifest.store_id != state.store_id:
            raise Conflict(
                f"the store belongs to {manifest.store_id}, the registry to {state.store_id}",
                hint="give the folder whose registry and store belong together",
                code="OTHER_STORE",
            )
        return Origin(state, revision, manifest, digest, skipped)

    def check_clock(self, origin: Origin, *, allow_back: bool) -> None:
        """Refuse to publish with a time before that of the current publication.

        Raises:
            Conflict: ``CLOCK_BACK``.
        """
        if origin.manifest is not None and self.now_s < origin.manifest.published_at and not allow_back:
            raise Conflict(
                f"the clock says {time_text(self.now_s)}, but revision {origin.revision} was published at "
                f"{time_text(origin.manifest.published_at)}",
                hint="set the clock right, or publish with --allow-clock-back",
                code="CLOCK_BACK",
            )

    def registry_base(self, origin: Origin) -> KeyringDescription | None:
        """Return the base that the registry's delta is for; None when it is not known or not whole in its place."""
        wanted = origin.state.base_sha256
        manifest = origin.manifest
        if wanted is None or manifest is None:
            return None
        if manifest.base.sha256 != wanted:  # held: the last publication before the rollback names it
            manifest = self._naming(wanted)
        try:
            if manifest is not None:
                check_present(self.store, manifest.base, manifest.revision)
                return manifest.base
        except (NotFound, UnsoundPublication):
            pass
        return None

    def next_revision(self, origin: Origin) -> int:
        """Return a number that no publication ever had."""
        revision = max(origin.revision, origin.skipped) + 1
        while self.store.manifest_path(revision).exists():  # of a registry that is no longer
            revision += 1
        return revision

    def commit(self, origin: Origin, manifest: Manifest, intent_changes: int, outcome: intents.Outcome) -> Committed:
        """Make a publication current, durably.

        Args:
            origin: what it starts from.
            manifest: whole; its keyrings are in the builder's folder or the store.
            intent_changes: the registry's ``changes`` when its records were read.
            outcome: what the registry notes of it.

        Raises:
            Conflict: the registry is at another revision by now.
            Unavailable: the disk or the database refused; nothing was published.
        """
        data = manifest.to_bytes()
        signature = self.key.sign(data)
        # What nodes will check: a publication that they would refuse must not become current.
        self.trust.verify(data, signature)
        if Manifest.from_bytes(data) != manifest:
            raise Unavailable("the manifest does not read back as it was written", code="INTERNAL")
        intent = Intent(manifest.revision, digest_of(data), intent_changes, outcome)
        with self.registry.write() as connection:
            intents.set_intent(connection, intent, expected=origin.revision)
        self.install(manifest)
        at_ms = self.publisher.commit(manifest, signature)
        try:
            audit_id = self._note(intent, origin.revision)
        except VerifierError as error:
            # Nodes take it up already, so it is no failure; the intent lets the next publisher catch up.
            _log.warning("revision %d is published, but the registry has not noted it: %s", manifest.revision, error)
            audit_id = None
        return Committed(at_ms, audit_id)

    def install(self, manifest: Manifest) -> None:
        """Move the files that were built for a publication to their place."""
        for keyring in manifest.keyrings:
            built = self.builder.folder / f"{keyring.sha256}.mdb"
            if built.is_file():
                self.publisher.add_keyring(built, keyring.sha256)
        tombstoning.install(self.publisher, manifest.tombstones)

    def note_unchanged(self, revision: int, state: queries.State) -> None:
        """Note that what is published is all that there is to publish."""
        with self.registry.write() as connection:
            intents.note_unchanged(connection, revision, state)

    def _settled(self, current: int) -> tuple[queries.State, Intent | None]:
        """Return the registry's facts, after noting what a publisher that died could not note."""
        state, intent = self._read()
        if intent is not None and intent.revision > state.last_revision:
            if current == state.last_revision:  # it died before CURRENT moved
                self.publisher.discard(intent.revision, intent.digest)
            elif current == intent.revision and digest_of(self.store.manifest_bytes(current)) == intent.digest:
                self._note(intent, state.last_revision)
                state, intent = self._read()
        if current != state.last_revision:
            raise _apart(state.last_revision, current)
        return state, intent

    def _read(self) -> tuple[queries.State, Intent | None]:
        with self.registry.read() as connection:
            return queries.state(connection), intents.intent(connection)

    def _note(self, intent: Intent, expected: int) -> str | None:
        """Note a publication, with whoever made it."""
        outcome = intent.outcome
        actor = self.actor if outcome is None else Actor(outcome.principal, outcome.request_id, outcome.note)
        action = "publication.publish" if outcome is None else outcome.action
        details = {} if outcome is None else dict(outcome.details)
        with acting(self.registry, actor, self.now_s) as act:
            intents.carry_out(act.connection, intent, expected=expected)
            act.audit(action, revision=intent.revision, covers=intent.changes, **details)
            act.emit("publication.published", revision=intent.revision, action=action, **details)
        return act.audit_id

    def _naming(self, base: str) -> Manifest | None:
        """Return the newest publication that names a base."""
        for revision in reversed(self.store.revisions()):
            try:
                manifest = self.store.publication(revision, self.trust)
            except (NotFound, UnsoundPublication):
                continue
            if manifest.base.sha256 == base:
                return manifest
        return None


@contextmanager
def working(
    home: Home,
    *,
    registry: Registry | None = None,
    actor: Actor | None = None,
    now_s: int | None = None,
    progress: Progress,
) -> Iterator[Work]:
    """Begin the work on a publication, alone.

    Args:
        home: the ``--store`` folder.
        registry: the folder's, if it is open already.
        actor: who publishes; the user of this process when None.
        now_s: the time of the publication, seconds since 1970; the clock's when None.
        progress: told how far it is.

    Raises:
        Conflict: ``PUBLISHER_BUSY`` or ``NOT_TRUSTED``.
        Unavailable: the disk or the database refused.
    """
    secrets = Secrets(home.secrets)
    key, trust = secrets.signing_key(), secrets.trust()
    if key.key_id not in trust.key_ids:
        raise Conflict(
            f"nodes would refuse what signing key {key.key_id} signs: it is not in {secrets.trusted_path}",
            hint="add its public key to the trusted ones, on the nodes first",
            code="NOT_TRUSTED",
        )
    with ExitStack() as stack:
        database = stack.enter_context(open_registry(home)) if registry is None else registry
        publisher = stack.enter_context(Publisher(Store(home.store)))
        yield Work(
            database, publisher, Builder(publisher.store, publisher.building, progress), key, trust,
            secrets.peppers(), actor or local_actor(), int(time.time()) if now_s is None else now_s,
        )  # fmt: skip


def keyrings_of(store: Store, manifest: Manifest) -> Keyrings:
    """Say where the keyrings of a publication lie, after a look at their size.

    Raises:
        NotFound: one is missing.
        UnsoundPublication: one has another size.
    """
    paths = [check_present(store, keyring, manifest.revision) for keyring in manifest.keyrings]
    return Keyrings(paths[0], paths[1] if len(paths) > 1 else None)


def is_whole(store: Store, manifest: Manifest) -> bool:
    """Tell whether all files of a publication are in the store, with the size they should have."""
    try:
        keyrings_of(store, manifest)
    except (NotFound, UnsoundPublication):
        return False
    return all(store.tombstone_path(file.sha256).is_file() for file in manifest.tombstones)


def incomparable(error: VerifierError) -> VerifierError:
    """Say that the current publication is damaged, and what to do."""
    return UnsoundPublication(
        f"the current publication cannot be compared with: {error.message}",
        hint="verifier publish --allow-drop publishes without comparing",
        code=error.code if isinstance(error, UnsoundPublication) else "BAD_DIGEST",
    )


def _apart(registry: int, store: int) -> Conflict:
    """Say which of the two is an old copy."""
    details = {"registry": registry, "store": store}
    if registry < store:
        return Conflict(
            f"the store is at revision {store}, the registry knows only {registry}",
            hint="is the registry a restored backup? Publishing from it would drop the keys issued since and undo "
            "revocations: bring back the newer registry, or take over what was published: "
            "verifier registry reconcile",
            code="REGISTRY_BEHIND",
            details=details,
        )
    return Conflict(
        f"the registry published revision {registry}, the store has only {store}",
        hint="is the store an old copy? Bring back the newer one: nodes never go back to a lower revision",
        code="STORE_BEHIND",
        details=details,
    )
