"""The audit log as operators see it: what was done, by whom, in which publication, and that nobody changed it."""

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import delete, update

from tests.support.admin import make_client, make_key
from verifier.admin import local
from verifier.admin.desk import Desk
from verifier.admin.face import Admin
from verifier.admin.v1 import audit_pb2 as pb
from verifier.admin.v1 import lifecycle_pb2, publication_pb2
from verifier.admin.v1 import types_pb2 as types
from verifier.cli.audit import entry_json
from verifier.errors import InvalidInput
from verifier.registry import schema
from verifier.registry.audit import FIRST_HASH
from verifier.store.home import Home


@pytest.fixture
def desk(registry_place: Home) -> Iterator[Desk]:
    desk = Desk(registry_place)
    yield desk
    desk.close()


@pytest.fixture
def admin(desk: Desk) -> Admin:
    admin = local.connect(desk.home, registry=desk.registry)
    make_client(admin)
    make_client(admin, "other")
    return admin


def listed(admin: Admin, **wanted: object) -> list[pb.Entry]:
    return list(admin.audit.ListEntries(pb.ListEntriesRequest(**wanted)).entries)  # type: ignore[arg-type]


def publish(admin: Admin) -> int:
    return admin.publication.Publish(publication_pb2.PublishRequest()).publication.revision


def test_entries_are_found_by_what_they_are_about(admin: Admin):
    one, other = make_key(admin).key, make_key(admin, "other").key
    assert [entry.action for entry in listed(admin)] == ["key.create"] * 2 + ["client.create"] * 2
    assert [entry.action for entry in listed(admin, ascending=True)] == ["client.create"] * 2 + ["key.create"] * 2
    assert [entry.key_id for entry in listed(admin, key_id=one.key_id)] == [one.key_id]
    assert [entry.key_id for entry in listed(admin, client_id="other")] == [other.key_id, ""]
    assert len(listed(admin, action="key")) == len(listed(admin, action="key.create")) == 2
    assert listed(admin, action="ke") == listed(admin, action="k_y") == listed(admin, principal="nobody") == []
    (first, *_) = listed(admin)
    at = first.at.seconds
    assert len(listed(admin, since=Timestamp(seconds=at - 100))) == 4
    assert listed(admin, since=Timestamp(seconds=at + 1)) == listed(admin, until=Timestamp(seconds=at - 100)) == []


