"""Looks into keyring files and verifies them: any bytes may be given, nothing of them is trusted."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from verifier import _build
from verifier.errors import NotFound, UnsoundPublication
from verifier.keyring.description import KeyringDescription
from verifier.keyring.digest import digest_file
from verifier.keyring.reader import HEAD_BYTES, PAGE_BYTES, KeyringFile
from verifier.keyring.records import Record, answer_part, decode_record
from verifier.keyring.sampling import compare_with_lmdb
from verifier.v1.verifier_pb2 import VerifyResponse
from verifier.vocabulary import Phase

KNOWN_FEATURES: frozenset[str] = frozenset()
ANSWERS_CHECKED = 1000
DIGEST_DIGITS = 64

Progress = Callable[[str, int, int], None]


class Described(NamedTuple):
    """What a keyring file is."""

    keyring: KeyringDescription
    header: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """One record of a keyring file.

    Args:
        index: its place in the order of tags, from 0 on; None when that was not needed to find it.
        offset: where its key begins in the file.
        value: its bytes.
        tag: all 32 bytes.
        record: what it says.
        client_off: its client is switched off.
    """

    index: int | None
    offset: int
    value: bytes
    tag: bytes
    record: Record
    client_off: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: stable, for scripts.
        passed: None when it could not be looked at.
        detail: what was found, in a sentence.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(slots=True)
class Report:
    """The outcome of :func:`verify_file`."""

    path: Path
    checks: list[Check] = field(default_factory=list)
    sha256: str | None = None
    bytes: int = 0
    records: int | None = None
    took_s: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether no check failed, and the first ones were made at all."""
        return self.records is not None and all(check.passed is not False for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "file": str(self.path),
            "sound": self.sound,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "records": self.records,
            "checks": [{"name": each.name, "passed": each.passed, "detail": each.detail} for each in self.checks],
            "took_s": round(self.took_s, 3),
        }

    def add(self, name: str, passed: bool | None, detail: str) -> None:
        """Note the outcome of a check."""
        self.checks.append(Check(name, passed, detail))


def describe(path: Path, progress: Progress | None = None) -> Described:
    """Return a keyring's description, computed from the file, and its header.

    Raises:
        NotFound: there is no such file.
        UnsoundPublication: FORMAT; it is not a keyring of this format.
    """
    with KeyringFile(path) as file:
        return _described(file, progress)


def count(path: Path, now_s: int) -> dict[str, int]:
    """Count records by phase and flag.

    Args:
        path: the file.
        now_s: seconds since 1970, for the phases.

    Returns:
        ``records``, ``record_bytes``, ``record_bytes_max``, the flags ``revoked``, ``key_off``, ``watch``,
        ``with_rules``, ``absent``, ``client_off``, and the phases ``pending``, ``current``, ``retiring``, ``expired``
        of those that are not revoked; ``valid`` are those that some caller can use now.

    Raises:
        NotFound: there is no such file.
        UnsoundPublication: FORMAT; a page or record is damaged.
    """
    with KeyringFile(path) as file:
        found = _survey(file, now_s, b"")
    if found["scan_fault"] or found["damaged"]:
        raise UnsoundPublication(found["scan_fault"] or f"{found['damaged']} records are damaged", code="FORMAT")
    return {name: number for name, number in found.items() if isinstance(number, int) and name not in _DIAGNOSES}


_DIAGNOSES = {"damaged", "damaged_at", "unreachable", "unreachable_at", "slots_used"}


