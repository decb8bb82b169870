"""The key that a request presents: where it may be, whether there is exactly one, and how it is taken out again."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from verifier.errors import InvalidInput

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?::[ ]*([!#$%&'*+.^_`|~0-9A-Za-z-]+))?")
_QUERY = re.compile(r"query:[ ]*([A-Za-z0-9_.~-]+)")
IDENTITY_PREFIX = b"x-verifier-"


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
        """Return the key in a header's value, None when there is none."""
        value = value.strip(b" \t")
        if not self.scheme:
            return value or None
        scheme, _, key = value.partition(b" ")
        return (key.lstrip(b" ") or None) if scheme.lower() == self.scheme else None


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


def parse_place(text: str) -> Place:
    """Read a place: ``authorization: Bearer``, ``x-api-key`` or ``query:api_key``.

    Raises:
        InvalidInput: it is none of these.
    """
    query = _QUERY.fullmatch(text)
    if query is not None:
        return Place(query[1].encode(), b"", True)
    header = _HEADER.fullmatch(text)
    if header is None or header[1].lower().startswith(IDENTITY_PREFIX.decode()):
        raise InvalidInput(
            f"{text!r} is not a place for keys", hint="write authorization: Bearer, x-api-key or query:api_key"
        )
    return Place(header[1].lower().encode(), (header[2] or "").lower().encode(), False)


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
        if not places:
            raise InvalidInput("no place for keys was named")
        self.headers: dict[bytes, tuple[Place, ...]] = {}
        for place in places:
            if not place.in_query:
                self.headers[place.name] = (*self.headers.get(place.name, ()), place)
        self.first = places[0]
        self._parameters = {place.name: place for place in places if place.in_query}

    def find(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> Presented:
        """Look for keys.

        Args:
            headers: names in lower case with their values; others than those of the places do no harm.
            query: the query of the request's URL, without its question mark.
        """
        found = [
            (place, key)
            for name, value in headers
            if name in self.headers
            for place in self.headers[name]
            if (key := place.read(value)) is not None
        ]
        if query and self._parameters:
            found += [(self._parameters[name], value) for name, value in _parameters(query)
                      if name in self._parameters and value]
        if not found:
            return MISSING
        place, key = found[0]
        # Servers and proxies may join a header that comes twice by commas.
        if len(found) > 1 or (b"," in key and not place.in_query):
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


def _parameters(query: bytes) -> Iterable[tuple[bytes, bytes]]:
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        yield _decoded(name), _decoded(value)


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
