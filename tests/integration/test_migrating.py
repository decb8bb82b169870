"""From an older format of the registry to the present one, on both databases."""

import json
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Boolean, Connection, LargeBinary, MetaData, Table, insert, inspect, select, text, update

from verifier import Keyring, tokens
from verifier.cli._app import main
from verifier.control import auditing, directory
from verifier.control.acting import acting
from verifier.control.founding import found
from verifier.control.publishing import publish
from verifier.control.terms import Terms
from verifier.control.upgrading import upgrade_registry
from verifier.errors import Conflict, NotFound, Unavailable
from verifier.registry import audit, migrating, queries, schema
from verifier.registry.database import Registry, open_registry
from verifier.registry.engines import engine_of
from verifier.store.home import Home
from verifier.store.secrets import Secrets
from verifier.vocabulary import Verdict

# Made by the verifier that had format 1: four keys, of which one is compromised and one revoked otherwise.
OLD = json.loads((Path(__file__).parents[1] / "support" / "registry_format_1.json").read_text())
COMPROMISED, REVOKED, LIVE, CLIENT_OFF = OLD["tokens"]


def make_old(home: Home) -> None:
    """Put a registry of format 1 with its secrets into an empty home."""
    home.create()
    (home.secrets / "peppers" / "p1").write_text(OLD["pepper"])
    engine = engine_of(home.registry_url)
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        migrating.migrate(connection, 0, 1)
        connection.execute(text(f"DROP TABLE {migrating.VERSION_TABLE}"))  # format 1 knew nothing of steps
        connection.execute(text("DELETE FROM registry"))
        for name, rows in OLD["tables"].items():
            table = Table(name, MetaData(), autoload_with=connection)
            connection.execute(insert(table), [_row(table, row) for row in rows])
    engine.dispose()


def _row(table: Table, row: dict[str, object]) -> dict[str, object]:
    kinds = {LargeBinary: bytes.fromhex, Boolean: bool}
    changed = dict(row)
    for column in table.c:
        for kind, convert in kinds.items():
            if isinstance(column.type, kind) and row[column.name] is not None:
                changed[column.name] = convert(row[column.name])
    return changed


def shape(connection: Connection) -> dict[str, object]:
    """Describe all tables, whatever the order of their columns."""
    found = inspect(connection)
    return {
        name: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], _default(column["default"]))
                for column in found.get_columns(name)
            },
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "foreign": [(key["constrained_columns"], key["referred_table"]) for key in found.get_foreign_keys(name)],
            "unique": sorted(map(str, (item["column_names"] for item in found.get_unique_constraints(name)))),
            "indexes": {
                index["name"]: (index["column_names"], bool(index["unique"]), str(_where(index)))
                for index in found.get_indexes(name)
            },
        }
        for name in found.get_table_names()
    }


def _default(value: str | None) -> str | None:
    plain = None if value is None else value.split("::")[0].strip("'")
    return {"0": "false"}.get(plain, plain)


def _where(index: dict[str, object]) -> object:
    options = index.get("dialect_options", {})
    return options.get("sqlite_where", options.get("postgresql_where"))


