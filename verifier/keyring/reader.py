"""A keyring file read page by page, in plain Python and without LMDB.

LMDB trusts its files: a truncated one kills the process with SIGBUS, a damaged page makes it return nonsense. This
reader takes any bytes, looks at them by pread within the file's size, and raises UnsoundPublication. It knows of LMDB's
format (data version 1, pages of 4,096 bytes) what docs/keyring-format.md says of it.
"""

import json
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifier.errors import InvalidInput, NotFound, Unavailable, UnsoundPublication
from verifier.keyring.description import Block

FORMAT = 1
PAGE_BYTES = 4096
BLOCK_HEADER_BYTES = 48
SLOTS_MAGIC = b"VKSLOTS1"
SWITCHES_MAGIC = b"VKSWTCH1"
HEAD_BYTES = 16
FINGERPRINT_BITS = 20

_LEAF, _OVERFLOW, _META = 2, 4, 8
_BIG = 1  # a node's value lies on overflow pages
_TABLE = 2  # a node's value is a table
_PAGE_HEADER = struct.Struct("<QHHHH")  # number, unused, flags, lower, upper
_NODE = struct.Struct("<IHH")  # bytes of the value, flags, bytes of the key
_META_HEAD = struct.Struct("<IIQQ")  # magic, version, address, map size
_DB = struct.Struct("<IHHQQQQQ")  # page size, flags, depth, branch, leaf and overflow pages, entries, root
_META_TAIL = struct.Struct("<QQ")  # last page, transaction
_BLOCK_HEADER = struct.Struct("<8sQQ24s")
_LMDB_MAGIC, _LMDB_VERSION = 0xBEEFC0DE, 1


@dataclass(frozen=True, slots=True)
class Value:
    """Where the value of an entry lies in the file, in bytes."""

    offset: int
    bytes: int
    flags: int


def _unsound(what: str) -> UnsoundPublication:
    return UnsoundPublication(f"not a sound keyring file: {what}", code="FORMAT")


