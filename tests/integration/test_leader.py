"""One leader at a time, on both databases, however the leader goes."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support.databases import PostgresServer
from verifier.control.founding import found
from verifier.errors import Unavailable
from verifier.registry.database import Registry, open_registry
from verifier.registry.leader import Leadership, leading
from verifier.store.home import Home

TIMEOUT_S = 30
SPAWN = multiprocessing.get_context("spawn")


def _lead(home: Home, told: Connection) -> None:
    with open_registry(home) as registry:
        leadership = leading(registry)
        told.send(leadership is not None)
        signal.pause()


@pytest.fixture
def start(registry_place: Home) -> Iterator[Callable[[], tuple[SpawnProcess, bool]]]:
    """Return a function that starts another process, which tries to lead and tells whether it does."""
    started: list[SpawnProcess] = []

    def run() -> tuple[SpawnProcess, bool]:
        ours, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_lead, args=(registry_place, theirs))
        process.start()
        theirs.close()
        started.append(process)
        assert ours.poll(TIMEOUT_S)
        return process, ours.recv()

    yield run
    for process in started:
        process.kill()
        process.join(TIMEOUT_S)


def eventually(call: Callable[[], Leadership | None]) -> Leadership:
    """Return what a call returns once it returns something."""
    deadline = time.monotonic() + TIMEOUT_S
    while (found := call()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_one_leads_until_it_gives_up(registry: Registry, registry_place: Home):
    with open_registry(registry_place) as other:
        first = leading(registry)
        assert first is not None
        assert first.still_held()
        assert leading(other) is None
        assert leading(registry) is None
        first.release()
        first.release()
        assert not first.still_held()
        with eventually(lambda: leading(other)) as second:
            assert second.still_held()
            assert leading(registry) is None
        assert eventually(lambda: leading(registry)).still_held()


@pytest.mark.parametrize("killing", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_one_leads_when_the_leader_dies(
    registry: Registry, start: Callable[[], tuple[SpawnProcess, bool]], killing: signal.Signals
):
    process, leads = start()
    assert leads
    assert leading(registry) is None
    os.kill(process.pid, killing)
    with eventually(lambda: leading(registry)) as leadership:
        assert leadership.still_held()
        assert not start()[1]


def test_a_leader_hinders_no_writer(registry: Registry):
    with leading(registry) as leadership, registry.write() as connection:
        assert connection.scalar(text("SELECT schema FROM registry"))
        assert leadership.still_held()


def test_a_leader_that_lost_its_session_knows(postgres_server: PostgresServer, postgres_url: str, tmp_path: Path):
    home = Home(tmp_path, registry=postgres_url)
    found(home)
    with open_registry(home) as registry, open_registry(home) as other:
        first = leading(registry)
        assert first is not None
        postgres_server.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        with eventually(lambda: leading(other)) as second:
            assert not first.still_held()
            assert not first.still_held()
            first.release()
            assert second.still_held()
            assert leading(registry) is None
        assert leading(registry) is not None


def test_a_leader_whose_file_was_replaced_knows(tmp_path: Path):
    found(home := Home(tmp_path))
    file = tmp_path / "registry.db.leader"
    with open_registry(home) as registry:
        first = leading(registry)
        file.unlink()
        second = leading(registry)
        assert second is not None
        assert not first.still_held()
        assert second.still_held()


def test_a_file_that_cannot_be_opened_is_a_fault(tmp_path: Path):
    found(home := Home(tmp_path))
    (tmp_path / "registry.db.leader").symlink_to("elsewhere")
    with open_registry(home) as registry, pytest.raises(Unavailable) as caught:
        leading(registry)
    assert caught.value.code == "NOT_WRITABLE"
