"""What nodes say of themselves, who is expected, and waiting until all of them serve a revision."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.support import usage as support
from tests.support.usage import START_S, FakeNode
from verifier.control import nodes
from verifier.control.acting import Actor, acting
from verifier.control.nodes import NodeBoard, Propagation, Refusal, StatusReport, report_status, wait_served
from verifier.errors import Conflict, InvalidInput, NotFound
from verifier.registry import queries, schema
from verifier.registry.database import Registry
from verifier.registry.nodes import Node

shared_registry, registry = support.shared_registry, support.registry  # emptied for each test: founding is slow
DAY_S = 86_400
START_MS = START_S * 1000


def listed(registry: Registry) -> dict[str, Node]:
    with registry.read() as connection:
        return {node.name: node for node in nodes.list_nodes(connection)}


def expected(registry: Registry, now_s: int) -> list[str]:
    with registry.read() as connection:
        return [node.name for node in nodes.expected_nodes(connection, now_s)]


def report(registry: Registry, name: str = "n1", now_ms: int = START_MS, epoch: int = 1, **values: Any) -> Node:
    with registry.write() as connection:
        return report_status(connection, StatusReport(name, epoch, **values), now_ms)


# --- Reports ---------------------------------------------------------------------------------------------------------


def test_what_a_node_says_is_kept(registry: Registry):
    refusal = Refusal(8, "BAD_DIGEST", "the digest differs", START_S - 5)
    report(registry, revision=7, served_at_ms=START_MS - 30, load_ms=12, clock_ms=START_MS + 40, refusal=refusal,
           version="1.2", addresses=("10.0.0.1:7000", "unix:/run/v.sock"), epoch=0xFF)  # fmt: skip
    node = listed(registry)["n1"]
    assert Node(
        name="n1", epoch="00000000000000ff", first_seen_at=START_S, last_seen_at=START_S, revision=7,
        served_at_ms=START_MS - 30, load_ms=12, refusal=node.refusal, clock_skew_ms=40, version="1.2",
        addresses="10.0.0.1:7000 unix:/run/v.sock",
    ) == node  # fmt: skip
    assert refusal == nodes.refusal_of(node)
    later = report(registry, revision=8, now_ms=START_MS + 9000)
    assert (None, 8, START_S + 9, START_S) == (
        nodes.refusal_of(later), later.revision, later.last_seen_at, later.first_seen_at
    )  # fmt: skip


def test_a_node_of_another_store_is_refused(registry: Registry):
    with registry.read() as connection:
        own = queries.state(connection).store_id
    report(registry, store_id=own)
    with pytest.raises(Conflict) as caught:
        report(registry, "n2", store_id="st_other")
    assert "OTHER_STORE" == caught.value.code
    with pytest.raises(InvalidInput):
        report(registry, "n 3")
    assert ["n1"] == list(listed(registry))


def test_who_is_expected(registry: Registry):
    report(registry, "old", START_MS - (DAY_S + 1) * 1000)
    report(registry, "day", START_MS - DAY_S * 1000)
    report(registry, "gone", stopping=True)
    report(registry, "gone", START_MS + 1)  # overtaken by the farewell
    report(registry, "here")
    assert ["day", "here"] == expected(registry, START_S)
    report(registry, "gone", START_MS + 9000, epoch=2)
    assert ["gone", "here"] == expected(registry, START_S + 9)


def test_a_first_use_is_told_only_if_somebody_reports(registry: Registry):
    def has(now_s: int) -> bool:
        with registry.read() as connection:
            return nodes.has_reporting_nodes(connection, now_s)

    report(registry)
    assert not has(START_S)
    FakeNode(registry).use(START_S)
    assert [True, False] == [has(START_S + 600), has(START_S + 601)]
    report(registry, now_ms=START_MS + 1000, stopping=True)
    assert not has(START_S + 2)


def test_a_forgotten_node_is_expected_once_it_reports_again(registry: Registry):
    def forget(name: str) -> Node:
        with acting(registry, Actor("local:tester"), START_S + 1) as act:
            return nodes.forget(act, name)

    report(registry)
    assert START_S + 1 == forget("n1").forgotten_at == forget("n1").forgotten_at
    assert [] == expected(registry, START_S + 1)
    with registry.read() as connection:
        entries = connection.execute(select(schema.audit).where(schema.audit.c.action == "node.forget")).all()
    assert 1 == len(entries)
    assert '"node":"n1"' in entries[0].details
    with pytest.raises(NotFound) as caught:
        forget("n2")
    assert "NODE_NOT_FOUND" == caught.value.code
    report(registry, now_ms=START_MS + 2000)
    assert ["n1"] == expected(registry, START_S + 2)


def test_a_forgotten_nodes_return_is_no_gap(registry: Registry):
    node = FakeNode(registry)
    node.status(START_MS)
    node.use(START_S)
    with acting(registry, Actor("local:tester"), START_S + 1) as act:
        nodes.forget(act, "n1")
    node.restart()
    node.status(START_MS + 90_000)
    node.to_ms = START_MS + 90_000
    node.use(START_S + 100)
    with registry.read() as connection:
        assert [] == connection.execute(select(schema.node_gaps)).all()
    assert START_MS + 90_000 == listed(registry)["n1"].usage_from_ms


# --- The board -------------------------------------------------------------------------------------------------------


@pytest.fixture
def writes(registry: Registry) -> Iterator[list[str]]:
    """Yield a list that fills with the statements that write to ``nodes``."""
    seen: list[str] = []

    def before(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT INTO nodes"):
            seen.append(statement)

    event.listen(registry.engine, "before_cursor_execute", before)
    yield seen
    event.remove(registry.engine, "before_cursor_execute", before)


def test_only_what_is_new_is_written(registry: Registry, writes: list[str]):
    board = NodeBoard(registry)
    status: dict[str, Any] = {"node": "n1", "epoch": 1, "revision": 3, "served_at_ms": 1, "addresses": ["a:1"]}
    moment = START_MS + 123

    def after(elapsed_ms: int, **changed: Any) -> int:
        written = len(writes)
        report = StatusReport(**{**status, "clock_ms": moment + elapsed_ms + 7, **changed})
        board.report(report, moment + elapsed_ms)
        return len(writes) - written

    assert 1 == after(0)
    assert 0 == sum(after(second * 1000) for second in range(1, 10))
    assert 1 == after(10_000)
    assert START_S + 10 == listed(registry)["n1"].last_seen_at
    assert [1, 1] == [after(11_000, revision=4), after(11_000, revision=3)]
    assert [1, 0] == [after(12_000, clock_ms=moment), after(12_000, clock_ms=moment + 100)]
    assert 1 == after(12_000, refusal=Refusal(4, "FORMAT", "no", 1))
    assert 1 == after(12_000)
    assert 1 == after(12_000, epoch=2)
    assert 1 == after(12_000, epoch=2, stopping=True)
    assert 9 == board.count


def test_two_processes_of_one_name_are_told_once_an_hour(registry: Registry):
    board = NodeBoard(registry)

    def told(*epochs: int, at_s: int = 0, name: str = "n1") -> list[bool]:
        return [board.report(StatusReport(name, epoch), START_MS + at_s * 1000) for epoch in epochs]

    assert not any(told(1, 1, 2, 2, 2)), "a restart"
    assert not any(told(1, 2)), "a report that was overtaken by the first one of the next process"
    assert not any(told(3, 4, 5, 5)), "restarts"
    assert not any(told(6, 7, 6, name="n2"))
    assert [False, False, True, False, False] == told(4, 5, 4, 5, 4)
    assert [False, True] == told(4, 5, at_s=3600)
    assert [False, True] == told(7, 6, name="n2")


def now_ms() -> int:
    return int(time.time() * 1000)


def later(delay_s: float, function: Any, *arguments: Any, **options: Any) -> threading.Timer:
    timer = threading.Timer(delay_s, function, arguments, options)
    timer.start()
    return timer


def test_without_nodes_nobody_is_waited_for(registry: Registry):
    began = time.monotonic()
    assert Propagation(0) == wait_served(registry, 5, now_ms(), 5.0)
    assert time.monotonic() - began < 1


def test_waiting_ends_when_the_last_node_serves_the_revision(registry: Registry):
    board = NodeBoard(registry)
    commit = now_ms()
    for name in ("n1", "n2"):
        board.report(StatusReport(name, 1, revision=4))
    done = [
        later(0.05, lambda: board.report(StatusReport("n1", 1, revision=5, served_at_ms=commit + 11))),
        later(0.10, lambda: board.report(StatusReport("n2", 1, revision=6, served_at_ms=commit + 90))),
    ]
    began = time.monotonic()
    assert Propagation(2, (), 90) == wait_served(registry, 5, commit, 10.0, board=board)
    assert time.monotonic() - began < 3
    for timer in done:
        timer.join()


def test_waiting_notices_what_another_process_was_told(registry: Registry):
    report(registry, now_ms=now_ms(), revision=4)
    commit = now_ms()
    timer = later(0.05, lambda: report(registry, now_ms=now_ms(), revision=5, served_at_ms=commit + 3))
    for board in (None, NodeBoard(registry)):
        assert Propagation(1, (), 3) == wait_served(registry, 5, commit, 10.0, board=board)
    timer.join()


def test_who_is_behind_is_named_when_the_time_is_over(registry: Registry):
    moment = now_ms()
    report(registry, "slow", moment, revision=4)
    report(registry, "quick", moment, revision=5, served_at_ms=moment + 1030, clock_ms=moment + 1000)
    assert Propagation(2, ("slow",), 30) == wait_served(registry, 5, moment, 0.05)
    assert Propagation(1, (), 30) == wait_served(registry, 5, moment, 0.05, names=["quick"])
    assert Propagation(2, ("none",), 30) == wait_served(registry, 5, moment, 0.05, names=["quick", "none"])
    report(registry, "slow", moment, stopping=True)
    assert Propagation(1, (), 30) == wait_served(registry, 5, moment, 0.05)


def test_a_node_that_was_faster_than_its_clock_says_took_no_time(registry: Registry):
    moment = now_ms()
    report(registry, now_ms=moment, revision=5, served_at_ms=moment - 700)
    assert Propagation(1, (), 0) == wait_served(registry, 5, moment, 0.05)


def test_many_nodes_report_at_once(registry: Registry):
    board = NodeBoard(registry)

    def run(number: int) -> None:
        for revision in range(5):
            board.report(StatusReport(f"n{number}", 1, revision=revision))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    propagation = wait_served(registry, 4, now_ms(), 20.0, names=[f"n{number}" for number in range(8)], board=board)
    for thread in threads:
        thread.join()
    assert Propagation(8, (), 0) == propagation
    assert 40 == board.count
