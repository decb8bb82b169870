"""Deltas: they say what a base built from the same registry would say, and cost what the changes cost."""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, func, select

from tests.support.acts import act
from tests.support.homes import add_keys, make_home
from tests.support.served import contents, keyrings_of, manifest_of, served
from verifier.control import building, clients, issuing, keys, revoking, rotation
from verifier.control.building import Builder, Compaction
from verifier.control.comparing import compare
from verifier.control.keys import KeyUpdate
from verifier.control.policy import MANUAL
from verifier.control.publishing import DropGuard, publish
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.control.terms import Terms
from verifier.errors import Conflict, VerifierError
from verifier.keyring.records import decode_record
from verifier.registry import changes, queries, schema
from verifier.registry.database import open_registry
from verifier.serving.loading import load
from verifier.store.layout import Store
from verifier.store.manifest import digest_of
from verifier.store.secrets import Secrets
from verifier.vocabulary import RevocationReason


@pytest.fixture
def home(quick_path):
    return make_home(quick_path / "home", keys=6)


def edit(home, function, *arguments, **options):
    with open_registry(home) as registry:
        return act(registry, function, *arguments, **options)


def issue(home, client_id="acme", **terms):
    with open_registry(home) as registry:
        peppers = issuing.pepper_secrets(registry, Secrets(home.secrets).peppers())
        return act(registry, issuing.issue_key, peppers, client_id, Terms(**terms))


def rotate(home, key_id):
    with open_registry(home) as registry:
        peppers = issuing.pepper_secrets(registry, Secrets(home.secrets).peppers())
        return act(registry, rotation.rotate, key_id, RotateTerms(clock=MANUAL), NewSecret(peppers))


def state_of(home):
    with open_registry(home) as registry, registry.read() as connection:
        return queries.state(connection)


def count_dirty(home):
    with open_registry(home) as registry, registry.read() as connection:
        return connection.scalar(select(func.count()).select_from(schema.dirty))


def built_anew(home):
    """Return the contents of a base built from the registry as it is."""
    with tempfile.TemporaryDirectory() as folder, open_registry(home) as registry, registry.read() as connection:
        builder = Builder(Store(home.store), Path(folder))
        return contents(builder.keyrings(builder.base(connection, queries.state(connection))))


class World:
    """A home, and random things done to it."""

    def __init__(self, folder, choices):
        self.home = make_home(folder, keys=4)
        self.choose = choices
        self.tokens = [issue(self.home).token for _ in range(2)]
        edit(self.home, clients.create_client, "other")

    def key(self):
        with open_registry(self.home) as registry:
            return self.choose(list(keys.list_keys(registry))).key_id

    def step(self, what):
        home = self.home
        reason = self.choose([RevocationReason.SUPERSEDED, RevocationReason.KEY_COMPROMISE])
        steps = {
            "issue": lambda: self.tokens.append(issue(home, self.choose(["acme", "other"])).token),
            "other prefix": lambda: self.tokens.append(issue(home, prefix=self.choose(["vk_test", "zz"])).token),
            "revoke": lambda: edit(home, revoking.revoke_version, self.key(), reason=reason),
            "key off": lambda: edit(home, keys.set_key_enabled, self.key(), False),
            "key on": lambda: edit(home, keys.set_key_enabled, self.key(), True),
            "client off": lambda: edit(home, clients.set_client_enabled, self.choose(["acme", "other"]), False),
            "client on": lambda: edit(home, clients.set_client_enabled, self.choose(["acme", "other"]), True),
            "scopes": lambda: edit(
                home, keys.update_key, self.key(), KeyUpdate(scopes=self.choose([("read",), ("read", "trade"), ()]))
            ),
            "rotate": lambda: self.tokens.append(rotate(home, self.key()).token),
        }
        try:
            steps[what]()
        except VerifierError as error:
            assert error.exit_code in {2, 4}  # the rules of a key's life forbid it


