"""From a store to a served view: what is loaded, what is refused and why, what is kept."""

import gc
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.image import ABSENT, REVOKED, Facts
from tests.support.publications import Stocked, native
from verifier.errors import Unavailable, UnsoundPublication
from verifier.serving.following import Follower, Observer, Refusal, _at_low_priority
from verifier.serving.highest import HighestServed, Mark
from verifier.serving.keyring import Keyring
from verifier.serving.loading import LoadLimits, Publication, load_publication
from verifier.serving.scrub import Scrubber
from verifier.store.secrets import Secrets
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
    shutil.rmtree(stocked.store.keyrings / "nothing", ignore_errors=True)
    second = load(stocked, 2, reuse=first)
    assert second.view.base is first.view.base
    assert second.checked == 1
    assert Verdict.REVOKED == second.view.verify(B).verdict
    stocked.publish({A: Facts()})
    assert load(stocked, 3, reuse=second).view.base is not second.view.base


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


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


# --- Following -------------------------------------------------------------------------------------------------------

class Recorder(Observer):
    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.fell_back_to: list[int] = []

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def fell_back(self, publication: Publication, refused: int | None) -> None:
        self.fell_back_to.append(publication.manifest.revision)


class Following:
    """A follower that is turned by hand."""

    def __init__(self, stocked: Stocked, state: Path | None = None, **options: object) -> None:
        self.delivered: list[int] = []
        self.recorder = Recorder()
        self.follower = Follower(
            stocked.store, stocked.secrets, lambda publication: self.delivered.append(publication.manifest.revision),
            highest=HighestServed(state), observer=self.recorder, **options)  # type: ignore[arg-type]

    def turn(self) -> None:
        self.follower.turn()

    @property
    def codes(self) -> list[str]:
        return [refusal.code for refusal in self.recorder.refusals]


def test_an_empty_store_is_no_refusal(stocked: Stocked):
    following = Following(stocked)
    following.turn()
    assert (None, None, True) == (following.follower.publication, following.follower.last_refusal,
                                  following.follower.looked)


def test_a_refused_publication_keeps_the_last_good_one_and_is_told_once(stocked: Stocked):
    following = Following(stocked)
    stocked.publish({A: Facts()})
    following.turn()
    manifest = stocked.publish({B: Facts()})
    path = stocked.store.keyring_path(manifest.base.sha256)
    flip(path, 50)
    for _ in range(5):
        following.turn()
    assert ([1], ["BAD_DIGEST"]) == (following.delivered, following.codes)
    assert following.recorder.refusals[0].revision == 2
    flip(path, 50)
    following.turn()
    assert [1, 2] == following.delivered
    assert following.follower.last_refusal is not None


def test_a_refused_publication_is_not_loaded_again_and_again(stocked: Stocked, monkeypatch: pytest.MonkeyPatch):
    calls = []
    following = Following(stocked)
    manifest = stocked.publish({A: Facts()})
    flip(stocked.store.keyring_path(manifest.base.sha256), 50)
    from verifier.serving import following as module

    def counted(*arguments: object, **options: object) -> Publication:
        calls.append(1)
        return load_publication(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "load_publication", counted)
    for _ in range(50):
        following.turn()
    assert len(calls) == 1
    following.follower.reread()
    following.turn()
    assert len(calls) == 2


def test_staleness_grows_while_the_newest_is_refused(stocked: Stocked):
    following = Following(stocked)
    stocked.publish({A: Facts()})
    following.turn()
    time.sleep(0.03)
    following.turn()
    publication = following.follower.publication
    assert publication is not None and publication.view.staleness_ms < 15
    flip(stocked.store.keyring_path(stocked.publish({B: Facts()}).base.sha256), 50)
    following.turn()
    time.sleep(0.03)
    following.turn()
    assert publication.view.staleness_ms >= 30


def test_lower_revision_and_equivocation_while_running(stocked: Stocked):
    following = Following(stocked)
    stocked.publish({A: Facts()})
    stocked.publish({A: Facts(), B: Facts()})
    following.turn()
    stocked.point(1)
    following.turn()
    stocked.publish({C: Facts()}, revision=2)
    following.turn()
    assert ([2], ["LOWER_REVISION", "EQUIVOCATION"]) == (following.delivered, following.codes)


def test_a_restart_serves_the_last_good_one(stocked: Stocked, tmp_path: Path):
    state = tmp_path / "state"
    for facts in ({A: Facts()}, {A: Facts(), B: Facts()}):
        stocked.publish(facts)
        Following(stocked, state).turn()
    flip(stocked.store.keyring_path(stocked.publish({C: Facts()}).base.sha256), 50)
    following = Following(stocked, state)
    following.turn()
    assert ([2], ["BAD_DIGEST"], [2]) == (following.delivered, following.codes, following.recorder.fell_back_to)


