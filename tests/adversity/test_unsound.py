"""Publications that must not be served, offered to a running node: it goes on answering, and says what is wrong.

Every case is one row: how the publication is spoilt, and the code that status, metric and log must give. Meanwhile a
client hammers the node, and no call may fail.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.support.image import Facts, image_of
from tests.support.node import RunningNode, until
from tests.support.publications import Stocked, native
from verifier.store.manifest import Manifest
from verifier.store.signing import SigningKey
from verifier.v1 import verifier_pb2, verifier_pb2_grpc

A, B = native(1), native(2)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def keyring_of(stocked: Stocked, manifest: Manifest) -> Path:
    return stocked.store.keyring_path(manifest.base.sha256)


def flipped_byte(stocked: Stocked) -> None:
    manifest = stocked.publish({B: Facts()}, current=False)
    flip(keyring_of(stocked, manifest), 4096 + 70)


def truncated_file(stocked: Stocked) -> None:
    path = keyring_of(stocked, stocked.publish({B: Facts()}, current=False))
    path.write_bytes(path.read_bytes()[:-100])


def missing_file(stocked: Stocked) -> None:
    keyring_of(stocked, stocked.publish({B: Facts()}, current=False)).unlink()


def missing_manifest(stocked: Stocked) -> None:
    """CURRENT names a revision that is not there."""


def wrong_signature(stocked: Stocked) -> None:
    stocked.publish({B: Facts()}, current=False)
    line = SigningKey.generate().sign(stocked.store.manifest_bytes(11))
    stocked.store.signature_path(11).write_bytes(line)


def flipped_manifest(stocked: Stocked) -> None:
    stocked.publish({B: Facts()}, current=False)
    flip(stocked.store.manifest_path(11), 30)


def missing_pepper(stocked: Stocked) -> None:
    image = image_of({B: Facts()})
    base = replace(stocked.add(image), peppers=("p9",))
    manifest = stocked.publish({B: Facts()}, current=False)
    stocked.write(replace(manifest, base=base), current=False)


def replayed(stocked: Stocked) -> None:
    """Revision 10's files under the name of 11."""
    for path in (stocked.store.manifest_path, stocked.store.signature_path):
        shutil.copy(path(10), path(11))


def another_store(stocked: Stocked) -> None:
    stocked.publish({B: Facts()}, current=False, store_id="st_other")


def wrong_structure(stocked: Stocked) -> None:
    """Signed and digested as it is, but a record has a restriction that this build does not know."""
    stocked.publish({B: Facts(flags=0x0100)}, current=False)


def too_many_records(stocked: Stocked) -> None:
    stocked.publish({native(number): Facts() for number in range(60)}, current=False)


def unreadable_index(stocked: Stocked) -> None:
    manifest = stocked.publish({B: Facts()}, current=False)
    base = manifest.base
    moved = replace(base, slots=replace(base.slots, offset=base.slots.offset + 16))
    stocked.write(replace(manifest, base=moved), current=False)


CASES = [
    (flipped_byte, "BAD_DIGEST"), (truncated_file, "BAD_DIGEST"), (missing_file, "BAD_DIGEST"),
    (missing_manifest, "UNREADABLE"), (wrong_signature, "BAD_SIGNATURE"), (flipped_manifest, "BAD_SIGNATURE"),
    (missing_pepper, "PEPPER_MISSING"), (replayed, "FORMAT"), (another_store, "EQUIVOCATION"),
    (wrong_structure, "FEATURE"), (too_many_records, "LIMIT"), (unreadable_index, "FORMAT"),
]  # fmt: skip


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    made = Stocked(tmp_path / "home")
    made.publish({A: Facts()}, revision=9)
    made.publish({A: Facts(), B: Facts()}, revision=10)
    return made


class Client:
    """Calls without pause; every answer must be VALID."""

    def __init__(self, node: RunningNode) -> None:
        self.calls, self.faults = 0, []  # type: ignore[var-annotated]
        self._node, self._stop = node, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self._node.channel() as channel:
            stub = verifier_pb2_grpc.VerifierServiceStub(channel)
            while not self._stop.is_set():
                try:
                    answer = stub.Verify(verifier_pb2.VerifyRequest(key=A), timeout=5)
                except grpc.RpcError as error:
                    self.faults.append(str(error))
                    return
                self.calls += 1
                if answer.verdict != 1:
                    self.faults.append(str(answer))

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def node(stocked: Stocked) -> Iterator[RunningNode]:
    with RunningNode(stocked.home.folder, "--records-max", "50") as running:
        running.wait_for("serving", revision=10)
        yield running


