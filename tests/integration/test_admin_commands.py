"""What every command that changes something promises: one effect for each request id, exact previews, publishing."""

import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.admin import GENERATE, RECORDED, at_once, imported, make_client, make_key
from verifier.admin import local, replay
from verifier.admin.context import Caller
from verifier.admin.desk import Desk
from verifier.admin.face import Admin
from verifier.admin.roles import Role
from verifier.admin.v1 import audit_pb2, node_pb2, publication_pb2
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.admin.v1 import types_pb2 as types
from verifier.control.founding import found
from verifier.errors import Conflict, InvalidInput, NotAllowed, NotFound
from verifier.registry import queries
from verifier.serving.keyring import Keyring
from verifier.store.home import Home
from verifier.store.writer import Publisher
from verifier.vocabulary import Verdict

OPERATOR = Caller("token:operator", Role.OPERATOR)


@pytest.fixture
def home(quick_path: Path) -> Home:
    home = Home(quick_path)
    found(home)
    return home


@pytest.fixture
def desk(home: Home) -> Iterator[Desk]:
    desk = Desk(home)
    yield desk
    desk.close()


@pytest.fixture
def admin(desk: Desk) -> Admin:
    admin = local.at(desk, OPERATOR)
    make_client(admin)
    return admin


def entries(admin: Admin, action: str = "") -> list[audit_pb2.Entry]:
    return list(admin.audit.ListEntries(audit_pb2.ListEntriesRequest(page_size=1000, action=action)).entries)


def keys_of(admin: Admin) -> int:
    return len(admin.lifecycle.ListKeys(pb.ListKeysRequest(page_size=1000)).keys)


# --- Repeats ---------------------------------------------------------------------------------------------------------


def test_a_repeat_has_no_second_effect_and_no_token(admin: Admin):
    request = pb.CreateKeyRequest(client_id="acme", secret=GENERATE, options=types.Options(request_id="one"))
    first, second = admin.lifecycle.CreateKey(request), admin.lifecycle.CreateKey(request)
    assert first.token.startswith("vk_live_")
    assert (first.receipt.replayed, second.receipt.replayed) == (False, True)
    assert second.token == ""
    assert (second.key, second.receipt.audit_id) == (first.key, first.receipt.audit_id)
    assert keys_of(admin) == 1
    assert len(entries(admin, "key.create")) == 1


def test_the_same_id_for_another_request_is_refused(admin: Admin):
    options = types.Options(request_id="one", wait=types.WAIT_RECORDED)
    make_key(admin, options=options)
    with pytest.raises(Conflict) as raised:
        admin.lifecycle.CreateKey(pb.CreateKeyRequest(client_id="acme", scopes=["other"], secret=GENERATE,
                                                      options=options))
    assert raised.value.code == "REQUEST_ID_REUSED"
    with pytest.raises(Conflict) as raised:
        admin.lifecycle.CreateClient(pb.CreateClientRequest(client_id="other", options=options))
    assert raised.value.code == "REQUEST_ID_REUSED"
    assert keys_of(admin) == 1


def test_a_repeat_may_wait_otherwise_and_the_ids_of_others_are_others(admin: Admin, desk: Desk):
    first = make_key(admin, options=types.Options(request_id="one", wait=types.WAIT_RECORDED))
    again = make_key(admin, options=types.Options(request_id="one", timeout=Duration(seconds=9)))
    assert not first.receipt.published
    assert again.receipt.replayed and again.receipt.published
    other = make_key(local.at(desk, Caller("token:other", Role.OPERATOR)),
                     options=types.Options(request_id="one", wait=types.WAIT_RECORDED))
    assert not other.receipt.replayed
    assert keys_of(admin) == 2


def test_an_id_that_was_made_here_can_be_repeated(admin: Admin):
    first = make_key(admin)
    again = make_key(admin, options=types.Options(request_id=first.receipt.request_id, wait=types.WAIT_RECORDED))
    assert again.receipt.replayed
    assert again.key.key_id == first.key.key_id


