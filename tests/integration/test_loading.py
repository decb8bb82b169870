"""From a store to a view: what is loaded, what is refused and why, and the highest revision served."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.image import ABSENT, REVOKED, Facts
from tests.support.publications import Stocked, flip, native
from verifier.errors import Unavailable, UnsoundPublication
from verifier.serving.highest import HighestServed, Mark
from verifier.serving.loading import LoadLimits, Publication, load_publication
from verifier.store.signing import SigningKey
from verifier.vocabulary import Verdict

A, B, C = native(1), native(2), native(3)


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    return Stocked(tmp_path / "home")


def load(stocked: Stocked, revision: int, **options: object) -> Publication:
    return load_publication(stocked.store, revision, stocked.secrets, **options)  # type: ignore[arg-type]


def refused(stocked: Stocked, revision: int, **options: object) -> str:
    with pytest.raises(UnsoundPublication) as caught:
        load(stocked, revision, **options)
    return caught.value.code


@pytest.mark.parametrize("memory", ["sealed", "mapped"])
def test_base_and_delta_answer(stocked: Stocked, memory: str):
    stocked.publish({A: Facts(), B: Facts(), C: Facts()}, {B: Facts(flags=REVOKED, reason=1), C: Facts(flags=ABSENT)})
    publication = load(stocked, 1, limits=LoadLimits(memory=memory))  # type: ignore[arg-type]
    assert publication.checked == 5
    verdicts = [publication.view.verify(token).verdict for token in (A, B, C, native(4))]
    assert [Verdict.VALID, Verdict.REVOKED, Verdict.UNKNOWN, Verdict.UNKNOWN] == verdicts
    assert publication.view.base.source == memory


def test_the_same_base_is_not_loaded_twice(stocked: Stocked):
    stocked.publish({A: Facts(), B: Facts()})
    first = load(stocked, 1)
    stocked.publish({A: Facts(), B: Facts()}, {B: Facts(flags=REVOKED)})
    second = load(stocked, 2, reuse=first)
    assert second.view.base is first.view.base
    assert second.checked == 1
    assert Verdict.REVOKED == second.view.verify(B).verdict
    stocked.publish({A: Facts()})
    assert load(stocked, 3, reuse=second).view.base is not second.view.base


def test_a_flipped_byte_anywhere_is_refused(stocked: Stocked):
    manifest = stocked.publish({A: Facts()})
    path = stocked.store.keyring_path(manifest.base.sha256)
    for at in (0, 100, 4096, 4096 + 20, manifest.base.bytes - 1):
        flip(path, at)
        assert refused(stocked, 1) == "BAD_DIGEST"
        flip(path, at)
    assert load(stocked, 1)


def test_a_truncated_longer_or_missing_keyring_is_refused(stocked: Stocked):
    manifest = stocked.publish({A: Facts()})
    path = stocked.store.keyring_path(manifest.base.sha256)
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:4096], b"", whole + b"x"):
        path.write_bytes(data)
        assert refused(stocked, 1) == "BAD_DIGEST"
    path.unlink()
    assert refused(stocked, 1) == "BAD_DIGEST"


def test_a_signature_is_needed_before_anything_is_parsed(stocked: Stocked):
    stocked.publish({A: Facts()})
    signature = stocked.store.signature_path(1)
    good = signature.read_bytes()
    signature.write_bytes(SigningKey.generate().sign(stocked.store.manifest_bytes(1)))
    assert refused(stocked, 1) == "BAD_SIGNATURE"
    signature.write_bytes(good)
    stocked.store.manifest_path(1).write_bytes(b"{")
    assert refused(stocked, 1) == "BAD_SIGNATURE"


def test_a_signed_manifest_in_another_place_is_refused(stocked: Stocked):
    stocked.publish({A: Facts()})
    stocked.publish({A: Facts(), B: Facts()})
    for path in (stocked.store.manifest_path, stocked.store.signature_path):
        shutil.copy(path(1), path(2))
    assert refused(stocked, 2) == "FORMAT"


def test_a_pepper_that_is_not_held_is_named(stocked: Stocked):
    stocked.publish({A: Facts()})
    (stocked.home.secrets / "peppers" / "p1").rename(stocked.home.secrets / "peppers" / "p2")
    with pytest.raises(UnsoundPublication, match="p1") as caught:
        load(stocked, 1)
    assert caught.value.code == "PEPPER_MISSING"


def test_a_wrong_pepper_cannot_be_noticed_but_confirms_nothing(stocked: Stocked):
    stocked.publish({A: Facts()})
    (stocked.home.secrets / "peppers" / "p1").write_text("00" * 32 + "\n")
    assert Verdict.UNKNOWN == load(stocked, 1).view.verify(A).verdict


@pytest.mark.parametrize("limits", [
    LoadLimits(records_max=1), LoadLimits(bytes_max=100), LoadLimits(reserve_bytes=1 << 60),
])
def test_limits(stocked: Stocked, limits: LoadLimits):
    stocked.publish({A: Facts(), B: Facts()})
    assert refused(stocked, 1, limits=limits) == "LIMIT"
    assert load(stocked, 1)


def test_a_keyring_whose_structure_is_wrong_is_refused_although_digest_and_signature_fit(stocked: Stocked):
    manifest = stocked.publish({A: Facts()})
    base = manifest.base
    moved = replace(base, slots=replace(base.slots, offset=base.slots.offset + 8))
    stocked.write(replace(manifest, base=moved))
    assert refused(stocked, 1) == "FORMAT"
    stocked.publish({B: Facts(flags=32768)})
    assert refused(stocked, 2) == "FEATURE"


# --- The highest revision served -------------------------------------------------------------------------------------

def test_highest_served(tmp_path: Path):
    highest = HighestServed(tmp_path)
    highest.admit(Mark("st_a", 5, "x"))
    highest.record(Mark("st_a", 5, "x"))
    again = HighestServed(tmp_path)
    again.admit(Mark("st_a", 5, "x"))
    again.admit(Mark("st_a", 6, "z"))
    for mark, code in ((Mark("st_a", 4, "w"), "LOWER_REVISION"), (Mark("st_a", 5, "y"), "EQUIVOCATION"),
                       (Mark("st_b", 9, "x"), "EQUIVOCATION")):
        with pytest.raises(UnsoundPublication) as caught:
            again.admit(mark)
        assert caught.value.code == code


def test_a_folder_shared_by_nodes_keeps_the_highest_of_them(tmp_path: Path):
    slow, fast = HighestServed(tmp_path), HighestServed(tmp_path)
    fast.record(Mark("st_a", 7, "x"))
    slow.record(Mark("st_a", 6, "w"))
    assert HighestServed(tmp_path).mark == Mark("st_a", 7, "x")


def test_a_state_that_cannot_be_read_is_never_taken_for_none(tmp_path: Path):
    (tmp_path / "highest.json").write_text("{}")
    with pytest.raises(Unavailable):
        HighestServed(tmp_path)
