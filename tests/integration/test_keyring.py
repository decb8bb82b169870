"""The in-process Keyring, and the scrub of what is served."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.image import REVOKED, Facts
from tests.support.node import until
from tests.support.publications import Stocked, flip, native
from verifier.errors import Unavailable, UnsoundPublication
from verifier.serving.keyring import Keyring
from verifier.serving.loading import LoadLimits, Publication, load_publication
from verifier.serving.scrub import Scrubber
from verifier.vocabulary import Verdict

A, B, C = native(1), native(2), native(3)


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    return Stocked(tmp_path / "home")


def load(stocked: Stocked, revision: int, **options: object) -> Publication:
    return load_publication(stocked.store, revision, stocked.secrets, **options)  # type: ignore[arg-type]


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
        for revision in range(2, 32):
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
