"""The life of a key by the command line, on a folder: every verb is carried out once, and what it says is looked at."""

import hashlib
import json
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.cli import Cli, at
from verifier import tokens
from verifier.serving.keyring import Keyring
from verifier.store.signing import SigningKey


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in ("STORE", "REGISTRY", "ADMIN", "ADMIN_TOKEN_FILE", "ADMIN_CA", "DROP_LIMIT"):
        monkeypatch.delenv(f"VERIFIER_{name}", raising=False)


@pytest.fixture
def home(quick_path: Path) -> Iterator[Path]:
    yield quick_path / "home"


@pytest.fixture
def run(home: Path) -> Cli:
    """Run commands on a home with the client ``acme``."""
    command = at("--store", home)
    command("init")
    command("client", "create", "acme")
    return command


def created(run: Cli, *options: str) -> tuple[str, str]:
    """Create a key; return its id and token."""
    made = run("key", "create", "--client", "acme", "--json", *options).json
    return made["key_id"], made["token"]


def phases(run: Cli, key_id: str) -> dict[int, str]:
    return {each["version"]: each["phase"] for each in run("key", "show", key_id, "--json").json["versions"]}


def verdicts(home: Path, *presented: str) -> list[str]:
    """Judge tokens by what is published."""
    with Keyring.open(home) as keyring:
        return [keyring.verify(token).verdict.name for token in presented]


def test_rotate_cancel_rotate_retire_and_roll_back(run: Cli, home: Path):
    key_id, first = created(run)
    rotated = run("key", "rotate", key_id, "--overlap", "2h", "--publish", "--json").json
    second = rotated["token"]
    assert (rotated["version"], rotated["previous"]["phase"], rotated["revision"]) == (2, "RETIRING", 1)
    assert verdicts(home, first, second) == ["VALID", "VALID"]
    cancelled = run("key", "cancel", key_id, "--publish")
    assert f"version 1 of key {key_id} is current again" in cancelled.out
    assert phases(run, key_id) == {1: "CURRENT", 2: "REVOKED"}
    assert verdicts(home, first, second) == ["VALID", "REVOKED"]
    third = run("key", "rotate", key_id, "--json").json["token"]
    refused = run("key", "retire", key_id, "--json", ok=False)
    assert (refused.code, refused.json["error"]["code"]) == (4, "IN_USE")
    assert run("key", "retire", key_id, "--force", "--publish").out.startswith(f"version 1 of key {key_id} ends at ")
    assert phases(run, key_id) == {1: "EXPIRED", 2: "REVOKED", 3: "CURRENT"}
    assert verdicts(home, first, third) == ["EXPIRED", "VALID"]
    back = run("key", "rollback", key_id, "--overlap", "1h", "--publish")
    assert f"version 1 of key {key_id} is current again" in back.out
    assert "version 3: RETIRING, until " in back.out
    assert verdicts(home, first, third) == ["VALID", "VALID"]


def test_a_pending_successor_is_promoted(run: Cli):
    key_id, _ = created(run)
    rotated = run("key", "rotate", key_id, "--activate-at", "+24h", "--expires-in", "90d", "--json").json
    assert phases(run, key_id) == {1: "CURRENT", 2: "PENDING"}
    start, end = (datetime.fromisoformat(rotated[name]) for name in ("not_before", "expires_at"))
    assert end - start == timedelta(days=90)
    assert "promoted" in run("key", "promote", key_id).out
    assert phases(run, key_id) == {1: "RETIRING", 2: "CURRENT"}


def test_on_first_use_says_at_the_latest(run: Cli):
    key_id, _ = created(run)
    refused = run("key", "rotate", key_id, "--clock", "on_first_use", "--json", ok=False)
    assert refused.code == 4
    done = run("key", "rotate", key_id, "--clock", "on_first_use", "--max-pending", "5d", "--overlap", "1d", "--force")
    assert "at the latest" in done.out
    shown = run("key", "show", key_id, "--json").json
    assert shown["versions"][0]["clock"] == "on_first_use"
    assert "on_first_use" in run("key", "show", key_id).out


def test_the_caller_may_keep_his_token(run: Cli, home: Path):
    mine = tokens.generate()
    digest = hashlib.sha256(mine.encode()).hexdigest()
    made = run("key", "create", "--client", "acme", "--sha256", digest, "--publish", "--json").json
    assert made["token"] is None
    assert verdicts(home, mine) == ["VALID"]
    other = tokens.generate()
    rotated = run("key", "rotate", made["key_id"], "--sha256", hashlib.sha256(other.encode()).hexdigest(), "--publish",
                  "--json").json
    assert rotated["token"] is None
    assert verdicts(home, mine, other) == ["VALID", "VALID"]
    assert run("key", "rotate", made["key_id"], "--sha256", "xyz", ok=False).code == 2


