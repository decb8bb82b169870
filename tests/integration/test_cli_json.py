"""What scripts rely on: the JSON of each command, name by name, and the exit codes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.cli import Cli, at, cli
from tests.support.node import RunningNode

RECEIPT = {"published", "revision", "pending_changes", "audit_id", "request_id", "replayed", "done_at", "held_at",
           "nodes", "propagation_ms", "warnings", "dry_run"}  # fmt: skip
CREATED = {"client_id", "key_id", "version", "token", "scopes", "not_before", "expires_at"}
PUBLISHED = {"revision", "changed", "content_of", "held", "published_at", "records", "active", "tombstones", "delta",
             "difference", "nodes", "propagation_ms"}  # fmt: skip
DIFFERENCE = {"gained", "lost", "lost_used_24h", "widened", "extended", "denials_kept"}
PREVIOUS = {"version", "phase", "superseded_at", "expires_at", "clock"}


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
    """A node that serves what was published."""
    run("publish")
    with RunningNode(home, "--poll-interval", "5ms") as running:
        yield running


def test_create_and_rotate(run: Cli):
    made = run("key", "create", "--client", "acme", "--scopes", "read", "--json").json
    assert set(made) == CREATED | RECEIPT
    assert (made["published"], made["revision"], made["scopes"], made["replayed"]) == (False, None, ["read"], False)
    rotated = run("key", "rotate", made["key_id"], "--json").json
    assert set(rotated) == CREATED | RECEIPT | {"previous"}
    assert set(rotated["previous"]) >= PREVIOUS
    assert (rotated["previous"]["clock"], rotated["previous"]["phase"]) == ("fixed", "RETIRING")
    assert rotated["previous"]["expires_at"].endswith("Z")
    assert len(rotated["request_id"]) == 36


def test_publish_and_roll_back(run: Cli):
    run("key", "create", "--client", "acme")
    first = run("publish", "--json").json
    assert set(first) == PUBLISHED | RECEIPT
    assert set(first["difference"]) == DIFFERENCE
    assert (first["revision"], first["changed"], first["held"], first["tombstones"]) == (1, True, False, 0)
    assert first["nodes"] == {"expected": 0, "behind": []}
    again = run("publish", "--json").json
    assert (again["changed"], again["revision"]) == (False, 1)
    run("key", "create", "--client", "acme")
    second = run("publish", "--json").json
    assert set(second["delta"]) == {"records", "bytes"}
    back = run("rollback", "1", "--json").json
    assert set(back) == PUBLISHED | RECEIPT
    assert (back["content_of"], back["held"]) == (1, True)


def test_revoke(run: Cli):
    key_id = run("key", "create", "--client", "acme", "--publish", "--json").json["key_id"]
    done = run("revoke", "--key", key_id, "--reason", "key_compromise", "--expect", "1", "--json").json
    assert set(done) == {"count", "unmatched", "keys_without_version", "unserved", "impacts", "reason"} | RECEIPT
    assert (done["count"], done["unmatched"], done["keys_without_version"]) == (1, 0, 1)
    assert done["impacts"] == [
        {"client_id": "acme", "key_id": key_id, "version": 1, "last_used_at": None, "valid_24h": 0}
    ]
    assert (done["reason"], done["revision"], done["published"]) == ("key_compromise", 2, True)


def test_safe_to_retire(run: Cli):
    key_id = run("key", "create", "--client", "acme", "--json").json["key_id"]
    run("key", "rotate", key_id)
    done = run("key", "safe-to-retire", key_id, "--json", ok=False)
    assert set(done.json) >= {
        "safety", "reasons", "as_of", "quiet_required_s", "last_used_at", "old_valid", "new_valid", "share_moved",
        "addresses", "nodes",
    }  # fmt: skip
    assert (done.code, done.json["safety"]) == (1, "NOT_SAFE")
    assert "successor_unused" in done.json["reasons"]


def test_check_and_status(run: Cli, node: RunningNode, verifier_command: Callable[..., CompletedProcess[str]]):
    token = run("key", "create", "--client", "acme", "--publish", "--json").json["token"]
    asked = verifier_command("check", "--target", node.target, "--min-revision", "2", "--json", stdin=token)
    assert set(json.loads(asked.stdout)) >= {
        "verdict", "valid", "client_id", "key_id", "version", "phase", "scopes", "not_before", "expires_at",
        "superseded_at", "superseded_by", "revision", "staleness_ms", "metadata",
    }  # fmt: skip
    assert (asked.returncode, json.loads(asked.stdout)["verdict"]) == (0, "VALID")
    status = cli("status", "--target", node.metrics, "--json").json
    assert set(status) >= {
        "state", "revision", "highest_revision", "content_of", "published_at", "staleness_ms", "store_id",
        "last_refusal", "base", "delta", "clock_skew_ms", "usage", "uptime_s",
    }  # fmt: skip


def test_errors(run: Cli):
    refused = run("key", "rotate", "key_none", "--json", ok=False)
    error = refused.json["error"]
    assert (refused.code, error["code"]) == (4, "KEY_NOT_FOUND")
    assert {"code", "message", "hint"} <= set(error)
    key_id = run("key", "create", "--client", "acme", "--json").json["key_id"]
    run("key", "rotate", key_id)
    busy = run("key", "rotate", key_id, "--json", ok=False)
    assert (busy.code, busy.json["error"]["code"]) == (4, "ROTATION_OPEN")
    assert busy.err == ""


def test_a_change_that_cannot_be_published_says_both(run: Cli):
    run("key", "create", "--client", "acme", "--publish")
    run("rollback", "1")
    for name in ("publications", "keyrings"):
        assert (Path(run("init", "--json").json["folder"]) / "store" / name).is_dir()
    folder = Path(run("init", "--json").json["folder"])
    (folder / "secrets" / "signing.pem").rename(folder / "secrets" / "elsewhere.pem")
    done = run("key", "create", "--client", "acme", "--publish", "--json", ok=False)
    made, failed = done.rows
    assert made["token"].startswith("vk_live_")
    assert (made["published"], done.code != 0) == (False, True)
    assert failed["error"]["details"]["recorded"] is True
    assert run("key", "show", made["key_id"]).code == 0


@pytest.mark.parametrize(("code", "arguments"), [
    (0, ("key", "list")), (2, ("key", "rotate")), (2, ("rollback", "soon")), (2, ("nodes",)), (2, ("frobnicate",)),
    (4, ("rollback", "99")), (4, ("reinstate", "a-99")), (3, ("status", "--target", "127.0.0.1:1")),
])  # fmt: skip
def test_exit_codes(run: Cli, code: int, arguments: tuple[str, ...]):
    done = run(*arguments, "--json", ok=False)
    assert done.code == code
    if code:
        assert set(done.json) == {"error"}
