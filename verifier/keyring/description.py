"""What a manifest says of a keyring: the ``keyring`` object of docs/publication-format.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from verifier.errors import UnsoundPublication

SEGMENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block lies in the file.

    Args:
        offset: of its 48-byte header, in bytes.
        bytes: its length, header and padding included.
    """

    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Segments:
    """Checksums of consecutive pieces of the file; against accidents, never identity.

    Args:
        bytes: length of a piece; the last one may be shorter.
        xxh3_64: XXH3-64 of each, as 16 hex digits.
    """

    bytes: int
    xxh3_64: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeyringDescription:
    """A keyring file: its identity, and where in it a node finds what it needs.

    Args:
        sha256: of the whole file, 64 hex digits; its name in a store.
        bytes: its size.
        format: version of the file format.
        kind: ``base`` or ``delta``.
        base: SHA-256 of a delta's base; None for a base.
        features: names that a reader must know or refuse the file.
        records: how many there are.
        peppers: ids of the peppers, in the order of their layers.
        prefixes: of tokens, each with its mode NATIVE or MIXED.
        accepts_foreign: tokens of no known prefix are looked up too.
        slots: where the index lies.
        switches: where the client switches lie.
        segments: checksums for a slow scrub.
    """

    sha256: str
    bytes: int
    format: int
    kind: Literal["base", "delta"]
    base: str | None
    features: tuple[str, ...]
    records: int
    peppers: tuple[str, ...]
    prefixes: tuple[tuple[str, str], ...]
    accepts_foreign: bool
    slots: Block
    switches: Block
    segments: Segments

    def to_json(self) -> dict[str, Any]:
        """Return the plain data of the JSON object."""
        return {
            "sha256": self.sha256,
            "bytes": self.bytes,
            "format": self.format,
            "kind": self.kind,
            "base": self.base,
            "features": list(self.features),
            "records": self.records,
            "peppers": list(self.peppers),
            "prefixes": [list(pair) for pair in self.prefixes],
            "accepts_foreign": self.accepts_foreign,
            "slots": {"offset": self.slots.offset, "bytes": self.slots.bytes},
            "switches": {"offset": self.switches.offset, "bytes": self.switches.bytes},
            "segments": {"bytes": self.segments.bytes, "xxh3_64": list(self.segments.xxh3_64)},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "KeyringDescription":
        """Read the plain data of the JSON object, strictly; keys that are not known are ignored.

        Raises:
            UnsoundPublication: FORMAT; something is missing or not what it should be.
        """
        kind, base = _text(body, "kind"), body.get("base")
        if kind not in ("base", "delta") or (base is None) != (kind == "base"):
            raise _unsound("kind or base")
        description = cls(
            sha256=_hex(_text(body, "sha256"), 64),
            bytes=_number(body, "bytes"),
            format=_number(body, "format"),
            kind=cast(Literal["base", "delta"], kind),
            base=None if base is None else _hex(_text(body, "base"), 64),
            features=_texts(body, "features"),
            records=_number(body, "records"),
            peppers=_texts(body, "peppers"),
            prefixes=_prefixes(body),
            accepts_foreign=_flag(body, "accepts_foreign"),
            slots=_block(body, "slots"),
            switches=_block(body, "switches"),
            segments=_segments(body),
        )
        for name, block in (("slots", description.slots), ("switches", description.switches)):
            if block.offset + block.bytes > description.bytes:
                raise _unsound(name)
        return description


def _unsound(what: str) -> UnsoundPublication:
    return UnsoundPublication(f"the description of a keyring is not sound: {what}")


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if not isinstance(value, Mapping):
        raise _unsound(name)
    return value


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _unsound(name)
    return value


def _number(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise _unsound(name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise _unsound(name)
    return value


def _texts(body: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _unsound(name)
    return tuple(value)


def _hex(text: str, digits: int) -> str:
    if len(text) != digits or not set(text) <= set("0123456789abcdef"):
        raise _unsound("a digest or checksum")
    return text


def _prefixes(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    value = body.get("prefixes")
    if not isinstance(value, list):
        raise _unsound("prefixes")
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise _unsound("prefixes")
        if pair[1] not in ("NATIVE", "MIXED"):
            raise _unsound("the mode of a prefix")
    return tuple((prefix, mode) for prefix, mode in value)


def _block(body: Mapping[str, Any], name: str) -> Block:
    place = _object(body, name)
    return Block(_number(place, "offset"), _number(place, "bytes"))


def _segments(body: Mapping[str, Any]) -> Segments:
    segments = _object(body, "segments")
    length, file_length = _number(segments, "bytes"), _number(body, "bytes")
    checksums = tuple(_hex(text, 16) for text in _texts(segments, "xxh3_64"))
    if length == 0 or len(checksums) != -(-file_length // length):
        raise _unsound("segments")
    return Segments(length, checksums)
