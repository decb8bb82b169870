"""The registry over a real SQLite file: founding, transactions, ordinals, what publishing reads."""

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.acts import act
from verifier import tokens
from verifier.control import directory
from verifier.control.founding import found
from verifier.control.lifecycle import effective_end
from verifier.control.records import record_of
from verifier.control.terms import Terms
from verifier.errors import Conflict, InvalidInput, NotFound, Unavailable
from verifier.keyring.records import decode_record
from verifier.registry import changes, queries
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets
from verifier.vocabulary import RevocationReason

PEPPER = b"p" * 32


@pytest.fixture
def home(registry_place: Home) -> Home:
    return registry_place


@pytest.fixture
def file_home(tmp_path: Path) -> Home:
    """Return a home whose registry is a file, for what is true of files only."""
    home = Home(tmp_path / "home")
    found(home)
    return home


@pytest.fixture
def registry(home: Home) -> Iterator[Registry]:
    with open_registry(home) as registry:
        act(registry, directory.create_client, "acme")
        yield registry


def issue(registry: Registry, **terms: object) -> directory.IssuedKey:
    return act(registry, directory.issue_key, [PEPPER], "acme", Terms(**terms))


def pending(registry: Registry) -> int:
    with registry.read() as connection:
        return queries.state(connection).pending_changes


def stored_records(registry: Registry) -> dict[bytes, bytes]:
    with registry.read() as connection:
        return dict(row for rows in queries.iterate_records(connection, 2) for row in rows)


def assert_records_true(registry: Registry) -> None:
    """Every stored record says what the rows say."""
    stored = stored_records(registry)
    for key in directory.list_keys(registry):
        for version in key.versions:
            tag, record = decode_record(version.tag[:16], stored.pop(version.tag))
            assert tag == version.tag
            said = replace(record, rules=tuple(sorted(record.rules)))  # a record sorts them by their bytes
            assert said == replace(record_of(key, version), rules=tuple(sorted(key.rules)))
            assert record.expires_at == effective_end(key, version)
    assert not stored


# --- Founding --------------------------------------------------------------------------------------------------------


def test_founding_twice_changes_nothing(home: Home):
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    first, second = found(home), found(home)
    assert first == second
    assert not second.created
    assert before == {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    assert len(Secrets(home.secrets).peppers()) == 1
    assert home.external or home.registry_file.stat().st_mode & 0o777 == 0o600
    assert home.secrets.stat().st_mode & 0o777 == 0o700


def test_founding_goes_on_where_it_was_interrupted(tmp_path: Path):
    home = Home(tmp_path)
    home.create()
    pepper = Secrets(home.secrets).peppers()
    home.registry_file.touch()
    assert found(home).created
    assert Secrets(home.secrets).peppers() == pepper


def test_a_registry_without_its_pepper_is_not_given_another(home: Home):
    (home.secrets / "peppers" / "p1").unlink()
    with pytest.raises(Unavailable) as caught:
        found(home)
    assert caught.value.code == "PEPPER_MISSING"
    assert not (home.secrets / "peppers" / "p1").exists()


def _found_in_process(home: Home, results: "multiprocessing.Queue[tuple[str, bool]]") -> None:
    founded = found(home)
    results.put((founded.store_id, founded.created))


def test_two_processes_found_one_home(empty_place: Home):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=_found_in_process, args=(empty_place, results)) for _ in range(2)]
    for process in processes:
        process.start()
    answers = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert len({store_id for store_id, _ in answers}) == 1
    assert [False, True] == sorted(created for _, created in answers)


def test_a_folder_without_registry_says_how_to_get_one(empty_place: Home):
    with pytest.raises(NotFound) as caught:
        open_registry(empty_place)
    assert caught.value.code == "NOT_INITIALISED"
    assert "init" in (caught.value.hint or "")
    assert not empty_place.folder.exists()


def test_a_file_that_is_no_database_is_a_clear_error(file_home: Home):
    file_home.registry_file.write_bytes(b"x" * 8192)
    with pytest.raises(Unavailable) as caught:
        open_registry(file_home)
    assert caught.value.code == "REGISTRY_UNAVAILABLE"


# --- Transactions ----------------------------------------------------------------------------------------------------


def test_an_error_rolls_everything_back(registry: Registry):
    with pytest.raises(RuntimeError), registry.write() as connection:
        changes.reserve(connection, "next_key", 10)
        changes.count_changes(connection, 5)
        raise RuntimeError
    assert pending(registry) == 0
    with registry.write() as connection:
        assert changes.reserve(connection, "next_key", 0) == 1


