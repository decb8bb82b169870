"""What the commands share that change the registry: opening it, the publish flag, and how the outcome is told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from verifier.cli._common import print_json, require_home, time_text
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.control.acting import Act
    from verifier.registry.database import Registry
    from verifier.registry.facts import Key, Version
    from verifier.store.home import Home

F = TypeVar("F", bound=Callable[..., Any])

publish_option = click.option("--publish/--no-publish", "wants_publish", default=False,
                              help="Publish right away, so that nodes take the change up.")


@dataclass(frozen=True, slots=True)
class Desk:
    """An open registry and the folder it belongs to."""

    home: "Home"
    registry: "Registry"

    def peppers(self) -> list[bytes]:
        """Return the peppers that new tags are made with."""
        from verifier.control.issuing import pepper_secrets
        from verifier.store.secrets import Secrets

        return pepper_secrets(self.registry, Secrets(self.home.secrets).peppers())

    def act(self) -> "AbstractContextManager[Act]":
        """Begin an act of the user of this process."""
        from verifier.control.acting import acting

        return acting(self.registry)

    def outcome(self, wants_publish: bool) -> dict[str, Any]:
        """Publish if that is wanted; return what JSON says of it."""
        if wants_publish:
            from verifier.cli._progress import progress_bar
            from verifier.control.publishing import publish

            with progress_bar("publish") as progress:
                receipt = publish(self.home, progress=progress)
            return {"published": True, "revision": receipt.revision, "pending_changes": 0}
        from verifier.registry import queries

        with self.registry.read() as connection:
            state = queries.state(connection)
        if not state.pending_changes:
            return {"published": True, "revision": state.last_revision, "pending_changes": 0}
        return {"published": False, "revision": None, "pending_changes": state.pending_changes}


@contextmanager
def desk(ctx: click.Context) -> Iterator[Desk]:
    """Open the registry of the folder given with ``--store``."""
    from verifier.registry.database import open_registry
    from verifier.store.home import Home

    home = Home(require_home(ctx))
    with open_registry(home) as registry:
        yield Desk(home, registry)


def tell(lines: Sequence[str], body: Mapping[str, Any], outcome: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what was done: JSON for scripts, lines for people; and on standard error that it is not served yet."""
    if as_json:
        print_json({**body, **outcome})
    else:
        for line in lines:
            click.echo(line)
        if outcome["published"]:
            click.echo(f"published: revision {outcome['revision']}")
    if not outcome["published"]:
        click.echo("not served yet: verifier publish", err=True)


def key_json(key: "Key", now_s: int) -> dict[str, Any]:
    """Describe a key with its versions."""
    return {
        "client_id": key.client_id,
        "key_id": key.key_id,
        "enabled": key.enabled,
        "prefix": key.prefix,
        "scopes": list(key.scopes),
        "allow": list(key.rules),
        "metadata": dict(key.metadata),
        "created_at": time_text(key.created_at),
        "expires_at": time_text(key.expires_at),
        "versions": [version_json(key, version, now_s) for version in key.versions],
    }


def version_json(key: "Key", version: "Version", now_s: int) -> dict[str, Any]:
    """Describe a version; ``expires_at`` is its effective end, as in the Verify API."""
    from verifier.control.lifecycle import effective_end, phase

    return {
        "version": version.number,
        "phase": phase(key, version, now_s).name,
        "issued_at": time_text(version.issued_at),
        "not_before": time_text(version.not_before),
        "expires_at": time_text(effective_end(key, version)),
        "own_expires_at": time_text(version.expires_at),
        "superseded_at": time_text(version.superseded_at),
        "superseded_by": version.superseded_by or None,
        "revoked_at": time_text(version.revoked_at),
        "reason": None if version.reason is None else version.reason.name.lower(),
        "entropy_bits": version.entropy_bits,
    }


def pairs(values: Sequence[str]) -> dict[str, str]:
    """Read ``k=v`` options.

    Raises:
        InvalidInput: one has no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not separator or name in found:
            raise InvalidInput(f"{value[:40]!r} is not NAME=VALUE, or the name comes twice", code="BAD_METADATA")
        found[name] = text
    return found


def words(values: Sequence[str]) -> tuple[str, ...]:
    """Read options that may be repeated or hold several values parted by commas."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())