def test_a_rotation_into_a_file(run: Cli, home: Path, tmp_path: Path):
    key_id, _ = created(run)
    file = tmp_path / "token"
    arguments = ("key", "rotate", key_id, "--output", file, "--request-id", "r-1", "--publish")
    done = run(*arguments)
    token = file.read_text().strip()
    assert token not in done.out + done.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run(*arguments, "--json").json
    assert (again["replayed"], again["version"], again["token"]) == (True, 2, None)
    assert file.read_text().strip() == token
    assert verdicts(home, token) == ["VALID"]
    assert phases(run, key_id) == {1: "RETIRING", 2: "CURRENT"}
    taken = run("key", "rotate", key_id, "--force", "--output", file, "--json", ok=False)
    assert (taken.code, taken.json["error"]["code"]) == (4, "FILE_EXISTS")
    assert file.read_text().strip() == token


def test_a_refused_rotation_leaves_no_file(run: Cli, tmp_path: Path):
    key_id, _ = created(run)
    run("key", "rotate", key_id)
    assert run("key", "rotate", key_id, "--output", tmp_path / "token", ok=False).code == 4
    assert not (tmp_path / "token").exists()


def test_compromise_says_who_is_cut_off(run: Cli):
    key_id, _ = created(run)
    done = run("key", "rotate", key_id, "--reason", "key_compromise")
    assert "cut off now" in done.err
    assert phases(run, key_id) == {1: "REVOKED", 2: "CURRENT"}


def test_dry_runs_change_nothing(run: Cli, tmp_path: Path):
    key_id, _ = created(run)
    before = run("audit", "list", "--json").out
    for arguments in (
        ("key", "create", "--client", "acme"), ("key", "create", "--client", "acme", "--output", tmp_path / "tokens"),
        ("key", "rotate", key_id), ("key", "revoke", key_id), ("key", "disable", key_id), ("client", "disable", "acme"),
        ("key", "update", key_id, "--scopes", "x"), ("publish",), ("policy", "set", "--overlap", "1h"),
        ("client", "create", "other"),
    ):
        done = run(*arguments, "--dry-run")
        assert "dry run" in done.err, arguments
        assert "vk_live_" not in done.out + done.err, arguments
        assert run(*arguments, "--dry-run", "--json").json["dry_run"] is True
    assert run("audit", "list", "--json").out == before
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "home"])
    assert run("publications", "list", "--json").out == ""


def test_policies_of_store_client_and_key(run: Cli):
    key_id, _ = created(run, "--policy", "overlap=5m")
    run("policy", "set", "--overlap", "3h", "--notices", "3d,1d", "--max-age", "90d")
    run("policy", "set", "--client", "acme", "--overlap", "2h", "--clock", "manual", "--retire-when-safe", "yes")
    effective = run("policy", "show", "--key", key_id, "--json").json["effective_policy"]
    assert effective["overlap_s"] == 300
    assert (effective["clock"], effective["notices_s"], effective["max_age_s"]) == (
        "manual", [3 * 86400, 86400], 90 * 86400)  # fmt: skip
    assert run("client", "show", "acme", "--json").json["policy"] == {
        "overlap_s": 7200, "clock": "manual", "retire_when_safe": True}  # fmt: skip
    run("policy", "set", "--key", key_id, "--unset", "overlap", "--expires-in", "never")
    shown = run("policy", "show", "--key", key_id, "--json").json
    assert (shown["policy"], shown["effective_policy"]["overlap_s"]) == ({"expires_in_s": 0}, 7200)
    run("client", "update", "acme", "--policy", "clock=", "--policy", "overlap=1h")
    assert "overlap=1h retire-when-safe=yes" in run("policy", "show", "--client", "acme").out
    assert "max-age            90d     here" in run("policy", "show").out
    for wrong in (("--overlap", "soon"), ("--clock", "sundial"), ("--max-live", "0"), ("--unset", "nothing"), ()):
        assert run("policy", "set", *wrong, ok=False).code == 2
    assert run("policy", "set", "--overlap", "1h", "--key", key_id, "--client", "acme", ok=False).code == 2


