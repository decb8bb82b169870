"""What commands tell of what they did: tokens in files, repeats, nodes that nobody knows, what was published."""

import hashlib
import json
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.admin import Served, served
from tests.support.cli import Cli, at
from tests.support.homes import make_home
from tests.support.node import RunningNode
from verifier import tokens
from verifier.admin import listening
from verifier.admin.roles import Role
from verifier.errors import Unavailable
from verifier.serving.keyring import Keyring
from verifier.store.home import Home

DONE_AT = re.compile(r"already done at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE", "REGISTRY", "ADMIN", "ADMIN_TOKEN_FILE", "ADMIN_CA", "DROP_LIMIT", "TARGET"):
        monkeypatch.delenv(f"VERIFIER_{name}", raising=False)


@pytest.fixture
def home(quick_path: Path) -> Home:
    return make_home(quick_path / "home", keys=0)


@pytest.fixture
def there(home: Home) -> Iterator[Served]:
    with served(home) as running:
        yield running


@pytest.fixture
def here(home: Home) -> Cli:
    return at("--store", home.folder)


@pytest.fixture
def remote(there: Served, tmp_path: Path) -> Cli:
    (file := tmp_path / "admin-token").write_text(there.tokens[Role.ADMIN])
    return at("--admin", there.server.target, "--admin-token-file", file)


@pytest.fixture(params=["here", "remote"])
def run(request: pytest.FixtureRequest) -> Cli:
    """Commands on the folder, and against a control plane."""
    command: Cli = request.getfixturevalue(request.param)
    return command


def last_entry(here: Cli) -> dict[str, object]:
    entry: dict[str, object] = here("audit", "list", "--json").rows[-1]
    return entry


# --- One key into a file -------------------------------------------------------------------------------------------


