"""The tags of compromised versions: they stay refused for ever, also if somebody issues or imports them again."""

from collections.abc import Iterable

from verifier.control.acting import Act
from verifier.errors import Conflict
from verifier.registry import changes, tombstones
from verifier.registry.facts import Key, Version
from verifier.store.tombstones import Tombstone
from verifier.vocabulary import RevocationReason


def bury(act: Act, key: Key, versions: Iterable[Version]) -> None:
    """Remember those of a key's versions that are compromised."""
    compromised = [version for version in versions if version.reason is RevocationReason.KEY_COMPROMISE]
    tombstones.add(
        act.connection, [Tombstone(version.tag, key.key_id, version.number, act.now_s) for version in compromised]
    )


def check_unused(act: Act, tag: bytes) -> None:
    """Refuse a token that a caller brings along, if it was ever used or compromised here.

    Raises:
        Conflict: it is a token of a key (``DUPLICATE``), or was compromised (``TOMBSTONED``).
    """
    if tombstones.known(act.connection, [tag]):
        raise Conflict(
            "this token was compromised; it stays refused for ever", hint="make a new one", code="TOMBSTONED"
        )
    if changes.existing_tags(act.connection, [tag]):
        raise Conflict("a key with this token is in the registry already", code="DUPLICATE")
