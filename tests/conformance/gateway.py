"""How gateways are answered, written a second time in plain Python: the oracle of `_asked`, `_decided` and `_envoy`.

Requests are plain data, verdicts come from :mod:`tests.conformance.reference`, and answers are what
:func:`tests.support.ext_authz.told` reads. Rules: the public codes, statuses and disclosure of the decision table.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from tests.conformance import reference
from tests.conformance.reference import SCOPE_CHARACTERS, Fault, Moment, World
from tests.conformance.requests import BYTES, piece
from tests.support.ext_authz import Told
from verifier._authz import Authz
from verifier.v1 import verifier_pb2 as pb
from verifier.vocabulary import Phase, Verdict

STATUS = {401: (16, "Unauthorized"), 403: (7, "Forbidden"), 400: (3, "Bad Request")}
DETAIL = {
    "invalid_key": "The API key is not valid.", "missing_key": "The request has no API key.",
    "multiple_keys": "The request has more than one API key.", "key_revoked": "The API key was revoked.",
    "key_disabled": "The API key is switched off.", "key_not_active": "The API key is not active yet.",
    "key_expired": "The API key has expired.", "unauthorized": "A valid API key is required.",
    "address_not_allowed": "The API key may not be used from this address.",
    "insufficient_scope": "The API key lacks a scope that is required here.",
}  # fmt: skip
CODES = {
    Verdict.MALFORMED: (401, "invalid_key"), Verdict.UNKNOWN: (401, "invalid_key"),
    Verdict.REVOKED: (401, "key_revoked"), Verdict.CLIENT_DISABLED: (401, "key_disabled"),
    Verdict.KEY_DISABLED: (401, "key_disabled"), Verdict.NOT_YET_ACTIVE: (401, "key_not_active"),
    Verdict.EXPIRED: (401, "key_expired"), Verdict.ADDRESS_NOT_ALLOWED: (403, "address_not_allowed"),
    Verdict.INSUFFICIENT_SCOPE: (403, "insufficient_scope"),
}  # fmt: skip
BLANKS = b" \t"


@dataclass(frozen=True)
class Config:
    """The arguments of :class:`verifier._authz.Authz`."""

    places: tuple[tuple[str, str, str], ...] = (("scheme", "authorization", "bearer"), ("header", "x-api-key", ""))
    metadata: tuple[tuple[str, str], ...] = ()
    realm: str = "api"
    minimal: bool = False
    deprecation: bool = True
    forwarded_hops: int = 0

    def authz(self) -> Authz:
        """The compiled form."""
        return Authz(self.places, metadata=self.metadata, realm=self.realm, minimal=self.minimal,
                     deprecation=self.deprecation, forwarded_hops=self.forwarded_hops)


@dataclass(frozen=True)
class Request:
    """What a gateway says of a request."""

    headers: Sequence[tuple[bytes, bytes]] = ()
    path: bytes = b"/"
    scopes: Sequence[bytes] = ()
    address: bytes = b""


@dataclass
class _Found:
    keys: list[tuple[int, bytes]] = field(default_factory=list)  # place and key
    repeated: bool = False


def safe(text: str) -> str:
    """A text as it stands in a header."""
    raw = text.encode()
    inside = range(len(raw) - len(raw.lstrip(b" ")), len(raw.rstrip(b" ")))
    return "".join(
        chr(byte) if (0x21 <= byte <= 0x7E and byte != 0x25) or (byte == 0x20 and at in inside) else f"%{byte:02X}"
        for at, byte in enumerate(raw)
    )


def find_keys(config: Config, request: Request) -> _Found:
    """Collect the keys of a request, and whether a header that holds one is there more than once."""
    found = _Found()
    for number, (kind, name, scheme) in enumerate(config.places):
        if kind == "query":
            query = request.path.partition(b"?")[2]
            for parameter in query.split(b"&"):
                key, _, value = parameter.partition(b"=")
                if key == name.encode() and value:
                    decoded = unquote_to_bytes(value)
                    found.keys.append((number, decoded if len(decoded) <= 512 else value))
            continue
        values = [part.strip(BLANKS) for header, value in request.headers if header == name.encode()
                  for part in value.split(b",")]
        if kind == "scheme":
            mine = [value for value in values if value[: len(scheme)].lower() == scheme.encode()
                    and value[len(scheme) : len(scheme) + 1] in (b"", b" ", b"\t")]
            keys = [value[len(scheme) :].strip(BLANKS) for value in mine]
        else:
            keys = values
        keys = [key for key in keys if key]
        found.keys += [(number, key) for key in keys]
        found.repeated |= bool(keys) and len(values) > 1
    return found


def forwarded(config: Config, request: Request) -> bytes:
    """The address that the outermost trusted proxy saw."""
    lines = [value for name, value in request.headers if name == b"x-forwarded-for"]
    entries = [entry.strip(BLANKS) for line in lines for entry in line.split(b",")]
    return entries[-config.forwarded_hops] if len(entries) >= config.forwarded_hops else b""


def parsed(text: bytes) -> bytes | None:
    """An address as the reference takes it, or None."""
    try:
        reference.verify(World(1, {}), Moment(0), piece(3, BYTES, text))
    except Fault:
        return None
    return text or None


def address_of(config: Config, request: Request) -> bytes | None:
    """The caller's address in text; b"" for none, None for what is no address."""
    if config.forwarded_hops:
        text = forwarded(config, request)
        if text.startswith(b"["):
            text = text[1:].partition(b"]")[0]
        elif text.count(b":") == 1:
            text = text.partition(b":")[0]
        return parsed(text.partition(b"%")[0]) or b""
    text = request.address.partition(b"%")[0]
    return b"" if not text else parsed(text)


