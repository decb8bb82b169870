"""What leaves the store and the registry, and what never does."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.control import RunningControl
from tests.support.life import Life, answers, make_life
from tests.support.node import until
from verifier.control import keys, pruning, rolling_back, rotation
from verifier.control.acting import Act, Actor, acting
from verifier.control.building import Compaction
from verifier.control.keys import KeyUpdate
from verifier.control.pruning import DAY_S, prune, prune_versions
from verifier.control.reconciling import reconcile
from verifier.errors import Conflict, InvalidInput
from verifier.registry import audit, queries
from verifier.serving.loading import load_publication
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets
from verifier.store.writer import Publisher
from verifier.vocabulary import RevocationReason

YEARS_S = 500 * DAY_S


def published(life: Life, count: int) -> None:
    """Publish so many revisions, one a day, with a new base every third time."""
    for at in range(count):
        life.key("client1")
        life.publish(rebase=at % 3 == 2)
        life.now_s += DAY_S


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = make_life(tmp_path / "home")
    life.client()
    return life


def loadable(home: Home, revision: int) -> bool:
    load_publication(Store(home.store), revision, Secrets(home.secrets))
    return True


def test_the_newest_and_the_young_stay(life: Life):
    published(life, 10)
    store = Store(life.home.store)
    life.now_s -= DAY_S
    plan = prune(life.home, 2, 4 * DAY_S, dry_run=True, now_s=life.now_s)
    assert list(range(1, 11)) == store.revisions()
    done = prune(life.home, 2, 4 * DAY_S, now_s=life.now_s)
    assert plan == done and (1, 2, 3, 4, 5) == done.revisions and done.bytes > 0
    assert [6, 7, 8, 9, 10] == store.revisions()
    assert all(loadable(life.home, revision) for revision in store.revisions())
    assert not list(store.publications.glob("*1.sig"))
    again = prune(life.home, 2, 4 * DAY_S, now_s=life.now_s)
    assert ((), (), 0) == (again.revisions, again.files, again.bytes)
    with life.registry() as registry, registry.read() as connection:
        (entry,) = [entry for entry in audit.entries(connection) if entry.action == "publications.prune"]
    assert '"oldest_kept":6' in entry.details


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happened_what_is_needed_stays(tmp_path: Path, seed: int):
    life = make_life(tmp_path / "home", seed)
    life.live(10)
    life.publish()
    for _ in range(3):
        life.live(15)
        life.publish()
        said = answers(life.home)
        done = prune(life.home, 1, 0, now_s=life.now_s + 1)
        store = Store(life.home.store)
        current = store.current()
        assert said == answers(life.home) and loadable(life.home, current or 0)
        with life.registry() as registry, registry.read() as connection:
            state = queries.state(connection)
        if state.hold is not None:
            assert loadable(life.home, state.hold)
        if state.base_sha256 is not None:
            assert store.keyring_path(state.base_sha256).is_file()
        assert done.unreadable == ()
        # Everything goes on: a delta on the base that is there, and the end of a hold.
        life.key(life.client_ids()[0])
        base = store.publication(current or 0, Secrets(life.home.secrets).trust()).base.sha256
        assert base == life.publish().manifest.base.sha256 or not said
        life.publish(resume=True)


def test_a_hold_keeps_what_it_goes_back_to(life: Life):
    published(life, 6)
    with life.registry() as registry:
        rolling_back.roll_back(life.home, 2, registry=registry, allow_drop=True, now_s=life.now_s)
    done = prune(life.home, 1, 0, now_s=life.now_s + 1)
    assert 2 not in done.revisions
    life.key("client1")
    life.now_s += DAY_S
    assert life.publish().manifest.content_of == 2
    life.publish(resume=True)
    assert 2 not in prune(life.home, 3, 0, now_s=life.now_s).revisions  # held ones that are kept may be gone back to
    published(life, 6)
    assert 2 in prune(life.home, 1, 0, now_s=life.now_s).revisions


def test_tombstones_go_with_their_publications_only(life: Life):
    ids = [life.key("client1") for _ in range(4)]
    for key_id in ids:
        life.revoke(key_id)
        life.publish()
        life.now_s += DAY_S
    store = Store(life.home.store)
    assert 4 == len(list(store.tombstones.iterdir()))
    prune(life.home, 1, 0, now_s=life.now_s)
    named = {file.sha256 for revision in store.revisions()
             for file in store.publication(revision, Secrets(life.home.secrets).trust()).tombstones}
    assert named == {path.name for path in store.tombstones.iterdir()}
    assert loadable(life.home, store.current() or 0)


def test_what_cannot_be_read_keeps_all_files(life: Life):
    published(life, 4)
    store = Store(life.home.store)
    store.manifest_path(1).write_bytes(b"{")
    before = store.files()
    done = prune(life.home, 1, 0, now_s=life.now_s)
    assert ((1,), ()) == (done.unreadable, done.files)
    assert before == store.files() and 1 in store.revisions()


def test_a_publication_that_never_became_current_is_left_to_its_publisher(life: Life):
    published(life, 3)
    store = Store(life.home.store)
    data = store.manifest_bytes(3)
    store.manifest_path(9).write_bytes(data)
    prune(life.home, 1, 0, now_s=life.now_s)
    assert 9 in store.revisions()


def test_one_at_a_time_and_sensible_numbers(life: Life):
    published(life, 2)
    with Publisher(Store(life.home.store)), pytest.raises(Conflict) as refused:
        prune(life.home)
    assert refused.value.code == "PUBLISHER_BUSY"
    for numbers in ((0, 0), (1, -1)):
        with pytest.raises(InvalidInput):
            prune(life.home, *numbers)
    with Publisher(Store(life.home.store)) as publisher, pytest.raises(Conflict):
        publisher.remove_publication(2)


class TestVersions:
    def test_what_ended_long_ago_is_unknown_from_the_next_publication_on(self, registry_place: Home):
        life = Life(registry_place)
        client = life.client()
        stays, revoked, compromised, rotated, dead = (life.key(client) for _ in range(5))
        life.rotate(rotated, overlap_s=60)
        life.revoke(revoked, reason=RevocationReason.CESSATION_OF_OPERATION)
        life.revoke(compromised)
        life.key(client, expires_at=life.now_s + 60)
        life.revoke(dead, reason=RevocationReason.UNSPECIFIED)
        life.publish(rebase=True)
        life.now_s += YEARS_S
        done = life.do(prune_versions)
        assert (4, 3) == (done.versions, done.keys)
        assert sorted([stays, compromised, rotated]) == sorted(life.key_ids())
        assert 7 == len(answers(life.home))
        assert not life.publish().changed
        life.key(client)
        new = life.publish(compaction=Compaction(age_s=2 * YEARS_S)).manifest
        assert 4 == new.records and new.delta is None  # an old base would still hold them
        left = {(answer.key_id, answer.version) for answer in answers(life.home).values()}
        assert {(stays, 1), (compromised, 1), (rotated, 2)} <= left and 4 == len(left)
        assert 1 == life.publish().manifest.tombstones[0].count
        assert (0, 0) == (life.do(prune_versions).versions, life.do(prune_versions).keys)
        life.rotate(rotated, overlap_s=60)
        life.close()

    def test_a_record_that_hides_a_live_one_of_the_base_stays(self, life: Life):
        """The base says VALID and only the delta says REVOKED: without the registry's record that would come back."""
        key = life.key("client1")
        life.publish(rebase=True)
        life.revoke(key, reason=RevocationReason.SUPERSEDED)
        life.publish()
        life.now_s += YEARS_S
        assert 0 == life.do(prune_versions).versions
        life.publish(rebase=True)
        assert 1 == life.do(prune_versions).versions
        assert [True] == [answer.revoked for answer in answers(life.home).values() if answer.key_id == key]
        life.key("client1")
        life.publish()
        assert key not in {answer.key_id for answer in answers(life.home).values()}

    def test_not_while_held_and_not_too_young(self, life: Life):
        life.key("client1")
        life.publish()
        with pytest.raises(InvalidInput) as young:
            life.do(prune_versions, 89 * DAY_S)
        assert young.value.code == "TOO_YOUNG"
        with life.registry() as registry:
            rolling_back.roll_back(life.home, 1, registry=registry, now_s=life.now_s)
        with pytest.raises(Conflict) as held:
            life.do(prune_versions)
        assert held.value.code == "HELD"

    def test_in_parts_that_others_get_in_between(self, life: Life, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pruning, "KEYS_AT_ONCE", 2)
        for _ in range(5):
            life.revoke(life.key("client1"), reason=RevocationReason.SUPERSEDED)
        life.publish(rebase=True)
        life.now_s += YEARS_S
        acts, pauses = [], []

        @contextmanager
        def begin(actor: Actor, now_s: int | None) -> Iterator[Act]:
            with life.registry() as registry, acting(registry, actor, now_s) as act:
                acts.append(act)
                yield act

        with life.registry() as registry:
            done = pruning.prune_in_parts(registry, begin, pause=pauses.append, now_s=life.now_s)
            assert (5, 3, 3) == (done.versions, len(acts), len(pauses))
            rolling_back.roll_back(life.home, 1, registry=registry, now_s=life.now_s, allow_drop=True)
            assert 0 == pruning.prune_in_parts(registry, begin, now_s=life.now_s).versions

    @pytest.mark.parametrize("seed", range(2))
    def test_random_lives_stay_sound(self, tmp_path: Path, seed: int):
        life = make_life(tmp_path / "home", seed)
        life.live(40)
        life.publish(resume=True, rebase=True)
        said = answers(life.home)
        life.now_s += YEARS_S
        gone = life.do(prune_versions).versions
        life.publish(rebase=True)
        now = answers(life.home)
        assert gone == len(said) - len(now)
        assert all(answer == said[tag] for tag, answer in now.items())
        compromised = {tag for tag, answer in said.items() if answer.reason is RevocationReason.KEY_COMPROMISE}
        assert compromised <= now.keys()
        life.live(10)


