"""Where a control plane listens, and whether that is this machine only."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from verifier.errors import InvalidInput

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


def is_local(target: str) -> bool:
    """Tell whether a target of a client is on this machine.

    Raises:
        InvalidInput: it is no address (``BAD_ADDRESS``).
    """
    return parse(target).is_local
