"""A new base is built while others publish: nothing that they publish is lost, and none of them waits."""

import fcntl
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from tests.integration.test_deltas import built_anew, count_dirty, edit, state_of
from tests.support.homes import add_keys, make_home
from tests.support.served import manifest_of, served
from verifier.admin.compactor import Compactor
from verifier.admin.desk import Desk
from verifier.control import clients, keys, revoking
from verifier.control.building import NO_COMPACTION, Compaction
from verifier.control.compacting import prepared
from verifier.control.progress import silent
from verifier.control.publishing import compact, publish
from verifier.control.rolling_back import roll_back
from verifier.errors import Conflict
from verifier.registry import queries
from verifier.registry.database import open_registry
from verifier.store.layout import Store
from verifier.store.tombstones import read_tags
from verifier.store.workshop import FOLDER_NAME, remove_abandoned, workshop
from verifier.store.writer import Publisher
from verifier.vocabulary import RevocationReason

SMALL = Compaction(records_min=2, share=0)
COMPROMISED = RevocationReason.KEY_COMPROMISE


@pytest.fixture
def home(quick_path):
    """A store whose delta has outgrown ``SMALL``: 6 keys in the base, 4 in the delta."""
    home = make_home(quick_path / "home", keys=6)
    publish(home)
    add_keys(home, 4)
    publish(home)
    return home


@pytest.fixture
def key_ids(home):
    with open_registry(home) as registry:
        return [key.key_id for key in keys.list_keys(registry)]


@contextmanager
def base_of(home, **options):
    with open_registry(home) as registry, prepared(
        home, registry=registry, **({"compaction": SMALL} | options), progress=silent
    ) as ready:
        yield ready


def finish(home, ready):
    return publish(home, ready=ready, compaction=NO_COMPACTION, allow_drop=True)


def revoke(home, key_id, reason=RevocationReason.SUPERSEDED):
    edit(home, revoking.revoke_version, key_id, reason=reason)
    return publish(home, compaction=NO_COMPACTION, allow_drop=True).revision


def buried(home):
    store = Store(home.store)
    return [set(tags_of(read_tags(store.tombstone_path(file.sha256), file)))
            for file in manifest_of(home).tombstones]  # fmt: skip


def tags_of(joined):
    return [joined[at : at + 32] for at in range(0, len(joined), 32)]


def left(home):
    return (Store(home.store).keyrings / FOLDER_NAME).exists()


def test_it_is_time_only_for_a_delta_that_has_outgrown_its_base(home):
    assert compact(home) is None
    assert 2 == manifest_of(home).revision
    receipt = compact(home, compaction=SMALL)
    assert (3, 10, None) == (receipt.revision, receipt.manifest.base.records, receipt.manifest.delta)
    assert (0, receipt.manifest.base.sha256) == (count_dirty(home), state_of(home).base_sha256)
    assert built_anew(home) == served(home)
    assert compact(home, compaction=SMALL) is None
    assert not left(home)


def test_publications_do_not_wait_and_are_in_what_follows(home, key_ids):
    revoke(home, key_ids[0], COMPROMISED)
    with base_of(home) as ready:
        revoke(home, key_ids[1], COMPROMISED)  # in the base before
        revoke(home, key_ids[8], COMPROMISED)  # issued since
        revoke(home, key_ids[2])
        add_keys(home, 2)
        edit(home, keys.set_key_enabled, key_ids[3], False)
        edit(home, clients.create_client, "other")
        edit(home, clients.set_client_enabled, "other", False)
        publish(home, compaction=NO_COMPACTION, allow_drop=True)
        edit(home, keys.set_key_enabled, key_ids[3], True)
        before, taken = served(home), manifest_of(home)
        receipt = finish(home, ready)
    manifest = receipt.manifest
    assert (taken.base.sha256, 10, ready.base.sha256) != (manifest.base.sha256, 10, None)
    assert (ready.base.sha256, 10, 6) == (manifest.base.sha256, manifest.base.records, manifest.delta.records)
    assert built_anew(home) == served(home) != before
    assert (12, 8) == (manifest.records, manifest.active)
    assert {"gained": 1} == {kind: number for kind, number in receipt.difference.counts().items()
                             if number and "active" not in kind}  # fmt: skip
    state = state_of(home)
    assert (manifest.base.sha256, 0, ready.state.next_version) == (
        state.base_sha256, state.pending_changes, state.base_next_version)
    assert [1, 2] == [len(tags) for tags in buried(home)]
    after = revoke(home, key_ids[4])
    assert (6 + 1, manifest.base.sha256) == (manifest_of(home, after).delta.records, manifest_of(home).base.sha256)
    assert built_anew(home) == served(home)
    publish(home, rebase=True)
    assert [3] == [len(tags) for tags in buried(home)]
    assert (12, 7) == (manifest_of(home).records, manifest_of(home).active)