def test_a_request_that_failed_may_be_sent_again(admin: Admin):
    request = pb.CreateKeyRequest(client_id="later", secret=GENERATE, options=types.Options(request_id="one"))
    with pytest.raises(Exception, match="no client"):
        admin.lifecycle.CreateKey(request)
    make_client(admin, "later")
    assert not admin.lifecycle.CreateKey(request).receipt.replayed


def test_answers_are_forgotten_after_a_week(admin: Admin, desk: Desk, monkeypatch):
    options = types.Options(request_id="one", wait=types.WAIT_RECORDED)
    make_key(admin, options=options)
    with desk.registry.write() as connection:
        later_s = int(time.time()) + replay.KEPT_S
        name = replay.Name(OPERATOR.principal, "one", "")
        with pytest.raises(Conflict):
            replay.find(connection, name, later_s - 60)
        assert replay.find(connection, name, later_s + 60) is None
        replay.forget(connection, later_s - 60)
        with pytest.raises(Conflict):
            replay.find(connection, name, later_s - 60)
        replay.forget(connection, later_s + 60)
        assert replay.find(connection, name, later_s - 60) is None


def test_no_token_is_in_the_registry(admin: Admin, desk: Desk, home: Home):
    token = make_key(admin, options=types.Options(request_id="one")).token
    rotated = admin.lifecycle.RotateKey(pb.RotateKeyRequest(
        key_id=admin.lifecycle.ListKeys(pb.ListKeysRequest()).keys[0].key_id, secret=GENERATE))
    files = [path for path in home.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    for secret in (token, rotated.token):
        assert [] == [path.name for path in files if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("request_id", ["x" * 65, "é", "a\nb"])
def test_ids_that_cannot_be_kept_are_refused(admin: Admin, request_id: str):
    with pytest.raises(InvalidInput):
        make_key(admin, options=types.Options(request_id=request_id))
    assert keys_of(admin) == 0


def test_a_storm_of_repeats_has_one_effect(registry_place: Home):
    desk = Desk(registry_place)
    admin = local.at(desk, OPERATOR)
    make_client(admin)
    request = pb.CreateKeyRequest(client_id="acme", secret=GENERATE, options=types.Options(request_id="storm"))
    answers = at_once(8, lambda _: admin.lifecycle.CreateKey(request))
    assert [False] + [True] * 7 == sorted(answer.receipt.replayed for answer in answers)
    assert len({answer.key.key_id for answer in answers}) == 1
    assert 1 == sum(bool(answer.token) for answer in answers)
    assert keys_of(admin) == 1
    assert all(answer.receipt.published and answer.receipt.revision for answer in answers)
    desk.close()


def test_a_repeated_publication_or_import_is_the_first_one(desk: Desk, admin: Admin):
    make_key(admin)
    boss = local.at(desk, Caller("token:boss", Role.ADMIN))
    publish = publication_pb2.PublishRequest(options=types.Options(request_id="p"))
    first = boss.publication.Publish(publish)
    make_key(admin)
    again = boss.publication.Publish(publish)
    assert first.changed and again.receipt.replayed
    assert again.publication.revision == first.publication.revision
    assert again.receipt.audit_id == first.receipt.audit_id
    terms = pb.ImportTerms(client_id="acme", foreign_prefix="new", entropy_bits=128,
                           options=types.Options(request_id="i"))
    rows = [pb.ImportRow(sha256=hashlib.sha256(bytes([n])).digest()) for n in range(3)]
    one = boss.lifecycle.ImportKeys(imported(terms, rows))
    # Cut into messages otherwise it is the same request.
    two = boss.lifecycle.ImportKeys(imported(terms, [], rows))
    assert two.receipt.replayed and list(one.key_ids) == list(two.key_ids)
    with pytest.raises(Conflict):
        boss.lifecycle.ImportKeys(imported(terms, rows[:2]))


# --- Previews --------------------------------------------------------------------------------------------------------


def test_a_preview_tells_what_would_be_and_changes_nothing(admin: Admin, desk: Desk):
    key = make_key(admin, options=types.Options()).key
    with desk.registry.read() as connection:
        before = queries.state(connection), queries.find_key(connection, key.key_id)
    told = entries(admin)
    preview = types.Options(validate_only=True, request_id="one")
    rotated = admin.lifecycle.RotateKey(pb.RotateKeyRequest(key_id=key.key_id, secret=GENERATE, options=preview))
    assert (rotated.version, rotated.token, rotated.receipt.audit_id) == (2, "", "")
    assert not rotated.receipt.published
    revoked = admin.lifecycle.Revoke(pb.RevokeRequest(selection=pb.Selection(client_ids=["acme"]), reason=1,
                                                      options=preview))
    assert (revoked.count, revoked.keys_without_version) == (1, 1)
    with desk.registry.read() as connection:
        assert before == (queries.state(connection), queries.find_key(connection, key.key_id))
    assert told == entries(admin)
    # A preview keeps no answer: the same id carries it out.
    done = admin.lifecycle.Revoke(pb.RevokeRequest(selection=pb.Selection(client_ids=["acme"]), reason=1,
                                                   expected_count=1, options=types.Options(request_id="one")))
    assert not done.receipt.replayed and done.count == 1


def test_previews_of_publications_publish_nothing(admin: Admin, desk: Desk):
    boss = local.at(desk, Caller("token:boss", Role.ADMIN))
    make_key(admin, options=types.Options())
    make_key(admin)
    preview = types.Options(validate_only=True)
    would = boss.publication.Publish(publication_pb2.PublishRequest(options=preview))
    assert would.changed and would.difference.gained == 1 and not would.publication.current
    back = boss.publication.RollBack(publication_pb2.RollBackRequest(revision=1, options=preview))
    assert back.publication.held
    assert desk.store.current() == 1


def test_moving_an_end_later_is_for_admins(admin: Admin, desk: Desk):
    soon = Timestamp(seconds=int(time.time()) + 1000)
    key = admin.lifecycle.CreateKey(pb.CreateKeyRequest(client_id="acme", secret=GENERATE, key_expires_at=soon,
                                                        options=RECORDED)).key
    longer = pb.UpdateKeyRequest(key=types.Key(key_id=key.key_id), update_mask=FieldMask(paths=["expires_at"]),
                                 extend=True, options=RECORDED)
    with pytest.raises(NotAllowed):
        admin.lifecycle.UpdateKey(longer)
    updated = local.at(desk, Caller("token:boss", Role.ADMIN)).lifecycle.UpdateKey(longer)
    assert not updated.key.HasField("expires_at")


# --- Publishing ------------------------------------------------------------------------------------------------------


def test_a_change_waits_for_its_publication_unless_told_otherwise(admin: Admin, desk: Desk):
    recorded = make_key(admin)
    assert not recorded.receipt.published and recorded.receipt.pending_changes == 1
    published = make_key(admin, options=types.Options())
    receipt = published.receipt
    assert receipt.published and receipt.revision == 1 and receipt.pending_changes == 0
    assert abs(receipt.committed_at.ToMilliseconds() / 1000 - time.time()) < 30
    with Keyring.open(desk.home.folder, watch=False) as keyring:
        assert [Verdict.VALID] * 2 == [keyring.verify(one.token).verdict for one in (recorded, published)]


def test_what_nodes_do_not_see_is_not_published(admin: Admin, desk: Desk):
    make_key(admin, options=types.Options())
    make_key(admin)
    renamed = admin.lifecycle.UpdateClient(pb.UpdateClientRequest(
        client=types.Client(client_id="acme", name="Other"), update_mask=FieldMask(paths=["name"])))
    assert renamed.receipt.published and renamed.receipt.revision == 1 and renamed.receipt.pending_changes == 1
    assert desk.store.current() == 1


def test_a_repeat_that_changes_nothing_publishes_what_the_first_one_did_not(admin: Admin, desk: Desk):
    key = make_key(admin, options=types.Options()).key
    revoke = pb.RevokeRequest(selection=pb.Selection(versions=[pb.VersionName(key_id=key.key_id, version=1)]), reason=4)
    revoke.options.wait = types.WAIT_RECORDED
    assert admin.lifecycle.Revoke(revoke).count == 1
    revoke.options.wait = types.WAIT_PUBLISHED
    again = admin.lifecycle.Revoke(revoke)
    assert (again.count, again.receipt.audit_id) == (0, "")
    assert again.receipt.published and again.receipt.pending_changes == 0
    assert desk.store.current() == again.receipt.revision == 2


def test_concurrent_changes_share_publications(registry_place: Home):
    desk = Desk(registry_place)
    admin = local.at(desk, OPERATOR)
    make_client(admin)
    issued = [make_key(admin) for _ in range(24)]
    local.at(desk, Caller("token:boss", Role.ADMIN)).publication.Publish(publication_pb2.PublishRequest())
    first = desk.store.current() or 0

    def revoke(number: int) -> types.Receipt:
        name = pb.VersionName(key_id=issued[number].key.key_id)
        request = pb.RevokeRequest(selection=pb.Selection(versions=[name]), reason=1)
        request.options.request_id = str(uuid.uuid4())
        receipt = admin.lifecycle.Revoke(request).receipt
        # What was answered is true at once: the revision, or a later one, refuses the key.
        with Keyring.open(registry_place.folder, watch=False) as keyring:
            answer = keyring.verify(issued[number].token)
        assert answer.verdict is Verdict.REVOKED and answer.revision >= receipt.revision
        return receipt

    receipts = at_once(20, revoke)
    assert all(receipt.published and receipt.committed_at.seconds for receipt in receipts)
    made = (desk.store.current() or 0) - first
    assert 1 <= made <= 12
    assert {receipt.revision for receipt in receipts} <= set(range(first + 1, first + made + 1))
    with Keyring.open(registry_place.folder, watch=False) as keyring:
        verdicts = [keyring.verify(one.token).verdict for one in issued]
    assert verdicts == [Verdict.REVOKED] * 20 + [Verdict.VALID] * 4
    desk.close()


def test_a_forced_rotation_says_what_it_withdraws(admin: Admin):
    key = make_key(admin).key.key_id
    for force in (False, True):
        done = admin.lifecycle.RotateKey(
            pb.RotateKeyRequest(key_id=key, secret=GENERATE, force=force, options=RECORDED))
        told = [text for text in done.receipt.warnings if "version 2 was active and is revoked" in text]
        assert force == bool(told)


def test_a_busy_publisher_of_another_process_is_waited_for(admin: Admin, desk: Desk):
    make_key(admin, options=types.Options())
    with Publisher(desk.store):
        release = threading.Timer(0.5, lambda: None)
        release.start()
        waiting = threading.Thread(target=lambda: make_key(admin, options=types.Options()))
        waiting.start()
        release.join()
        assert waiting.is_alive()
        assert desk.store.current() == 1
    waiting.join(30)
    assert desk.store.current() == 2


def test_a_caller_who_does_not_wait_that_long_learns_that_it_is_recorded(admin: Admin, desk: Desk):
    make_key(admin, options=types.Options())
    hurried = local.at(desk, Caller("token:operator", Role.OPERATOR, deadline=time.monotonic() + 1))
    with Publisher(desk.store), pytest.raises(Conflict) as raised:
        make_key(hurried, options=types.Options(request_id="hurry"))
    assert raised.value.code == "PUBLISHER_BUSY"
    assert raised.value.details["recorded"] is True
    assert keys_of(admin) == 2
    again = make_key(admin, options=types.Options(request_id="hurry"))
    assert again.receipt.replayed and again.receipt.published


def test_a_publication_that_fails_leaves_the_change_recorded(admin: Admin, desk: Desk):
    (desk.home.secrets / "signing.pem").unlink()
    with pytest.raises(NotFound) as raised:
        make_key(admin, options=types.Options(request_id="one"))
    assert raised.value.code == "NO_SIGNING_KEY"
    assert raised.value.details["recorded"] is True
    assert raised.value.details["request_id"] == "one"
    assert keys_of(admin) == 1


def test_while_held_every_command_says_so(admin: Admin, desk: Desk):
    boss = local.at(desk, Caller("token:boss", Role.ADMIN))
    first = make_key(admin, options=types.Options())
    boss.lifecycle.UpdateKey(pb.UpdateKeyRequest(
        key=types.Key(key_id=first.key.key_id, scopes=["write"]), update_mask=FieldMask(paths=["scopes"])))
    back = boss.publication.RollBack(publication_pb2.RollBackRequest(revision=1))
    assert back.receipt.held_at == 1 and back.publication.held and back.receipt.published
    other = make_key(admin, options=types.Options())
    assert other.receipt.held_at == 1 and other.receipt.published
    assert any("held at revision 1" in warning for warning in other.receipt.warnings)
    with Keyring.open(desk.home.folder, watch=False) as keyring:
        assert keyring.verify(first.token).scopes == ("read",)
        assert keyring.verify(other.token).verdict is Verdict.VALID
    with pytest.raises(Conflict) as raised:
        boss.publication.Publish(publication_pb2.PublishRequest())
    assert raised.value.code == "HELD"
    resumed = boss.publication.Publish(publication_pb2.PublishRequest(resume=True))
    assert resumed.receipt.held_at == 0 and not resumed.publication.held


# --- Nodes -----------------------------------------------------------------------------------------------------------


def report(admin: Admin, node: str, revision: int) -> None:
    request = node_pb2.ReportStatusRequest(node=node, epoch=1, revision=revision)
    for moment in (request.served_at, request.clock):
        moment.GetCurrentTime()
    admin.node.ReportStatus(request)


def test_a_change_waits_until_nodes_serve_it(admin: Admin, desk: Desk):
    make_key(admin, options=types.Options())
    report(admin, "n1", 1)
    report(admin, "n2", 1)

    def follow() -> None:
        while desk.store.current() == 1:
            time.sleep(0.01)
        for node in ("n1", "n2"):
            time.sleep(0.2)
            report(admin, node, 2)

    following = threading.Thread(target=follow)
    following.start()
    began = time.monotonic()
    receipt = make_key(admin, options=types.Options(wait=types.WAIT_SERVED, timeout=Duration(seconds=20))).receipt
    took_s = time.monotonic() - began
    following.join()
    assert (receipt.propagation.expected, list(receipt.propagation.behind)) == (2, [])
    assert 0.3 < took_s < 10
    assert 300 <= receipt.propagation.took.ToMilliseconds() <= took_s * 1000 + 50


def test_a_wait_that_is_over_is_no_error(admin: Admin, desk: Desk):
    make_key(admin, options=types.Options())
    report(admin, "n1", 1)
    receipt = make_key(admin, options=types.Options(wait=types.WAIT_SERVED, timeout=Duration(seconds=1))).receipt
    assert receipt.published
    assert (receipt.propagation.expected, list(receipt.propagation.behind)) == (1, ["n1"])
    assert not receipt.propagation.HasField("took")


def test_a_desk_that_closes_keeps_nobody_waiting(admin: Admin, desk: Desk):
    make_key(admin, options=types.Options())
    report(admin, "n1", 1)
    threading.Timer(0.3, desk.stopping.set).start()
    began = time.monotonic()
    receipt = make_key(admin, options=types.Options(wait=types.WAIT_SERVED, timeout=Duration(seconds=30))).receipt
    assert list(receipt.propagation.behind) == ["n1"]
    assert time.monotonic() - began < 5
