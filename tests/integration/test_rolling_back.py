"""Going back and holding: what is served is the content of then with the denials of now, until somebody resumes."""

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.integration.test_deltas import built_anew, edit, issue, rotate, state_of
from tests.support.databases import back_up
from tests.support.homes import add_keys, make_home
from tests.support.life import answers, make_life
from tests.support.served import manifest_of, served, told
from verifier.control import clients, holding, keys, publishing, reconciling, reinstating, rekeying, revoking, rotation
from verifier.control.acting import Actor, acting
from verifier.control.keys import KeyUpdate
from verifier.control.policy import FIXED
from verifier.control.publishing import publish
from verifier.control.rolling_back import compare_with_registry, roll_back
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.errors import Conflict, NotFound, UnsoundPublication, VerifierError
from verifier.registry import schema
from verifier.registry.database import open_registry
from verifier.serving.loading import load
from verifier.store.layout import Store
from verifier.store.secrets import Secrets
from verifier.vocabulary import RevocationReason, Verdict

NOW = 1_800_000_000
HOUR = 3600


@pytest.fixture
def home(quick_path):
    return make_home(quick_path / "home", keys=3)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_home(quick_path, request):
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return make_home(quick_path / "home", keys=3, registry=url)


def do(home, now_s, function, *arguments, **options):
    with open_registry(home) as registry, acting(registry, now_s=now_s) as act:
        return function(act, *arguments, **options)


def ids_of(home):
    with open_registry(home) as registry:
        return [key.key_id for key in keys.list_keys(registry)]


def refused(code, function, *arguments, **options):
    with pytest.raises(VerifierError) as caught:
        function(*arguments, **options)
    assert code == caught.value.code
    return caught.value


def revocation(record):
    return record.revoked, record.reason


def verdict(home, token):
    view = load(Store(home.store), Store(home.store).current(), Secrets(home.secrets))
    return view.verify(token).verdict


def test_a_bad_mass_rotation(any_home):
    """The first worked example, minute by minute."""
    home = any_home
    k, el = ids_of(home)[:2]
    peppers = list(Secrets(home.secrets).peppers().values())
    r100 = publish(home, now_s=NOW).revision
    do(home, NOW + 300, rotation.rotate, k, RotateTerms(overlap_s=HOUR, clock=FIXED), NewSecret(peppers))
    publish(home, now_s=NOW + 300)
    do(home, NOW + 420, revoking.revoke_version, el, None, RevocationReason.KEY_COMPROMISE)
    publish(home, now_s=NOW + 420)
    em = issue(home).key.key_id
    publish(home, now_s=NOW + 600)
    receipt = roll_back(home, r100, now_s=NOW + 1200)
    assert (True, r100, 5) == (receipt.manifest.held, receipt.manifest.content_of, receipt.revision)
    records, _ = told(home)
    assert (None, None, 0) == (
        records[k, 1].expires_at, records[k, 1].superseded_at, records[k, 1].superseded_by)
    assert (False, None) == (records[k, 2].revoked, records[k, 2].expires_at)
    assert (True, RevocationReason.KEY_COMPROMISE) == (records[el, 1].revoked, records[el, 1].reason)
    assert not records[em, 1].revoked
    error = refused("HELD", publish, home, now_s=NOW + 3900)
    assert (f"held at {r100} since r5", "publish --resume" in error.hint) == (error.message, True)
    do(home, NOW + 3900, revoking.revoke_version, em, None, RevocationReason.KEY_COMPROMISE)
    receipt = publish(home, held_ok=True, now_s=NOW + 3900)
    assert (6, True, r100, 1) == (
        receipt.revision, receipt.manifest.held, receipt.manifest.content_of, receipt.difference.lost)
    assert told(home)[0][em, 1].revoked
    assert told(home)[0][k, 1].expires_at is None
    after = NOW + 300 + HOUR + 60
    with open_registry(home) as registry, registry.write() as connection:
        connection.execute(
            update(schema.versions).where(schema.versions.c.number == 1).values(last_used_at=after - 30)
        )
    preview = publish(home, resume=True, dry_run=True, now_s=after)
    assert (1, 1, 6) == (preview.difference.lost, preview.difference.lost_used_24h, Store(home.store).current())
    do(home, after, rotation.roll_back_key, k)
    receipt = publish(home, resume=True, now_s=after)
    records, _ = told(home)
    assert (False, 7, 7) == (receipt.manifest.held, receipt.manifest.content_of, receipt.revision)
    assert (None, 1) == (records[k, 1].superseded_at, records[k, 2].superseded_by)
    assert (None, None, False) == (state_of(home).hold, state_of(home).held_since, state_of(home).drop_newer)
    assert built_anew(home) == served(home)


