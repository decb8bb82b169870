"""Random histories of a whole store: nobody is let in or refused by mistake, and nothing compromised comes back.

Keys are issued, rotated, revoked, reinstated and pruned; publications are made, rolled back, resumed and killed;
databases are restored and reconciled; nodes lag, restart and are offered forged publications. A model that shares no
code with the product says what each token is to be answered, by each publication, at each second that matters.

A failure prints the seed and the shortest history that was found to fail like it.
"""

import os
import time
from pathlib import Path

import pytest

from tests.support.history.running import Histories, run
from tests.support.history.running import history as chosen
from tests.support.history.steps import STEPS
from tests.support.history.world import World
from verifier.control.founding import found
from verifier.registry.database import open_registry
from verifier.store.home import Home

SEEDS = range(int(os.environ.get("VERIFIER_HISTORY_SEED", "0")), 1 << 62)
CAMPAIGN_STEPS = int(os.environ.get("VERIFIER_HISTORY_STEPS", "100000"))
STEPS_EACH = 400


def test_histories(quick_path: Path) -> None:
    histories = Histories(quick_path)
    for seed in SEEDS[:8]:
        histories.check(seed, STEPS_EACH)
    assert histories.publications > 100 and histories.compared > 10_000
    done = {entry.split()[2] for entry in histories.log if " done" in entry or " r" in entry}
    assert {"issue", "rotate", "revoke", "undo", "roll_back", "resume", "crash", "use", "key_rollback"} <= done


def test_histories_in_postgresql(quick_path: Path, postgres_url: str) -> None:
    home = Home(quick_path / "home", registry=postgres_url)
    found(home)
    with open_registry(home) as registry:
        done = run(World(home, registry), chosen(SEEDS[0], 250))
    assert done.failure is None, "\n".join([*done.log[-30:], repr(done.failure)])
    assert done.publications > 5


def test_a_history_draws_all_steps_again_and_again() -> None:
    names = [name for name, _ in chosen(1, 5_000)]
    assert set(names) == set(STEPS) and chosen(1, 5_000) == chosen(1, 5_000)


@pytest.mark.campaign
@pytest.mark.timeout(4 * 3600)
def test_a_hundred_thousand_steps(quick_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VERIFIER_HISTORY_SEED and VERIFIER_HISTORY_STEPS say where to begin, and how long to go on."""
    histories, began = Histories(quick_path), time.monotonic()
    for seed in SEEDS:
        histories.check(seed, STEPS_EACH)
        with capsys.disabled():
            print(f"\rhistory {seed}: {histories.steps:,} steps, {histories.publications:,} publications, "
                  f"{histories.compared:,} answers in {time.monotonic() - began:.0f} s", end="", flush=True)
        if histories.steps >= CAMPAIGN_STEPS:
            return
