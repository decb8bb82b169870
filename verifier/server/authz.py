"""How a node's settings say that gateways are answered: text to :class:`verifier._authz.Authz`."""

import re
from typing import TYPE_CHECKING

from verifier._authz import FIXED_HEADERS, Authz
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.server.settings import Settings

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
OWN_PREFIX = "x-verifier-"
# Headers that say what a request is or where it goes, and the one that callers' addresses are read from.
UNFIT = {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "x-forwarded-for"}


def key_place(text: str) -> str:
    """Check where a key may be: ``HEADER``, ``HEADER: SCHEME`` or ``query:NAME``."""
    match = re.fullmatch(rf"({NAME})(?:\s*:\s*({NAME}))?", text)
    if match is None or match[1].lower() in UNFIT or match[1].lower().startswith(OWN_PREFIX):
        raise ValueError("write HEADER, HEADER: SCHEME or query:NAME, and no header that gateways need")
    return text


def realm(text: str) -> str:
    """Check a realm: what may stand between quotes in WWW-Authenticate."""
    if re.fullmatch(r'[\x20\x21\x23-\x5B\x5D-\x7E]{1,128}', text) is None:
        raise ValueError('write 1 to 128 printable characters, without " and \\')
    return text


def metadata_name(text: str) -> str:
    """Check a metadata name that becomes a header."""
    if re.fullmatch(NAME, text) is None or header_of(text) in FIXED_HEADERS:
        raise ValueError(f"write a name of 1 to 64 letters, digits, dots, underscores and hyphens, but none of "
                         f"{', '.join(name.removeprefix(OWN_PREFIX) for name in FIXED_HEADERS)}")
    return text


def header_of(name: str) -> str:
    """Return the header that tells a metadata name: gateways drop or merge names with underscores and dots."""
    return OWN_PREFIX + re.sub(r"[._]", "-", name.lower())


def place_of(text: str) -> tuple[str, str, str]:
    """Split a place into kind, name and scheme."""
    name, _, rest = (part.strip() for part in text.partition(":"))
    if name.lower() == "query" and rest:
        return "query", rest, ""
    return ("scheme", name.lower(), rest.lower()) if rest else ("header", name.lower(), "")


def authz_of(settings: "Settings") -> Authz | None:
    """Return how gateways are answered, or None where they are not.

    Raises:
        InvalidInput: places or headers that contradict each other, or too many of them.
    """
    if settings.authz == "off":
        return None
    places = tuple(place_of(text) for text in settings.authz_keys)
    metadata = tuple((name, header_of(name)) for name in settings.authz_metadata)
    if not places:
        raise InvalidInput("authz_keys names no place where a key may be", hint="--authz off answers no gateways")
    for what, names in (("authz_keys", places), ("authz_metadata", tuple(header for _, header in metadata))):
        if len(set(names)) < len(names):
            raise InvalidInput(f"{what} says the same twice")
    whole = {name for kind, name, _ in places if kind == "header"}
    if whole & {name for kind, name, _ in places if kind == "scheme"}:
        raise InvalidInput("authz_keys names a header both with and without a scheme")
    try:
        return Authz(
            places, metadata=metadata, realm=settings.authz_realm, minimal=settings.authz_disclose == "minimal",
            deprecation=settings.authz_deprecation == "on", answer_faults=settings.authz_faults == "answer",
            forwarded_hops=settings.authz_forwarded_hops,
        )  # fmt: skip
    except ValueError as error:
        raise InvalidInput(str(error)) from error
