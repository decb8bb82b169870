"""The publisher's side of tombstones: each publication's set holds the one before, and nothing it names comes alive."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from tests.support.acts import act_at
from tests.support.life import Life, answers, make_life
from verifier.control import issuing, rolling_back, tombstoning
from verifier.control.terms import Terms
from verifier.errors import Conflict
from verifier.registry import queries, schema, tombstones
from verifier.serving.keyring import Keyring
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.manifest import Manifest
from verifier.store.secrets import Secrets
from verifier.store.tombstones import Tombstone, read_set
from verifier.vocabulary import RevocationReason, Verdict

COMPROMISE = RevocationReason.KEY_COMPROMISE


@pytest.fixture
def life(registry_place: Home) -> Iterator[Life]:
    life = Life(registry_place)
    life.key(life.client())
    yield life
    life.close()


def named(life: Life, manifest: Manifest) -> dict[bytes, Tombstone]:
    """The set of a publication."""
    store = Store(life.home.store)
    return {
        entry.tag: entry for file in manifest.tombstones for entry in read_set(store.tombstone_path(file.sha256), file)
    }


def forget(life: Life) -> None:
    """Do what no command does: take tombstones away, and revocations with them."""
    with life.registry() as registry, registry.write() as connection:
        connection.execute(delete(schema.tombstones))
        connection.execute(update(schema.versions).values(revoked_at=None, reason=None))
        row = schema.registry
        connection.execute(update(row).values(changes=row.c.changes + 1))
        for version in connection.execute(schema.versions.select()).all():
            record = bytearray(version.record)
            record[16] &= ~1
            record[18] = 0
            connection.execute(
                update(schema.versions).where(schema.versions.c.ordinal == version.ordinal).values(record=bytes(record))
            )


def test_a_tombstone_tells_what_was_compromised_when(life: Life):
    key = life.key("client1")
    life.publish()
    life.revoke(key)
    (entry,) = named(life, life.publish().manifest).values()
    assert (key, 1, life.now_s) == (entry.key_id, entry.number, entry.revoked_at)
    assert [entry.tag] == [tag for tag, answer in answers(life.home).items() if answer.reason == COMPROMISE]


def test_other_reasons_make_none_until_they_are_strengthened(life: Life):
    key = life.key("client1")
    life.revoke(key, reason=RevocationReason.SUPERSEDED)
    assert () == life.publish().manifest.tombstones
    life.revoke(key, 1)
    assert 1 == len(named(life, life.publish().manifest))


def test_an_emergency_rewrites_only_the_second_file(life: Life):
    ids = [life.key("client1") for _ in range(6)]
    life.revoke(ids[0])
    first = life.publish(rebase=True).manifest.tombstones
    life.revoke(ids[1])
    second = life.publish().manifest.tombstones
    life.revoke(ids[2])
    third = life.publish().manifest.tombstones
    assert first == second[:1] == third[:1] and [1, 1, 2] == [first[0].count, second[1].count, third[1].count]
    assert third == life.publish().manifest.tombstones
    merged = life.publish(rebase=True).manifest.tombstones
    assert [3] == [file.count for file in merged]
    life.key("client1")
    assert merged == life.publish().manifest.tombstones


def test_sets_only_grow_through_everything(tmp_path: Path):
    for seed in range(4):
        life = make_life(tmp_path / str(seed), seed)
        life.live(40)
        life.publish(resume=True)
        store, trust = Store(life.home.store), Secrets(life.home.secrets).trust()
        before: set[bytes] = set()
        for revision in store.revisions():
            now = named(life, store.publication(revision, trust)).keys()
            dead = {tag for tag, answer in answers(life.home, revision).items() if answer.reason == COMPROMISE}
            assert before <= now and now == dead
            before = set(now)
        life.close()
        assert seed or before


@pytest.mark.parametrize("rebase", [False, True])
@pytest.mark.parametrize("base_first", [False, True])
def test_the_union_alone_keeps_them_dead(life: Life, rebase: bool, base_first: bool):
    """The registry forgot everything about compromises, and nobody noticed: the publication before still knows."""
    ids = [life.key("client1") for _ in range(3)]
    life.publish()
    life.revoke(ids[0])
    life.publish(rebase=base_first)
    life.revoke(ids[1])
    before = named(life, life.publish().manifest)
    forget(life)
    life.key("client1")
    manifest = life.publish(rebase=rebase).manifest
    assert before == named(life, manifest) and 2 == len(before)
    dead = [answer.key_id for answer in answers(life.home).values() if answer.reason == COMPROMISE]
    assert sorted(ids[:2]) == sorted(dead)
    with life.registry() as registry, registry.read() as connection:
        assert 2 == tombstones.count(connection)
        reasons = [queries.find_key(connection, key_id).label.reason for key_id in ids]
    assert [COMPROMISE, COMPROMISE, None] == reasons


def test_a_version_that_came_back_is_revoked_whatever_the_table_says(life: Life):
    key = life.key("client1")
    life.publish()
    life.revoke(key)
    life.publish()
    with life.registry() as registry, registry.write() as connection:
        version = queries.find_key(connection, key).label
        connection.execute(update(schema.versions).where(schema.versions.c.ordinal == version.ordinal).values(
            revoked_at=None, reason=None))  # fmt: skip
        assert [version.ordinal] == tombstones.resurrected(connection)
        assert [version.ordinal] == tombstones.resurrected(connection, delta_only=True)
    life.key("client1")
    life.publish()
    with Keyring.open(life.home.folder, watch=False) as keyring:
        assert Verdict.REVOKED == keyring.verify(life.tokens[key, 1]).verdict


def test_through_rollback_and_resume(life: Life):
    key = life.key("client1")
    life.publish()
    life.revoke(key)
    life.publish()
    with life.registry() as registry:
        held = rolling_back.roll_back(life.home, 1, registry=registry, now_s=life.now_s).manifest
    assert 1 == len(named(life, held))
    other = life.key("client1")
    life.revoke(other)
    assert 2 == len(named(life, life.publish().manifest))
    assert 2 == len(named(life, life.publish(resume=True).manifest))
    with Keyring.open(life.home.folder, watch=False) as keyring:
        found = [keyring.verify(life.tokens[each, 1]).verdict for each in (key, other)]
    assert [Verdict.REVOKED, Verdict.REVOKED] == found


def test_a_compromised_token_is_never_taken_again(life: Life):
    key = life.key("client1")
    life.revoke(key)
    digest = hashlib.sha256(life.tokens[key, 1].encode()).digest()
    with life.registry() as registry, registry.write() as connection:
        version = queries.find_key(connection, key).label
        connection.execute(delete(schema.dirty))
        connection.execute(delete(schema.versions).where(schema.versions.c.ordinal == version.ordinal))
    with pytest.raises(Conflict) as refused:
        life.do(issuing.issue_key, life.peppers(), "client1", Terms(), secret_sha256=digest)
    assert refused.value.code == "TOMBSTONED"


def test_nothing_is_written_where_nothing_is_wrong(life: Life):
    life.revoke(life.key("client1"))
    manifest = life.publish().manifest
    with life.registry() as registry:
        for rebase in (False, True):
            assert 0 == tombstoning.unite(registry, Store(life.home.store), manifest, {}, rebase=rebase)
        assert (0, 0) == act_at(life.now_s, registry, tombstoning.enforce)


def test_many_are_compared_in_bulk(life: Life):
    """More than are looked at one by one, of versions that exist nowhere."""
    entries = [Tombstone(hashlib.sha256(b"%d" % at).digest(), "gone", 1, 7) for at in range(tombstoning.MANY + 500)]
    with life.registry() as registry, registry.write() as connection:
        assert len(entries) == tombstones.add(connection, entries)
        assert 0 == tombstones.add(connection, entries[:10])
    manifest = life.publish(rebase=True).manifest
    with life.registry() as registry, registry.write() as connection:
        some = sorted(entry.tag for entry in entries)[5:8]
        connection.execute(delete(schema.tombstones).where(schema.tombstones.c.tag.in_(some)))
    with life.registry() as registry:
        assert 3 == tombstoning.unite(registry, Store(life.home.store), manifest, {}, rebase=True)
        with registry.read() as connection:
            assert sorted(entries, key=lambda entry: entry.tag) == list(tombstones.ascending(connection))
            tags = b"".join(tombstones.tags(connection))
    assert tags == b"".join(sorted(entry.tag for entry in entries))
