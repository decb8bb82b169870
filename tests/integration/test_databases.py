"""What a registry promises in either database: transactions, locks, faults, and what an address may not betray."""

import re
import threading
import time
import traceback
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, text, update

from tests.support.acts import act
from tests.support.databases import PostgresServer
from tests.support.homes import add_keys
from verifier.control import clients
from verifier.control.founding import found
from verifier.control.publishing import publish
from verifier.errors import Conflict, InvalidInput, NotFound, Unavailable, VerifierError
from verifier.registry import bulk, changes, queries, schema, usage
from verifier.registry.database import Registry, create_registry, open_registry
from verifier.registry.engines import url_of
from verifier.registry.leader import leading
from verifier.store.home import Home

SECRET = "pa55-w0rd"


def with_options(url: str, options: str) -> str:
    """Return a PostgreSQL address with settings for its sessions."""
    return url_of(url).update_query_dict({"options": options}).render_as_string(hide_password=False)


def everything_of(error: BaseException) -> str:
    """Return all that an error could show, its traceback and its causes included."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    return shown + (str(error.to_json()) if isinstance(error, VerifierError) else "")


def changes_of(registry: Registry) -> int:
    with registry.read() as connection:
        return queries.state(connection).changes


# --- Addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [
    f"mysql://user:{SECRET}@127.0.0.1/x",
    f"user:{SECRET}",
    f"postgresql://user@127.0.0.1:{SECRET}/x",
    f"postgresql://user:pass@{SECRET}@127.0.0.1/x",
    f"//{SECRET}",
    "",
])
def test_an_address_that_cannot_be_used_is_not_repeated(address: str):
    with pytest.raises(InvalidInput) as caught:
        open_registry(address)
    assert "BAD_REGISTRY_URL" == caught.value.code
    assert SECRET not in everything_of(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_password_is_never_shown(scheme: str, free_port: Callable[[], int], tmp_path: Path):
    address = f"{scheme}://someone:{SECRET}@127.0.0.1:{free_port()}/verifier"
    home = Home(tmp_path, registry=address)
    for call in (open_registry, found):
        with pytest.raises(Unavailable) as caught:
            call(home)
        assert "REGISTRY_UNAVAILABLE" == caught.value.code
        assert SECRET not in everything_of(caught.value)
    assert SECRET not in repr(home)


def test_a_password_that_is_used_is_never_shown(postgres_url: str):
    address = url_of(postgres_url).set(password=SECRET).render_as_string(hide_password=False)
    create_registry(address, peppers=["p1"], now_s=1)
    with open_registry(address) as registry:
        assert SECRET not in f"{registry} {registry.url} {registry.url!r} {registry.engine!r}"


# --- Transactions ----------------------------------------------------------------------------------------------------


def test_founding_and_opening(empty_place: Home):
    with pytest.raises(NotFound) as caught:
        open_registry(empty_place)
    assert "NOT_INITIALISED" == caught.value.code
    first = found(empty_place)
    assert first.created
    assert not found(empty_place).created
    with open_registry(empty_place) as registry, registry.read() as connection:
        assert first.store_id == queries.state(connection).store_id


def test_founders_at_once_agree(empty_place: Home):
    empty_place.create()
    ids: list[str] = []

    def run() -> None:
        ids.append(create_registry(empty_place, peppers=["p1"], now_s=1))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (4, 1) == (len(ids), len(set(ids)))


def test_a_reader_sees_one_state_from_its_first_look_to_its_last(registry: Registry):
    with registry.read() as connection:
        before = queries.state(connection)
        with registry.write() as other:
            changes.count_changes(other, 5)
        assert before == queries.state(connection)
    assert before.changes + 5 == changes_of(registry)


def test_readers_never_wait_for_a_writer(registry: Registry):
    with registry.write() as connection:
        changes.count_changes(connection)
        began = time.monotonic()
        assert 0 == changes_of(registry)
        assert time.monotonic() - began < 5


def test_writers_come_one_after_the_other(registry: Registry, registry_place: Home):
    """Who waited sees what the one before him did: no update is lost, and no writer has to try again."""
    def count() -> None:
        with open_registry(registry_place) as other:
            for _ in range(20):
                with other.write() as connection:
                    seen = queries.state(connection).changes
                    connection.execute(update(schema.registry).values(changes=seen + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 80 == changes_of(registry)


def test_a_writer_that_waits_too_long_gets_a_clear_error(registry: Registry, registry_place: Home):
    address = registry_place.registry_url
    quick = with_options(address, "-c lock_timeout=100ms") if registry_place.external else address
    with open_registry(quick) as other, registry.write():
        if not registry_place.external:
            with other.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA busy_timeout = 100")
        began = time.monotonic()
        with pytest.raises(Conflict) as caught:
            act(other, clients.create_client, "late")
        assert "REGISTRY_BUSY" == caught.value.code
        assert time.monotonic() - began < 10


def test_reading_changes_nothing_in_postgresql(postgres_url: str):
    create_registry(postgres_url, peppers=["p1"], now_s=1)
    with open_registry(postgres_url) as registry:
        with pytest.raises(Unavailable), registry.read() as connection:
            changes.count_changes(connection)
        assert 0 == changes_of(registry)
        with registry.write() as connection:  # the pool gives out the same connection, which may write again
            changes.count_changes(connection)
        assert 1 == changes_of(registry)


# --- Faults ----------------------------------------------------------------------------------------------------------


def test_a_duplicate_says_nothing_of_the_row(registry: Registry):
    prefix = {"prefix": "dup-value", "mode": "NATIVE"}
    with pytest.raises(Unavailable) as caught, registry.write() as connection:
        connection.execute(insert(schema.prefixes), [prefix, prefix])
    assert "REGISTRY_UNAVAILABLE" == caught.value.code
    shown = caught.value.message
    assert "dup-value" not in shown
    assert "INSERT" not in shown
    with registry.read() as connection:
        assert [] == queries.prefix_modes(connection)


def test_a_bad_value_is_not_repeated(postgres_url: str):
    create_registry(postgres_url, peppers=["p1"], now_s=1)
    with open_registry(postgres_url) as registry, pytest.raises(Unavailable) as caught, registry.read() as connection:
        connection.execute(text("SELECT CAST(:value AS INTEGER)"), {"value": SECRET})
    assert SECRET not in caught.value.message


def test_a_connection_that_is_lost_is_a_fault_and_the_next_is_new(
    postgres_server: PostgresServer, postgres_url: str
):
    create_registry(postgres_url, peppers=["p1"], now_s=1)
    name = url_of(postgres_url).database
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    with open_registry(postgres_url) as registry:
        with pytest.raises(Unavailable) as caught, registry.write() as connection:
            changes.count_changes(connection)
            postgres_server.execute(cut)
            changes.count_changes(connection)
        assert "REGISTRY_UNAVAILABLE" == caught.value.code
        with pytest.raises(Unavailable), registry.read() as connection:
            records = queries.iterate_records(connection)
            postgres_server.execute(cut)
            list(records)
        postgres_server.execute(cut)  # while it lies in the pool
        assert 0 == changes_of(registry)


def test_a_role_without_rights_is_told_so(postgres_server: PostgresServer, postgres_url: str):
    create_registry(postgres_url, peppers=["p1"], now_s=1)
    postgres_server.execute("CREATE ROLE reader LOGIN")
    try:
        with pytest.raises(Unavailable) as caught:
            open_registry(url_of(postgres_url).set(username="reader").render_as_string())
        assert "permission denied for table registry" in caught.value.message
        assert "docs/operating.md" in (caught.value.hint or "")
    finally:
        postgres_server.execute("DROP ROLE reader")


def test_the_documented_grants_are_enough(postgres_server: PostgresServer, postgres_url: str, tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    (grants,) = re.findall(r"```sql\n(GRANT CONNECT.*?)```", page, re.DOTALL)
    (revoked,) = re.findall(r"`(REVOKE UPDATE, DELETE ON audit FROM \w+;)`", page)
    database = str(url_of(postgres_url).database)
    home = Home(tmp_path, registry=postgres_url)
    found(home)
    postgres_server.execute("CREATE ROLE verifier_control LOGIN")
    try:
        for grant in (grants.replace("DATABASE verifier", f"DATABASE {database}") + revoked).split(";")[:-1]:
            postgres_server.execute(grant, database)
        less = Home(tmp_path, registry=url_of(postgres_url).set(username="verifier_control").render_as_string())
        with open_registry(less) as registry:
            act(registry, clients.create_client, "acme")
            with leading(registry) as leadership:
                assert leadership.still_held()
            with registry.write() as connection, bulk.expecting(connection, 1_000_000):
                usage.load(connection, [])
        add_keys(less, 3)
        assert 3 == publish(less).manifest.records
        with pytest.raises(Unavailable), open_registry(less) as registry, registry.write() as connection:
            connection.execute(delete(schema.audit))
    finally:
        postgres_server.execute("DROP OWNED BY verifier_control", database)
        postgres_server.execute("DROP ROLE verifier_control")


def test_sessions_are_known_by_their_name_and_give_up_waiting(postgres_url: str):
    create_registry(postgres_url, peppers=["p1"], now_s=1)
    with open_registry(postgres_url) as registry, registry.read() as connection:
        asked = "SELECT current_setting('application_name'), current_setting('lock_timeout')"
        assert ("verifier", "30s") == tuple(connection.execute(text(asked)).one())
    with open_registry(f"{postgres_url}&application_name=other") as registry, registry.read() as connection:
        assert ("other", "30s") == tuple(connection.execute(text(asked)).one())


# --- Many rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rebuild_rows_min", [1, 1_000_000], ids=["indexes made anew", "indexes kept"])
def test_bulk_rows_arrive_whole(registry: Registry, monkeypatch: pytest.MonkeyPatch, rebuild_rows_min: int):
    monkeypatch.setattr(bulk, "REBUILD_ROWS_MIN", rebuild_rows_min)
    act(registry, clients.create_client, "acme")
    texts = ["", "\\N", "a\tb\nc", "ключ", "'; DROP TABLE keys", '{"a": "\\""}']
    keys = [
        (number, f"key_{number}", 1, number % 2 == 0, 1, 2**40 if number % 3 else None, texts[number % len(texts)], "",
         texts[-number % len(texts)], "p", texts[number % len(texts)] or None, 2**40 if number % 5 else None)
        for number in range(1, 51)
    ]  # fmt: skip
    shared = {"number": 1, "issued_at": 7, "not_before": None, "expires_at": 2**33, "entropy_bits": None}
    versions = [(number, bytes([number]) * 32, bytes(range(number)), number) for number in range(1, 51)]
    with registry.write() as connection, bulk.expecting(connection, 50):
        bulk.insert_keys(connection, keys)
        bulk.insert_versions(connection, versions, shared)
    k, v = schema.keys.c, schema.versions.c
    with registry.read() as connection:
        found_keys = connection.execute(select(*(k[name] for name in bulk.KEY_COLUMNS)).order_by(k.ordinal))
        assert keys == [tuple(row) for row in found_keys]
        names = ("ordinal", "tag", "record", "key_ordinal", *shared)
        found_versions = connection.execute(select(*(v[name] for name in names)).order_by(v.ordinal))
        assert [(*row, *shared.values()) for row in versions] == [tuple(row) for row in found_versions]
        records = dict(chain.from_iterable(queries.iterate_records(connection, 7)))
    assert {row[1]: row[2] for row in versions} == records
    assert {bytes} == {type(part) for pair in records.items() for part in pair}


def test_a_first_load_does_not_keep_readers_out_for_good(registry: Registry):
    """In PostgreSQL indexes that are made anew keep readers out, so that is for registries without keys."""
    act(registry, clients.create_client, "acme")
    row = ("key", 1, True, 1, None, "", "", "", "p", None, None)
    with registry.write() as connection:
        bulk.insert_keys(connection, [(1, *row)])
        bulk.insert_versions(connection, [(1, b"t" * 32, b"r", 1, 1, 1, None, None, None)])
    with registry.write() as connection, bulk.expecting(connection, 1_000_000), registry.read() as reader:
        assert 1 == sum(map(len, queries.iterate_records(reader)))


def test_prefixes_come_in_one_order_from_every_database(registry: Registry):
    with registry.write() as connection:
        for prefix in ("b", "A", "a_b", "aa", "B", "a0"):
            changes.use_prefix(connection, prefix)
    with registry.read() as connection:
        assert ["A", "B", "a0", "a_b", "aa", "b"] == [prefix for prefix, _ in queries.prefix_modes(connection)]
