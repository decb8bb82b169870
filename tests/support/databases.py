"""Registries in real databases: a file for SQLite, and a PostgreSQL that the tests start and end themselves.

    def test_something(registry_place: Home): ...   # runs twice, in a home with a founded registry
    def test_another(registry: Registry): ...       # the same, opened

Without PostgreSQL's programs (Debian's package ``postgresql``) its half is skipped; with ``VERIFIER_TEST_POSTGRES=1``
in the environment it fails instead, so that no machine of continuous integration skips it unseen.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import delete, insert, select

from verifier.control.founding import found
from verifier.registry import schema
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home

REQUIRED = "VERIFIER_TEST_POSTGRES"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
SETTINGS = {
    "listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
    "wal_level": "minimal", "max_wal_senders": "0", "max_connections": "60", "shared_buffers": "32MB",
}  # fmt: skip


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs; None when there are none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: -float(path.parent.name))
    on_path = shutil.which("initdb")
    for folder in [*folders, *([Path(on_path).parent] if on_path else [])]:
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return folder
    return None


class PostgresServer:
    """A server of its own, in a temporary folder, reachable through a socket there; it ends with this process.

    Args:
        bin_folder: where its programs are.
        folder: where it lives; made for the user it runs as.
    """

    def __init__(self, bin_folder: Path, folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder
        # PostgreSQL refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make its files, start it, and wait until it answers."""
        # Sorting as people do, which production may: whoever relies on the order of bytes notices.
        sorting = ["--locale-provider=icu", "--icu-locale=en-US"] if self._major() >= 15 else []
        self._run("initdb", "--no-sync", "--username=verifier", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
                  *sorting, f"--pgdata={self._data}")  # fmt: skip
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self.folder, *options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one call, of what is loaded already
                **self._as_user(),
            )  # fmt: skip
        self._wait()

    def stop(self) -> None:
        """End it, and its connections with it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # "fast"
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)  # "immediate"
            self._process.wait(STOP_TIMEOUT_S)

    def url(self, database: str = "postgres") -> str:
        """Return the address of one of its databases."""
        return f"postgresql://verifier@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute a statement outside any transaction, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database for as long as the block lasts, and yield its address."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _as_user(self) -> dict[str, object]:
        # Not with the sanitizers that are preloaded into the tests themselves: it hangs.
        own: dict[str, object] = {"env": {name: text for name, text in os.environ.items() if name != "LD_PRELOAD"}}
        if self._user is not None:
            own |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return own

    def _major(self) -> int:
        return int(self._run("postgres", "--version").split(")")[1].split(".")[0])

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._bin / program, *arguments], capture_output=True, text=True, cwd=self.folder, check=False,
            timeout=START_TIMEOUT_S, **self._as_user(),
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self._process is not None
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    self.stop()
                    raise AssertionError(f"PostgreSQL did not start:\n{(self.folder / 'log').read_text()}") from None
                time.sleep(0.02)


def back_up(home: Home) -> Callable[[], None]:
    """Back up a home's registry as an operator would, and return what restores it; nobody may have it open."""
    if not home.external:
        copy = home.registry_file.with_name("registry.db.test-backup")
        shutil.copy(home.registry_file, copy)
        return lambda: shutil.copy(copy, home.registry_file) and None
    tables = schema.metadata.sorted_tables
    with open_registry(home) as registry, registry.read() as connection:
        rows = {table: [dict(row) for row in connection.execute(select(table)).mappings()] for table in tables}

    def restore() -> None:
        with open_registry(home) as registry, registry.write() as connection:
            for table in reversed(tables):
                connection.execute(delete(table))
            for table in tables:
                if rows[table]:
                    connection.execute(insert(table), rows[table])

    return restore


def _die_with_parent() -> None:
    # Even if the tests are killed no server stays behind. Runs after the change of user, which would undo it.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start a PostgreSQL for this process of tests."""
    bin_folder = programs()
    if bin_folder is None:
        reason = "PostgreSQL's programs are missing: apt-get install postgresql"
        pytest.fail(reason) if os.environ.get(REQUIRED) else pytest.skip(reason)
    # Not under pytest's own folder: only its owner may enter that, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="verifier-pg-"))
    server = PostgresServer(bin_folder, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Make an empty database in PostgreSQL, and return its address."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_place(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Return a home that nothing was founded in, once with a registry file and once with a PostgreSQL."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Home(tmp_path / "home", registry=url)


@pytest.fixture
def registry_place(empty_place: Home) -> Home:
    """Return a founded home: secrets, and a registry without clients in either database."""
    found(empty_place)
    return empty_place


@pytest.fixture
def registry(registry_place: Home) -> Iterator[Registry]:
    """Return an open registry without clients in either database."""
    with open_registry(registry_place) as registry:
        yield registry
