"""Keys for guarded services, and the verifiers that judge them: in process and as a node."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.image import REVOKED, Facts
from tests.support.node import RunningNode
from tests.support.publications import Stocked, native
from verifier.client import AsyncVerifierClient, VerifierClient
from verifier.serving.keyring import Keyring

GOOD, TRADER, LEAKED, RETIRING, OVER, BOUND, EARLY = (native(number) for number in range(1, 8))
STRANGER = native(99)
SUPERSEDED_S = 1_700_000_000
END_S = 2_000_000_000
ENDLESS = native(8)


def facts() -> dict[str, Facts]:
    """One key in every state that matters."""
    now_s = int(time.time())
    return {
        GOOD: Facts(client_id="acme", key_id="key_good", scopes=("read",), metadata={"tier": "gold"}),
        TRADER: Facts(client_id="trader", key_id="key_trade", scopes=("read", "trade")),
        LEAKED: Facts(key_id="key_leaked", flags=REVOKED, reason=1, scopes=("read",)),
        RETIRING: Facts(key_id="key_old", version=1, scopes=("read",), superseded_at=SUPERSEDED_S, superseded_by=2,
                        end=END_S),
        ENDLESS: Facts(key_id="key_endless", scopes=("read",), superseded_at=SUPERSEDED_S, superseded_by=3),
        OVER: Facts(key_id="key_over", end=now_s - 10, scopes=("read",)),
        EARLY: Facts(key_id="key_early", not_before=now_s + 3600, scopes=("read",)),
        BOUND: Facts(key_id="key_bound", rules=("192.0.2.0/24",), scopes=("read",)),
    }


def stock(folder: Path) -> Stocked:
    """Make a store with these keys."""
    stocked = Stocked(folder)
    stocked.publish(facts())
    return stocked


@contextmanager
def verifiers(kind: str, folder: Path) -> Iterator[tuple[VerifierClient | Keyring, AsyncVerifierClient | Keyring]]:
    """Open what judges in threads and what judges in an event loop: ``keyring`` or ``node``."""
    if kind == "keyring":
        with Keyring.open(folder) as keyring:
            yield keyring, keyring
        return
    with RunningNode(folder) as node:
        node.wait_for("serving")
        with VerifierClient(node.target, timeout_s=5) as client:
            yield client, AsyncVerifierClient(node.target, timeout_s=5)
