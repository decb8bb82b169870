"""Runs the load generator against a server and reads its report."""

import json
import os
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loadtest.bench import tools

if TYPE_CHECKING:
    from loadtest.bench.servers import Server

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
GENERATOR_CORE = CORES[-1]


class NotReady(RuntimeError):
    """A server does not answer, or the generator could not do its work."""


def pin_to_generator_core() -> None:
    """Keep this process off the server's core."""
    os.sched_setaffinity(0, {GENERATOR_CORE})


def command_of(
    server: "Server",
    *,
    connections: int = 1,
    streams: int = 1,
    duration_s: float = 2.0,
    warmup_s: float = 0.3,
    calls: int = 0,
    rate_per_s: float = 0.0,
    expect: int = 1,
    extra: Sequence[str] = (),
) -> list[str]:
    """Return the generator's command line for a load."""
    options = {
        "target": server.target, "protocol": server.protocol, "requests": server.requests, "connections": connections,
        "streams": streams, "duration": duration_s, "warmup": warmup_s, "server-pid": server.pid,
    }  # fmt: skip
    if calls:
        options["calls"] = calls
    if rate_per_s:
        options["rate"] = rate_per_s
    if expect >= 0:
        options["expect"] = expect
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [str(tools.generator()), *words, *extra]


def start(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Start the generator on its core; read its report with :func:`report_of`."""
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {GENERATOR_CORE}),  # noqa: PLW1509 (no threads yet)
    )


def report_of(child: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for the generator and return its report.

    Raises:
        NotReady: it failed; its own words are passed on.
    """
    output, errors = child.communicate()
    if child.returncode:
        raise NotReady(errors.strip())
    report: dict[str, Any] = json.loads(output)
    return report


def drive(server: "Server", **load: Any) -> dict[str, Any]:
    """Load a server and return the generator's report; arguments as for :func:`command_of`."""
    return report_of(start(command_of(server, **load)))
