"""The address of the client: that of the connection, or what trusted proxies say of it."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

UNIX = "unix"


class Addresses:
    """Finds the client's address.

    Args:
        trusted: networks of proxies whose ``X-Forwarded-For`` is believed, and ``"unix"`` for Unix sockets.
    """

    def __init__(self, trusted: Sequence[str]) -> None:
        self._networks = [ip_network(network) for network in trusted if network != UNIX]
        self._unix = UNIX in trusted

    def client(self, peer: str | None, forwarded: Sequence[bytes]) -> str | None:
        """Return the client's address, None when it is not known.

        Each proxy adds the address of its own peer at the end, so the list is read from there, as long as a trusted
        proxy vouches for the next entry.

        Args:
            peer: the other end of the connection: an address, or None for a Unix socket.
            forwarded: the values of ``X-Forwarded-For``, in order.
        """
        if not forwarded:
            return _text(peer)
        address = _address(peer)
        if not self._trusts(peer, address):
            return _text(peer)
        for entry in reversed(b",".join(forwarded).split(b",")):
            address = _address(_without_port(entry.decode("ascii", "replace").strip()))
            if address is None or not self._within(address):
                break
        return None if address is None else str(address)

    def _trusts(self, peer: str | None, address: IPv4Address | IPv6Address | None) -> bool:
        return self._unix if not peer else address is not None and self._within(address)

    def _within(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


@lru_cache(maxsize=4096)
def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address((text or "").partition("%")[0])  # a zone says nothing on another machine
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=4096)
def _text(peer: str | None) -> str | None:
    address = _address(peer)
    return None if address is None else str(address)


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, colon, _port = entry.partition(":")
    return host if colon and ":" not in _port else entry
