"""A control plane as a program: started, watched, asked and killed."""

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.support.node import RunningNode
from verifier.admin import identities
from verifier.control.acting import acting
from verifier.registry.database import open_registry
from verifier.store.home import Home


class RunningControl(RunningNode):
    """`verifier control` in a process of its own, on ports that the kernel chose. Use it as a context."""

    def __init__(self, home: Home, *options: str) -> None:
        self.home = home.folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "verifier", "--store", str(home.folder), "--registry", home.registry_url, "control",
             "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-format", "json", *options],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")},
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        listening = self.wait_for("listening", timeout_s=40)
        self.target, self.metrics = listening["address"], listening["metrics"]

    @property
    def leads(self) -> bool:
        """Whether it leads."""
        return bool(self.status()["state"] == "LEADING")


def make_token(home: Home, name: str, role: str) -> Path:
    """Make an identity; return the file with its token."""
    with open_registry(home) as registry, acting(registry) as act:
        token = identities.create(act, name, role).token
    file = home.folder / f"{name}.token"
    file.write_text(f"{token}\n")
    return file


def folder_for_tokens(parent: Path) -> Path:
    """Make a folder that a control plane takes for tokens."""
    folder = parent / "handout"
    folder.mkdir(mode=0o700)
    return folder