@pytest.mark.parametrize("meanwhile", ["rebased", "held", "held and resumed", "forgotten"])
def test_a_base_that_was_overtaken_is_thrown_away(home, key_ids, meanwhile):
    with base_of(home) as ready:
        revoke(home, key_ids[0])
        if meanwhile == "rebased":
            publish(home, rebase=True)
        if meanwhile.startswith("held"):
            roll_back(home, 1, allow_drop=True)
        if meanwhile == "held and resumed":
            publish(home, resume=True, compaction=NO_COMPACTION, allow_drop=True)
        if meanwhile == "forgotten":
            with open_registry(home) as registry, registry.write() as connection:
                queries_forget(connection)
        current = manifest_of(home)
        if meanwhile == "held":
            with pytest.raises(Conflict) as caught:
                finish(home, ready)
            assert "HELD" == caught.value.code
            assert current == manifest_of(home)
            return
        finish(home, ready)
    manifest = manifest_of(home)
    assert (meanwhile == "held and resumed") == (ready.base.sha256 == manifest.base.sha256)
    assert built_anew(home) == served(home)
    assert not left(home)


def queries_forget(connection):
    from verifier.registry import bases

    bases.forget(connection)


def test_many_revocations_while_bases_are_built_one_after_the_other(home, monkeypatch):
    """Threads revoke and publish while another builds; each revocation is served at once and stays."""
    ids = add_keys(home, 24)
    publish(home)
    iterate, revoked, waited, failed = queries.iterate_records, [], [], []

    def slow(connection, *arguments):
        yield from iterate(connection, *arguments)
        time.sleep(0.3)

    monkeypatch.setattr(queries, "iterate_records", slow)
    done = threading.Event()

    def revoke_all():
        try:
            with open_registry(home) as registry:
                for key_id in ids:
                    began = time.monotonic()
                    edit(home, revoking.revoke_version, key_id)
                    patiently(lambda: publish(home, registry=registry, compaction=NO_COMPACTION, allow_drop=True))
                    revoked.append(key_id)
                    waited.append(time.monotonic() - began)
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=revoke_all)
    thread.start()
    compacted = 0
    while not done.is_set():
        receipt = compact(home, compaction=Compaction(records_min=0, share=0))
        compacted += receipt is not None and receipt.changed
        assert manifest_of(home).active >= 34 - len(ids)
    thread.join()
    assert [] == failed
    assert compacted
    publish(home, compaction=NO_COMPACTION, allow_drop=True)
    assert built_anew(home) == served(home)
    assert (34, 10) == (manifest_of(home).records, manifest_of(home).active)


def patiently(work):
    while True:
        try:
            return work()
        except Conflict as error:
            if error.code not in {"PUBLISHER_BUSY", "REGISTRY_BUSY"}:
                raise
            time.sleep(0.005)


def test_what_a_killed_builder_leaves_is_removed_by_the_next_publisher(home, key_ids):
    pid = os.fork()
    if not pid:
        try:
            with base_of(home):
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    assert left(home)
    revoke(home, key_ids[0])
    assert not left(home)
    assert built_anew(home) == served(home)
    compact(home, compaction=SMALL)
    assert built_anew(home) == served(home)


def test_a_folder_in_use_is_left_alone(home):
    store = Store(home.store)
    with workshop(store) as folder, workshop(store) as other:
        (folder / "x.mdb").write_bytes(b"x")
        with Publisher(store):
            pass
        assert (folder / "x.mdb").exists()
        assert other.is_dir()
        assert 0 == remove_abandoned(store)
    assert not left(home)
    abandoned = store.keyrings / FOLDER_NAME / "00"
    abandoned.mkdir(parents=True)
    with (abandoned / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert 0 == remove_abandoned(store)
    assert 1 == remove_abandoned(store)
    assert not left(home)


def test_the_control_plane_compacts_in_the_background_and_publishes_nothing_that_nobody_published(home, key_ids):
    desk = Desk(home)
    try:
        compactor = Compactor(desk, compaction=SMALL)
        edit(home, keys.set_key_enabled, key_ids[0], False)
        compactor.look()
        assert compactor.wait(0)
        assert 2 == manifest_of(home).revision
        publish(home, compaction=NO_COMPACTION)
        compactor.look()
        assert compactor.wait(30)
        assert (4, None) == (manifest_of(home).revision, manifest_of(home).delta)
        assert 4 == desk.publisher.newest().revision
        assert desk.publisher.newest().committed_at_ms
        compactor.look()
        assert compactor.wait(30)
        assert 4 == manifest_of(home).revision
    finally:
        desk.close()
    assert built_anew(home) == served(home)
