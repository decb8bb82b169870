"""Damaged keyring files are named as such and crash nobody; a builder that dies, or has no room, leaves no keyring."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.records import built, path_of, rows, tag
from verifier.errors import UnsoundPublication, VerifierError
from verifier.keyring.description import KeyringDescription
from verifier.keyring.inspect import count, describe, find_tag, iterate, verify_file

RECORDS = 200
LOCAL = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, KeyringDescription]:
    """The bytes of a sound keyring."""
    folder = tmp_path_factory.mktemp("sound")
    description = built(folder, rows(RECORDS, rules=("10.0.0.0/8",)), clients_off=[1, 5])
    return path_of(folder, description).read_bytes(), description


def failed(path: Path, **options: str) -> set[str]:
    return {check.name for check in verify_file(path, **options).checks if check.passed is False}


@settings(LOCAL, max_examples=40)
@given(data=st.data())
def test_any_changed_bytes_are_found_by_the_digest(tmp_path: Path, keyring, data):
    whole, description = keyring
    damaged = bytearray(whole)
    for at, change in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255)), min_size=1,
                                         max_size=4, unique_by=lambda pair: pair[0])):  # fmt: skip
        damaged[at] ^= change
    path = path_of(tmp_path, description)
    path.write_bytes(damaged)
    assert failed(path) & {"digest", "structure"}
    assert "lmdb" not in {check.name for check in verify_file(path).checks if check.passed}


@settings(LOCAL, max_examples=100)
@given(data=st.data())
def test_without_a_digest_no_damage_crashes(tmp_path: Path, keyring, data):
    whole, _ = keyring
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 9))
        patch = data.draw(st.binary(min_size=1, max_size=9))
        damaged[at : at + len(patch)] = patch
    path = tmp_path / "unnamed.mdb"
    path.write_bytes(damaged)
    assert "digest" not in failed(path)
    for look in (describe, lambda file: count(file, 0), lambda file: list(iterate(file)),
                 lambda file: find_tag(file, tag(5)[:16].hex()), lambda file: find_tag(file, "ff")):  # fmt: skip
        try:
            look(path)
        except VerifierError:
            continue


@LOCAL
@given(st.binary(max_size=20_000))
def test_noise_is_not_a_keyring(tmp_path: Path, noise: bytes):
    path = tmp_path / "noise.mdb"
    path.write_bytes(noise)
    assert {"structure"} == failed(path)
    with pytest.raises(UnsoundPublication):
        list(iterate(path))


@pytest.mark.parametrize("keep", [0, 1, 4096, 8191, 8192, 12_288, -4096, -1, -16])
def test_truncated_files(tmp_path: Path, keyring, keep: int):
    path = path_of(tmp_path, keyring[1])
    path.write_bytes(keyring[0][:keep])
    assert {"structure"} == failed(path)
    path.write_bytes(keyring[0] + bytes(4096))
    assert {"structure"} == failed(path)


def places(whole: bytes, description: KeyringDescription) -> dict[str, int]:
    """Where something of each kind lies."""
    head = tag(7)[:16]
    return {"record": whole.index(head) + 16, "key": whole.index(head), "slots": description.slots.offset + 48,
            "slots_header": description.slots.offset, "switches": description.switches.offset}  # fmt: skip


@pytest.mark.parametrize(("kind", "at", "value", "check"), [
    ("record", 17, 0x80, "records"), ("record", 19, 9, "records"), ("record", 24, 1, "records"),
    ("record", 50, 0xFF, "records"), ("record", 53, 0, "records"), ("key", 0, 0, "table"),
    ("key", 15, 0xFF, None), ("slots_header", 0, 0, "structure"), ("slots_header", 8, 0xFF, "structure"),
    ("slots_header", 16, 0, "structure"), ("slots_header", 47, 1, "structure"), ("switches", 0, 0, "structure"),
    ("switches", 8, 0, "switches"), ("switches", 16, 0, "switches"), ("switches", 48, 0xFF, "switches"),
])  # fmt: skip
def test_each_kind_of_damage_is_found_by_its_check(tmp_path: Path, keyring, kind: str, at: int, value: int,
                                                   check: str | None):
    whole, description = keyring
    damaged = bytearray(whole)
    place = places(whole, description)[kind] + at
    assert damaged[place] != value
    damaged[place] = value
    path = tmp_path / "damaged.mdb"
    path.write_bytes(damaged)
    # The rest of a key is not part of anything but the digest; the other checks stay silent.
    assert ({check} if check else set()) <= failed(path)
    assert verify_file(path, sha256=description.sha256).sound is False


def test_every_slot_matters(tmp_path: Path, keyring):
    whole, description = keyring
    table = range(description.slots.offset + 48, description.slots.offset + 48 + 8 * 288, 8)
    path = tmp_path / "damaged.mdb"
    chosen = random.Random(1).sample(table, 40)
    for at in chosen:
        damaged = bytearray(whole)
        # A full slot emptied, or an empty one filled with what leads nowhere.
        damaged[at : at + 8] = bytes(8) if any(whole[at : at + 8]) else b"\xff" * 8
        path.write_bytes(damaged)
        assert "slots" in failed(path)


def test_a_full_index_does_not_hang(tmp_path: Path, keyring):
    whole, description = keyring
    damaged = bytearray(whole)
    at, size = description.slots.offset + 48, 8 * 288
    damaged[at : at + size] = b"\xff" * size
    path = tmp_path / "full.mdb"
    path.write_bytes(damaged)
    assert {"slots"} <= failed(path)
    with pytest.raises(VerifierError):
        find_tag(path, tag(7).hex())


def test_swapped_records_are_found(tmp_path: Path, keyring):
    whole, _ = keyring
    damaged = bytearray(whole)
    one, other = (whole.index(tag(number)[:16]) for number in (7, 8))
    damaged[one : one + 16], damaged[other : other + 16] = tag(8)[:16], tag(7)[:16]
    path = tmp_path / "swapped.mdb"
    path.write_bytes(damaged)
    assert {"table"} <= failed(path)


BUILD = """
import sys
from pathlib import Path
from tests.support.records import built, rows
{setup}
built(Path(sys.argv[1]), {rows}, memory_bytes=1_000_000)
"""


def run(folder: Path, of: str, setup: str = "") -> "subprocess.Popen[str]":
    code = BUILD.format(setup=setup, rows=of)
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, cwd=Path(__file__).parents[2])  # fmt: skip


@pytest.mark.parametrize("limit_bytes", [200_000, 2_000_000, 3_500_000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, limit_bytes: int):
    # The limit on file sizes stands for the disk's: writes beyond it fail, in the sorter's file or in LMDB's.
    setup = ("import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
             f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))")  # fmt: skip
    process = run(tmp_path, "rows(30_000)", setup)
    _, errors = process.communicate(timeout=60)
    assert 0 != process.returncode
    assert "verifier.errors.Unavailable: cannot build a keyring" in errors
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["write", "index", "digest"])
def test_a_killed_builder_leaves_no_keyring(tmp_path: Path, stage: str):
    setup = ("import os, signal, functools; "
             f"kill = lambda stage, done, total: stage == {stage!r} and os.kill(os.getpid(), signal.SIGKILL); "
             "built = functools.partial(built, progress=kill)")  # fmt: skip
    process = run(tmp_path, "rows(5_000)", setup)
    process.communicate(timeout=60)
    assert -signal.SIGKILL == process.returncode
    # What is left has a name that the store's clean-up knows.
    assert all(path.name.endswith(".verifier-tmp") for path in tmp_path.iterdir())
    assert path_of(tmp_path, built(tmp_path, rows(5_000))).exists()


@pytest.mark.parametrize("place", [4065, 4074, 4080, 4088])
def test_a_node_that_sticks_out_of_its_page_is_refused(tmp_path: Path, keyring, place: int):
    whole, _ = keyring
    page = whole.index(min(tag(number)[:16] for number in range(RECORDS))) // 4096 * 4096
    damaged = bytearray(whole)
    damaged[page + 16 : page + 18] = place.to_bytes(2, "little")
    damaged[page + place : page + place + 8] = b"\xff\xff\xff\x7f\0\0\x10\0"  # length, flags, length of the key
    path = tmp_path / "damaged.mdb"
    path.write_bytes(damaged)
    with pytest.raises(UnsoundPublication):
        list(iterate(path))
    assert "table" in failed(path)