def told(node: RunningNode, code: str, revision: int | None) -> None:
    """Status, metric and log give the reason, and revision 10 is served."""
    line = node.wait_for("publication refused", code=code)
    assert (revision, 10, "error") == (line["revision"], line["serving"], line["level"])
    status = node.status()
    assert ("SERVING", 10, 10) == (status["state"], status["revision"], status["highest_revision"])
    refusal = status["last_refusal"]
    assert (revision, code) == (refusal["revision"], refusal["code"])
    assert refusal["message"] == line["reason"] and refusal["at"].endswith("Z")
    assert node.metric(f'verifier_publications_refused_total{{code="{code}"}}') == 1
    assert node.metric("verifier_revision") == 10


@pytest.mark.parametrize(("spoil", "code"), CASES, ids=[case[0].__name__ for case in CASES])
def test_refused(stocked: Stocked, node: RunningNode, spoil: Callable[[Stocked], None], code: str):
    with Client(node) as client:
        until(lambda: client.calls > 0)
        spoil(stocked)
        stocked.point(11)
        told(node, code, 11)
        before = client.calls
        until(lambda: client.calls > before + 20)
        # A sound one afterwards is served.
        stocked.publish({A: Facts(), B: Facts()}, revision=12)
        node.wait_for("serving", revision=12)
    assert [] == client.faults
    assert node.status()["last_refusal"]["code"] == code


def test_a_lower_revision(stocked: Stocked, node: RunningNode):
    with Client(node) as client:
        until(lambda: client.calls > 0)
        stocked.point(9)
        told(node, "LOWER_REVISION", 9)
    assert [] == client.faults


def test_equivocation(stocked: Stocked, node: RunningNode):
    with Client(node) as client:
        until(lambda: client.calls > 0)
        stocked.publish({B: Facts()}, revision=10)
        told(node, "EQUIVOCATION", 10)
    assert [] == client.faults


def test_a_keyring_damaged_on_disk_after_the_load_reaches_nobody(stocked: Stocked, node: RunningNode):
    path = stocked.store.keyring_path(Manifest.from_bytes(stocked.store.manifest_bytes(10)).base.sha256)
    with Client(node) as client:
        until(lambda: client.calls > 0)
        path.write_bytes(b"")
        before = client.calls
        until(lambda: client.calls > before + 50)
    assert [] == client.faults and node.process.poll() is None


def test_a_restart_on_a_spoilt_store_serves_the_last_good_one(stocked: Stocked):
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving", revision=10)
    flipped_byte(stocked)
    stocked.point(11)
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving an earlier publication, as the newest one was refused", revision=10, refused=11)
        assert node.verify(A).revision == 10
        assert node.status()["last_refusal"]["code"] == "BAD_DIGEST"
        # The file comes back as it should be, as when a slow copy ends: no signal is needed.
        flipped = Manifest.from_bytes(stocked.store.manifest_bytes(11))
        flip(keyring_of(stocked, flipped), 4096 + 70)
        node.wait_for("serving", revision=11)


def test_a_restart_never_goes_back(stocked: Stocked):
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving", revision=10)
    stocked.point(9)
    stocked.store.signature_path(10).unlink()
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("publication refused", code="LOWER_REVISION")
        with pytest.raises(grpc.RpcError) as caught:
            node.verify(A)
        assert grpc.StatusCode.UNAVAILABLE == caught.value.code()


def test_a_killed_node_comes_back_with_what_it_served(stocked: Stocked):
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving", revision=10)
        node.process.kill()
    with RunningNode(stocked.home.folder) as node:
        node.wait_for("serving", revision=10)
        assert node.status()["highest_revision"] == 10


def test_the_scrub_notices_what_changes_under_a_mapped_keyring(stocked: Stocked):
    with RunningNode(stocked.home.folder, "--memory", "mapped", "--scrub-interval", "200ms") as node:
        node.wait_for("serving", revision=10)
        until(lambda: node.status()["scrub"]["rounds"] > 0)
        assert node.metric("verifier_scrub_mismatches_total") == 0
        path = stocked.store.keyring_path(Manifest.from_bytes(stocked.store.manifest_bytes(10)).base.sha256)
        with path.open("r+b") as file:  # in place: the same inode is mapped
            file.seek(100)
            file.write(b"x")
        line = node.wait_for("what is served has changed in memory or on disk; loading it again")
        assert line["offset"] == 0
        node.wait_for("publication refused", code="BAD_DIGEST")
        assert node.metric("verifier_scrub_mismatches_total") > 0
        assert node.verify(A).verdict == 1
        with path.open("r+b") as file:
            file.seek(100)
            file.write(b"\0")
        node.wait_for("serving", checked=2)
