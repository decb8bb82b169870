"""The manifest of a publication: what to serve, bound by digests. Format in docs/publication-format.md.

Parsing is strict: a manifest that is not exactly of the documented form is refused, not repaired.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from verifier.errors import UnsoundPublication
from verifier.keyring.description import KeyringDescription

FORMAT = 1
KEYRING_FORMAT = 1
KNOWN_FEATURES: frozenset[str] = frozenset()  # of manifests and keyrings alike
MANIFEST_BYTES_MAX = 1 << 20
REVISION_MAX = (1 << 53) - 1  # exact as a number in every JSON reader
COUNT_MAX = (1 << 40) - 1
FEATURES_MAX = 64
PEPPERS_MAX = 64
PREFIXES_MAX = 64
TOMBSTONE_FILES_MAX = 2
TEXT_CHARACTERS_MAX = 128

STORE_ID = re.compile(r"st_[A-Za-z0-9_-]{1,61}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_FEATURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class TombstoneFile:
    """A file of the store that names versions which were ever compromised."""

    sha256: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One publication.

    Attributes:
        store_id: the registry it came from.
        revision: its number, at least 1.
        content_of: the revision whose content it has; its own, unless held.
        held: whether it is the outcome of a rollback, or follows one.
        published_at: seconds since 1970.
        previous: SHA-256 of the bytes of the manifest that was current before, None for the first.
        records: records that it serves, of base and delta together.
        active: of those, how many are VALID now for some caller, or will be.
        dead_on_arrival: of those, how many can never be VALID as their window is empty.
        drop_override: whether a person allowed it to drop more active keys than the guard lets pass.
        tombstones: at most two files, whose union is the set: that of the time of the base, and one with those since.
        base: the keyring.
        delta: all changes since the base, or None.
        publisher: the software that made it.
        features: names that a reader must know, or refuse the publication.
        format: of the manifest itself.
    """

    store_id: str
    revision: int
    content_of: int
    published_at: int
    previous: str | None
    records: int
    active: int
    base: KeyringDescription
    publisher: str
    held: bool = False
    dead_on_arrival: int = 0
    drop_override: bool = False
    tombstones: tuple[TombstoneFile, ...] = ()
    delta: KeyringDescription | None = None
    features: tuple[str, ...] = ()
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed and stored."""
        tombstones = [{"sha256": file.sha256, "count": file.count} for file in self.tombstones]
        fields = {
            "format": self.format, "features": list(self.features),
            "store_id": self.store_id, "revision": self.revision,
            "content_of": self.content_of, "held": self.held, "published_at": time_text(self.published_at),
            "previous": self.previous, "records": self.records, "active": self.active,
            "dead_on_arrival": self.dead_on_arrival, "drop_override": self.drop_override, "tombstones": tombstones,
            "base": self.base.to_json(), "delta": self.delta and self.delta.to_json(), "publisher": self.publisher,
        }  # fmt: skip
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Read a manifest. Call it only with bytes whose signature was verified.

        Raises:
            UnsoundPublication: ``FORMAT`` (not of the documented form), ``FEATURE`` (needs what this reader does not
                know) or ``LIMIT`` (too large).
        """
        if len(data) > MANIFEST_BYTES_MAX:
            raise UnsoundPublication(f"the manifest is larger than {MANIFEST_BYTES_MAX} bytes", code="LIMIT")
        fields = _parse(data)
        _check_understood(fields)
        manifest = cls(
            features=tuple(fields["features"]),
            store_id=_text(fields, "store_id", STORE_ID),
            revision=_integer(fields, "revision", 1, REVISION_MAX),
            content_of=_integer(fields, "content_of", 1, REVISION_MAX),
            held=_flag(fields, "held"),
            published_at=_time(fields, "published_at"),
            previous=None if _get(fields, "previous") is None else _text(fields, "previous", _DIGEST),
            records=_integer(fields, "records", 0, COUNT_MAX),
            active=_integer(fields, "active", 0, COUNT_MAX),
            dead_on_arrival=_integer(fields, "dead_on_arrival", 0, COUNT_MAX),
            drop_override=_flag(fields, "drop_override"),
            tombstones=_tombstones(fields),
            base=_keyring(fields, "base"),
            delta=None if _get(fields, "delta") is None else _keyring(fields, "delta"),
            publisher=_text(fields, "publisher", re.compile(rf"[ -~]{{1,{TEXT_CHARACTERS_MAX}}}")),
        )
        manifest._check_consistent()
        return manifest

    @property
    def keyrings(self) -> tuple[KeyringDescription, ...]:
        """The keyrings it names: the base, and the delta if there is one."""
        return (self.base,) if self.delta is None else (self.base, self.delta)

    def content(self) -> tuple[object, ...]:
        """Return what a node would notice: two publications with equal content answer alike."""
        keyrings = tuple(keyring.sha256 for keyring in self.keyrings)
        origin = self.content_of if self.held else None
        return (self.store_id, keyrings, self.tombstones, self.held, origin, self.features)

    def _check_consistent(self) -> None:
        """Check what follows from the fields together."""
        base, delta = self.base, self.delta
        if base.kind != "base" or base.base is not None:
            _refuse("'base' is not a base keyring")
        if delta is not None and (delta.kind != "delta" or delta.base != base.sha256):
            _refuse("'delta' is not a delta of this base")
        if self.content_of > self.revision or (self.held == (self.content_of == self.revision)):
            _refuse("'content_of' does not fit 'revision' and 'held'")
        if self.records > sum(keyring.records for keyring in self.keyrings):
            _refuse("more records are counted than the keyrings hold")
        if delta is None and self.records != base.records:
            _refuse("the records counted are not those of the base")
        if self.active > self.records or self.dead_on_arrival > self.records:
            _refuse("'active' or 'dead_on_arrival' is larger than 'records'")


