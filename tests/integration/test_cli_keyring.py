"""``verifier keyring`` as a program: reports for people and scripts, and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.records import built, path_of, rows, tag

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sound keyring."""
    keyring = built(tmp_path, rows(40, expires_at=1_800_000_000), clients_off=[1])
    return path_of(tmp_path, keyring)


def test_inspect(verifier_command: Command, file: Path):
    done = verifier_command("keyring", "inspect", file, "--at", "2027-01-15T08:00:00Z", "--json")
    assert (0, "") == (done.returncode, done.stderr)
    body = json.loads(done.stdout)
    assert file.stem == body["sha256"]
    assert {"PENDING": 0, "CURRENT": 0, "RETIRING": 0, "EXPIRED": 40, "REVOKED": 0} == body["phases"]
    assert (40, 40, "2027-01-15T08:00:00Z") == (body["records"], body["flags"]["client_off"], body["at"])
    assert file.stat().st_size == body["bytes"]
    people = verifier_command("keyring", "inspect", file)
    assert 0 == people.returncode
    assert file.stem in people.stdout


def test_inspect_one_record(verifier_command: Command, file: Path):
    by_tag = verifier_command("keyring", "inspect", file, "--tag", tag(3).hex()[:10], "--json")
    body = json.loads(by_tag.stdout)
    assert ("key_3", tag(3)[:16].hex(), True, ["read"]) == (
        body["key_id"], body["tag_head"], body["client_off"], body["scopes"])  # fmt: skip
    by_index = verifier_command("keyring", "inspect", file, "--record", body["index"], "--json")
    assert body == {**json.loads(by_index.stdout), "at": body["at"]}
    assert "key_3" in verifier_command("keyring", "inspect", file, "--tag", tag(3).hex()).stdout


@pytest.mark.parametrize(("arguments", "exit_code", "code"), [
    (["--tag", "00" * 16], 4, "NOT_FOUND"), (["--record", "40"], 4, "NOT_FOUND"),
    (["--tag", "xyz"], 2, "INVALID_INPUT"),
    (["--tag", ""], 2, "INVALID_INPUT"), (["--tag", "00", "--record", "1"], 2, "INVALID_INPUT"),
])  # fmt: skip
def test_inspect_what_is_not_there(verifier_command: Command, file: Path, arguments: list[str], exit_code: int,
                                   code: str):
    done = verifier_command("keyring", "inspect", file, *arguments, "--json")
    assert (exit_code, code) == (done.returncode, json.loads(done.stdout)["error"]["code"])


def test_verify(verifier_command: Command, file: Path):
    done = verifier_command("keyring", "verify", file, "--json")
    assert 0 == done.returncode
    body = json.loads(done.stdout)
    assert (True, 40, file.stem) == (body["sound"], body["records"], body["sha256"])
    assert {True} == {check["passed"] for check in body["checks"]}
    assert "is sound" in verifier_command("keyring", "verify", file).stdout


def test_verify_without_a_digest_does_not_promise_soundness(verifier_command: Command, file: Path):
    other = file.rename(file.with_name("renamed.mdb"))
    done = verifier_command("keyring", "verify", other)
    assert 0 == done.returncode
    assert "is sound" not in done.stdout
    assert "give it with --sha256" in done.stdout
    assert "is sound" in verifier_command("keyring", "verify", other, "--sha256", file.stem).stdout


def test_verify_what_is_not_sound(verifier_command: Command, file: Path):
    data = bytearray(file.read_bytes())
    data[data.index(tag(3)[:16]) + 56] ^= 1  # the version's ordinal
    file.write_bytes(data)
    done = verifier_command("keyring", "verify", file, "--json")
    assert 3 == done.returncode
    body = json.loads(done.stdout)
    assert (False, ["digest"]) == (body["sound"], [c["name"] for c in body["checks"] if c["passed"] is False])
    assert "NOT SOUND" in verifier_command("keyring", "verify", file).stdout


def test_a_wanted_digest(verifier_command: Command, file: Path):
    renamed = file.rename(file.with_name("copy.mdb"))
    assert 0 == verifier_command("keyring", "verify", renamed).returncode
    assert 0 == verifier_command("keyring", "verify", renamed, "--sha256", file.stem.upper()).returncode
    assert 3 == verifier_command("keyring", "verify", renamed, "--sha256", "00" * 32).returncode


def test_truncated_and_missing(verifier_command: Command, file: Path):
    file.write_bytes(file.read_bytes()[:-4096])
    for action in ("inspect", "verify"):
        assert 3 == verifier_command("keyring", action, file).returncode
        assert 4 == verifier_command("keyring", action, file.with_name("none")).returncode
