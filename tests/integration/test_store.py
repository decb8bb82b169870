"""A store in a real folder: reading while it is replaced, writing by one publisher only."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.unit.test_manifest import BASE, MANIFEST
from verifier.errors import Conflict, NotFound, Unavailable, UnsoundPublication
from verifier.store import durable
from verifier.store.layout import Store
from verifier.store.manifest import digest_of
from verifier.store.signing import SigningKey, Trust
from verifier.store.writer import Publisher

KEY = SigningKey.generate()
TRUST = Trust(load_pem_public_key(KEY.public_pem()))


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store")


def revision_of(number, **fields):
    return dataclasses.replace(MANIFEST, revision=number, content_of=number, **fields)


def write(store, manifest, signature=None):
    """Publish a manifest with a keyring of the right size."""
    with Publisher(store) as publisher:
        built = publisher.building / "built"
        built.write_bytes(bytes(BASE.bytes))
        publisher.add_keyring(built, BASE.sha256)
        publisher.commit(manifest, signature or KEY.sign(manifest.to_bytes()))


def test_a_publication_reads_back(store):
    assert store.current() is None
    assert [] == store.revisions()
    write(store, revision_of(1))
    write(store, revision_of(2))
    assert [1, 2] == store.revisions()
    assert 2 == store.current() == Store(store.folder).current()
    assert revision_of(2) == store.publication(2, TRUST, store_id="st_0123")
    assert "00000000000000000002.json" == store.manifest_path(2).name
    assert b"2\n" == store.pointer.read_bytes()
    assert {"CURRENT", "keyrings", "publications", "publisher.lock"} == {path.name for path in store.folder.iterdir()}
    assert [f"{BASE.sha256}.mdb"] == [path.name for path in store.keyrings.iterdir()]


def test_files_can_be_read_by_nodes_of_other_users(store):
    old = os.umask(0o077)
    try:
        write(store, revision_of(1))
    finally:
        os.umask(old)
    for path in (store.pointer, store.manifest_path(1), store.signature_path(1)):
        assert 0o644 == path.stat().st_mode & 0o777


def test_revisions_are_never_written_twice(store):
    write(store, revision_of(5))
    for number in (4, 5):
        with pytest.raises(Conflict):
            write(store, revision_of(number))
    assert [5] == store.revisions()


def test_a_publication_without_its_keyring_is_not_committed(store):
    with Publisher(store) as publisher:
        for name, size in ((None, 0), (BASE.sha256, BASE.bytes - 1)):
            if name:
                store.keyring_path(name).write_bytes(bytes(size))
            with pytest.raises(Unavailable):
                publisher.commit(revision_of(1), b"")
    assert store.current() is None


def test_folders_that_are_no_store_are_told_apart(tmp_path):
    with pytest.raises(Unavailable) as caught:
        Store(tmp_path / "missing").current()
    assert "NO_STORE" == caught.value.code
    (tmp_path / "store").mkdir()
    (tmp_path / "registry.db").touch()
    for use in (lambda: Store(tmp_path).current(), lambda: Publisher(Store(tmp_path)).__enter__()):
        with pytest.raises(Unavailable) as caught:
            use()
        assert "NOT_A_STORE" == caught.value.code
        assert f"the store is {tmp_path / 'store'}" == caught.value.hint
    assert {"store", "registry.db"} == {path.name for path in tmp_path.iterdir()}


def test_a_store_of_another_origin_is_refused(store):
    write(store, revision_of(1, store_id="st_other"))
    with pytest.raises(UnsoundPublication, match="st_other"):
        store.publication(1, TRUST, store_id="st_0123")


def test_a_manifest_under_another_number_is_refused(store):
    write(store, revision_of(1))
    store.manifest_path(2).write_bytes(store.manifest_bytes(1))
    store.signature_path(2).write_bytes(store.signature(1))
    with pytest.raises(UnsoundPublication):
        store.publication(2, TRUST)


def test_the_signature_is_looked_at_before_the_manifest(store):
    write(store, revision_of(1))
    store.manifest_path(1).write_bytes(b"[" * 100)
    with pytest.raises(UnsoundPublication) as caught:
        store.publication(1, TRUST)
    assert "BAD_SIGNATURE" == caught.value.code


def test_every_flipped_byte_of_a_stored_publication_is_refused(store):
    write(store, revision_of(1))
    for path in (store.manifest_path(1), store.signature_path(1)):
        good = path.read_bytes()
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << at % 8]) + good[at + 1 :])
            with pytest.raises(UnsoundPublication):
                store.publication(1, TRUST)
        path.write_bytes(good)
    assert 1 == store.publication(1, TRUST).revision


@pytest.mark.parametrize("text", [b"", b"1", b"01\n", b"-1\n", b"0\n", b"1\n\n", b"1 \n", b"9" * 16 + b"\n", b"x\n"])
def test_a_damaged_pointer_is_an_error_not_an_empty_store(store, text):
    write(store, revision_of(1))
    store.pointer.write_bytes(text)
    with pytest.raises(Unavailable) as caught:
        store.current()
    assert "BAD_POINTER" == caught.value.code


def test_missing_and_oversized_files_are_told_apart(store):
    write(store, revision_of(1))
    with pytest.raises(NotFound):
        store.manifest_bytes(2)
    with pytest.raises(NotFound):
        store.signature(0)
    with pytest.raises(NotFound):
        store.keyring_path("../../etc/passwd")
    store.signature_path(1).write_bytes(b"x" * 300)
    with pytest.raises(UnsoundPublication) as caught:
        store.signature(1)
    assert "LIMIT" == caught.value.code


def test_current_is_always_whole_and_never_falls_while_it_is_replaced(store):
    write(store, revision_of(1))
    done = threading.Event()

    def replace():
        for number in range(2, 400):
            durable.replace(store.pointer, b"%d\n" % number)
        done.set()

    thread = threading.Thread(target=replace)
    thread.start()
    seen = [1]
    while not done.is_set():
        seen.append(store.current())
    thread.join()
    assert sorted(seen) == seen
    assert 399 == store.current()
    assert len(set(seen)) > 2


def test_current_reads_the_pointer_again_only_when_it_changed(store, monkeypatch):
    write(store, revision_of(1))
    old = time.time_ns() - 10**9
    os.utime(store.pointer, ns=(old, old))
    assert 1 == store.current()
    monkeypatch.setattr(store, "_read_pointer", lambda: pytest.fail("read without need"))
    assert [1] * 100 == [store.current() for _ in range(100)]
    monkeypatch.undo()
    durable.replace(store.pointer, b"7\n")
    assert 7 == store.current()


HOLDER = """
import sys
from verifier.store.layout import Store
from verifier.store.writer import Publisher
with Publisher(Store(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def holder(store):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(store.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert "locked\n" == process.stdout.readline()
    return process


def test_a_second_publisher_is_told_who_is_first_and_since_when(store):
    with holder(store) as process:
        with pytest.raises(Conflict) as caught, Publisher(store):
            pytest.fail("two publishers at once")
        assert "PUBLISHER_BUSY" == caught.value.code
        assert process.pid == caught.value.details["pid"]
        assert f"process {process.pid} on " in caught.value.message
        assert caught.value.details["since"] in caught.value.message
        process.stdin.close()
        process.wait(10)
    with Publisher(store):
        pass


def test_a_killed_publisher_holds_nothing_and_its_leftovers_go(store):
    write(store, revision_of(1))
    with holder(store) as process:
        (store.keyrings / ".building" / "half.mdb").write_bytes(b"x" * 1000)
        for folder in (store.folder, store.keyrings, store.publications):
            (folder / ".CURRENT.0123456789abcdef.verifier-tmp").touch()
        process.kill()
        process.wait(10)
    foreign = store.folder / "notes.txt"
    foreign.write_text("mine")
    with Publisher(store):
        pass
    left = {str(path.relative_to(store.folder)) for path in store.folder.rglob("*") if path.is_file()}
    assert {
        "CURRENT", "publisher.lock", "notes.txt", f"keyrings/{BASE.sha256}.mdb",
        "publications/00000000000000000001.json", "publications/00000000000000000001.sig",
    } == left  # fmt: skip


def test_an_unfinished_publication_is_removed_with_its_own_keyring_only(store):
    write(store, revision_of(1))
    data = revision_of(2).to_bytes()
    with Publisher(store) as publisher:
        durable.write_once(store.manifest_path(2), data)
        store.keyring_path("c" * 64).write_bytes(b"orphan")
        publisher.discard(2, "0" * 64)
        assert [1, 2] == store.revisions()
        publisher.discard(2, digest_of(data))
        assert [1] == store.revisions()
        with pytest.raises(Conflict):
            publisher.discard(1, digest_of(store.manifest_bytes(1)))
    assert [f"{BASE.sha256}.mdb"] == [path.name for path in store.keyrings.glob("*.mdb")]


def test_a_full_or_failing_disk_leaves_the_old_publication(store, monkeypatch):
    write(store, revision_of(1))
    with Publisher(store) as publisher:
        fsync, calls = os.fsync, []

        def fails_at(number):
            def sync(descriptor):
                calls.append(descriptor)
                if len(calls) == number:
                    raise OSError(5, "Input/output error")
                fsync(descriptor)

            return sync

        # Five syncs: manifest, signature and their folder, pointer and its folder. All but the last keep the old one.
        for number, revision in zip(range(1, 5), range(2, 6), strict=True):
            calls.clear()
            monkeypatch.setattr(os, "fsync", fails_at(number))
            manifest = revision_of(revision)
            with pytest.raises(Unavailable):
                publisher.commit(manifest, KEY.sign(manifest.to_bytes()))
            monkeypatch.undo()
            assert 1 == Store(store.folder).current()
    assert not list(Path(store.folder).rglob("*.verifier-tmp"))
    write(store, revision_of(9))
    assert 9 == store.current()
