"""Keys with several versions, put into a registry as they are wanted, and reports of nodes about them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text, update

from verifier.control.acting import Actor, acting
from verifier.control.founding import found
from verifier.control.nodes import StatusReport, report_status
from verifier.control.usage import Applied, UsageReport, WatchedUse, apply_report
from verifier.registry import changes, queries, schema
from verifier.registry.database import Registry, open_registry
from verifier.registry.facts import Version
from verifier.store.home import Home

START_S = 1_700_000_000  # a Tuesday, 22:13:20 UTC
_tags = count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Return a founded registry that a module's tests share, once in either database."""
    folder = tmp_path_factory.mktemp("usage") / "home"
    if request.param == "sqlite":
        found(Home(folder))
        with open_registry(Home(folder)) as registry:
            yield registry
        return
    with request.getfixturevalue("postgres_server").database() as url:
        home = Home(folder, registry=url)
        found(home)
        with open_registry(home) as registry:
            yield registry


@pytest.fixture
def registry(shared_registry: Registry) -> Registry:
    """Return the shared registry, emptied."""
    with shared_registry.write() as connection:
        empty(connection)
    return shared_registry


def empty(connection: Connection) -> None:
    """Empty a registry, inside ``Registry.write()``."""
    tables = [table for table in reversed(schema.metadata.sorted_tables) if table is not schema.registry]
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"TRUNCATE {', '.join(table.name for table in tables)}"))
    else:
        for table in tables:
            connection.execute(table.delete())
    first = {"next_client": 1, "next_key": 1, "next_version": 1, "usage_since": None, "policy": None, "changes": 0}
    connection.execute(update(schema.registry).values(first))


def put_client(connection: Connection, client_id: str = "acme", **values: Any) -> int:
    """Add a client; return its ordinal."""
    ordinal = changes.reserve(connection, "next_client")
    row = {"ordinal": ordinal, "client_id": client_id, "enabled": True, "created_at": START_S, **values}
    connection.execute(insert(schema.clients).values(row))
    return ordinal


def put_key(connection: Connection, *versions: dict[str, Any], key_id: str = "k", **values: Any) -> list[int]:
    """Add a key with versions 1, 2, ... of the given columns; return the versions' ordinals."""
    client = connection.scalar(select(schema.clients.c.ordinal))
    key = changes.reserve(connection, "next_key")
    row = {
        "ordinal": key, "key_id": key_id, "client_ordinal": client or put_client(connection), "enabled": True,
        "created_at": START_S, "scopes": "read", "rules": "", "metadata": "", "prefix": "vk", **values,
    }  # fmt: skip
    connection.execute(insert(schema.keys).values(row))
    ordinals = []
    for number, columns in enumerate(versions, 1):
        ordinals.append(changes.reserve(connection, "next_version"))
        row = {
            "ordinal": ordinals[-1], "tag": next(_tags).to_bytes(32, "big"), "record": b"", "key_ordinal": key,
            "number": number, "issued_at": START_S, **columns,
        }  # fmt: skip
        connection.execute(insert(schema.versions).values(row))
    return ordinals


@dataclass
class FakeNode:
    """A node that reports what it is told to, by its own clock.

    Args:
        registry: where it reports.
        name: its name.
        epoch: of its process.
        ahead_ms: by how much its clock is ahead.
    """

    registry: Registry
    name: str = "n1"
    epoch: int = 1
    ahead_ms: int = 0
    sequence: int = 0
    to_ms: int | None = None
    sent: list[UsageReport] = field(default_factory=list)

    def status(self, now_ms: int, **values: Any) -> None:
        """Report what it serves."""
        report = StatusReport(self.name, self.epoch, clock_ms=now_ms + self.ahead_ms, **values)
        with self.registry.write() as connection:
            report_status(connection, report, now_ms)

    def cut(self, to_ms: int, uses: dict[int, tuple[int, int]] | None = None, **values: Any) -> UsageReport:
        """Make the next report, which covers the time up to ``to_ms`` of our clock; ``uses`` are (valid, refused)."""
        self.sequence += 1
        ordinals = sorted(uses or {})
        end_ms = to_ms + self.ahead_ms
        report = UsageReport(
            self.name, self.epoch, self.sequence, end_ms - 10_000 if self.to_ms is None else self.to_ms, end_ms,
            ordinals, [(uses or {})[one][0] for one in ordinals], [(uses or {})[one][1] for one in ordinals], **values,
        )  # fmt: skip
        self.to_ms = end_ms
        self.sent.append(report)
        return report

    def send(self, report: UsageReport, now_s: int, **options: Any) -> Applied:
        """Deliver a report."""
        with acting(self.registry, Actor(f"token:{self.name}"), now_s) as act:
            return apply_report(act, report, **options)

    def use(self, now_s: int, uses: dict[int, tuple[int, int]] | None = None, **values: Any) -> Applied:
        """Report what was used in the time up to now."""
        return self.send(self.cut(now_s * 1000, uses, **values), now_s)

    def restart(self) -> None:
        """Begin another process."""
        self.epoch, self.sequence, self.to_ms = self.epoch + 1, 0, None


def watched(ordinal: int, verdict: int, at_s: int, address: str = "") -> WatchedUse:
    """Return a watched call; the address as text."""
    return WatchedUse(ordinal, int(verdict), at_s, ip_address(address).packed if address else b"")


def rows(registry: Registry, table: Any, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows of a table, sorted."""
    with registry.read() as connection:
        found = connection.execute(select(*(table.c[name] for name in columns)))
        return sorted(tuple(row) for row in found)


def counts(registry: Registry) -> list[tuple[Any, ...]]:
    """Return version, day, valid, refused and hours of all rows of usage."""
    return rows(registry, schema.usage, "version_ordinal", "day", "valid", "refused", "hours")


def put(registry: Registry, *versions: dict[str, Any], **values: Any) -> list[int]:
    """Do what :func:`put_key` does."""
    with registry.write() as connection:
        return put_key(connection, *versions, **values)


def version(registry: Registry, number: int = 1, key_id: str = "k") -> Version:
    """Return a version."""
    with registry.read() as connection:
        return queries.find_key(connection, key_id).versions[number - 1]
