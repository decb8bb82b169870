"""What an operator would trip over: one test for each trap, saying how the command line keeps him from it."""

import hashlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.cli import Cli, at, cli
from tests.support.node import RunningNode
from verifier import tokens
from verifier.registry.database import open_registry
from verifier.serving.keyring import Keyring
from verifier.store.home import Home

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE", "REGISTRY", "ADMIN", "ADMIN_TOKEN_FILE", "ADMIN_CA", "DROP_LIMIT", "TARGET"):
        monkeypatch.delenv(f"VERIFIER_{name}", raising=False)


@pytest.fixture
def home(quick_path: Path) -> Path:
    return quick_path / "home"


@pytest.fixture
def run(home: Path) -> Cli:
    command = at("--store", home)
    command("init")
    command("client", "create", "acme")
    return command


@pytest.fixture
def node(run: Cli, home: Path) -> Iterator[RunningNode]:
    run("publish")
    with RunningNode(home, "--poll-interval", "5ms") as running:
        yield running


def new_key(run: Cli, *options: str) -> str:
    return str(run("key", "create", "--client", "acme", "--json", *options).json["key_id"])


def on_terminal(home: Path, answer: bytes, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and all it showed."""
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "verifier", "--store", str(home), *arguments],
                               stdin=side, stdout=side, stderr=side, close_fds=True)
    os.close(side)
    os.write(main, answer)
    shown = b""
    while True:
        try:
            data = os.read(main, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(main)
    return process.wait(60), shown.decode()


def test_a_revocation_that_is_not_published_says_so(run: Cli):
    key_id = new_key(run, "--publish")
    done = run("key", "revoke", key_id, "--version", "1", "--json")
    assert (done.json["published"], done.json["pending_changes"]) == (False, 1)
    assert "not served yet: verifier publish" in done.err
    assert run("publish").code == run("publish").code == 0


def test_an_emergency_is_published_and_waited_for(run: Cli, node: RunningNode):
    key_id = new_key(run, "--publish")
    done = run("revoke", "--key", key_id, "--reason", "superseded", "--expect", "1", "--node", node.metrics, "--json")
    assert (done.json["published"], done.json["nodes"]) == (True, {"expected": 1, "behind": []})
    assert cli("status", "--target", node.metrics, "--json").json["revision"] >= done.json["revision"]


def test_publishing_does_not_undo_a_rollback(run: Cli):
    new_key(run, "--publish")
    new_key(run, "--publish")
    run("rollback", "1")
    refused = run("publish", ok=False)
    assert refused.code == 4
    assert "--resume" in refused.err


def test_two_commands_named_rollback_name_each_other(run: Cli):
    assert "verifier key rollback KEY_ID" in run("rollback", "--help").out
    assert "verifier rollback REVISION" in run("key", "rollback", "--help").out
    confused = run("key", "rollback", "17", ok=False)
    assert confused.code == 2
    assert "did you mean verifier rollback 17?" in confused.err
    other = run("rollback", "key_abc", ok=False)
    assert other.code == 2
    assert "did you mean verifier key rollback key_abc?" in other.err


@pytest.mark.parametrize("arguments", [
    ("revoke",), ("key",), ("key", "revoke"), ("key", "retire"), ("key", "cancel"), ("client",), ("client", "disable"),
])  # fmt: skip
def test_five_ways_to_end_a_version_are_compared(run: Cli, arguments: tuple[str, ...]):
    shown = run(*arguments, "--help").out
    for row in ("revoke   ", "key revoke", "key retire", "key cancel", "client disable"):
        assert row in shown
    assert "undone by" in shown


def test_revoking_all_versions_asks_where_somebody_can_answer(run: Cli, home: Path):
    key_id = new_key(run)
    run("key", "rotate", key_id)
    code, shown = on_terminal(home, b"n\n", "key", "revoke", key_id)
    assert (code, "revoke them all?" in shown, ": 1, 2" in shown) == (130, True, True)
    code, shown = on_terminal(home, b"", "key", "revoke", key_id, "--version", "1")
    assert (code, "revoke them all?" in shown) == (0, False)
    done = run("key", "revoke", key_id)
    assert f"live versions of key {key_id} (client acme): 2" in done.err


def test_each_port_says_which_one_it_is(node: RunningNode, verifier_command: Command):
    wrong = verifier_command("check", "--target", node.metrics, stdin="vk_live_x")
    assert wrong.returncode == 3
    assert node.target in wrong.stderr
    other = cli("status", "--target", node.target)
    assert other.code == 2
    assert "is a gRPC port" in other.err
    early = cli("--store", node.home, "publish", "--node", node.target)
    assert early.code == 2
    assert "is a gRPC port" in early.err


def test_many_keys_have_their_ids_beside_their_tokens(run: Cli, tmp_path: Path):
    run("key", "create", "--client", "acme", "--count", "3", "--output", tmp_path / "tokens")
    assert len((tmp_path / "tokens.ids").read_text().splitlines()) == 3


def test_the_registry_learns_no_token_and_every_change_has_an_id(run: Cli, home: Path):
    made = run("key", "create", "--client", "acme", "--json").json
    again = run("key", "create", "--client", "acme", "--json").json
    assert made["request_id"] != again["request_id"]
    with open_registry(Home(home)) as registry, registry.read() as connection:
        stored = connection.exec_driver_sql("SELECT response FROM requests").scalars().all()
    assert not any(made["token"].encode() in bytes(one) for one in stored)


@pytest.mark.parametrize("moment", ["2100-01-01", "2100-01-01T00:00:00", "tomorrow"])
def test_times_without_an_offset_are_refused(run: Cli, moment: str):
    key_id = new_key(run)
    for arguments in (
        ("key", "rotate", key_id, "--activate-at", moment), ("key", "retire", key_id, "--at", moment),
        ("revoke", "--reason", "superseded", "--created-before", moment), ("usage", key_id, "--since", moment),
        ("audit", "list", "--since", moment),
    ):
        assert run(*arguments, ok=False).code == 2, arguments


def test_an_overlap_that_outlives_the_version_is_told_with_its_reason(run: Cli):
    own = new_key(run, "--expires", "+1h")
    done = run("key", "rotate", own, "--overlap", "24h", "--never-expires")
    assert "before its overlap of 1d is over: its own life ends then" in done.err
    whole = new_key(run, "--key-expires", "+1h")
    shown = run("key", "rotate", whole, "--overlap", "24h", "--json")
    assert "the life of the key ends then" in shown.err
    assert any("the life of the key ends then" in text for text in shown.json["warnings"])


def test_an_overlap_that_is_shorter_than_nodes_differ_by_is_warned_of(run: Cli):
    assert "callers may be refused" in run("key", "rotate", new_key(run), "--overlap", "1s").err
    assert "callers may be refused" not in run("key", "rotate", new_key(run), "--overlap", "10m").err


def test_an_emergency_needs_a_reason(run: Cli):
    key_id = new_key(run)
    assert run("revoke", "--key", key_id, ok=False).code == 2
    assert "only --reason key_compromise is final" in run("key", "revoke", key_id).err


def test_a_bulk_revocation_is_a_preview_until_its_count_is_known(run: Cli, home: Path):
    for _ in range(3):
        new_key(run)
    arguments = ("revoke", "--client", "acme", "--reason", "superseded")
    shown = run(*arguments)
    assert "would revoke 3 versions" in shown.out
    assert "--expect 3" in shown.err
    wrong = run(*arguments, "--expect", "2", "--json", ok=False)
    assert (wrong.code, wrong.json["error"]["code"]) == (4, "COUNT_MISMATCH")
    assert run(*arguments, "--yes", ok=False).code == 2
    assert not any("REVOKED" in line for line in run("key", "list").out.splitlines())
    code, shown_there = on_terminal(home, b"", *arguments, "--yes")
    assert (code, "revoked 3 versions" in shown_there) == (0, True)


def test_an_interrupted_emergency_is_named_and_can_be_carried_on(run: Cli, home: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed between recording and publishing: what is recorded must not look like nothing."""
    key_id, other = new_key(run, "--publish"), new_key(run, "--publish")
    emergency = ("revoke", "--client", "acme", "--reason", "superseded")
    run("key", "revoke", key_id, "--reason", "superseded", "--no-publish")
    shown = run(*emergency)
    assert "would revoke 1 version" in shown.out and "1 already revoked, not yet published" in shown.out
    assert "1 change recorded, not yet published" in shown.out
    told = run(*emergency, "--json").json
    assert (told["count"], told["unserved"], told["pending_changes"]) == (1, 1, 1)
    wrong = run(*emergency, "--expect", "2", "--json", ok=False).json["error"]
    assert (wrong["code"], wrong["details"]["unserved"]) == ("COUNT_MISMATCH", 1)
    assert "already revoked, not yet published" in wrong["message"] and "verifier publish" in wrong["hint"]

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("verifier.control.publishing.publish", killed)
        cut = run(*emergency, "--expect", "1", ok=False)
    (request_id,) = re.findall("^request id: (.+)$", cut.err, re.MULTILINE)
    done = run(*emergency, "--expect", "1", "--request-id", request_id, "--json").json
    assert (done["replayed"], done["published"], done["pending_changes"]) == (True, True, 0)
    assert {"REVOKED"} == {phase for each in (key_id, other) for phase in phases(run, each)}
    run("key", "update", key_id, "--scopes", "write", "--no-publish")  # rewrites the record of a published revocation
    again = run(*emergency, "--json").json
    assert (again["count"], again["unserved"], again["pending_changes"]) == (0, 0, 1)


def phases(run: Cli, key_id: str) -> list[str]:
    return [version["phase"] for version in run("key", "show", key_id, "--json").json["versions"]]


def test_leaked_tokens_are_hashed_here(run: Cli, home: Path, tmp_path: Path, verifier_command: Command):
    made = [run("key", "create", "--client", "acme", "--json").json for _ in range(2)]
    file = tmp_path / "leaked"
    strange = tokens.generate()
    file.write_text(f"\n{made[0]['token']}\r\n{strange}\n{made[0]['token']}\n")
    preview = run("revoke", "--leaked", file, "--reason", "key_compromise", "--json").json
    assert (preview["count"], preview["unmatched"]) == (1, 1)
    done = verifier_command("--store", home, "revoke", "--leaked", "-", "--reason", "key_compromise", "--expect", "1",
                            stdin=file.read_text())  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Keyring.open(home) as keyring:
        assert [keyring.verify(each["token"]).verdict.name for each in made] == ["REVOKED", "VALID"]
    secrets = [each.rsplit("_", 1)[1].encode() for each in (made[0]["token"], strange)]
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not any(secret in data for secret in secrets for data in files)
    file.write_text("\n")
    assert run("revoke", "--leaked", file, "--reason", "superseded", ok=False).code == 2
    assert run("revoke", "--leaked", tmp_path / "none", "--reason", "superseded", ok=False).code == 4


def test_the_drop_guard_does_not_stop_an_emergency(run: Cli, tmp_path: Path):
    run("key", "create", "--client", "acme", "--count", "30", "--output", tmp_path / "tokens", "--publish")
    run("client", "create", "other")
    run("key", "create", "--client", "other", "--publish")
    done = run("revoke", "--client", "acme", "--reason", "key_compromise", "--expect", "30", "--json").json
    assert (done["count"], done["published"]) == (30, True)


def test_a_dead_node_is_named_and_the_command_ends(run: Cli, node: RunningNode, free_port: Callable[[], int]):
    dead = f"127.0.0.1:{free_port()}"
    new_key(run)
    done = run("publish", "--wait", "--node", node.metrics, "--node", dead, "--timeout", "1s", "--json", ok=False)
    assert done.code == 5
    assert done.json["nodes"] == {"expected": 2, "behind": [dead]}
    assert done.json["propagation_ms"] is not None
    assert f"not served yet by {dead}" in done.err


def test_a_node_that_stands_still_is_behind(run: Cli, node: RunningNode):
    node.signal(signal.SIGSTOP)
    try:
        new_key(run)
        done = run("publish", "--node", node.metrics, "--timeout", "1s", ok=False)
    finally:
        node.signal(signal.SIGCONT)
    assert done.code == 5
    assert "served by 0 of 1 nodes" in done.out
    later = run("publish", "--node", node.metrics, "--json").json
    assert (later["changed"], later["nodes"]["behind"]) == (False, [])


def test_waiting_for_nodes_tells_the_slowest(run: Cli, node: RunningNode):
    new_key(run)
    done = run("publish", "--wait", "--node", node.metrics)
    assert "served by 1 of 1 nodes after" in done.out
    measured = run("key", "create", "--client", "acme", "--node", node.metrics, "--json").json
    assert 0 <= measured["propagation_ms"] < 5000
    contradiction = run("key", "create", "--client", "acme", "--no-publish", "--wait", ok=False)
    assert contradiction.code == 2


def test_init_twice_makes_no_second_pepper(run: Cli, home: Path):
    before = {path: path.read_bytes() for path in (home / "secrets").rglob("*") if path.is_file()}
    assert run("init", "--json").json["created"] is False
    assert {path: path.read_bytes() for path in (home / "secrets").rglob("*") if path.is_file()} == before


def test_a_folder_and_a_control_plane_are_not_meant_together(run: Cli, home: Path, monkeypatch: pytest.MonkeyPatch):
    both = cli("--store", home, "--admin", "127.0.0.1:1", "key", "list")
    assert both.code == 2
    monkeypatch.setenv("VERIFIER_ADMIN", "127.0.0.1:1")
    assert run("key", "list").code == 0
    assert run("init").code == 0


def test_a_digest_that_is_known_already_is_refused(run: Cli):
    digest = hashlib.sha256(tokens.generate().encode()).hexdigest()
    run("key", "create", "--client", "acme", "--sha256", digest)
    again = run("key", "create", "--client", "acme", "--sha256", digest, "--json", ok=False)
    assert again.code == 4