def test_denials_and_grants(any_home):
    """The second worked example: what was denied since stays denied, what was granted then is granted again."""
    home = any_home
    edit(home, clients.create_client, "other")
    issued = issue(home, "other", scopes=("read", "trade"))
    x = issued.key.key_id
    r200 = publish(home).revision
    edit(home, keys.update_key, x, KeyUpdate(scopes=("read",)))
    publish(home)
    edit(home, clients.set_client_enabled, "other", False)
    publish(home)
    with open_registry(home) as registry, acting(registry) as act:
        revoking.revoke_version(act, x)
        audit_id = act.audit_id
    publish(home)
    preview = roll_back(home, r200, dry_run=True).difference
    assert (1, 0, 0, 2) == (preview.widened, preview.gained, preview.lost, preview.denials_kept)
    assert (4, None) == (Store(home.store).current(), state_of(home).hold)
    assert 2 == roll_back(home, r200).to_json()["difference"]["denials_kept"]
    assert Verdict.REVOKED == verdict(home, issued.token)
    edit(home, reinstating.reinstate, audit_id)
    publish(home, held_ok=True)
    assert Verdict.CLIENT_DISABLED == verdict(home, issued.token)
    edit(home, clients.set_client_enabled, "other", True)
    publish(home, held_ok=True)
    assert Verdict.VALID == verdict(home, issued.token)
    assert ("read", "trade") == told(home)[0][x, 1].scopes
    publish(home, resume=True)
    assert ("read",) == told(home)[0][x, 1].scopes


def test_a_restored_database(any_home):
    """The third worked example: reconcile, then publish, then go back across bases."""
    home = any_home
    p = ids_of(home)[0]
    r300 = publish(home).revision
    first_base = manifest_of(home).base.sha256
    restore = back_up(home)
    issue(home)
    publish(home, rebase=True)
    assert first_base != manifest_of(home).base.sha256
    edit(home, revoking.revoke_version, p, reason=RevocationReason.KEY_COMPROMISE)
    publish(home)
    q = issue(home)
    r313 = publish(home).revision
    restore()
    assert "REGISTRY_BEHIND" == refused("REGISTRY_BEHIND", publish, home).code
    assert r313 == Store(home.store).current()
    before = told(home)
    assert (2, 1) == (
        (done := reconciling.reconcile(home)).versions_added, done.revoked)
    publish(home)
    assert before == told(home)
    receipt = roll_back(home, r300)
    assert (first_base, r300) == (receipt.manifest.base.sha256, receipt.manifest.content_of)
    records, _ = told(home)
    assert records[p, 1].revoked
    assert not records[q.key.key_id, 1].revoked
    assert Verdict.VALID == verdict(home, q.token)
    publish(home, resume=True)
    assert before == told(home)


def test_resuming_gives_the_bytes_of_a_store_that_was_never_held(home, quick_path):
    publish(home)
    ids = add_keys(home, 2)
    publish(home)
    edit(home, revoking.revoke_version, ids[0])
    publish(home)
    twin = type(home)(quick_path / "twin")
    shutil.copytree(home.folder, twin.folder)
    roll_back(home, 1, drop_newer=True)
    for place in (home, twin):
        edit(place, revoking.revoke_version, ids[1])
        edit(place, clients.set_client_enabled, "acme", False)
        publish(place, held_ok=True)
        edit(place, clients.set_client_enabled, "acme", True)
    publish(home, resume=True)
    publish(twin)
    mine, other = manifest_of(home), manifest_of(twin)
    assert (mine.base, mine.delta, mine.tombstones) == (other.base, other.delta, other.tombstones)
    assert (mine.records, mine.active) == (other.records, other.active)


