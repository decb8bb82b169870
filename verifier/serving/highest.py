"""The highest publication that was ever served here, and its tombstones, kept on disk.

It keeps whoever can write to the store from bringing back an older publication, in which a revoked key was still good:
a lower revision is refused, and so is another publication under a revision that was already served.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from verifier.errors import Unavailable, UnsoundPublication
from verifier.serving.resurrection import Buried, read_state, write_state
from verifier.store import durable
from verifier.store.layout import Store

FILE = "highest.json"
LOCK = "highest.lock"


@dataclass(frozen=True)
class Mark:
    """Which publication was served: its store, revision, and the SHA-256 of its manifest."""

    store_id: str
    revision: int
    manifest_sha256: str


class HighestServed:
    """The mark of the highest publication and its tombstones, in memory and in ``folder``.

    Args:
        folder: where they are kept; None keeps them in memory only, so they last as long as the process.

    Attributes:
        mark: the mark; None when nothing was ever served.
        buried: the tombstones; None when there never were any.

    Raises:
        Unavailable: the folder cannot be written, or holds a mark or tombstones that cannot be read.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.mark: Mark | None = None
        self.buried: Buried | None = None
        self._written: object = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self.mark = _read(folder / FILE)
                self.buried = read_state(folder)
                self._written = self.buried and self.buried.identity
        except OSError as error:
            raise Unavailable(
                f"the state folder {folder} cannot be written: {error.strerror}",
                hint="give a writable folder with --state",
            ) from error

    def admit(self, mark: Mark) -> None:
        """Let a publication pass that is not older than what was served.

        Raises:
            UnsoundPublication: LOWER_REVISION, or EQUIVOCATION for another publication under the same revision or of
                another store.
        """
        known = self.mark
        if known is None:
            return
        if mark.store_id != known.store_id:
            raise UnsoundPublication(
                f"revision {mark.revision} belongs to store {mark.store_id}, this node serves {known.store_id}",
                code="EQUIVOCATION",
                hint="to serve another store, start with another --state folder",
            )
        if mark.revision < known.revision:
            raise UnsoundPublication(
                f"revision {mark.revision} is lower than {known.revision}, which was already served",
                code="LOWER_REVISION",
            )
        if mark.revision == known.revision and mark.manifest_sha256 != known.manifest_sha256:
            raise UnsoundPublication(
                f"revision {mark.revision} was already served with another manifest", code="EQUIVOCATION"
            )

    def record(self, mark: Mark) -> None:
        """Keep the mark of a publication that is served from now on.

        Nodes that share a folder agree on the highest of their marks.

        Raises:
            OSError, Unavailable: the mark could not be made durable; it counts in memory all the same.
        """
        if self.mark == mark:
            return
        self.mark = mark
        if self._folder is None:
            return
        with self._locked():
            kept = _read(self._folder / FILE)
            if kept is not None and kept.store_id == mark.store_id and kept.revision >= mark.revision:
                return
            durable.replace(self._folder / FILE, json.dumps(asdict(mark), sort_keys=True).encode() + b"\n", mode=0o600)

    def bury(self, buried: Buried, store: Store) -> None:
        """Keep the tombstones of the publication whose mark was recorded; the next one must name them, too.

        A crash before it is harmless: nothing below the mark is served any more, and what it names is checked anew.

        Raises:
            OSError, Unavailable: they could not be made durable; they count in memory all the same.
        """
        self.buried = buried
        if self._folder is None or buried.identity == self._written or not (buried.sets or self._written):
            return
        with self._locked():
            kept = _read(self._folder / FILE)
            if kept is not None and self.mark is not None and kept.revision > self.mark.revision:
                return  # another node with this folder is ahead
            write_state(self._folder, buried, store)
            self._written = buried.identity

    @contextmanager
    def _locked(self) -> Iterator[None]:
        assert self._folder is not None
        handle = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _read(path: Path) -> Mark | None:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(text)
        return Mark(str(fields["store_id"]), int(fields["revision"]), str(fields["manifest_sha256"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            f"{path} does not hold what a node writes there",
            hint="remove it only if you are sure that the store is the right one",
        ) from error
