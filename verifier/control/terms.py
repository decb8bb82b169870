"""What a key is given when it is made or changed, checked before it reaches the registry."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from verifier.control.lifecycle import check_time, check_window, earliest
from verifier.errors import InvalidInput
from verifier.keyring.records import METADATA_BYTES_MAX, METADATA_PAIRS_MAX, RULES_MAX, check_scopes
from verifier.tokens import DEFAULT_PREFIX, check_prefix

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METADATA_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Unchanged:
    """Marks what an update leaves alone, where None means "none"."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a key: what it may do, from where, and for how long.

    Args:
        scopes: that it holds.
        rules: networks, as CIDR text, that it may be used from; none means from anywhere.
        metadata: notes for the upstream, told with VALID answers.
        prefix: what its tokens begin with.
        not_before: seconds since 1970; None means at once.
        expires_at: own end of the first version; None means never.
        key_expires_at: end of the key with all its versions; None means never.
    """

    scopes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    prefix: str = DEFAULT_PREFIX
    not_before: int | None = None
    expires_at: int | None = None
    key_expires_at: int | None = None

    def checked(self, now_s: int) -> "Terms":
        """Return the terms in canonical form.

        Raises:
            InvalidInput: something in them is not usable; the error says what.
        """
        for name, moment in (
            ("not-before", self.not_before), ("expiry", self.expires_at), ("the key's expiry", self.key_expires_at)
        ):  # fmt: skip
            check_time(name, moment)
        check_window(self.not_before, earliest(self.expires_at, self.key_expires_at), now_s)
        return Terms(
            scopes=check_scopes(self.scopes),
            rules=check_rules(self.rules),
            metadata=check_metadata(self.metadata),
            prefix=check_prefix(self.prefix),
            not_before=self.not_before,
            expires_at=self.expires_at,
            key_expires_at=self.key_expires_at,
        )


def check_id(what: str, text: str) -> str:
    """Return an id given by the operator.

    Args:
        what: ``client`` or ``key``, for the message.
        text: the id.

    Raises:
        InvalidInput: it is not 1 to 64 letters, digits, ``.``, ``_`` or ``-``.
    """
    if _ID.fullmatch(text) is None:
        raise InvalidInput(
            f"the {what} id is not usable", hint="1 to 64 letters, digits, dots, underscores and hyphens", code="BAD_ID"
        )
    return text


def check_rules(rules: Iterable[str]) -> tuple[str, ...]:
    """Return address rules in canonical form, sorted, each once.

    Raises:
        InvalidInput: one is not a network in CIDR notation, has host bits set, or there are too many.
    """
    networks = {_network(rule) for rule in rules}
    if len(networks) > RULES_MAX:
        raise InvalidInput(f"a key has at most {RULES_MAX} address rules", code="BAD_RULE")
    ordered = sorted(networks, key=lambda network: (network.version, network.network_address.packed, network.prefixlen))
    return tuple(str(network) for network in ordered)


def _network(rule: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(rule)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(rule, strict=False)
    except ValueError:
        raise InvalidInput(
            f"{rule[:60]!r} is not an address or network", hint="10.0.0.0/8, 2001:db8::/32", code="BAD_RULE"
        ) from None
    raise InvalidInput(f"{rule!r} has bits set beyond its prefix", hint=f"did you mean {meant}?", code="BAD_RULE")


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata sorted by name.

    Raises:
        InvalidInput: there are more than 16 pairs or 1 KiB, or a name or value is not usable.
    """
    if len(metadata) > METADATA_PAIRS_MAX:
        raise InvalidInput(f"metadata has at most {METADATA_PAIRS_MAX} pairs", code="BAD_METADATA")
    for name, value in metadata.items():
        if _METADATA_NAME.fullmatch(name) is None:
            raise InvalidInput(
                f"{name[:40]!r} is not usable as a metadata name",
                hint="1 to 64 letters, digits, dots, underscores and hyphens",
                code="BAD_METADATA",
            )
        if not isinstance(value, str) or not value.isprintable():
            raise InvalidInput(f"the metadata value of {name!r} is not printable text", code="BAD_METADATA")
    if sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items()) > METADATA_BYTES_MAX:
        raise InvalidInput(f"metadata has at most {METADATA_BYTES_MAX} bytes in all", code="BAD_METADATA")
    return dict(sorted(metadata.items()))
