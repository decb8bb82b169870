"""A gateway as a program: started, awaited, stopped, and its log shown where it fails."""

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

READY_S = 20.0
STOP_S = 10.0
NO_ROUTE = 404  # Traefik listens before it has read its routes


class Program:
    """One process with a log file, listening on a TCP port of 127.0.0.1. Use it as a context.

    Args:
        command: the words.
        folder: where it runs.
        port: that it must listen on to be ready.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path, port: int) -> None:
        self.port = port
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env={"PATH": os.environ["PATH"], "HOME": str(folder)}, start_new_session=True,
            )  # fmt: skip
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """The end of what it logged."""
        return self._log.read_text(errors="replace")[-4000:]

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                if _status(self.port) != NO_ROUTE:
                    return
            time.sleep(0.02)
        raise AssertionError(f"{self.process.args} does not listen on {self.port}:\n{self.log}")

    def stop(self) -> None:
        """End it, with the workers that it started: they are a process group of their own."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_S)


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()
