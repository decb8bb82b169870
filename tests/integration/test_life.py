"""Acts on the life of keys, in both databases: what is stored is what the rules say, and the log tells it."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import Connection, insert, select, update

from tests.support.acts import act, act_at
from tests.support.replaying import assert_log_tells_the_registry
from verifier import tokens
from verifier.control import clients, issuing, keys, lifecycle, reinstating, revoking, rotating, rotation, scheduling
from verifier.control.acting import acting
from verifier.control.policy import BUILT_IN, Policy, effective
from verifier.control.records import encoded
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.control.selecting import Selection
from verifier.control.terms import Terms
from verifier.errors import Conflict, InvalidInput, NotFound, VerifierError
from verifier.registry import audit, queries, schema, tombstones
from verifier.registry.database import Registry
from verifier.registry.facts import Key
from verifier.vocabulary import RevocationReason

PEPPERS = [b"p" * 32]
SECRET = NewSecret(PEPPERS)
NOW = 1_800_000_000
DAY = 86_400
COMPROMISE = RevocationReason.KEY_COMPROMISE


@pytest.fixture
def key(registry: Registry) -> Key:
    """Return a key of the client acme."""
    act_at(NOW, registry, clients.create_client, "acme")
    return issue(registry)


def issue(registry: Registry, at: int = NOW, client: str = "acme", **options) -> Key:
    return act_at(at, registry, issuing.issue_key, PEPPERS, client, Terms(**options)).key


def shown(registry: Registry, key: Key) -> Key:
    return keys.show_key(registry, key.key_id)


def refused(code: str, *arguments, **options) -> VerifierError:
    with pytest.raises(VerifierError) as caught:
        act_at(*arguments, **options)
    assert code == caught.value.code
    return caught.value


def assert_stored(connection: Connection) -> None:
    """Check that every stored record is what its key says, and that labels are due by their policy."""
    stored = {row[0]: row[1] for row in connection.execute(select(schema.versions.c.ordinal, schema.versions.c.record))}
    for key in queries.list_keys(connection):
        for version in key.versions:
            assert stored.pop(version.ordinal) == encoded(key, version)
        own = Policy.from_text(key.policy)
        client = queries.find_client(connection, key.client_id)
        policy = effective(own, Policy.from_text(client.policy), scheduling.store_policy(connection), BUILT_IN)
        assert key.due_at == lifecycle.due_at(key, policy.max_age_s)
    assert not stored
    compromised = {v.tag for key in queries.list_keys(connection) for v in key.versions if v.reason is COMPROMISE}
    assert compromised == set(tombstones.tags(connection))


def assert_sound(registry: Registry) -> None:
    with registry.read() as connection:
        assert_stored(connection)
        assert_log_tells_the_registry(connection)


def actions(registry: Registry) -> list[str]:
    with registry.read() as connection:
        return [entry.action for entry in audit.entries(connection)]


def kinds(registry: Registry) -> list[str]:
    with registry.read() as connection:
        return list(connection.scalars(select(schema.events.c.kind).order_by(schema.events.c.sequence)))


# --- Rotation --------------------------------------------------------------------------------------------------------


def test_a_rotation_from_end_to_end(registry: Registry, key: Key):
    done = act_at(NOW + 10, registry, rotation.rotate, key.key_id, RotateTerms(overlap_s=60), SECRET)
    assert (done.version, done.previous.number, done.previous.retire_at) == (2, 1, NOW + 70)
    assert done.token is not None and tokens.tag(done.token, PEPPERS) == done.key.label.tag
    assert done.token not in repr(done)
    assert shown(registry, key) == done.key
    assert_sound(registry)
    assert act_at(NOW + 11, registry, rotation.first_use, key.key_id, 2, NOW + 11)
    assert not act_at(NOW + 12, registry, rotation.first_use, key.key_id, 2, NOW + 12)  # only the first one counts
    refused("IN_USE", NOW + 12, registry, rotation.cancel, key.key_id)
    refused("IN_USE", NOW + 12, registry, rotation.retire, key.key_id, 1)  # nobody knows that it is safe
    act_at(NOW + 12, registry, rotation.retire, key.key_id, 1, safe=True)
    act_at(NOW + 13, registry, rotation.retire, key.key_id, 1)  # a repeat
    back = act_at(NOW + 14, registry, rotation.roll_back_key, key.key_id)
    assert (back.label.number, back.versions[1].retire_at) == (1, NOW + 14 + DAY)
    assert_sound(registry)
    assert ["key.create", "key.rotate", "version.first_use", "key.retire", "key.rollback"] == actions(registry)[1:]
    assert ["key.created", "key.rotated", "rotation.first_use", "key.retired", "key.rolled_back"] == kinds(registry)[1:]


def test_a_compromise_is_remembered_by_its_tag(registry: Registry, key: Key):
    done = act_at(NOW + 1, registry, rotation.rotate, key.key_id, RotateTerms(reason=COMPROMISE), SECRET)
    assert done.previous.reason is COMPROMISE
    with registry.read() as connection:
        (tomb,) = tombstones.ascending(connection)
    assert (tomb.tag, tomb.key_id, tomb.number) == (key.label.tag, key.key_id, 1)
    assert "version.revoked" in kinds(registry)
    assert_sound(registry)


def test_the_caller_may_bring_the_secret(registry: Registry, key: Key):
    import hashlib

    token = tokens.generate()
    digest = hashlib.sha256(token.encode()).digest()
    made = act_at(NOW, registry, issuing.issue_key, PEPPERS, "acme", Terms(), secret_sha256=digest)
    assert made.token is None and made.key.label.tag == tokens.tag(token, PEPPERS)
    refused("DUPLICATE", NOW, registry, issuing.issue_key, PEPPERS, "acme", Terms(), secret_sha256=digest)
    refused("DUPLICATE", NOW, registry, rotation.rotate, key.key_id, RotateTerms(), NewSecret(PEPPERS, digest))
    refused("BAD_DIGEST", NOW, registry, rotation.rotate, key.key_id, RotateTerms(), NewSecret(PEPPERS, b"short"))
    act_at(NOW, registry, revoking.revoke_version, made.key.key_id, None, COMPROMISE)
    refused("TOMBSTONED", NOW, registry, issuing.issue_key, PEPPERS, "acme", Terms(), secret_sha256=digest)
    refused("TOMBSTONED", NOW, registry, rotation.rotate, key.key_id, RotateTerms(), NewSecret(PEPPERS, digest))
    assert shown(registry, key) == key


def test_waiting_for_a_first_use_needs_somebody_who_reports_it(registry: Registry, key: Key):
    terms = RotateTerms(clock="on_first_use", overlap_s=60, max_pending_s=600)
    refused("NO_REPORTS", NOW, registry, rotation.rotate, key.key_id, terms, SECRET)
    with registry.write() as connection:
        connection.execute(insert(schema.nodes).values(
            name="n1", epoch="1", first_seen_at=NOW, last_seen_at=NOW, usage_to_ms=(NOW - 601) * 1000,
        ))  # fmt: skip
    refused("NO_REPORTS", NOW, registry, rotation.rotate, key.key_id, terms, SECRET)
    with registry.write() as connection:
        connection.execute(update(schema.nodes).values(usage_to_ms=(NOW - 600) * 1000))
    done = act_at(NOW, registry, rotation.rotate, key.key_id, terms, SECRET)
    assert done.previous.retire_at == done.previous.ceiling == NOW + 660
    with registry.read() as connection:  # the successor's first use is reported at once
        rows = connection.execute(select(schema.versions.c.number, schema.versions.c.record)).all()
        stored = {row[0]: row[1] for row in rows}
    assert stored == {v.number: encoded(done.key, v) for v in done.key.versions}
    act_at(NOW + 5, registry, rotation.first_use, key.key_id, 2, NOW + 4)
    assert shown(registry, key).versions[0].retire_at == NOW + 65  # not without notice
    assert_sound(registry)


def test_a_refused_rule_leaves_no_trace(registry: Registry, key: Key):
    before = actions(registry)
    refused("NO_PREDECESSOR", NOW, registry, rotation.cancel, key.key_id)
    refused("NOTHING_TO_PROMOTE", NOW, registry, rotation.promote, key.key_id)
    refused("KEY_NOT_FOUND", NOW, registry, rotation.promote, "key_x")
    refused("VERSION_NOT_FOUND", NOW, registry, rotation.retire, key.key_id, 7)
    refused("VERSION_MISMATCH", NOW, registry, rotation.rotate, key.key_id, RotateTerms(expected_version=2), SECRET)
    assert actions(registry) == before
    assert shown(registry, key) == key


def test_two_rotations_at_once_are_one_after_the_other(registry: Registry, key: Key):
    barrier = Barrier(4)

    def rotate(_: int) -> str:
        barrier.wait()
        try:
            act_at(NOW + 1, registry, rotation.rotate, key.key_id, RotateTerms(), SECRET)
        except Conflict as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(rotate, range(4)))
    assert ["ROTATION_OPEN"] * 3 + ["done"] == said
    assert [1, 2] == [version.number for version in shown(registry, key).versions]
    assert_sound(registry)


def test_interleaved_changes_of_one_key_are_some_serial_order(registry: Registry, key: Key):
    barrier = Barrier(3)

    def work(which: int) -> None:
        barrier.wait()
        for _ in range(4):
            try:
                with acting(registry, now_s=NOW + 1) as begun:
                    if which == 0:
                        rotation.rotate(begun, key.key_id, RotateTerms(overlap_s=0, force=True), SECRET)
                    elif which == 1:
                        current = queries.find_key(begun.connection, key.key_id)
                        keys.set_key_enabled(begun, key.key_id, not current.enabled)
                    else:
                        revoking.revoke_version(begun, key.key_id)
            except VerifierError as error:
                assert error.code in ("MAX_LIVE", "ROTATION_OPEN")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    numbers = [version.number for version in shown(registry, key).versions]
    assert numbers == list(range(1, len(numbers) + 1))
    assert_sound(registry)


def test_a_pending_version_is_given_no_empty_window(registry: Registry, key: Key):
    act_at(NOW, registry, rotation.rotate, key.key_id, RotateTerms(activate_at=NOW + 100), SECRET)
    refused("EMPTY_WINDOW", NOW, registry, keys.update_key, key.key_id, keys.KeyUpdate(expires_at=NOW + 100))
    act_at(NOW, registry, keys.update_key, key.key_id, keys.KeyUpdate(expires_at=NOW + 101))
    assert_sound(registry)


# --- Policies and what is due ----------------------------------------------------------------------------------------


def due(registry: Registry, key: Key) -> int | None:
    return shown(registry, key).due_at


def test_policies_from_the_store_down_to_the_key(registry: Registry, key: Key):
    assert due(registry, key) is None
    own = act_at(NOW, registry, issuing.issue_key, PEPPERS, "acme", Terms(), policy=Policy(max_age_s=5 * DAY)).key
    other = act_at(NOW, registry, issuing.issue_key, PEPPERS, "acme", Terms(), policy=Policy(overlap_s=60)).key
    short = issue(registry, key_expires_at=NOW + 8 * DAY)
    later = issue(registry, not_before=NOW + DAY)
    assert due(registry, own) == NOW + 5 * DAY
    act_at(NOW, registry, scheduling.set_store_policy, Policy(max_age_s=10 * DAY))
    assert [due(registry, one) for one in (key, own, other, short, later)] == [
        NOW + 10 * DAY, NOW + 5 * DAY, NOW + 10 * DAY, None, NOW + 11 * DAY
    ]  # fmt: skip
    act_at(NOW, registry, clients.update_client, "acme", policy=Policy(max_age_s=7 * DAY))
    assert [due(registry, one) for one in (key, own, other, short)] == [
        NOW + 7 * DAY, NOW + 5 * DAY, NOW + 7 * DAY, NOW + 7 * DAY
    ]  # fmt: skip
    act_at(NOW, registry, keys.update_key, key.key_id, keys.KeyUpdate(policy=Policy(max_age_s=0)))
    assert due(registry, key) is None
    assert_sound(registry)
    act_at(NOW + DAY, registry, rotation.rotate, other.key_id, RotateTerms(), SECRET)
    assert shown(registry, other).versions[0].retire_at == NOW + DAY + 60  # by its own policy
    assert due(registry, other) == NOW + 8 * DAY
    act_at(NOW + DAY, registry, revoking.revoke_version, own.key_id)
    assert due(registry, own) is None
    act_at(NOW, registry, clients.update_client, "acme", policy=None)
    assert_sound(registry)
    assert act_at(NOW, registry, scheduling.set_store_policy, None) == BUILT_IN
    assert_sound(registry)
    refused("BAD_POLICY", NOW, registry, clients.update_client, "acme", policy=Policy(clock="soon"))


# --- Revocation ------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(registry: Registry, key: Key, monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """Return keys of two clients, some alike, some with several versions; so many that the log lists ordinals only."""
    monkeypatch.setattr(revoking, "TOLD_ONE_BY_ONE_MAX", 5)
    monkeypatch.setattr(reinstating, "TOLD_ONE_BY_ONE_MAX", 5)
    act_at(NOW, registry, clients.create_client, "other")
    made = [key, *(issue(registry, scopes=("read",)) for _ in range(9)), issue(registry, prefix="vk_test")]
    made += [issue(registry, client="other"), issue(registry, NOW + 5, client="other", prefix="vk_test")]
    act_at(NOW + 6, registry, rotation.rotate, key.key_id, RotateTerms(), SECRET)
    return [shown(registry, one) for one in made]


def revoked(registry: Registry, made: list[Key]) -> set[tuple[int, int]]:
    """Return what is revoked, as (place among the keys, number)."""
    now = [shown(registry, one) for one in made]
    return {(at, v.number) for at, key in enumerate(now) for v in key.versions if v.revoked_at is not None}


@pytest.mark.parametrize("reason", [RevocationReason.PRIVILEGE_WITHDRAWN, COMPROMISE])
def test_all_of_a_client(registry: Registry, many: list[Key], reason: RevocationReason):
    selection = Selection(client_ids=["acme", "nobody"])
    with registry.read() as connection:
        seen = revoking.preview(connection, selection, NOW + 7)
        before = queries.state(connection).changes
    assert (seen.count, seen.unmatched, seen.keys_without_version) == (12, 1, 11)
    refused("COUNT_MISMATCH", NOW + 7, registry, revoking.revoke, selection, reason, 11)
    assert revoked(registry, many) == set()
    done = act_at(NOW + 7, registry, revoking.revoke, selection, reason, 12)
    assert done == seen
    assert revoked(registry, many) == {(0, 1), (0, 2), *((at, 1) for at in range(1, 11))}
    assert act_at(NOW + 8, registry, revoking.revoke, selection, reason).count == 0
    with registry.read() as connection:
        assert queries.state(connection).changes == before + 12
    assert_sound(registry)


def test_by_prefix_name_and_token_each_version_once(registry: Registry, many: list[Key]):
    import hashlib

    token = tokens.generate()
    mine = act_at(NOW, registry, issuing.issue_key, PEPPERS, "other", Terms(expires_at=NOW + 1),
                  secret_sha256=hashlib.sha256(token.encode()).digest()).key
    selection = Selection(
        versions=[(many[0].key_id, 1), (many[10].key_id, 0), (many[1].key_id, 9), ("key_x", 0)], client_ids=["other"],
        prefixes=["vk_test", "vk_none"], peppers=PEPPERS,
        token_sha256s=[hashlib.sha256(text.encode()).digest() for text in (token, tokens.generate())],
    )  # fmt: skip
    done = act_at(NOW + 9, registry, revoking.revoke, selection, RevocationReason.UNSPECIFIED)
    # One is over already, and revoked all the same: its token was named.
    assert (done.count, done.unmatched, done.keys_without_version) == (5, 4, 3)
    assert revoked(registry, [*many, mine]) == {(0, 1), (10, 1), (11, 1), (12, 1), (13, 1)}
    assert_sound(registry)


def test_by_time_of_issue(registry: Registry, many: list[Key]):
    after = Selection(created_after=NOW + 5)
    act_at(NOW + 9, registry, revoking.revoke, after, RevocationReason.UNSPECIFIED)
    assert revoked(registry, many) == {(0, 2), (12, 1)}
    act_at(NOW + 9, registry, revoking.revoke, Selection(client_ids=["acme"], created_before=NOW), COMPROMISE)
    assert revoked(registry, many) == {(0, 2), (12, 1)}
    refused("EMPTY_SELECTION", NOW, registry, revoking.revoke, Selection(), COMPROMISE)
    assert_sound(registry)


def test_key_without_current_is_told(registry: Registry, many: list[Key]):
    act_at(NOW + 9, registry, revoking.revoke_version, many[0].key_id, [2])
    with registry.read() as connection:
        told_of = connection.execute(
            select(schema.events.c.details).where(schema.events.c.kind == "key.without_current")
        ).scalars().all()
    assert [f'{{"dark_at":{NOW + 6 + DAY}}}'] == told_of


@pytest.mark.parametrize("by", ["one", "some", "many"])
def test_a_wrong_revocation_is_undone(registry: Registry, many: list[Key], by: str):
    selection = {
        "one": Selection(versions=[(many[1].key_id, 1)]),
        "some": Selection(versions=[(one.key_id, 1) for one in many[1:4]]),
        "many": Selection(client_ids=["acme", "other"]),
    }[by]
    before = [shown(registry, one) for one in many]
    with acting(registry, now_s=NOW + 20) as begun:
        done = revoking.revoke(begun, selection, RevocationReason.UNSPECIFIED)
        audit_id = begun.audit_id
    assert done.count == len(revoked(registry, many))
    act_at(NOW + 21, registry, revoking.revoke_version, many[1].key_id, [1], COMPROMISE)
    undone = act_at(NOW + 22, registry, reinstating.reinstate, audit_id)
    assert (undone.count, undone.kept) == (done.count - 1, 1)
    assert revoked(registry, many) == {(1, 1)}  # a compromise is final
    assert [shown(registry, one) for one in many[2:]] == before[2:]
    assert_sound(registry)
    assert act_at(NOW + 23, registry, reinstating.reinstate, audit_id) == reinstating.Reinstated(0, 1)


def test_a_compromise_leaves_nothing_to_come_back(registry: Registry, key: Key):
    act_at(NOW + 1, registry, rotation.rotate, key.key_id, RotateTerms(overlap_s=0), SECRET)
    everything = Selection(versions=[(key.key_id, 0)])
    with registry.read() as connection:
        assert 1 == revoking.preview(connection, everything, NOW + 2).count
        assert 2 == revoking.preview(connection, everything, NOW + 2, COMPROMISE).count
    # The overlap of the first one is over, and going back to it would make it valid again.
    assert 2 == act_at(NOW + 2, registry, revoking.revoke, everything, COMPROMISE).count
    refused("NO_PREDECESSOR", NOW + 3, registry, rotation.roll_back_key, key.key_id)


def test_what_cannot_be_undone(registry: Registry, key: Key):
    refused("AUDIT_NOT_FOUND", NOW, registry, reinstating.reinstate, "a-99")
    refused("AUDIT_NOT_FOUND", NOW, registry, reinstating.reinstate, "x' OR 1")
    refused("NOT_A_REVOCATION", NOW, registry, reinstating.reinstate, "a-1")
    with acting(registry, now_s=NOW) as begun:
        counted = begun.audit("registry.reconcile", revoked=1).audit_id  # tells how many, not which
    refused("NOT_A_REVOCATION", NOW, registry, reinstating.reinstate, counted)
    with acting(registry, now_s=NOW) as begun:
        revoking.revoke_version(begun, key.key_id)
        soft = begun.audit_id
    refused("TOO_OLD", NOW + 30 * DAY + 1, registry, reinstating.reinstate, soft)
    with acting(registry, now_s=NOW) as begun:
        revoking.revoke_version(begun, key.key_id, [1], COMPROMISE)
        hard = begun.audit_id
    refused("COMPROMISED", NOW, registry, reinstating.reinstate, hard)
    assert act_at(NOW, registry, reinstating.reinstate, soft).kept == 1


def test_a_successor_cancelled_before_it_began_stays_away(registry: Registry, key: Key):
    act_at(NOW, registry, rotation.rotate, key.key_id, RotateTerms(activate_at=NOW + 100), SECRET)
    with acting(registry, now_s=NOW + 1) as begun:
        rotation.cancel(begun, key.key_id)
        audit_id = begun.audit_id
    assert act_at(NOW + 200, registry, reinstating.reinstate, audit_id) == reinstating.Reinstated(0, 1)
    act_at(NOW, registry, rotation.rotate, key.key_id, RotateTerms(), SECRET)
    with acting(registry, now_s=NOW + 1) as begun:
        rotation.cancel(begun, key.key_id)
        audit_id = begun.audit_id
    assert act_at(NOW + 200, registry, reinstating.reinstate, audit_id) == reinstating.Reinstated(1, 0)
    assert_sound(registry)


# --- Random histories ------------------------------------------------------------------------------------------------


def any_change(chance: random.Random, key: Key, now: int):
    """Return an act on a key at random, its arguments, the rule that it applies, and the arguments of that."""
    name, number = key.key_id, chance.choice(key.versions).number
    terms = RotateTerms(
        chance.choice([None, 0, 600]), chance.choice(["fixed", "manual"]), None, chance.choice([None, now + 90]),
        chance.choice([None, 0, 7200]), force=chance.random() < 0.4,
    )  # fmt: skip
    reason = chance.choice([RevocationReason.UNSPECIFIED, RevocationReason.SUPERSEDED, COMPROMISE])
    used_at = now - chance.randrange(90)
    rotated = (rotation.rotate, (name, terms, SECRET), rotating.rotate, (key, terms))
    return chance.choice([
        rotated, rotated,
        (rotation.promote, (name,), rotating.promote, (key, now)),
        (rotation.cancel, (name,), rotating.cancel, (key, now)),
        (rotation.roll_back_key, (name, None, 300), rotating.roll_back, (key, None, 300, now)),
        (rotation.first_use, (name, number, used_at), rotating.first_use, (key, number, used_at, now)),
        (rotation.retire, (name, number, now + 30), rotating.retire, (key, number, now + 30, now)),
        (revoking.revoke_version, (name, [number], reason), lifecycle.revoke, (key, [number], reason, now)),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_random_acts_give_what_the_rules_say(registry: Registry, seed: int):
    chance, now, done = random.Random(seed), NOW, 0
    own = Policy(max_age_s=DAY)
    act_at(now, registry, clients.create_client, "acme", policy=own)
    expected = {key.key_id: key for key in (issue(registry, scopes=("read",)) for _ in range(3))}
    for _ in range(70):
        now += chance.choice([0, 1, 60, 3600])
        key = chance.choice(list(expected.values()))
        function, arguments, rule, facts = any_change(chance, key, now)
        options = {"force": True} if function is rotation.retire else {}
        code = None
        try:
            act_at(now, registry, function, *arguments, **options)
        except VerifierError as refusal:
            code = refusal.code
        after = keys.show_key(registry, key.key_id)
        if rule is rotating.rotate:
            new = rotating.NewVersion(after.label.ordinal, after.label.tag)
            facts = (*facts, effective(own, BUILT_IN), new, now)
        try:
            ruled = rule(*facts)
        except VerifierError as refusal:
            assert (refusal.code, after) == (code, key)
        else:
            assert code is None
            assert replace(after, due_at=None) == replace(ruled, due_at=None)
            done += after != key
        expected[key.key_id] = after
    assert_sound(registry)
    assert done > 15


def test_unknown_keys_are_not_found(registry: Registry):
    with pytest.raises(NotFound):
        act(registry, revoking.revoke_version, "key_x")
    with pytest.raises(InvalidInput):
        act(registry, revoking.revoke, Selection(token_sha256s=[b"x"]), COMPROMISE)
