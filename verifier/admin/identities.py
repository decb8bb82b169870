"""Who may use the operators' API: by bearer token, or by client certificate.

A token is ``va_`` and 256 random bits. The registry holds its SHA-256, by which it is looked up: what that takes tells
nothing of the token, and 256 bits are not guessed. It is shown once.
"""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace

from verifier.admin.context import Caller
from verifier.admin.roles import Role
from verifier.control.acting import Act
from verifier.control.lifecycle import check_time
from verifier.control.terms import check_id
from verifier.errors import Conflict, InvalidInput, NotAuthenticated, NotFound
from verifier.registry import identities
from verifier.registry.database import Registry
from verifier.registry.identities import Identity

TOKEN_PREFIX = "va_"  # noqa: S105 - what tokens begin with
TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 256
CERTIFICATE_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """An identity that was just made, with its token, which is stored nowhere."""

    identity: Identity
    token: str | None

    def __repr__(self) -> str:
        return f"NewIdentity({self.identity.name!r})"


def create(
    act: Act, name: str, role: str, *, certificate_name: str | None = None, expires_at: int | None = None
) -> NewIdentity:
    """Add an identity; with a certificate's name it has no token, else one is made.

    Args:
        name: 1 to 64 letters, digits, dots, underscores and hyphens.
        role: one of :class:`Role`.
        certificate_name: a common name or subject alternative name of the client certificate that it is known by.
        expires_at: from when on it is refused, in seconds since 1970; None for never.

    Raises:
        InvalidInput: something of this is not usable.
        Conflict: the name, or that of the certificate, is taken (``IDENTITY_EXISTS``).
    """
    check_id("identity", name)
    role = _role(role)
    _check_end(expires_at, act.now_s)
    if certificate_name is not None and not 1 <= len(certificate_name) <= CERTIFICATE_NAME_MAX:
        raise InvalidInput("a certificate's name has 1 to 255 characters", code="BAD_ID")
    token = None if certificate_name is not None else TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    taken = identities.matching(act.connection, certificate_names=[certificate_name] if certificate_name else [])
    if taken or identities.find(act.connection, name) is not None:
        raise Conflict("there is an identity of that name already", code="IDENTITY_EXISTS")
    made = Identity(name, role, token and digest_of(token), certificate_name, act.now_s, expires_at)
    identities.add(act.connection, made)
    act.audit("identity.create", identity=name, after=described(made))
    return NewIdentity(made, token)


def renew(act: Act, name: str, *, expires_at: int | None = None) -> NewIdentity:
    """Give an identity a new token; the old one is refused from the next call on.

    Raises:
        NotFound: there is none of that name.
        Conflict: it is known by a certificate (``NO_TOKEN``).
    """
    before = _found(act, name)
    if before.digest is None:
        raise Conflict(f"identity {name} is known by its certificate; it has no token", code="NO_TOKEN")
    _check_end(expires_at, act.now_s)
    token = TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    after = replace(before, digest=digest_of(token), expires_at=expires_at)
    identities.change(act.connection, name, digest=after.digest, expires_at=expires_at)
    act.audit("identity.renew", identity=name, before=described(before), after=described(after))
    return NewIdentity(after, token)


def set_enabled(act: Act, name: str, enabled: bool) -> Identity:
    """Refuse an identity from the next call on, or accept it again; a repeat changes nothing.

    Raises:
        NotFound: there is none of that name.
    """
    before = _found(act, name)
    if (before.disabled_at is None) == enabled:
        return before
    after = replace(before, disabled_at=None if enabled else act.now_s)
    identities.change(act.connection, name, disabled_at=after.disabled_at)
    action = "identity.enable" if enabled else "identity.disable"
    act.audit(action, identity=name, before=described(before), after=described(after))
    return after


def authenticate(registry: Registry, token: str | None, certificate_names: Collection[str], now_s: int) -> Caller:
    """Return who calls. A token decides alone if there is one; else the certificate.

    Args:
        registry: where they are.
        token: as it was sent; None when there was none.
        certificate_names: common name and subject alternative names of the client's certificate, which was verified.
        now_s: seconds since 1970.

    Raises:
        NotAuthenticated: it is none that is accepted now; says nothing of what was sent.
    """
    if token is not None:
        wanted = digest_of(token) if token.startswith(TOKEN_PREFIX) and len(token) <= TOKEN_CHARACTERS_MAX else ""
        with registry.read() as connection:
            found = identities.matching(connection, digest=wanted)
        found = [one for one in found if hmac.compare_digest(one.digest or "", wanted)]
    elif certificate_names:
        with registry.read() as connection:
            found = identities.matching(connection, certificate_names=certificate_names)
    else:
        raise NotAuthenticated(
            "the operators' API must know who calls",
            hint="--admin-token-file, or a client certificate; made with: verifier identity create NAME --role ROLE",
        )
    if len(found) != 1 or not found[0].is_good(now_s):  # a certificate of two identities is neither's
        raise NotAuthenticated("this token or certificate is not accepted: unknown, expired or disabled")
    kind = "cert" if token is None else "token"
    return Caller(f"{kind}:{found[0].name}", Role(found[0].role))


def digest_of(token: str) -> str:
    """Return what the registry holds of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def described(identity: Identity) -> dict[str, object]:
    """Return an identity's facts for the audit log, without the digest."""
    return {
        "role": identity.role, "certificate_name": identity.certificate_name, "expires_at": identity.expires_at,
        "disabled_at": identity.disabled_at,
    }  # fmt: skip


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise InvalidInput(f"a role is one of {', '.join(Role)}", code="BAD_ROLE") from None


def _check_end(expires_at: int | None, now_s: int) -> None:
    check_time("the identity's end", expires_at)
    if expires_at is not None and expires_at <= now_s:
        raise InvalidInput("the identity would have ended already", code="IN_THE_PAST")


def _found(act: Act, name: str) -> Identity:
    found = identities.find(act.connection, name)
    if found is None:
        raise NotFound(f"there is no identity {name[:64]!r}", hint="verifier identity list", code="IDENTITY_NOT_FOUND")
    return found
