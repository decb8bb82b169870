"""The locust user runs against a node: calls succeed, and no token is in what it prints."""

import subprocess
import sys
from pathlib import Path

from tests.conformance.reference import Entry, World
from tests.conformance.worlds import native, tagged, view_of
from tests.support.image import PEPPER
from tests.support.loops import running

LOCUSTFILE = Path(__file__).parents[2] / "loadtest" / "locustfile.py"


def test_a_short_run(tmp_path):
    tokens = [native(number) for number in range(20)]
    world = World(revision=1, base=tagged({token: Entry("acme", "key_1") for token in tokens}), peppers=(PEPPER,))
    (tmp_path / "tokens.txt").write_text("\n".join(tokens))
    with running(view_of(world)) as node:
        done = subprocess.run(
            [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "-u", "2", "-r", "2", "-t", "2s",
             "--only-summary", "--tokens", str(tmp_path / "tokens.txt"), "--host", node.target],
            capture_output=True, text=True, timeout=60, check=False, cwd=LOCUSTFILE.parents[1],
        )
        verdicts = node.loop.counters()["verdicts"]
    assert 0 == done.returncode, done.stdout + done.stderr  # locust exits with 1 when a call failed
    assert verdicts[1] > 0
    assert "Verify VALID" in done.stdout + done.stderr
    assert not [token for token in tokens if token in done.stdout + done.stderr]
