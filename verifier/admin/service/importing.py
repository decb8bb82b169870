"""Importing keys of which only the SHA-256 is known, sent as a stream.

The stream is taken in whole before anything is changed: nobody else is kept waiting by a slow sender, and a stream
that breaks off has no effect.
"""

import hashlib
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from google.protobuf.message import Message

from verifier.admin.changing import Change
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import moment_s
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control import importing
from verifier.control.acting import Act
from verifier.control.digests import BadRow, Row
from verifier.control.importing import ImportRequest, Mode
from verifier.control.terms import Terms
from verifier.errors import InvalidInput

IN_MEMORY_BYTES = 16 << 20
ROWS_MAX = 10_000_000
ROWS_OF_MESSAGE_MAX = 1_000
KEY_IDS_MAX = 10_000
SHA256_BYTES = 32

_LENGTH = struct.Struct(">I")
_MODES: dict[str, Mode] = {"native_prefix": "native", "mixed_prefix": "mixed", "foreign_prefix": "foreign"}


class Importing(Handlers):
    """The part of LifecycleService that imports."""

    def ImportKeys(self, requests: Iterable[pb.ImportKeysRequest]) -> pb.ImportKeysResponse:
        """Add keys whose tokens others hold, by their SHA-256."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
            spool = _Spool(cast(IO[bytes], file))
            spool.take(requests)
            request = _request_of(spool.terms)
            peppers = self._desk.peppers()

            def work(act: Act, response: pb.ImportKeysResponse) -> None:
                made: list[str] = []
                report = importing.import_rows(
                    act, peppers, spool.rows(), request, on_keys=lambda ids: _keep(made, ids)
                )
                response.imported, response.skipped = report.imported, report.skipped
                response.bad_rows.extend(pb.BadRow(number=row.line, problem=row.problem) for row in report.bad)
                if report.imported <= KEY_IDS_MAX:
                    response.key_ids.extend(made)

            # What tells a repeat from another request: the terms, and what all rows come to.
            told = pb.ImportKeysRequest(terms=spool.terms, rows=[pb.ImportRow(sha256=spool.digest)])
            command = Change(self._desk, self._caller, told, spool.terms.options)
            return command.finished(command.recorded(pb.ImportKeysResponse(), work))


@dataclass(slots=True)
class _Spool:
    """The rows of a stream, in a file."""

    file: IO[bytes]
    digest: bytes = b""
    terms: pb.ImportTerms = None  # type: ignore[assignment]  # before the first message

    def take(self, requests: Iterable[pb.ImportKeysRequest]) -> None:
        """Take in a whole stream.

        Raises:
            InvalidInput: it is not terms first, then rows, at last their number; or there are too many
                (``BAD_STREAM``).
        """
        hashing, rows, first, total = hashlib.sha256(), 0, True, None
        for request in requests:
            if total is not None:
                raise InvalidInput("messages come after the one with rows_total", code="BAD_STREAM")
            if request.HasField("terms") != first:
                raise InvalidInput("an import has its terms in the first message, and there only", code="BAD_STREAM")
            if first:
                self.terms, first = request.terms, False
            rows += len(request.rows)
            if len(request.rows) > ROWS_OF_MESSAGE_MAX or rows > ROWS_MAX:
                raise InvalidInput(
                    f"a message has at most {ROWS_OF_MESSAGE_MAX:,} rows, an import {ROWS_MAX:,}", code="BAD_STREAM"
                )
            for row in request.rows:
                data = _bytes_of(row)
                self.file.write(data)
                hashing.update(data)
            total = request.rows_total if request.HasField("rows_total") else None
        if first:
            raise InvalidInput("an import has its terms in the first message", code="BAD_STREAM")
        if total != rows:
            raise InvalidInput(
                f"the stream broke off: {rows:,} rows came"
                + (", and not their number" if total is None else f" of {total:,}"),
                hint="the last message has rows_total", code="BAD_STREAM",
            )  # fmt: skip
        self.digest = hashing.digest()

    def rows(self) -> Iterator[Row | BadRow]:
        """Yield the rows, numbered from 1."""
        self.file.seek(0)
        number = 0
        while length := self.file.read(_LENGTH.size):
            number += 1
            yield _row(number, pb.ImportRow.FromString(self.file.read(_LENGTH.unpack(length)[0])))


def _bytes_of(row: Message) -> bytes:
    data = row.SerializeToString(deterministic=True)
    return _LENGTH.pack(len(data)) + data


def _row(number: int, row: pb.ImportRow) -> Row | BadRow:
    if len(row.sha256) != SHA256_BYTES:
        return BadRow(number, "not a SHA-256 digest: 32 bytes")
    return Row(
        line=number,
        digest=row.sha256,
        key_id=row.key_id or None,
        scopes=tuple(row.scopes) or None,
        rules=tuple(row.allow) or None,
        expires_at=moment_s(row, "expires_at"),
        metadata=dict(row.metadata) or None,
    )


def _request_of(terms: pb.ImportTerms) -> ImportRequest:
    shape = terms.WhichOneof("shape")
    if shape is None:
        raise InvalidInput("an import says how its tokens look: native, mixed or foreign", code="BAD_SHAPE")
    return ImportRequest(
        client_id=terms.client_id,
        terms=Terms(
            scopes=tuple(terms.scopes),
            rules=tuple(terms.allow),
            metadata=dict(terms.metadata),
            prefix=getattr(terms, shape),
            not_before=moment_s(terms, "not_before"),
            expires_at=moment_s(terms, "expires_at"),
            key_expires_at=moment_s(terms, "key_expires_at"),
        ),
        mode=_MODES[shape],
        entropy_bits=terms.entropy_bits,
        accept_weak=terms.accept_weak,
        skip_bad=terms.skip_bad,
    )


def _keep(made: list[str], ids: Iterable[str]) -> None:
    if len(made) <= KEY_IDS_MAX:
        made.extend(ids)
