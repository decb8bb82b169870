"""What a reconciliation tells the audit log: its sum, then which versions, keys and clients it was about.

The first changes have an entry each, the others share some that list ordinals as ranges, or names. All of these name
the entry with the sum, by whose id the revocations among them are undone (:mod:`verifier.control.reinstating`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from verifier.control.acting import Act
from verifier.control.building import bits_of
from verifier.control.revoking import RANGES_MAX, ranges
from verifier.vocabulary import RevocationReason

ACTION = "registry.reconcile"
TOLD_ONE_BY_ONE_MAX = 200
NAMES_AT_ONCE = 1_000


class Journal:
    """Collects changes until their sum is known.

    Args:
        founding: the registry is new, so that all versions were added, and only others are worth telling.
    """

    def __init__(self, *, founding: bool = False) -> None:
        self._founding = founding
        self._told: list[tuple[str, dict[str, Any]]] = []
        self._added, self._revoked = bytearray(), bytearray()
        self._names: dict[str, list[Any]] = {"clients": [], "keys": [], "replaced": []}

    def client_added(self, client_id: str) -> None:
        """Note a client that the registry did not know."""
        self._tell("client_added", client_id=client_id)

    def version_added(self, key_id: str, number: int, ordinal: int, reason: RevocationReason | None) -> None:
        """Note a version that it did not know, and why it is revoked, if it is."""
        denied = {} if reason is None else _revocation(ordinal, reason)
        if not self._tell("version_added", key_id=key_id, version=number, added=[[ordinal, ordinal]], **denied):
            if not self._founding:
                _mark(self._added, ordinal)
            if denied:
                _mark(self._revoked, ordinal)

    def revoked(self, key_id: str, number: int, ordinal: int, reason: RevocationReason) -> None:
        """Note a version that it took for live."""
        if not self._tell("revoked", key_id=key_id, version=number, **_revocation(ordinal, reason)):
            _mark(self._revoked, ordinal)

    def switched_off(self, *, client_id: str | None = None, key_id: str | None = None) -> None:
        """Note a client or a key that it took for switched on."""
        if not self._tell("switched_off", client_id=client_id, key_id=key_id):
            self._names["keys" if client_id is None else "clients"].append(client_id or key_id)

    def replaced(self, key_id: str | None, number: int) -> None:
        """Note a version that gave way to the published one of its number."""
        if not self._tell("replaced", key_id=key_id, version=number):
            self._names["replaced"].append([key_id, number])

    def write(self, act: Act, head: str) -> None:
        """Write the entries that follow the one with the sum.

        Args:
            act: whose audit log.
            head: audit id of the entry with the sum.
        """
        for what, about in self._told:
            act.audit(f"{ACTION}.{what}", of=head, **about)
        for what, bits in (("added", self._added), ("revoked", self._revoked)):
            for spans in _parts(ranges(bits_of(bytes(bits))), RANGES_MAX):
                part: dict[str, Any] = {what: spans}
                act.audit(f"{ACTION}.versions", of=head, **part)
        for what, names in self._names.items():
            for some in _parts(names, NAMES_AT_ONCE):
                part = {what: some}
                act.audit(f"{ACTION}.{'replaced' if what == 'replaced' else 'switched_off'}", of=head, **part)

    def _tell(self, what: str, **about: Any) -> bool:
        """Note a change for an entry of its own; tell whether it gets one."""
        if len(self._told) >= TOLD_ONE_BY_ONE_MAX:
            return False
        self._told.append((what, about))
        return True


def _revocation(ordinal: int, reason: RevocationReason) -> dict[str, Any]:
    return {"revoked": [[ordinal, ordinal]], "reason": RevocationReason(reason).name.lower()}


def _mark(bits: bytearray, ordinal: int) -> None:
    at = ordinal >> 3
    if at >= len(bits):
        bits.extend(bytes(at + 1024 - len(bits)))
    bits[at] |= 1 << (ordinal & 7)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
