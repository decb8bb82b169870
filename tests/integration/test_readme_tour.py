"""The README's tour, run word by word: every command works, and prints what the page says it prints."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP_TIMEOUT_S = 30
DONE = "@@done"

# What differs from run to run, in the page as in the real output.
VARYING = [
    (r"vk_live_[0-9A-Za-z]{33,}", "TOKEN"),
    (r"\b(key|st|au)_[0-9A-Za-z]+\b", r"\1_ID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\b[0-9a-f]{12,64}\b", "HEX"),
    (r"\b[\d.]+ (ms|s)\b", r"N \1"),
    (r"staleness ms: +\d+", "staleness ms: N"),
    (r"─+", ""),
    (r"\s+", " "),
]


def normal(text: str) -> str:
    """Replace what differs from run to run."""
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def replaced(text: str, words: dict[str, str]) -> str:
    """Replace whole words."""
    for old, new in words.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


def blocks(language: str) -> list[str]:
    """Return the blocks in one language below "Tour" of the README."""
    page = (ROOT / "README.md").read_text().split("\n## Tour\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def tour() -> list[tuple[str, str]]:
    """Read the console blocks as pairs of command and output."""
    steps: list[tuple[str, str]] = []
    for block in blocks("console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], ""))
            else:
                steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


class Shell:
    """One bash that lives through the whole tour, as a reader's terminal does."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run one command and return all it printed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        watchdog = threading.Timer(STEP_TIMEOUT_S, self.kill)
        watchdog.start()
        self.process.stdin.write(f"{command}\nprintf '\\n%s\\n' {DONE}\n")
        lines: list[str] = []
        for line in self.process.stdout:
            if line.strip() == DONE:
                break
            lines.append(line)
        else:
            raise AssertionError(f"no end in {STEP_TIMEOUT_S} s: {command}\n{''.join(lines)}")
        watchdog.cancel()
        return "".join(lines)

    def kill(self) -> None:
        """End the shell and all it started, whatever they are doing."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the shell and what it still runs in the background."""
        with suppress(ProcessLookupError):
            self.kill()
        self.process.wait(STEP_TIMEOUT_S)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Start a shell in an empty folder with the verifier command on its PATH."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "verifier"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m verifier "$@"\n')
    command.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")}
    environment.update(PATH=f"{bin_folder}:{environment['PATH']}", PYTHONPATH=str(ROOT), COLUMNS="120", NO_COLOR="1")
    folder = tmp_path / "reader"
    folder.mkdir()
    started = Shell(folder, environment)
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

    steps = tour()
    assert len(steps) >= 10
    shown = " ".join(output for _, output in steps)
    assert all(word in shown for word in ("VALID", "MALFORMED", "REVOKED", "BAD_SIGNATURE"))
    for command, expected in steps:
        if command.startswith("export PATH="):
            continue  # the shell has it already
        assert normal(expected) == normal(as_written(shell.run(elsewhere(command)))), f"after: {command}"
    programs = blocks("python")
    assert 2 == len(programs)
    for program in programs:
        promised = re.findall(r"  # (.*)", program)
        printed = shell.run(f'"{sys.executable}" - <<\'END\'\n{elsewhere(program)}\nEND')
        assert promised == printed.split("\n")[: len(promised)], printed
