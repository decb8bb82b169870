"""``kill -9`` at any moment of a publication: the store serves the old or the new one, and the next publish works.

A child process publishes and kills itself at the n-th line of the code that writes: every step is met exactly, and the
product needs no hook for it. A second campaign kills the command line at random moments, in compiled code too.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.integration.test_deltas import built_anew
from tests.support.homes import add_keys, make_home
from tests.support.served import served
from verifier.control import building, committing, compacting, holding, publishing, rolling_back, tombstoning
from verifier.registry import database, dirty, intents, queries, schema
from verifier.registry.database import open_registry
from verifier.store import durable, workshop, writer
from verifier.store.layout import Store
from verifier.store.manifest import digest_of
from verifier.store.secrets import Secrets

WATCHED = {module.__file__ for module in (
    building, committing, compacting, database, dirty, durable, holding, intents, publishing, queries, rolling_back,
    tombstoning, workshop, writer,
)}  # fmt: skip
RANDOM_KILLS = 5


def go_back(home):
    rolling_back.roll_back(home, 1, drop_newer=True, allow_drop=True)


def resume(home):
    publishing.publish(home, resume=True)


def rebase(home):
    publishing.publish(home, rebase=True)


class Child:
    """Publishes in a process of its own, and dies at the n-th line of the watched files."""

    def __init__(self, home, line=None, work=publishing.publish):
        self.home, self.line, self.lines = home, line, 0
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            status = 1
            try:
                sys.settrace(self.trace)
                work(home)
                sys.settrace(None)
                os.write(writing, b"%d" % self.lines)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        with os.fdopen(reading) as told:
            text = told.read()
        _, status = os.waitpid(pid, 0)
        self.killed = os.WIFSIGNALED(status)
        assert self.killed or os.WEXITSTATUS(status) == 0
        self.lines = int(text or 0)

    def trace(self, frame, event, _):
        # What runs once for each record would move all other lines when records are added.
        if frame.f_code.co_filename not in WATCHED or frame.f_code.co_name.startswith("<"):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.line:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.trace


class Watcher:
    """Checks a store as a node would, and that no number is ever used for two contents."""

    def __init__(self, home):
        self.home = home
        self.digests: dict[int, str] = {}
        self.highest = 0

    def served(self):
        store = Store(self.home.store)
        for revision in store.revisions():
            digest = digest_of(store.manifest_bytes(revision))
            assert digest == self.digests.setdefault(revision, digest)
        revision = store.current()
        if revision is None:
            assert 0 == self.highest
            return None
        assert revision >= self.highest
        self.highest = revision
        manifest = store.publication(revision, Secrets(self.home.secrets).trust())
        for keyring in manifest.keyrings:
            assert keyring.sha256 == hashlib.sha256(store.keyring_path(keyring.sha256).read_bytes()).hexdigest()
        return manifest

    def recovered(self, keys):
        """Publish once more and see that everything is as after an undisturbed publication."""
        Child(self.home)
        manifest = self.served()
        store = Store(self.home.store)
        assert keys == manifest.records == manifest.active
        self.noted()
        with open_registry(self.home) as registry, registry.read() as connection:
            state = queries.state(connection)
        assert (manifest.revision, 0) == (state.last_revision, state.pending_changes)
        assert manifest.revision == store.revisions()[-1]
        named = {keyring.sha256 for revision in store.revisions()
                 for keyring in store.publication(revision, Secrets(self.home.secrets).trust()).keyrings}
        assert named == {path.stem for path in store.keyrings.iterdir()}
        names = {path.name for path in store.folder.iterdir()}
        assert {"keyrings", "publications", "CURRENT", "publisher.lock"} == names
        assert 2 * len(store.revisions()) == len(list(store.publications.iterdir()))


    def noted(self):
        """See that the registry knows each publication once, what it is based on and what it is held at."""
        store, manifest = Store(self.home.store), self.served()
        with open_registry(self.home) as registry, registry.read() as connection:
            state = queries.state(connection)
            logged = connection.scalars(
                select(schema.audit.c.revision).where(schema.audit.c.revision.is_not(None)).order_by("sequence")
            ).all()
        assert [revision for revision in store.revisions() if revision <= manifest.revision] == list(logged)
        assert (manifest.held, manifest.content_of if manifest.held else None) == (
            state.hold is not None, state.hold)
        assert manifest.held or manifest.base.sha256 == state.base_sha256
        assert manifest.held or built_anew(self.home) == served(self.home)


def campaign(home, choose: Callable[[int], list[int]]):
    watcher = Watcher(home)
    Child(home)
    add_keys(home)
    keys = 3
    lines = Child(home).lines  # of a publication that has a predecessor
    watcher.served()
    outcomes = set()
    for line in choose(lines):
        add_keys(home)
        keys += 1
        before = watcher.served()
        child = Child(home, line)
        after = watcher.served()
        assert after.records in {before.records, keys}
        outcomes.add((child.killed, after.records == keys))
        watcher.recovered(keys)
    return outcomes


def campaign_of_holds(home, choose: Callable[[int], list[int]]):
    """Go back, publish while held, build a new base and resume, each killed at the chosen lines."""
    watcher = Watcher(home)
    Child(home)
    add_keys(home)
    Child(home)
    outcomes = set()
    steps = {step: [] for step in (go_back, carry_on, resume, rebase)}
    for number in range(3):
        for step in steps:
            add_keys(home)
            if not number:
                steps[step] = choose(Child(home, work=step).lines)
            else:
                for line in steps[step][number - 1 :: 2]:
                    outcomes.add((step, Child(home, line, step).killed))
                    watcher.served()
                    Child(home, work=carry_on)
                    watcher.noted()
            Child(home, work=step)
            watcher.noted()
    return outcomes


def carry_on(home):
    publishing.publish(home, held_ok=True)


def spread(number):
    """Choose so many lines all over a publication, and some at its end, after the pointer moved."""
    return lambda lines: sorted({1 + lines * step // number for step in range(number)} | set(range(lines - 6, lines)))


def test_killed_at_lines_all_over_a_publication(quick_path):
    outcomes = campaign(make_home(quick_path / "home", keys=2), spread(24))
    assert {(True, False), (True, True)} <= outcomes  # some died before the pointer moved, some after


def test_killed_while_going_back_and_resuming(quick_path):
    outcomes = campaign_of_holds(make_home(quick_path / "home", keys=2), spread(4))
    assert {(step, True) for step in (go_back, carry_on, resume, rebase)} <= outcomes


def test_killed_with_the_registry_in_postgresql(quick_path, postgres_url):
    outcomes = campaign(make_home(quick_path / "home", keys=2, registry=postgres_url), spread(4))
    assert {(True, False), (True, True)} <= outcomes


def test_killed_during_the_very_first_publication(quick_path):
    lines = Child(make_home(quick_path / "measured", keys=2)).lines
    for line in spread(4)(lines):
        home = make_home(quick_path / f"home{line}", keys=2)
        watcher = Watcher(home)
        Child(home, line)
        watcher.served()
        watcher.recovered(2)


def test_killed_again_while_recovering(quick_path):
    home = make_home(quick_path / "home", keys=2)
    watcher = Watcher(home)
    lines = Child(home).lines
    keys = 2
    for line in spread(2)(lines):
        add_keys(home)
        keys += 1
        for _ in range(3):
            Child(home, max(1, line - 7))
            watcher.served()
            Child(home, line)
            watcher.served()
    watcher.recovered(keys)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_killed_at_every_line(quick_path):
    campaign(make_home(quick_path / "home", keys=2), lambda lines: list(range(1, lines + 20)))


def kill_at_random_moments(home, kills, generator):
    watcher = Watcher(home)
    command = [sys.executable, "-m", "verifier", "--store", str(home.folder), "publish"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERIFIER_")}
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    whole_s = time.monotonic() - began
    keys = 2
    for _ in range(kills):
        add_keys(home)
        keys += 1
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        time.sleep(whole_s * generator.uniform(0.5, 1.0))
        process.kill()
        process.wait()
        watcher.served()
    watcher.recovered(keys)


def test_the_command_killed_at_random_moments(quick_path):
    kill_at_random_moments(make_home(quick_path / "home", keys=2), RANDOM_KILLS, random.Random(7))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_the_command_killed_at_many_random_moments(quick_path):
    kill_at_random_moments(make_home(quick_path / "home", keys=2), 200, random.Random())


def test_the_watched_files_are_those_that_write():
    assert all(Path(name).exists() for name in WATCHED)
