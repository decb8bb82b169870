"""Founding: from an empty folder to a home with secrets and a registry."""

import time
from dataclasses import dataclass

from verifier.control.issuing import pepper_secrets
from verifier.errors import Conflict, NotFound, Unavailable
from verifier.registry import queries
from verifier.registry.database import create_registry, open_registry
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Founded:
    """What ``init`` found or made."""

    store_id: str
    created: bool


def found(home: Home) -> Founded:
    """Make secrets and a registry in a folder; where they are already, change nothing.

    There is never a second pepper: all tags of the registry depend on the first.

    Raises:
        Conflict: the registry is missing, but what was published from it is here (``REGISTRY_LOST``).
        Unavailable: there is a registry, but a pepper it names is missing.
    """
    try:
        with home.locked():
            try:
                return _repeat(home)
            except NotFound:
                return _first(home)
    except OSError as error:
        raise Unavailable(f"cannot write in {home.folder}: {error.strerror}", code="NOT_WRITABLE") from None


def _first(home: Home) -> Founded:
    published = Store(home.store).current() if home.store.is_dir() else None
    if published is not None:
        raise Conflict(
            f"{home.store} is at revision {published}, but there is no registry beside it",
            hint="restore registry.db from a backup, then: verifier registry reconcile. Without a backup, the same "
            "command founds a registry from what is published",
            code="REGISTRY_LOST",
        )
    home.create()
    pepper = min(Secrets(home.secrets).peppers())
    store_id = create_registry(home, peppers=[pepper], now_s=int(time.time()))
    return Founded(store_id, created=True)


def _repeat(home: Home) -> Founded:
    with open_registry(home) as registry:
        pepper_secrets(registry, Secrets(home.secrets).peppers())
        with registry.read() as connection:
            return Founded(queries.state(connection).store_id, created=False)
