"""Waiting until nodes serve a publication, by asking each on its metrics port: this needs no control plane."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from verifier.errors import Unavailable, VerifierError

POLL_S = 0.01
UNREACHABLE_POLL_S = 0.25
CALL_TIMEOUT_S = 2.0
SHORTEST_S = 0.1


@dataclass(slots=True)
class Watch:
    """What is known of one node.

    Attributes:
        target: its metrics port.
        revision: what it served when it was asked last.
        served_ms: when it was first seen to serve what is waited for, in milliseconds since 1970.
    """

    target: str
    revision: int | None = None
    served_ms: float | None = None

    def follow(self, revision: int, until: float) -> None:
        """Ask until the node serves a revision, or until ``time.monotonic`` says that it is enough."""
        from verifier.cli.status import fetch

        while True:
            pause_s = POLL_S
            try:
                status = fetch(self.target, max(SHORTEST_S, min(CALL_TIMEOUT_S, until - time.monotonic())))
            except VerifierError:
                pause_s = UNREACHABLE_POLL_S
            else:
                self.revision = status.get("revision")
                if self.revision is not None and self.revision >= revision:
                    self.served_ms = time.time() * 1000
                    return
            if time.monotonic() + pause_s >= until:
                return
            time.sleep(pause_s)

    def took_ms(self, committed_ms: int | None) -> float | None:
        """Return how long after a publication became current the node was seen to serve it."""
        if committed_ms is None or self.served_ms is None:
            return None
        return max(0.0, self.served_ms - committed_ms)


def check_targets(targets: Sequence[str]) -> None:
    """Refuse targets that can be no node's metrics port, before anything is changed; a node may be down.

    Raises:
        InvalidInput: one is not written as HOST:PORT, or is a gRPC port.
    """
    from verifier.cli.status import fetch

    for target in targets:
        with suppress(Unavailable):
            fetch(target, CALL_TIMEOUT_S, "--node")


def await_nodes(targets: Sequence[str], revision: int, committed_ms: int | None, timeout_s: float) -> dict[str, Any]:
    """Wait until nodes serve a revision.

    Args:
        targets: their metrics ports.
        revision: what they are to serve, or more.
        committed_ms: when it became current, in milliseconds since 1970; None if that is not known.
        timeout_s: longest wait, in seconds.

    Returns:
        ``nodes`` and ``propagation_ms`` of the JSON output.
    """
    watches = [Watch(target) for target in dict.fromkeys(targets)]
    until = time.monotonic() + timeout_s
    threads = [threading.Thread(target=watch.follow, args=(revision, until), daemon=True) for watch in watches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_ms = [took for watch in watches if (took := watch.took_ms(committed_ms)) is not None]
    behind = [watch.target for watch in watches if watch.served_ms is None]
    return {
        "nodes": {"expected": len(watches), "behind": behind},
        "propagation_ms": round(max(took_ms)) if took_ms else None,
    }
