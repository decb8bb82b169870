"""``python -m loadtest.gateways``: what asking adds to Envoy and NGINX, as a table."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from loadtest.bench.plan import interleaved, median
from loadtest.bench.report import machine
from loadtest.bench.stores import bench_store
from loadtest.bench.tools import ROOT
from loadtest.gateways.loading import load
from loadtest.gateways.standing import Case, standing

FIGURES = ("p50_us", "p99_us", "gateway_cpu_us", "asked_cpu_us", "rate")
HEADINGS = ["gateway", "asks", "p50 us", "added us", "p99 us", "CPU us: gateway", "added", "asked", "at 16: requests/s",
            "CPU us: gateway", "added", "asked"]  # fmt: skip
MANY = 16
BEGIN, END = "<!-- run: begin -->", "<!-- run: end -->"
PAGE = ROOT / "docs/gateways.md"

Found = dict[tuple[str, str, int], dict[str, float]]


def measured(cases: list[Case], tokens: Path, rounds: int, seconds: int) -> Found:
    """Return medians of interleaved rounds by gateway, whom it asks, and connections."""
    for case in cases:
        load(case, tokens, MANY, 1)  # connections made, keys seen
    runs = {(case.gateway, case.asks, connections): partial(load, case, tokens, connections, seconds)
            for connections in (1, MANY) for case in cases}
    return {key: {figure: median(run[figure] for run in found) for figure in FIGURES}
            for key, found in interleaved(rounds, runs).items()}


def row(found: Found, gateway: str, asks: str) -> list[str]:
    """Return one line of the table."""
    one, many = found[gateway, asks, 1], found[gateway, asks, MANY]
    one_alone, many_alone = found[gateway, "nobody", 1], found[gateway, "nobody", MANY]

    def cpu(figures: dict[str, float], alone: dict[str, float]) -> list[str]:
        added = figures["gateway_cpu_us"] - alone["gateway_cpu_us"]
        own = [f"{figures['gateway_cpu_us']:.0f}"]
        return own + ([f"{added:.0f}", f"{figures['asked_cpu_us']:.1f}"] if asks != "nobody" else ["", ""])

    added = f"{one['p50_us'] - one_alone['p50_us']:.0f}" if asks != "nobody" else ""
    return [gateway, asks, f"{one['p50_us']:.0f}", added, f"{one['p99_us']:.0f}", *cpu(one, one_alone),
            f"{many['rate']:,.0f}", *cpu(many, many_alone)]


def ratios(found: Found) -> list[str]:
    """Say how many times the node's figures those of the peer are."""
    alone, ours, peer = (found["envoy", asks, 1] for asks in ("nobody", "verifier", "grpcio"))
    asked = found["envoy", "grpcio", MANY]["asked_cpu_us"] / found["envoy", "verifier", MANY]["asked_cpu_us"]
    lines = [f"A plain grpcio server takes {asked:.0f} times the CPU of a node for each question (at {MANY})."]
    if ours["p50_us"] > alone["p50_us"]:  # else the machine was too busy to tell
        added = (peer["p50_us"] - alone["p50_us"]) / (ours["p50_us"] - alone["p50_us"])
        lines.append(f"It adds {added:.1f} times as much to Envoy's p50.")
    return lines


def markdown(found: Found, about: dict[str, Any]) -> str:
    """Return machine and table for docs/gateways.md."""
    lines = [f"{name}: {value}  " for name, value in about.items()]
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    pairs = dict.fromkeys((gateway, asks) for gateway, asks, _ in found)
    lines += ["| " + " | ".join(row(found, *pair)) + " |" for pair in pairs]
    lines += ["", *ratios(found)]
    return "\n".join(lines) + "\n"


def write_docs(text: str) -> None:
    """Put a run into the page, in the place of the one before."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


@click.command()
@click.option("--keys", default=100_000, show_default=True, help="Keys in the keyring.")
@click.option("--rounds", default=5, show_default=True, help="Interleaved rounds.")
@click.option("--seconds", default=3, show_default=True, help="Length of one measured window.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=ROOT / "bench-results/gateways.json",
              help="Where the JSON goes.  [bench-results/gateways.json]")
@click.option("--docs", is_flag=True, help="Put the run into docs/gateways.md, too.")
def main(keys: int, rounds: int, seconds: int, json_file: Path, docs: bool) -> None:
    """Measure Envoy and NGINX asking nobody, a node, and a plain grpcio server."""
    about = machine() | {"command": "python -m loadtest.gateways " + " ".join(sys.argv[1:]), "rounds": rounds,
                         "window_s": seconds}
    store = bench_store(keys)
    with standing(store) as cases:
        found = measured(cases, store.tokens_file, rounds, seconds)
    text = markdown(found, about)
    print(text)
    json_file.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"gateway": gateway, "asks": asks, "connections": connections, **figures}
            for (gateway, asks, connections), figures in found.items()]
    json_file.write_text(json.dumps({"about": about, "rows": rows}, indent=1) + "\n")
    if docs:
        write_docs(text)


if __name__ == "__main__":
    main()
