"""Delivery of reports of usage, in either database: each counted once, and what is missing known."""

from typing import Any

import pytest

from tests.support import usage as support
from tests.support.usage import START_S, FakeNode, counts, put, rows
from verifier.control.acting import Actor, acting
from verifier.control.usage import Applied, UsageReport, WatchedUse, apply_report
from verifier.errors import Conflict, InvalidInput
from verifier.registry import nodes, schema
from verifier.registry.database import Registry

DAY_S = 86_400
shared_registry, registry = support.shared_registry, support.registry  # emptied for each test: founding is slow


@pytest.fixture
def node(registry: Registry) -> FakeNode:
    return FakeNode(registry)


# --- Once ------------------------------------------------------------------------------------------------------------


def test_a_report_is_counted_once_whatever_is_repeated(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    node.use(START_S, {one: (3, 1)})
    node.use(START_S + 10, {one: (2, 0)})
    for sent in node.sent:
        assert Applied(2, repeated=True) == node.send(sent, START_S + 11)
    assert [(one, START_S // DAY_S, 5, 1, 1 << 22)] == counts(registry)


def test_a_report_out_of_turn_is_refused_and_says_where_to_go_on(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    node.use(START_S, {one: (1, 0)})
    node.cut((START_S + 10) * 1000, {one: (1, 0)})
    third = node.cut((START_S + 20) * 1000, {one: (1, 0)})
    with pytest.raises(Conflict) as caught:
        node.send(third, START_S + 20)
    assert ("USAGE_GAP", {"applied": 1}) == (caught.value.code, caught.value.details)
    assert [1] == [row[2] for row in counts(registry)]
    node.send(node.sent[1], START_S + 20)
    node.send(third, START_S + 20)
    assert [3] == [row[2] for row in counts(registry)]


def test_counts_and_number_are_committed_together(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    report = node.cut(START_S * 1000, {one: (3, 0)})
    with pytest.raises(RuntimeError), acting(registry, Actor("token:n1"), START_S) as act:
        apply_report(act, report)
        raise RuntimeError
    assert [] == counts(registry)
    node.send(report, START_S)
    assert [3] == [row[2] for row in counts(registry)]


def test_a_registry_that_was_restored_tells_the_node_where_to_go_on(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    node.status(START_S * 1000)
    node.use(START_S, {one: (1, 0)})
    node.sequence, node.to_ms = 7, (START_S + 60) * 1000  # 2 to 7 were counted in the registry that was lost
    lost = node.cut((START_S + 70) * 1000, {one: (4, 0)})
    with pytest.raises(Conflict) as caught:
        node.send(lost, START_S + 70)
    node.sequence, node.to_ms = caught.value.details["applied"], (START_S + 60) * 1000
    node.send(node.cut((START_S + 70) * 1000, {one: (4, 0)}), START_S + 70)
    assert [5] == [row[2] for row in counts(registry)]
    gap = ("n1", START_S * 1000, (START_S + 60) * 1000)
    assert [gap] == rows(registry, schema.node_gaps, "node", "from_ms", "to_ms")


@pytest.mark.parametrize("broken", [
    {"ordinals": [1, 2], "valid": [1], "refused": [0, 0]}, {"ordinals": [2, 1], "valid": [1, 1], "refused": [0, 0]},
    {"ordinals": [1, 1], "valid": [1, 1], "refused": [0, 0]}, {"sequence": 0}, {"to_ms": -1}, {"node": "a b"},
    {"watched": [WatchedUse(1, 1, START_S, b"12345")]},
])  # fmt: skip
def test_a_report_that_contradicts_itself_is_refused(registry: Registry, broken: dict[str, Any]):
    report = UsageReport(**{"node": "n1", "epoch": 1, "sequence": 1, "from_ms": 0, "to_ms": 1000, **broken})
    with pytest.raises(InvalidInput), acting(registry, Actor("token:n1"), START_S) as act:
        apply_report(act, report)
    assert [] == rows(registry, schema.nodes, "name")


# --- Interrupted coverage --------------------------------------------------------------------------------------------


def gaps(registry: Registry) -> list[tuple[int, int]]:
    """Return the gaps in seconds after START_S."""
    found = rows(registry, schema.node_gaps, "from_ms", "to_ms")
    return [(begin // 1000 - START_S, end // 1000 - START_S) for begin, end in found]


def known(registry: Registry) -> tuple[int | None, int | None]:
    """Return since when and until when usage is known, in seconds after START_S."""
    with registry.read() as connection:
        node = nodes.find(connection, "n1")
    assert node is not None
    times = (node.usage_from_ms, node.usage_to_ms)
    return tuple(None if at is None else at // 1000 - START_S for at in times)  # type: ignore[return-value]


def test_what_a_killed_node_took_with_it_is_a_gap(registry: Registry, node: FakeNode):
    node.status(START_S * 1000)
    node.use(START_S + 10)
    node.restart()
    node.status((START_S + 40) * 1000)
    node.to_ms = (START_S + 40) * 1000
    node.use(START_S + 50)
    assert [(10, 40)] == gaps(registry)
    assert (0, 50) == known(registry)


def test_a_node_that_stopped_was_not_there(registry: Registry, node: FakeNode):
    node.status(START_S * 1000)
    node.use(START_S + 10)
    node.status((START_S + 12) * 1000, stopping=True)
    node.use(START_S + 12)  # its last counts may come after its farewell
    node.restart()
    node.status((START_S + 100) * 1000)
    node.to_ms = (START_S + 100) * 1000
    node.use(START_S + 110)
    assert [] == gaps(registry)
    assert (100, 110) == known(registry)


def test_a_node_that_stopped_without_its_last_counts_leaves_a_gap(registry: Registry, node: FakeNode):
    node.status(START_S * 1000)
    node.use(START_S + 10)
    node.status((START_S + 60) * 1000, stopping=True)
    node.restart()
    node.status((START_S + 100) * 1000)
    assert [(10, 60)] == gaps(registry)


def test_reports_of_one_time_count_as_known_once_all_are_there(registry: Registry, node: FakeNode):
    one, two = put(registry, {}, {"superseded_at": START_S})
    node.use(START_S + 10)
    begin, end = (START_S + 10) * 1000, (START_S + 20) * 1000
    first = UsageReport("n1", 1, 2, begin, end, [one], [1], [0], partial=True)
    second = UsageReport("n1", 1, 3, begin, end, [two], [1], [0])
    node.send(first, START_S + 20)
    assert (0, 10) == known(registry)
    node.send(second, START_S + 20)
    assert (0, 20) == known(registry)
    assert [] == gaps(registry)


def test_a_killed_node_whose_successor_begins_with_a_partial_report_leaves_one_gap(registry: Registry, node: FakeNode):
    node.use(START_S + 10)
    node.status((START_S + 10) * 1000)
    node.restart()
    node.status((START_S + 40) * 1000)
    begin, end = (START_S + 40) * 1000, (START_S + 50) * 1000
    node.send(UsageReport("n1", 2, 1, begin, end, partial=True), START_S + 50)
    assert (0, 40) == known(registry)
    node.send(UsageReport("n1", 2, 2, begin, end), START_S + 50)
    assert (0, 50) == known(registry)
    assert [(10, 40)] == gaps(registry)


def test_a_report_of_a_process_that_is_gone_is_refused(registry: Registry, node: FakeNode):
    (one,) = put(registry, {})
    node.status(START_S * 1000)
    node.use(START_S + 10, {one: (1, 0)})
    node.restart()
    node.status((START_S + 20) * 1000)
    node.use(START_S + 30, {one: (1, 0)})
    with pytest.raises(Conflict) as caught:
        node.send(node.sent[0], START_S + 31)
    assert "EPOCH_OVER" == caught.value.code
    assert [2] == [row[2] for row in counts(registry)]