def test_ordinals_are_never_given_twice(registry: Registry):
    with registry.write() as connection:
        firsts = [changes.reserve(connection, "next_version", 7) for _ in range(3)]
    assert [1, 8, 15] == firsts
    with pytest.raises(Conflict), registry.write() as connection:
        changes.reserve(connection, "next_version", 2**32)


def test_a_reader_sees_one_state_while_a_writer_commits(registry: Registry):
    issue(registry)
    with registry.read() as connection:
        before = queries.counts(connection, 0)
        issue(registry)
        assert queries.counts(connection, 0) == before
        assert sum(map(len, queries.iterate_records(connection))) == before.records == 1
    with registry.read() as connection:
        assert queries.counts(connection, 0).records == 2


def _issue_in_process(home: Home, number: int) -> None:
    with open_registry(home) as registry:
        for _ in range(number):
            key_id = issue(registry).key.key_id
            act(registry, directory.set_key_enabled, key_id, False)


def test_concurrent_writers_lose_nothing(home: Home, registry: Registry):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_issue_in_process, args=(home, 40)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [0, 0] == [process.exitcode for process in processes]
    keys = list(directory.list_keys(registry))
    assert len(keys) == 80
    assert not any(key.enabled for key in keys)
    assert pending(registry) == 160
    assert list(range(1, 81)) == sorted(key.label.ordinal for key in keys)
    assert_records_true(registry)


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_an_issued_key_is_found_by_its_tag(registry: Registry):
    made = issue(registry, scopes=("trade", "read"), rules=("10.0.0.0/8",), metadata={"tier": "gold"}, prefix="t_x")
    assert made.token not in repr(made)
    assert tokens.parse(made.token).prefix == "t_x"
    tag = tokens.tag(made.token, [PEPPER])
    stored = stored_records(registry)
    assert [tag] == list(stored)
    _, record = decode_record(tag[:16], stored[tag])
    assert (record.client_id, record.key_id, record.version) == ("acme", made.key.key_id, 1)
    assert record.scopes == ("read", "trade")
    assert record.not_before is None  # never "now": a node whose clock lags would refuse it
    with registry.read() as connection:
        assert queries.prefix_modes(connection) == [("t_x", "NATIVE")]
    assert_records_true(registry)


@pytest.mark.parametrize("change", [
    directory.KeyUpdate(scopes=["write"]),
    directory.KeyUpdate(scopes=[]),
    directory.KeyUpdate(rules=["2001:db8::/32", "10.0.0.0/8"]),
    directory.KeyUpdate(metadata={"a": "b"}),
    directory.KeyUpdate(expires_at=4_000_000_000),
    directory.KeyUpdate(key_expires_at=4_000_000_000),
])
def test_every_update_reaches_the_record(registry: Registry, change: directory.KeyUpdate):
    key_id = issue(registry, scopes=("read",)).key.key_id
    before = stored_records(registry)
    key = act(registry, directory.update_key, key_id, change)
    assert key == directory.show_key(registry, key_id)
    assert stored_records(registry) != before
    assert pending(registry) == 2
    assert_records_true(registry)
    act(registry, directory.update_key, key_id, change)
    assert pending(registry) == 2  # a repeat is no change


def test_an_end_moves_later_only_on_purpose(registry: Registry):
    key_id = issue(registry, expires_at=3_900_000_000).key.key_id
    later = directory.KeyUpdate(expires_at=4_000_000_000)
    with pytest.raises(Conflict) as caught:
        act(registry, directory.update_key, key_id, later)
    assert caught.value.code == "WOULD_EXTEND"
    assert directory.show_key(registry, key_id).label.expires_at == 3_900_000_000
    extended = act(registry, directory.update_key, key_id, directory.KeyUpdate(expires_at=4_000_000_000, extend=True))
    assert extended.label.expires_at == 4_000_000_000
    assert_records_true(registry)


def test_switches_are_idempotent(registry: Registry):
    key_id = issue(registry).key.key_id
    start = pending(registry)
    for expected, enabled in ((1, False), (1, False), (2, True), (2, True)):
        assert act(registry, directory.set_key_enabled, key_id, enabled).enabled is enabled
        assert pending(registry) - start == expected
        assert_records_true(registry)


def test_a_client_switch_touches_no_record(registry: Registry):
    issue(registry)
    before, start = stored_records(registry), pending(registry)
    client = act(registry, directory.set_client_enabled, "acme", False)
    act(registry, directory.set_client_enabled, "acme", False)
    assert stored_records(registry) == before
    assert pending(registry) - start == 1
    with registry.read() as connection:
        assert queries.clients_off(connection) == [client.ordinal]
        assert queries.counts(connection, 0).active == 0
        assert queries.counts(connection, 0).clients == client.ordinal + 1


