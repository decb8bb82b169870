"""Following a store: what is served, what is kept, when it is tried again, and who frees what."""

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.image import Facts
from tests.support.node import until
from tests.support.publications import Stocked, flip, native
from verifier.serving.following import Follower, Observer, Refusal, _at_low_priority
from verifier.serving.highest import HighestServed
from verifier.serving.keyring import Keyring
from verifier.serving.loading import Publication, load_publication
from verifier.store.secrets import Secrets

A, B, C = native(1), native(2), native(3)


@pytest.fixture
def stocked(tmp_path: Path) -> Stocked:
    return Stocked(tmp_path / "home")


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