def test_one_key_into_a_file_is_one_act(run: Cli, here: Cli, home: Home, tmp_path: Path):
    file = tmp_path / "token"
    made = run("key", "create", "--client", "acme", "--output", file, "--policy", "overlap=1h", "--publish",
               "--json").json  # fmt: skip
    assert (made["token"], made["files"]) == (None, [str(file), f"{file}.ids"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert (tmp_path / "token.ids").read_text() == made["key_id"] + "\n"
    with Keyring.open(home.folder) as keyring:
        assert keyring.verify(file.read_text().strip()).key_id == made["key_id"]
    created = [row for row in here("audit", "list", "--json").rows if row["action"] == "key.create"]
    assert [(row["audit_id"], row["key_id"]) for row in created] == [(made["audit_id"], made["key_id"])]
    assert here("policy", "show", "--key", made["key_id"], "--json").json["policy"] == {"overlap_s": 3600}


def test_one_key_as_an_object(run: Cli, tmp_path: Path):
    file = tmp_path / "token.jsonl"
    arguments = ("key", "create", "--client", "acme", "--output", file, "--format", "jsonl", "--request-id", "once")
    made = run(*arguments, "--json").json
    line = json.loads(file.read_text())
    assert set(line) == {"client_id", "key_id", "version", "token"}
    assert (line["client_id"], line["key_id"], line["version"]) == ("acme", made["key_id"], 1)
    tokens.parse(line["token"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run(*arguments, "--json").json
    assert (again["replayed"], again["key_id"], again["audit_id"]) == (True, made["key_id"], made["audit_id"])
    assert json.loads(file.read_text()) == line
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("token.")] == ["token.jsonl"]


def test_a_file_that_is_there_stays_and_a_refusal_leaves_none(run: Cli, tmp_path: Path):
    (taken := tmp_path / "taken").write_text("mine")
    (tmp_path / "other.ids").write_text("mine")
    for file in (taken, tmp_path / "other"):
        refused = run("key", "create", "--client", "acme", "--output", file, "--json", ok=False)
        assert (refused.code, refused.json["error"]["code"]) == (4, "FILE_EXISTS")
    assert taken.read_text() == "mine"
    run("key", "create", "--client", "nobody", "--output", tmp_path / "none", ok=False)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(("none", "other")) if path.suffix != ".ids"]
    assert not run("key", "list", "--json").rows


# --- Repeats -------------------------------------------------------------------------------------------------------


def test_people_are_told_of_a_repeat(run: Cli):
    digest = hashlib.sha256(tokens.generate().encode()).hexdigest()
    arguments = ("key", "create", "--client", "acme", "--sha256", digest, "--idempotency-key", "once")
    assert not DONE_AT.search(run(*arguments).err)
    assert DONE_AT.search(run(*arguments).err)
    told = run(*arguments, "--json")
    assert "already done" not in told.err
    assert told.json["done_at"].endswith("Z")
    publish = ("publish", "--request-id", "twice")
    assert not DONE_AT.search(run(*publish).err)
    assert DONE_AT.search(run(*publish).err)
    assert run("publish", "--json").json["done_at"] is None


def test_an_import_is_repeated_like_any_other_change(run: Cli, tmp_path: Path):
    file = tmp_path / "hashes.csv"
    file.write_text(f"sha256\n{'ab' * 32}\n{'cd' * 32}\n")
    arguments = ("key", "import", "--client", "acme", "--file", file, "--mode", "foreign", "--entropy-bits", "160",
                 "--request-id", "once")  # fmt: skip
    first = run(*arguments, "--ids", tmp_path / "ids", "--json").json
    again = run(*arguments, "--ids", tmp_path / "ids-again", "--json").json
    assert (first["imported"], first["replayed"], again["imported"], again["replayed"]) == (2, False, 2, True)
    assert (tmp_path / "ids").read_text() == (tmp_path / "ids-again").read_text()
    assert len(run("key", "list", "--json").rows) == 2


# --- Nodes ---------------------------------------------------------------------------------------------------------


def test_waiting_for_nobody_is_said(run: Cli):
    key_id = run("key", "create", "--client", "acme", "--json").json["key_id"]
    done = run("publish", "--wait")
    assert "no node reports, so none was waited for" in done.err
    told = run("publish", "--wait", "--json").json
    assert (told["nodes"]["expected"], len(told["warnings"])) == (0, 1)
    assert "no node" not in run("publish").err
    assert "no node" not in run("publish", "--wait", "--dry-run").err
    emergency = run("revoke", "--key", key_id, "--reason", "superseded", "--expect", "1")
    assert "no node reports" in emergency.err, "it waits by itself"


def test_a_wrong_node_is_named_by_its_option(run: Cli):
    refused = run("publish", "--node", "nonsense", ok=False)
    assert refused.code == 2
    assert "--node nonsense" in refused.err
    assert "--target" not in refused.err


def test_what_was_served_before_took_no_time(remote: Cli, home: Home):
    remote("key", "create", "--client", "acme")
    with RunningNode(home.folder, "--poll-interval", "5ms") as node:
        node.wait_for("serving")
        assert "served by 1 of 1 nodes\n" in remote("publish", "--node", node.metrics).out
        unchanged = remote("publish", "--node", node.metrics, "--json").json
        assert (unchanged["changed"], unchanged["propagation_ms"]) == (False, None)
        remote("key", "create", "--client", "acme", "--no-publish")
        assert remote("publish", "--node", node.metrics, "--json").json["propagation_ms"] is not None


# --- Looking at things ---------------------------------------------------------------------------------------------


def test_tombstones_are_a_number_and_holds_are_listed(run: Cli):
    keys = [run("key", "create", "--client", "acme", "--publish", "--json").json["key_id"] for _ in range(2)]
    assert re.search(r"tombstones: +0\n", run("publications", "show", "2").out)
    run("revoke", "--key", keys[0], "--reason", "key_compromise", "--expect", "1")
    shown = run("publications", "show", "3").out
    assert re.search(r"tombstones: +1( in 1 file)?\n", shown)
    assert "sha256'" not in shown
    run("rollback", "2", "--allow-drop")
    listed = run("publications", "list").out
    assert re.search(r"content_of +held +current", listed)
    assert [line.split()[5] for line in listed.splitlines() if "T" in line] == ["no", "no", "no", "yes"]


def test_usage_of_a_key_names_its_client(run: Cli):
    key_id = run("key", "create", "--client", "acme", "--json").json["key_id"]
    assert run("usage", key_id, "--json").json["client_id"] == "acme"
    assert run("usage", "--client", "acme", "--json").json["key_id"] is None


def test_setting_a_policy_publishes_nothing_and_says_no_other(run: Cli, here: Cli):
    here("key", "create", "--client", "acme")
    done = run("policy", "set", "--client", "acme", "--overlap", "1h", "--json").json
    assert (done["policy"], done["pending_changes"]) == ({"overlap_s": 3600}, 1), "the key alone is to be published"
    for option in ("--publish", "--wait", "--node=127.0.0.1:1"):
        assert run("policy", "set", "--overlap", "1h", option, ok=False).code == 2
    assert here("publications", "list", "--json").rows == []


def test_ids_that_a_control_plane_would_not_tell_are_refused_first(remote: Cli, tmp_path: Path):
    file = tmp_path / "hashes.csv"
    file.write_text("sha256\n" + "".join(f"{number:064x}\n" for number in range(10_001)))
    arguments = ("key", "import", "--client", "acme", "--file", file, "--mode", "foreign", "--entropy-bits", "160")
    refused = remote(*arguments, "--ids", tmp_path / "ids", "--json", ok=False)
    assert (refused.code, refused.json["error"]["code"]) == (2, "TOO_LARGE")
    assert not (tmp_path / "ids").exists()
    assert remote("key", "list", "--limit", "1", "--json").rows == [], "nothing was imported"


def test_a_port_that_is_taken_is_said_in_one_line(home: Home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "verifier", "--store", str(home.folder), "control", "--listen", address,
             "--metrics", "off", "--log-level", "error"], capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith(f"verifier: cannot listen at {address}"), done.stderr
    assert "Failed to add port" not in done.stderr


def test_a_name_that_cannot_be_found_is_no_place():
    with pytest.raises(Unavailable, match="cannot listen at nobody") as caught:
        listening.check_free(listening.parse("nobody.invalid:1"))
    assert caught.value.code == "CANNOT_LISTEN"
