"""Durable writes: whole or not at all, and no second try after a sync error."""

import errno
import os
import stat

import pytest

from verifier.errors import Unavailable
from verifier.store import durable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replace_writes_all_bytes_with_the_mode_asked_for(tmp_path):
    old = os.umask(0o077)
    try:
        durable.replace(tmp_path / "a", b"x" * 3_000_000, mode=0o644)
    finally:
        os.umask(old)
    assert b"x" * 3_000_000 == (tmp_path / "a").read_bytes()
    assert 0o644 == stat.S_IMODE((tmp_path / "a").stat().st_mode)
    assert ["a"] == names(tmp_path)


def test_write_once_leaves_what_is_there(tmp_path):
    assert durable.write_once(tmp_path / "a", b"first")
    assert not durable.write_once(tmp_path / "a", b"second")
    assert b"first" == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_error_throws_the_file_away_and_is_not_retried(tmp_path, monkeypatch, number):
    (tmp_path / "a").write_bytes(b"old")
    calls = []

    def fails(descriptor):
        calls.append(descriptor)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(Unavailable, match=os.strerror(number)):
        durable.replace(tmp_path / "a", b"new")
    assert 1 == len(calls)
    assert ["a"] == names(tmp_path)
    assert b"old" == (tmp_path / "a").read_bytes()


def test_a_finished_file_that_cannot_be_synced_is_thrown_away(tmp_path, monkeypatch):
    (tmp_path / "built").write_bytes(b"keyring")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(Unavailable):
        durable.install(tmp_path / "built", tmp_path / "final")
    assert [] == names(tmp_path)


def test_the_order_is_sync_rename_sync_folder(tmp_path, monkeypatch):
    steps = []
    sync, rename = os.fsync, type(tmp_path).replace

    def spied_sync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def spied_rename(path, target):
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", spied_sync)
    monkeypatch.setattr(type(tmp_path), "replace", spied_rename)
    durable.replace(tmp_path / "a", b"x")
    assert ["file", "rename", "folder"] == steps


def test_leftovers_are_removed_by_pattern_only(tmp_path):
    kept = ["mine.tmp", ".hidden", "a.verifier-tmp", "CURRENT"]
    for name in [*kept, ".CURRENT.0123456789abcdef.verifier-tmp"]:
        (tmp_path / name).write_bytes(b"")
    assert 1 == durable.remove_leftovers(tmp_path)
    assert sorted(kept) == names(tmp_path)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(Unavailable, match="No space left"):
        durable.replace(tmp_path / "a", b"x")
    assert [] == names(tmp_path)
