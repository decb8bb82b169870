"""The README's tour, run word by word: every command works, and prints what the page says it prints."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    (r"\b[0-9a-f]{16,64}\b", "HEX"),
    (r'("\w+_(?:ms|s)": )[\d.]+', r"\1N"),
    (r"\b[\d.]+ (ms|us|s|MB|kB|B)\b", r"N \1"),
    (r'("bytes": )\d+', r"\1N"),
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


def tour() -> list[tuple[str, str]]:
    """Read the README's console blocks below "Tour" as pairs of command and output."""
    page = (ROOT / "README.md").read_text().split("\n## Tour\n", 1)[1].split("\n## ", 1)[0]
    steps: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], ""))
            elif line.startswith("> "):
                steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", "")
            else:
                steps[-1] = (steps[-1][0], f"{steps[-1][1]}{line}\n")
    return steps


class Shell:
    """One bash that lives through the whole tour, as a reader's terminal does."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run one command and return all it printed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{command}\nprintf '\\n%s\\n' {DONE}\n")
        lines: list[str] = []
        for line in self.process.stdout:
            if line.strip() == DONE:
                break
            lines.append(line)
        else:
            raise AssertionError(f"the shell ended in: {command}")
        return "".join(lines)

    def close(self) -> None:
        """End the shell and what it still runs in the background."""
        if self.process.poll() is None:
            self.run("kill $(jobs -p) 2>/dev/null; wait")
            assert self.process.stdin is not None
            self.process.stdin.close()
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

    def with_ports(text: str) -> str:
        return replaced(text, {used: written for written, used in ports.items()})

    steps = tour()
    assert len(steps) >= 10
    assert {"VALID", "REVOKED", "BAD_SIGNATURE"} <= set(re.findall(r"\w+", " ".join(output for _, output in steps)))
    for command, expected in steps:
        if command.startswith("export PATH="):
            continue  # the shell has it already
        assert normal(expected) == normal(with_ports(shell.run(elsewhere(command)))), f"after: {command}"
