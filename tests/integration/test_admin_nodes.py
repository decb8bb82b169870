"""A control plane and real nodes: a key's life over gRPC, waited for until it is served, with its use reported."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from tests.support.admin import GENERATE, Served, make_client, make_key, served
from verifier.admin.roles import Role
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.admin.v1 import node_pb2, publication_pb2, usage_pb2
from verifier.admin.v1 import types_pb2 as types
from verifier.control.founding import found
from verifier.registry import schema
from verifier.serving.keyring import Keyring
from verifier.store.home import Home
from verifier.vocabulary import Phase, Verdict

SERVED = types.Options(wait=types.WAIT_SERVED, timeout=Duration(seconds=20))


@pytest.fixture
def control(quick_path: Path) -> Iterator[Served]:
    home = Home(quick_path / "home")
    found(home)
    with served(home) as there:
        yield there


@contextmanager
def nodes(control: Served, count: int) -> Iterator[list[Keyring]]:
    """Have so many nodes in this process follow the store and report."""
    token = control.home.folder / "node.token"
    token.write_text(control.tokens[Role.NODE])
    with ExitStack() as stack:
        yield [
            stack.enter_context(Keyring.open(
                control.home.folder, report_to=control.server.target, node_name=f"n{number}", token_file=token))
            for number in range(count)
        ]


def until(true, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_what_was_waited_for_is_served_everywhere(control: Served):
    admin = control.connect(Role.ADMIN)
    make_client(admin)
    admin.publication.Publish(publication_pb2.PublishRequest())
    with nodes(control, 2) as keyrings:
        until(lambda: sum(node.expected for node in admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes) == 2)
        issued = make_key(admin, options=SERVED)
        assert (issued.receipt.propagation.expected, list(issued.receipt.propagation.behind)) == (2, [])
        assert [Verdict.VALID] * 2 == [keyring.verify(issued.token).verdict for keyring in keyrings]

        rotated = admin.lifecycle.RotateKey(pb.RotateKeyRequest(
            key_id=issued.key.key_id, secret=GENERATE, overlap=Duration(seconds=3600), options=SERVED))
        for keyring in keyrings:
            old, new = keyring.verify(issued.token), keyring.verify(rotated.token)
            assert (old.verdict, old.phase, new.verdict, new.phase) == (
                Verdict.VALID, Phase.RETIRING, Verdict.VALID, Phase.CURRENT)  # fmt: skip

        began = time.monotonic()
        revoked = admin.lifecycle.Revoke(pb.RevokeRequest(
            selection=pb.Selection(versions=[pb.VersionName(key_id=issued.key.key_id, version=1)]), reason=1,
            expected_count=1, options=SERVED))
        took_ms = (time.monotonic() - began) * 1000
        assert [Verdict.REVOKED] * 2 == [keyring.verify(issued.token).verdict for keyring in keyrings]
        assert [Verdict.VALID] * 2 == [keyring.verify(rotated.token).verdict for keyring in keyrings]
        assert revoked.receipt.propagation.took.ToMilliseconds() <= took_ms
        listed = admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes
        assert [("n0", revoked.receipt.revision), ("n1", revoked.receipt.revision)] == [
            (node.node, node.revision) for node in listed
        ]

    # They said that they stop: nobody waits for them any more, and their counts have arrived.
    until(lambda: not any(n.expected for n in admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes))
    days = admin.usage.QueryUsage(usage_pb2.QueryUsageRequest(key_id=issued.key.key_id)).days
    assert {1: (4, 2), 2: (4, 0)} == {day.version: (day.valid, day.refused) for day in days}
    versions = admin.lifecycle.GetKey(pb.GetKeyRequest(key_id=issued.key.key_id)).key.versions
    assert all(version.HasField("last_used_at") for version in versions)


def test_two_nodes_of_one_name_are_told(control: Served):
    node = control.connect(Role.NODE)
    for epoch in (1, 2, 1, 2, 1, 2):
        node.node.ReportStatus(node_pb2.ReportStatusRequest(node="n1", epoch=epoch, addresses=[f"10.0.0.{epoch}:1"]))
    e = schema.events.c
    with control.desk.registry.read() as connection:
        rows = connection.execute(select(e.details).where(e.kind == "node.name_taken")).scalars().all()
    assert [{"node": "n1", "addresses": ["10.0.0.1:1"]}] == [json.loads(row) for row in rows]


@pytest.mark.parametrize(("full", "kept"), [(False, "10.1.2.0/24"), (True, "10.1.2.3")])
def test_whole_addresses_are_kept_by_setting(control: Served, full: bool, kept: str):
    control.desk.full_addresses = full
    admin, node = control.connect(Role.ADMIN), control.connect(Role.NODE)
    make_client(admin)
    make_key(admin)
    now_s = int(time.time())
    report = node_pb2.ReportUsageRequest(node="n1", epoch=1, sequence=1, to=Timestamp(seconds=now_s), watched=[
        node_pb2.WatchedUse(ordinal=1, verdict=1, used_at=Timestamp(seconds=now_s - 1), address=bytes([10, 1, 2, 3]))])
    getattr(report, "from").seconds = now_s - 5
    node.node.ReportUsage(report)
    with control.desk.registry.read() as connection:
        assert [kept] == connection.execute(select(schema.usage_addresses.c.network)).scalars().all()


def test_a_first_use_asks_for_a_publication(control: Served):
    admin = control.connect(Role.ADMIN)
    due: list[float] = []
    control.desk.on_publication_due = lambda: due.append(time.monotonic())
    make_client(admin)
    issued = make_key(admin, options=types.Options())
    with nodes(control, 1) as (keyring,):
        until(lambda: any(node.expected for node in admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes))
        rotated = admin.lifecycle.RotateKey(pb.RotateKeyRequest(
            key_id=issued.key.key_id, secret=GENERATE, overlap=Duration(seconds=60), clock=types.CLOCK_ON_FIRST_USE,
            force=True, options=SERVED))
        assert keyring.verify(rotated.token).verdict is Verdict.VALID
        until(lambda: bool(due))
    key = admin.lifecycle.GetKey(pb.GetKeyRequest(key_id=issued.key.key_id)).key
    old, new = key.versions
    assert new.HasField("first_used_at")
    assert old.retire_at.seconds == new.first_used_at.seconds + 60