def digest_of(manifest: bytes) -> str:
    """Return the SHA-256 of a manifest's bytes as 64 hex digits."""
    return hashlib.sha256(manifest).hexdigest()


def time_text(seconds: int) -> str:
    """Write seconds since 1970 as RFC 3339 in UTC with ``Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parse(data: bytes) -> dict[str, Any]:
    """Read one JSON object without the tolerances of the json module."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("the manifest is not JSON in UTF-8")
    if not isinstance(value, dict):
        _refuse("the manifest is not a JSON object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        _refuse("the manifest has a key twice")
    return fields


def _no_constant(_: str) -> NoReturn:
    _refuse("the manifest holds a number that is none")


def _check_understood(fields: Mapping[str, Any]) -> None:
    """Look at format and features first: nothing else means anything if they are unknown."""
    if _integer(fields, "format", 1, REVISION_MAX) != FORMAT:
        _refuse(f"the manifest has format {fields['format']}, this reader knows {FORMAT}")
    _check_features(fields)


def _check_features(fields: Mapping[str, Any]) -> None:
    features = _get(fields, "features")
    if not isinstance(features, list) or len(features) > FEATURES_MAX:
        _refuse(f"'features' is not a list of at most {FEATURES_MAX} names")
    for feature in features:
        if not isinstance(feature, str) or not _FEATURE.fullmatch(feature):
            _refuse("'features' holds something that is not a name")
    unknown = sorted(set(features) - KNOWN_FEATURES)
    if unknown:
        raise UnsoundPublication(f"the publication needs {', '.join(unknown)}, unknown to this reader", code="FEATURE")


def _get(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        _refuse(f"'{name}' is missing")
    return fields[name]


def _integer(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = _get(fields, name)
    if type(value) is not int or not low <= value <= high:
        _refuse(f"'{name}' is not a whole number from {low} to {high}")
    return value


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = _get(fields, name)
    if type(value) is not bool:
        _refuse(f"'{name}' is not true or false")
    return value


def _text(fields: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = _get(fields, name)
    if not isinstance(value, str) or not form.fullmatch(value):
        _refuse(f"'{name}' has not the form {form.pattern}")
    return value


def _time(fields: Mapping[str, Any], name: str) -> int:
    try:
        return int(datetime.fromisoformat(_text(fields, name, _TIME)).timestamp())
    except ValueError:
        _refuse(f"'{name}' is no time")


def _tombstones(fields: Mapping[str, Any]) -> tuple[TombstoneFile, ...]:
    value = _get(fields, "tombstones")
    if value is None:  # publications made before there were tombstones
        return ()
    if not isinstance(value, list) or len(value) > TOMBSTONE_FILES_MAX or not all(isinstance(v, dict) for v in value):
        _refuse(f"'tombstones' is not a list of at most {TOMBSTONE_FILES_MAX} objects")
    files = tuple(
        TombstoneFile(_text(file, "sha256", _DIGEST), _integer(file, "count", 1, COUNT_MAX)) for file in value
    )
    if len({file.sha256 for file in files}) != len(files):
        _refuse("'tombstones' names a file twice")
    return files


def _keyring(fields: Mapping[str, Any], name: str) -> KeyringDescription:
    value = _get(fields, name)
    if not isinstance(value, dict):
        _refuse(f"'{name}' is not an object")
    if _integer(value, "format", 1, REVISION_MAX) != KEYRING_FORMAT:
        _refuse(f"'{name}' has format {value['format']}, this reader knows {KEYRING_FORMAT}")
    _check_features(value)
    keyring = KeyringDescription.from_json(value)
    if len(keyring.peppers) > PEPPERS_MAX or len(keyring.prefixes) > PREFIXES_MAX or keyring.records > COUNT_MAX:
        raise UnsoundPublication(f"'{name}' has more peppers, prefixes or records than a reader takes", code="LIMIT")
    return keyring


def _refuse(message: str) -> NoReturn:
    raise UnsoundPublication(message, code="FORMAT")