def test_a_store_rolled_back_and_resumed(run: Cli, home: Path):
    key_id, first = created(run)
    other, leaked = created(run)
    run("publish")
    run("key", "update", key_id, "--scopes", "trade", "--publish")
    run("key", "revoke", other, "--version", "1", "--publish")
    preview = run("rollback", "1", "--dry-run", "--json").json
    assert (preview["dry_run"], run("publications", "list", "--json").rows[-1]["revision"]) == (True, 3)
    held = run("rollback", "1", "--json").json
    assert (held["revision"], held["content_of"], held["held"]) == (4, 1, True)
    assert verdicts(home, first, leaked) == ["VALID", "REVOKED"]
    refused = run("publish", "--json", ok=False)
    assert (refused.code, refused.json["error"]["code"]) == (4, "HELD")
    during = run("key", "update", key_id, "--scopes", "write", "--publish", "--json")
    assert during.json["held_at"] == 1
    assert "held at revision 1" in during.err
    resumed = run("publish", "--resume", "--json").json
    assert (resumed["held"], resumed["content_of"]) == (False, resumed["revision"])
    with Keyring.open(home) as keyring:
        assert keyring.verify(first).scopes == ("write",)


def test_revoke_and_reinstate(run: Cli, home: Path):
    key_id, first = created(run)
    gone, second = created(run)
    wrong = run("revoke", "--client", "acme", "--reason", "superseded", "--expect", "2", "--json").json
    assert verdicts(home, first, second) == ["REVOKED", "REVOKED"]
    run("key", "revoke", gone, "--version", "1", "--reason", "key_compromise")
    done = run("reinstate", wrong["audit_id"], "--publish", "--json").json
    assert (done["count"], done["kept"]) == (1, 1)
    assert verdicts(home, first, second) == ["VALID", "REVOKED"]
    assert run("key", "show", key_id, "--json").json["versions"][0]["phase"] == "CURRENT"


