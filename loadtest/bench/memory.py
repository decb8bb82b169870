"""Memory of a node per idle connection, after one call on each."""

from pathlib import Path

from loadtest.bench.driving import command_of, drive, start
from loadtest.bench.plan import Plan
from loadtest.bench.report import Row
from loadtest.bench.servers import node
from loadtest.bench.stores import bench_store

CONNECTIONS = 1000
BUDGET_KIB = 24.0


def measure(plan: Plan) -> list[Row]:
    """Open a thousand connections, make one call on each, and see how much the node grew."""
    with node(bench_store(plan.keys)) as server:
        drive(server, connections=10, streams=100, duration_s=0.3)
        before = _resident_kib(server.pid)
        lingering = start(command_of(server, connections=CONNECTIONS, streams=1, calls=CONNECTIONS, warmup_s=0,
                                     extra=("--linger", "2")))
        assert lingering.stdout is not None
        lingering.stdout.readline()
        grown = (_resident_kib(server.pid) - before) / CONNECTIONS
        lingering.communicate()
        total = _resident_kib(server.pid)
    return [Row("memory", f"per idle connection, {CONNECTIONS:,} of them", grown, "KiB", BUDGET_KIB,
                detail={"resident_kib_before": before, "resident_kib_after": total})]


def _resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)
