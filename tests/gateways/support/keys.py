"""Keys and their life, in a real store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.acts import act
from verifier.control import clients, issuing, revoking, rotation
from verifier.control.founding import found
from verifier.control.publishing import publish
from verifier.control.rotating import RotateTerms
from verifier.control.terms import Terms
from verifier.registry.database import open_registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets

CLIENT = "acme"


@dataclass(frozen=True)
class Issued:
    """A key with the token of its newest version."""

    key_id: str
    token: str


class Keys:
    """A store with one client. Close it."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        found(self.home)
        self._registry = open_registry(self.home)
        act(self._registry, clients.create_client, CLIENT)
        self._peppers = issuing.pepper_secrets(self._registry, Secrets(self.home.secrets).peppers())

    def close(self) -> None:
        """Close the registry."""
        self._registry.close()

    def issue(self, *, scopes: tuple[str, ...] = ("read",), **terms: Any) -> Issued:
        """Make a key."""
        made = act(self._registry, issuing.issue_key, self._peppers, CLIENT, Terms(scopes=scopes, **terms))
        return Issued(made.key.key_id, str(made.token))

    def rotate(self, key: Issued, overlap_s: int = 3600) -> Issued:
        """Return the key with its next token; the one before stays valid for the overlap."""
        rotated = act(self._registry, rotation.rotate, key.key_id, RotateTerms(overlap_s=overlap_s),
                      rotation.NewSecret(self._peppers))
        return Issued(key.key_id, str(rotated.token))

    def revoke(self, key: Issued, *versions: int) -> None:
        """Revoke versions of a key; all live ones if none is named."""
        act(self._registry, revoking.revoke_version, key.key_id, versions or None)

    def set_client(self, enabled: bool) -> None:
        """Turn the client on or off."""
        act(self._registry, clients.set_client_enabled, CLIENT, enabled)

    def publish(self, *, rebase: bool = False) -> int:
        """Publish what changed, as a delta or a new base; return the revision."""
        return publish(self.home, registry=self._registry, allow_drop=True, rebase=rebase).manifest.revision
