"""A thousand publications while clients hammer the node (make campaign)."""

from pathlib import Path

import pytest

from tests.support.hammer import swap_under_traffic
from tests.support.publications import Stocked


@pytest.mark.campaign
@pytest.mark.parametrize("threads", [1, 2])
def test_a_thousand_publications_under_traffic(tmp_path: Path, threads: int):
    swap_under_traffic(Stocked(tmp_path / "home"), threads, 1000)