def test_a_restart_never_goes_below_what_was_served(stocked: Stocked, tmp_path: Path):
    state = tmp_path / "state"
    for facts in ({A: Facts()}, {A: Facts(), B: Facts()}):
        stocked.publish(facts)
    Following(stocked, state).turn()
    stocked.point(1)
    following = Following(stocked, state)
    following.turn()
    assert ([2], ["LOWER_REVISION"]) == (following.delivered, following.codes)
    stocked.store.manifest_path(2).unlink()
    following = Following(stocked, state)
    following.turn()
    assert ([], ["LOWER_REVISION"]) == (following.delivered, following.codes)


def test_what_was_never_made_current_is_not_served(stocked: Stocked):
    manifest = stocked.publish({A: Facts()})
    stocked.publish({B: Facts()}, current=False)
    flip(stocked.store.keyring_path(manifest.base.sha256), 50)
    following = Following(stocked)
    following.turn()
    assert [] == following.delivered


def test_a_pepper_that_arrives_later_heals_at_once(stocked: Stocked):
    stocked.publish({A: Facts()})
    peppers = stocked.home.secrets / "peppers"
    (peppers / "p1").rename(stocked.home.folder / "aside")
    following = Following(stocked)
    following.turn()
    assert following.codes == ["PEPPER_MISSING"]
    (stocked.home.folder / "aside").rename(peppers / "p1")
    following.turn()
    assert following.delivered == [1]


def test_a_vanished_pointer_and_a_damaged_one_are_refusals(stocked: Stocked):
    following = Following(stocked)
    stocked.publish({A: Facts()})
    following.turn()
    stocked.store.pointer.write_text("what?\n")
    following.turn()
    stocked.store.pointer.unlink()
    following.turn()
    assert len(following.codes) == 2
    stocked.point(1)
    following.turn()
    assert following.delivered == [1]


def test_no_trusted_key_is_a_refusal_not_a_crash(stocked: Stocked):
    stocked.publish({A: Facts()})
    Secrets(stocked.home.secrets).trusted_path.unlink()
    following = Following(stocked)
    following.turn()
    assert following.codes == ["UNREADABLE"]


def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.0005)


def test_a_publication_is_noticed_within_10_ms(stocked: Stocked):
    stocked.publish({A: Facts()})
    with Keyring.open(stocked.home.folder) as keyring:
        delays = []
        for number in range(21):
            stocked.publish({native(number): Facts()})
            moved = time.monotonic()
            while keyring.revision != stocked.revision:
                assert time.monotonic() - moved < 5
                time.sleep(0.0005)
            delays.append(time.monotonic() - moved)
    # The median, as the machine that runs the tests is busy with other things, too.
    assert sorted(delays)[10] < 0.010, delays


def test_polling_alone_notices_too(stocked: Stocked, monkeypatch: pytest.MonkeyPatch):
    from verifier.serving.watching import Watch

    monkeypatch.setattr(Watch, "_watches", lambda self: False)
    stocked.publish({A: Facts()})
    with Keyring.open(stocked.home.folder, poll_interval_s=0.02) as keyring:
        stocked.publish({B: Facts()})
        until(lambda: keyring.revision == 2)


