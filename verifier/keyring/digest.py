"""The digest and the segment checksums of a file, in one pass: SHA-256 in a second thread, XXH3-64 in this one."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import xxhash

from verifier.keyring.description import SEGMENT_BYTES, Segments

PIECE_BYTES = 4 << 20


def digest_file(fd: int, size: int, progress: Callable[[int], None] | None = None) -> tuple[str, Segments]:
    """Hash a whole file. Both algorithms release the GIL, so they overlap with each other and with reading.

    Args:
        fd: the open file.
        size: its length in bytes.
        progress: called with the bytes done, once a segment.

    Returns:
        SHA-256 as 64 hex digits, and the segments.

    Raises:
        OSError: the file could not be read, or was shorter.
    """
    if size <= PIECE_BYTES:
        return _digest_small(fd, size, progress)
    sha256 = hashlib.sha256()
    checksums = []
    buffers = [bytearray(PIECE_BYTES), bytearray(PIECE_BYTES)]
    with ThreadPoolExecutor(1, "sha256") as worker:
        pending = None
        checksum = xxhash.xxh3_64()
        for turn, offset in enumerate(range(0, size, PIECE_BYTES)):
            piece = memoryview(buffers[turn % 2])[: min(PIECE_BYTES, size - offset)]
            _read(fd, piece, offset)
            if pending is not None:
                pending.result()
            pending = worker.submit(sha256.update, piece)
            checksum.update(piece)
            done = offset + len(piece)
            if done % SEGMENT_BYTES == 0 or done == size:
                checksums.append(checksum.hexdigest())
                checksum.reset()
                if progress is not None:
                    progress(done)
        if pending is not None:
            pending.result()
    return sha256.hexdigest(), Segments(SEGMENT_BYTES, tuple(checksums))


def _digest_small(fd: int, size: int, progress: Callable[[int], None] | None) -> tuple[str, Segments]:
    """Hash a file of one piece: threads and large buffers would take longer than the hashing."""
    piece = bytearray(size)
    _read(fd, memoryview(piece), 0)
    if progress is not None:
        progress(size)
    checksums = (xxhash.xxh3_64_hexdigest(piece),) if size else ()
    return hashlib.sha256(piece).hexdigest(), Segments(SEGMENT_BYTES, checksums)


def _read(fd: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.preadv(fd, [piece], offset)
        if count == 0:
            raise OSError(f"the file ends at byte {offset}")
        piece = piece[count:]
        offset += count
