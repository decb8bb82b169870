"""What a benchmark found: rows with budget, measured value and ratios to peers; as a table, Markdown and JSON."""

import json
import platform
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.bench.tools import ROOT


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: the benchmark it belongs to.
        what: what was measured.
        value: the figure; a median where several rounds were run.
        unit: of the figure.
        budget: the most it may be, None when there is no budget for it.
        peers: the same figure of others, in the same run, by name.
        ratios: for a peer, the least (``>=``) or most (``<=``) that peer's figure / ours, or ours / theirs, may be.
        detail: more about it, for the JSON.
        note: a few words for the table.
    """

    part: str
    what: str
    value: float
    unit: str
    budget: float | None = None
    peers: Mapping[str, float] = field(default_factory=dict)
    ratios: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def ratio(self, peer: str) -> float:
        """Return how many times a peer's figure is ours."""
        return self.peers[peer] / self.value if self.value else 0.0

    def checks(self) -> dict[str, bool]:
        """Return every rule for this figure and whether it holds."""
        held = {}
        if self.budget is not None:
            held[f"<= {number(self.budget)} {self.unit}"] = self.value <= self.budget
        for peer, (sense, limit) in self.ratios.items():
            if peer not in self.peers:
                continue
            if sense == ">=":
                held[f"{peer} >= {limit:g}x"] = self.ratio(peer) >= limit
            else:
                held[f"<= {limit:g}x {peer}"] = self.value <= limit * self.peers[peer]
        return held

    def to_json(self) -> dict[str, Any]:
        """Return the row as an object."""
        return {
            "part": self.part, "what": self.what, "value": self.value, "unit": self.unit, "budget": self.budget,
            "checks": self.checks(),
            "peers": {peer: {"value": value, "ratio": self.ratio(peer)} for peer, value in self.peers.items()},
            "note": self.note, "detail": dict(self.detail),
        }  # fmt: skip


def number(value: float) -> str:
    """Write a figure with three digits that count."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def _cells(row: Row) -> list[str]:
    checks = row.checks()
    missed = [check for check, met in checks.items() if not met]
    verdict = "" if not checks else "NO: " + "; ".join(missed) if missed else "yes"
    peers = ", ".join(f"{name} {number(value)} ({row.ratio(name):.1f}x)" for name, value in row.peers.items())
    return [row.part, row.what, "; ".join(checks), f"{number(row.value)} {row.unit}", verdict, peers, row.note]


DOCS_BEGIN, DOCS_END = "<!-- run: begin -->", "<!-- run: end -->"
HEADINGS = ["part", "what", "budget", "measured", "met", "peers (times ours)", "note"]


def print_rows(rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Print the table for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="verifier benchmarks", title_justify="left", title_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold", justify="right" if heading == "measured" else "left")
    for row in rows:
        cells = _cells(row)
        if cells[4]:
            cells[4] = f"[{'green' if cells[4] == 'yes' else 'red'}]{cells[4]}[/]"
        table.add_row(*cells)
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)


def markdown(rows: Sequence[Row], notes: Sequence[str], about: Mapping[str, Any]) -> str:
    """Return machine, table and notes for docs/benchmarks.md."""
    lines = [f"{name}: {value}  " for name, value in about.items()]
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def write_docs(text: str) -> None:
    """Put a run into docs/benchmarks.md, in the place of the one before."""
    page = ROOT / "docs/benchmarks.md"
    before, _, rest = page.read_text().partition(DOCS_BEGIN)
    _, _, after = rest.partition(DOCS_END)
    page.write_text(f"{before}{DOCS_BEGIN}\n{text}{DOCS_END}{after}")


def write_json(path: Path, rows: Sequence[Row], notes: Sequence[str], about: Mapping[str, Any]) -> None:
    """Write everything for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"about": dict(about), "rows": [row.to_json() for row in rows], "notes": list(notes)}
    path.write_text(json.dumps(body, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _first_field("/proc/cpuinfo", "model name"),
        "cores": _text("nproc"),
        "memory": _first_field("/proc/meminfo", "MemTotal"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "nghttp2": _text("pkg-config", "--modversion", "libnghttp2"),
        "commit": _text("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "load_before": Path("/proc/loadavg").read_text().split()[0],
    }


def _first_field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.split(":", 1)[1].strip()
    return "unknown"


def _text(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    except FileNotFoundError:
        return "unknown"