def test_newer_keys_are_refused_if_asked_and_come_back(home):
    publish(home)
    newer = issue(home)
    revoked = edit(home, revoking.revoke_version, issue(home).key.key_id, reason=RevocationReason.SUPERSEDED).key
    publish(home)
    receipt = roll_back(home, 1, drop_newer=True)
    assert 1 == receipt.difference.lost
    records, _ = told(home)
    assert (True, RevocationReason.UNSPECIFIED) == revocation(records[newer.key.key_id, 1])
    assert RevocationReason.SUPERSEDED == records[revoked.key_id, 1].reason
    assert Verdict.REVOKED == verdict(home, newer.token)
    later = issue(home)
    publish(home, held_ok=True)
    assert Verdict.REVOKED == verdict(home, later.token)
    publish(home, resume=True)
    assert [Verdict.VALID] * 2 == [verdict(home, each.token) for each in (newer, later)]


def test_a_held_revision_leads_to_the_content_it_had(home):
    publish(home)
    issue(home)
    publish(home)
    roll_back(home, 1)
    publish(home, resume=True)
    issue(home)
    publish(home)
    receipt = roll_back(home, 3)  # which was held at 1
    assert (1, 1) == (receipt.manifest.content_of, state_of(home).hold)
    receipt = roll_back(home, 2)  # from one hold to another
    assert (2, 2, receipt.revision) == (receipt.manifest.content_of, state_of(home).hold, state_of(home).held_since)


def test_going_back_twice_to_the_same_is_no_second_revision(home):
    publish(home)
    issue(home)
    publish(home)
    assert [True, False] == [roll_back(home, 1).changed for _ in range(2)]
    assert (3, 3) == (Store(home.store).current(), state_of(home).held_since)


def test_ordinary_changes_are_recorded_and_not_served(home):
    key_id = ids_of(home)[0]
    publish(home)
    issue(home)
    publish(home)
    roll_back(home, 1)
    edit(home, keys.update_key, key_id, KeyUpdate(scopes=("read", "trade")))
    receipt = publish(home, held_ok=True)
    assert (False, 0) == (receipt.changed, state_of(home).pending_changes)
    rotate(home, key_id)
    assert publish(home, held_ok=True).changed  # the new version may be in somebody's hands
    records, _ = told(home)
    assert (("read",), None) == (records[key_id, 1].scopes, records[key_id, 1].superseded_at)
    difference = compare_with_registry(home, resume=True)
    assert (1, 0, 0) == (difference.widened, difference.gained, difference.lost)
    publish(home, resume=True)
    records, _ = told(home)
    assert ("read", "trade") == records[key_id, 1].scopes
    assert records[key_id, 1].superseded_at is not None


def test_a_held_store_is_published_by_what_changed_only(home, monkeypatch):
    ids = add_keys(home, 3)
    publish(home)
    publish(home)
    edit(home, revoking.revoke_version, ids[0])
    publish(home)
    roll_back(home, 1)
    monkeypatch.setattr(holding, "begin", lambda *_: pytest.fail("begun anew without need"))
    monkeypatch.setattr(publishing, "compare", lambda *_, **__: pytest.fail("compared record by record"))
    edit(home, revoking.revoke_version, ids[1])
    assert 1 == publish(home, held_ok=True).difference.lost


def test_a_dry_run_changes_nothing(home):
    publish(home)
    issue(home)
    publish(home)
    before = sorted(home.store.rglob("*")), state_of(home)
    preview = roll_back(home, 1, drop_newer=True, dry_run=True, examples_max=3)
    assert before == (sorted(home.store.rglob("*")), state_of(home))
    assert (True, 1, ["lost", "denied"]) == (
        preview.manifest.held, preview.difference.lost, [example.kind for example in preview.difference.examples])
    assert preview.difference == roll_back(home, 1, drop_newer=True, examples_max=3).difference


