"""What the operators' API works with: one store folder, its registry, its peppers, and one shared publisher."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from verifier.admin import replay
from verifier.admin.publisher import SharedPublisher
from verifier.control import issuing
from verifier.control.acting import Act, Actor, acting
from verifier.control.nodes import NodeBoard
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets
from verifier.store.signing import Trust

FORGET_EACH_S = 3600


class Desk:
    """One for each process; may be used by many threads at once.

    Attributes:
        home: the ``--store`` folder.
        registry: what it changes.
        publisher: publishes for all callers together.
        store: where publications are.
        board: takes the reports of nodes.
        stopping: set when nobody is to wait for nodes any more.
        full_addresses: keep whole addresses of callers of watched versions, not only their networks.
        on_waited: told how long an act waited for its turn, in seconds.
        on_publication_due: called when a publication is needed that no caller waits for, as after a first use.

    Args:
        home: the ``--store`` folder.
        registry: the folder's, if it is open already; it is not closed here then.

    Raises:
        NotFound: there is no registry.
        Unavailable: it cannot be used.
    """

    def __init__(self, home: Home, registry: Registry | None = None) -> None:
        self.home = home
        self._owns_registry = registry is None
        self.registry = open_registry(home) if registry is None else registry
        self.publisher = SharedPublisher(home, self.registry)
        self.store = Store(home.store)
        self.board = NodeBoard(self.registry)
        self.stopping = threading.Event()
        self.full_addresses = False
        self.on_waited: Callable[[float], None] = lambda waited_s: None
        self.on_publication_due: Callable[[], None] = lambda: None
        self._secrets = Secrets(home.secrets)
        # Writers of one process queue here, where waking up costs nothing; a database lets them poll.
        self._writing = threading.Lock()
        self._forgotten_at = 0

    @contextmanager
    def acting(self, actor: Actor, now_s: int | None = None) -> Iterator[Act]:
        """Begin an act, as :func:`verifier.control.acting.acting`."""
        asked = time.monotonic()
        with self._writing, acting(self.registry, actor, now_s) as act:
            self.on_waited(time.monotonic() - asked)
            yield act
            if act.now_s - self._forgotten_at >= FORGET_EACH_S:
                replay.forget(act.connection, act.now_s)
                self._forgotten_at = act.now_s

    def peppers(self) -> list[bytes]:
        """Return the peppers that tags are made with.

        Raises:
            Unavailable: one is missing (``PEPPER_MISSING``).
        """
        return issuing.pepper_secrets(self.registry, self._secrets.peppers())

    def trust(self) -> Trust:
        """Return the keys whose signatures publications must have."""
        return self._secrets.trust()

    def close(self) -> None:
        """Close the registry, unless it was given."""
        if self._owns_registry:
            self.registry.close()
