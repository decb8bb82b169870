"""Emergencies go through whatever was recorded before them; what the registry cannot account for stops them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import delete, func, select

from tests.support.admin import GENERATE, RECORDED, make_client, make_key
from verifier.admin import local
from verifier.admin.context import Caller
from verifier.admin.desk import Desk
from verifier.admin.face import Admin
from verifier.admin.roles import Role
from verifier.admin.v1 import audit_pb2, publication_pb2
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.admin.v1 import types_pb2 as types
from verifier.control.founding import found
from verifier.errors import Conflict
from verifier.registry import bases, schema
from verifier.store.home import Home


@pytest.fixture
def desk(quick_path: Path) -> Iterator[Desk]:
    home = Home(quick_path)
    found(home)
    desk = Desk(home)
    yield desk
    desk.close()


@pytest.fixture
def admin(desk: Desk) -> Admin:
    admin = local.at(desk, Caller("token:operator", Role.OPERATOR))
    make_client(admin)
    return admin


def test_an_emergency_is_not_stopped_by_the_drop_guard(admin: Admin, desk: Desk):
    for _ in range(30):
        make_key(admin)
    boss = local.at(desk, Caller("token:boss", Role.ADMIN))
    boss.publication.Publish(publication_pb2.PublishRequest())
    everything = pb.RevokeRequest(selection=pb.Selection(client_ids=["acme"]), reason=1)
    done = admin.lifecycle.Revoke(everything)
    assert done.count == 30 and done.receipt.published
    manifest = desk.store.publication(done.receipt.revision, desk.trust())
    assert (manifest.active, manifest.drop_override) == (0, True)


def test_an_emergency_is_not_stopped_by_revocations_before_it(admin: Admin, desk: Desk):
    keys = [make_key(admin).key for _ in range(40)]
    local.at(desk, Caller("token:boss", Role.ADMIN)).publication.Publish(publication_pb2.PublishRequest())
    names = [pb.VersionName(key_id=key.key_id) for key in keys]
    admin.lifecycle.Revoke(pb.RevokeRequest(selection=pb.Selection(versions=names[:13]), reason=4, options=RECORDED))
    with pytest.raises(Conflict, match="14 of 40"):  # who publishes without a word about them is asked
        admin.lifecycle.Revoke(pb.RevokeRequest(selection=pb.Selection(versions=names[39:]), reason=1,
                                                options=RECORDED))
        local.at(desk, Caller("token:boss", Role.ADMIN)).publication.Publish(publication_pb2.PublishRequest())
    done = admin.lifecycle.Revoke(pb.RevokeRequest(selection=pb.Selection(versions=names[38:39]), reason=1))
    assert done.receipt.published
    assert 25 == desk.store.publication(done.receipt.revision, desk.trust()).active


def publish_first(desk: Desk) -> None:
    local.at(desk, Caller("token:boss", Role.ADMIN)).publication.Publish(publication_pb2.PublishRequest())


def switch_off(admin: Admin, client_id: str) -> None:
    admin.lifecycle.UpdateClient(pb.UpdateClientRequest(
        client=types.Client(client_id=client_id, enabled=False), update_mask=FieldMask(paths=["enabled"]),
        options=RECORDED))


def revoke_one(admin: Admin, key: types.Key) -> types.Receipt:
    name = pb.VersionName(key_id=key.key_id)
    return admin.lifecycle.Revoke(pb.RevokeRequest(selection=pb.Selection(versions=[name]), reason=1)).receipt


@pytest.mark.parametrize("whole", [False, True], ids=["delta", "new base"])
@pytest.mark.parametrize("denial", ["client", "key"])
def test_an_emergency_is_not_stopped_by_what_was_switched_off_before_it(
    admin: Admin, desk: Desk, denial: str, whole: bool
):
    make_client(admin, "other")
    keys = [make_key(admin, "other" if number else "acme").key for number in range(31)]
    publish_first(desk)
    if denial == "client":
        switch_off(admin, "other")
    for key in keys[1:] if denial == "key" else []:
        admin.lifecycle.UpdateKey(pb.UpdateKeyRequest(
            key=types.Key(key_id=key.key_id, enabled=False), update_mask=FieldMask(paths=["enabled"]),
            options=RECORDED))
    if whole:
        with desk.registry.write() as connection:
            bases.forget(connection)
    with pytest.raises(Conflict, match="30 of 31"):  # who publishes without a word about them is asked
        publish_first(desk)
    receipt = revoke_one(admin, keys[0])
    manifest = desk.store.publication(receipt.revision, desk.trust())
    assert (receipt.published, manifest.active, manifest.drop_override) == (True, 0, True)


def test_an_emergency_is_not_stopped_by_what_ended_before_it(admin: Admin, desk: Desk):
    keys = [make_key(admin).key for _ in range(31)]
    publish_first(desk)
    for key in keys[1:]:
        admin.lifecycle.RotateKey(pb.RotateKeyRequest(
            key_id=key.key_id, secret=GENERATE, overlap=Duration(), options=RECORDED))
    with pytest.raises(Conflict) as raised:  # that may be a policy that nobody thought through
        make_key(admin, options=types.Options())
    assert raised.value.code == "DROP_GUARD"
    assert revoke_one(admin, keys[0]).published


def test_the_drop_guard_counts_what_the_registry_lost(admin: Admin, desk: Desk):
    """Rows that nobody took away: not even an emergency makes unknown what the registry cannot account for."""
    keys = [make_key(admin).key for _ in range(31)]
    publish_first(desk)
    with desk.registry.write() as connection:
        first = select(func.min(schema.versions.c.ordinal)).scalar_subquery()
        connection.execute(delete(schema.versions).where(schema.versions.c.ordinal > first))
        bases.forget(connection)
    with pytest.raises(Conflict) as raised:
        revoke_one(admin, keys[0])
    error = raised.value
    assert error.code == "DROP_GUARD"
    assert error.details["recorded"] is True and error.details["audit_id"].startswith("a-")
    assert "recorded, but not published" in error.message
    revoked = admin.audit.ListEntries(audit_pb2.ListEntriesRequest(page_size=10, action="key.revoke"))
    assert len(revoked.entries) == 1
