"""Writing a store: one publisher at a time, and an order that a crash cannot break.

Keyring, then manifest and signature, then ``CURRENT``: each is durable before the next begins, so ``CURRENT`` never
names anything that is not whole on disk.
"""

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from verifier.errors import Conflict, Unavailable, UnsoundPublication
from verifier.store import durable, workshop
from verifier.store.layout import Store
from verifier.store.manifest import Manifest, digest_of, time_text

LOCK_NAME = "publisher.lock"
BUILDING_NAME = ".building"


class Publisher:
    """The only writer of a store, from entering to leaving the context.

    Entering makes the folders that are missing and removes what a killed publisher left behind.

    Args:
        store: the store; its folder exists.

    Raises:
        Conflict: another publisher is at work (``PUBLISHER_BUSY``); says which process, and since when.
        Unavailable: the folder is missing, or the disk refused.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock: int | None = None

    @property
    def building(self) -> Path:
        """A folder for keyrings that are being built, in the same file system as the finished ones."""
        return self.store.keyrings / BUILDING_NAME

    def __enter__(self) -> "Publisher":
        self.store.current()  # refuses what is not a store
        self._lock, left = _locked(self.store.folder / LOCK_NAME)
        try:
            for folder in (self.store.keyrings, self.store.publications):
                durable.make_folder(folder)
            if not left or left != _left_in_order():
                self._clean()
            workshop.remove_abandoned(self.store)
            self.building.mkdir(exist_ok=True)
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            shutil.rmtree(self.building, ignore_errors=True)
            if error is None:
                self._leave()
        finally:
            self._unlock()

    def add_keyring(self, built: Path, sha256: str) -> Path:
        """Move a finished keyring from :attr:`building` to its place.

        A file that is there already is replaced by the same bytes, which also heals one that was damaged.
        """
        path = self.store.keyring_path(sha256)
        durable.install(built, path)
        return path

    def add_tombstones(self, built: Path, sha256: str) -> Path:
        """Move a finished file of tombstones from :attr:`building` to its place, as :meth:`add_keyring` does."""
        durable.make_folder(self.store.tombstones)
        path = self.store.tombstone_path(sha256)
        durable.install(built, path)
        return path

    def commit(self, manifest: Manifest, signature: bytes) -> int:
        """Make a publication the current one; return when, in milliseconds since 1970.

        Args:
            manifest: names keyrings and files of tombstones that are in their place.
            signature: the line of :meth:`SigningKey.sign` over the manifest's bytes.

        Raises:
            Conflict: its revision is not beyond the current one, or was written before.
            Unavailable: a keyring or a file of tombstones is missing, or has another size, or the disk refused.
        """
        newest, place = self.store.current() or 0, self.store.manifest_path(manifest.revision)
        if manifest.revision <= newest or place.exists():
            raise Conflict(f"revision {manifest.revision} is not beyond {newest}, or was used", code="LOWER_REVISION")
        for keyring in manifest.keyrings:
            path = self.store.keyring_path(keyring.sha256)
            if not path.is_file() or path.stat().st_size != keyring.bytes:
                raise Unavailable(f"{path.name} is not in the store, or has not {keyring.bytes} bytes")
        for file in manifest.tombstones:
            if not self.store.tombstone_path(file.sha256).is_file():
                raise Unavailable(f"the tombstones {file.sha256} are not in the store")
        durable.write_together({place: manifest.to_bytes(), self.store.signature_path(manifest.revision): signature})
        moved_at_ms = time.time_ns() // 1_000_000
        durable.replace(self.store.pointer, b"%d\n" % manifest.revision)
        return moved_at_ms

    def newest_written(self) -> int:
        """Return the greatest revision that was written, whether it became current or not; 0 if none was."""
        return max(self.store.current() or 0, *self.store.revisions()[-1:], 0)

    def discard(self, revision: int, digest: str) -> None:
        """Remove a publication that never became current, with the files that only it names.

        Args:
            revision: beyond the current one.
            digest: SHA-256 of its manifest's bytes; another one under this number is left alone.
        """
        current = self.store.current() or 0
        if revision <= current:
            raise Conflict(f"revision {revision} cannot be removed: the current one is {current}")
        path = self.store.manifest_path(revision)
        if path.exists() and digest_of(self.store.manifest_bytes(revision)) != digest:
            return
        durable.remove(self.store.signature_path(revision))
        durable.remove(path)
        self._remove_unnamed()

    def remove_publication(self, revision: int) -> None:
        """Remove a manifest and its signature; the files that it names stay.

        Raises:
            Conflict: it is the current one, or beyond it.
        """
        if revision >= (self.store.current() or 0):
            raise Conflict(f"revision {revision} is not older than the current one")
        # A manifest without signature is no publication; a signature without manifest would never be found again.
        durable.remove(self.store.signature_path(revision))
        durable.remove(self.store.manifest_path(revision))

    def remove_files(self, paths: Iterable[Path]) -> None:
        """Remove keyrings and tombstones."""
        for path in paths:
            durable.remove(path)

    def _remove_unnamed(self) -> None:
        """Remove keyrings and tombstones that no manifest names; if any manifest cannot be read, remove none."""
        named: set[str] = set()
        try:
            for revision in self.store.revisions():
                manifest = Manifest.from_bytes(self.store.manifest_bytes(revision))
                named.update(keyring.sha256 for keyring in manifest.keyrings)
                named.update(file.sha256 for file in manifest.tombstones)
        except UnsoundPublication:
            return
        self.remove_files(path for path in self.store.files() if path.stem not in named)

    def _clean(self) -> None:
        for folder in (self.store.folder, self.store.keyrings, self.store.tombstones, self.store.publications):
            durable.remove_leftovers(folder)
        shutil.rmtree(self.building, ignore_errors=True)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _leave(self) -> None:
        """Write down that nothing was left behind."""
        assert self._lock is not None
        with suppress(OSError):
            left = _left_in_order()
            os.pwrite(self._lock, left, 0)
            os.ftruncate(self._lock, len(left))


def _left_in_order() -> bytes:
    """Return what a publisher writes into the lock at its end: looking for leftovers takes longer than a publication.

    It holds for this run of the machine, since a power cut can leave the lock older than the files beside it.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return json.dumps({"left": "in order", "boot": boot}).encode() + b"\n"
    return b""


def _locked(path: Path) -> tuple[int, bytes]:
    """Take the publisher's lock and write down who holds it; return the descriptor that keeps it, and what it held."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}", code="CANNOT_WRITE") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        before = os.pread(descriptor, 4096, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time_text(int(time.time()))}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode() + b"\n", 0)
    except BlockingIOError:
        os.close(descriptor)
        raise _busy(path) from None
    except OSError as error:
        os.close(descriptor)
        raise Unavailable(f"cannot lock {path}: {error.strerror}", code="CANNOT_WRITE") from error
    return descriptor, before


def _busy(path: Path) -> Conflict:
    holder: dict[str, object] = {}
    with suppress(OSError, ValueError):
        read = json.loads(path.read_text())
        holder = read if isinstance(read, dict) else {}
    who = f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}" if holder else "unknown"
    return Conflict(
        f"another publisher is at work ({who})",
        hint="wait until it is done, then publish again",
        code="PUBLISHER_BUSY",
        details={name: holder.get(name) for name in ("pid", "host", "since")},
    )
