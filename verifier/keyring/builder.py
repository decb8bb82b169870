"""Builds a keyring file: sorted by compiled code, written by LMDB, indexed by a scan of what LMDB wrote.

The steps are those of docs/keyring-format.md, "The build, in order"; each is there for a reason that the page gives.
Memory stays below 1.5 GB for any number of records up to tens of millions, nearly all of it LMDB's own dirty pages.
"""

import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, cast

import lmdb

from verifier import __version__
from verifier._build import make_slots
from verifier._sort import Sorter
from verifier.errors import InvalidInput, Unavailable, UnsoundPublication
from verifier.keyring.description import KeyringDescription
from verifier.keyring.digest import digest_file
from verifier.keyring.reader import FORMAT, PAGE_BYTES, SWITCHES_MAGIC, KeyringFile
from verifier.keyring.sampling import SAMPLES, compare_with_lmdb

MEMORY_BYTES = 256 << 20
CLIENTS_MAX = 1 << 32
PREFIXES_MAX = 64
PEPPERS_MAX = 4
BLOCK_BYTES_MIN = 4096
ROWS_AT_ONCE = 4096
DELTA_SAMPLES = 32  # a delta is made many times a minute, so few are looked up each time
TEMPORARY_SUFFIX = ".verifier-tmp"  # store.durable removes leftovers of this name

Row = tuple[bytes, bytes]
Progress = Callable[[str, int, int], None]


