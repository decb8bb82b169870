"""Writes that survive a crash: each file is seen whole and synced to disk, or not at all.

The order is always: temporary file in the same folder, write, fsync, rename, fsync of the folder. After an fsync
error the kernel may have dropped the dirty pages and call the next fsync a success, so the file is thrown away, never
retried.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from verifier.errors import Unavailable

TEMPORARY_SUFFIX = ".verifier-tmp"


def write_once(path: Path, data: bytes, *, mode: int = 0o644) -> bool:
    """Write a new file durably; leave one that exists as it is.

    Two writers must be kept apart by a lock of theirs.

    Args:
        path: where the file shall be; its folder exists.
        data: all of its bytes.
        mode: its permissions, whatever the umask.

    Returns:
        Whether the file was written.

    Raises:
        Unavailable: the disk refused; nothing is left behind.
    """
    if path.exists():
        return False
    replace(path, data, mode=mode)
    return True


def replace(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file durably in place of the one that may be there; readers see the old or the new one, whole.

    Raises:
        Unavailable: the disk refused; the old file is as it was, unless only the folder's own sync failed.
    """
    with _faults(path):
        _put(path, data, mode)
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def write_together(files: Mapping[Path, bytes], *, mode: int = 0o644) -> None:
    """Write several new files of one folder durably, the first one first; after a crash any of them may be missing.

    Raises:
        Unavailable: the disk refused; files that have their place already stay.
    """
    for path, data in files.items():
        with _faults(path):
            _put(path, data, mode)
    for folder in {path.parent for path in files}:
        with _faults(folder):
            _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def install(built: Path, path: Path) -> None:
    """Move a finished file to its place, durably. Both folders are of one file system.

    Raises:
        Unavailable: the disk refused; the file is thrown away.
    """
    with _faults(path):
        try:
            _sync(built, os.O_RDONLY)
            built.replace(path)
        except BaseException:
            with suppress(OSError):
                built.unlink(missing_ok=True)
            raise
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def remove(path: Path) -> None:
    """Remove a file durably, if it is there.

    Raises:
        Unavailable: the disk refused.
    """
    with _faults(path):
        path.unlink(missing_ok=True)
        _sync(path.parent, os.O_RDONLY | os.O_DIRECTORY)


def make_folder(folder: Path, *, mode: int = 0o755) -> None:
    """Make a folder, if there is none, so that it survives a crash.

    Raises:
        Unavailable: the disk refused.
    """
    with _faults(folder), suppress(FileExistsError):
        folder.mkdir(mode=mode)
        _sync(folder.parent, os.O_RDONLY | os.O_DIRECTORY)


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files that a killed writer left in a folder; return how many there were.

    Only for the holder of the lock that keeps writers of this folder apart.
    """
    leftovers = [path for path in folder.glob(f".*{TEMPORARY_SUFFIX}") if path.is_file()]
    with _faults(folder):
        for path in leftovers:
            path.unlink(missing_ok=True)
    return len(leftovers)


def _put(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is whole and synced when it gets its name."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        _write(temporary, data, mode)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}", code="CANNOT_WRITE") from error
