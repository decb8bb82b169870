"""Reading files of SHA-256 digests: CSV or JSONL, one key a row. Errors name the line and never quote a cell.

CSV has a header, unless each line is nothing but a digest. Columns, in any order: ``sha256`` (also ``hash``,
``digest``), ``key_id``, ``scopes`` (parted by spaces), ``allow`` (networks, parted by spaces), ``expires_at``
(RFC 3339), ``metadata`` (``k=v`` parted by semicolons). JSONL has objects with the same names; there ``scopes`` and
``allow`` may be lists and ``metadata`` is an object. A column of any other name is an error: it might be a restriction.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from verifier.errors import InvalidInput, NotFound, Unavailable

LINE_CHARACTERS_MAX = 65_536

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_DIGEST_NAMES = ("sha256", "hash", "digest")
_NAMES = frozenset({"sha256", "key_id", "scopes", "allow", "expires_at", "metadata"})


@dataclass(frozen=True, slots=True)
class Row:
    """One key to import. What the row leaves out is None: the command's own terms apply."""

    line: int
    digest: bytes
    key_id: str | None = None
    scopes: tuple[str, ...] | None = None
    rules: tuple[str, ...] | None = None
    expires_at: int | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be imported, and why."""

    line: int
    problem: str


def read(path: Path) -> Iterator[Row | BadRow]:
    """Yield the rows of a file, good and bad, in order.

    Args:
        path: ending in ``.jsonl``/``.ndjson`` for JSONL, anything else is CSV.

    Raises:
        NotFound: there is no such file.
        Unavailable: it cannot be read.
        InvalidInput: its header has a column of an unknown name, or none with digests.
    """
    reader = _jsonl if path.suffix.lower() in (".jsonl", ".ndjson") else _csv
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", code="FILE_NOT_FOUND") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text", code="BAD_FILE") from None
    except csv.Error as error:
        raise InvalidInput(f"{path} is not CSV: {error}", code="BAD_FILE") from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}", code="NOT_READABLE") from None


def _csv(path: Path) -> Iterator[Row | BadRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        names: list[str] | None = None
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                if len(cells) > 1 or cells[0].strip().lower() in _DIGEST_NAMES:
                    names = _header(cells)
                    continue
                names = ["sha256"]
            if len(cells) != len(names):
                yield BadRow(reader.line_num, f"{len(cells)} columns instead of {len(names)}")
                continue
            yield _row(reader.line_num, {n: cell.strip() for n, cell in zip(names, cells, strict=True) if cell.strip()})


def _header(cells: list[str]) -> list[str]:
    names = [_canonical(cell.strip().lower()) for cell in cells]
    unknown = [name for name in names if name not in _NAMES]
    if unknown or "sha256" not in names or len(set(names)) != len(names):
        # A first line that is no header may hold anything, a token even: say nothing of what is in it.
        raise InvalidInput(
            "the first line is not a usable header",
            hint=f"columns: {', '.join(sorted(_NAMES))}; sha256 is needed, each at most once",
            code="BAD_HEADER",
        )
    return names


def _jsonl(path: Path) -> Iterator[Row | BadRow]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                cells = json.loads(text) if len(text) <= LINE_CHARACTERS_MAX else None
            except (ValueError, RecursionError):
                cells = None
            if not isinstance(cells, dict):
                yield BadRow(line, "not a JSON object")
                continue
            named = {_canonical(name): cell for name, cell in cells.items() if cell is not None}
            if not named.keys() <= _NAMES:
                yield BadRow(line, "a name that is not known")
                continue
            yield _row(line, named)


def _canonical(name: str) -> str:
    return "sha256" if name in _DIGEST_NAMES else name


def _row(line: int, cells: Mapping[str, Any]) -> Row | BadRow:
    digest = cells.get("sha256")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        return BadRow(line, "not a SHA-256 digest: 64 hex digits")
    try:
        return Row(
            line=line,
            digest=bytes.fromhex(digest),
            key_id=_text(cells, "key_id"),
            scopes=_words(cells, "scopes"),
            rules=_words(cells, "allow"),
            expires_at=_moment(cells),
            metadata=_metadata(cells),
        )
    except ValueError as error:
        return BadRow(line, str(error))


def _text(cells: Mapping[str, Any], name: str) -> str | None:
    value = cells.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def _words(cells: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = cells.get(name)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    text = _text(cells, name)
    return None if text is None else tuple(text.split())


def _moment(cells: Mapping[str, Any]) -> int | None:
    text = _text(cells, "expires_at")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("expires_at is not a time with an offset, such as 2026-12-31T00:00:00Z")
    return int(moment.timestamp())


def _metadata(cells: Mapping[str, Any]) -> dict[str, str] | None:
    value = cells.get("metadata")
    if isinstance(value, dict):
        return value
    text = _text(cells, "metadata")
    if text is None:
        return None
    pairs = [pair.partition("=") for pair in text.split(";") if pair.strip()]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("metadata is not k=v;k=v")
    return {name.strip(): pair_value.strip() for name, _, pair_value in pairs}
