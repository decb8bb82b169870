"""A node as a program: started, watched, called and stopped."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from verifier.v1 import verifier_pb2, verifier_pb2_grpc


class RunningNode:
    """`verifier serve` in a process of its own, on ports that the kernel chose. Use it as a context."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "verifier", "--store", str(home), "serve", "--listen", "127.0.0.1:0",
             "--metrics", "127.0.0.1:0", "--log-format", "json", *options],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")},
        )  # fmt: skip
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []
        self._new: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        listening = self.wait_for("listening")
        self.target, self.metrics = listening["addresses"][0], listening["metrics"]

    def __enter__(self) -> "RunningNode":
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.text.append(line)
            self._new.put(line)

    def wait_for(self, event: str, timeout_s: float = 20.0, **fields: Any) -> dict[str, Any]:
        """Wait for a log line with this event and these fields."""
        end = time.monotonic() + timeout_s
        while True:
            for line in self.lines:
                if line["event"] == event and fields.items() <= line.items():
                    return line
            try:
                self.lines.append(json.loads(self._new.get(timeout=0.05)))
            except queue.Empty:
                assert self.process.poll() is None, "".join(self.text)
            except ValueError:
                continue
            assert time.monotonic() < end, f"no {event!r} with {fields} in: {''.join(self.text)}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def get(self, path: str) -> tuple[int, str]:
        """Get a page of the metrics port."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def status(self) -> dict[str, Any]:
        """The status object."""
        return json.loads(self.get("/status")[1])  # type: ignore[no-any-return]

    def metric(self, name: str) -> float:
        """One sample of /metrics, by its whole name with labels."""
        match = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        assert match, f"{name} is not in /metrics"
        return float(match[1])

    def channel(self) -> grpc.Channel:
        """A new connection (channels are not shared)."""
        return grpc.insecure_channel(self.target, [("grpc.use_local_subchannel_pool", 1)])

    def verify(self, token: str, **fields: Any) -> verifier_pb2.VerifyResponse:
        """One call on a connection of its own."""
        with self.channel() as channel:
            stub = verifier_pb2_grpc.VerifierServiceStub(channel)
            return stub.Verify(verifier_pb2.VerifyRequest(key=token, **fields), timeout=5)  # type: ignore[no-any-return]


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.002)
