"""Publications made beforehand and played to a node: what publishing itself costs stays out of the measurement.

In every second one the *canary* keys are switched off. So an answer that took the record from one keyring and the
revision from another shows.
"""

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.stores import BenchStore, run_cli

CANARIES = 4
CANARY_SHARE = 10  # one request in so many asks for a canary
VALID, KEY_DISABLED = 1, 6


@dataclass(frozen=True)
class Reel:
    """Publications ready to be played.

    Attributes:
        home: the node's ``--store``, at the first of them.
        source: where all of them are.
        first: revision at which the node starts; the canaries are on in it and in every second one after it.
        last: the last revision.
        requests: request file for the generator, canaries first.
        canary_requests: how many of them.
    """

    home: Path
    source: Path
    first: int
    last: int
    requests: Path
    canary_requests: int

    def play(self, revision: int) -> None:
        """Put one more publication into the node's store, the way a publisher does: pointer last."""
        for folder in ("keyrings", "publications"):
            for path in (self.source / "store" / folder).iterdir():
                if folder == "publications" and int(path.name.partition(".")[0]) != revision:
                    continue
                target = self.home / "store" / folder / path.name
                if not target.exists():
                    os.link(path, target)
        pointer = self.home / "store/CURRENT"
        fresh = pointer.with_suffix(".new")
        fresh.write_text(f"{revision}\n")
        fresh.replace(pointer)

    def expected(self, revision: int) -> int:
        """Return the verdict for canaries at a revision."""
        return VALID if (revision - self.first) % 2 == 0 else KEY_DISABLED


@contextmanager
def reel(store: BenchStore, count: int, *, bases: bool) -> Iterator[Reel]:
    """Make so many publications after the current one, for as long as the context lasts.

    Args:
        store: what to go on from.
        count: how many.
        bases: each a keyring with all keys; False: each a delta.
    """
    source = store.copy_home("reel-source")
    home = store.folder / "reel-node"
    try:
        ids = store.ids_file.read_text().split()[:CANARIES]
        first = _current(source)
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(source, home, copy_function=_link, ignore=shutil.ignore_patterns("registry.db*"))
        for step in range(count):
            for key_id in ids:
                run_cli(source, "key", "disable" if step % 2 == 0 else "enable", key_id)
            run_cli(source, "publish", "--json", *(["--rebase"] if bases else []))
        requests, canary_requests = _requests(store)
        yield Reel(home, source, first, _current(source), requests, canary_requests)
    finally:
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def _current(home: Path) -> int:
    return int((home / "store/CURRENT").read_text())


def _link(source: str, target: str) -> None:
    if source.endswith(".mdb"):
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _requests(store: BenchStore) -> tuple[Path, int]:
    path = store.folder / "requests.canaries"
    with store.tokens_file.open("rb") as lines:
        canaries = [next(lines).rstrip() for _ in range(CANARIES)]
    count = store.keys // (CANARY_SHARE - 1)
    with path.open("wb") as out:
        for at in range(count):
            token = canaries[at % CANARIES]
            message = b"\x0a" + bytes([len(token)]) + token
            out.write(struct.pack(">I", len(message)) + message)
        out.write(_without_first(store.grpc_requests(), CANARIES))
    return path, count


def _without_first(path: Path, count: int) -> bytes:
    content = path.read_bytes()
    at = 0
    for _ in range(count):
        at += 4 + struct.unpack_from(">I", content, at)[0]
    return content[at:]


def mixed_answers(film: Reel, reports: list[dict]) -> int:
    """Count canaries whose verdict is not that of the revision they are stamped with."""
    return sum(
        count
        for report in reports
        for row in report["revisions"]
        for verdict, count in row["canaries"].items()
        if int(verdict) != film.expected(row["revision"])
    )
