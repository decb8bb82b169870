"""How a service is guarded: where keys are looked for, what they must hold, and what callers are told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, Literal

from verifier.client._decision import OnUnavailable, checked_policy
from verifier.errors import InvalidInput
from verifier.keyring.records import check_scopes

Disclosure = Literal["full", "minimal"]
_REALM = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]{1,128}")
DEFAULT_PLACES: Final = ("authorization: Bearer", "x-api-key")


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for.

    Args:
        path: a path as callers write it, without its query: ``/orders`` is that path alone, with or without a slash
            at its end; ``/admin/*`` is ``/admin`` and all below it. For gRPC ``/package.Service/Method``.
        scopes: what the key must hold, all of them.
        methods: the HTTP methods meant; empty = all. GET includes HEAD.

    Raises:
        InvalidInput: the path is none, or a scope is not usable.
    """

    path: str
    scopes: Sequence[str] = ()
    methods: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        checked_path(self.path)
        _checked_list("scopes", self.scopes)
        _checked_list("methods", self.methods)
        check_scopes(self.scopes)


@dataclass(frozen=True, slots=True)
class Access:
    """How a service is guarded. The rules are those of the node's own gateway endpoints.

    Args:
        places: where a key may be: ``"name: Scheme"`` or ``"name"`` for headers (gRPC: metadata), ``"query:name"`` for
            a query parameter. A request that presents more than one key is refused.
        scopes: what a key must hold where no route says otherwise.
        routes: what some paths ask for instead; the first that fits decides.
        exempt: paths, as those of routes, that need no key.
        trusted_proxies: networks whose ``X-Forwarded-For`` is believed, and ``"unix"`` for Unix sockets. By default
            the client's address is that of the connection.
        realm: names the service in ``WWW-Authenticate``.
        disclose: ``"minimal"`` gives every 401 the same body.
        deprecation: send ``Deprecation`` and ``Sunset``, too, while a key is being retired.
        on_unavailable: ``"allow"`` lets requests pass, without an identity, while no verifier answers: then whoever
            can keep it from answering gets in with any key.

    Raises:
        InvalidInput: a value is not usable.
    """

    places: Sequence[str] = DEFAULT_PLACES
    scopes: Sequence[str] = ()
    routes: Sequence[Route] = ()
    exempt: Sequence[str] = ()
    trusted_proxies: Sequence[str] = ()
    realm: str = "api"
    disclose: Disclosure = "full"
    deprecation: bool = True
    on_unavailable: OnUnavailable = "refuse"

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("places", "scopes", "exempt", "trusted_proxies"):
            _checked_list(name, getattr(self, name))
        check_scopes(self.scopes)
        for path in self.exempt:
            checked_path(path)
        for network in self.trusted_proxies:
            _checked_network(network)
        checked_policy(self.on_unavailable)
        if self.disclose not in ("full", "minimal"):
            raise InvalidInput(f"disclose is {self.disclose!r}; it can be 'full' or 'minimal'")
        if _REALM.fullmatch(self.realm) is None:
            raise InvalidInput("the realm is 1 to 128 printable ASCII characters without quotes and backslashes")


def checked_path(path: str) -> str:
    """Return the path; InvalidInput when it does not begin with a slash or has a star elsewhere than at its end."""
    if not path.startswith("/") or "*" in path.removesuffix("/*") or "//" in path:
        raise InvalidInput(f"{path!r} is not a path", hint="write /orders, or /admin/* for all below it")
    return path


def _checked_list(name: str, values: Sequence[str]) -> None:
    if isinstance(values, str):
        raise InvalidInput(f"{name} is a list, not one string")


def _checked_network(network: str) -> None:
    try:
        if network != "unix":
            ip_network(network)
    except ValueError:
        raise InvalidInput(
            f"{network!r} is not a network", hint="write 10.0.0.0/8, 2001:db8::/32 or unix"
        ) from None
