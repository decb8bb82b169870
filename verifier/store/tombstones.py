"""Files of tombstones: versions that were ever compromised, by tag (docs/publication-format.md, "Tombstones").

The tags lie together at the beginning, since they are all that a node needs of a file.
"""

import hashlib
import secrets
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from verifier._tagset import first_disorder
from verifier.errors import InvalidInput, Unavailable, UnsoundPublication
from verifier.store.durable import TEMPORARY_SUFFIX
from verifier.store.manifest import TombstoneFile

MAGIC = b"VKTOMBS1"
TAG_BYTES = 32
FACTS_BYTES = 8
KEY_ID_BYTES_MAX = 255
HEADER_BYTES = 16

_HEADER = struct.Struct("<8sQ")
_FACTS = struct.Struct("<II")
_SPOOL_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A version that was compromised.

    Attributes:
        tag: of its token, all 32 bytes.
        key_id: of its key.
        number: of the version.
        revoked_at: when it was found compromised, seconds since 1970.
    """

    tag: bytes = field(repr=False)
    key_id: str
    number: int
    revoked_at: int


def write_set(folder: Path, entries: Iterable[Tombstone]) -> TombstoneFile | None:
    """Write ``<folder>/<sha256>``; the publisher moves it to its place. Needs little memory, however many there are.

    Args:
        folder: where to build.
        entries: in strictly ascending order of their tags.

    Returns:
        What the manifest says of the file; None when there is no entry, and then no file.

    Raises:
        InvalidInput: the entries do not ascend, or one does not fit the format.
        Unavailable: the disk refused.
    """
    path = folder / f".tombstones.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        with path.open("xb") as file:
            count = _write(file, entries)
        if not count:
            return None
        sha256 = _digest(path)
        path.replace(folder / sha256)
        return TombstoneFile(sha256, count)
    except OSError as error:
        raise Unavailable(f"cannot write tombstones in {folder}: {error.strerror}", code="CANNOT_WRITE") from error
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def read_tags(path: Path, expected: TombstoneFile) -> bytes:
    """Return the tags of a file as one piece of bytes, after all checks that a node makes.

    Raises:
        UnsoundPublication: BAD_DIGEST (missing, or other bytes), or FORMAT.
        OSError: it cannot be read.
    """
    with _opened(path, expected) as file:
        data = file.read(_bytes_max(expected.count) + 1)
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise _other_bytes(expected)
    _check_header(data[:HEADER_BYTES], len(data), expected)
    tags = data[HEADER_BYTES : HEADER_BYTES + TAG_BYTES * expected.count]
    if first_disorder(tags) >= 0:
        raise _unsound("its tags do not ascend")
    return tags


def read_set(path: Path, expected: TombstoneFile) -> Iterator[Tombstone]:
    """Yield the tombstones of a file in the order of their tags, after all of it was checked; needs little memory.

    Raises:
        UnsoundPublication: BAD_DIGEST or FORMAT; the digest is checked before the first is yielded.
        OSError: it cannot be read.
    """
    with _opened(path, expected) as file:
        if _digest(path) != expected.sha256:
            raise _other_bytes(expected)
        _check_header(file.read(HEADER_BYTES), path.stat().st_size, expected)
    with ExitStack() as stack:
        tags, facts, ids = (stack.enter_context(path.open("rb")) for _ in range(3))
        tags.seek(HEADER_BYTES)
        facts.seek(HEADER_BYTES + TAG_BYTES * expected.count)
        ids.seek(HEADER_BYTES + (TAG_BYTES + FACTS_BYTES) * expected.count)
        previous = b""
        for _ in range(expected.count):
            tag = tags.read(TAG_BYTES)
            if tag <= previous:
                raise _unsound("its tags do not ascend")
            previous = tag
            revoked_at, number = _FACTS.unpack(facts.read(FACTS_BYTES))
            yield Tombstone(tag, _key_id(ids), number, revoked_at)
        if ids.read(1):
            raise _unsound("something follows its last key id")


def _write(file: IO[bytes], entries: Iterable[Tombstone]) -> int:
    count, previous = 0, b""
    with (
        tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as facts,
        tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as ids,
    ):
        file.write(bytes(HEADER_BYTES))
        for entry in entries:
            key_id = entry.key_id.encode()
            if len(entry.tag) != TAG_BYTES or entry.tag <= previous:
                raise InvalidInput("tombstones are written in strictly ascending order of their tags")
            numbers = (entry.number, entry.revoked_at)
            if not 1 <= len(key_id) <= KEY_ID_BYTES_MAX or not all(0 <= number < 1 << 32 for number in numbers):
                raise InvalidInput(f"the tombstone of {entry.key_id!r} does not fit its format")
            previous = entry.tag
            file.write(entry.tag)
            facts.write(_FACTS.pack(entry.revoked_at, entry.number))
            ids.write(bytes([len(key_id)]) + key_id)
            count += 1
        for column in (facts, ids):
            column.seek(0)
            while piece := column.read(1 << 20):
                file.write(piece)
    file.seek(0)
    file.write(_HEADER.pack(MAGIC, count))
    return count


def _opened(path: Path, expected: TombstoneFile) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UnsoundPublication(f"the tombstones {expected.sha256} are missing", code="BAD_DIGEST") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_max(count: int) -> int:
    return HEADER_BYTES + count * (TAG_BYTES + FACTS_BYTES + 1 + KEY_ID_BYTES_MAX)


def _check_header(header: bytes, size: int, expected: TombstoneFile) -> None:
    least = HEADER_BYTES + expected.count * (TAG_BYTES + FACTS_BYTES + 2)
    if not least <= size <= _bytes_max(expected.count) or _HEADER.unpack(header) != (MAGIC, expected.count):
        raise _unsound(f"it is no file of {expected.count} tombstones")


def _key_id(ids: IO[bytes]) -> str:
    length = ids.read(1)
    text = ids.read(length[0]) if length else b""
    if not text or len(text) != length[0]:
        raise _unsound("its key ids are cut short")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise _unsound("a key id is not UTF-8") from None


def _other_bytes(expected: TombstoneFile) -> UnsoundPublication:
    return UnsoundPublication(f"the tombstones {expected.sha256} have another digest", code="BAD_DIGEST")


def _unsound(what: str) -> UnsoundPublication:
    return UnsoundPublication(f"a file of tombstones is not sound: {what}", code="FORMAT")
