"""Publishing for real: registry, keyring files, signatures and the pointer, in a folder."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.support.acts import act
from tests.support.databases import back_up
from tests.support.homes import add_keys, make_home
from verifier.admin import publisher
from verifier.cli._app import main
from verifier.control import clients, issuing, keys, revoking
from verifier.control.keys import KeyUpdate
from verifier.control.publishing import DropGuard, publish
from verifier.control.terms import Terms
from verifier.errors import Conflict, UnsoundPublication
from verifier.registry import intents, queries
from verifier.registry.database import open_registry
from verifier.serving.loading import load
from verifier.store.layout import Store
from verifier.store.manifest import digest_of
from verifier.store.secrets import Secrets
from verifier.store.signing import SigningKey
from verifier.store.writer import Publisher
from verifier.vocabulary import RevocationReason

NOW = 1_800_000_000


@pytest.fixture(params=["sqlite", "postgresql"])
def home(quick_path, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return make_home(quick_path / "home", registry=url)


def refused(code, home, **options):
    with pytest.raises((Conflict, UnsoundPublication)) as caught:
        publish(home, **options)
    assert code == caught.value.code
    return caught.value


def state_of(home):
    with open_registry(home) as registry, registry.read() as connection:
        return queries.state(connection)


def edit(home, function, *arguments, **options):
    with open_registry(home) as registry:
        return act(registry, function, *arguments, **options)


def manifest_of(home, revision):
    return Store(home.store).publication(revision, Secrets(home.secrets).trust())


def test_the_first_publication(home):
    receipt = publish(home, now_s=NOW)
    store = Store(home.store)
    manifest = manifest_of(home, 1)
    assert 1 == store.current() == receipt.revision
    assert receipt.manifest == manifest
    assert (3, 3, 0) == (manifest.records, manifest.active, manifest.dead_on_arrival)
    assert (NOW, None, False, 1) == (
        manifest.published_at, manifest.previous, manifest.held, manifest.content_of)
    assert state_of(home).store_id == manifest.store_id
    assert manifest.base.sha256 == hashlib.sha256(store.keyring_path(manifest.base.sha256).read_bytes()).hexdigest()
    state = state_of(home)
    assert (1, 0) == (state.last_revision, state.pending_changes)


def test_the_json_is_that_of_the_contract(home):
    assert {
        "revision": 1, "changed": True, "content_of": 1, "held": False, "published_at": "2027-01-15T08:00:00Z",
        "records": 3, "active": 3, "tombstones": 0, "delta": None,
        "difference": {"gained": 3, "lost": 0, "lost_used_24h": 0, "widened": 0, "extended": 0, "denials_kept": 0},
        "nodes": {"expected": 0, "behind": []}, "propagation_ms": None,
    } == publish(home, now_s=NOW).to_json()  # fmt: skip


def test_no_change_is_a_success_without_a_revision(home):
    first = publish(home, now_s=NOW)
    before = sorted(path.name for path in home.store.rglob("*"))
    again = publish(home, now_s=NOW + 60)
    assert (False, 1) == (again.changed, again.revision)
    assert first.manifest == again.manifest
    assert before == sorted(path.name for path in home.store.rglob("*"))


def test_a_change_without_effect_on_answers_is_noted_as_published(home):
    publish(home)
    edit(home, clients.update_client, "acme", name="Acme Corp.")
    key_id = add_keys(home)[0]
    edit(home, revoking.revoke_version, key_id)
    publish(home)
    edit(home, keys.set_key_enabled, key_id, False)
    edit(home, keys.set_key_enabled, key_id, True)
    assert 2 == state_of(home).pending_changes
    assert not publish(home).changed
    assert 0 == state_of(home).pending_changes


def test_publications_are_chained_and_revisions_grow(home):
    publish(home)
    for revision in (2, 3, 4):
        add_keys(home)
        receipt = publish(home)
        assert (True, revision) == (receipt.changed, receipt.revision)
        assert digest_of(Store(home.store).manifest_bytes(revision - 1)) == receipt.manifest.previous


def test_the_difference_says_what_callers_notice(home):
    ids = add_keys(home, 6, scopes=("read", "trade"), rules=("10.0.0.0/8",))
    publish(home, now_s=NOW)
    later = NOW + 90_000
    edit(home, revoking.revoke_version, ids[0], reason=RevocationReason.KEY_COMPROMISE)
    edit(home, keys.set_key_enabled, ids[1], False)
    edit(home, keys.update_key, ids[2], KeyUpdate(scopes=("read", "trade", "admin")))
    edit(home, keys.update_key, ids[3], KeyUpdate(rules=("10.0.0.0/8", "192.168.0.0/16")))
    edit(home, keys.update_key, ids[4], KeyUpdate(scopes=("read",), rules=("10.1.0.0/16",)))
    add_keys(home, 2)
    difference = publish(home, now_s=NOW).difference
    assert (2, 2, 2, 0) == (difference.gained, difference.lost, difference.widened, difference.extended)
    edit(home, keys.update_key, ids[5], KeyUpdate(expires_at=later))
    assert 0 == publish(home, now_s=NOW).difference.extended
    edit(home, keys.update_key, ids[5], KeyUpdate(expires_at=later + 60, extend=True))
    edit(home, keys.set_key_enabled, ids[1], True)
    difference = publish(home, now_s=NOW).difference
    assert (1, 0, 0, 1) == (difference.gained, difference.lost, difference.widened, difference.extended)


def test_a_client_that_is_switched_off_loses_its_keys_and_gets_them_back(home):
    publish(home)
    edit(home, clients.set_client_enabled, "acme", False)
    receipt = publish(home)
    assert (3, 3, 0) == (receipt.difference.lost, receipt.manifest.records, receipt.manifest.active)
    edit(home, clients.set_client_enabled, "acme", True)
    receipt = publish(home)
    assert (3, 3) == (receipt.difference.gained, receipt.manifest.active)


def test_content_that_comes_back_gets_a_new_revision_and_the_same_keyring(home):
    first = publish(home).manifest
    edit(home, clients.set_client_enabled, "acme", False)
    publish(home)
    edit(home, clients.set_client_enabled, "acme", True)
    third = publish(home).manifest
    assert (3, first.base.sha256) == (third.revision, third.base.sha256)


def test_natural_expiry_is_no_drop(home):
    add_keys(home, 50, expires_at=int(time.time()) + 1000)
    publish(home)
    add_keys(home)
    later = int(time.time()) + 2000
    receipt = publish(home, now_s=later)
    assert (0, 54) == (receipt.difference.lost, receipt.manifest.active)  # the changes were counted, not the clock
    receipt = publish(home, now_s=later, rebase=True)
    assert (0, 4) == (receipt.difference.lost, receipt.manifest.active)


def test_the_drop_guard_lets_a_share_pass(home):
    ids = add_keys(home, 57)
    publish(home)
    for key_id in ids[:12]:
        edit(home, revoking.revoke_version, key_id)
    assert 12 == publish(home).difference.lost  # 12 of 60 is no more than a fifth
    for key_id in ids[12:22]:
        edit(home, revoking.revoke_version, key_id)
    refused("DROP_GUARD", home)  # 10 of 48 is
    receipt = publish(home, guard=DropGuard(share=0.5))
    assert not receipt.manifest.drop_override


def test_the_drop_guard_refuses_and_a_person_overrides(home):
    ids = add_keys(home, 37)
    publish(home)
    for key_id in ids[:10]:
        edit(home, revoking.revoke_version, key_id)
    error = refused("DROP_GUARD", home)
    assert {"lost": 10, "active": 40, "share": 0.2} == error.details
    assert "--allow-drop" in error.hint
    assert (1, 1) == (Store(home.store).current(), state_of(home).last_revision)
    receipt = publish(home, allow_drop=True)
    assert (True, 30, 10) == (receipt.manifest.drop_override, receipt.manifest.active, receipt.difference.lost)


def test_few_keys_may_always_go(home):
    ids = add_keys(home, 6)
    publish(home)
    for key_id in ids:
        edit(home, revoking.revoke_version, key_id)
    assert 6 == publish(home).difference.lost
    assert [False, False] == [DropGuard().trips(9, 9), DropGuard().trips(10, 50)]
    assert [True, True] == [DropGuard().trips(10, 10), DropGuard().trips(11, 50)]


def test_a_clock_that_went_back_is_refused_unless_forced(home):
    publish(home, now_s=NOW)
    add_keys(home)
    refused("CLOCK_BACK", home, now_s=NOW - 1)
    assert 2 == publish(home, now_s=NOW).revision
    add_keys(home)
    assert NOW - 1 == publish(home, now_s=NOW - 1, allow_clock_back=True).manifest.published_at


def test_a_restored_registry_is_refused(home):
    publish(home)
    restore = back_up(home)
    add_keys(home)
    publish(home)
    restore()
    error = refused("REGISTRY_BEHIND", home)
    assert {"registry": 1, "store": 2} == error.details
    assert error.hint
    assert 2 == Store(home.store).current()


def intend(home, revision, digest):
    with open_registry(home) as registry, registry.write() as connection:
        intents.set_intent(connection, intents.Intent(revision, digest, 4), expected=1)


def test_a_publication_that_the_registry_intended_is_adopted(home):
    publish(home)
    add_keys(home)
    restore = back_up(home)
    manifest = publish(home).manifest
    restore()
    intend(home, 2, digest_of(manifest.to_bytes()))
    assert (False, 2) == (publish(home).changed, state_of(home).last_revision)


@pytest.mark.parametrize(("revision", "digest"), [(2, "0" * 64), (3, None)])
def test_a_publication_that_the_registry_did_not_intend_is_refused(home, revision, digest):
    publish(home)
    add_keys(home)
    restore = back_up(home)
    manifest = publish(home).manifest
    restore()
    intend(home, revision, digest or digest_of(manifest.to_bytes()))
    refused("REGISTRY_BEHIND", home)
    assert [1, 2] == Store(home.store).revisions()


def test_a_number_that_was_signed_for_is_never_used_again(home):
    publish(home)
    intend(home, 7, "0" * 64)
    add_keys(home)
    assert 8 == publish(home).revision


def test_a_publication_that_the_registry_could_not_note_is_no_failure(home, monkeypatch, caplog):
    def busy(*_, **__):
        raise Conflict("another command is writing to the registry", code="REGISTRY_BUSY")

    monkeypatch.setattr(queries, "set_last_revision", busy)
    assert publish(home).changed
    assert "revision 1 is published" in caplog.text
    monkeypatch.undo()
    assert (1, 0) == (Store(home.store).current(), state_of(home).last_revision)
    assert (False, 1) == (publish(home).changed, state_of(home).last_revision)


def test_what_is_published_is_what_nodes_load_and_answer(home):
    with open_registry(home) as registry:
        peppers = issuing.pepper_secrets(registry, Secrets(home.secrets).peppers())
        issued = act(registry, issuing.issue_key, peppers, "acme", Terms(scopes=("read",)))
    revision = publish(home).revision
    view = load(Store(home.store), revision, Secrets(home.secrets))
    answer = view.verify(issued.token, ["read"])
    assert ("VALID", issued.key.key_id, revision) == (answer.verdict.name, answer.key_id, answer.revision)


def test_an_old_copy_of_the_store_is_refused(home, quick_path):
    publish(home)
    shutil.copytree(home.store, quick_path / "backup")
    add_keys(home)
    publish(home)
    shutil.rmtree(home.store)
    shutil.copytree(quick_path / "backup", home.store)
    assert {"registry": 2, "store": 1} == refused("STORE_BEHIND", home).details


def test_the_store_of_another_registry_is_refused(home, quick_path):
    other = make_home(quick_path / "other")
    for place in (home, other):
        publish(place)
    shutil.rmtree(home.store)
    shutil.copytree(other.store, home.store)
    shutil.copytree(other.secrets, home.secrets, dirs_exist_ok=True)
    refused("OTHER_STORE", home)


def test_a_key_that_nodes_do_not_trust_signs_nothing(home):
    path = home.secrets / "signing.pem"
    path.write_bytes(SigningKey.generate().private_pem())
    refused("NOT_TRUSTED", home)
    assert Store(home.store).current() is None


@pytest.mark.parametrize("damage", ["manifest", "keyring", "missing keyring"])
def test_a_damaged_predecessor_stops_publishing_until_a_person_says_go(home, damage):
    store, manifest = Store(home.store), publish(home).manifest
    path = store.manifest_path(1) if damage == "manifest" else store.keyring_path(manifest.base.sha256)
    if damage == "missing keyring":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:100])
    add_keys(home)
    error = refused({"manifest": "BAD_SIGNATURE"}.get(damage, "BAD_DIGEST"), home)
    assert "--allow-drop" in error.hint
    receipt = publish(home, allow_drop=True)
    assert (2, 4) == (receipt.revision, receipt.manifest.active)


def test_publishing_no_change_puts_a_lost_keyring_back(home):
    manifest = publish(home).manifest
    path = Store(home.store).keyring_path(manifest.base.sha256)
    path.unlink()
    assert not publish(home).changed
    assert manifest.base.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_progress_is_told_and_nothing_is_left_behind(home):
    told = []
    publish(home, progress=lambda *step: told.append(step))
    assert told
    assert all(isinstance(stage, str) and done <= max(total, done) for stage, done, total in told)
    assert {"keyrings", "publications", "CURRENT", "publisher.lock"} == {path.name for path in home.store.iterdir()}
    assert 1 == len(list((home.store / "keyrings").iterdir()))


def test_a_failed_build_leaves_nothing_behind(home, monkeypatch):
    publish(home)
    add_keys(home)
    before = {path.name for path in home.store.rglob("*")}

    def fails(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("verifier.control.publishing.compare_on_base", fails)
    with pytest.raises(KeyboardInterrupt):
        publish(home)
    assert before == {path.name for path in home.store.rglob("*")}


def test_while_another_publishes_one_is_told_to_wait(home):
    with Publisher(Store(home.store)):
        error = refused("PUBLISHER_BUSY", home)
    assert os.getpid() == error.details["pid"]
    assert 1 == publish(home).revision


RACER = """
import sys
from pathlib import Path
from verifier.control.publishing import publish
from verifier.errors import Conflict
from verifier.store.home import Home
sys.stdin.readline()
try:
    print(publish(Home(Path(sys.argv[1]), sys.argv[3]), now_s=int(sys.argv[2])).changed)
