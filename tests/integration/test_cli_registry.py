"""The commands that change the registry: what they did when they were first released, they still do."""

import json
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import cli
from verifier import tokens
from verifier.control import directory
from verifier.control.founding import found
from verifier.registry.database import open_registry
from verifier.store.home import Home
from verifier.store.secrets import Secrets

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a home that has the client ``acme``, in this process: starting a program takes longer."""

    def on_home(*arguments: str | Path) -> Result:
        done = cli("--store", tmp_path / "home", *arguments)
        return Result(arguments, done.code, done.out, done.err)

    for name in ("STORE", "REGISTRY", "ADMIN", "DROP_LIMIT"):
        monkeypatch.delenv(f"VERIFIER_{name}", raising=False)
    found(Home(tmp_path / "home"))
    assert on_home("client", "create", "acme").returncode == 0
    return on_home


def body(result: Result) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def peppers(tmp_path: Path) -> list[bytes]:
    return list(Secrets(tmp_path / "home" / "secrets").peppers().values())


def test_init_twice(run: Run, tmp_path: Path):
    first, second = body(run("init", "--json")), body(run("init", "--json"))
    assert first == second
    assert first["created"] is False
    assert first["store_id"] in run("init").stdout


def test_the_forms_that_scripts_rely_on(run: Run, tmp_path: Path):
    made = body(run("key", "create", "--client", "acme", "--scopes", "read,trade", "--json"))
    assert made.pop("token").startswith("vk_live_")
    key_id = made.pop("key_id")
    assert made.pop("audit_id").startswith("a-")
    assert made.items() >= {
        "client_id": "acme", "version": 1, "not_before": None, "expires_at": None,
        "published": False, "revision": None, "pending_changes": 1, "replayed": False,
    }.items()
    assert made["scopes"] == ["read", "trade"]
    revoked = run("key", "revoke", key_id, "--version", "1", "--reason", "key_compromise")
    assert revoked.returncode == 0
    assert "not served yet: verifier publish" in revoked.stderr
    shown = body(run("key", "show", key_id, "--json"))
    assert shown["versions"][0]["phase"] == "REVOKED"
    assert shown["versions"][0]["reason"] == "key_compromise"


def test_a_token_is_shown_once_and_stored_nowhere(run: Run, tmp_path: Path):
    made = body(run("key", "create", "--client", "acme", "--json"))
    token = made["token"]
    secret = token.rsplit("_", 1)[1]
    outputs = [run("key", "show", made["key_id"], "--json"), run("key", "list", "--json"), run("key", "list")]
    assert not any(secret in result.stdout + result.stderr for result in outputs)
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert not any(secret[:20].encode() in path.read_bytes() for path in files)
    with open_registry(Home(tmp_path / "home")) as registry:
        key = directory.show_key(registry, made["key_id"])
    assert key.label.tag == tokens.tag(token, peppers(tmp_path))


def test_many_tokens_go_to_files(run: Run, tmp_path: Path):
    output = tmp_path / "tokens.txt"
    made = body(run("key", "create", "--client", "acme", "--count", "300", "--output", output, "--json"))
    assert (made["count"], made["published"], made["pending_changes"]) == (300, False, 300)
    assert made["files"] == [str(output), str(output) + ".ids"]
    lines = output.read_text().splitlines()
    assert len({tokens.parse(line).secret for line in lines}) == 300
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    listed = run("key", "list", "--client", "acme", "--json").stdout.splitlines()
    assert [json.loads(line)["key_id"] for line in listed] == (tmp_path / "tokens.txt.ids").read_text().splitlines()
    again = run("key", "create", "--client", "acme", "--count", "300", "--output", output, "--json")
    assert again.returncode == 4
    assert json.loads(again.stdout)["error"]["code"] == "FILE_EXISTS"
    assert output.read_text().splitlines() == lines


def test_many_tokens_never_go_to_standard_output(run: Run):
    result = run("key", "create", "--client", "acme", "--count", "2")
    assert result.returncode == 2
    assert "--output" in result.stderr
    assert "vk_live_" not in result.stdout


def test_update_switch_and_list(run: Run):
    key_id = body(run("key", "create", "--client", "acme", "--json"))["key_id"]
    changed = body(run("key", "update", key_id, "--scopes", "a", "--scopes", "b,c", "--allow", "10.0.0.0/8",
                       "--allow", "::1", "--metadata", "tier=gold", "--expires", "2100-01-01T01:00:00+01:00", "--json"))
    assert changed["scopes"] == ["a", "b", "c"]
    assert changed["allow"] == ["10.0.0.0/8", "::1/128"]
    assert changed["metadata"] == {"tier": "gold"}
    assert changed["versions"][0]["expires_at"] == "2100-01-01T00:00:00Z"
    assert changed["pending_changes"] == 2
    emptied = body(run("key", "update", key_id, "--scopes", "", "--allow", "", "--metadata", "", "--json"))
    assert (emptied["scopes"], emptied["allow"], emptied["metadata"]) == ([], [], {})
    assert body(run("key", "disable", key_id, "--json"))["enabled"] is False
    assert body(run("key", "enable", key_id, "--json"))["enabled"] is True
    assert run("key", "update", key_id).returncode == 2
    assert run("key", "update", key_id, "--expires", "2101-01-01T00:00:00Z").returncode == 4
    assert body(run("client", "disable", "acme", "--json"))["enabled"] is False
    assert body(run("client", "show", "acme", "--json"))["keys"] == 1
    assert body(run("client", "update", "acme", "--name", "Acme Ltd", "--json"))["name"] == "Acme Ltd"
    assert body(run("client", "enable", "acme", "--json"))["enabled"] is True
    assert "Acme Ltd" in run("client", "list").stdout
    assert body(run("client", "list", "--json"))["name"] == "Acme Ltd"


def test_import(run: Run, tmp_path: Path):
    file = tmp_path / "hashes.csv"
    file.write_text("sha256\n" + "ab" * 32 + "\nnot a digest\n")
    arguments = ("key", "import", "--client", "acme", "--file", file, "--prefix", "old", "--mode", "mixed", "--json")
    weak = run(*arguments, "--entropy-bits", "64")
    assert (weak.returncode, json.loads(weak.stdout)["error"]["code"]) == (2, "WEAK_SECRETS")
    bad = run(*arguments, "--entropy-bits", "160")
    assert (bad.returncode, json.loads(bad.stdout)["error"]["details"]["rows"][0]["line"]) == (2, 3)
    done = body(run(*arguments, "--entropy-bits", "160", "--skip-bad", "--ids", tmp_path / "ids"))
    assert (done["imported"], done["skipped"], done["published"]) == (1, 1, False)
    assert body(run("key", "list", "--json"))["key_id"] == (tmp_path / "ids").read_text().strip()


@pytest.mark.parametrize(("arguments", "code", "name"), [
    (("key", "show", "key_none"), 4, "KEY_NOT_FOUND"),
    (("key", "create", "--client", "nobody"), 4, "CLIENT_NOT_FOUND"),
    (("client", "create", "acme"), 4, "CLIENT_EXISTS"),
    (("client", "create", "a b"), 2, "BAD_ID"),
    (("key", "create", "--client", "acme", "--expires", "2001-01-01T00:00:00Z"), 2, "EMPTY_WINDOW"),
    (("key", "create", "--client", "acme", "--prefix", "Not-A-Prefix"), 2, "BAD_PREFIX"),
    (("key", "create", "--client", "acme", "--allow", "10.0.0.1/8"), 2, "BAD_RULE"),
    (("key", "create", "--client", "acme", "--metadata", "novalue"), 2, "BAD_METADATA"),
])
def test_errors(run: Run, arguments: tuple[str, ...], code: int, name: str):
    result = run(*arguments, "--json")
    assert result.returncode == code
    assert json.loads(result.stdout)["error"]["code"] == name


def test_errors_for_people(run: Run):
    plain = run("key", "show", "key_none")
    assert plain.returncode == 4
    assert plain.stdout == ""
    assert plain.stderr.startswith("verifier: there is no key 'key_none'\n  hint: ")


def test_init_and_client_create(verifier_command: Run, tmp_path: Path):
    created = verifier_command("--store", tmp_path / "home", "init")
    assert (created.returncode, "created store st_" in created.stdout) == (0, True)
    made = verifier_command("--store", tmp_path / "home", "client", "create", "acme", "--name", "Acme", "--json")
    assert (body(made)["client_id"], body(made)["enabled"]) == ("acme", True)


def test_a_naive_time_is_refused(run: Run):
    assert run("key", "create", "--client", "acme", "--expires", "2100-01-01T00:00:00").returncode == 2


def test_a_folder_without_registry(verifier_command: Run, tmp_path: Path):
    result = verifier_command("--store", tmp_path, "client", "list")
    assert result.returncode == 4
    assert "init" in result.stderr
    assert not list(tmp_path.iterdir())
    assert verifier_command("client", "list").returncode == 2


def on_terminal(tmp_path: Path, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal of its own, type an answer, return its exit code and all it showed."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "verifier", "--store", str(tmp_path / "home"), *arguments]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, close_fds=True)
    os.close(side)
    os.write(main, answer)
    shown = b""
    while True:
        try:
            data = os.read(main, 4096)
        except OSError:  # the terminal's last user is gone
            break
        if not data:
            break
        shown += data
    os.close(main)
    return process.wait(60), shown.decode()


def test_revoking_all_versions_asks_on_a_terminal_only(run: Run, tmp_path: Path):
    key_id = body(run("key", "create", "--client", "acme", "--json"))["key_id"]
    code, shown = on_terminal(tmp_path, b"n\n", "key", "revoke", key_id)
    assert code == 130
    assert "revoke them all?" in shown
    assert body(run("key", "show", key_id, "--json"))["versions"][0]["phase"] == "CURRENT"
    code, shown = on_terminal(tmp_path, b"y\n", "key", "revoke", key_id)
    assert code == 0
    again = run("key", "revoke", key_id, "--json")
    assert (body(again)["count"], body(again)["versions"]) == (0, [])
    other = body(run("key", "create", "--client", "acme", "--json"))["key_id"]
    done = run("key", "revoke", other, "--reason", "superseded", "--json")
    assert body(done)["versions"][0]["reason"] == "superseded"
    assert f"live versions of key {other}" in done.stderr


def test_progress_is_shown_on_a_terminal_only(run: Run, tmp_path: Path):
    arguments = ("key", "create", "--client", "acme", "--count", "300000", "--output")
    assert "create" not in run(*arguments, tmp_path / "quiet").stderr
    code, shown = on_terminal(tmp_path, b"", *arguments, str(tmp_path / "loud"))
    assert code == 0
    assert "create: " in shown


def test_publish_flag(run: Run):
    made = body(run("key", "create", "--client", "acme", "--publish", "--json"))
    assert (made["published"], made["revision"], made["pending_changes"]) == (True, 1, 0)
    revoked = run("key", "revoke", made["key_id"], "--version", "1", "--publish", "--json")
    assert (body(revoked)["published"], body(revoked)["revision"]) == (True, 2)
    assert "not served yet" not in revoked.stderr
    again = body(run("key", "revoke", made["key_id"], "--version", "1", "--json"))
    assert (again["count"], again["published"], again["revision"]) == (0, True, 2)


def test_tables_break_no_id_and_no_time(run: Run):
    made = body(run("key", "create", "--client", "acme", "--scopes", "read,trade", "--expires", "+24h", "--json"))
    listed = run("key", "list").stdout
    assert any(line.split()[:3] == [made["key_id"], "acme", "yes"] for line in listed.splitlines())
    assert all(line == line.rstrip() for line in listed.splitlines())
    assert run("publish").returncode == 0
    listed = run("publications", "list").stdout
    assert re.search(r"^ +1 +20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ +1 +1 +1 +no +yes +-$", listed, re.MULTILINE)
    assert "enabled:    yes" in run("client", "show", "acme").stdout


@pytest.mark.parametrize("arguments", [
    ["key", "create"], ["key", "frob"], ["key", "create", "--client", "acme", "--expires", "2030-01-01"],
    ["key", "create", "--client", "acme", "--count", "0"],
])  # fmt: skip
def test_usage_errors_are_json_too(run: Run, arguments: list[str]):
    done = run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout)["error"]["code"] == "USAGE"


def test_init_founds_no_second_registry_beside_what_was_published(run: Run, tmp_path: Path):
    assert run("key", "create", "--client", "acme", "--publish").returncode == 0
    for file in (tmp_path / "home").glob("registry.db*"):
        file.unlink()
    done = run("init", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "REGISTRY_LOST")
    assert not (tmp_path / "home" / "registry.db").exists()
