"""``verifier status``: what a node says of itself."""

import http.client
import json
import socket
from typing import Any

import click

from verifier.cli._common import counted, json_option, print_json, print_table
from verifier.errors import InvalidInput, Unavailable
from verifier.server.values import split_address, tcp_address

# The client preface of HTTP/2 with an empty SETTINGS frame; a gRPC port answers with a SETTINGS frame of its own.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_FRAME = 4


@click.command(name="status")
@click.option("--target", default="127.0.0.1:9464", show_default=True, metavar="HOST:PORT",
              help="The node's metrics port.")
@click.option("--timeout", default=5.0, show_default=True, metavar="SECONDS", help="Longest wait for the answer.")
@json_option
def command(target: str, timeout: float, as_json: bool) -> None:
    """Ask a node what it serves, and what it refused.

    Exit code 0 when the node is serving, 3 when it is not or cannot be reached.
    """
    status = fetch(target, timeout)
    if as_json:
        print_json(status)
    else:
        show(status)
    if status.get("state") != "SERVING":
        raise click.exceptions.Exit(3)


def fetch(target: str, timeout_s: float, option: str = "--target") -> dict[str, Any]:
    """Get the status object of a node.

    Args:
        target: host and metrics port.
        timeout_s: longest wait, in seconds.
        option: that named the target, for errors.

    Raises:
        InvalidInput: the target is not written as HOST:PORT, or is the gRPC port.
        Unavailable: nobody answers there, or somebody else.
    """
    try:
        host, port = split_address(tcp_address(target))
    except ValueError as error:
        raise InvalidInput(f"{option} {target}: {error}") from None
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        body = json.loads(answer.read()) if answer.status == http.HTTPStatus.OK else None
    except (http.client.HTTPException, ConnectionResetError, TimeoutError, ValueError) as error:
        if speaks_http2(host, port, timeout_s):
            raise InvalidInput(
                f"{target} is a gRPC port; the status is on the metrics port",
                hint=f"{option} 127.0.0.1:9464 (what serve was given with --metrics)",
            ) from error
        raise Unavailable(f"{target} does not answer as a verifier's metrics port") from error
    except OSError as error:
        raise Unavailable(
            f"cannot reach {target}: {error.strerror or error}",
            hint="is the node running, and is this its metrics port?",
        ) from error
    finally:
        connection.close()
    if not isinstance(body, dict) or "state" not in body:
        raise Unavailable(f"{target} answers, but not as a verifier's metrics port")
    return body


def speaks_http2(host: str, port: int, timeout_s: float) -> bool:
    """Tell whether a port answers the preface of HTTP/2."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as probe:
            probe.sendall(PREFACE)
            header = probe.recv(9)
    except OSError:
        return False
    return len(header) >= 4 and header[3] == SETTINGS_FRAME


def show(status: dict[str, Any]) -> None:
    """Print the status for people."""
    rows: list[tuple[str, object]] = [
        ("state", status["state"]),
        ("revision", status["revision"]),
        ("published", status["published_at"]),
        ("confirmed newest", _milliseconds(status["staleness_ms"])),
        ("store", status["store_id"]),
    ]
    if status.get("held"):
        rows.append(("held", f"as of revision {status['content_of']}, after a rollback"))
    for name in ("base", "delta"):
        keyring = status[name]
        if keyring:
            records = counted(keyring["records"], "record")
            rows.append((name, f"{records}, {keyring['bytes']:,} bytes, {keyring['sha256'][:12]}"))
    refusal = status["last_refusal"]
    if refusal:
        which = "" if refusal["revision"] is None else f"revision {refusal['revision']}: "
        rows.append(("last refusal", f"{which}{refusal['code']}, {refusal['message']} ({refusal['at']})"))
    if status.get("clock_skew_ms") is not None:
        rows.append(("clock", f"{status['clock_skew_ms']} ms ahead of the control plane's"))
    usage = status.get("usage")
    if usage:
        rows.append(("usage reports", f"{usage['sequence']} taken, {usage['backlog']} versions to be told"))
    rows += [("addresses", ", ".join(status["addresses"])), ("up for", f"{status['uptime_s']} s"),
             ("version", status["version"])]
    print_table("Node", ["", ""], rows)


def _milliseconds(value: int | None) -> str | None:
    return None if value is None else f"{value} ms ago"
