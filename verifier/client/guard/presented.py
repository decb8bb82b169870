"""The key that a request presents: where it may be, whether there is exactly one, and how it is taken out again."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from verifier.errors import InvalidInput

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_PLACE = re.compile(rf"({_NAME})(?:\s*:\s*({_NAME}))?")
_BLANK = b" \t"
RawHeaders = list[tuple[bytes, bytes]]
IDENTITY_PREFIX = b"x-verifier-"
# Headers that say what a request is or where it goes, and the one that callers' addresses are read from.
_UNFIT = {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "x-forwarded-for"}


@dataclass(frozen=True, slots=True)
class Place:
    """A place for keys: a header with or without a scheme, or a query parameter.

    Attributes:
        name: of the header in lower case, or of the parameter.
        scheme: in lower case, empty when the header's value is the key itself.
        in_query: whether it is a query parameter.
    """

    name: bytes
    scheme: bytes
    in_query: bool

    @property
    def is_bearer(self) -> bool:
        """Whether RFC 6750 speaks of this place."""
        return self.scheme == b"bearer"

    def read(self, value: bytes) -> bytes | None:
        """Return the key in a header's value, None when there is none.

        Servers and proxies may join a header that comes twice by commas: then it is the whole value, if there is a key
        in any part of it.
        """
        if b"," in value:
            return value if any(self._read_one(part) is not None for part in value.split(b",")) else None
        return self._read_one(value)

    def _read_one(self, value: bytes) -> bytes | None:
        value = value.strip(_BLANK)
        if not self.scheme:
            return value or None
        length = len(self.scheme)
        if value[:length].lower() != self.scheme or value[length : length + 1] not in (b" ", b"\t"):
            return None
        return value[length:].strip(_BLANK) or None


class Presented(NamedTuple):
    """What was found.

    Attributes:
        keys: how many; 2 stands for more, too.
        token: the key, when there is exactly one.
        place: of the first key; None when there is none.
    """

    keys: int
    token: bytes
    place: Place | None

    def __repr__(self) -> str:
        """Leave the key out, since tools that report errors print variables."""
        return f"Presented(keys={self.keys}, place={self.place})"


def parse_place(text: str) -> Place:
    """Read a place: ``authorization: Bearer``, ``x-api-key`` or ``query:api_key``.

    Raises:
        InvalidInput: it is none of these.
    """
    match = _PLACE.fullmatch(text)
    name = match[1].lower() if match else ""
    if match is None or name in _UNFIT or name.startswith(IDENTITY_PREFIX.decode()):
        raise InvalidInput(
            f"{text!r} is not a place for keys", hint="write authorization: Bearer, x-api-key or query:api_key"
        )
    if name == "query" and match[2]:
        return Place(match[2].encode(), b"", True)
    return Place(name.encode(), (match[2] or "").lower().encode(), False)


class Places:
    """All places of a service, ready to be searched.

    Attributes:
        headers: the places in headers, by the header's name.
        first: the place that callers without a key are told of.

    Args:
        texts: the places, as :func:`parse_place` reads them.

    Raises:
        InvalidInput: there is none, or one is not usable.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        places = [parse_place(text) for text in texts]
        if not places or len(set(places)) < len(places):
            raise InvalidInput("no place for keys was named, or one twice")
        self.headers: dict[bytes, tuple[Place, ...]] = {}
        for place in places:
            if not place.in_query:
                self.headers[place.name] = (*self.headers.get(place.name, ()), place)
        if any(len(several) > 1 and not all(place.scheme for place in several) for several in self.headers.values()):
            raise InvalidInput("a header is named both with and without a scheme")
        self.first = places[0]
        self._parameters = {place.name: place for place in places if place.in_query}

    def find(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> Presented:
        """Look for keys.

        Args:
            headers: names in lower case with their values; others than those of the places do no harm.
            query: the query of the request's URL, without its question mark.
        """
        named = [pair for pair in headers if pair[0] in self.headers]
        found = [
            (place, key) for name, value in named for place in self.headers[name]
            if (key := place.read(value)) is not None
        ]  # fmt: skip
        if query and self._parameters:
            found += [
                (self._parameters[name], value)
                for name, value in _parameters(query)
                if name in self._parameters and value
            ]
        if not found:
            return MISSING
        place, key = found[0]
        if len(found) > 1 or (not place.in_query and (len(named) > 1 or b"," in key) and _is_repeated(place, named)):
            return Presented(2, b"", place)
        return Presented(1, key, place)

    def stripped_query(self, query: bytes) -> bytes:
        """Return a query without the parameters that are places for keys; the rest as it was."""
        if not query or not self._parameters:
            return query
        parts = query.split(b"&")
        return b"&".join(part for part in parts if _decoded(part.partition(b"=")[0]) not in self._parameters)


MISSING = Presented(0, b"", None)


def is_identity(name: bytes) -> bool:
    """Tell whether a header (in lower case) claims an identity; servers may write its dashes as underscores."""
    return name[:1] == b"x" and name.replace(b"_", b"-").startswith(IDENTITY_PREFIX)


def _is_repeated(place: Place, named: RawHeaders) -> bool:
    """Tell whether a place's header came more than once, whatever else it held: who reads it may read the other."""
    values = [value for name, value in named if name == place.name]
    return len(values) > 1 or b"," in values[0]


def _parameters(query: bytes) -> Iterable[tuple[bytes, bytes]]:
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        yield _decoded(name), _decoded(value)


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text)
