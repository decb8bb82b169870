"""``python -m loadtest.bench``: measure, compare with the budgets and with peers, print a table, write JSON."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from loadtest.bench import check, cpu, http, latency, load, lookup, memory, publish, revocation, swap, usage
from loadtest.bench.driving import CORES
from loadtest.bench.plan import Plan
from loadtest.bench.report import Row, machine, markdown, print_rows, write_docs, write_json
from loadtest.bench.servers import PEERS
from loadtest.bench.tools import ROOT

PARTS: dict[str, Callable[[Plan], list[Row]]] = {
    "publish": publish.measure,
    "size": publish.measure_size,
    "lookup": lookup.measure,
    "cpu": cpu.measure,
    "check": check.measure,
    "http": http.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "load": load.measure,
    "swap": swap.measure,
    "revocation": revocation.measure,
    "usage": usage.measure,
}


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice([*PARTS, "all"]), metavar="[PART]...")
@click.option("--keys", default=1_000_000, show_default=True, help="Keys in the keyring.")
@click.option("--quick", is_flag=True, help="Short rounds: shows that it works, not figures to quote.")
@click.option("--rounds", type=int, help="Interleaved rounds.  [5; 2 with --quick]")
@click.option("--seconds", type=float, help="Length of one measured window.  [2; 0.7 with --quick]")
@click.option("--peers", default=",".join(PEERS), show_default=True, help="Peers to compare with; empty for none.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=ROOT / "bench-results/bench.json",
              help="Where the JSON goes; Markdown goes beside it.  [bench-results/bench.json]")
@click.option("--docs", is_flag=True, help="Put the run into docs/benchmarks.md, too.")
def main(parts: tuple[str, ...], keys: int, quick: bool, rounds: int | None, seconds: float | None, peers: str,
         json_file: Path, docs: bool) -> None:
    """Measure the named parts, or all: publish size lookup cpu check http latency memory load swap revocation usage.

    Exit code 1 when a budget was missed.
    """
    chosen = list(PARTS) if not parts or "all" in parts else list(parts)
    plan = Plan(keys, quick, rounds or (2 if quick else 5), seconds or (0.7 if quick else 2.0),
                tuple(filter(None, peers.split(","))))
    about = machine() | {"command": "python -m loadtest.bench " + " ".join(sys.argv[1:]), "rounds": plan.rounds,
                         "window_s": plan.seconds}
    if len(CORES) < 2:
        plan.notes.append("only one core: server and generator share it, and only CPU per call means anything")
    rows: list[Row] = []
    for part in chosen:
        start = time.monotonic()
        click.echo(f"{part} ...", err=True)
        rows += PARTS[part](plan)
        click.echo(f"{part}: {time.monotonic() - start:.0f} s", err=True)
        # After each part: with ten million keys the whole takes long, and may be interrupted.
        write_json(json_file, rows, plan.notes, about)
        text = markdown(rows, plan.notes, about)
        json_file.with_suffix(".md").write_text(text)
    print_rows(rows, plan.notes)
    if docs:
        write_docs(text)
    missed = [check for row in rows for check, met in row.checks().items() if not met]
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
