"""Rotations under load with real programs: the short version of ``python -m loadtest.rotation``."""

import pytest

from loadtest.rotation.running import Size, run
from verifier.vocabulary import Verdict


def test_nobody_valid_is_refused_and_safe_to_retire_is_right():
    found, notes = run(Size(clients=15, overlap_s=9, quiet_s=3, crash=True, seed=1, crash_share=0.03))
    assert [] == found.problems
    assert (0, 0) == (found.calls["refused, though valid"], found.calls["no answer"])
    # It was what it is meant to be: load, refusals at the right time, swaps, a node that was gone, all outcomes.
    assert found.calls[Verdict.VALID.name] > 2000
    assert min(found.calls[verdict.name] for verdict in (Verdict.EXPIRED, Verdict.NOT_YET_ACTIVE)) > 0
    assert 5 == len(found.ends)
    assert notes.publications > 30
    assert found.calls["asked another node"] > 0
    assert {"SAFE", "NOT_SAFE", "UNKNOWN"} == set(found.safety)
    assert found.decided > sum(found.safety.values()) / 2
    assert found.seen


@pytest.mark.campaign
def test_the_same_for_longer_with_a_registry_in_postgresql(postgres_url: str):
    found, _ = run(Size(clients=20, overlap_s=30, quiet_s=4, crash=True, seed=2), postgres_url)
    assert [] == found.problems
    assert {"SAFE", "NOT_SAFE", "UNKNOWN"} == set(found.safety)
