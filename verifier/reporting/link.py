"""The connection to the control plane: where it is, how it is protected, and what its errors say."""

import ipaddress
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from verifier import __version__
from verifier.admin.v1 import node_pb2_grpc
from verifier.errors import InvalidInput, Unavailable

OPTIONS = [
    # A report must not travel through a proxy because the environment names one.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Notices a peer that vanished without a word.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", f"verifier-node/{__version__}"),
]
SYSTEM = "system"
DOMAIN = "verifier"


@dataclass(frozen=True)
class Target:
    """The control plane as a node reaches it.

    Attributes:
        address: ``HOST:PORT`` or ``unix:PATH``.
        token_file: holds the token of the role ``node``; read for each report, so that it can be replaced.
        ca: file of certificates to trust, or ``system`` for those of the machine; None for no TLS.
        cert, key: files of the own certificate and its key, where the control plane asks for one.
        plaintext: allow no TLS to another machine.

    Raises:
        InvalidInput: no TLS to another machine, half a certificate, or no address.
    """

    address: str
    token_file: Path | None = None
    ca: str | None = None
    cert: Path | None = None
    key: Path | None = None
    plaintext: bool = False

    def __post_init__(self) -> None:
        """Check what does not fit together."""
        host, colon, port = self.address.rpartition(":")
        if not self.address.startswith("unix:") and not (colon and host and port.isdigit()):
            raise InvalidInput(f"{self.address!r} is not where a control plane is", hint="write HOST:PORT or unix:PATH")
        if (self.cert is None) != (self.key is None):
            raise InvalidInput("a certificate and its key belong together", hint="give report_cert and report_key")
        if self.ca is None and self.cert is not None:
            raise InvalidInput("a certificate needs TLS", hint="give report_ca: a file, or system")
        if self.ca is None and not self.plaintext and not is_local(self.address):
            raise InvalidInput(
                "reports to another machine, with their token, need TLS",
                hint="give report_ca (a file, or system); report_plaintext = allow is for networks that you trust",
            )


def is_local(address: str) -> bool:
    """Tell whether an address cannot be another machine."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Link:
    """A channel to the control plane, which connects, and connects again, by itself.

    Args:
        target: where it is.

    Attributes:
        stub: makes calls; take it anew for each.

    Raises:
        Unavailable: a file of the TLS settings cannot be read.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._files = _files(target)
        self._connect()

    def _connect(self) -> None:
        credentials = _credentials(self._target, self._files)
        if credentials is None:
            self._channel = grpc.insecure_channel(self._target.address, OPTIONS)
        else:
            self._channel = grpc.secure_channel(self._target.address, credentials, OPTIONS)
        self.stub: Any = node_pb2_grpc.NodeServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def renew(self) -> None:
        """Connect anew if certificates or key were replaced; to be called when a call has failed."""
        with self._lock:
            try:
                files = _files(self._target)
            except Unavailable:
                return
            if files != self._files:
                self._files = files
                self._channel.close()
                self._connect()

    def metadata(self) -> list[tuple[str, str]]:
        """Return what goes with each call: the token, if there is one.

        Raises:
            Unavailable: its file cannot be read.
        """
        if self._target.token_file is None:
            return []
        token = _read(self._target.token_file).decode("ascii", "replace").strip()
        return [("authorization", f"Bearer {token}")]

    def close(self) -> None:
        """Hang up; calls in flight fail."""
        self._channel.close()


Files = tuple[bytes | None, bytes | None, bytes | None]


def _files(target: Target) -> Files:
    """Read trusted certificates, key and certificate."""
    ca = None if target.ca in (None, SYSTEM) else Path(str(target.ca))
    roots, key, chain = (None if path is None else _read(path) for path in (ca, target.key, target.cert))
    return roots, key, chain


def _credentials(target: Target, files: Files) -> grpc.ChannelCredentials | None:
    return None if target.ca is None else grpc.ssl_channel_credentials(*files)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a report was not taken.

    Attributes:
        code: of the control plane's error, else gRPC's.
        reason: in words.
        applied: with USAGE_GAP, the last report that is known there.
    """

    code: str
    reason: str
    applied: int | None = None


def fault_of(error: Exception) -> Fault:
    """Read an error of a call; every other error is a fault too."""
    if isinstance(error, Unavailable):
        return Fault(error.code, error.message)
    if not isinstance(error, grpc.RpcError):
        return Fault("INTERNAL", f"{type(error).__name__}: {error}")
    call: Any = error
    lines = str(call.details() or "").splitlines() or [""]
    info = _info_of(call)
    if info is None:
        return Fault(call.code().name, lines[0][:300])
    return Fault(info.reason, lines[0][:300], _applied(info))


def _info_of(call: Any) -> error_details_pb2.ErrorInfo | None:
    try:
        status = rpc_status.from_call(call)
    except ValueError:  # of another server, or changed on its way
        return None
    for detail in () if status is None else status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _applied(info: error_details_pb2.ErrorInfo) -> int | None:
    if info.reason != "USAGE_GAP":
        return None
    try:
        applied = json.loads(info.metadata["details"])["applied"]
    except (KeyError, TypeError, ValueError):
        return None
    return applied if isinstance(applied, int) and applied >= 0 else None
