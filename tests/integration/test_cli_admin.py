"""The command line against a control plane: the same commands, the same outcomes, nothing of the folder touched."""

import json
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.admin import Served, served
from tests.support.cli import Cli, at, cli
from tests.support.homes import make_home
from tests.support.node import RunningNode
from verifier.admin.roles import Role
from verifier.serving.keyring import Keyring
from verifier.store.home import Home


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE", "REGISTRY", "ADMIN", "ADMIN_TOKEN_FILE", "ADMIN_CA", "DROP_LIMIT"):
        monkeypatch.delenv(f"VERIFIER_{name}", raising=False)


@pytest.fixture
def home(quick_path: Path) -> Home:
    return make_home(quick_path / "home", keys=0)


@pytest.fixture
def there(home: Home) -> Iterator[Served]:
    """A control plane with the client ``acme``."""
    with served(home) as running:
        yield running


def as_role(there: Served, folder: Path, role: Role) -> Cli:
    """Run commands in a role, as whoever has its token in a file would."""
    file = folder / f"token-{role}"
    file.write_text(there.tokens[role] + "\n")
    return at("--admin", there.server.target, "--admin-token-file", file)


@pytest.fixture
def run(there: Served, tmp_path: Path) -> Cli:
    return as_role(there, tmp_path, Role.ADMIN)


def verdicts(home: Home, *presented: str) -> list[str]:
    with Keyring.open(home.folder) as keyring:
        return [keyring.verify(token).verdict.name for token in presented]


def test_a_change_is_published_by_default(run: Cli, home: Home):
    made = run("key", "create", "--client", "acme", "--scopes", "read", "--json")
    assert (made.json["published"], made.json["revision"]) == (True, 1)
    assert f"request id: {made.json['request_id']}" in made.err
    assert verdicts(home, made.json["token"]) == ["VALID"]
    rotated = run("key", "rotate", made.json["key_id"], "--overlap", "1h", "--json").json
    assert verdicts(home, made.json["token"], rotated["token"]) == ["VALID", "VALID"]
    later = run("key", "disable", made.json["key_id"], "--no-publish", "--json").json
    assert (later["published"], later["pending_changes"]) == (False, 1)
    assert verdicts(home, rotated["token"]) == ["VALID"]
    run("publish")
    assert verdicts(home, rotated["token"]) == ["KEY_DISABLED"]


def test_the_control_plane_never_sees_a_token(run: Cli, there: Served):
    seen: list[bytes] = []
    service = there.desk
    made = run("key", "create", "--client", "acme", "--json").json
    with service.registry.read() as connection:
        seen += [bytes(row) for row in connection.exec_driver_sql("SELECT response FROM requests").scalars()]
        seen += [row.encode() for row in connection.exec_driver_sql("SELECT details FROM audit").scalars()]
    secret = made["token"].rsplit("_", 1)[1].encode()
    assert seen
    assert not any(secret in text for text in seen)


def test_a_repeat_of_a_rotation_hands_the_same_token_out(run: Cli, tmp_path: Path, home: Home):
    key_id = run("key", "create", "--client", "acme", "--json").json["key_id"]
    file = tmp_path / "new"
    arguments = ("key", "rotate", key_id, "--request-id", "once", "--output", file, "--json")
    first, second = run(*arguments).json, run(*arguments).json
    assert (first["version"], second["version"], second["replayed"]) == (2, 2, True)
    assert verdicts(home, file.read_text().strip()) == ["VALID"]
    other = run("key", "rotate", key_id, "--request-id", "once", "--json", ok=False)
    assert (other.code, other.json["error"]["code"]) == (4, "REQUEST_ID_REUSED")
    assert "--output FILE" in other.json["error"]["hint"]


def test_errors_are_those_of_the_folder(run: Cli, home: Home):
    here = at("--store", home.folder)
    for arguments in (
        ("key", "show", "key_none"), ("client", "create", "acme"), ("key", "create", "--client", "nobody"),
        ("key", "create", "--client", "acme", "--prefix", "Not-A-Prefix"), ("rollback", "99"),
        ("revoke", "--key", "key_none", "--reason", "superseded", "--expect", "1"),
    ):
        remote, local = (command(*arguments, "--json", ok=False) for command in (run, here))
        assert remote.code == local.code != 0, arguments
        assert remote.json["error"]["code"] == local.json["error"]["code"], arguments


