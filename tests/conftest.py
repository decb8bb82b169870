"""What several folders of tests share: the command line as a program, and free ports."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.databases import (  # noqa: F401 - fixtures for all tests
    empty_place,
    postgres_server,
    postgres_url,
    registry,
    registry_place,
)

COMMAND_TIMEOUT_S = 120

# On a busy machine any example may take long, the first one above all; what is to be quick has benchmarks.
settings.register_profile("verifier", deadline=None)
settings.load_profile("verifier")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that finds a TCP port on 127.0.0.1 on which nobody listens now."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
def verifier_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command line as a program: ``run("--store", home, "init", stdin="")``."""

    def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "verifier", *map(str, arguments)],
            input=stdin, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")},
        )

    return run


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory, where there is one: for tests that sync hundreds of times and survive no power cut."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="verifier-test-") as folder:
        yield Path(folder)
