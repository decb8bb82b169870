"""A restored or lost registry learns from the newest publication, and every token is answered as before."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.support.life import Answer, Life, answers, make_life
from verifier.control import auditing, clients, issuing, keys, records, rekeying
from verifier.control.adopting import Adoption
from verifier.control.founding import found
from verifier.control.reconciling import reconcile
from verifier.control.rolling_back import roll_back
from verifier.control.terms import Terms
from verifier.errors import Conflict, NotFound, UnsoundPublication
from verifier.registry import audit, queries, schema, tombstones
from verifier.registry.facts import Key
from verifier.serving.keyring import Keyring
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets
from verifier.vocabulary import RevocationReason, Verdict

COMPROMISE = RevocationReason.KEY_COMPROMISE


def all_keys(life: Life) -> Iterator[Key]:
    with life.registry() as registry, registry.read() as connection:
        yield from list(queries.list_keys(connection))


def check_sound(life: Life) -> None:
    """Every key has one label, and supersessions name versions that are there (I7, I8); the audit log is whole.

    What would be published of a version is what the registry says of it.
    """
    with life.registry() as registry, registry.read() as connection:
        assert [] == auditing.check(connection).problems
        stored = dict(connection.execute(select(schema.versions.c.ordinal, schema.versions.c.record)).all())
    for key in all_keys(life):
        for version in key.versions:
            assert records.encoded(key, version) == stored[version.ordinal], (key, version)
        numbers = [version.number for version in key.versions]
        assert len(numbers) == len(set(numbers)) > 0, key
        assert 1 == sum(version.superseded_at is None for version in key.versions), key
        for version in key.versions:
            assert version.superseded_by in {0, *numbers} - {version.number}, key
            assert (version.superseded_at is None) == (version.superseded_by == 0), key


def denied(answer: Answer) -> Answer:
    """An answer without its denials."""
    return answer._replace(revoked=False, reason=None, off=False)


def test_the_example_of_a_restored_database(registry_place: Home):
    """X3: P was compromised and Q issued after the backup; neither may be lost, and nothing is answered otherwise."""
    life = Life(registry_place)
    acme = life.client()
    p, other = life.key(acme), life.key(acme)
    life.publish()
    restore = life.back_up()
    life.publish(rebase=True)
    life.revoke(p, 1)
    life.rotate(other, overlap_s=3600)
    q = life.key(life.client(), rules=("192.0.2.0/24",), metadata={"plan": "gold"})
    before_last = life.publish().revision
    said = answers(life.home)
    restore()
    with pytest.raises(Conflict) as refused:
        life.publish()
    assert refused.value.code == "REGISTRY_BEHIND"
    done = reconcile(life.home, now_s=life.now_s)
    assert (before_last, True, 1, 1, 2, 1, 1) == (
        done.revision, done.behind, done.clients_added, done.keys_added, done.versions_added, done.revoked,
        done.tombstones_added,
    )  # fmt: skip
    check_sound(life)
    receipt = life.publish()
    assert receipt.revision > before_last
    assert said == answers(life.home)
    with Keyring.open(life.home.folder, watch=False) as keyring:
        assert Verdict.REVOKED == keyring.verify(life.tokens[p, 1]).verdict
        assert Verdict.VALID == keyring.verify(life.tokens[q, 1], ["read"], "192.0.2.7").verdict
        assert [2, 1] == [keyring.verify(life.tokens[other, number]).version for number in (2, 1)]
    with life.registry() as registry, registry.read() as connection:
        actions = [entry.action for entry in audit.entries(connection)]
        assert 1 == tombstones.count(connection)
    assert 1 == actions.count("registry.reconcile") and 2 == actions.count("registry.reconcile.version_added")


def test_what_a_held_publication_tells_of_ends_is_published_again_as_it_was_taken_over(tmp_path: Path):
    life = make_life(tmp_path / "home")
    restore = life.back_up()
    life.publish()
    with life.registry() as registry:
        roll_back(life.home, 1, registry=registry, now_s=life.now_s)
    life.key(life.client(), expires_at=life.now_s + 90_000, key_expires_at=life.now_s + 3600)
    life.publish()
    said = answers(life.home)
    for _ in range(2):
        restore()
        reconcile(life.home, now_s=life.now_s)
        check_sound(life)
        life.publish()
        assert said == answers(life.home)


def test_a_repeat_changes_nothing(tmp_path: Path):
    life = make_life(tmp_path / "home")
    life.key(life.client())
    life.publish()
    restore = life.back_up()
    life.key("client1")
    life.publish()
    restore()
    assert reconcile(life.home).behind
    again = reconcile(life.home)
    assert (False, 0) == (again.behind, again.versions_added)


def test_a_lost_registry_is_founded_anew(registry_place: Home):
    life = Life(registry_place, seed=5)
    life.live(60)
    life.publish(rebase=True, resume=True)
    said, store_id = answers(life.home), found(life.home).store_id
    life.close()
    if life.home.external:
        with life.registry() as registry, registry.engine.begin() as connection:
            schema.metadata.drop_all(connection)
    else:
        life.home.registry_file.unlink()
    with pytest.raises(Conflict) as refused:
        found(life.home)
    assert refused.value.code == "REGISTRY_LOST" and "reconcile" in str(refused.value.hint)
    done = reconcile(life.home, now_s=life.now_s)
    assert (True, len(said), store_id) == (done.founded, done.versions_added, found(life.home).store_id)
    check_sound(life)
    life.publish()
    assert said == answers(life.home)
    life.key(life.client_ids()[0])
    life.publish()
    assert len(said) + 1 == len(answers(life.home))


@pytest.mark.parametrize("seed", range(4))
def test_random_lives(tmp_path: Path, seed: int):
    """Restored to any moment, and perhaps used since: what was published is answered as before, save denials added."""
    life = make_life(tmp_path / "home", seed)
    life.live(life.random.randrange(5, 30))
    life.publish()
    restore = life.back_up()
    life.live(life.random.randrange(1, 40))
    life.publish()
    said, tombs = answers(life.home), buried(life)
    manifest = Store(life.home.store).publication(Store(life.home.store).current() or 0,
                                                  Secrets(life.home.secrets).trust())
    restore()
    denials = {tag: answer for tag, answer in of_registry(life).items() if answer.revoked or answer.off}
    with life.registry() as registry:
        off = {client.client_id for client in clients.list_clients(registry) if not client.enabled}
    done = reconcile(life.home, now_s=life.now_s)
    check_sound(life)
    life.publish()
    now = answers(life.home)
    assert said.keys() <= now.keys() and tombs <= buried(life)
    off_keys = {key.key_id for key in all_keys(life) if key.client_id in off}
    for tag, wanted in said.items():
        kept, answer, found_now = denials.get(tag), wanted, now[tag]
        if manifest.held:  # a key has one label again, and what belongs to it is one thing
            whatever = {"scopes": (), "metadata": (), "rules": (), "superseded_at": None, "superseded_by": 0}
            answer, found_now = answer._replace(**whatever), found_now._replace(**whatever)
        if kept is None:
            assert answer._replace(off=answer.off or answer.key_id in off_keys) == found_now
        else:
            assert denied(answer) == denied(found_now)
            assert found_now.revoked == (answer.revoked or kept.revoked)
            assert found_now.off == (answer.off or kept.off)
    assert done.hold_cleared >= manifest.held
    life.live(10)
    life.publish()
    check_sound(life)


@pytest.mark.parametrize("seed", range(3))
def test_random_lives_with_a_branch_of_their_own(tmp_path: Path, seed: int):
    """The restored registry was used before anybody reconciled it: numbers and ordinals clash."""
    life = make_life(tmp_path / "home", seed)
    life.live(15)
    life.publish()
    restore = life.back_up()
    life.live(25)
    life.publish()
    said = answers(life.home)
    restore()
    for _ in range(12):
        life.step()  # publishing is refused, all else is done
    reconcile(life.home, now_s=life.now_s)
    check_sound(life)
    ordinals = [version.ordinal for key in all_keys(life) for version in key.versions]
    assert len(ordinals) == len(set(ordinals))
    life.publish()
    now = answers(life.home)
    assert said.keys() <= now.keys()
    for tag, answer in said.items():
        assert (answer.key_id, answer.version, answer.not_before) == (*now[tag][:2], now[tag].not_before)
        assert now[tag].revoked >= answer.revoked and (now[tag].off >= answer.off)
        if answer.reason is COMPROMISE:
            assert now[tag].reason is COMPROMISE


def of_registry(life: Life) -> dict[bytes, Answer]:
    """What the registry would publish."""
    found = {}
    with life.registry() as registry, registry.read() as connection:
        off = set(queries.clients_off(connection))
        for key in queries.list_keys(connection):
            for version in key.versions:
                found[version.tag] = Answer(
                    key.key_id, version.number, version.revoked_at is not None, version.reason,
                    not key.enabled or key.client_ordinal in off, None, None, None, 0, (), (), (),
                )  # fmt: skip
    return found


def buried(life: Life) -> set[bytes]:
    with life.registry() as registry, registry.read() as connection:
        return {entry.tag for entry in tombstones.ascending(connection)}


class TestClashes:
    @pytest.fixture
    def life(self, tmp_path: Path) -> Life:
        life = make_life(tmp_path / "home")
        self.key = life.key(life.client())
        life.publish()
        self.restore = life.back_up()
        return life

    def test_the_published_version_has_its_number(self, life: Life):
        life.rotate(self.key, overlap_s=3600)
        life.publish()
        said = answers(life.home)
        published = life.tokens[self.key, 2]
        self.restore()
        life.rotate(self.key, overlap_s=60)
        assert published != life.tokens[self.key, 2]
        done = reconcile(life.home, now_s=life.now_s)
        assert 1 == done.replaced
        life.publish()
        assert said == answers(life.home)

    def test_ordinals_of_published_versions_are_kept_for_usage(self, life: Life):
        life.key("client1")
        life.publish()
        published = {key.key_id: key.label.ordinal for key in all_keys(life)}
        self.restore()
        other = life.key("client1")
        reconcile(life.home)
        now = {key.key_id: key.label.ordinal for key in all_keys(life)}
        assert published == {key_id: now[key_id] for key_id in published}
        assert now[other] not in published.values()
        assert now[other] < life_counters(life)[2]

    def test_ordinals_of_clients(self, life: Life):
        new = life.client()
        life.key(new)
        life.do(clients.set_client_enabled, new, False)
        life.publish()
        said = answers(life.home)
        self.restore()
        life.clients += 1
        mine = life.client()  # has the ordinal that the other one has in the publication
        reconcile(life.home)
        life.publish()
        assert said == answers(life.home)
        with life.registry() as registry:
            enabled = {client_id: clients.show_client(registry, client_id).client.enabled for client_id in (new, mine)}
        assert {new: False, mine: True} == enabled

    def test_going_back_to_what_was_published_before(self, life: Life):
        new = life.client()
        key_id = life.key(new)
        revision = life.publish().revision
        self.restore()
        life.clients += 1
        mine = life.client()  # has the ordinal that the other one has in the publication
        other = life.key(mine)
        reconcile(life.home)
        life.do(clients.set_client_enabled, mine, False)
        life.publish()
        with life.registry() as registry:
            roll_back(life.home, revision, registry=registry, now_s=life.now_s)
        off = {answer.key_id: answer.off for answer in answers(life.home).values()}
        assert {key_id: False, other: True} == {name: off[name] for name in (key_id, other)}

    def test_going_back_at_once_tells_of_what_was_compromised_meanwhile(self, life: Life):
        life.key("client1")
        life.publish()
        self.restore()
        life.revoke(life.key("client1"))
        life.revoke(life.key("client1"))
        assert reconcile(life.home).behind
        with life.registry() as registry:
            done = roll_back(life.home, 1, registry=registry, allow_drop=True, now_s=life.now_s)
        assert 2 == sum(file.count for file in done.manifest.tombstones)

    def test_a_client_without_keys_stays_off(self, life: Life):
        idle = life.client()
        self.restore = life.back_up()
        life.do(clients.set_client_enabled, idle, False)
        life.publish()
        self.restore()
        life.now_s += 1
        mine = life.client()
        reconcile(life.home)
        key_id = life.key(idle)
        life.publish()
        assert [True] == [answer.off for answer in answers(life.home).values() if answer.key_id == key_id]
        with life.registry() as registry:
            assert clients.show_client(registry, mine).client.enabled

    def test_a_token_that_was_imported_elsewhere_meanwhile(self, life: Life):
        issued = life.key("client1")
        life.publish()
        said = answers(life.home)
        self.restore()
        digest = hashlib.sha256(life.tokens[issued, 1].encode()).digest()
        life.do(issuing.issue_key, life.peppers(), "client1", Terms(), secret_sha256=digest)
        done = reconcile(life.home)
        assert 1 == done.replaced
        check_sound(life)
        life.publish()
        assert said == answers(life.home)

    def test_what_was_issued_meanwhile_stays(self, life: Life):
        life.key("client1")
        life.publish()
        self.restore()
        mine = life.key("client1")
        reconcile(life.home)
        life.publish()
        with Keyring.open(life.home.folder, watch=False) as keyring:
            assert Verdict.VALID == keyring.verify(life.tokens[mine, 1]).verdict

    def test_a_pepper_that_was_added_after_the_backup(self, life: Life):
        life.key("client1")
        secrets = Secrets(life.home.secrets)
        secrets.add_pepper("p2")
        life.do(rekeying.add_pepper, "p2", secrets.peppers())
        life.revoke(self.key, 1)
        life.publish()
        said = answers(life.home)
        self.restore()
        assert len(life.peppers()) == 1
        reconcile(life.home)
        life.publish()
        assert said == answers(life.home) and len(life.peppers()) == 2

    def test_a_pepper_that_was_added_before_reconciling(self, life: Life):
        life.revoke(life.key("client1"))
        life.publish()
        said = answers(life.home)
        self.restore()
        secrets = Secrets(life.home.secrets)
        secrets.add_pepper("p2")
        life.do(rekeying.add_pepper, "p2", secrets.peppers())
        reconcile(life.home)
        life.publish()
        assert sorted(said.values()) == sorted(answers(life.home).values())
        with Keyring.open(life.home.folder, watch=False) as keyring:
            assert Verdict.VALID == keyring.verify(life.tokens[self.key, 1]).verdict

    def test_other_peppers_are_not_guessed(self, life: Life):
        life.publish()
        life.key("client1")
        life.publish()
        self.restore()
        with life.registry() as registry, registry.write() as connection:
            connection.execute(update(schema.registry).values(peppers="p9"))
        with pytest.raises(Conflict) as refused:
            reconcile(life.home)
        assert refused.value.code == "OTHER_PEPPERS"


def life_counters(life: Life) -> tuple[int, int, int]:
    with life.registry() as registry, registry.read() as connection:
        row = schema.registry.c
        return tuple(connection.execute(select(row.next_client, row.next_key, row.next_version)).one())  # type: ignore[return-value]


def test_what_does_not_belong_together_is_refused(tmp_path: Path):
    life, other = make_life(tmp_path / "home"), make_life(tmp_path / "other")
    for each in (life, other):
        each.key(each.client())
        each.publish()
    life.close()
    other.close()
    other.home.registry_file.unlink()
    life.home.registry_file.rename(other.home.registry_file)
    with pytest.raises(Conflict) as refused:
        reconcile(other.home)
    assert refused.value.code == "OTHER_STORE"
    with pytest.raises(NotFound, match="nothing was published"):
        reconcile(make_life(tmp_path / "third").home)


def test_a_store_that_is_the_older_one_is_refused(tmp_path: Path):
    life = make_life(tmp_path / "home")
    life.key(life.client())
    life.publish()
    life.key("client1")
    life.publish()
    Store(life.home.store).pointer.write_text("1\n")
    with pytest.raises(Conflict) as refused:
        reconcile(life.home)
    assert refused.value.code == "STORE_BEHIND"


def test_a_damaged_publication_teaches_nothing(tmp_path: Path):
    life = make_life(tmp_path / "home")
    life.key(life.client())
    restore = life.back_up()
    manifest = life.publish().manifest
    restore()
    path = Store(life.home.store).keyring_path(manifest.base.sha256)
    data = bytearray(path.read_bytes())
    data[9000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnsoundPublication) as refused:
        reconcile(life.home)
    assert refused.value.code in ("BAD_DIGEST", "FORMAT")
    with life.registry() as registry, registry.read() as connection:
        assert 0 == queries.state(connection).last_revision


def test_its_own_publication_is_no_reason(tmp_path: Path):
    """A publisher died before the registry noted the revision: nothing was lost, and an enabled key stays enabled."""
    life = make_life(tmp_path / "home")
    key = life.key(life.client())
    life.do(keys.set_key_enabled, key, False)
    life.publish()
    with life.registry() as registry, registry.write() as connection:
        connection.execute(update(schema.registry).values(last_revision=0))
    life.do(keys.set_key_enabled, key, True)
    assert not reconcile(life.home).behind
    life.publish()
    assert [False] == [answer.off for answer in answers(life.home).values()]


def test_an_error_on_the_way_leaves_the_registry_as_it_was(registry_place: Home, monkeypatch: pytest.MonkeyPatch):
    life = Life(registry_place)
    life.key(life.client())
    life.publish()
    restore = life.back_up()
    life.revoke(life.key("client1"))
    life.publish()
    restore()
    before = list(all_keys(life))

    def fail(_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Adoption, "settle", fail)
        with pytest.raises(RuntimeError):
            reconcile(life.home)
    assert before == list(all_keys(life))
    assert reconcile(life.home).behind and 2 == len(list(all_keys(life)))


def test_founding_that_was_cut_short_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    life = make_life(tmp_path / "home")
    life.key(life.client())
    life.publish()
    said, store_id = answers(life.home), found(life.home).store_id
    life.close()
    life.home.registry_file.unlink()

    def die(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Adoption, "settle", die)
        with pytest.raises(KeyboardInterrupt):
            reconcile(life.home)
    assert found(life.home).store_id != store_id
    with pytest.raises(Conflict):
        life.publish()
    assert 1 == reconcile(life.home).versions_added
    assert store_id == found(life.home).store_id
    life.publish()
    assert said == answers(life.home)