def migrated(url: str) -> tuple[dict[str, object], list[object]]:
    """Take all steps in an empty database; return its shape, and what it lacks to be the schema's."""
    engine = engine_of(url)
    with engine.connect() as connection, connection.begin():
        migrating.migrate(connection, 0)
        context = MigrationContext.configure(connection, opts={"version_table": migrating.VERSION_TABLE})
        result = shape(connection), compare_metadata(context, schema.metadata)
    engine.dispose()
    return result


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_all_steps_lead_to_what_a_new_registry_is(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    with ExitStack() as stack:
        steps, new = f"sqlite:///{tmp_path / 'steps'}", f"sqlite:///{tmp_path / 'new'}"
        if kind == "postgresql":
            server = request.getfixturevalue("postgres_server")
            steps, new = (stack.enter_context(server.database()) for _ in range(2))
        made, missing = migrated(steps)
        assert not missing, "verifier/registry/schema.py has what no step of verifier/registry/migrations makes"
        found(Home(tmp_path / "home", registry=new))
        with open_registry(new) as registry, registry.read() as connection:
            assert shape(connection) == made
            assert connection.scalar(text(f"SELECT version_num FROM {migrating.VERSION_TABLE}")) == "0002"


def test_the_first_step_makes_what_format_1_was(tmp_path: Path):
    engine = engine_of(f"sqlite:///{tmp_path / 'new'}")
    with engine.connect() as connection, connection.begin():
        migrating.migrate(connection, 0, 1)
        made = shape(connection)
    engine.dispose()
    del made[migrating.VERSION_TABLE]
    with sqlite3.connect(tmp_path / "old") as old:
        for statement in sorted(OLD["ddl"], key=lambda ddl: "INDEX" in ddl.split("(")[0]):
            old.execute(statement)
    engine = engine_of(f"sqlite:///{tmp_path / 'old'}")
    with engine.connect() as connection:
        assert shape(connection) == made
    engine.dispose()


def test_an_upgrade_keeps_every_answer(empty_place: Home):
    make_old(empty_place)
    with pytest.raises(Conflict) as caught:
        open_registry(empty_place)
    assert caught.value.code == "REGISTRY_TOO_OLD"
    assert "verifier registry upgrade" in (caught.value.hint or "")
    done = upgrade_registry(empty_place)
    assert (done.before, done.after, done.changed) == (1, schema.SCHEMA, True)
    with open_registry(empty_place) as registry:
        assert_values_right(registry)
        peppers = list(Secrets(empty_place.secrets).peppers().values())
        new = issue(registry, peppers).token
        keys = {version.tag: key for key in directory.list_keys(registry) for version in key.versions}
        for token in (COMPROMISED, REVOKED, LIVE, CLIENT_OFF, new):
            assert tokens.tag(token, peppers) in keys
        live = keys[tokens.tag(LIVE, peppers)]
        assert (live.scopes, live.rules, live.metadata) == (("read", "trade"), ("10.0.0.0/8",), {"tier": "gold"})


def issue(registry: Registry, peppers: list[bytes]) -> directory.IssuedKey:
    with acting(registry) as act:
        return directory.issue_key(act, peppers, "acme", Terms())


def assert_values_right(registry: Registry) -> None:
    row = schema.registry.c
    with registry.read() as connection:
        assert queries.state(connection).last_revision == 1
        assert (None, None, None, None) == tuple(
            connection.execute(select(row.base_sha256, row.base_changes, row.base_next_version, row.base_at)).one()
        )  # so that the next publication builds a base
        assert not connection.execute(select(schema.dirty)).all()
        assert not connection.execute(select(schema.keys).where(schema.keys.c.due_at.is_not(None))).all()
        (tombstone,) = connection.execute(select(schema.tombstones)).mappings()
        revoked = next(row for row in OLD["tables"]["versions"] if row["reason"] == 1)
        key = next(row for row in OLD["tables"]["keys"] if row["ordinal"] == revoked["key_ordinal"])
        assert dict(tombstone) == {
            "tag": bytes.fromhex(revoked["tag"]), "key_id": key["key_id"], "number": 1,
            "revoked_at": revoked["revoked_at"],
        }
        (entry,) = audit.entries(connection)
        assert (entry.action, json.loads(entry.details)) == (
            "registry.upgrade", {"before": {"format": 1}, "after": {"format": schema.SCHEMA}, "last_revision": 1})
        assert auditing.check(connection).is_sound  # though it tells nothing of that revision


def test_an_upgraded_registry_is_published(empty_place: Home, capsys: pytest.CaptureFixture[str]):
    make_old(empty_place)
    place = ["--store", str(empty_place.folder), "--registry", empty_place.registry_url]
    with pytest.raises(SystemExit) as left:
        main([*place, "registry", "upgrade", "--json"])
    assert left.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["before"], said["after"], said["changed"]) == (1, schema.SCHEMA, True)
    with open_registry(empty_place) as registry, registry.write() as connection:  # its old store is not here
        connection.execute(
            update(schema.registry).values(last_revision=0, intent_revision=None, intent_digest=None)
        )
    manifest = publish(empty_place).manifest
    assert (manifest.records, manifest.active) == (4, 1)
    with Keyring.open(empty_place.folder) as keyring:
        given = {"client_address": "10.1.2.3", "required_scopes": ("read",)}
        verdicts = [keyring.verify(token, **given).verdict for token in OLD["tokens"]]
    assert verdicts == [Verdict.REVOKED, Verdict.REVOKED, Verdict.VALID, Verdict.CLIENT_DISABLED]


def test_a_repeated_upgrade_changes_nothing(empty_place: Home):
    with pytest.raises(NotFound):
        upgrade_registry(empty_place)
    make_old(empty_place)
    upgrade_registry(empty_place)
    again = upgrade_registry(empty_place)
    assert (again.changed, again.backup) == (False, None)
    with open_registry(empty_place) as registry, registry.read() as connection:
        assert len(list(audit.entries(connection))) == 1


def test_a_failed_upgrade_changes_nothing(empty_place: Home, monkeypatch: pytest.MonkeyPatch):
    make_old(empty_place)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the last moment")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "append", fail)
        with pytest.raises(RuntimeError):
            upgrade_registry(empty_place)
    engine = engine_of(empty_place.registry_url)
    with engine.connect() as connection:
        assert connection.scalar(select(schema.registry.c.schema)) == 1
        assert set(inspect(connection).get_table_names()) == set(OLD["tables"])
    engine.dispose()
    assert upgrade_registry(empty_place).changed


def test_a_file_is_copied_before(tmp_path: Path):
    home = Home(tmp_path)
    make_old(home)
    with sqlite3.connect(home.registry_file) as connection:
        before = list(connection.iterdump())
    told: list[tuple[str, int, int]] = []
    backup = upgrade_registry(home, lambda *what: told.append(what)).backup
    assert backup == tmp_path / "registry.db.format-1"
    assert backup.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(backup) as connection:
        assert list(connection.iterdump()) == before
    assert {"backup", "upgrade"} == {stage for stage, _, _ in told}
    # The copy can take the registry's place, and a second upgrade leaves the first copy alone.
    for name in ("registry.db", "registry.db-wal", "registry.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    home.registry_file.write_bytes(backup.read_bytes())
    assert upgrade_registry(home).backup == tmp_path / "registry.db.format-1.2"


def test_no_upgrade_without_its_copy(tmp_path: Path):
    home = Home(tmp_path)
    make_old(home)
    (tmp_path / "registry.db.format-1.verifier-tmp").mkdir()
    with pytest.raises(Unavailable) as caught:
        upgrade_registry(home)
    assert caught.value.code == "BACKUP_FAILED"
    with pytest.raises(Conflict):
        open_registry(home)


def test_a_newer_registry_is_not_touched(registry_place: Home):
    with open_registry(registry_place) as registry, registry.write() as connection:
        connection.execute(text("UPDATE registry SET schema = 99"))
    for call in (upgrade_registry, open_registry):
        with pytest.raises(Unavailable) as caught:
            call(registry_place)
        assert caught.value.code == "REGISTRY_TOO_NEW"
