"""Print how much of ext/ the tests ran, from the counters that a gcov build leaves: ``coverage_report.py FOLDER``."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def line_counts(folder: Path) -> dict[str, dict[int, int]]:
    """Return source -> line -> times executed, for the sources of ext/, over all modules that were built."""
    counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for data in sorted((folder / "build").rglob("*.gcda")):
        command = ["gcov", "--json-format", "--stdout", str(data)]
        report = subprocess.run(command, cwd=folder, capture_output=True, check=True)
        for document in report.stdout.splitlines():
            for file in json.loads(document)["files"]:
                if file["file"].startswith("verifier/") and file["file"].endswith((".pyx", ".pxd")):
                    for line in file["lines"]:
                        counts[Path(file["file"]).name][line["line_number"]] += line["count"]
    return counts


def main() -> None:
    """Print one line per source, and which lines never ran."""
    counts = line_counts(Path(sys.argv[1]).resolve())
    if not counts:
        sys.exit("no counters were found: was the extension built with VERIFIER_COVERAGE=1?")
    all_lines = all_run = 0
    for name, lines in sorted(counts.items()):
        missed = sorted(number for number, count in lines.items() if not count)
        all_lines, all_run = all_lines + len(lines), all_run + len(lines) - len(missed)
        share = 100 * (len(lines) - len(missed)) / len(lines)
        print(f"{name:20} {share:5.1f} % of {len(lines):4} lines   never ran: {' '.join(map(str, missed[:40])) or '-'}")
    print(f"{'ext/verifier':20} {100 * all_run / all_lines:5.1f} % of {all_lines:4} lines")


if __name__ == "__main__":
    main()