def test_what_is_read_is_what_the_folder_says(run: Cli, home: Home):
    here = at("--store", home.folder)
    key_id = run("key", "create", "--client", "acme", "--policy", "overlap=1h", "--json").json["key_id"]
    run("key", "rotate", key_id)
    for arguments in (
        ("key", "show", key_id), ("key", "list"), ("client", "list"), ("client", "show", "acme"), ("policy", "show"),
        ("policy", "show", "--key", key_id), ("nodes", "list"), ("usage", key_id), ("audit", "list"),
        ("audit", "verify"),
    ):
        assert run(*arguments, "--json").out == here(*arguments, "--json").out, arguments
        assert run(*arguments).code == 0
    remote, local = (command("publications", "diff", "1", "2", "--json").json for command in (run, here))
    assert remote["gained"] == 1
    assert remote.items() <= local.items()
    remote, local = (command("publications", "list", "--json").rows for command in (run, here))
    assert [row.items() >= {"problem": None}.items() for row in remote] == [True, True]
    assert [{name: row[name] for name in local[0]} for row in remote] == local
    assert run("publications", "show", "2", "--json").json["current"] is True
    assert run("publications", "show", "9", ok=False).code == 4


def test_many_keys_by_their_digests(run: Cli, home: Home, tmp_path: Path):
    output = tmp_path / "tokens"
    made = run("key", "create", "--client", "acme", "--count", "1200", "--output", output, "--scopes", "a",
               "--json").json  # fmt: skip
    assert (made["count"], made["published"]) == (1200, True)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    tokens, ids = output.read_text().split(), (tmp_path / "tokens.ids").read_text().split()
    assert len(set(tokens)) == len(set(ids)) == 1200
    with Keyring.open(home.folder) as keyring:
        answers = [keyring.verify(token, required_scopes=["a"]) for token in tokens]
    assert [answer.key_id for answer in answers] == ids
    assert {answer.verdict.name for answer in answers} == {"VALID"}
    one = tmp_path / "tokens.jsonl"
    run("key", "create", "--client", "acme", "--output", one, "--format", "jsonl")
    line = json.loads(one.read_text())
    assert set(line) == {"client_id", "key_id", "version", "token"}
    refused = run("key", "create", "--client", "nobody", "--output", tmp_path / "none", ok=False)
    assert (refused.code, (tmp_path / "none").exists(), (tmp_path / "none.ids").exists()) == (4, False, False)


def test_an_import_keeps_what_rows_say_against_the_terms(run: Cli, tmp_path: Path):
    file = tmp_path / "hashes.csv"
    file.write_text(f"sha256,scopes,allow\n{'ab' * 32},,\n\n{'cd' * 32},trade,10.0.0.0/8\nnot a digest,,\n")
    arguments = ("key", "import", "--client", "acme", "--file", file, "--prefix", "old", "--mode", "mixed",
                 "--entropy-bits", "160", "--scopes", "read", "--json")  # fmt: skip
    bad = run(*arguments, ok=False)
    assert (bad.code, bad.json["error"]["code"]) == (2, "BAD_ROWS")
    assert bad.json["error"]["details"]["rows"][0]["line"] == 5
    done = run(*arguments, "--skip-bad", "--ids", tmp_path / "ids").json
    assert (done["imported"], done["skipped"], [row["line"] for row in done["bad"]]) == (2, 1, [5])
    shown = [run("key", "show", key_id, "--json").json for key_id in (tmp_path / "ids").read_text().split()]
    assert [each["allow"] for each in shown] == [[], ["10.0.0.0/8"]]
    again = run(*arguments, "--skip-bad").json
    assert (again["imported"], [row["line"] for row in again["bad"]]) == (0, [2, 4, 5])


def test_an_emergency_over_the_network(run: Cli, home: Home, tmp_path: Path):
    made = run("key", "create", "--client", "acme", "--json").json
    file = tmp_path / "leaked"
    file.write_text(made["token"])
    arguments = ("revoke", "--leaked", file, "--reason", "superseded", "--json")
    assert run(*arguments).json["count"] == 1
    assert verdicts(home, made["token"]) == ["VALID"]
    done = run(*arguments, "--expect", "1").json
    assert (done["published"], verdicts(home, made["token"])) == (True, ["REVOKED"])
    run("reinstate", done["audit_id"])
    assert verdicts(home, made["token"]) == ["VALID"]


def test_roles(there: Served, tmp_path: Path, run: Cli):
    viewer, publisher = (as_role(there, tmp_path, role) for role in (Role.VIEWER, Role.PUBLISHER))
    assert viewer("key", "list").code == 0
    refused = viewer("key", "create", "--client", "acme", "--json", ok=False)
    assert (refused.code, refused.json["error"]["code"]) == (4, "NOT_ALLOWED")
    assert publisher("publish").code == 0
    assert publisher("revoke", "--client", "acme", "--reason", "superseded", ok=False).code == 4


