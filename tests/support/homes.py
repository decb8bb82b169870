"""A ``--store`` folder with a client and some keys, for tests of publishing."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.acts import act
from verifier.control import clients, issuing, issuing_many
from verifier.control.founding import found
from verifier.control.terms import Terms
from verifier.registry.database import open_registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets


def make_home(folder: Path, keys: int = 3, registry: str | None = None) -> Home:
    """Found a home with the client ``acme`` and keys of the scope ``read``; its registry may be in a database."""
    home = Home(folder, registry)
    found(home)
    with open_registry(home) as registry:
        act(registry, clients.create_client, "acme")
    if keys:
        add_keys(home, keys)
    return home


def add_keys(home: Home, number: int = 1, *, scopes: Sequence[str] = ("read",), **terms: Any) -> list[str]:
    """Give ``acme`` more keys, in one transaction; return their ids."""
    with open_registry(home) as registry, tempfile.TemporaryDirectory() as folder:
        peppers = issuing.pepper_secrets(registry, Secrets(home.secrets).peppers())
        _, ids = issuing_many.issue_keys(
            registry, peppers, "acme", Terms(scopes=tuple(scopes), **terms), count=number, output=Path(folder, "tokens")
        )
        return ids.read_text().split()