def test_revoke_by_prefix_and_time(run: Cli):
    created(run, "--prefix", "old")
    created(run)
    now = datetime.now(UTC)
    tomorrow = (now + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    arguments = ("revoke", "--reason", "superseded", "--json", "--prefix", "old")
    assert run(*arguments).json["count"] == 1
    assert run(*arguments, "--created-after", tomorrow).json["count"] == 0
    assert run("revoke", "--reason", "superseded", "--json", "--created-before", tomorrow).json["count"] == 2
    key_id, _ = created(run)
    assert run("revoke", "--reason", "superseded", "--json", "--key", key_id, "--version", "1").json["count"] == 1
    assert run("revoke", "--reason", "superseded", "--version", "1", "--client", "acme", ok=False).code == 2


def test_publications(run: Cli):
    key_id, _ = created(run)
    run("publish")
    run("key", "disable", key_id)
    difference = run("publications", "diff", "1", "--json").json
    assert (difference["lost"], difference["after"]) == (1, None)
    assert {"kind": "lost", "client_id": "acme", "key_id": key_id, "version": 1} in difference["examples"]
    run("publish", "--rebase")
    assert run("publications", "diff", "1", "2", "--json").json["lost"] == 1
    assert "signed by" in run("publications", "show", "2").out
    for name in ("x", "y"):
        run("key", "update", key_id, "--scopes", name, "--publish")
    time.sleep(1.1)  # those of this very second are young
    arguments = ("publications", "prune", "--keep", "1", "--keep-for", "0s", "--json")
    before = [row["revision"] for row in run("publications", "list", "--json").rows]
    planned = run(*arguments, "--dry-run").json
    assert before == [row["revision"] for row in run("publications", "list", "--json").rows] == [1, 2, 3, 4]
    done = run(*arguments).json
    assert done["publications"] == planned["publications"] > 0
    assert len(run("publications", "list", "--json").rows) == 4 - done["publications"]


def test_the_audit_log(run: Cli, tmp_path: Path):
    key_id, _ = created(run, "--note", "asked for in ticket 7")
    run("key", "rotate", key_id)
    (entry,) = run("audit", "list", "--action", "key.create", "--json").rows
    assert (entry["key_id"], entry["details"]["note"]) == (key_id, "asked for in ticket 7")
    assert "asked for in ticket 7" in run("audit", "list", "--key", key_id).out
    checked = run("audit", "verify", "--json").json
    assert (checked["sound"], checked["entries"]) == (True, 3)
    assert run("audit", "verify", "--anchor", checked["anchor"]).code == 0
    assert run("audit", "verify", "--anchor", f"a-1:{'0' * 64}", ok=False).code == 3
    run("audit", "export", "--output", tmp_path / "log.jsonl")
    exported = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [each["audit_id"] for each in exported] == ["a-1", "a-2", "a-3"]
    assert run("audit", "export").rows == exported
    assert f"{exported[-1]['audit_id']}:{exported[-1]['hash']}" == checked["anchor"]


def test_identities(run: Cli, tmp_path: Path):
    made = run("identity", "create", "deploy", "--role", "operator", "--expires", "+30d", "--json").json
    assert made["token"].startswith("va_")
    file = tmp_path / "token"
    run("identity", "token", "deploy", "--output", file)
    assert file.read_text().startswith("va_")
    assert file.read_text().strip() != made["token"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run("identity", "create", "gateway", "--role", "node", "--certificate-name", "gw.example")
    assert run("identity", "disable", "deploy", "--json").json["enabled"] is False
    (first, second) = run("identity", "list", "--json").rows
    assert ((first["name"], first["enabled"]), (second["name"], second["certificate_name"])) == (
        ("deploy", False), ("gateway", "gw.example"))  # fmt: skip
    assert "va_" not in run("identity", "list", "--json").out + run("identity", "list").out
    assert run("identity", "enable", "deploy", "--json").json["enabled"] is True
    taken = run("identity", "create", "deploy", "--role", "viewer", "--output", tmp_path / "other", ok=False)
    assert (taken.code, (tmp_path / "other").exists()) == (4, False)


def test_registry_nodes_and_usage_of_a_store_alone(run: Cli):
    key_id, _ = created(run)
    run("publish")
    assert run("registry", "upgrade", "--json").json["changed"] is False
    assert run("registry", "reconcile", "--json").json["to_revision"] == 1
    assert run("nodes", "list", "--json").out == ""
    assert run("nodes", "forget", "n1", "--json", ok=False).code == 4
    used = run("usage", key_id, "--json").json
    assert (used["days"], used["silent_nodes"], used["as_of"]) == ([], [], None)
    assert run("usage", "--client", "acme").code == 0
    assert run("usage", ok=False).code == 2
    assert run("secrets", "list", "--json").json["peppers"] == ["p1"]


def test_a_restored_registry_is_reconciled(run: Cli, home: Path):
    kept, wanted = created(run, "--publish")
    saved = (home / "registry.db").read_bytes()
    late, token = created(run, "--publish")
    run("key", "revoke", kept, "--version", "1", "--reason", "superseded", "--publish")
    for file in home.glob("registry.db*"):
        file.unlink()
    (home / "registry.db").write_bytes(saved)
    behind = run("publish", "--json", ok=False)
    assert (behind.code, behind.json["error"]["code"]) == (4, "REGISTRY_BEHIND")
    done = run("registry", "reconcile", "--json").json
    assert (done["to_revision"], done["versions_added"], done["revoked"]) == (3, 1, 1)
    run("publish")
    assert verdicts(home, token, wanted) == ["VALID", "REVOKED"]
    run("reinstate", done["audit_id"], "--publish")
    assert verdicts(home, wanted) == ["VALID"]
    assert run("key", "show", late, "--json").json["versions"][0]["phase"] == "CURRENT"


def test_a_lost_registry_is_made_anew(run: Cli, home: Path):
    key_id, token = created(run, "--publish")
    for file in home.glob("registry.db*"):
        file.unlink()
    assert run("key", "show", key_id, ok=False).code == 4
    done = run("registry", "reconcile", "--json")
    assert (done.json["to_revision"], done.json["versions_added"]) == (1, 1)
    assert "made anew" in done.err
    run("key", "disable", key_id, "--publish")
    assert verdicts(home, token) == ["KEY_DISABLED"]


def test_another_pepper(run: Cli, home: Path):
    _, token = created(run, "--publish")
    made = run("secrets", "add-pepper", "p2", "--json").json
    assert (made["made"], made["laid"]) == (True, False)
    assert run("secrets", "list", "--json").json["in_use"] == ["p1"]
    laid = run("secrets", "add-pepper", "p2", "--json")
    assert (laid.json["made"], laid.json["laid"], laid.json["versions"]) == (False, True, 1)
    assert "verifier publish" in laid.err
    assert run("secrets", "mark-leaked", "p1", "--json").json["changed"] is True
    run("publish", "--allow-drop")
    assert verdicts(home, token) == ["VALID"]
    listed = run("secrets", "list", "--json").json
    assert (listed["in_use"], listed["leaked"]) == (["p1", "p2"], ["p1"])
    assert run("secrets", "add-pepper", "p2", ok=False).code == 4
    assert run("secrets", "mark-leaked", "p9", ok=False).code == 4


def test_another_signing_key(run: Cli, home: Path, tmp_path: Path):
    _, token = created(run, "--publish")
    old = run("secrets", "list", "--json").json["signing_key"]
    new = run("secrets", "new-signing-key", "--json").json["key"]
    assert run("secrets", "new-signing-key", "--json").json["changed"] is False
    assert run("secrets", "distrust", old, ok=False).code == 4
    used = run("secrets", "use-signing-key", "--json")
    assert (used.json["key"], used.json["before"]) == (new, old)
    assert f"distrust {old}" in used.err
    run("key", "create", "--client", "acme", "--publish")
    public = tmp_path / "public.pem"
    public.write_bytes((home / "secrets" / "trusted.pem").read_bytes())
    assert run("secrets", "distrust", old, "--json").json["trusted"] == [new]
    assert verdicts(home, token) == ["VALID"]
    assert run("secrets", "trust", public, "--json").json["added"] == [old]
    assert run("secrets", "trust", tmp_path / "none", ok=False).code == 4
    actions = [entry["action"] for entry in run("audit", "list", "--action", "signing_key", "--json").rows]
    assert actions == ["signing_key.trust", "signing_key.distrust", "signing_key.use", "signing_key.make"]


def test_no_signing_key_is_changed_that_the_audit_log_does_not_tell_of(run: Cli, home: Path, tmp_path: Path):
    created(run, "--publish")
    old = run("secrets", "list", "--json").json["signing_key"]
    new = run("secrets", "new-signing-key", "--json").json["key"]
    public = tmp_path / "public.pem"
    public.write_bytes(SigningKey.generate().public_pem())
    before = secret_files(home)
    elsewhere = at("--store", home, "--registry", f"sqlite:///{tmp_path / 'none.db'}")
    (home / "secrets" / "signing.next.pem").rename(home / "next.pem")
    for arguments in (("new-signing-key",), ("trust", public), ("distrust", new)):
        assert elsewhere("secrets", *arguments, ok=False).code == 4
        assert secret_files(home) == {name: data for name, data in before.items() if name != "signing.next.pem"}
    (home / "next.pem").rename(home / "secrets" / "signing.next.pem")
    assert elsewhere("secrets", "use-signing-key", ok=False).code == 4
    assert secret_files(home) == before
    run("secrets", "use-signing-key")
    run("key", "create", "--client", "acme", "--publish")
    published = run("audit", "list", "--action", "publication", "--json").rows
    assert [entry["details"]["signed_by"] for entry in published] == [new, old]


def secret_files(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "secrets").glob("*.pem")}


def test_a_signing_key_that_is_lost_is_replaced(run: Cli, home: Path):
    _, token = created(run, "--publish")
    (home / "secrets" / "signing.pem").unlink()
    lost = run("secrets", "list", "--json").json
    assert (lost["signing_key"], len(lost["trusted"])) == (None, 1)
    unsigned = run("client", "disable", "acme", "--publish", "--json", ok=False).json["error"]
    assert (unsigned["code"], "new-signing-key" in unsigned["hint"]) == ("NO_SIGNING_KEY", True)
    new = run("secrets", "new-signing-key", "--json").json["key"]
    assert run("secrets", "use-signing-key", "--json").json == {"key": new, "before": None}
    run("publish")
    assert verdicts(home, token) == ["CLIENT_DISABLED"]
    run("secrets", "distrust", *lost["trusted"])
    assert verdicts(home, token) == ["CLIENT_DISABLED"]


def test_a_backup_holds_what_was_just_committed(run: Cli, home: Path):
    created(run, "--publish")
    file = home.parent / "backup.db"
    assert run("registry", "backup", file, "--json").json == {"file": str(file), "bytes": file.stat().st_size}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert run("registry", "backup", file, "--json", ok=False).json["error"]["code"] == "FILE_EXISTS"
    for path in home.glob("registry.db*"):
        path.unlink()
    file.rename(home / "registry.db")
    assert [client["client_id"] for client in run("client", "list", "--json").rows] == ["acme"]
    assert run("publish", "--json").json["changed"] is False
