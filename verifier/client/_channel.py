"""Where a client connects to, and how."""

from collections.abc import Mapping, Sequence

import grpc

from verifier import __version__
from verifier.errors import InvalidInput

VERIFY = "/verifier.v1.VerifierService/Verify"
VERIFY_BATCH = "/verifier.v1.VerifierService/VerifyBatch"
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}

OPTIONS: Mapping[str, int | str] = {
    # A token must not travel through a proxy because the environment names one.
    "grpc.enable_http_proxy": 0,
    # grpcio waits 1 s to 2 min by default before it connects again: too long beside a node that restarts in 1 s.
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 1000,
    "grpc.max_reconnect_backoff_ms": 1000,
    # Notices a peer that vanished without a word, while calls are in flight.
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
    # 1,000 answers of the largest records are 2 MB.
    "grpc.max_receive_message_length": 4 << 20,
    "grpc.primary_user_agent": f"verifier-client/{__version__}",
}

Targets = str | Sequence[str]
Credentials = bool | grpc.ChannelCredentials
ChannelOptions = Sequence[tuple[str, int | str]]


def checked_targets(target: Targets) -> list[str]:
    """Return the targets as a list, each "host:port", "unix:path" or another name that gRPC resolves.

    Raises:
        InvalidInput: no target, or one without a port.
    """
    targets = [target] if isinstance(target, str) else list(target)
    if not targets:
        raise InvalidInput("no target was named", hint="give host:port or unix:path")
    for name in targets:
        _host, colon, port = name.rpartition(":")
        is_path = name.startswith(("unix:", "unix-abstract:")) and bool(port)
        if not is_path and not (colon and port.isdigit() and 0 < int(port) < 1 << 16):
            raise InvalidInput(f"{name!r} is not a target", hint="write host:port or unix:path")
    return targets


def merged_options(options: ChannelOptions) -> list[tuple[str, int | str]]:
    """Return :data:`OPTIONS` with the caller's in their place."""
    return list({**OPTIONS, **dict(options)}.items())


def channel_credentials(tls: Credentials) -> grpc.ChannelCredentials | None:
    """Return what ``tls`` stands for: None = plain text, True = TLS with the system's trusted roots."""
    if isinstance(tls, bool):
        return grpc.ssl_channel_credentials() if tls else None
    return tls
