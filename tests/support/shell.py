"""Console blocks of a page, and the bash that runs them as a reader's terminal would."""

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

STEP_TIMEOUT_S = 30
DONE = "@@done"
# A line of output that stands for any number of lines, as in a page that shows only what matters.
ELIDED = "..."

# What differs from run to run, in a page as in the real output.
VARYING = [
    (r"vk_live_[0-9A-Za-z]{33,}", "TOKEN"),
    (r"\b(key|st|au)_[0-9A-Za-z]+\b", r"\1_ID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID"),
    (r"\b[0-9a-f]{12,64}\b", "HEX"),
    (r"\b[\d.]+ (ms|s)\b", r"N \1"),
    (r"staleness ms: +\d+", "staleness ms: N"),
    (r"─+", ""),
    (r"\s+", " "),
]

Step = tuple[str, str]


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


def shows(promised: str, printed: str) -> bool:
    """Tell whether output is what a page promises; a line of three dots stands for any lines."""
    parts = [normal(part) for part in re.split(rf"^{re.escape(ELIDED)}$", promised, flags=re.MULTILINE)]
    return re.fullmatch(".*".join(map(re.escape, parts)), normal(printed), re.DOTALL) is not None


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def steps(page: str) -> list[Step]:
    """Read the console blocks as pairs of command and output; ``> `` goes on with a command, as bash shows it."""
    found: list[Step] = []
    for block in blocks(page, "console"):
        for line in block.splitlines():
            command, output = found[-1] if found else ("", "")
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif line.startswith("> ") and not output:
                found[-1] = (f"{command}\n{line[2:]}", "")
            else:
                found[-1] = (command, f"{output}{line}\n")
    return found


def reader_environment(commands: Path) -> dict[str, str]:
    """Return a reader's environment: this one without settings of ours, and with a folder of commands on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")}
    return {**kept, "PATH": f"{commands}:{kept['PATH']}", "COLUMNS": "120", "NO_COLOR": "1"}


class Shell:
    """One bash that lives through a whole page, as a reader's terminal does.

    Attributes:
        folder: where it began.
        code: exit code of the last command.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.code = 0
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=folder, env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Run one command and return all it printed."""
        assert self.process.stdin is not None and self.process.stdout is not None
        watchdog = threading.Timer(STEP_TIMEOUT_S, self.kill)
        watchdog.start()
        self.process.stdin.write(f"{command}\nprintf '\\n%s %d\\n' {DONE} $?\n")
        lines: list[str] = []
        for line in self.process.stdout:
            if line.startswith(DONE):
                self.code = int(line.split()[1])
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
