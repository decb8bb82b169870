"""A home whose keys live a random life, and what its publications answer, at all times at once."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.acts import act_at
from tests.support.databases import back_up
from verifier.control import clients, issuing, keys, publishing, revoking, rolling_back, rotation
from verifier.control.founding import found
from verifier.control.keys import KeyUpdate
from verifier.control.published import opened
from verifier.control.publishing import publish
from verifier.control.rotating import RotateTerms
from verifier.control.rotation import NewSecret
from verifier.control.terms import Terms
from verifier.errors import Conflict, InvalidInput
from verifier.keyring.records import decode_record
from verifier.registry import queries
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets
from verifier.vocabulary import RevocationReason

HOUR_S = 3600
REASONS = [RevocationReason.UNSPECIFIED, RevocationReason.KEY_COMPROMISE, RevocationReason.CESSATION_OF_OPERATION]


class Answer(NamedTuple):
    """All that decides what a token is answered, at any second."""

    key_id: str
    version: int
    revoked: bool
    reason: int | None
    off: bool
    not_before: int | None
    end: int | None
    superseded_at: int | None
    superseded_by: int
    scopes: tuple[str, ...]
    metadata: tuple[tuple[str, str], ...]
    rules: tuple[str, ...]


def answers(home: Home, revision: int | None = None) -> dict[bytes, Answer]:
    """Return what a publication answers, by tag; the current one when None."""
    store = Store(home.store)
    manifest = store.publication(revision or store.current() or 0, Secrets(home.secrets).trust())
    with opened(store, manifest) as files:
        bits, found = files.clients_off(), {}
        for tag, record in files.rows():
            said = decode_record(tag[:16], record)[1]
            client = said.client_ordinal
            off = said.key_off or bool(client < files.client_count and bits[client >> 3] >> (client & 7) & 1)
            found[tag] = Answer(
                said.key_id, said.version, said.revoked, said.reason, off, said.not_before, said.expires_at,
                said.superseded_at, said.superseded_by, said.scopes, tuple(said.metadata.items()), said.rules,
            )  # fmt: skip
        return found


class Life:
    """A home, its clock, and things that happen in it.

    Args:
        home: founded or not.
        seed: of everything that is random.
        now_s: the clock at the start; it moves on with each step.
    """

    def __init__(self, home: Home, seed: int = 0, now_s: int = 1_900_000_000) -> None:
        self.home = home
        self.random = random.Random(seed)
        self.now_s = now_s
        self.tokens: dict[tuple[str, int], str] = {}
        self.clients = 0
        self._registry: Registry | None = None
        found(home)

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """Use the registry, which stays open."""
        if self._registry is None:
            self._registry = open_registry(self.home)
        yield self._registry

    def close(self) -> None:
        """Close the registry, so that its file can be exchanged."""
        if self._registry is not None:
            self._registry.close()
        self._registry = None

    def back_up(self) -> Callable[[], None]:
        """Back up the registry, and return what restores it."""
        self.close()
        restore = back_up(self.home)

        def closed() -> None:
            self.close()
            restore()

        return closed

    def do(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call a function of :mod:`verifier.control` in an act of its own."""
        with self.registry() as registry:
            return act_at(self.now_s, registry, function, *arguments, **options)

    def peppers(self) -> list[bytes]:
        """Return the registry's peppers, by its layers."""
        with self.registry() as registry:
            return issuing.pepper_secrets(registry, Secrets(self.home.secrets).peppers())

    def client(self) -> str:
        """Make a client."""
        self.clients += 1
        return str(self.do(clients.create_client, f"client{self.clients}").client_id)

    def key(self, client_id: str, **terms: Any) -> str:
        """Issue a key."""
        issued = self.do(issuing.issue_key, self.peppers(), client_id, Terms(scopes=("read",), **terms))
        self.tokens[issued.key.key_id, 1] = issued.token
        return str(issued.key.key_id)

    def rotate(self, key_id: str, **terms: Any) -> int:
        """Rotate a key."""
        done = self.do(rotation.rotate, key_id, RotateTerms(**terms), NewSecret(self.peppers()))
        self.tokens[key_id, done.version] = done.token
        return int(done.version)

    def revoke(self, key_id: str, *numbers: int, reason: RevocationReason = RevocationReason.KEY_COMPROMISE) -> None:
        """Revoke versions of a key, or all that are live."""
        self.do(revoking.revoke_version, key_id, numbers or None, reason)

    def publish(self, **options: Any) -> publishing.Receipt:
        """Publish."""
        with self.registry() as registry:
            return publish(
                self.home, registry=registry, now_s=self.now_s, held_ok=True, allow_drop=True, **options
            )

    def key_ids(self) -> list[str]:
        """Return the ids of all keys."""
        with self.registry() as registry, registry.read() as connection:
            return [key.key_id for key in queries.list_keys(connection)]

    def client_ids(self) -> list[str]:
        """Return the ids of all clients."""
        with self.registry() as registry, registry.read() as connection:
            return [client.client_id for client in queries.list_clients(connection)]

    def step(self) -> str:
        """Do something; what the rules forbid at this moment is not done."""
        self.now_s += self.random.choice([0, 1, 60, 600, HOUR_S])
        name = self.random.choice(
            ["client", "key", "key", "key", "rotate", "rotate", "rotate", "rotate", "roll_back", "cancel", "revoke",
             "revoke", "switch_client", "switch_key", "scopes", "ends", "publish", "publish", "hold", "resume"]
        )  # fmt: skip
        try:
            getattr(self, f"_{name}")()
        except (Conflict, InvalidInput) as error:
            return f"{name} refused: {error.code}"
        return name

    def live(self, steps: int) -> list[str]:
        """Do so many things, beginning with a client and a key."""
        if not self.clients:
            self.key(self.client())
        return [self.step() for _ in range(steps)]

    def _client(self) -> None:
        self.client()

    def _key(self) -> None:
        ends = {"expires_at": self.now_s + self.random.choice([600, 50 * HOUR_S])} if self.random.random() < 0.3 else {}
        self.key(self.random.choice(self.client_ids()), metadata={"n": str(self.random.randrange(9))}, **ends)

    def _some_key(self) -> str:
        return self.random.choice(self.key_ids())

    def _rotate(self) -> None:
        terms: dict[str, Any] = {"overlap_s": self.random.choice([0, 60, 2 * HOUR_S])}
        if self.random.random() < 0.3:
            terms["activate_at"] = self.now_s + 900
        if self.random.random() < 0.3:
            terms["clock"] = "manual"
        self.rotate(self._some_key(), force=self.random.random() < 0.3, **terms)

    def _roll_back(self) -> None:
        self.do(rotation.roll_back_key, self._some_key())

    def _cancel(self) -> None:
        self.do(rotation.cancel, self._some_key())

    def _revoke(self) -> None:
        key_id = self._some_key()
        with self.registry() as registry:
            number = self.random.choice(keys.show_key(registry, key_id).versions).number
        self.revoke(key_id, number, reason=self.random.choice(REASONS))

    def _switch_client(self) -> None:
        self.do(clients.set_client_enabled, self.random.choice(self.client_ids()), self.random.random() < 0.5)

    def _switch_key(self) -> None:
        self.do(keys.set_key_enabled, self._some_key(), self.random.random() < 0.5)

    def _scopes(self) -> None:
        scopes = tuple(self.random.sample(["read", "trade", "admin"], self.random.randrange(3)))
        self.do(keys.update_key, self._some_key(), KeyUpdate(scopes=scopes, rules=("10.0.0.0/8",)))

    def _ends(self) -> None:
        end = self.now_s + self.random.choice([300, 9 * HOUR_S])
        self.do(keys.update_key, self._some_key(), KeyUpdate(key_expires_at=end, extend=True))

    def _publish(self) -> None:
        self.publish(rebase=self.random.random() < 0.3)

    def _hold(self) -> None:
        revision = self.random.choice(Store(self.home.store).revisions() or [0])
        if revision:
            with self.registry() as registry:
                rolling_back.roll_back(
                    self.home, revision, registry=registry, allow_drop=True, now_s=self.now_s
                )

    def _resume(self) -> None:
        self.publish(resume=True)


def make_life(folder: Path, seed: int = 0) -> Life:
    """A life in a new folder, with its registry in a file."""
    return Life(Home(folder), seed)