STEPS = ["issue", "other prefix", "revoke", "key off", "key on", "client off", "client on", "scopes", "rotate"]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    bursts=st.lists(st.lists(st.sampled_from(STEPS), min_size=1, max_size=4), min_size=2, max_size=6),
    seed=st.integers(0, 999),
)
def test_a_delta_says_what_a_base_would(quick_path, bursts, seed):
    folder = Path(tempfile.mkdtemp(dir=quick_path))
    world = World(folder / "home", random.Random(seed).choice)
    home = world.home
    publish(home)
    for burst in bursts:
        for what in burst:
            world.step(what)
        before = manifest_of(home)
        receipt = publish(home, allow_drop=True)
        manifest, expected = receipt.manifest, built_anew(home)
        assert expected == served(home)
        assert served(home, before.revision)[0].keys() <= expected[0].keys()  # nothing turns UNKNOWN
        assert manifest.records == len(expected[0])
        counted = compare(
            keyrings_of(home, before), keyrings_of(home, manifest), manifest.published_at, examples_max=1000
        )
        kept = ("lost_used_24h", "denials_kept", "before_active", "after_active", "dead_on_arrival")
        assert [
            (name, number) for name, number in counted.counts().items() if name not in kept
        ] == [(name, number) for name, number in receipt.difference.counts().items() if name not in kept]
        assert counted.after_active == manifest.active
        assert before.base.sha256 == manifest.base.sha256
    as_delta = answers(home, world.tokens)
    publish(home, rebase=True, allow_drop=True)
    assert manifest_of(home).delta is None
    assert as_delta == answers(home, world.tokens)
    shutil.rmtree(folder)


def answers(home, tokens):
    """Return everything that a node answers for the tokens, but the revision."""
    view = load(Store(home.store), Store(home.store).current(), Secrets(home.secrets))
    return [
        (answer.verdict, answer.phase, answer.key_id, answer.version, answer.scopes, answer.expires_at)
        for answer in view.verify_batch(tokens)
    ]


def test_a_change_makes_a_small_delta_and_back_again_none(home):
    base = publish(home).manifest.base
    edit(home, clients.set_client_enabled, "acme", False)
    second = publish(home).manifest
    assert (base, 0) == (second.base, second.delta.records)
    edit(home, clients.set_client_enabled, "acme", True)
    third = publish(home).manifest
    assert (base, None) == (third.base, third.delta)
    issue(home)
    assert (base, 1) == (publish(home).manifest.base, manifest_of(home).delta.records)
    add_keys(home, 2)
    assert 3 == publish(home).manifest.delta.records  # cumulative: all since the base


