"""The end of a command: what is published of it, who serves it, and what the operator should know."""

import time
from dataclasses import dataclass

from verifier.admin.desk import Desk
from verifier.admin.publisher import Covered
from verifier.admin.times import span_ms, span_s, stamp_ms
from verifier.admin.v1 import types_pb2
from verifier.control import nodes
from verifier.registry import queries

TIMEOUT_S = 30
SLICE_S = 1.0
MARGIN_S = 0.5  # before the caller's deadline: an answer that comes too late is none

HELD = (
    "the store is held at revision {hold} after a rollback: what is served stays as of then, denials and new keys "
    "apart, until `verifier publish --resume`"
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller waits.

    Attributes:
        began_ms: when the command came, in milliseconds since 1970: how long a publication that was current before
            took to reach the nodes says nothing of this command.
        until: when to stop waiting, by ``time.monotonic``, whatever the options say; None for no end.
    """

    began_ms: int
    until: float | None


def describe(desk: Desk, receipt: types_pb2.Receipt, need: int, *, recorded: bool = True) -> None:
    """Say how far the registry's changes are published, without waiting for anything.

    Args:
        need: ``registry.changes`` that a publication must cover to hold the change.
        recorded: whether there is a change at all.
    """
    with desk.registry.read() as connection:
        state = queries.state(connection)
    receipt.published = recorded and bool(state.last_revision) and state.published_changes >= need
    receipt.revision = state.last_revision if receipt.published else 0
    _tell(receipt, state)


def complete(
    desk: Desk, receipt: types_pb2.Receipt, covered: Covered, options: types_pb2.Options, patience: Patience
) -> None:
    """Complete the receipt of a change that is published; wait for the nodes if the options say so.

    Args:
        covered: the publication.
        options: of the command.
        patience: of the caller.
    """
    receipt.revision = covered.revision
    if covered.committed_at_ms is not None and covered.committed_at_ms >= patience.began_ms:
        receipt.committed_at.CopyFrom(stamp_ms(covered.committed_at_ms))  # type: ignore[arg-type]  # not None
    if options.wait == types_pb2.WAIT_SERVED and covered.revision:
        receipt.propagation.CopyFrom(_await_nodes(desk, covered, options, patience))
    with desk.registry.read() as connection:
        state = queries.state(connection)
    _tell(receipt, state)


def _tell(receipt: types_pb2.Receipt, state: queries.State) -> None:
    receipt.pending_changes = state.pending_changes
    if state.hold is not None:
        receipt.held_at = state.hold
        receipt.warnings.append(HELD.format(hold=state.hold))


def _await_nodes(
    desk: Desk, covered: Covered, options: types_pb2.Options, patience: Patience
) -> types_pb2.Propagation:
    committed_ms, until = covered.committed_at_ms or _published_at_ms(desk, covered.revision), patience.until
    # The manifest's time is in whole seconds.
    is_new = (covered.committed_at_ms or committed_ms + 999) >= patience.began_ms
    given_s = span_s(options, "timeout")
    end = time.monotonic() + (TIMEOUT_S if given_s is None else given_s)
    end = end if until is None else min(end, until)
    while True:  # in slices, so that a server that stops need not wait for nodes
        slice_s = max(0.0, min(SLICE_S, end - time.monotonic()))
        reached = nodes.wait_served(
            desk.registry, covered.revision, committed_ms, slice_s, board=desk.board if desk.board.count else None,
        )  # fmt: skip
        if not reached.behind or time.monotonic() >= end or desk.stopping.is_set():
            break
    took = span_ms(reached.took_ms) if is_new else None
    return types_pb2.Propagation(expected=reached.expected, behind=reached.behind, took=took)


def _published_at_ms(desk: Desk, revision: int) -> int:
    """Return when a publication was made, from its manifest, whose time is in whole seconds."""
    return desk.store.publication(revision, desk.trust()).published_at * 1000
