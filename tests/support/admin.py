"""The operators' API for tests: a real server on a free port of this machine, and a caller for each role."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from verifier.admin import identities, remote
from verifier.admin.desk import Desk
from verifier.admin.face import Admin
from verifier.admin.roles import Role
from verifier.admin.server import AdminServer, Settings
from verifier.admin.tls import ClientTls
from verifier.admin.v1 import lifecycle_pb2 as lifecycle
from verifier.admin.v1 import types_pb2 as types
from verifier.control.acting import acting
from verifier.store.home import Home

Result = TypeVar("Result")

RECORDED = types.Options(wait=types.WAIT_RECORDED)
GENERATE = types.Secret(generate=True)


class Served:
    """A control plane that answers, with an identity of each role.

    Attributes:
        home: its folder.
        desk: what it works with.
        server: it.
        tokens: by role.
    """

    def __init__(self, home: Home, desk: Desk, server: AdminServer, tokens: dict[Role, str]) -> None:
        self.home = home
        self.desk = desk
        self.server = server
        self.tokens = tokens
        self._open: list[Admin] = []

    def connect(
        self, role: Role | None = Role.ADMIN, *, token: str | None = None, tls: ClientTls | None = None
    ) -> Admin:
        """Connect with a role's token, or with another one."""
        given = token if token is not None else None if role is None else self.tokens[role]
        admin = remote.connect(self.server.target, given, tls)
        self._open.append(admin)
        return admin

    def close(self) -> None:
        """Hang up."""
        for admin in self._open:
            admin.close()


@contextmanager
def served(home: Home, settings: Settings | None = None) -> Iterator[Served]:
    """Serve a founded home."""
    desk = Desk(home)
    tokens = {role: make_identity(desk, f"test-{role}", role) for role in Role}
    server = AdminServer(desk, settings or Settings("127.0.0.1:0"))
    server.start()
    there = Served(home, desk, server, tokens)
    try:
        yield there
    finally:
        there.close()
        server.stop(grace_s=5)
        desk.close()


def make_identity(desk: Desk, name: str, role: str, **terms: Any) -> str:
    """Make an identity; return its token."""
    with acting(desk.registry) as act:
        token = identities.create(act, name, role, **terms).token
    return token or ""


def make_client(admin: Admin, client_id: str = "acme") -> None:
    """Add a client."""
    admin.lifecycle.CreateClient(lifecycle.CreateClientRequest(client_id=client_id, options=RECORDED))


def make_key(admin: Admin, client_id: str = "acme", options: types.Options = RECORDED) -> lifecycle.CreateKeyResponse:
    """Issue a key of the scope ``read``."""
    return admin.lifecycle.CreateKey(
        lifecycle.CreateKeyRequest(client_id=client_id, scopes=["read"], secret=GENERATE, options=options)
    )


def imported(terms: lifecycle.ImportTerms, *parts: list[lifecycle.ImportRow]) -> Iterator[lifecycle.ImportKeysRequest]:
    """Write an import as a stream: the terms with the first part, the others, the number of rows."""
    yield lifecycle.ImportKeysRequest(terms=terms, rows=parts[0])
    for rows in parts[1:]:
        yield lifecycle.ImportKeysRequest(rows=rows)
    yield lifecycle.ImportKeysRequest(rows_total=sum(map(len, parts)))


def at_once(count: int, work: Callable[[int], Result]) -> list[Result]:
    """Have so many threads do a work at the same moment; return what each returned."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Result:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
