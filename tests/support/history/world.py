"""A store, its registry and some nodes, beside the model of all of them."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

from sqlalchemy import select

from tests.adversity.test_publish_killed import Child
from tests.support.databases import back_up
from tests.support.history.adopting import adopted, check_adoption
from tests.support.history.model import Book, Published
from tests.support.history.nodes import Node
from tests.support.life_model import No
from verifier._tag import Tagger
from verifier.control import publishing, rolling_back
from verifier.control.acting import Actor, acting
from verifier.control.reconciling import reconcile
from verifier.errors import VerifierError
from verifier.registry.database import Registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest
from verifier.store.secrets import Secrets
from verifier.store.tombstones import read_tags
from verifier.tokens import generate

ACTOR = Actor("history")
NODES = 3
START = 1_900_000_000
DONE = "done"


class World:
    """What the steps of a history are done to.

    Args:
        home: founded.
        registry: of it, without clients.
    """

    def __init__(self, home: Home, registry: Registry) -> None:
        self.home, self.registry = home, registry
        self.now, self.book = START, Book()
        self.store, self.secrets = Store(home.store), Secrets(home.secrets)
        self.published: dict[int, Published] = {}
        self.manifests: dict[int, Manifest] = {}
        self.nodes = [Node(home, f"n{number}") for number in range(NODES)]
        self.tokens: dict[str, None] = {}  # all that ever were, in their order
        self.pruned: set[str] = set()
        self.backup: tuple[Callable[[], None], Book] | None = None
        self.lines: dict[str, int] = {}  # of the code that writes, by what was done
        self.names = self.last_lines = 0
        self.compared = 0

    # --- Both --------------------------------------------------------------------------------------------------------

    def both(self, ours: Callable[[], Any], theirs: Callable[[Any], Any]) -> str:
        """Do something to both; they must agree, in the reason of a refusal, too. Return "done" or that reason."""
        result = None
        try:
            result, said = ours(), DONE
        except VerifierError as refused:
            said = refused.code
        try:
            theirs(result)
            expected = DONE
        except No as refused:
            expected = str(refused)
        assert said == expected, f"the product says {said!r}, the model {expected!r}"
        return said

    def act(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, str | None]:
        """Call a function of the product in an act of its own; return its result and the audit entry's name."""
        with acting(self.registry, ACTOR, self.now) as begun:
            return function(begun, *arguments, **options), begun.audit_id

    def name(self, kind: str) -> str:
        """Return a name that nothing has yet."""
        self.names += 1
        return f"{kind}{self.names}"

    def token(self) -> str:
        """Return a new token."""
        token = generate()
        self.tokens[token] = None
        return token

    def peppers(self) -> list[bytes]:
        """The secrets of the registry's peppers, by their layers."""
        held = self.secrets.peppers()
        return [held[name] for name in self.book.peppers]

    # --- Publications ------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> Published | None:
        """What is current."""
        return self.published[max(self.published)] if self.published else None

    @property
    def is_behind(self) -> bool:
        """Whether the registry is that of a backup, and the store knows better."""
        return self.newest is not None and self.book.revision < self.newest.revision

    def publish(self, held: int | None, *, drop_newer: bool = False, line: int | None = None, **options: Any) -> str:
        """Publish, held at a revision or not, killed at a line or not; return what came of it.

        Args:
            held: the revision to go back to; 0 to go on as the store is; None to publish the registry.
        """
        work = self._work(held, drop_newer, options)
        try:
            expected = self._expected(held, drop_newer)
        except No:
            if line is None:
                return self.both(lambda: work(self.home, self.registry), lambda _: self._expected(held, drop_newer))
            expected = None
        before = self.store.current() or 0
        if line is None:
            receipt = work(self.home, self.registry)
            self._took_place(before, expected)
            assert receipt.changed == (self.store.current() != before)
            return f"r{receipt.revision}" + ("" if receipt.changed else " unchanged")
        child = self._killed(work, line)
        self.last_lines = child.lines
        self._took_place(before, expected, killed=True)
        return f"{'killed' if child.killed else 'not killed'}, r{self.store.current()}"

    def _work(self, held: int | None, drop_newer: bool, options: dict[str, Any]) -> Callable[..., Any]:
        options = {"actor": ACTOR, "now_s": self.now, "allow_drop": True, **options}
        if held:
            return lambda home, registry: rolling_back.roll_back(
                home, held, registry=registry, drop_newer=drop_newer, **options
            )
        return lambda home, registry: publishing.publish(
            home, registry=registry, held_ok=held == 0, resume=held is None, **options
        )

    def _killed(self, work: Callable[..., Any], line: int) -> Child:
        """Let a process do it that dies at a line of what is watched."""
        self.registry.close()  # no connection goes with it; what is closed opens again by itself

        def alone(home: Home) -> None:
            with suppress(VerifierError):
                work(home, self.registry)

        return Child(self.home, line, alone)

    def _expected(self, held: int | None, drop_newer: bool) -> Published:
        """Say what is published, if it is."""
        if self.is_behind:
            raise No("REGISTRY_BEHIND")  # I17
        then = None
        if held:
            asked = self.published[held]
            then = asked if asked.hold is None else self.published[asked.hold]
            if set(then.peppers) <= self.book.leaked:
                raise No("PEPPER_LEAKED")
        elif held == 0 and self.book.hold is not None:
            then, drop_newer = self.published[self.book.hold], self.book.drop_newer
        revision = (self.newest.revision if self.newest else 0) + 1
        return self.book.published(revision, self.newest, then, drop_newer=drop_newer and then is not None)

    def _took_place(self, before: int, expected: Published | None, *, killed: bool = False) -> None:
        """Take note of what is current now, and check that it is what was to be."""
        revision, newest = self.store.current() or 0, self.newest
        assert revision >= before, "revisions grow"
        if revision == before:
            assert killed or expected is not None
            if newest is not None and expected is not None and not killed:
                different = [(newest.said.get(token), said) for token, said in expected.said.items()
                             if said != newest.said.get(token) and token not in self.pruned]
                assert not different, f"I4: what changed was not published: {different}"
                assert newest.off == expected.off, "I4: a switch was not published"
                assert (self.book.hold, self.book.drop_newer) == (expected.hold, expected.drop_newer), "K7: no hold"
            return
        assert expected is not None, "published though that was to be refused"
        expected = Published(revision, expected.said, expected.off, expected.buried, expected.peppers, expected.hold,
                             expected.drop_newer)
        if newest is not None:
            gone = newest.said.keys() - expected.said.keys() - self.pruned
            assert not gone, f"I14: versions are missing: {gone}"
            assert newest.buried <= expected.buried, "I2: tombstones are missing"
        self.published[revision] = expected
        self.manifests[revision] = self.store.publication(revision, self.secrets.trust())
        self.book.note(expected)
        self._check_manifest(self.manifests[revision], expected)

    def _check_manifest(self, manifest: Manifest, expected: Published) -> None:
        assert manifest.held == (expected.hold is not None) and manifest.base.peppers == expected.peppers
        assert manifest.content_of == (expected.hold or expected.revision)
        tags = b"".join(read_tags(self.store.tombstone_path(file.sha256), file) for file in manifest.tombstones)
        found = {tags[at : at + 32] for at in range(0, len(tags), 32)}
        tagger = Tagger(self.peppers())
        assert found == {tagger.tag(token.encode()) for token in expected.buried}, "I2: other tombstones"

    # --- Backups -----------------------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """Back the registry up."""
        self._close()
        self.backup = back_up(self.home), self.book.copy()

    def restore(self) -> bool:
        """Bring the last backup back, if there is one."""
        if self.backup is None:
            return False
        self._close()
        self.backup[0]()
        self.book = self.backup[1].copy()
        if self.is_behind and self.book.doubtful is None:
            self.book.doubtful = len(self.book.revocations)
        return True

    def _close(self) -> None:
        """Let SQLite write all that it has into its one file: a process that was killed left some beside it."""
        with self.registry.read() as connection:
            connection.execute(select(1))
        self.registry.close()

    def reconcile(self) -> str:
        """Teach the registry what was published."""
        behind, newest, old = self.is_behind, self.newest, deepcopy(self.book)
        if newest is None:
            return "nothing published"
        done = reconcile(self.home, registry=self.registry, actor=ACTOR, now_s=self.now)
        assert done.behind == behind, "I17"
        if behind:
            self.book = adopted(self.registry, old, newest, self.peppers_of(newest, old), self.tokens)
            check_adoption(old, newest, self.book, self.pruned)
            # Versions that only the restored registry had may have other ordinals now, which its log does not know.
            del self.book.revocations[old.doubtful :]
        return f"behind: {behind}"

    def peppers_of(self, newest: Published, old: Book) -> dict[str, bytes]:
        """The peppers of registry and publication brought together, by id, in the order of their layers."""
        names = max(newest.peppers, old.peppers, key=len)
        held = self.secrets.peppers()
        return {name: held[name] for name in names}

    # --- Nodes -------------------------------------------------------------------------------------------------------

    def take(self, node: Node) -> None:
        """Let a node load what is current, and compare all that it answers."""
        newest = self.newest
        if newest is None or node.revision == newest.revision:
            return
        assert node.revision < newest.revision, "I18: a revision fell"
        node.take(newest.revision)
        self.compared += node.compare(newest, list(self.tokens), self.pruned, self.now)

    def compare(self, node: Node) -> None:
        """Compare what a node answers that may be behind."""
        if node.publication is not None:
            self.compared += node.compare(
                self.published[node.revision], list(self.tokens), self.pruned, self.now
            )


def digest(token: str) -> bytes:
    """What a caller sends of a token of its own."""
    return hashlib.sha256(token.encode()).digest()

