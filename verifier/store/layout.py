"""Reading a store: the folder that holds keyrings, publications and the pointer ``CURRENT``.

Everything but ``CURRENT`` is written once, and ``CURRENT`` is replaced by a rename, so reading needs no lock: a file is
seen whole or not at all.
"""

import re
import time
from pathlib import Path

from verifier.errors import NotFound, Unavailable, UnsoundPublication
from verifier.store.manifest import MANIFEST_BYTES_MAX, REVISION_MAX, Manifest
from verifier.store.signing import LINE_BYTES_MAX, Trust

REVISION_DIGITS = 20
# A file replaced twice within the granularity of its time stamp can look unchanged; so young ones are read again.
SETTLED_AFTER_NS = 100_000_000

_CURRENT = re.compile(rb"[1-9][0-9]{0,15}\n")
_MANIFEST_NAME = re.compile(r"([0-9]{20})\.json")
_DIGEST = re.compile(r"[0-9a-f]{64}")

Stamp = tuple[int, int, int, int]


class Store:
    """A store that lies in a folder, for reading.

    Args:
        folder: the store itself (``DIR/store``, not ``DIR``).
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.keyrings = self.folder / "keyrings"
        self.tombstones = self.folder / "tombstones"
        self.publications = self.folder / "publications"
        self.pointer = self.folder / "CURRENT"
        self._seen: tuple[Stamp, int] | None = None

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    def current(self) -> int | None:
        """Return the newest revision, or None if nothing was published yet.

        One ``stat`` when nothing changed, so it can be asked every few milliseconds.

        Raises:
            Unavailable: there is no such folder (``NO_STORE``), it is not a store (``NOT_A_STORE``), or the pointer
                cannot be read or is damaged (``BAD_POINTER``).
        """
        stamp = self.stamp()
        if stamp is None:
            self._seen = None
            self._check_is_store()
            return None
        if self._seen is not None and self._seen[0] == stamp and time.time_ns() - stamp[1] > SETTLED_AFTER_NS:
            return self._seen[1]
        revision = self._read_pointer()
        self._seen = (stamp, revision)
        return revision

    def stamp(self) -> Stamp | None:
        """Return what changes when the pointer is replaced (inode, times, size), or None when there is none.

        Raises:
            Unavailable: the folder cannot be searched.
        """
        try:
            status = self.pointer.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(f"cannot reach {self.pointer}: {error.strerror}", code="NO_STORE") from error
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size

    def publication(self, revision: int, trust: Trust, *, store_id: str | None = None) -> Manifest:
        """Return a publication whose signature, revision and origin were checked.

        Args:
            revision: its number.
            trust: the keys whose signatures are accepted.
            store_id: the store it must come from, if that is known.

        Raises:
            NotFound: it is not in the store.
            UnsoundPublication: it must not be served.
        """
        data = self.manifest_bytes(revision)
        trust.verify(data, self.signature(revision))
        manifest = Manifest.from_bytes(data)
        if manifest.revision != revision:
            raise UnsoundPublication(f"publication {revision} says that it is {manifest.revision}", code="FORMAT")
        if store_id is not None and manifest.store_id != store_id:
            raise UnsoundPublication(
                f"publication {revision} is of store {manifest.store_id}, not of {store_id}", code="FORMAT"
            )
        return manifest

    def manifest_bytes(self, revision: int) -> bytes:
        """Return a manifest as stored, unchecked.

        Raises:
            NotFound: it is not in the store.
            UnsoundPublication: it is too large (``LIMIT``).
        """
        return self._read(self.manifest_path(revision), MANIFEST_BYTES_MAX, revision)

    def signature(self, revision: int) -> bytes:
        """Return the signature line of a manifest; raises as :meth:`manifest_bytes`."""
        return self._read(self.signature_path(revision), LINE_BYTES_MAX, revision)

    def manifest_path(self, revision: int) -> Path:
        """Say where the manifest of a revision lies."""
        return self.publications / f"{_checked(revision):0{REVISION_DIGITS}d}.json"

    def signature_path(self, revision: int) -> Path:
        """Say where the signature of a revision lies."""
        return self.publications / f"{_checked(revision):0{REVISION_DIGITS}d}.sig"

    def keyring_path(self, sha256: str) -> Path:
        """Say where a keyring lies, whether it is there or not."""
        if not _DIGEST.fullmatch(sha256):
            raise NotFound("a keyring is named by 64 hex digits")
        return self.keyrings / f"{sha256}.mdb"

    def tombstone_path(self, sha256: str) -> Path:
        """Say where a file of tombstones lies, whether it is there or not."""
        if not _DIGEST.fullmatch(sha256):
            raise NotFound("a file of tombstones is named by 64 hex digits")
        return self.tombstones / sha256

    def files(self) -> list[Path]:
        """List the keyrings and the files of tombstones, whether a publication names them or not."""
        return sorted([*self.keyrings.glob("*.mdb"), *self.tombstones.glob("[0-9a-f]*")])

    def revisions(self) -> list[int]:
        """List the revisions that have a manifest, ascending.

        After a crash the last one may be newer than :meth:`current`: it was never published.
        """
        try:
            names = [path.name for path in self.publications.iterdir()]
        except FileNotFoundError:
            self._check_is_store()
            return []
        except OSError as error:
            raise Unavailable(f"cannot list {self.publications}: {error.strerror}") from error
        return sorted(int(match[1]) for name in names if (match := _MANIFEST_NAME.fullmatch(name)))

    def _read_pointer(self) -> int:
        try:
            with self.pointer.open("rb") as file:
                text = file.read(32)
        except OSError as error:
            raise Unavailable(f"cannot read {self.pointer}: {error.strerror}", code="BAD_POINTER") from error
        if not _CURRENT.fullmatch(text) or int(text) > REVISION_MAX:
            raise Unavailable(f"{self.pointer} does not hold a revision", code="BAD_POINTER")
        return int(text)

    def _check_is_store(self) -> None:
        """Tell a store without publications from a folder that is none."""
        try:
            names = {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}
        except OSError as error:
            raise Unavailable(
                f"there is no store at {self.folder}: {error.strerror}",
                hint=f"create it: verifier --store {self.folder.parent} init",
                code="NO_STORE",
            ) from error
        if names and not names & {"publications", "keyrings", "tombstones", "publisher.lock"}:
            inner = self.folder / "store"
            hint = f"the store is {inner}" if "store" in names and inner.is_dir() else None
            raise Unavailable(f"{self.folder} is not a store", hint=hint, code="NOT_A_STORE")

    def _read(self, path: Path, bytes_max: int, revision: int) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(bytes_max + 1)
        except FileNotFoundError:
            raise NotFound(f"revision {revision} is not in the store ({path.name} is missing)") from None
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        if len(data) > bytes_max:
            raise UnsoundPublication(f"{path.name} is larger than {bytes_max} bytes", code="LIMIT")
        return data


def _checked(revision: int) -> int:
    if not 1 <= revision <= REVISION_MAX:
        raise NotFound(f"{revision} is not a revision: they run from 1 to {REVISION_MAX}")
    return revision
