"""``python -m loadtest.bench.profile``: where a node's time goes, by symbol.

``perf`` samples a node under full load; ``callgrind`` counts instructions per call, which repeats to a fraction of a
percent on the noisiest machine. Under valgrind there is no SHA-NI, so hashing looks several times dearer than it is.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from loadtest.bench.driving import command_of, drive, report_of, start
from loadtest.bench.servers import Server, free_port, node, process, wait_until_it_answers
from loadtest.bench.stores import BenchStore, bench_store
from loadtest.bench.tools import BUILD

SYMBOLS = 45


@click.command()
@click.argument("tool", type=click.Choice(["perf", "callgrind"]))
@click.option("--keys", default=100_000, show_default=True, help="Keys in the keyring.")
@click.option("--shape", default="10x100", show_default=True, help="Connections x calls in flight on each.")
@click.option("--calls", default=100_000, show_default=True, help="Calls to count (callgrind).")
@click.option("--seconds", default=3.0, show_default=True, help="Time to sample (perf).")
@click.option("--literal", is_flag=True, help="Request headers as nghttp2 clients send them.")
def main(tool: str, keys: int, shape: str, calls: int, seconds: float, literal: bool) -> None:
    """Print the symbols that cost most."""
    connections, streams = (int(part) for part in shape.split("x"))
    load = {"connections": connections, "streams": streams, "extra": ("--literal",) if literal else ()}
    store = bench_store(keys)
    if tool == "perf":
        sample(store, load, seconds)
    else:
        count(store, load, calls)


def sample(store: BenchStore, load: dict, seconds: float) -> None:
    """Sample a node's threads and print symbols by share of the time."""
    data = BUILD / "perf.data"
    with node(store) as server:
        generator = start(command_of(server, duration_s=seconds + 0.5, **load))
        time.sleep(0.5)
        record = ["perf", "record", "-q", "-o", data, "-e", "cpu-clock", "-F", "4999", "-p", str(server.pid)]
        subprocess.run([*record, "--", "sleep", str(seconds)], check=True, stdout=subprocess.DEVNULL)
        report = report_of(generator)
    click.echo(f"{report['server_cpu_us']:.2f} us CPU per call, {report['rate']:,.0f}/s, {report['errors']} errors")
    text = subprocess.run(["perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol"], capture_output=True,
                          text=True, check=True).stdout
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    click.echo("\n".join(lines[:SYMBOLS]))


def count(store: BenchStore, load: dict, calls: int) -> None:
    """Count a node's instructions under callgrind and print them per call, by symbol."""
    if shutil.which("valgrind") is None:
        raise click.ClickException("apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="verifier-callgrind-") as scratch:
        out = Path(scratch) / "out"
        port = free_port()
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}",
                   sys.executable, "-m", "verifier", "--store", store.home, "serve", "--metrics", "off",
                   "--listen", f"127.0.0.1:{port}", "--state", f"{scratch}/state"]
        with process(command) as child:
            server = Server("callgrind", child.pid, f"127.0.0.1:{port}", "grpc", store.grpc_requests())
            wait_until_it_answers(server, child)
            drive(server, warmup_s=0, calls=calls // 10, **load)
            _control(child.pid, "-i", "on")
            report = drive(server, warmup_s=0, calls=calls, **load)
            _control(child.pid, "-i", "off")
            _control(child.pid, "-d")
        _print_counts(sorted(Path(scratch).glob("out*"))[-1], sum(report["statuses"].values()))


def _control(pid: int, *arguments: str) -> None:
    subprocess.run(["callgrind_control", *arguments, str(pid)], check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"LC_ALL": "C"})


def _print_counts(file: Path, calls: int) -> None:
    text = subprocess.run(["callgrind_annotate", "--threshold=99.5", file], capture_output=True, text=True,
                          check=True).stdout
    for line in text.splitlines():
        found = re.match(r"\s*([\d,]+) \(\s*([\d.]+%)\)\s+(.*)", line)
        if found:
            instructions = int(found[1].replace(",", ""))
            name = re.sub(r" \[.*/([^/]+)\]$", r" [\1]", found[3].removeprefix("???:"))
            click.echo(f"{instructions / calls:10.1f} {found[2]:>7}  {name[:110]}")


if __name__ == "__main__":
    main()
