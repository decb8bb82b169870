"""Why no verifier answered at a target: for people at a command line, after a call has failed."""

import json
import socket
from typing import Any

_REQUEST = b"GET /status HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
_ANSWER_BYTES_MAX = 64 << 10
_UNREACHABLE: dict[type[OSError], str] = {
    FileNotFoundError: "there is no such socket; start a node with `verifier --store DIR serve --listen ...`",
    PermissionError: "the socket may not be opened by this user",
    ConnectionRefusedError: "nothing listens there; start a node with `verifier --store DIR serve --listen ...`",
    socket.gaierror: "the host name is not known",
}


def explain(target: str, timeout_s: float = 1.0) -> str | None:
    """Say what listens at a target instead of a verifier, and which port to use; None when nothing is to be said.

    A plain HTTP request is sent: what answers it in HTTP/1 is a metrics port or some other web server. It holds
    nothing of the call that failed.

    Args:
        target: "host:port" or "unix:path".
        timeout_s: time for this in all, in seconds.
    """
    try:
        with _connect(target, timeout_s) as connection:
            connection.sendall(_REQUEST)
            answer = _read(connection)
    except OSError as error:
        return next((text for kind, text in _UNREACHABLE.items() if isinstance(error, kind)), None)
    except ValueError:
        return None
    return _explain_http(answer) if answer.startswith(b"HTTP/1.") else None


def _explain_http(answer: bytes) -> str:
    status = _status_of(answer)
    if status is None and b"verifier_" not in answer:
        return "an HTTP/1 server listens there, not gRPC; use the port that the node was given with --listen"
    listeners = status.get("addresses") if status else None
    ports = ", ".join(str(name) for name in listeners) if isinstance(listeners, list) and listeners else None
    known = f"here: {ports}" if ports else "by default 127.0.0.1:50051"
    return f"that is a node's metrics port (for `verifier status`); use its --listen port, {known}"


def _status_of(answer: bytes) -> dict[str, Any] | None:
    """Return the body when it is a node's JSON status."""
    _head, _blank, body = answer.partition(b"\r\n\r\n")
    try:
        status = json.loads(body)
    except ValueError:
        return None
    return status if isinstance(status, dict) and "revision" in status else None


def _connect(target: str, timeout_s: float) -> socket.socket:
    if target.startswith("unix:"):
        path = target.removeprefix("unix:")
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            connection.connect(path.removeprefix("//"))
        except BaseException:
            connection.close()
            raise
        return connection
    host, _colon, port = target.rpartition(":")
    return socket.create_connection((host.rpartition("/")[2].strip("[]"), int(port)), timeout_s)


def _read(connection: socket.socket) -> bytes:
    """Read until the other side closes, is silent, or has said enough."""
    answer = b""
    try:
        while len(answer) < _ANSWER_BYTES_MAX:
            piece = connection.recv(4096)
            if not piece:
                break
            answer += piece
            if not answer.startswith(b"HTTP/1."[: len(answer)]):
                break
    except OSError:
        pass
    return answer