def test_the_drop_guard_watches_over_going_back(home):
    publish(home)
    add_keys(home, 12)
    publish(home)
    error = refused("DROP_GUARD", roll_back, home, 1, drop_newer=True)
    assert (12, 15) == (error.details["lost"], error.details["active"])
    assert (2, None) == (Store(home.store).current(), state_of(home).hold)
    assert roll_back(home, 1, drop_newer=True, allow_drop=True).manifest.drop_override


def test_only_what_is_there_and_sound_can_be_gone_back_to(home):
    publish(home)
    issue(home)
    publish(home, rebase=True)
    issue(home)
    publish(home, rebase=True)
    for revision in (0, 4):
        with pytest.raises(NotFound) as caught:
            roll_back(home, revision)
        assert "REVISION_NOT_FOUND" == caught.value.code
    path = Store(home.store).keyring_path(manifest_of(home, 1).base.sha256)
    data = bytearray(path.read_bytes())
    data[20000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnsoundPublication) as damaged:
        roll_back(home, 1)
    assert "BAD_DIGEST" == damaged.value.code
    path.unlink()
    with pytest.raises(NotFound):
        roll_back(home, 1)
    assert (3, None) == (Store(home.store).current(), state_of(home).hold)
    assert roll_back(home, 2).changed


def leak(home, pepper):
    with open_registry(home) as registry, registry.write() as connection:
        connection.execute(update(schema.registry).values(leaked_peppers=pepper))


def lay_pepper(home, pepper="p2"):
    Secrets(home.secrets).add_pepper(pepper)
    edit(home, rekeying.add_pepper, pepper, Secrets(home.secrets).peppers())


def test_going_back_under_a_further_pepper_makes_the_tags_anew(any_home):
    home = any_home
    first, second = issue(home), issue(home)
    publish(home)
    edit(home, keys.update_key, first.key.key_id, KeyUpdate(scopes=("read", "trade")))
    lay_pepper(home)
    third = issue(home)
    publish(home)
    edit(home, revoking.revoke_version, second.key.key_id)
    receipt = roll_back(home, 1)
    manifest = receipt.manifest
    assert (("p1", "p2"), None) == (manifest.base.peppers, manifest_of(home, 1).delta)
    assert manifest.base.sha256 not in {manifest_of(home, 1).base.sha256, manifest_of(home, 2).base.sha256}
    tokens = [issued.token for issued in (first, second, third)]
    assert [Verdict.VALID, Verdict.REVOKED, Verdict.VALID] == [verdict(home, token) for token in tokens]
    assert () == told(home)[0][first.key.key_id, 1].scopes
    edit(home, revoking.revoke_version, third.key.key_id)
    fourth = issue(home)
    again = publish(home, held_ok=True).manifest
    assert manifest.base == again.base
    assert [Verdict.REVOKED, Verdict.VALID] == [verdict(home, issued.token) for issued in (third, fourth)]
    assert () == told(home)[0][first.key.key_id, 1].scopes
    lay_pepper(home, "p3")
    assert ("p1", "p2", "p3") == publish(home, held_ok=True).manifest.base.peppers
    assert [Verdict.VALID, Verdict.REVOKED, Verdict.REVOKED] == [verdict(home, token) for token in tokens]
    assert () == told(home)[0][first.key.key_id, 1].scopes
    publish(home, resume=True)
    assert ("read", "trade") == told(home)[0][first.key.key_id, 1].scopes


def test_peppers_that_the_old_ones_do_not_lead_to_are_refused(home):
    publish(home)
    issue(home)
    publish(home)
    with open_registry(home) as registry, registry.write() as connection:
        connection.execute(update(schema.registry).values(peppers="p9"))
    refused("PEPPER_MISSING", roll_back, home, 1)


def test_a_leaked_pepper_is_never_published_with_again(home):
    publish(home)
    lay_pepper(home)
    leak(home, "p1")
    issue(home)
    publish(home)
    error = refused("PEPPER_LEAKED", roll_back, home, 1)
    assert "p1" in error.message
    assert state_of(home).hold is None


