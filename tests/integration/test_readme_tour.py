"""The README's tour, run word by word: every command works, and prints what the page says it prints."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import shell as pages
from tests.support.shell import Shell, normal, replaced

ROOT = Path(__file__).resolve().parents[2]


def tour() -> str:
    """Return what the README has below "Tour"."""
    return (ROOT / "README.md").read_text().split("\n## Tour\n", 1)[1].split("\n## ", 1)[0]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Start a shell in an empty folder with the verifier command on its PATH."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "verifier"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m verifier "$@"\n')
    command.chmod(0o755)
    folder = tmp_path / "reader"
    folder.mkdir()
    started = Shell(folder, {**pages.reader_environment(bin_folder), "PYTHONPATH": str(ROOT)})
    yield started
    started.close()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the tour is written for bash")
def test_the_tour_does_what_the_page_says(shell: Shell, free_port):
    ports = {"50051": str(free_port()), "9464": str(free_port())}

    def elsewhere(text: str) -> str:
        return replaced(text, ports)

    def as_written(text: str) -> str:
        text = replaced(text, {used: written for written, used in ports.items()})
        return text.replace(str(shell.folder), "/tmp/tour")

    steps = pages.steps(tour())
    assert len(steps) >= 10
    shown = " ".join(output for _, output in steps)
    assert all(word in shown for word in ("VALID", "MALFORMED", "REVOKED", "BAD_SIGNATURE"))
    for command, expected in steps:
        if command.startswith("export PATH="):
            continue  # the shell has it already
        assert normal(expected) == normal(as_written(shell.run(elsewhere(command)))), f"after: {command}"
    programs = pages.blocks(tour(), "python")
    assert 2 == len(programs)
    for program in programs:
        promised = re.findall(r"  # (.*)", program)
        printed = shell.run(f'"{sys.executable}" - <<\'END\'\n{elsewhere(program)}\nEND')
        assert promised == printed.split("\n")[: len(promised)], printed
