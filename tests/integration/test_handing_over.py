"""Tokens of the schedule's rotations get their names once callers can use them; by a clock that the tests move."""

from pathlib import Path

import pytest

from tests.support.control import folder_for_tokens
from tests.support.turns import Turns
from verifier import tokens
from verifier.control import clients, issuing
from verifier.control.nodes import StatusReport, report_status
from verifier.control.policy import Policy
from verifier.control.publishing import publish
from verifier.control.rolling_back import roll_back
from verifier.control.terms import Terms
from verifier.registry.database import Registry
from verifier.store.home import Home

START_S = 1_900_000_000
DAY_S = 86_400
MONTHLY = Policy(max_age_s=30 * DAY_S, overlap_s=3600)


@pytest.fixture
def handout(tmp_path: Path) -> Path:
    return folder_for_tokens(tmp_path)


@pytest.fixture
def turns(registry_place: Home, registry: Registry, handout: Path) -> Turns:
    made = Turns(registry_place, registry, START_S, handout)
    made.do(clients.create_client, "acme")
    return made


def make_key(turns: Turns, policy: Policy) -> str:
    issued = turns.do(issuing.issue_key, turns.peppers(), "acme", Terms(), policy=policy)
    return str(issued.key.key_id)


def serve(turns: Turns, name: str, revision: int) -> None:
    """Have a node report what it serves."""
    with turns.registry.write() as connection:
        report_status(connection, StatusReport(name, 7, revision=revision), turns.now_s * 1000)


def there(handout: Path, key_id: str) -> set[str]:
    return {path.name.removeprefix(f"{key_id}.") for path in handout.iterdir()}


def test_a_token_has_its_name_once_all_nodes_serve_its_version(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    turns.now_s += 30 * DAY_S
    for name in ("n1", "n2"):
        serve(turns, name, 0)
    turns.turn()
    turns.turn(10)
    assert {"2.pending"} == there(handout, key_id), "it is not published"
    revision = publish(turns.home, registry=turns.registry).revision
    serve(turns, "n1", revision)
    turns.turn(10)
    assert {"2.pending"} == there(handout, key_id), "a node does not know it"
    turns.schedule = turns.another()
    serve(turns, "n2", revision + 1)
    turns.turn(1)
    assert {"2"} == there(handout, key_id)
    assert 0o600 == (handout / f"{key_id}.2").stat().st_mode & 0o777


def test_a_node_that_does_not_move_keeps_a_token_for_a_while_only(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    turns.now_s += 30 * DAY_S
    serve(turns, "n1", 0)
    turns.turn()
    publish(turns.home, registry=turns.registry)
    turns.turn()
    turns.turn(29)
    assert {"2.pending"} == there(handout, key_id)
    turns.turn(1)
    assert {"2"} == there(handout, key_id)


def test_without_reports_a_token_waits_for_the_publication(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    publish(turns.home, registry=turns.registry)
    turns.turn(30 * DAY_S)
    turns.turn()
    assert {"2.pending"} == there(handout, key_id)
    publish(turns.home, registry=turns.registry)
    turns.turn()
    assert {"2"} == there(handout, key_id)


def test_a_token_waits_for_the_end_of_a_rollback(turns: Turns, handout: Path):
    key_id = make_key(turns, MONTHLY)
    publish(turns.home, registry=turns.registry)
    roll_back(turns.home, 1, registry=turns.registry)
    turns.turn(30 * DAY_S)
    publish(turns.home, registry=turns.registry, held_ok=True)
    turns.turn()
    turns.turn(60)
    assert {"2.pending"} == there(handout, key_id)
    publish(turns.home, registry=turns.registry, resume=True)
    turns.turn()
    assert {"2"} == there(handout, key_id)


def test_a_token_whose_version_was_never_made_gets_no_name(turns: Turns, handout: Path):
    publish(turns.home, registry=turns.registry)
    (handout / "key_gone.2.pending").write_text(tokens.generate())
    turns.turn(60)
    turns.turn(60)
    assert ["key_gone.2.pending"] == [path.name for path in handout.iterdir()]