def test_a_control_plane_that_is_told_to_prunes_versions_and_publishes(tmp_path: Path):
    life = Life(Home(tmp_path / "home"), now_s=int(time.time()) - YEARS_S)
    client = life.client()
    old, stays = life.key(client), life.key(client)
    life.revoke(old, reason=RevocationReason.SUPERSEDED)
    first = life.publish(rebase=True).revision
    life.close()
    with RunningControl(life.home, "--keep-versions", "400d", "--metrics", "off") as control:
        until(lambda: Store(life.home.store).current() != first, 20)
        control.signal(signal.SIGTERM)  # what has begun is finished first
        assert 0 == control.process.wait(20)
    assert {stays} == {answer.key_id for answer in answers(life.home).values()}
    with life.registry() as registry, registry.read() as connection:
        told = [(entry.principal, entry.action) for entry in audit.entries(connection)]
    assert [("schedule", "versions.prune"), ("schedule", "publication.publish")] == told[-2:]
    life.close()


def test_going_back_brings_no_pruned_version_back(life: Life):
    key_id = life.key(life.client())
    before = life.publish().revision
    life.rotate(key_id, overlap_s=60)
    life.publish(rebase=True)
    life.now_s += 100 * DAY_S
    assert 1 == life.do(prune_versions, 90 * DAY_S).versions
    with life.registry() as registry:
        rolling_back.roll_back(life.home, before, registry=registry, allow_drop=True, now_s=life.now_s)
    assert [(key_id, 2)] == [(one.key_id, one.version) for one in answers(life.home).values() if one.key_id == key_id]


def test_a_pruned_version_tells_nothing_of_its_key(life: Life):
    """Its record in the base says what the key was then; who reconciles takes what was published last."""
    key_id = life.key(life.client())
    number = life.rotate(key_id, overlap_s=60)
    life.do(rotation.cancel, key_id)
    life.publish(rebase=True)
    restore = life.back_up()
    life.now_s += 100 * DAY_S
    assert 1 == life.do(prune_versions, 90 * DAY_S).versions
    assert number == life.rotate(key_id, overlap_s=60)  # it had the greatest number, which is given again
    life.do(keys.update_key, key_id, KeyUpdate(scopes=("admin",)))
    life.publish()
    said = answers(life.home)
    restore()
    assert reconcile(life.home, now_s=life.now_s).behind
    life.publish()
    assert {("admin",)} == {one.scopes for one in answers(life.home).values() if one.key_id == key_id}
    assert {1, number} == {one.version for one in answers(life.home).values() if one.key_id == key_id}
    assert said.keys() == answers(life.home).keys()