def scopes_of(request: Request) -> list[bytes] | None:
    """All required scopes; None where one is none, or there are too many."""
    scopes = [scope for text in request.scopes for scope in text.replace(b",", b" ").replace(b"\t", b" ").split(b" ")
              if scope]
    if len(scopes) > 64 or any(len(scope) > 128 or set(map(chr, scope)) - SCOPE_CHARACTERS for scope in scopes):
        return None
    return scopes


def challenge(config: Config, place: int, error: str = "") -> str:
    """WWW-Authenticate."""
    bearer = config.places[place][2] == "bearer"
    more = f', error="{error}"' if error and bearer else ""
    return f'{"Bearer" if bearer else "ApiKey"} realm="{config.realm}"{more}'


def body(config: Config, status: int, code: str, **more: str) -> str:
    """Problem details."""
    if config.minimal and status == 401:
        code, more = "unauthorized", {}
    return json.dumps({"type": "about:blank", "title": STATUS[status][1], "status": status, "code": code,
                       "detail": DETAIL[code], **more}, separators=(",", ":"))


def refusal(config: Config, status: int, code: str, authenticate: str = "", **more: str) -> Told:
    """A refusal, as the caller sees it."""
    headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
    if authenticate:
        headers["www-authenticate"] = authenticate
    return Told(STATUS[status][0], status, headers, [], [], {}, body(config, status, code, **more), {"code": code})


def answer(config: Config, world: World, moment: Moment, request: Request) -> Told | int:
    """Answer a request; 400 alone for a bad one."""
    address, scopes = address_of(config, request), scopes_of(request)
    if address is None or scopes is None:
        return 400
    own = {f"x-verifier-{name}" for name in ("client", "key-id", "version", "phase", "scopes", "revision")}
    own |= {header for _, header in config.metadata}
    if any(name.decode("latin-1").replace("_", "-") in own for name, _ in request.headers if b"_" in name):
        return 400
    found = find_keys(config, request)
    if not found.keys:
        return refusal(config, 401, "missing_key", challenge(config, 0))
    if len(found.keys) > 1 or found.repeated:
        return refusal(config, 401, "multiple_keys", challenge(config, 0, "invalid_request"))
    ((place, key),) = found.keys
    message = piece(1, BYTES, key) + b"".join(piece(2, BYTES, scope) for scope in scopes)
    message += piece(3, BYTES, address) if address else b""
    response = pb.VerifyResponse.FromString(reference.verify(world, moment, message))
    return outcome(config, place, response, b" ".join(scopes).decode())


def outcome(config: Config, place: int, response: pb.VerifyResponse, required: str) -> Told:
    """What becomes of a verdict."""
    verdict, phase = Verdict(response.verdict), Phase(response.phase)
    facts = {
        "x-verifier-client": safe(response.client_id), "x-verifier-key-id": safe(response.key_id),
        "x-verifier-version": str(response.version or ""), "x-verifier-phase": phase.name if phase else "",
        "x-verifier-scopes": " ".join(response.scopes), "x-verifier-revision": str(response.revision),
    } | {header: safe(response.metadata.get(name, "")) for name, header in config.metadata}
    metadata = {name.removeprefix("x-verifier-").replace("-", "_"): value for name, value in facts.items() if value}
    if verdict is not Verdict.VALID:
        status, code = CODES[verdict]
        authenticate = challenge(config, place, "invalid_token") if status == 401 else ""
        if verdict is Verdict.INSUFFICIENT_SCOPE:
            authenticate = challenge(config, place, "insufficient_scope")
            if config.places[place][2] == "bearer" and len(required) < 1024:
                authenticate += f', scope="{required}"'
        more = {}
        if verdict is Verdict.EXPIRED:
            more["expires_at"] = timestamp(response.expires_at.seconds)
        if verdict is Verdict.NOT_YET_ACTIVE:
            more["not_before"] = timestamp(response.not_before.seconds)
        refused = refusal(config, status, code, authenticate, **more)
        return Told(**{**vars(refused), "metadata": metadata | {"verdict": verdict.name, "code": code}})
    kind, name, _ = config.places[place]
    removed = ([], [name]) if kind == "query" else ([name], [])
    caller = retirement(config, response) if phase is Phase.RETIRING else {}
    return Told(0, 200, facts, *removed, caller, "", metadata | {"verdict": "VALID"})


def retirement(config: Config, response: pb.VerifyResponse) -> dict[str, str]:
    """What a caller with a retiring key is told."""
    end = response.expires_at.seconds
    told = {"x-api-key-phase": "retiring" + (f"; successor={response.superseded_by}" if response.superseded_by else "")
            + (f"; end={end}" if end else "")}
    if config.deprecation:
        told["deprecation"] = f"@{response.superseded_at.seconds}"
        if end:
            told["sunset"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(end))
    return told | {"cache-control": "private"}


def timestamp(moment_s: int) -> str:
    """RFC 3339."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment_s))