def test_the_log_says_who_went_back_and_who_resumed(home):
    publish(home)
    issue(home)
    publish(home)
    roll_back(home, 1, actor=Actor("token:anna", "r-1", "a bad rotation"))
    publish(home, resume=True, actor=Actor("token:bert"))
    with open_registry(home) as registry, registry.read() as connection:
        rows = connection.execute(
            select(schema.audit).where(schema.audit.c.revision.is_not(None)).order_by(schema.audit.c.sequence)
        ).mappings().all()
    assert [("publication.publish", 1), ("publication.publish", 2), ("publication.rollback", 3),
            ("publication.resume", 4)] == [(row["action"], row["revision"]) for row in rows]
    assert ["token:anna", "token:bert"] == [row["principal"] for row in rows[2:]]
    details = json.loads(rows[2]["details"])
    assert (1, True, "a bad rotation", "r-1") == (
        details["content_of"], details["held"], details["note"], rows[2]["request_id"])


def test_the_registry_can_be_compared_with_any_publication(home):
    publish(home)
    first = issue(home)
    publish(home)
    edit(home, revoking.revoke_version, first.key.key_id)
    issue(home)
    assert (1, 1) == ((now := compare_with_registry(home)).gained, now.lost)
    assert (1, 0) == ((then := compare_with_registry(home, 1)).gained, then.lost)
    assert 2 == Store(home.store).current()


def test_a_conflict_leaves_a_hold_as_it_was(home):
    publish(home)
    issue(home)
    publish(home)
    roll_back(home, 1)
    add_keys(home, 1)
    refused("HELD", publish, home)
    refused("HELD", publish, home, rebase=True)
    assert (1, 3) == (state_of(home).hold, Store(home.store).current())
    with pytest.raises(Conflict):
        publish(home, resume=True, now_s=1)
    assert 1 == state_of(home).hold




def test_what_a_delta_of_then_said_is_kept_when_it_is_denied(home):
    key_id = ids_of(home)[0]
    publish(home)
    edit(home, keys.update_key, key_id, KeyUpdate(scopes=("read", "trade")))
    newer = issue(home).key.key_id
    goal = publish(home).revision
    edit(home, keys.update_key, key_id, KeyUpdate(scopes=("admin",)))
    publish(home)
    roll_back(home, goal, drop_newer=True)
    for each in (key_id, newer):
        edit(home, keys.set_key_enabled, each, False)
    publish(home, held_ok=True)
    records, _ = told(home)
    assert (("read", "trade"), True) == (records[key_id, 1].scopes, records[key_id, 1].key_off)
    assert (False, True) == (records[newer, 1].revoked, records[newer, 1].key_off)  # then it was issued already


def test_the_same_again_with_other_terms_is_noted(tmp_path: Path):
    """Nothing changes in what is served, but in what will be."""
    life = make_life(tmp_path / "home")
    client = life.client()
    life.key(client)
    life.publish()
    with life.registry() as registry:
        roll_back(life.home, 1, registry=registry, now_s=life.now_s)
        again = roll_back(life.home, 1, registry=registry, drop_newer=True, now_s=life.now_s)
        assert again.changed
        assert not roll_back(life.home, 1, registry=registry, drop_newer=True, now_s=life.now_s).changed
    newer = life.key(client)
    life.publish()
    assert [True] == [answer.revoked for answer in answers(life.home).values() if answer.key_id == newer]


def test_a_hold_that_a_restored_registry_does_not_know_is_noted(tmp_path: Path):
    life = make_life(tmp_path / "home")
    life.key(life.client())
    life.publish()
    restore = life.back_up()
    with life.registry() as registry:
        roll_back(life.home, 1, registry=registry, now_s=life.now_s)
    restore()
    assert reconciling.reconcile(life.home, now_s=life.now_s).hold_cleared
    with life.registry() as registry:
        roll_back(life.home, 1, registry=registry, now_s=life.now_s)
        with pytest.raises(Conflict) as held:
            publishing.publish(life.home, registry=registry, now_s=life.now_s)
    assert held.value.code == "HELD"
