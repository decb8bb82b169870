"""kill -9 while keys are made in bulk: afterwards all of them are there, or none, or, once published, whole batches."""

import os
import random
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.support.acts import act
from tests.support.homes import make_home
from verifier import tokens
from verifier.control import directory
from verifier.registry import queries, schema
from verifier.registry.database import open_registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets

COUNT = 60_000
BATCH = 5_000

# Makes keys and dies at a stage, after a delay.
DYING = """
import os, signal, sys, threading, time
from pathlib import Path
from verifier.control import directory, handout, issuing_many
from verifier.control.terms import Terms
from verifier.registry.database import open_registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets

folder, url, output, count, at = sys.argv[1:]
issuing_many.BATCH = 5_000

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def watch(stage, done, total):
    if at == f"{stage} {done}":
        die()

if at == "installed":
    sync = handout.GrowingFile.sync
    def synced(self):
        sync(self)
        if self.path.name.endswith(".ids"):
            die()
    handout.GrowingFile.sync = synced
if at.startswith("after "):
    threading.Timer(float(at.split()[1]), die).start()
home = Home(folder, registry=url)
with open_registry(home) as registry:
    peppers = directory.pepper_secrets(registry, Secrets(home.secrets).peppers())
    directory.issue_keys(registry, peppers, "acme", Terms(), count=int(count), output=Path(output), progress=watch)
if at.startswith("after "):
    die()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home", keys=0)


def say_published(home: Home) -> None:
    """Have the registry believe that something was published, so that others may have to write meanwhile."""
    with open_registry(home) as registry, registry.write() as connection:
        connection.execute(update(schema.registry).values(last_revision=1))


def make_and_die(home: Home, output: Path, at: str) -> None:
    command = [sys.executable, "-c", DYING, str(home.folder), home.registry_url, str(output), str(COUNT), at]
    died = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr


def assert_all_or_nothing(home: Home, output: Path) -> int:
    """Return how many keys there are, after a look at whether all tokens of those are in the file."""
    with open_registry(home) as registry:
        with registry.read() as connection:
            tags = {tag for tag, _ in chain.from_iterable(queries.iterate_records(connection))}
            state = queries.state(connection)
        peppers = directory.pepper_secrets(registry, Secrets(home.secrets).peppers())
        assert len(tags) in (0, COUNT)
        assert state.pending_changes == len(tags)
        if output.exists():  # never half there
            lines = output.read_text().splitlines()
            assert len(lines) == COUNT
            assert not tags or tags == {tokens.tag(line, peppers) for line in lines}
        else:
            assert not tags
        # The registry goes on working.
        act(registry, directory.issue_key, peppers, "acme", directory.Terms())
    return len(tags)


@pytest.mark.parametrize("at", ["keys 5000", f"keys {COUNT}", "index 0", "commit 0", "installed"])
def test_killed_before_the_commit(home: Home, tmp_path: Path, at: str):
    make_and_die(home, tmp_path / "tokens", at)
    assert assert_all_or_nothing(home, tmp_path / "tokens") == 0
    assert (tmp_path / "tokens").exists() == (at == "installed")


@pytest.mark.parametrize("at", ["commit 0", "installed"])
def test_killed_before_the_commit_to_postgresql(postgres_url: str, tmp_path: Path, at: str):
    test_killed_before_the_commit(make_home(tmp_path / "home", keys=0, registry=postgres_url), tmp_path, at)


def keys_with_tokens(home: Home, output: Path) -> int:
    """Return how many keys there are, after a look at whether the file begins with all of their tokens."""
    with open_registry(home) as registry:
        with registry.read() as connection:
            tags = {tag for tag, _ in chain.from_iterable(queries.iterate_records(connection))}
            assert queries.state(connection).changes == len(tags)
        peppers = directory.pepper_secrets(registry, Secrets(home.secrets).peppers())
        lines = output.read_text().splitlines() if output.exists() else []
        whole = len(tags) - len(tags) % BATCH
        assert tags == {tokens.tag(line, peppers) for line in lines[:whole]}
        assert len(lines) - whole <= BATCH  # tokens without a key: of the batch that was not committed
        act(registry, directory.issue_key, peppers, "acme", directory.Terms())
    return whole


@pytest.mark.parametrize(("at", "keys"), [
    ("keys 5000", 0), ("keys 15000", 10_000), (f"keys {COUNT}", COUNT - BATCH),
])
def test_killed_between_commits(home: Home, tmp_path: Path, at: str, keys: int):
    say_published(home)
    make_and_die(home, tmp_path / "tokens", at)
    assert keys_with_tokens(home, tmp_path / "tokens") == keys


def test_killed_at_any_moment_between_commits(tmp_path: Path):
    chance, found = random.Random(6), []
    for round_ in range(3):
        home = make_home(tmp_path / f"home{round_}", keys=0)
        say_published(home)
        make_and_die(home, tmp_path / f"tokens{round_}", f"after {chance.uniform(0.6, 1.6):.3f}")
        found.append(keys_with_tokens(home, tmp_path / f"tokens{round_}"))
    assert all(keys % BATCH == 0 for keys in found)


def test_killed_at_any_moment(tmp_path: Path):
    chance = random.Random(5)
    for round_ in range(4):
        output = tmp_path / f"tokens{round_}"
        folder = make_home(tmp_path / f"home{round_}", keys=0)
        make_and_die(folder, output, f"after {chance.uniform(0.05, 1.2):.3f}")
        assert_all_or_nothing(folder, output)


def test_ctrl_c_leaves_neither_files_nor_keys(home: Home, tmp_path: Path):
    output = tmp_path / "tokens"
    command = [sys.executable, "-m", "verifier", "--store", str(home.folder), "key", "create", "--client", "acme",
               "--count", "5000000", "--output", str(output)]
    # In a shell's background it would be ignored, by those who are started from here, too.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # noqa: PLW1509
    deadline = time.monotonic() + 30
    # In the middle of the work: both files are there, and tokens were written.
    while not any(path.stat().st_size for path in tmp_path.glob(".tokens.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in shown
    assert ["home"] == [path.name for path in tmp_path.iterdir()]
    with open_registry(home) as registry, registry.read() as connection:
        assert queries.counts(connection, 0).records == 0
