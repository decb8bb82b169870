"""Nodes: what they say of themselves, whether they are waited for, and whether they serve a publication yet."""

import json
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, select

from verifier.control.acting import Act
from verifier.control.coverage import Gap, Step, is_expected, known_to_ms, restarted
from verifier.control.terms import check_id
from verifier.errors import Conflict, NotFound
from verifier.registry import nodes, schema
from verifier.registry.database import Registry
from verifier.registry.nodes import Node
from verifier.tokens import quoted

WRITE_EVERY_S = 10  # a node that says nothing new is written down no more often
SKEW_STEP_MS = 250  # less of a change of its clock is nothing new
REPORTING_WITHIN_S = 600
POLL_S = 0.01
BOARD_POLL_S = 0.1  # with a board: for what comes to other processes
TEXT_MAX = 500
ADDRESSES_MAX = 8
TELL_EVERY_S = 3600
RETURNED = 3  # a report that was overtaken by its successor's first one makes each of them return once


@dataclass(frozen=True, slots=True)
class Refusal:
    """A publication that a node does not serve.

    Attributes:
        revision: of it; 0 when not even that could be read.
        code: the reason.
        message: the reason in a sentence.
        at_s: when.
    """

    revision: int
    code: str
    message: str
    at_s: int


@dataclass(frozen=True, slots=True)
class StatusReport:
    """What a node says of itself.

    Attributes:
        node: its name.
        epoch: chosen at random when its process began.
        revision: that it serves; 0 for none.
        clock_ms: its clock when it sent this, milliseconds since 1970; None when it did not say.
        store_id: that it follows; empty as long as it serves nothing.
        served_at_ms: since when it serves the revision, by its clock.
        load_ms: how long loading that took.
        refusal: the last publication that it refused, if newer than the one it serves.
        version: its software.
        addresses: where it answers calls.
        stopping: this is its last report.
    """

    node: str
    epoch: int
    revision: int = 0
    clock_ms: int | None = None
    store_id: str = ""
    served_at_ms: int | None = None
    load_ms: int | None = None
    refusal: Refusal | None = None
    version: str = ""
    addresses: Sequence[str] = ()
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Propagation:
    """How a publication reached the nodes.

    Attributes:
        expected: nodes that are to serve it.
        behind: the names of those that do not.
        took_ms: from the moment it became current until the last of the others served it; None when there are none.
    """

    expected: int
    behind: tuple[str, ...] = ()
    took_ms: int | None = None


# --- Reports ---------------------------------------------------------------------------------------------------------


def epoch_text(epoch: int) -> str:
    """Write the number of a node's process as the registry keeps it."""
    return f"{epoch & (1 << 64) - 1:016x}"


def after_status(node: Node | None, report: StatusReport, now_ms: int) -> Step:
    """Return what is known of a node once it has reported, and the gaps that a restart shows."""
    now_s, epoch = now_ms // 1000, epoch_text(report.epoch)
    skew_ms = None if report.clock_ms is None else report.clock_ms - now_ms
    gaps: tuple[Gap, ...] = ()
    if node is None:
        node = Node(name=report.node, epoch=epoch, first_seen_at=now_s, last_seen_at=now_s)
    elif epoch != node.epoch:
        node, gaps = (step := restarted(node, epoch, now_s, skew_ms)).node, step.gaps
    after = replace(
        node,
        last_seen_at=max(node.last_seen_at, now_s),
        # A report that was overtaken by the last one does not bring the process back.
        stopped_at=node.stopped_at if node.stopped_at is not None else now_s if report.stopping else None,
        forgotten_at=None,
        revision=report.revision,
        served_at_ms=report.served_at_ms,
        load_ms=report.load_ms,
        refusal=None if report.refusal is None else _refusal_text(report.refusal),
        clock_skew_ms=node.clock_skew_ms if skew_ms is None else skew_ms,
        version=report.version[:64] or None,
        addresses=" ".join(address[:64] for address in report.addresses[:ADDRESSES_MAX]),
    )
    return Step(after, gaps)


