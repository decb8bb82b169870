"""The folder behind ``--store DIR``: where the registry, the store, the secrets and a node's state lie.

``DIR/store/`` is what nodes mount or pull; ``DIR/secrets/`` never leaves the machines that need it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from verifier.store.secrets import Secrets

REGISTRY_FILE = "registry.db"


class Home:
    """Names the parts of one ``--store`` folder.

    Args:
        folder: the folder; it need not exist before :meth:`create`.
        registry: the database that holds the registry instead of a file in the folder, such as
            ``postgresql://user@host/verifier``. It may carry a password: it is never shown.
    """

    def __init__(self, folder: Path | str, registry: str | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._registry = registry or None
        self.store = self.folder / "store"
        self.secrets = self.folder / "secrets"
        self.state = self.folder / "state"
        self.registry_file = self.folder / REGISTRY_FILE

    def __repr__(self) -> str:
        return f"Home({str(self.folder)!r})"

    @property
    def registry_url(self) -> str:
        """The registry's address. Show it to nobody: it may hold a password."""
        return self._registry or f"sqlite:///{self.registry_file}"

    @property
    def external(self) -> bool:
        """Whether the registry is in a database elsewhere, not in the folder."""
        return self._registry is not None

    def create(self) -> None:
        """Make the folders and secrets that are missing; a repeat changes nothing."""
        for folder, mode in ((self.folder, 0o755), (self.store, 0o755), (self.secrets, 0o700), (self.state, 0o700)):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
        Secrets(self.secrets).create()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this folder's founding."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