def test_revocations_are_strengthened_never_weakened(registry: Registry):
    key_id = issue(registry).key.key_id
    steps = [
        (RevocationReason.SUPERSEDED, RevocationReason.SUPERSEDED, (1,)),
        (RevocationReason.UNSPECIFIED, RevocationReason.SUPERSEDED, ()),
        (RevocationReason.KEY_COMPROMISE, RevocationReason.KEY_COMPROMISE, (1,)),
        (RevocationReason.SUPERSEDED, RevocationReason.KEY_COMPROMISE, ()),
    ]
    revoked_at = set()
    for asked, expected, changed in steps:
        done = act(registry, directory.revoke_version, key_id, [1], asked)
        assert done.changed == changed
        assert done.key == directory.show_key(registry, key_id)
        assert done.key.label.reason is expected
        revoked_at.add(done.key.label.revoked_at)
        assert_records_true(registry)
    assert len(revoked_at) == 1
    assert act(registry, directory.revoke_version, key_id).numbers == ()  # nothing live is left


def test_unknown_things_are_not_found(registry: Registry):
    key_id = issue(registry).key.key_id
    for code, call in (
        ("CLIENT_NOT_FOUND", lambda: act(registry, directory.issue_key, [PEPPER], "nobody", Terms())),
        ("CLIENT_NOT_FOUND", lambda: act(registry, directory.set_client_enabled, "nobody", True)),
        ("CLIENT_NOT_FOUND", lambda: list(directory.list_keys(registry, client_id="nobody"))),
        ("KEY_NOT_FOUND", lambda: directory.show_key(registry, "key_x")),
        ("KEY_NOT_FOUND", lambda: act(registry, directory.revoke_version, "key_x")),
        ("VERSION_NOT_FOUND", lambda: act(registry, directory.revoke_version, key_id, [2])),
    ):
        with pytest.raises((NotFound, InvalidInput)) as caught:
            call()
        assert caught.value.code == code


def test_a_token_given_as_a_key_id_is_not_repeated(registry: Registry):
    token = issue(registry).token
    with pytest.raises(NotFound) as caught:
        directory.show_key(registry, token)
    assert token[8:] not in str(caught.value.to_json())


def test_a_client_id_is_taken_once(registry: Registry):
    with pytest.raises(Conflict) as caught:
        act(registry, directory.create_client, "acme")
    assert caught.value.code == "CLIENT_EXISTS"


def test_listing_pages_through_everything(registry: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queries, "PAGE", 3)
    made = [issue(registry).key.key_id for _ in range(7)]
    act(registry, directory.create_client, "other")
    act(registry, directory.issue_key, [PEPPER], "other", Terms())
    assert made == [key.key_id for key in directory.list_keys(registry, client_id="acme")]
    assert made[:4] == [key.key_id for key in directory.list_keys(registry, limit=4)]
    assert len(list(directory.list_keys(registry))) == 8


def test_what_counts_as_active(registry: Registry):
    now_s = int(time.time())
    issue(registry)
    ending = issue(registry, expires_at=now_s + 100).key.key_id
    off, revoked = issue(registry).key.key_id, issue(registry).key.key_id
    act(registry, directory.set_key_enabled, off, False)
    act(registry, directory.revoke_version, revoked)
    assert directory.show_key(registry, ending).label.expires_at == now_s + 100
    with registry.read() as connection:
        assert (queries.counts(connection, now_s + 99).records, queries.counts(connection, now_s + 99).active) == (4, 2)
        assert queries.counts(connection, now_s + 100).active == 1


def test_the_last_revision_is_set_by_comparison(registry: Registry):
    issue(registry)
    with registry.write() as connection:
        seen = queries.state(connection)
        queries.set_last_revision(connection, 1, expected=0, changes=seen.changes)
    assert pending(registry) == 0
    with pytest.raises(Conflict) as caught, registry.write() as connection:
        queries.set_last_revision(connection, 2, expected=0, changes=seen.changes)
    assert caught.value.code == "REGISTRY_BEHIND"
    with registry.read() as connection:
        assert queries.state(connection).last_revision == 1


def test_at_most_64_prefixes(registry: Registry):
    for number in range(64):
        issue(registry, prefix=f"p{number}")
    with pytest.raises(InvalidInput) as caught:
        issue(registry, prefix="one_more")
    assert caught.value.code == "TOO_MANY_PREFIXES"
    issue(registry, prefix="p5")
