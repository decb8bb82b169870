"""`make run`'s script, as a visitor sees it: first run, second run, a taken port, Ctrl-C."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60


class Demo:
    """A running demo and what it has said."""

    def __init__(self, home: Path, listen: str, metrics: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "scripts" / "demo.py", "--store", home, "--listen", listen, "--metrics", metrics],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def read_until_serving(self) -> str:
        """Return what was printed up to the last line of the instructions."""
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C stops"):
                return "".join(lines)
        raise AssertionError(f"the demo ended:\n{''.join(lines)}")

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode


@pytest.fixture
def start(tmp_path: Path, free_port: Callable[[], int]):
    """Return a function that starts the demo on free ports; ends what is left of it afterwards."""
    started: list[Demo] = []

    def start_demo(listen: str | None = None) -> Demo:
        demo = Demo(tmp_path / "home", listen or f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
        started.append(demo)
        return demo

    yield start_demo
    for demo in started:
        if demo.process.poll() is None:
            demo.interrupt()


def verdicts(output: str) -> list[str]:
    """Pick the verdicts of the three keys."""
    return re.findall(r"-> ([A-Z_]+) ", output)


def test_it_serves_verifies_and_ends_cleanly_again_and_again(
    tmp_path: Path, start: Callable[..., Demo], verifier_command: Callable[..., subprocess.CompletedProcess[str]]
):
    first = start()
    output = first.read_until_serving()
    assert ["VALID", "MALFORMED", "UNKNOWN"] == verdicts(output)
    assert 0 == first.interrupt()
    token = (tmp_path / "home" / "demo-token.txt").read_text()

    # A visitor follows the advice and revokes the key: the next run must work all the same.
    second = start()
    output = second.read_until_serving()
    assert ["VALID", "MALFORMED", "UNKNOWN"] == verdicts(output)
    assert (tmp_path / "home" / "demo-token.txt").read_text() == token
    listed = verifier_command("--store", tmp_path / "home", "key", "list", "--json").stdout
    (key_id,) = re.findall(r'"key_id": "(\w+)"', listed)
    revoked = verifier_command("--store", tmp_path / "home", "key", "revoke", key_id, "--version", "1", "--publish")
    assert 0 == revoked.returncode, revoked.stderr
    assert 0 == second.interrupt()

    third = start()
    output = third.read_until_serving()
    assert "the key of the last run is REVOKED by now" in output
    assert ["VALID", "MALFORMED", "UNKNOWN"] == verdicts(output)


def test_a_taken_port_is_said_with_the_way_out(start: Callable[..., Demo]):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        demo = start(f"127.0.0.1:{port}")
        output, _ = demo.process.communicate(timeout=TIMEOUT_S)
    assert 1 == demo.process.returncode
    assert f"cannot listen on 127.0.0.1:{port}" in output
    assert "make run LISTEN=127.0.0.1:" in output


def test_what_is_no_address_is_said_without_a_traceback(start: Callable[..., Demo]):
    demo = start("foo")
    output, _ = demo.process.communicate(timeout=TIMEOUT_S)
    assert 1 == demo.process.returncode
    assert "make run: LISTEN=foo is not accepted: write HOST:PORT, [IPV6]:PORT or unix:PATH\n" == output