@pytest.mark.parametrize("ascending", [False, True])
def test_pages_hold_every_entry_once(admin: Admin, ascending: bool):
    for _ in range(5):
        make_key(admin)
    seen, token = [], ""
    while True:
        page = admin.audit.ListEntries(pb.ListEntriesRequest(page_size=3, page_token=token, ascending=ascending))
        seen += [int(entry.audit_id[2:]) for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(range(1, 8), reverse=not ascending)


def test_each_entry_names_the_first_publication_that_holds_it(admin: Admin):
    make_key(admin)
    make_key(admin)
    first = publish(admin)
    make_key(admin)
    second = publish(admin)
    make_key(admin)
    found = {entry.audit_id: (entry.action, entry.revision) for entry in listed(admin, ascending=True)}
    assert list(found.values()) == [
        ("client.create", first), ("client.create", first), ("key.create", first), ("key.create", first),
        ("publication.publish", first), ("key.create", second), ("publication.publish", second), ("key.create", 0),
    ]  # fmt: skip
    # The same, whatever part of the log is looked at.
    for entry in listed(admin, action="key", page_size=1):
        assert entry.revision == 0
    (oldest,) = listed(admin, action="key", page_size=1, ascending=True)
    assert oldest.revision == first


def test_the_chain_is_checked_and_its_end_can_be_noted(admin: Admin, desk: Desk):
    make_key(admin)
    sound = admin.audit.VerifyLog(pb.VerifyLogRequest())
    assert (sound.sound, sound.entries, list(sound.problems)) == (True, 3, [])
    assert sound.anchor == f"a-3:{listed(admin)[0].hash}"
    make_key(admin)
    later = admin.audit.VerifyLog(pb.VerifyLogRequest(anchor=sound.anchor))
    assert later.sound and later.entries == 4
    assert not admin.audit.VerifyLog(pb.VerifyLogRequest(anchor=f"a-3:{'0' * 64}")).sound
    missing = admin.audit.VerifyLog(pb.VerifyLogRequest(anchor=f"a-9:{'0' * 64}"))
    assert not missing.sound and "a-9 was noted" in missing.problems[0]
    for anchor in ("a-3", "3:" + "0" * 64, "a-3:" + "g" * 64):
        with pytest.raises(InvalidInput):
            admin.audit.VerifyLog(pb.VerifyLogRequest(anchor=anchor))


@pytest.mark.parametrize("change", [
    "details", "principal", "at", "last is gone", "one is gone", "all are gone", "written anew",
])  # fmt: skip
def test_a_log_that_was_changed_is_not_sound(admin: Admin, desk: Desk, change: str):
    for _ in range(3):
        make_key(admin)
    anchor = admin.audit.VerifyLog(pb.VerifyLogRequest()).anchor
    table = schema.audit
    with desk.registry.write() as connection:
        if change == "last is gone":
            connection.execute(delete(table).where(table.c.sequence == 5))
        elif change == "all are gone":
            connection.execute(delete(table))
        elif change == "one is gone":
            connection.execute(delete(table).where(table.c.sequence == 3))
        elif change == "written anew":
            _write_anew(connection)
        else:
            values = {"details": "{}", "principal": "somebody", "at": 1}
            connection.execute(update(table).where(table.c.sequence == 2).values({change: values[change]}))
    # Without an anchor, a whole log may be put in its place.
    assert admin.audit.VerifyLog(pb.VerifyLogRequest()).sound == (change == "written anew")
    assert not admin.audit.VerifyLog(pb.VerifyLogRequest(anchor=anchor)).sound


def test_the_end_of_the_log_holds_what_the_registry_knows(admin: Admin, desk: Desk):
    """Publications change nothing that is counted, but the registry knows the last one."""
    make_key(admin)
    publish(admin)
    make_key(admin, options=types.Options())
    publish(admin)
    whole = listed(admin)
    assert admin.audit.VerifyLog(pb.VerifyLogRequest()).sound
    for entry in whole[:3]:
        with desk.registry.write() as connection:
            connection.execute(delete(schema.audit).where(schema.audit.c.sequence == int(entry.audit_id[2:])))
        found = admin.audit.VerifyLog(pb.VerifyLogRequest())
        assert not found.sound, entry.action
        assert "revision 2" in found.problems[0]
    assert any("changes" in problem for problem in found.problems)


def _write_anew(connection) -> None:
    from verifier.registry import audit

    table, previous = schema.audit, FIRST_HASH
    connection.execute(update(table).where(table.c.sequence == 4).values(details="{}"))
    for entry in audit.entries(connection):
        previous = entry.bound_to(previous)
        connection.execute(update(table).where(table.c.sequence == entry.sequence).values(hash=previous))


def test_an_export_can_be_checked_without_this_software(admin: Admin, desk: Desk):
    make_key(admin)
    publish(admin)
    lines = [entry_json(entry) for entry in listed(admin, ascending=True)]
    assert [line["audit_id"] for line in lines] == ["a-1", "a-2", "a-3", "a-4"]
    assert [line["revision"] for line in lines] == [1] * 4
    previous = "0" * 64
    for line in lines:
        details = json.dumps(line["details"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        at = int(datetime.fromisoformat(line["at"]).timestamp())
        fields = [
            previous, int(line["audit_id"][2:]), at, line["principal"], line["action"], line["client_id"],
            line["key_id"], line["version"], details, line["request_id"], line["change"], line["about_revision"],
        ]  # fmt: skip
        text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(text.encode()).hexdigest()
        assert previous == line["hash"]


def test_before_and_after_are_told_without_secrets(admin: Admin, desk: Desk):
    made = make_key(admin, options=types.Options())
    admin.lifecycle.RotateKey(lifecycle_pb2.RotateKeyRequest(
        key_id=made.key.key_id, secret=types.Secret(generate=True), options=types.Options(note="planned")))
    (entry,) = listed(admin, action="key.rotate")
    details = json.loads(entry.details_json)
    assert details["note"] == "planned"
    assert details["before"]["versions"]["1"].get("superseded_by", 0) == 0
    assert details["after"]["versions"]["1"]["superseded_by"] == 2
    with desk.registry.read() as connection:
        tags = {row.tag.hex() for row in connection.execute(schema.versions.select())}
    everything = "".join(one.details_json for one in listed(admin, page_size=1000))
    assert not any(secret in everything for secret in (*tags, made.token))
