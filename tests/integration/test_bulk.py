"""Keys by the ten thousand: the same as one by one, in files that are whole or not there."""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, update

from tests.support.acts import act
from verifier import tokens
from verifier.control import directory, issuing_many
from verifier.control.records import encoded
from verifier.control.terms import Terms
from verifier.errors import Conflict, InvalidInput, NotFound, Unavailable
from verifier.registry import audit, bulk, queries, schema
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home

PEPPERS = [b"p" * 32]
TERMS = Terms(scopes=("read", "trade"), rules=("10.0.0.0/8",), metadata={"tier": "gold"}, expires_at=4_000_000_000)


@pytest.fixture
def registry(registry_place: Home) -> Iterator[Registry]:
    with open_registry(registry_place) as registry:
        act(registry, directory.create_client, "acme")
        yield registry


def stored_records(registry: Registry) -> dict[bytes, bytes]:
    with registry.read() as connection:
        return dict(chain.from_iterable(queries.iterate_records(connection)))


def index_names(registry: Registry) -> set[str | None]:
    return {index["name"] for table in ("keys", "versions") for index in inspect(registry.engine).get_indexes(table)}


@pytest.mark.parametrize("rebuild_rows_min", [1, 1_000_000], ids=["indexes made anew", "indexes kept"])
def test_many_keys_are_like_single_ones(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rebuild_rows_min: int
):
    monkeypatch.setattr(issuing_many, "BATCH", 7_000)
    monkeypatch.setattr(bulk, "REBUILD_ROWS_MIN", rebuild_rows_min)
    indexes = index_names(registry)
    single = act(registry, directory.issue_key, PEPPERS, "acme", TERMS)
    stages: list[tuple[str, int, int]] = []
    files = directory.issue_keys(registry, PEPPERS, "acme", TERMS, count=20_000, output=tmp_path / "tokens.txt",
                                 progress=lambda *stage: stages.append(stage))
    assert [(7_000, 20_000), (14_000, 20_000), (20_000, 20_000)] == [s[1:] for s in stages if s[0] == "keys"]
    assert files == [tmp_path / "tokens.txt", tmp_path / "tokens.txt.ids"]
    made, key_ids = (file.read_text().splitlines() for file in files)
    assert len(set(made)) == len(set(key_ids)) == 20_000
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)

    stored = stored_records(registry)
    keys = {key.key_id: key for key in directory.list_keys(registry)}
    assert len(stored) == len(keys) == 20_001
    for token, key_id in zip(made, key_ids, strict=True):
        key = keys[key_id]
        assert key.label.tag == tokens.tag(token, PEPPERS)
        assert stored[key.label.tag] == encoded(key, key.label)
    first = keys[key_ids[0]]
    alike = ("client_id", "scopes", "rules", "metadata", "prefix", "enabled", "expires_at")
    assert [getattr(single.key, name) for name in alike] == [getattr(first, name) for name in alike]
    assert list(range(1, 20_002)) == sorted(key.label.ordinal for key in keys.values())
    assert index_names(registry) == indexes
    with registry.read() as connection:
        assert queries.state(connection).pending_changes == 20_001


def test_json_lines_name_the_keys(registry: Registry, tmp_path: Path):
    files = directory.issue_keys(registry, PEPPERS, "acme", Terms(), count=50, output=tmp_path / "t", as_jsonl=True)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["t"]
    for line in files[0].read_text().splitlines():
        body = json.loads(line)
        key = directory.show_key(registry, body["key_id"])
        assert key.label.tag == tokens.tag(body["token"], PEPPERS)
        assert (body["client_id"], body["version"]) == ("acme", 1)


@pytest.mark.parametrize("taken", ["tokens.txt", "tokens.txt.ids"])
def test_no_file_is_overwritten(registry: Registry, tmp_path: Path, taken: str):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(Conflict) as caught:
        directory.issue_keys(registry, PEPPERS, "acme", Terms(), count=5, output=tmp_path / "tokens.txt")
    assert caught.value.code == "FILE_EXISTS"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [taken]
    assert (tmp_path / taken).read_text() == "precious"
    assert not stored_records(registry)


def test_a_name_taken_meanwhile_is_not_overwritten(registry: Registry, tmp_path: Path):
    def take(stage: str, done: int, total: int) -> None:
        if stage == "commit":
            (tmp_path / "tokens.txt.ids").write_text("precious")

    with pytest.raises(Conflict):
        directory.issue_keys(registry, PEPPERS, "acme", Terms(), count=5, output=tmp_path / "tokens.txt", progress=take)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["tokens.txt.ids"]
    assert (tmp_path / "tokens.txt.ids").read_text() == "precious"
    assert not stored_records(registry)


