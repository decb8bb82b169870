"""Importing digests from real files."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.acts import act
from verifier import tokens
from verifier.control import digests, directory, importing
from verifier.control.digests import BadRow, Row
from verifier.control.importing import ImportReport, ImportRequest, import_digests
from verifier.control.terms import Terms
from verifier.errors import InvalidInput, NotFound
from verifier.registry import queries
from verifier.registry.database import Registry, open_registry
from verifier.store.home import Home

PEPPERS = [b"p" * 32]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def registry(registry_place: Home) -> Iterator[Registry]:
    with open_registry(registry_place) as registry:
        act(registry, directory.create_client, "acme")
        yield registry


def request(mode: importing.Mode = "mixed", *, entropy_bits: int = 160, skip_bad: bool = False,
            accept_weak: bool = False, **terms: object) -> ImportRequest:
    terms.setdefault("prefix", "old")
    return ImportRequest("acme", Terms(**terms), mode, entropy_bits, accept_weak, skip_bad)


def run(registry: Registry, file: Path, wanted: ImportRequest) -> tuple[ImportReport, list[str]]:
    key_ids: list[str] = []
    return import_digests(registry, PEPPERS, file, wanted, on_keys=key_ids.extend), key_ids


def record_count(registry: Registry) -> int:
    with registry.read() as connection:
        return queries.counts(connection, 0).records


def modes(registry: Registry) -> tuple[list[tuple[str, str]], bool]:
    with registry.read() as connection:
        return queries.prefix_modes(connection), queries.state(connection).accepts_foreign


def test_csv_with_all_columns(registry: Registry, tmp_path: Path):
    file = tmp_path / "hashes.csv"
    file.write_text(
        "key_id,hash,scopes,allow,expires_at,metadata\r\n"
        f"legacy-1,{digest('old_1').upper()},b a,10.0.0.0/8,2100-01-01T00:00:00Z,tier=gold;team=x\r\n"
        "\r\n"
        f",{digest('old_2')},,,,\r\n"
    )
    report, key_ids = run(registry, file, request(scopes=("read",)))
    assert (report.imported, report.skipped) == (2, 0)
    first, second = (directory.show_key(registry, key_id) for key_id in key_ids)
    assert first.key_id == "legacy-1"
    assert first.scopes == ("a", "b")
    assert first.rules == ("10.0.0.0/8",)
    assert first.metadata == {"tier": "gold", "team": "x"}
    assert first.label.expires_at == 4102444800
    assert first.label.tag == tokens.tag("old_1", PEPPERS)
    assert first.label.entropy_bits == 160
    assert second.scopes == ("read",)
    assert second.label.tag == tokens.tag("old_2", PEPPERS)
    assert modes(registry) == ([("old", "MIXED")], False)


def test_a_file_of_nothing_but_digests(registry: Registry, tmp_path: Path):
    file = tmp_path / "hashes.txt"
    file.write_text("".join(f"{digest(str(n))}\n" for n in range(12_000)))
    report, key_ids = run(registry, file, request("foreign", prefix="vk_live"))
    assert report.imported == len(set(key_ids)) == record_count(registry) == 12_000
    assert modes(registry) == ([("vk_live", "NATIVE")], True)


def test_json_lines(registry: Registry, tmp_path: Path):
    file = tmp_path / "hashes.jsonl"
    rows = [
        {"sha256": digest("a"), "key_id": "k1", "scopes": ["x", "y"], "metadata": {"n": "v"}, "allow": ["::/0"]},
        {"digest": digest("b"), "scopes": "x y", "expires_at": None},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report, key_ids = run(registry, file, request())
    assert report.imported == 2
    keys = [directory.show_key(registry, key_id) for key_id in key_ids]
    assert [("x", "y"), ("x", "y")] == [key.scopes for key in keys]
    assert keys[0].metadata == {"n": "v"}


SECRET = "old_averysecretvalue"
BAD_CSV = (
    "sha256,key_id,scopes,expires_at,metadata,allow\n"
    f"{digest('good')},good,,,,\n"
    f"{SECRET},,,,,\n"                                   # 3: a token instead of its digest
    f"{digest('a')[:-1]},,,,,\n"                         # 4: too short
    f"{digest('good')},,,,,\n"                           # 5: a second time
    f"{digest('there')},,,,,\n"                          # 6: in the registry
    f"{digest('b')},good,,,,\n"                          # 7: key id taken in this file
    f"{digest('c')},a b,,,,\n"                           # 8: bad key id
    f'{digest("d")},,"q""",,,\n'                         # 9: bad scope
    f"{digest('e')},,,2030-01-01T00:00:00,,\n"           # 10: no offset
    f"{digest('f')},,,2001-01-01T00:00:00Z,,\n"          # 11: over already
    f"{digest('g')},,,,gold,\n"                          # 12: not a pair
    f"{digest('h')},,,,,10.0.0.1/8\n"                    # 13: host bits
    f"{digest('i')},,\n"                                 # 14: too few columns
    f"{digest('last')},,,,,\n"
)


