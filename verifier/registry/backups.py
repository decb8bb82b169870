"""Copies of an SQLite registry, true to one moment, while others use it."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from verifier.errors import Conflict, Unavailable
from verifier.store import durable

PAGES = 4096


def back_up(file: Path, label: str, told: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Copy a registry's file beside it, durably; who holds the write lock copies the state it has locked.

    Args:
        file: the registry's.
        label: part of the copy's name, such as ``format-1``.
        told: called with the pages that were copied, and all.

    Returns:
        The copy; an earlier one is never overwritten.

    Raises:
        Unavailable: it cannot be written (``BACKUP_FAILED``); nothing is left of it.
    """
    target = _free_name(file, label)
    copy_to(file, target, told)
    return target


def copy_to(file: Path, target: Path, told: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Copy a registry's file to a new one, durably, mode 0600.

    Copying the file itself would leave out what is only in its write-ahead log.

    Raises:
        Conflict: there is such a file already (``FILE_EXISTS``).
        Unavailable: it cannot be written (``BACKUP_FAILED``); nothing is left of it.
    """
    if target.exists():
        raise Conflict(f"{target} exists already", hint="give a name that is new", code="FILE_EXISTS")
    building = target.with_name(target.name + durable.TEMPORARY_SUFFIX)
    try:
        building.unlink(missing_ok=True)  # of one that was killed
        os.close(os.open(building, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # it holds all tags
        source, copy = sqlite3.connect(file), sqlite3.connect(building)
        try:
            source.backup(copy, pages=PAGES, progress=lambda _, left, total: told(total - left, total))
        finally:
            copy.close()
            source.close()
        durable.install(building, target)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            building.unlink(missing_ok=True)
        raise Unavailable(f"the registry cannot be copied to {target}: {error}", code="BACKUP_FAILED") from None


def _free_name(file: Path, label: str) -> Path:
    names = (f"{file.name}.{label}{suffix}" for suffix in ("", *(f".{number}" for number in range(2, 1000))))
    return next(path for name in names if not (path := file.with_name(name)).exists())
