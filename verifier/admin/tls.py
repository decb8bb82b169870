"""TLS for the operators' API. Certificates and keys are read again when their files change."""

import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from verifier.errors import InvalidInput, NotFound, Unavailable


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a server shows, and whom it lets in.

    Args:
        certificate: PEM file of its certificate and those that lead to its authority.
        key: PEM file of its private key.
        client_ca: PEM file of the authorities that clients' certificates must be from; then each client must have one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Whom a client trusts, and what it shows.

    Args:
        ca: PEM file of the authorities that the server's certificate must be from; the system's when None.
        certificate: PEM file of the client's own certificate, where the server asks for one.
        key: PEM file of its private key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Return credentials that follow the files: a renewed certificate is shown from the next connection on.

    Raises:
        NotFound: a file does not exist.
        Unavailable: a file cannot be read, or holds no certificate and key that gRPC takes (``BAD_CERTIFICATE``).
    """
    followed = _Followed(tls)
    try:
        return grpc.dynamic_ssl_server_credentials(
            followed.first,
            followed.news,  # type: ignore[arg-type]  # may return None: "as before"
            require_client_authentication=tls.client_ca is not None,
        )
    except Exception as error:
        raise Unavailable(f"TLS cannot be set up: {error}", code="BAD_CERTIFICATE") from None


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Return the credentials of a client.

    Raises:
        InvalidInput: a certificate without a key, or a key without a certificate.
        NotFound: a file does not exist.
        Unavailable: a file cannot be read.
    """
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidInput("a client's certificate and its key belong together: give both or neither", code="BAD_TLS")
    return grpc.ssl_channel_credentials(
        None if tls.ca is None else _read(tls.ca),
        None if tls.key is None else _read(tls.key),
        None if tls.certificate is None else _read(tls.certificate),
    )


class _Followed:
    """The files of a server, as gRPC asks for them at each handshake."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self.first = self._configuration()

    def news(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the files anew if they changed, None if they did not or cannot be read now."""
        with self._lock:
            try:
                stamp = self._stamped()
                if stamp == self._stamp:
                    return None
                configuration = self._configuration()
            except (NotFound, Unavailable, OSError):
                return None  # in the middle of being replaced: what is shown stays
            self._stamp = stamp
            return configuration

    def _files(self) -> list[Path]:
        return [file for file in (self._tls.certificate, self._tls.key, self._tls.client_ca) if file is not None]

    def _stamped(self) -> list[tuple[int, int, int]]:
        for file in self._files():
            _read(file)
        stats = [file.stat() for file in self._files()]
        return [(stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats]

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (_read(self._tls.key), _read(self._tls.certificate))
        ca = None if self._tls.client_ca is None else _read(self._tls.client_ca)
        return grpc.ssl_server_certificate_configuration([pair], ca)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", code="FILE_NOT_FOUND") from None
    except OSError as error:
        raise Unavailable(f"cannot read {file}: {error.strerror}", code="NOT_READABLE") from None