except Conflict as error:
    print(error.code)
"""


def test_publishers_at_once_make_one_publication(home):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(home.folder), str(NOW), home.registry_url], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=30)[0].strip() for racer in racers]
    assert 1 == said.count("True")
    assert set(said) <= {"True", "False", "PUBLISHER_BUSY"}
    assert (1, 1, [1]) == (Store(home.store).current(), state_of(home).last_revision, Store(home.store).revisions())


def test_keys_made_while_publishing_are_in_the_next_publication(home, monkeypatch):
    iterate = queries.iterate_records

    def slow(connection, *arguments):
        yield from iterate(connection, *arguments)
        add_keys(home)

    monkeypatch.setattr(queries, "iterate_records", slow)
    assert 3 == publish(home).manifest.records
    monkeypatch.undo()
    assert 1 == state_of(home).pending_changes
    assert 4 == publish(home).manifest.records


class TestCommands:
    """The command line, in this process."""

    def run(self, capsys, home, *arguments, code=0):
        try:
            main(["--store", str(home.folder), "--registry", home.registry_url, *arguments])
            left = 0
        except SystemExit as leave:
            left = leave.code
        said = capsys.readouterr()
        assert code == left, said
        return said.out

    def test_publish_list_show_diff(self, home, capsys):
        first = json.loads(self.run(capsys, home, "publish", "--json"))
        assert (1, True) == (first["revision"], first["changed"])
        assert "nothing changed since revision 1" in self.run(capsys, home, "publish")
        ids = add_keys(home, 2)
        edit(home, revoking.revoke_version, ids[0])
        assert "published revision 2" in self.run(capsys, home, "publish")
        rows = [json.loads(line) for line in
                self.run(capsys, home, "publications", "list", "--json").splitlines()]
        assert [(1, False), (2, True)] == [(row["revision"], row["current"]) for row in rows]
        assert [3, 5] == [row["records"] for row in rows]
        shown = json.loads(self.run(capsys, home, "publications", "show", "2", "--json"))
        assert json.loads(Store(home.store).manifest_bytes(2)).items() <= shown.items()
        assert (Secrets(home.secrets).signing_key().key_id, True) == (shown["signed_by"], shown["current"])
        compared = json.loads(self.run(capsys, home, "publications", "diff", "1", "2", "--json"))
        assert (1, 0, 3, 4) == tuple(compared[name] for name in ("gained", "lost", "before_active", "after_active"))
        assert [{"kind": "gained", "client_id": "acme", "key_id": ids[1], "version": 1}] == compared["examples"]
        for text in (("publications", "list"), ("publications", "show", "1"), ("publications", "diff", "1", "2")):
            assert self.run(capsys, home, *text)

    def test_the_drop_limit_is_a_setting(self, home, capsys):
        ids = add_keys(home, 17)
        publish(home)
        for key_id in ids[:10]:
            edit(home, revoking.revoke_version, key_id)
        refusal = json.loads(self.run(capsys, home, "publish", "--json", code=4))
        assert "DROP_GUARD" == refusal["error"]["code"]
        self.run(capsys, home, "publish", "--drop-limit", "50")
        assert 2 == Store(home.store).current()

    def test_errors_have_codes(self, home, capsys, monkeypatch):
        self.run(capsys, home, "publish")
        error = json.loads(self.run(capsys, home, "publications", "show", "9", "--json", code=4))
        assert "NOT_FOUND" == error["error"]["code"]
        Store(home.store).signature_path(1).write_bytes(b"x")
        shown = json.loads(self.run(capsys, home, "publications", "show", "1", "--json", code=3))
        assert "BAD_SIGNATURE" == shown["error"]["code"]
        row = json.loads(self.run(capsys, home, "publications", "list", "--json"))
        assert row["problem"].startswith("BAD_SIGNATURE")
        monkeypatch.setattr(publisher, "BUSY_S", 0.5)
        with Publisher(Store(home.store)):
            busy = json.loads(self.run(capsys, home, "publish", "--json", code=4))
        assert "PUBLISHER_BUSY" == busy["error"]["code"]


def test_a_receipt_is_plain_data(home):
    assert dataclasses.is_dataclass(publish(home))