def iterate(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield tag (32 bytes) and record of every key version, in ascending order of tags; ``build_keyring`` takes them.

    Raises:
        NotFound: there is no such file.
        UnsoundPublication: FORMAT; the file is damaged.
    """
    with KeyringFile(path) as file:
        for rows in _build.Rows(file.fd, file.pages):
            yield from rows


def find_tag(path: Path, digits: str) -> Found:
    """Find the record whose tag begins with some hex digits.

    Args:
        path: the file.
        digits: the beginning of the tag. With 32 digits or more the slots are used, as a node does it; with fewer, all
            records are read.

    Raises:
        NotFound: there is none, or no such file.
        UnsoundPublication: FORMAT; the file is damaged.
    """
    digits = digits.lower()
    with KeyringFile(path) as file:
        if len(digits) >= 2 * HEAD_BYTES:
            head = bytes.fromhex(digits[: 2 * HEAD_BYTES])
            place = file.find(head)
            if place is not None and (head + place[1]).hex().startswith(digits):
                return _found(file, None, place[0], head)
        else:
            for index, (tag, _) in enumerate(row for rows in _build.Rows(file.fd, file.pages) for row in rows):
                if tag.hex().startswith(digits):
                    return _placed(file, index, tag)
    raise NotFound(f"no record has a tag that begins with {digits}")


def find_index(path: Path, index: int) -> Found:
    """Find a record by its place in the order of tags, from 0 on.

    Raises:
        NotFound: there are not so many, or no such file.
        UnsoundPublication: FORMAT; the file is damaged.
    """
    with KeyringFile(path) as file:
        if not 0 <= index < file.records:
            raise NotFound(f"there is no record {index}: the keyring has {file.records}, numbered from 0")
        rows = (row for rows in _build.Rows(file.fd, file.pages) for row in rows)
        tag, _ = next(islice(rows, index, None))
        return _placed(file, index, tag)


def phase_at(record: Record, now_s: int) -> Phase:
    """Return where a version stands at a second: REVOKED before EXPIRED, PENDING, RETIRING and CURRENT."""
    if record.revoked:
        return Phase.REVOKED
    if record.expires_at is not None and now_s >= record.expires_at:
        return Phase.EXPIRED
    if record.not_before is not None and now_s < record.not_before:
        return Phase.PENDING
    if record.superseded_at is not None and now_s >= record.superseded_at:
        return Phase.RETIRING
    return Phase.CURRENT


def verify_file(
    path: Path, *, sha256: str | None = None, now_s: int | None = None, progress: Progress | None = None
) -> Report:
    """Check all that can be checked of a keyring file without its pepper. Never crashes, whatever the file holds.

    Args:
        path: the file.
        sha256: what its digest must be; taken from its name when that is ``<sha256>.mdb``.
        now_s: seconds since 1970.
        progress: called with a stage, bytes done and bytes in all.

    Returns:
        A report; read its ``sound``.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is no file.
        Unavailable: it cannot be read.
    """
    started = time.monotonic()
    report = Report(path, bytes=path.stat().st_size if path.exists() else 0)
    try:
        with KeyringFile(path) as file:
            report.records = file.records
            report.add("size", True, f"{file.size} bytes are {file.pages} whole pages, as the last page says")
            _check_digest(report, file, sha256 or _named(path), progress)
            _check_header(report, file)
            _check_records(report, file, int(time.time()) if now_s is None else now_s)
            _check_answers(report, file)
            _check_switches(report, file)
            _check_lmdb(report, file)
    except UnsoundPublication as error:
        report.add("structure", False, error.message)
    report.took_s = time.monotonic() - started
    return report


def _described(file: KeyringFile, progress: Progress | None) -> Described:
    tell = None if progress is None else lambda done: progress("digest", done, file.size)
    sha256, segments = digest_file(file.fd, file.size, tell)
    return Described(_description(file, sha256, segments.bytes, segments.xxh3_64), file.header)


def _description(file: KeyringFile, sha256: str, piece: int, checksums: tuple[str, ...]) -> KeyringDescription:
    return KeyringDescription.from_json(
        {
            **file.header,
            "sha256": sha256,
            "bytes": file.size,
            "slots": {"offset": file.slots.offset, "bytes": file.slots.bytes},
            "switches": {"offset": file.switches.offset, "bytes": file.switches.bytes},
            "segments": {"bytes": piece, "xxh3_64": list(checksums)},
        }
    )


def _survey(file: KeyringFile, now_s: int, slots: bytes) -> dict[str, Any]:
    delta = file.header.get("kind") == "delta"
    return _build.survey(file.fd, file.pages, now_s, slots, file.switch_bytes(), delta=delta)


def _placed(file: KeyringFile, index: int, tag: bytes) -> Found:
    place = file.find(tag[:HEAD_BYTES])
    if place is None:
        raise UnsoundPublication(f"the index does not lead to the record of {tag[:HEAD_BYTES].hex()}", code="FORMAT")
    return _found(file, index, place[0], tag[:HEAD_BYTES])


def _found(file: KeyringFile, index: int | None, offset: int, head: bytes) -> Found:
    value = file.record_at(offset)
    tag, record = decode_record(head, value)
    return Found(index, offset, value, tag, record, file.is_off(record.client_ordinal))


def _named(path: Path) -> str | None:
    name = path.stem.lower()
    is_digest = len(name) == DIGEST_DIGITS and set(name) <= set("0123456789abcdef") and path.suffix == ".mdb"
    return name if is_digest else None


def _check_digest(report: Report, file: KeyringFile, wanted: str | None, progress: Progress | None) -> None:
    tell = None if progress is None else lambda done: progress("digest", done, file.size)
    report.sha256, _ = digest_file(file.fd, file.size, tell)
    if wanted is None:
        report.add("digest", None, f"{report.sha256}; neither the file's name nor the caller says what it should be")
    elif wanted == report.sha256:
        report.add("digest", True, f"SHA-256 is {report.sha256}, as it should be")
    else:
        report.add("digest", False, f"SHA-256 is {report.sha256} instead of {wanted}")


def _check_header(report: Report, file: KeyringFile) -> None:
    keyring = _description(file, "0" * DIGEST_DIGITS, file.size, ("0" * 16,))
    unknown = sorted(set(keyring.features) - KNOWN_FEATURES)
    report.add("features", not unknown, f"needs what this build lacks: {', '.join(unknown)}" if unknown else "none")
    report.add("header", True, f"format {keyring.format}, {keyring.kind}, {keyring.records} records")


def _check_records(report: Report, file: KeyringFile, now_s: int) -> None:
    found = _survey(file, now_s, file.slot_bytes())
    counted = found["records"] == file.records and not found["scan_fault"]
    report.add("table", counted, found["scan_fault"] or f"the scan found {found['records']} of {file.records} records, "
               "in ascending order")  # fmt: skip
    damage = f"{found['damaged']} are damaged; the first, at byte {found['damaged_at']}: {found['damaged_how']}"
    report.add("records", not found["damaged"], damage if found["damaged"] else "each is whole and canonical")
    slots = file.slot_count
    fitting = slots == _build.slot_count(file.records) and found["slots_used"] == file.records
    lost = f"{found['unreachable']} cannot be reached; the first lies at byte {found['unreachable_at']}"
    detail = f"{found['slots_used']} of {slots} slots are used, for {file.records} records"
    report.add("slots", fitting and not found["unreachable"], lost if found["unreachable"] else detail)


def _check_answers(report: Report, file: KeyringFile) -> None:
    """Have a sample of answers read by protobuf and written anew: what is read must be all, and in the shortest form.

    Order was checked with the records; protobuf's own deterministic order of map entries is not that of their names
    when one name begins with another.
    """
    if any(check.passed is False for check in report.checks if check.name in ("table", "records")):
        report.add("answers", None, "not parsed, as records are damaged")
        return
    step = max(1, file.records // ANSWERS_CHECKED)
    checked = 0
    for rows in _build.Rows(file.fd, file.pages):
        for _, value in rows[::step]:
            part = answer_part(value)
            try:
                answer = VerifyResponse.FromString(part)
            except DecodeError:
                report.add("answers", False, f"protobuf cannot read answer {checked}")
                return
            if sorted(answer.SerializeToString()) != sorted(part):
                report.add("answers", False, f"protobuf writes answer {checked} otherwise")
                return
            checked += 1
    report.add("answers", True, f"{checked} answers were read and written anew by protobuf to the same bytes")


def _check_switches(report: Report, file: KeyringFile) -> None:
    bits = int.from_bytes(file.switch_bytes(), "little")
    fitting = bits.bit_count() == file.switches_set and bits.bit_length() <= file.switch_count
    report.add("switches", fitting, f"{bits.bit_count()} of {file.switch_count} clients are off, "
               f"the block's header says {file.switches_set}")  # fmt: skip


def _check_lmdb(report: Report, file: KeyringFile) -> None:
    whole = all(check.passed for check in report.checks)
    if not whole or file.size % PAGE_BYTES:
        report.add("lmdb", None, "not asked: LMDB may crash on a file that is not known to be whole")
        return
    report.add("lmdb", True, f"{compare_with_lmdb(report.path, file)} lookups through LMDB and the slots agree")
