"""Tokens of the schedule's rotations get their names once callers can use them.

Whoever distributes tokens takes any file of the folder that has its name, and whoever gets one uses it at once. Before
nodes know the version it would be refused as UNKNOWN, so until then the file is called ``KEY_ID.VERSION.pending``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from verifier import tokens
from verifier.control import nodes
from verifier.registry import changes, queries
from verifier.registry.database import Registry
from verifier.registry.queries import State

PENDING = ".pending"
NODES_S = 30  # a node that does not serve it by then keeps nobody waiting


@dataclass(slots=True)
class _Wait:
    """What a token waits for.

    Attributes:
        need: ``registry.changes`` that a publication must cover to hold its version.
        revision: that publication; 0 as long as there is none.
        since_s: when that was seen first.
    """

    need: int
    revision: int = 0
    since_s: int = 0


class Handover:
    """Looks after the tokens in a folder.

    Args:
        registry: where their versions are.
        peppers: returns the secrets that tags are made with.
        folder: for the tokens; None for none.
    """

    def __init__(self, registry: Registry, peppers: Callable[[], Sequence[bytes]], folder: Path | None) -> None:
        self._registry = registry
        self._peppers = peppers
        self._folder = folder
        self._waits: dict[str, _Wait] = {}

    def look(self, now_s: int) -> int:
        """Give the tokens their names whose versions are served; return how many.

        While the store is held after a rollback no version that was made since is served, so no token gets its name.

        Raises:
            Unavailable: a pepper is missing, or the database cannot be used.
        """
        there = [] if self._folder is None else sorted(self._folder.glob("*" + PENDING))
        self._waits = {path.name: self._waits[path.name] for path in there if path.name in self._waits}
        if not there:
            return 0
        with self._registry.read() as connection:
            state = queries.state(connection)
            if state.hold is not None:
                return 0
            for path in there:
                if path.name not in self._waits and self._is_made(connection, path):
                    self._waits[path.name] = _Wait(state.changes)
            served = [node.revision for node in nodes.expected_nodes(connection, now_s)]
        return sum(_name(path) for path in there if self._is_served(path, state, min(served, default=None), now_s))

    def _is_made(self, connection: Connection, path: Path) -> bool:
        """Tell whether the token's version is there; a process may have died before it was made."""
        try:
            tag = tokens.tag(path.read_text("ascii").strip(), self._peppers())
        except (OSError, UnicodeDecodeError):
            return False
        return bool(changes.existing_tags(connection, [tag]))

    def _is_served(self, path: Path, state: State, slowest: int | None, now_s: int) -> bool:
        wait = self._waits.get(path.name)
        if wait is None:
            return False
        if not wait.revision and state.last_revision and state.published_changes >= wait.need:
            wait.revision, wait.since_s = state.last_revision, now_s
        if not wait.revision:
            return False
        return slowest is None or slowest >= wait.revision or now_s >= wait.since_s + NODES_S


def _name(path: Path) -> bool:
    try:
        path.rename(path.with_name(path.name.removesuffix(PENDING)))
    except FileNotFoundError:
        return False  # somebody took it as it was
    return True