def build_keyring(
    folder: Path,
    rows: Iterable[Row] | Iterable[Sequence[Row]],
    *,
    kind: str = "base",
    base: str | None = None,
    peppers: Sequence[str],
    prefixes: Sequence[tuple[str, str]],
    accepts_foreign: bool,
    clients_off: Iterable[int],
    client_count: int,
    expected: int | None = None,
    progress: Progress | None = None,
    memory_bytes: int = MEMORY_BYTES,
    durable: bool = True,
) -> KeyringDescription:
    """Write ``<folder>/<sha256>.mdb``, durably, and return its description.

    The same records give the same file, byte for byte, whatever their order and ``memory_bytes``.

    Args:
        folder: where to build; temporary files lie there too, without a name or with one that ends in
            ``.verifier-tmp``.
        rows: pairs of tag (32 bytes) and record (of ``encode_record``), in any order; or lists of such pairs, such as
            ``cursor.fetchmany`` gives, which saves 0.1 us a row.
        kind: ``base`` or ``delta``.
        base: SHA-256 of the delta's base.
        peppers: ids of the peppers, in the order of their layers; 1 to 4.
        prefixes: of tokens, each with NATIVE or MIXED.
        accepts_foreign: look tokens of no known prefix up too.
        clients_off: ordinals of the clients that are switched off.
        client_count: one more than the greatest ordinal of a client.
        expected: how many rows there will be, for ``progress``.
        progress: called with a stage (``sort``, ``write``, ``index``, ``digest``), how much of it is done and how much
            there is (0: not known), in rows or bytes.
        memory_bytes: for sorting; beyond that, rows go through a temporary file in ``folder``.
        durable: sync the file and its folder; False when whoever moves it to its place does so.

    Raises:
        InvalidInput: an argument or a record is not usable, or two rows have the same tag; nothing is left behind.
        Unavailable: the disk refused.
        UnsoundPublication: the finished file did not pass its checks: a fault of the builder or the machine.
    """
    facts = _Facts(kind, base, tuple(peppers), tuple(sorted(prefixes)), accepts_foreign, client_count)
    facts.check()
    switches = _switches_block(clients_off, client_count)
    tell = progress or _silent
    path = folder / f".keyring.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as spill:
            sorter = Sorter(spill.fileno(), memory_bytes, delta=kind == "delta")
            _take(sorter, rows, expected or 0, tell)
            _write(path, sorter, facts, switches, tell)
        return _finish(path, facts, sorter.count, tell, durable)
    except (OSError, lmdb.Error) as error:
        raise Unavailable(f"cannot build a keyring in {folder}: {error}", code="CANNOT_WRITE") from error
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the header says besides the number of records."""

    kind: str
    base: str | None
    peppers: tuple[str, ...]
    prefixes: tuple[tuple[str, str], ...]
    accepts_foreign: bool
    client_count: int

    def check(self) -> None:
        if self.kind not in ("base", "delta") or (self.kind == "delta") != (self.base is not None):
            raise InvalidInput("a delta names its base, and a base names none")
        if not 1 <= len(self.peppers) <= PEPPERS_MAX:
            raise InvalidInput(f"a keyring has 1 to {PEPPERS_MAX} peppers")
        if len(self.prefixes) > PREFIXES_MAX or len(dict(self.prefixes)) != len(self.prefixes):
            raise InvalidInput(f"a keyring has at most {PREFIXES_MAX} prefixes, each once")
        if not all(mode in ("NATIVE", "MIXED") for _, mode in self.prefixes):
            raise InvalidInput("the mode of a prefix is NATIVE or MIXED")
        if not 0 <= self.client_count <= CLIENTS_MAX:
            raise InvalidInput(f"a keyring knows at most {CLIENTS_MAX} clients")

    def header(self, records: int) -> bytes:
        body: dict[str, Any] = {
            "format": FORMAT, "kind": self.kind, "base": self.base, "features": [], "records": records,
            "peppers": self.peppers, "prefixes": self.prefixes, "accepts_foreign": self.accepts_foreign,
            "builder": f"verifier {__version__}",
        }  # fmt: skip
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def map_size(records: int, clients: int) -> int:
    """Return the size of LMDB's map in bytes. It stands in the file, so it depends on nothing but the counts."""
    return ((64 << 20) + 2304 * records + clients // 4 + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _take(sorter: Sorter, rows: Iterable[Any], expected: int, tell: Progress) -> None:
    for chunk in _chunks(iter(rows)):
        sorter.add(chunk)
        tell("sort", sorter.count, expected)


def _chunks(rows: Iterator[Any]) -> Iterator[Sequence[Row]]:
    """Yield lists of rows, whether single rows or lists come in."""
    first = next(rows, None)
    if first is None:
        return
    everything = chain([first], rows)
    if len(first) and isinstance(first[0], bytes):
        while chunk := list(islice(everything, ROWS_AT_ONCE)):
            yield chunk
    else:
        yield from everything


def _switches_block(clients_off: Iterable[int], client_count: int) -> bytes:
    bits = bytearray(-(-client_count // 8))
    for ordinal in clients_off:
        if not 0 <= ordinal < client_count:
            raise InvalidInput(f"there is no client with the ordinal {ordinal}")
        bits[ordinal >> 3] |= 1 << (ordinal & 7)
    block = SWITCHES_MAGIC + client_count.to_bytes(8, "little") + _ones(bits).to_bytes(8, "little") + bytes(24) + bits
    return block + bytes(max(0, BLOCK_BYTES_MIN - len(block)))


def _ones(bits: bytearray) -> int:
    return int.from_bytes(bits, "little").bit_count()


def _write(path: Path, sorter: Sorter, facts: _Facts, switches: bytes, tell: Progress) -> None:
    """Steps 1 to 5 up to the sync: both transactions, with the scan between them."""
    records = sorter.count
    environment = lmdb.open(
        str(path), subdir=False, lock=False, sync=False, metasync=False, writemap=False, meminit=True, max_dbs=4,
        map_size=map_size(records, facts.client_count), mode=0o644,
    )  # fmt: skip
    with environment:
        if environment.stat()["psize"] != PAGE_BYTES:
            raise Unavailable(f"keyrings are built on machines with pages of {PAGE_BYTES} bytes only")
        with environment.begin(write=True) as transaction:
            keys = environment.open_db(b"keys", txn=transaction)
            with transaction.cursor(keys) as cursor:
                written = 0
                for batch in sorter.batches():
                    if cursor.putmulti(batch, append=True) != (len(batch), len(batch)):
                        raise UnsoundPublication("LMDB did not take all records")
                    written += len(batch)
                    tell("write", written, records)
        tell("index", 0, records)
        slots = _index(path, environment.info()["last_pgno"] + 1, records)
        with environment.begin(write=True) as transaction:
            transaction.put(b"header", facts.header(records), db=environment.open_db(b"meta", txn=transaction))
            index = environment.open_db(b"index", txn=transaction)
            transaction.put(b"slots", slots, db=index)
            transaction.put(b"switches", switches, db=index)
        tell("index", records, records)


def _index(path: Path, pages: int, records: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return make_slots(fd, pages, records)
    finally:
        os.close(fd)


def _finish(path: Path, facts: _Facts, records: int, tell: Progress, durable: bool) -> KeyringDescription:
    """Check and hash the file while the disk takes it, then give it its name."""
    with _syncing(path) if durable else nullcontext(), KeyringFile(path) as file:
        if file.records != records:
            raise UnsoundPublication(f"{records} records were written, the file has {file.records}")
        compare_with_lmdb(path, file, SAMPLES if facts.kind == "base" else DELTA_SAMPLES)
        sha256, segments = digest_file(file.fd, file.size, lambda done: tell("digest", done, file.size))
        slots, switches, size = file.slots, file.switches, file.size
    path.replace(path.with_name(f"{sha256}.mdb"))
    if durable:
        _sync(path.parent)
    return KeyringDescription(
        sha256=sha256, bytes=size, format=FORMAT, kind=cast(Literal["base", "delta"], facts.kind), base=facts.base,
        features=(), records=records, peppers=facts.peppers, prefixes=facts.prefixes,
        accepts_foreign=facts.accepts_foreign, slots=slots, switches=switches, segments=segments,
    )  # fmt: skip


@contextmanager
def _syncing(path: Path) -> Iterator[None]:
    """Sync a file in another thread meanwhile."""
    with ThreadPoolExecutor(1, "fsync") as worker:
        synced: Future[None] = worker.submit(_sync, path)
        yield
        synced.result()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
