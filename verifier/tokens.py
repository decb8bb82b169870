"""Tokens: their format, checksum, making, and the tag under which a keyring knows them.

A token is ``<prefix>_<secret><checksum>``. The last underscore separates, since base62 has none. The secret is at
least 27 base62 digits (160 random bits), the checksum six base62 digits of the CRC-32 of everything before it, the
prefix included, so that a typo is refused before anything is hashed. The checksum proves nothing else.

This is the plain Python form, the oracle of the compiled ``verifier._tag`` and ``verifier._issue``.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from verifier.errors import InvalidInput

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DEFAULT_PREFIX = "vk_live"
PREFIX_BYTES_MAX = 32
SECRET_DIGITS = 27
CHECKSUM_DIGITS = 6
TOKEN_BYTES_MAX = 512
TAG_BYTES = 32

_PREFIX = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_BODY = re.compile(rf"[0-9A-Za-z]{{{SECRET_DIGITS + CHECKSUM_DIGITS},}}")
_TOKEN_LIKE = re.compile(rf"[0-9A-Za-z]{{{SECRET_DIGITS},}}")


class MalformedToken(InvalidInput):
    """The text is not a token of this format, or its checksum is wrong. The message never quotes it."""

    code = "MALFORMED"


@dataclass(frozen=True, slots=True)
class Token:
    """The parts of a well-formed token. ``repr`` shows neither the secret nor the checksum."""

    prefix: str
    secret: str = field(repr=False)
    checksum: str = field(repr=False)

    @property
    def text(self) -> str:
        """The token as the caller presents it."""
        return f"{self.prefix}_{self.secret}{self.checksum}"


def check_prefix(prefix: str) -> str:
    """Return ``prefix`` if tokens may begin with it.

    Raises:
        InvalidInput: it is not lower-case letters and digits in words joined by ``_``, of at most 32 characters.
    """
    if len(prefix) > PREFIX_BYTES_MAX or _PREFIX.fullmatch(prefix) is None:
        raise InvalidInput(
            "the prefix is not usable",
            hint=f"lower-case letters and digits, words joined by _, at most {PREFIX_BYTES_MAX} characters: vk_live",
            code="BAD_PREFIX",
        )
    return prefix


def checksum(text: str | bytes) -> str:
    """Return the six base62 digits of the CRC-32 (IEEE 802.3) of ``text``, left-padded with ``0``."""
    value = zlib.crc32(_ascii(text))
    digits = ""
    for _ in range(CHECKSUM_DIGITS):
        value, digit = divmod(value, 62)
        digits = BASE62[digit] + digits
    return digits


def generate(prefix: str = DEFAULT_PREFIX) -> str:
    """Make a new token from the system's source of randomness.

    Raises:
        InvalidInput: see :func:`check_prefix`.
    """
    head = f"{check_prefix(prefix)}_" + "".join(secrets.choice(BASE62) for _ in range(SECRET_DIGITS))
    return head + checksum(head)


def parse(token: str | bytes) -> Token:
    """Split a token into its parts and check its shape and checksum.

    Raises:
        MalformedToken: it is empty, too long, not ASCII, of another shape, or its checksum is wrong.
    """
    data = _ascii(token)
    if not 0 < len(data) <= TOKEN_BYTES_MAX:
        raise MalformedToken(f"a token has 1 to {TOKEN_BYTES_MAX} characters")
    prefix, separator, body = data.decode("ascii").rpartition("_")
    if not separator or len(prefix) > PREFIX_BYTES_MAX or _PREFIX.fullmatch(prefix) is None:
        raise MalformedToken("the token has no usable prefix")
    if _BODY.fullmatch(body) is None:
        raise MalformedToken("the token's secret is too short or not base62")
    secret, digits = body[:-CHECKSUM_DIGITS], body[-CHECKSUM_DIGITS:]
    if checksum(data[:-CHECKSUM_DIGITS]) != digits:
        raise MalformedToken("the token's checksum is wrong: a typo, or not all of it")
    return Token(prefix, secret, digits)


def tag(token: str | bytes, peppers: Sequence[bytes]) -> bytes:
    """Return the 32-byte tag of a token: layers of HMAC-SHA-256 over its SHA-256, one for each pepper, in order."""
    return tag_of_digest(hashlib.sha256(_ascii(token)).digest(), peppers)


def tag_of_digest(digest: bytes, peppers: Sequence[bytes]) -> bytes:
    """Return the tag of a token of which only the SHA-256 is known.

    Raises:
        ValueError: the digest is not 32 bytes long, or there is no pepper.
    """
    if len(digest) != TAG_BYTES:
        raise ValueError("a SHA-256 digest has 32 bytes")
    if not peppers:
        raise ValueError("a tag needs at least one pepper")
    value = digest
    for pepper in peppers:
        value = hmac.digest(pepper, value, "sha256")
    return value


def quoted(name: str) -> str:
    """Quote a name that somebody gave, for a message; what may be a token by mistake is hidden."""
    return "of that name (it looks like a token)" if _TOKEN_LIKE.search(name) else repr(name[:64])


def _ascii(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if not data.isascii():
        raise MalformedToken("a token has ASCII characters only")
    return data
