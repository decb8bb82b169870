"""One load on one case: wrk, and the CPU time of the gateway and of whom it asks meanwhile."""

import os
import subprocess
from pathlib import Path
from typing import Any

from loadtest.bench.driving import NotReady
from loadtest.bench.tools import LOADTEST
from loadtest.gateways.standing import Case
from tests.gateways.support.gateways import PROGRAMS

SCRIPT = LOADTEST / "gateways" / "callers.lua"


def cpu_ns(pid: int) -> int:
    """Return the time that a process was on a CPU, all threads that live, user and kernel."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def load(case: Case, tokens: Path, connections: int, seconds: int) -> dict[str, Any]:
    """Call a gateway on so many connections, each as soon as it has its answer.

    Returns:
        ``rate`` per second, ``p50_us``, ``p99_us``; ``gateway_cpu_us`` and ``asked_cpu_us`` per request.

    Raises:
        NotReady: a request failed or was refused.
    """
    before = [sum(map(cpu_ns, pids)) for pids in _pids(case)]
    command = [PROGRAMS / "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", SCRIPT,
               f"http://127.0.0.1:{case.port}"]
    run = subprocess.run(list(map(str, command)), env={**os.environ, "TOKENS": str(tokens)}, capture_output=True,
                         text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if run.returncode or not lines:
        raise NotReady(f"wrk: {run.stdout}{run.stderr}")
    requests, duration_us, p50, p99, refused, failed = map(int, lines[0].split()[1:])
    if refused or failed or not requests:
        raise NotReady(f"{case.gateway} asking {case.asks}: {refused} refused and {failed} failed of {requests}")
    spent = [sum(map(cpu_ns, pids)) - then for pids, then in zip(_pids(case), before, strict=True)]
    return {
        "rate": requests / duration_us * 1e6, "p50_us": p50, "p99_us": p99,
        "gateway_cpu_us": spent[0] / requests / 1000, "asked_cpu_us": spent[1] / requests / 1000,
    }  # fmt: skip


def _pids(case: Case) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return case.pids, (case.asked,) if case.asked else ()