def report_status(connection: Connection, report: StatusReport, now_ms: int) -> Node:
    """Write down what a node says of itself; :class:`NodeBoard` does it only when that is worth a write.

    Args:
        connection: inside ``Registry.write()``.
        report: from the node.
        now_ms: when it came, milliseconds since 1970: by that its clock is compared with ours.

    Raises:
        InvalidInput: its name cannot be used (``BAD_ID``).
        Conflict: it follows another store (``OTHER_STORE``).
    """
    check_id("node", report.node)
    if report.store_id and report.store_id != connection.scalar(select(schema.registry.c.store_id)):
        raise Conflict(
            f"node {report.node} follows another store",
            hint="it reports to the wrong control plane, or was given the wrong store", code="OTHER_STORE",
        )  # fmt: skip
    step = after_status(nodes.find(connection, report.node), report, now_ms)
    nodes.store(connection, step.node)
    for gap in step.gaps:
        nodes.add_gap(connection, report.node, gap.from_ms, gap.to_ms)
    return step.node


def refusal_of(node: Node) -> Refusal | None:
    """Return the last publication that a node refused."""
    return None if node.refusal is None else Refusal(**json.loads(node.refusal))


def _refusal_text(refusal: Refusal) -> str:
    return json.dumps(asdict(replace(refusal, code=refusal.code[:64], message=refusal.message[:TEXT_MAX])))


# --- Who is there ----------------------------------------------------------------------------------------------------


def list_nodes(connection: Connection) -> list[Node]:
    """Return all nodes that ever reported, by name, until :func:`verifier.control.usage.sweep` drops them."""
    return nodes.every(connection)


def expected_nodes(connection: Connection, now_s: int) -> list[Node]:
    """Return the nodes that publications wait for: heard within 24 hours, neither stopped nor forgotten."""
    return [node for node in nodes.every(connection) if is_expected(node, now_s)]


def has_reporting_nodes(connection: Connection, now_s: int) -> bool:
    """Tell whether a node's usage of the last 10 minutes is known: without one, no first use would ever be told."""
    known = (known_to_ms(node) for node in expected_nodes(connection, now_s))
    return any(known_ms is not None and known_ms >= (now_s - REPORTING_WITHIN_S) * 1000 for known_ms in known)


def forget(act: Act, name: str) -> Node:
    """Stop expecting a node, until it reports again; a repeat is a success that changes nothing.

    Raises:
        NotFound: none of that name ever reported (``NODE_NOT_FOUND``).
    """
    node = nodes.find(act.connection, name)
    if node is None:
        raise NotFound(f"there is no node {quoted(name)}", hint="verifier nodes list", code="NODE_NOT_FOUND")
    if node.forgotten_at is not None:
        return node
    forgotten = replace(node, forgotten_at=act.now_s)
    nodes.store(act.connection, forgotten)
    act.audit(
        "node.forget", node=name, before={"forgotten_at": None, "last_seen_at": node.last_seen_at},
        after={"forgotten_at": act.now_s},
    )  # fmt: skip
    return forgotten


def tell_shared_name(act: Act, report: StatusReport) -> None:
    """Emit that two processes report under one name: of one, neither usage nor what it serves is known."""
    act.emit("node.name_taken", node=report.node, addresses=list(report.addresses[:ADDRESSES_MAX]))


# --- Waiting ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Processes:
    """The processes that report under one name. One that was succeeded is gone; if it comes back, both are there."""

    epoch: int = 0
    former: int = 0
    returned: int = 0
    told_at: int | None = None

    def heard(self, epoch: int, now_s: int) -> bool:
        """Take note of a report; return whether it is to be told that there are two."""
        if epoch == self.epoch:
            return False
        self.returned = self.returned + 1 if epoch == self.former else 0
        self.former, self.epoch = self.epoch, epoch
        if self.returned < RETURNED or (self.told_at is not None and now_s < self.told_at + TELL_EVERY_S):
            return False
        self.told_at = now_s
        return True