def statements(home, **options):
    """Publish, and return the SQL that it needed."""
    said = []
    with open_registry(home) as registry:
        event.listen(registry.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
        receipt = publish(home, registry=registry, **options)
    return receipt, said


def test_nothing_to_do_is_seen_without_a_look_at_any_version(home, monkeypatch):
    publish(home)
    issue(home)
    first = publish(home)
    monkeypatch.setattr(building, "build_keyring", lambda *_, **__: pytest.fail("built without need"))
    receipt, said = statements(home)
    assert (False, first.revision) == (receipt.changed, receipt.revision)
    assert 0 < len(said) < 6
    assert not [text for text in said if "versions" in text.partition("FROM")[2] or text.startswith("INSERT")]


def test_a_change_without_effect_is_noted_and_not_published(home):
    publish(home)
    with open_registry(home) as registry:
        key_id = next(keys.list_keys(registry)).key_id
    for enabled in (False, True):
        edit(home, keys.set_key_enabled, key_id, enabled)
    assert 2 == state_of(home).pending_changes
    assert not publish(home).changed
    assert (0, 1) == (state_of(home).pending_changes, Store(home.store).current())
    edit(home, keys.set_key_enabled, key_id, False)
    assert (2, 1) == (publish(home).revision, manifest_of(home).delta.records)


def test_a_publisher_reads_what_changed_and_not_all_versions(home):
    publish(home)
    edit(home, revoking.revoke_version, add_keys(home)[0])
    _, said = statements(home)
    about = [text for text in said if "versions.record" in text]
    assert about
    assert all("WHERE" in text for text in about)


@pytest.mark.parametrize("limits", [
    Compaction(records_min=2, share=0), Compaction(bytes_max=1), Compaction(age_s=-1),
], ids=["records", "bytes", "age"])  # fmt: skip
def test_a_delta_that_has_outgrown_its_base_becomes_one(home, limits):
    publish(home)
    ids = add_keys(home, 2)
    if limits.age_s > 0:
        assert manifest_of(home).base == publish(home, compaction=limits).manifest.base
        edit(home, revoking.revoke_version, ids[0])
    manifest = publish(home, compaction=limits).manifest
    if limits.records_min == 2:
        assert manifest.delta.records == 2  # the key that was revoked is one of the two
        issue(home)
        manifest = publish(home, compaction=limits).manifest
    assert (None, 0) == (manifest.delta, count_dirty(home))
    assert built_anew(home) == served(home)
    state = state_of(home)
    assert (manifest.base.sha256, state.next_version) == (state.base_sha256, state.base_next_version)
    issue(home)
    assert 1 == publish(home).manifest.delta.records


def test_a_new_base_on_demand_is_a_revision_only_if_it_differs(home):
    publish(home)
    assert not publish(home, rebase=True).changed
    issue(home)
    publish(home)
    before = answers(home, [])
    receipt = publish(home, rebase=True)
    assert (True, None, 3) == (receipt.changed, receipt.manifest.delta, receipt.revision)
    assert {0} == {receipt.difference.counts()[name] for name in ("gained", "lost", "denied", "widened")}
    assert before == answers(home, [])


def test_what_changes_while_a_base_is_built_comes_with_it_as_a_delta(home, monkeypatch):
    publish(home)
    ids = add_keys(home, 2)
    iterate = queries.iterate_records

    def slow(connection, *arguments):
        yield from iterate(connection, *arguments)
        edit(home, revoking.revoke_version, ids[0])

    monkeypatch.setattr(queries, "iterate_records", slow)
    manifest = publish(home, rebase=True).manifest
    monkeypatch.undo()
    assert (8, 1, 7) == (manifest.base.records, manifest.delta.records, manifest.active)
    assert (1, 0) == (count_dirty(home), state_of(home).pending_changes)
    assert built_anew(home) == served(home)
    assert not publish(home).changed


def test_a_mark_survives_a_base_that_was_read_before_its_change_was_counted(home):
    """Records are written before the change is counted, or after: a base that saw neither keeps the mark."""
    publish(home)
    with open_registry(home) as registry:
        key = next(keys.list_keys(registry))
        before = state_of(home).changes
        with registry.write() as connection:
            changes.set_records(connection, [(key.label.ordinal, stored_record(connection, key.label.ordinal))])
            changes.count_changes(connection)
        with registry.read() as connection:
            marks = connection.scalars(select(schema.dirty.c.change)).all()
    assert [before + 1] == marks


def stored_record(connection, ordinal):
    return connection.scalar(select(schema.versions.c.record).where(schema.versions.c.ordinal == ordinal))


def test_the_drop_guard_counts_changes_on_a_delta(home):
    ids = add_keys(home, 34)
    publish(home)
    issue(home)
    publish(home)
    for key_id in ids[:10]:
        edit(home, revoking.revoke_version, key_id)
    with pytest.raises(Conflict) as caught:
        publish(home)
    assert ("DROP_GUARD", {"lost": 10, "active": 41, "share": 0.2}) == (caught.value.code, caught.value.details)
    assert publish(home, guard=DropGuard(share=0.5)).changed


def test_a_client_with_many_keys_trips_the_guard_and_is_counted_by_the_registry(home):
    add_keys(home, 10)
    publish(home)
    gone = edit(home, revoking.revoke_version, add_keys(home)[0]).key
    edit(home, clients.set_client_enabled, "acme", False)
    with pytest.raises(Conflict) as caught:
        publish(home)
    assert {"lost": 16, "active": 16, "share": 0.2} == caught.value.details
    receipt = publish(home, allow_drop=True)
    assert (16, 16, 0, 17, True) == (
        receipt.difference.lost, receipt.difference.denied, receipt.manifest.active, receipt.manifest.records,
        receipt.manifest.drop_override)
    assert gone.versions
    edit(home, clients.set_client_enabled, "acme", True)
    assert (16, 16) == (publish(home).difference.gained, manifest_of(home).active)


def test_lost_keys_that_were_used_lately_are_counted(home):
    ids = add_keys(home, 3)
    publish(home)
    now_s = manifest_of(home).published_at
    with open_registry(home) as registry:
        for key_id, ago_s in zip(ids, (60, 86_000, 87_000), strict=True):
            ordinal = keys.show_key(registry, key_id).label.ordinal
            with registry.write() as connection:
                changes.update_version(connection, ordinal, last_used_at=now_s - ago_s)
    for key_id in ids:
        edit(home, revoking.revoke_version, key_id)
    receipt = publish(home, now_s=now_s, dry_run=True)
    assert (3, 2) == (receipt.difference.lost, receipt.difference.lost_used_24h)
    assert 2 == publish(home, now_s=now_s, rebase=True).to_json()["difference"]["lost_used_24h"]
    edit(home, clients.set_client_enabled, "acme", False)
    with open_registry(home) as registry:
        ordinal = next(keys.list_keys(registry)).label.ordinal
        with registry.write() as connection:
            changes.update_version(connection, ordinal, last_used_at=now_s)
    assert 1 == publish(home, now_s=now_s).difference.lost_used_24h


def test_a_dry_run_says_what_a_publication_does_and_changes_nothing(home):
    publish(home)
    ids = add_keys(home, 2)
    edit(home, revoking.revoke_version, ids[0])
    before, state = sorted(home.store.rglob("*")), state_of(home)
    told = publish(home, dry_run=True, examples_max=5)
    assert (before, state) == (sorted(home.store.rglob("*")), state_of(home))
    assert (True, 2, None) == (told.changed, told.revision, told.committed_at_ms)
    assert [("gained", ids[1], 1)] == [
        (example.kind, example.key_id, example.version) for example in told.difference.examples
    ]
    done = publish(home)
    assert (told.difference.counts(), told.manifest.delta) == (done.difference.counts(), done.manifest.delta)


def test_a_lost_delta_is_put_back(home):
    publish(home)
    issue(home)
    delta = publish(home).manifest.delta
    path = Store(home.store).keyring_path(delta.sha256)
    data = path.read_bytes()
    path.unlink()
    assert not publish(home).changed
    assert data == path.read_bytes()


def test_a_damaged_delta_is_not_compared_with(home):
    publish(home)
    issue(home)
    path = Store(home.store).keyring_path(publish(home).manifest.delta.sha256)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    issue(home)
    with pytest.raises(VerifierError) as caught:
        publish(home)
    assert "BAD_DIGEST" == caught.value.code
    assert 8 == publish(home, allow_drop=True).manifest.active


def test_a_receipt_says_when_and_the_log_says_who(home):
    receipt = publish(home)
    moved = Store(home.store).pointer.stat().st_mtime_ns // 1_000_000
    assert abs(moved - receipt.committed_at_ms) < 1000
    with open_registry(home) as registry, registry.read() as connection:
        entry = connection.execute(
            select(schema.audit).order_by(schema.audit.c.sequence.desc()).limit(1)
        ).mappings().one()
        happened = connection.execute(
            select(schema.events).order_by(schema.events.c.sequence.desc()).limit(1)
        ).mappings().one()
    assert ("publication.publish", 1, f"a-{entry['sequence']}") == (
        entry["action"], entry["revision"], receipt.audit_id)
    assert '"covers":6' in entry["details"]
    assert "publication.published" == happened["kind"]
    assert '"revision":1' in happened["details"]


def test_one_registry_serves_many_publications(home):
    with open_registry(home) as registry:
        revisions = []
        for _ in range(3):
            issue(home)
            revisions.append(publish(home, registry=registry).revision)
    assert [1, 2, 3] == revisions
    manifests = [manifest_of(home, revision) for revision in revisions]
    assert [None, *(digest_of(manifest.to_bytes()) for manifest in manifests[:-1])] == [
        manifest.previous for manifest in manifests
    ]


def test_deltas_belong_to_their_base_and_name_every_client(home):
    publish(home)
    edit(home, clients.create_client, "late")
    edit(home, clients.set_client_enabled, "late", False)
    publish(home)
    records, off, *_ = served(home)
    assert {2} == off
    assert 6 == len(records)
    assert {"acme"} == {decode_record(head, record)[1].client_id for head, record in records.items()}


