"""The files in which tokens are handed out: on disk before the registry commits, so that none it knows is ever lost.

A new file begins under a hidden name with mode 0600. When what is in it has reached the disk, it gets its name, which
must be free. :class:`NewFile` is written once, so a file of its name is always whole; :class:`GrowingFile` goes on
growing from commit to commit. A kill leaves at most a hidden file, or tokens that nobody knows.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from verifier.errors import Conflict, Unavailable


class _HiddenFile:
    """A new file that has no name yet.

    Args:
        path: the name it is to have; must be free, and its folder must exist.

    Raises:
        Conflict: there is a file of that name (``FILE_EXISTS``).
        Unavailable: the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        if self.path.exists() or self.path.is_symlink():
            raise _exists(self.path)
        try:
            descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".partial")
        except OSError as error:
            raise Unavailable(f"cannot write in {self.path.parent}: {error.strerror}", code="NOT_WRITABLE") from None
        self._partial = Path(name)
        self._file: IO[bytes] = os.fdopen(descriptor, "wb", buffering=1 << 20)
        self._installed = False

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)

    def sync(self) -> None:
        """Bring everything to disk; the first time, then give the file its name.

        Raises:
            Conflict: the name was taken in the meantime (``FILE_EXISTS``).
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._installed:
            return
        try:
            os.link(self._partial, self.path)
        except FileExistsError:
            raise _exists(self.path) from None
        self._installed = True
        self._partial.unlink()
        _sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)


class NewFile(_HiddenFile):
    """A file that appears under its name as a whole, or not at all.

    Use as a context manager; :meth:`install` makes it appear, an error after that takes it away again.
    """

    def install(self) -> None:
        """Bring everything to disk, then give the file its name.

        Raises:
            Conflict: the name was taken in the meantime (``FILE_EXISTS``).
        """
        self.sync()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        # Not after Ctrl-C: it may have come just after the commit, and then these tokens exist nowhere else.
        if self._installed and kind is not None and issubclass(kind, Exception):
            self.path.unlink(missing_ok=True)


class GrowingFile(_HiddenFile):
    """A file that is brought to disk before each of several commits: ``sync`` before, :meth:`keep` after it.

    Use as a context manager. Whatever happens, what reached the disk stays, unless it is dropped on purpose.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._kept = 0

    def keep(self) -> None:
        """Note that everything written so far was committed."""
        self._kept = self._file.tell()

    def drop(self) -> None:
        """Take away what was written after the last commit; the whole file, if there was none."""
        self._file.seek(self._kept)
        self._file.truncate()
        if self._installed and not self._kept:
            self.path.unlink(missing_ok=True)


def check_free(paths: Iterable[Path]) -> None:
    """Refuse names that are taken, before any work is done.

    Raises:
        Conflict: there is a file of such a name (``FILE_EXISTS``).
    """
    for path in paths:
        if path.exists() or path.is_symlink():
            raise _exists(path)


def _exists(path: Path) -> Conflict:
    return Conflict(f"{path} exists already", hint="tokens never overwrite a file; name another", code="FILE_EXISTS")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