def test_who_is_not_known_is_refused(there: Served, tmp_path: Path):
    file = tmp_path / "wrong"
    file.write_text("va_wrong\n")
    refused = cli("--admin", there.server.target, "--admin-token-file", file, "key", "list", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (4, "NOT_AUTHENTICATED")
    assert "va_wrong" not in refused.out + refused.err
    missing = cli("--admin", there.server.target, "--admin-token-file", tmp_path / "none", "key", "list")
    assert missing.code == 4


def test_what_works_on_the_folder_says_so(run: Cli):
    for arguments in (("init",), ("registry", "upgrade"), ("identity", "list"), ("secrets", "list")):
        refused = run(*arguments, ok=False)
        assert refused.code == 2
        assert "--store DIR" in refused.err


def test_nobody_there(free_port):
    gone = cli("--admin", f"127.0.0.1:{free_port()}", "client", "create", "acme", "--json")
    error = gone.json["error"]
    assert (gone.code, error["code"]) == (3, "UNAVAILABLE")
    assert "verifier control" in error["hint"]
    assert "token" not in error.get("details", {})


def test_many_keys_again_under_the_same_id(run: Cli, home: Home, tmp_path: Path):
    for command, name in ((run, "there"), (at("--store", home.folder), "here")):
        for options in ((), ("--format", "jsonl")):
            file = tmp_path / f"{name}{len(options)}"
            arguments = ("key", "create", "--client", "acme", "--count", "5", "--output", file, *options, "--publish",
                         "--request-id", file.name, "--json")  # fmt: skip
            first, second = command(*arguments).json, command(*arguments).json
            assert (first["replayed"], second["replayed"]) == (False, True)
    assert len(run("key", "list", "--json").rows) == 20


def test_nodes_that_report_are_waited_for(run: Cli, there: Served, home: Home, tmp_path: Path):
    first = run("key", "create", "--client", "acme", "--json").json
    token = tmp_path / "node-token"
    token.write_text(there.tokens[Role.NODE])
    here = at("--store", home.folder)
    reports = ("--report-to", there.server.target, "--node-name", "n1", "--report-token-file", str(token))
    with RunningNode(home.folder, "--poll-interval", "5ms", *reports) as node:
        until(lambda: [row["revision"] for row in run("nodes", "list", "--json").rows] == [1])
        second = run("key", "rotate", first["key_id"], "--json").json
        assert second["nodes"] == {"expected": 1, "behind": []}
        assert 0 <= second["propagation_ms"] < 5000
        assert cli("status", "--target", node.metrics, "--json").json["revision"] == second["revision"]
        assert "usage reports" in cli("status", "--target", node.metrics).out
        third = here("client", "disable", "acme", "--wait", "--json").json
        assert (third["published"], third["nodes"]["expected"]) == (True, 1)
        (row,) = here("nodes", "list", "--json").rows
        assert (row["node"], row["expected"], row["last_refusal"]) == ("n1", True, None)
        assert "n1" in run("nodes", "list").out
        node.process.kill()
        node.process.wait(10)
        behind = here("client", "enable", "acme", "--wait", "--timeout", "1s", "--json", ok=False)
        assert (behind.code, behind.json["nodes"]["behind"]) == (5, ["n1"])
        run("nodes", "forget", "n1")
        assert here("client", "disable", "acme", "--wait", "--json").json["nodes"]["behind"] == []


def test_a_node_runs_from_its_bundle(run: Cli, home: Home, tmp_path: Path):
    token = run("key", "create", "--client", "acme", "--json").json["token"]
    here = at("--store", home.folder)
    bundle = tmp_path / "bundle"
    told = here("nodes", "bundle", bundle, "--json").json
    assert told["peppers"] == ["p1"]
    assert {path.name for path in bundle.rglob("*") if path.is_file()} == {"trusted.pem", "p1"}
    assert stat.S_IMODE((bundle / "secrets" / "peppers" / "p1").stat().st_mode) == 0o600
    (bundle / "store").rmdir()
    (bundle / "store").symlink_to(home.store)
    with RunningNode(bundle) as node:
        until(lambda: cli("status", "--target", node.metrics).code == 0)
    assert here("nodes", "bundle", bundle).code == 0
    refused = here("nodes", "bundle", home.folder, "--json", ok=False)
    assert (refused.code, refused.json["error"]["code"]) == (4, "PUBLISHERS_FOLDER")
    with Keyring.open(bundle) as keyring:
        assert keyring.verify(token).verdict.name == "VALID"
    assert run("nodes", "bundle", bundle, ok=False).code == 2


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens soon."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_registry_in_a_database(registry_place: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VERIFIER_REGISTRY", registry_place.registry_url)
    command = at("--store", registry_place.folder)
    command("client", "create", "acme")
    made = command("key", "create", "--client", "acme", "--publish", "--json").json
    command("key", "rotate", made["key_id"], "--publish")
    assert len(command("key", "show", made["key_id"], "--json").json["versions"]) == 2
    assert command("registry", "upgrade", "--json").json["changed"] is False
    assert command("audit", "verify").code == 0
    assert verdicts(registry_place, made["token"]) == ["VALID"]