def test_an_error_leaves_neither_files_nor_keys(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(issuing_many, "BATCH", 10)

    def fail(stage: str, done: int, total: int) -> None:
        if done == 20:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        directory.issue_keys(registry, PEPPERS, "acme", Terms(), count=30, output=tmp_path / "t", progress=fail)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    assert not stored_records(registry)
    assert directory.issue_keys(registry, PEPPERS, "acme", Terms(), count=30, output=tmp_path / "t")


@pytest.fixture
def published(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of which something was published, and that has a key; batches are small."""
    act(registry, directory.issue_key, PEPPERS, "acme", Terms())
    with registry.write() as connection:
        connection.execute(update(schema.registry).values(last_revision=1))
    monkeypatch.setattr(issuing_many, "BATCH", 10)
    return registry


def test_others_can_write_between_batches_once_something_was_published(published: Registry, tmp_path: Path):
    seen: list[int] = []

    def revoke(stage: str, done: int, total: int) -> None:
        if stage == "commit":
            seen.append(len(stored_records(published)))  # another connection sees what was committed so far

    files = directory.issue_keys(published, PEPPERS, "acme", Terms(), count=35, output=tmp_path / "t", progress=revoke)
    assert [1, 11, 21, 31] == seen
    made = [tokens.tag(line, PEPPERS) for line in files[0].read_text().splitlines()]
    keys = {key.key_id: key.label.tag for key in directory.list_keys(published)}
    assert [keys[key_id] for key_id in files[1].read_text().split()] == made
    assert len(keys) == 36
    with published.read() as connection:
        entries = [json.loads(e.details) for e in audit.entries(connection) if e.action == "key.create"]
    assert [10, 10, 10, 5] == [entry["count"] for entry in entries if "count" in entry]


@pytest.mark.parametrize("at", ["keys", "index", "commit"])
def test_an_error_between_commits_keeps_what_was_committed(published: Registry, tmp_path: Path, at: str):
    stages: list[str] = []

    def fail(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        if stages.count(at) == 3:
            raise Conflict("stop", code="STOP")

    with pytest.raises(Unavailable) as caught:
        directory.issue_keys(published, PEPPERS, "acme", Terms(), count=50, output=tmp_path / "t", progress=fail)
    assert (caught.value.code, caught.value.details) == ("PARTLY_DONE", {"made": 20, "cause": "STOP"})
    made = {tokens.tag(line, PEPPERS) for line in (tmp_path / "t").read_text().splitlines()}
    assert len(made) == len((tmp_path / "t.ids").read_text().split()) == 20
    assert made <= set(stored_records(published))
    assert len(stored_records(published)) == 21


def test_an_error_in_the_first_batch_leaves_nothing(published: Registry, tmp_path: Path):
    def fail(stage: str, done: int, total: int) -> None:
        raise Conflict("stop", code="STOP")

    with pytest.raises(Conflict) as caught:
        directory.issue_keys(published, PEPPERS, "acme", Terms(), count=50, output=tmp_path / "t", progress=fail)
    assert caught.value.code == "STOP"
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(stored_records(published)) == 1


def test_a_failed_commit_loses_no_token(published: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, begun = issuing_many.acting, []

    @contextmanager
    def failing(*arguments: Any, **options: Any) -> Iterator[Any]:
        begun.append(1)
        with real(*arguments, **options) as one:
            yield one
        if len(begun) == 2:  # the answer to the commit was lost
            raise Unavailable("the connection is gone", code="REGISTRY_UNAVAILABLE")

    monkeypatch.setattr(issuing_many, "acting", failing)
    with pytest.raises(Unavailable) as caught:
        directory.issue_keys(published, PEPPERS, "acme", Terms(), count=50, output=tmp_path / "t")
    assert caught.value.code == "PARTLY_DONE"
    made = {tokens.tag(line, PEPPERS) for line in (tmp_path / "t").read_text().splitlines()}
    stored = set(stored_records(published))
    assert len(stored) == 21
    assert len(stored - made) == 1  # the key from before


def test_a_tag_that_comes_twice_rolls_back(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines, tags = issuing_many.make_tokens(b"vk_live", 10, PEPPERS)
    monkeypatch.setattr(issuing_many, "make_tokens", lambda *_: (lines, tags))
    monkeypatch.setattr(issuing_many, "BATCH", 10)
    for rows_min in (1, 1_000_000):
        monkeypatch.setattr(bulk, "REBUILD_ROWS_MIN", rows_min)
        with pytest.raises(Conflict) as caught:
            directory.issue_keys(registry, PEPPERS, "acme", Terms(), count=20, output=tmp_path / "t")
        assert caught.value.code == "DUPLICATE"
        assert not stored_records(registry)
        assert not (tmp_path / "t").exists()


def test_what_cannot_be_made(registry: Registry, tmp_path: Path):
    for expected, client, terms, count, output in (
        (NotFound, "nobody", Terms(), 5, tmp_path / "t"),
        (InvalidInput, "acme", Terms(scopes=("a b",)), 5, tmp_path / "t"),
        (InvalidInput, "acme", Terms(expires_at=1), 5, tmp_path / "t"),
        (InvalidInput, "acme", Terms(), 0, tmp_path / "t"),
        (Unavailable, "acme", Terms(), 5, tmp_path / "no" / "folder" / "t"),
    ):
        with pytest.raises(expected):
            directory.issue_keys(registry, PEPPERS, client, terms, count=count, output=output)
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