def prepared(registry: Registry, tmp_path: Path) -> Path:
    (tmp_path / "first.csv").write_text(digest("there") + "\n")
    run(registry, tmp_path / "first.csv", request())
    file = tmp_path / "bad.csv"
    file.write_text(BAD_CSV)
    return file


def test_bad_rows_are_named_by_line_and_nothing_is_imported(registry: Registry, tmp_path: Path):
    file = prepared(registry, tmp_path)
    with pytest.raises(InvalidInput) as caught:
        run(registry, file, request())
    error = caught.value
    assert error.code == "BAD_ROWS"
    assert list(range(3, 15)) == [row["line"] for row in error.details["rows"]]
    assert error.details["bad"] == 12
    assert "line 3" in error.message
    assert SECRET not in json.dumps(error.to_json())
    problems = {row["line"]: row["problem"] for row in error.details["rows"]}
    assert "this file" in problems[5]
    assert "the registry" in problems[6]
    assert record_count(registry) == 1
    assert modes(registry)[0] == [("old", "MIXED")]


def test_bad_rows_can_be_left_out(registry: Registry, tmp_path: Path):
    report, key_ids = run(registry, prepared(registry, tmp_path), request(skip_bad=True))
    assert (report.imported, report.skipped) == (2, 12)
    tags = [directory.show_key(registry, key_id).label.tag for key_id in key_ids]
    assert [tokens.tag("good", PEPPERS), tokens.tag("last", PEPPERS)] == tags


def test_duplicates_across_batches_are_found(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importing, "BATCH", 2)
    file = tmp_path / "h.csv"
    file.write_text("".join(f"{digest(text)}\n" for text in "abcda"))
    with pytest.raises(InvalidInput) as caught:
        run(registry, file, request())
    assert caught.value.details["rows"] == [{"line": 5, "problem": "the digest is in this file already"}]
    assert record_count(registry) == 0


def test_an_imported_digest_is_not_issued_again_after_a_revocation(registry: Registry, tmp_path: Path):
    (tmp_path / "h.csv").write_text(digest("x") + "\n")
    _, key_ids = run(registry, tmp_path / "h.csv", request())
    act(registry, directory.revoke_version, key_ids[0])
    with pytest.raises(InvalidInput) as caught:
        run(registry, tmp_path / "h.csv", request())
    assert caught.value.code == "BAD_ROWS"


@pytest.mark.parametrize(("bits", "accept", "fine"), [
    (112, False, True), (111, False, False), (111, True, True), (0, True, False), (-5, True, False),
])
def test_weak_secrets_need_a_word(registry: Registry, tmp_path: Path, bits: int, accept: bool, fine: bool):
    (tmp_path / "h.csv").write_text(digest("x") + "\n")
    wanted = request(entropy_bits=bits, accept_weak=accept)
    if fine:
        assert run(registry, tmp_path / "h.csv", wanted)[0].imported == 1
        return
    with pytest.raises(InvalidInput):
        run(registry, tmp_path / "h.csv", wanted)
    assert record_count(registry) == 0


@pytest.mark.parametrize("text", [
    "sha256,allowed_from\n" + "0" * 64 + ",x\n",   # an unknown column might be a restriction
    "key_id,scopes\na,b\n",
    "sha256,hash\n",
    f"{SECRET},x\n",
])
def test_unusable_headers(registry: Registry, tmp_path: Path, text: str):
    (tmp_path / "h.csv").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        run(registry, tmp_path / "h.csv", request())
    assert caught.value.code == "BAD_HEADER"
    assert SECRET not in json.dumps(caught.value.to_json())


def test_files_that_are_no_text_or_not_there(registry: Registry, tmp_path: Path):
    (tmp_path / "h.csv").write_bytes(b"\xff\xfe\x00" * 50)
    with pytest.raises(InvalidInput):
        run(registry, tmp_path / "h.csv", request())
    with pytest.raises(NotFound):
        run(registry, tmp_path / "none.csv", request())


def test_a_native_prefix_becomes_mixed_and_stays_so(registry: Registry, tmp_path: Path):
    act(registry, directory.issue_key, PEPPERS, "acme", Terms(prefix="old"))
    assert modes(registry)[0] == [("old", "NATIVE")]
    (tmp_path / "h.csv").write_text(digest("x") + "\n")
    run(registry, tmp_path / "h.csv", request())
    act(registry, directory.issue_key, PEPPERS, "acme", Terms(prefix="old"))
    assert modes(registry)[0] == [("old", "MIXED")]


def test_an_empty_file_changes_nothing(registry: Registry, tmp_path: Path):
    (tmp_path / "h.csv").write_text("")
    assert run(registry, tmp_path / "h.csv", request())[0].imported == 0
    assert modes(registry) == ([], False)


@given(st.text(max_size=300), st.sampled_from([".csv", ".jsonl"]))
def test_any_text_gives_rows_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str):
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        rows = list(digests.read(file))
    except InvalidInput as error:
        assert error.code in ("BAD_HEADER", "BAD_FILE")
    else:
        assert all(isinstance(row, BadRow) or (isinstance(row, Row) and len(row.digest) == 32) for row in rows)
