"""A folder beside a store for work that takes long, outside the publisher's lock: each job has one of its own.

Whoever works in one holds a lock on it. So publishers tell one in use from one whose owner died, and remove the latter.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from verifier.errors import Unavailable
from verifier.store.layout import Store

FOLDER_NAME = ".compacting"
LOCK_NAME = "lock"
ATTEMPTS = 20


@contextmanager
def workshop(store: Store) -> Iterator[Path]:
    """Yield a new folder in the file system of the store's keyrings; it is removed at the end.

    Raises:
        Unavailable: the disk refused.
    """
    parent = store.keyrings / FOLDER_NAME
    folder, lock = _made(parent)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(lock)
        _leave(parent)


def remove_abandoned(store: Store) -> int:
    """Remove folders whose owners died; return how many there were. Costs next to nothing when there is none."""
    parent = store.keyrings / FOLDER_NAME
    try:
        folders = [Path(entry.path) for entry in os.scandir(parent)]
    except OSError:
        return 0
    removed = sum(_remove_if_abandoned(folder) for folder in folders)
    _leave(parent)
    return removed


def _made(parent: Path) -> tuple[Path, int]:
    """Make a folder and lock it, while publishers may take it for an abandoned one until it is locked."""
    for _ in range(ATTEMPTS):
        folder = parent / secrets.token_hex(8)
        try:
            parent.mkdir(exist_ok=True)
            folder.mkdir()
            lock = _locked(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unavailable(f"cannot write in {parent}: {error.strerror}", code="CANNOT_WRITE") from error
        if lock is not None:
            return folder, lock
    raise Unavailable(f"cannot get a folder in {parent}", code="CANNOT_WRITE")


def _remove_if_abandoned(folder: Path) -> bool:
    try:
        lock = _locked(folder)
    except OSError:
        return False
    if lock is None:
        return False
    try:
        _remove(folder)
    finally:
        os.close(lock)
    return True


def _locked(folder: Path) -> int | None:
    """Lock a folder; None if another process has it."""
    path = folder / LOCK_NAME
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(lock).st_ino:  # else it was removed before it was locked
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _remove(folder: Path) -> None:
    """Remove a folder whose lock is held; the lock goes last, so that what is left of it still has one."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name != LOCK_NAME:
                path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _leave(parent: Path) -> None:
    with suppress(OSError):  # another one is in it
        parent.rmdir()
