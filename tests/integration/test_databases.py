"""One registry in either database: transactions, locks, faults, and what an address may not betray."""

import pytest

from verifier.control.founding import found
from verifier.errors import NotFound
from verifier.registry import queries
from verifier.registry.database import open_registry


def test_founding_and_opening(empty_place):
    with pytest.raises(NotFound) as caught:
        open_registry(empty_place)
    assert "NOT_INITIALISED" == caught.value.code
    first = found(empty_place)
    assert first.created
    assert not found(empty_place).created
    with open_registry(empty_place) as registry, registry.read() as connection:
        assert first.store_id == queries.state(connection).store_id