class KeyringFile:
    """An open keyring file. Close it, or use it in a ``with`` statement.

    Args:
        path: the file.

    Attributes:
        size: in bytes.
        pages: the file's length in pages.
        records: entries of the table ``keys``.
        header: the JSON object of the table ``meta``.
        slots: where the slots block lies.
        switches: where the switches block lies.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is a folder, or something else that is no file.
        Unavailable: it cannot be read.
        UnsoundPublication: FORMAT; it is truncated, or not a keyring.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"there is no file {path}") from None
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        try:
            found = os.fstat(self.fd)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInput(f"{path} is not a file")
            self.size = found.st_size
            self.pages = self.size // PAGE_BYTES
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        main_root, last_page = self._newest_meta()
        if self.size != (last_page + 1) * PAGE_BYTES:
            raise _unsound(f"it has {self.size} bytes, but should have {(last_page + 1) * PAGE_BYTES}")
        tables = self._entries(main_root)
        self.records, _ = self._table(tables, b"keys")
        meta, index = (self._entries(self._table(tables, name)[1]) for name in (b"meta", b"index"))
        self.header = self._header(meta)
        self.slots, self.slot_count, slot_records = self._block(index, b"slots", SLOTS_MAGIC, 64)
        self.switches, self.switch_count, self.switches_set = self._block(index, b"switches", SWITCHES_MAGIC, 1)
        if not self.slot_count or not self.records == slot_records == self.header["records"]:
            raise _unsound(f"table, index and header disagree on the number of records: {self.records}, "
                           f"{slot_records}, {self.header['records']}")

    def __enter__(self) -> "KeyringFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly so many bytes.

        Raises:
            UnsoundPublication: they do not lie within the file.
        """
        if not 0 <= offset <= offset + length <= self.size:
            raise _unsound("something points outside the file")
        pieces = []
        while length:
            try:
                piece = os.pread(self.fd, length, offset)
            except OSError as error:
                raise Unavailable(f"the keyring cannot be read: {error.strerror}") from error
            if not piece:
                raise _unsound("it became shorter while it was read")
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def slot_bytes(self) -> bytes:
        """Return the slots, without the block's header."""
        return self.read(self.slots.offset + BLOCK_HEADER_BYTES, 8 * self.slot_count)

    def switch_bytes(self) -> bytes:
        """Return the bits of the client switches, without the block's header."""
        return self.read(self.switches.offset + BLOCK_HEADER_BYTES, -(-self.switch_count // 8))

    def find(self, head: bytes) -> tuple[int, bytes] | None:
        """Look a tag head of 16 bytes up through the slots.

        Returns:
            Where its key lies in the file, and its record; None when there is none.
        """
        number = int.from_bytes(head[:8], "big")
        first = ((number >> 32) * self.slot_count) >> 32
        for step in range(self.slot_count):
            at = (first + step) % self.slot_count
            slot = int.from_bytes(self.read(self.slots.offset + BLOCK_HEADER_BYTES + 8 * at, 8), "little")
            if not slot:
                break
            offset = slot >> FINGERPRINT_BITS
            fits = not (slot ^ number) & ((1 << FINGERPRINT_BITS) - 1)
            if fits and self.read(offset, HEAD_BYTES) == head:
                return offset, self.record_at(offset)
        return None

    def record_at(self, offset: int) -> bytes:
        """Return the record whose key begins at an offset; its length stands in the node before the key."""
        length, flags, key_bytes = _NODE.unpack(self.read(offset - _NODE.size, _NODE.size))
        if flags or key_bytes != HEAD_BYTES or length > PAGE_BYTES:
            raise _unsound("a slot does not point to a record")
        return self.read(offset + HEAD_BYTES, length)

    def is_off(self, client_ordinal: int) -> bool:
        """Tell whether a client is switched off."""
        if client_ordinal >= self.switch_count:
            return False
        bits = self.read(self.switches.offset + BLOCK_HEADER_BYTES + (client_ordinal >> 3), 1)[0]
        return bool(bits >> (client_ordinal & 7) & 1)

    def _newest_meta(self) -> tuple[int, int]:
        """Return the root page of the main table, and the last page."""
        newest: tuple[int, int, int] | None = None
        for page in (0, 1):
            data = self.read(page * PAGE_BYTES, 168) if self.size >= 2 * PAGE_BYTES else bytes(168)
            magic, version, _, _ = _META_HEAD.unpack_from(data, 16)
            page_bytes, *_ = _DB.unpack_from(data, 40)
            root = _DB.unpack_from(data, 88)[-1]
            last_page, transaction = _META_TAIL.unpack_from(data, 136)
            if _PAGE_HEADER.unpack_from(data)[2] != _META or (magic, version) != (_LMDB_MAGIC, _LMDB_VERSION):
                raise _unsound("it is not a file of LMDB")
            if page_bytes != PAGE_BYTES:
                raise _unsound(f"its pages have {page_bytes} bytes instead of {PAGE_BYTES}")
            newest = max(newest or (-1, 0, 0), (transaction, root, last_page))
        assert newest is not None
        return newest[1], newest[2]

    def _entries(self, page: int) -> dict[bytes, Value]:
        """List the entries of a table that is one leaf page, as all are but ``keys``."""
        data = self.read(page * PAGE_BYTES, PAGE_BYTES) if page < self.pages else b""
        if not data or (_PAGE_HEADER.unpack_from(data)[0], _PAGE_HEADER.unpack_from(data)[2]) != (page, _LEAF):
            raise _unsound("a table is not where it should be")
        return dict(self._nodes(page, data))

    def _nodes(self, page: int, data: bytes) -> Iterator[tuple[bytes, Value]]:
        lower = _PAGE_HEADER.unpack_from(data)[3]
        for pointer in range(_PAGE_HEADER.size, min(lower, PAGE_BYTES) - 1, 2):
            at = int.from_bytes(data[pointer : pointer + 2], "little")
            if at > PAGE_BYTES - _NODE.size:
                raise _unsound("a table's page is damaged")
            length, flags, key_bytes = _NODE.unpack_from(data, at)
            key = data[at + _NODE.size : at + _NODE.size + key_bytes]
            offset = page * PAGE_BYTES + at + _NODE.size + key_bytes
            if flags & _BIG:
                number = int.from_bytes(self.read(offset, 8), "little")
                offset = number * PAGE_BYTES + _PAGE_HEADER.size
            yield key, Value(offset, length, flags)

    def _table(self, tables: dict[bytes, Value], name: bytes) -> tuple[int, int]:
        """Return the number of entries and the root page of a table."""
        place = tables.get(name)
        if place is None or place.flags != _TABLE or place.bytes != _DB.size:
            raise _unsound(f"it has no table {name.decode()}")
        *_, entries, root = _DB.unpack(self.read(place.offset, place.bytes))
        return entries, root

    def _header(self, meta: dict[bytes, Value]) -> dict[str, Any]:
        place = meta.get(b"header")
        if place is None:
            raise _unsound("it has no header")
        try:
            header = json.loads(self.read(place.offset, place.bytes))
        except ValueError:
            raise _unsound("its header is not JSON") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise _unsound(f"its header is not that of format {FORMAT}")
        if type(header.get("records")) is not int:
            raise _unsound("its header does not say how many records there are")
        return header

    def _block(self, index: dict[bytes, Value], name: bytes, magic: bytes, bits: int) -> tuple[Block, int, int]:
        """Return where a block lies, the number of its elements and the second number of its header."""
        place = index.get(name)
        if place is None or place.bytes < BLOCK_HEADER_BYTES or place.offset % PAGE_BYTES != _PAGE_HEADER.size:
            raise _unsound(f"it has no block of {name.decode()}")
        found, count, second, zeros = _BLOCK_HEADER.unpack(self.read(place.offset, BLOCK_HEADER_BYTES))
        if found != magic or any(zeros) or -(-count * bits // 8) > place.bytes - BLOCK_HEADER_BYTES:
            raise _unsound(f"the block of {name.decode()} has a damaged header")
        if place.offset + place.bytes > self.size:
            raise _unsound(f"the block of {name.decode()} does not lie in the file")
        return Block(place.offset, place.bytes), count, second