def test_large_loads_run_at_low_priority_and_the_follower_does_not():
    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = nice()
    assert (19, before) == (_at_low_priority(nice), nice())
    with pytest.raises(ZeroDivisionError):
        _at_low_priority(lambda: 1 // 0)


def test_what_is_replaced_is_freed(stocked: Stocked, monkeypatch: pytest.MonkeyPatch):
    from verifier.serving import following as module

    threads: list[str] = []
    plain = module._at_low_priority

    def noted(work: Callable[[], object]) -> object:
        def run() -> object:
            threads.append(threading.current_thread().name)
            return work()

        return plain(run)

    monkeypatch.setattr(module, "_at_low_priority", noted)
    monkeypatch.setattr(module, "SMALL_BYTES", 0)

    def maps() -> int:
        return sum("verifier-keyring" in line for line in Path("/proc/self/maps").read_text().splitlines())

    gc.collect()  # what earlier tests left in cycles; from here on nothing may need a collection to be freed
    before = maps()
    following = Following(stocked)
    for number in range(5):
        stocked.publish({native(number): Facts()})
        following.turn()
    assert maps() == before + 1
    # Four loads but the first, and four times the base before, in the loader's thread.
    assert threads == ["loader"] * 8
    following.follower.publication = None
    assert maps() == before


def test_a_fault_in_the_follower_is_told_and_survived(stocked: Stocked, monkeypatch: pytest.MonkeyPatch):
    following = Following(stocked)
    stocked.publish({A: Facts()})
    monkeypatch.setattr(following.follower, "turn", lambda: 1 // 0)
    following.follower.start()
    until(lambda: following.codes == ["INTERNAL"])
    monkeypatch.undo()
    until(lambda: following.delivered == [1])
    following.follower.stop()


# --- In-process ------------------------------------------------------------------------------------------------------

def test_keyring_in_process(stocked: Stocked):
    with pytest.raises(Unavailable):
        Keyring.open(stocked.home.folder)
    stocked.publish({A: Facts(scopes=("read",)), B: Facts(rules=("10.0.0.0/8",))})
    with Keyring.open(stocked.home.folder) as keyring:
        assert keyring.verify(A, ["read"]).valid
        assert Verdict.INSUFFICIENT_SCOPE == keyring.verify(A, required_scopes=["write"]).verdict
        assert Verdict.ADDRESS_NOT_ALLOWED == keyring.verify(B).verdict
        assert keyring.verify(B, client_address="10.1.2.3").valid
        assert [True, False] == [answer.valid for answer in keyring.verify_batch([A, native(9)])]
        stocked.publish({A: Facts(flags=REVOKED, reason=1)})
        until(lambda: keyring.revision == 2)
        assert Verdict.REVOKED == keyring.verify(A).verdict
    with pytest.raises(Unavailable):
        keyring.verify(A)


def test_keyring_without_watching_stays(stocked: Stocked):
    stocked.publish({A: Facts()})
    with Keyring.open(stocked.home.folder, watch=False) as keyring:
        stocked.publish({B: Facts()})
        time.sleep(0.05)
        assert (1, True) == (keyring.revision, keyring.verify(A).valid)


def test_keyring_says_why_nothing_can_be_served(stocked: Stocked):
    flip(stocked.store.keyring_path(stocked.publish({A: Facts()}).base.sha256), 50)
    with pytest.raises(UnsoundPublication) as caught:
        Keyring.open(stocked.home.folder)
    assert caught.value.code == "BAD_DIGEST"


def test_keyring_that_is_too_stale_gives_no_verdict(stocked: Stocked):
    stocked.publish({A: Facts()})
    limits = LoadLimits(max_staleness_ms=200)
    with Keyring.open(stocked.home.folder, limits=limits, poll_interval_s=0.02) as keyring:
        time.sleep(0.3)
        assert keyring.verify(A).valid
        stocked.store.pointer.unlink()
        time.sleep(0.3)
        for ask in (lambda: keyring.verify(A), lambda: keyring.verify_batch([A])):
            with pytest.raises(Unavailable):
                ask()
        stocked.point(1)
        until(lambda: keyring._follower.last_refusal is not None)
        time.sleep(0.1)
        assert keyring.verify(A).valid


def test_swaps_in_process_never_mix(stocked: Stocked):
    def canary(revision: int) -> dict[str, Facts]:
        return {token: Facts(metadata={"revision": str(revision)}) for token in (A, B, C)}

    stocked.publish(canary(1))
    seen: list[list[tuple[int, int]]] = [[], []]
    stop = threading.Event()

    def ask(answers: list[tuple[int, int]], keyring: Keyring) -> None:
        while not stop.is_set():
            batch = keyring.verify_batch([A, B, C])
            assert len({answer.revision for answer in batch}) == 1
            answers += [(int(answer.metadata["revision"]), answer.revision) for answer in batch]

    with Keyring.open(stocked.home.folder) as keyring:
        threads = [threading.Thread(target=ask, args=(answers, keyring)) for answers in seen]
        for thread in threads:
            thread.start()
        for revision in range(2, 62):
            stocked.publish(canary(revision))
            until(lambda revision=revision: keyring.revision == revision)  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join(10)
    for answers in seen:
        assert [] == [pair for pair in answers if pair[0] != pair[1]]
        revisions = [revision for _, revision in answers]
        assert revisions == sorted(revisions) and len(set(revisions)) > 10


# --- Scrub -----------------------------------------------------------------------------------------------------------

def test_scrub_finds_the_segment_that_rotted(stocked: Stocked):
    facts = {native(number): Facts() for number in range(200)}
    manifest = stocked.publish(facts, {A: Facts(flags=REVOKED)})
    publication = load(stocked, 1, limits=LoadLimits(memory="mapped"))
    damage: list[tuple[str, int]] = []
    scrubber = Scrubber(lambda: publication, lambda sha256, offset: damage.append((sha256, offset)), 1.0)
    scrubber.round(pause_s=0)
    assert ([], 1) == (damage, scrubber.result.rounds)
    assert scrubber.result.segments == sum(len(each.segments.xxh3_64) for each in manifest.keyrings)
    with stocked.store.keyring_path(manifest.base.sha256).open("r+b") as file:
        file.seek(9000)
        byte = file.read(1)[0]
        file.seek(9000)
        file.write(bytes([byte ^ 1]))
    scrubber.round(pause_s=0)
    assert [(manifest.base.sha256, 8192)] == damage
    assert scrubber.result.mismatches == 1
