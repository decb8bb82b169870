"""Print how much of ext/ the tests ran, from the counters that a gcov build leaves: ``coverage_report.py FOLDER``.

gcov counts lines of generated C. Cython writes above each piece of C which line it comes from; a line of the source
has run when any of its C lines has.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ORIGIN = re.compile(r'/\* "verifier/([\w.]+)":(\d+)$')
# Definitions run at import and fields in the garbage collector: they say nothing about the code of the module.
DEFINITION = re.compile(r"\s*(cdef\s+(class|struct|enum|extern)|class|def|cdef\s.*\bnogil:|@|cdef [\w ]+\s*(#.*)?$)")

Line = tuple[str, int]


def origins(generated: Path) -> dict[int, Line]:
    """Map lines of generated C to (source, line)."""
    found: dict[int, Line] = {}
    current: Line | None = None
    for number, text in enumerate(generated.read_text(errors="replace").splitlines(), 1):
        if match := ORIGIN.search(text):
            current = match[1], int(match[2])
        elif text == "}":
            current = None
        elif current is not None:
            found[number] = current
    return found


def executed(folder: Path) -> dict[Line, bool]:
    """Return for each source line that has code whether it ran."""
    ran: dict[Line, bool] = defaultdict(bool)
    for data in sorted((folder / "build").rglob("*.gcda")):
        generated = folder / "build" / "cython" / "ext" / "verifier" / f"{data.stem}.c"
        source_of = origins(generated)
        command = ["gcov", "--json-format", "--stdout", str(data)]
        report = subprocess.run(command, cwd=folder, capture_output=True, check=True)
        for file in (file for document in report.stdout.splitlines() for file in json.loads(document)["files"]):
            if Path(file["file"]).name == generated.name:
                for line in file["lines"]:
                    if (source := source_of.get(line["line_number"])) is not None:
                        ran[source] |= line["count"] > 0
    return ran


def main() -> None:
    """Print one line per source with its share and the lines that never ran."""
    folder = Path(sys.argv[1]).resolve()
    ran = executed(folder)
    if not ran:
        sys.exit("no counters were found: was the extension built with VERIFIER_COVERAGE=1?")
    total: list[bool] = []
    for name in sorted({name for name, _ in ran}):
        path = folder / "ext" / "verifier" / name
        if not path.exists():
            continue
        text = path.read_text().splitlines()
        lines = {number: ran[name, number] for source, number in ran if source == name}
        lines = {number: run for number, run in lines.items() if not DEFINITION.match(text[number - 1])}
        missed = sorted(number for number, run in lines.items() if not run)
        total += lines.values()
        share = 100 * sum(lines.values()) / max(1, len(lines))
        print(f"{name:16} {share:5.1f} % of {len(lines):4} lines, never ran: {' '.join(map(str, missed)) or '-'}")
    print(f"{'ext/verifier':16} {100 * sum(total) / len(total):5.1f} % of {len(total):4} lines")


if __name__ == "__main__":
    main()
