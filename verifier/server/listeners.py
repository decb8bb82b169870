"""Listening sockets of the data port: addresses, binding, and what a Unix socket leaves behind."""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verifier.errors import InvalidInput, Unavailable, VerifierError

BACKLOG = 4096
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
]
"""A silent peer is asked by the kernel after a minute whether it is still there, and given up a minute later."""
_UNIX = "unix:"


@dataclass(frozen=True)
class Address:
    """Where to listen: a Unix socket's path, or host and port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        """Write it as :func:`parse_address` reads it."""
        if self.path is not None:
            return f"{_UNIX}{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:PATH``. Port 0 lets the kernel choose.

    Raises:
        InvalidInput: it is none of these.
    """
    if text.startswith(_UNIX):
        if len(text) == len(_UNIX):
            raise InvalidInput("a Unix socket needs a path", hint="write unix:run/verifier.sock")
        return Address(path=Path(text.removeprefix(_UNIX)))
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535 or (":" in host) != bracketed:
        raise InvalidInput(
            f"{text!r} is not an address", hint="write 127.0.0.1:50051, [::1]:50051 or unix:run/verifier.sock"
        )
    return Address(host=host[1:-1] if bracketed else host, port=int(port))


class Listener:
    """One listening socket, bound and ready for :meth:`verifier._loop.Loop.add_listener`.

    Args:
        address: where to listen.
        socket_mode: permissions of a Unix socket.

    Raises:
        Unavailable: another program listens there (code ADDRESS_IN_USE), or the system refuses (CANNOT_LISTEN), for
            example a port below 1024.
        InvalidInput: the host is unknown, or the address is not one of this machine's.
    """

    def __init__(self, address: Address, socket_mode: int = 0o660) -> None:
        self._inode: tuple[int, int] | None = None
        if address.path is not None:
            self.socket = self._bind_unix(address.path, socket_mode)
            self.address = address
        else:
            self.socket = _bind_tcp(address)
            self.address = Address(host=address.host, port=int(self.socket.getsockname()[1]))

    def _bind_unix(self, path: Path, mode: int) -> socket.socket:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _explain(error, Address(path=path)) from error
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o777 & ~mode)
        try:
            listener.bind(str(path))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise _explain(error, Address(path=path)) from error
        finally:
            os.umask(before)
        status = path.stat()
        self._inode = (status.st_dev, status.st_ino)
        return listener

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.socket.fileno()

    def close(self) -> None:
        """Stop listening, and remove a Unix socket's file if it is still this one's."""
        self.socket.close()
        path, self_inode = self.address.path, self._inode
        if path is None or self_inode is None:
            return
        try:
            status = path.lstat()
            if (status.st_dev, status.st_ino) == self_inode:
                path.unlink()
        except FileNotFoundError:
            pass


def open_listeners(addresses: Sequence[str], socket_mode: int = 0o660) -> list[Listener]:
    """Bind all addresses, or none.

    Raises:
        VerifierError: see :class:`Listener` and :func:`parse_address`.
    """
    opened: list[Listener] = []
    try:
        for parsed in [parse_address(text) for text in addresses]:
            opened.append(Listener(parsed, socket_mode))
    except VerifierError:
        for listener in opened:
            listener.close()
        raise
    return opened


def _bind_tcp(address: Address) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise InvalidInput(f"host {address.host!r} is not known: {error.strerror}") from error
    listener = socket.socket(family, kind, protocol)
    try:
        # Restarting at once is fine; a second server on the same port is not (SO_REUSEPORT stays off).
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by what is accepted: a peer that vanished without a word must not keep its connection for ever.
        for level, option, value in KEEPALIVE:
            listener.setsockopt(level, option, value)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(where)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explain(error, address) from error
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket file of a server that is no more; never one on which somebody listens, nor any other file."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Unavailable(f"{path} is not a socket", code="ADDRESS_IN_USE", hint="choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # a full backlog, no permission: somebody may be there
    raise _in_use(Address(path=path))


def _explain(error: OSError, address: Address) -> VerifierError:
    if error.errno == errno.EADDRINUSE:
        return _in_use(address)
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(f"cannot listen on {address}: it is not an address of this machine")
    return Unavailable(f"cannot listen on {address}: {error.strerror or error}", code="CANNOT_LISTEN")


def _in_use(address: Address) -> Unavailable:
    return Unavailable(
        f"another program listens on {address}", code="ADDRESS_IN_USE", hint="stop it, or choose another address"
    )