class NodeBoard:
    """Where a process takes the reports of nodes, writes down what is new, and wakes those who wait for it.

    Args:
        registry: where.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._news = threading.Condition()
        self._written: dict[str, Node] = {}
        self._processes: dict[str, _Processes] = {}
        self._count = 0

    def report(self, report: StatusReport, now_ms: int | None = None) -> bool:
        """Take a report; safe to call from any thread.

        ``last_seen_at`` is written at most :data:`WRITE_EVERY_S` late, all else at once.

        Returns:
            Whether it is to be told that two processes report under this name: at most once in :data:`TELL_EVERY_S`.

        Raises:
            InvalidInput: its name cannot be used.
            Conflict: it follows another store, or another writer held the registry for too long.
            Unavailable: the database cannot be used.
        """
        now_ms = int(time.time() * 1000) if now_ms is None else now_ms
        with self._news:
            known = self._written.get(report.node)
            processes = self._processes.setdefault(report.node, _Processes())
            shared = processes.heard(report.epoch, now_ms // 1000)
        if known is not None and not _is_news(known, after_status(known, report, now_ms).node):
            return shared
        with self._registry.write() as connection:
            node = report_status(connection, report, now_ms)
        with self._news:
            self._written[node.name] = node
            self._count += 1
            self._news.notify_all()
        return shared

    @property
    def count(self) -> int:
        """How many reports brought something new."""
        with self._news:
            return self._count

    def wait_past(self, count: int, timeout_s: float) -> None:
        """Wait for more news than ``count``."""
        with self._news:
            self._news.wait_for(lambda: self._count > count, timeout_s)


def _is_news(known: Node, node: Node) -> bool:
    """Tell whether a node says something that is to be written down."""
    if abs((node.clock_skew_ms or 0) - (known.clock_skew_ms or 0)) >= SKEW_STEP_MS:
        return True
    if node.last_seen_at - known.last_seen_at >= WRITE_EVERY_S:
        return True
    return replace(node, last_seen_at=known.last_seen_at, clock_skew_ms=known.clock_skew_ms) != known


def wait_served(
    registry: Registry,
    revision: int,
    committed_at_ms: int,
    timeout_s: float,
    *,
    names: Iterable[str] | None = None,
    board: NodeBoard | None = None,
    poll_s: float = POLL_S,
) -> Propagation:
    """Wait until all expected nodes serve a revision or a higher one.

    Args:
        registry: where they report.
        revision: that they are to serve.
        committed_at_ms: when it became current, milliseconds since 1970.
        timeout_s: how long to wait; that it was not enough is no error.
        names: wait for exactly these nodes, instead of all that are expected.
        board: of this process, if nodes report to it: then nothing is polled.
        poll_s: how often to look without one.
    """
    deadline = time.monotonic() + timeout_s
    named = None if names is None else sorted(set(names))
    took: dict[str, int] = {}
    while True:
        count = board.count if board else 0
        with registry.read() as connection:
            there = {node.name: node for node in nodes.every(connection)}
        now_s = int(time.time())
        wanted = [name for name, node in there.items() if is_expected(node, now_s)] if named is None else named
        behind = tuple(name for name in wanted if name not in there or there[name].revision < revision)
        for name in wanted:
            if name not in behind:
                took.setdefault(name, _took_ms(there[name], committed_at_ms))
        left_s = deadline - time.monotonic()
        if not behind or left_s <= 0:
            return Propagation(len(wanted), behind, max((took[n] for n in wanted if n in took), default=None))
        if board:
            board.wait_past(count, min(left_s, BOARD_POLL_S))
        else:
            time.sleep(min(left_s, poll_s))


def _took_ms(node: Node, committed_at_ms: int) -> int:
    if node.served_at_ms is None:
        return 0
    return max(0, node.served_at_ms - (node.clock_skew_ms or 0) - committed_at_ms)
