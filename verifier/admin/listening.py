"""Where a control plane listens, and whether that is this machine only."""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from verifier.errors import InvalidInput, Unavailable

UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Place:
    """A place to listen at, or to call.

    Attributes:
        host: name or address; empty for a Unix socket.
        port: 0 for any free one.
        path: of the Unix socket.
    """

    host: str = ""
    port: int = 0
    path: Path | None = None

    @property
    def target(self) -> str:
        """The place as gRPC writes it."""
        if self.path is not None:
            return f"{UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(text: str) -> Place:
    """Read ``HOST:PORT``, ``[ADDRESS]:PORT`` or ``unix:PATH``.

    Raises:
        InvalidInput: it is none of these (``BAD_ADDRESS``).
    """
    if text.startswith(UNIX) and len(text) > len(UNIX):
        return Place(path=Path(text.removeprefix(UNIX)))
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        separator = ""
    if not (separator and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise InvalidInput(
            f"{text[:80]!r} is no address", hint="HOST:PORT, [ADDRESS]:PORT or unix:PATH", code="BAD_ADDRESS"
        )
    return Place(host, int(port))


def check_free(place: Place) -> None:
    """Refuse a TCP place that cannot be listened at: gRPC would only say so in lines of its own on standard error.

    Raises:
        Unavailable: none of its addresses can be listened at (``CANNOT_LISTEN``).
    """
    if place.path is not None:
        return
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise cannot_listen(place, error) from None
    faults = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen()
                return
        except OSError as error:
            faults.append(error)
    raise cannot_listen(place, faults[0]) from None


def cannot_listen(place: Place, error: OSError | None = None) -> Unavailable:
    """Return the error that nobody can listen at a place."""
    why = "" if error is None else f": {error.strerror or error}"
    return Unavailable(
        f"cannot listen at {place.target}{why}", hint="is something else listening there?", code="CANNOT_LISTEN"
    )


def is_local(target: str) -> bool:
    """Tell whether a target of a client is on this machine.

    Raises:
        InvalidInput: it is no address (``BAD_ADDRESS``).
    """
    return parse(target).is_local
