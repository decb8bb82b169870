"""Findings as a table for people and as JSON for programs."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from loadtest.bench.report import machine
from loadtest.rotation.judging import Findings, name_of
from loadtest.rotation.running import Size
from loadtest.rotation.script import Notes


def quantiles(values: Sequence[float]) -> str:
    """Write median, 99th percentile and greatest of some milliseconds."""
    ordered = sorted(values)
    if not ordered:
        return "none"
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
    return f"{at[0]:.1f} / {at[1]:.1f} / {ordered[-1]:.1f}"


def rows(found: Findings, notes: Notes, took_s: float) -> Iterator[tuple[str, str]]:
    """Yield what is shown."""
    answered = sum(number for name, number in found.calls.items() if name.isupper())
    yield "calls answered", f"{answered:,} ({answered / took_s:,.0f}/s over all)"
    yield "valid calls refused", str(found.calls["refused, though valid"])
    yield "calls that no node answered", str(found.calls["no answer"])
    yield "asked the other node", f"{found.calls['asked another node']:,}"
    for name in sorted(name for name in found.calls if name.isupper()):
        yield f"answered {name}", f"{found.calls[name]:,}"
    yield "publications swapped in meanwhile", f"{notes.publications}, of other keys"
    for end in found.ends:
        last = "never" if end.last_valid_s is None else f"{end.last_valid_s * 1000:+.0f} ms"
        refused = "never" if end.first_refused_s is None else f"{end.first_refused_s * 1000:+.0f} ms"
        yield f"end of {name_of(end.key, end.version)}", f"last VALID sent {last}, first EXPIRED {refused}"
    told = ", ".join(f"{name} {number:,}" for name, number in sorted(found.safety.items()))
    yield "safe-to-retire", f"{told}; {found.decided:,} of {sum(found.safety.values()):,} with one right answer"
    seen = found.seen
    yield "publish to last node, p50 / p99 / max", f"{quantiles([one.told_ms for one in seen])} ms, as commands say"
    yield "  as callers saw it, at most", f"{quantiles([one.by_ms for one in seen])} ms, {len(seen)} publications"
    count, mean_ms = notes.propagation
    told_ms = sum(one.told_ms for one in seen) / max(1, len(seen))
    yield "  mean: as said, by the metric", f"{told_ms:.1f} ms; {mean_ms:.1f} ms of {count}"
    early = [-one.off_ms for one in seen if one.off_ms < 0]
    late = [one.off_ms for one in seen if one.off_ms > 0]
    yield "  said too early", f"{len(early)} times, by {quantiles(early)} ms"
    yield "  said too late", f"{len(late)} times, by {quantiles(late)} ms"


def print_findings(found: Findings, notes: Notes, took_s: float) -> None:
    """Print a table, then what was wrong."""
    table = list(rows(found, notes, took_s))
    width = max(len(name) for name, _ in table)
    for name, value in table:
        print(f"{name:<{width}}  {value}")
    for problem in found.problems:
        print(f"WRONG: {problem}")
    print(f"{'FAILED' if found.problems else 'passed'} in {took_s:.1f} s")


def write_findings(path: Path, found: Findings, notes: Notes, size: Size, took_s: float) -> None:
    """Write all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"about": machine(), "size": asdict(size), "took_s": round(took_s, 1), "publications": notes.publications,
            "propagation": notes.propagation,
            "findings": {name: dict(value) if isinstance(value, Counter) else value
                         for name, value in vars(found).items() if name not in ("ends", "seen")},
            "ends": [asdict(end) for end in found.ends], "seen": [asdict(one) for one in found.seen]}
    path.write_text(json.dumps(body, indent=1) + "\n")
