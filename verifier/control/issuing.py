"""Issuing a key."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import Connection

from verifier._issue import make_key_ids, make_tokens
from verifier._tag import Tagger
from verifier.control import accounts, lifecycle, records, tombs
from verifier.control.acting import Act
from verifier.control.policy import Policy, effective, inherited
from verifier.control.rows import key_row, version_row
from verifier.control.terms import Terms
from verifier.errors import InvalidInput, Unavailable
from verifier.registry import bulk, changes, queries
from verifier.registry.database import Registry
from verifier.registry.facts import Client, Key, Version


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """One new key with its token, which is shown once and stored nowhere; None if the caller brought it."""

    key: Key
    token: str | None

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.key_id!r})"


class Ordinals(NamedTuple):
    """The ordinals of a key and of its first version."""

    key: int
    version: int


def issue_key(
    act: Act,
    peppers: Sequence[bytes],
    client_id: str,
    terms: Terms,
    *,
    secret_sha256: bytes | None = None,
    policy: Policy | None = None,
) -> IssuedKey:
    """Make one key of a client, with its first version.

    Args:
        peppers: the secrets, in the order of the registry's pepper ids.
        client_id: of an existing client.
        terms: of the key.
        secret_sha256: of a token that the caller made and keeps, 32 bytes; then no token is returned.
        policy: how it is rotated, where its client's policy is not meant.

    Raises:
        NotFound: there is no such client.
        InvalidInput: the terms, the policy or the digest are not usable.
        Conflict: the caller's token is in use (``DUPLICATE``) or was compromised (``TOMBSTONED``).
    """
    terms = terms.checked(act.now_s)
    client = queries.find_client(act.connection, client_id)
    token, tag = make_secret(act, peppers, terms.prefix, secret_sha256)
    changes.use_prefix(act.connection, terms.prefix)
    ordinals = Ordinals(changes.reserve(act.connection, "next_key"), changes.reserve(act.connection, "next_version"))
    text = None if policy is None else policy.checked().to_text()
    (key_id,) = make_key_ids(1)
    key = first_key(client, terms, act.now_s, key_id=key_id, tag=tag, ordinals=ordinals, policy=text)
    key = due(act.connection, key)
    bulk.insert_keys(act.connection, [key_row(key)])
    bulk.insert_versions(act.connection, [version_row(key, key.label, records.encoded(key, key.label))])
    changes.count_changes(act.connection)
    act.audit("key.create", client_id=client_id, key_id=key_id, version=1, after=accounts.of_key(key))
    act.emit("key.created", client_id=client_id, key_id=key_id, version=1)
    return IssuedKey(key, token)


def make_secret(
    act: Act, peppers: Sequence[bytes], prefix: str, secret_sha256: bytes | None
) -> tuple[str | None, bytes]:
    """Return a new token with its tag, or None with the tag of the caller's own token.

    Args:
        peppers: as for :func:`issue_key`.
        prefix: of the new token.
        secret_sha256: of the caller's own.

    Raises:
        InvalidInput: the digest is not 32 bytes (``BAD_DIGEST``).
        Conflict: the caller's token is in use (``DUPLICATE``) or was compromised (``TOMBSTONED``).
    """
    if secret_sha256 is None:
        lines, (tag,) = make_tokens(prefix.encode("ascii"), 1, peppers)
        return lines.decode("ascii").strip(), tag
    if len(secret_sha256) != 32:
        raise InvalidInput("a SHA-256 has 32 bytes", code="BAD_DIGEST")
    tag = Tagger(peppers).tag_of_digest(secret_sha256)
    tombs.check_unused(act, tag)
    return None, tag


def due(connection: Connection, key: Key) -> Key:
    """Return a new key with the second at which the schedule rotates it."""
    policy = effective(Policy.from_text(key.policy), inherited(connection, key.client_ordinal))
    return replace(key, due_at=lifecycle.due_at(key, policy.max_age_s))


def pepper_secrets(registry: Registry, available: dict[str, bytes]) -> list[bytes]:
    """Return the peppers that the registry names, in the order of their layers.

    Args:
        available: the secrets by id, of ``Secrets.peppers()``.

    Raises:
        Unavailable: one is missing, so no tag can be made (``PEPPER_MISSING``).
    """
    with registry.read() as connection:
        names = queries.state(connection).peppers
    for name in names:
        if name not in available:
            raise Unavailable(
                f"pepper {name} is missing, which all tags of this registry are made with",
                hint=f"restore secrets/peppers/{name}",
                code="PEPPER_MISSING",
            )
    return [available[name] for name in names]


def first_key(
    client: Client, terms: Terms, now_s: int, *, key_id: str, tag: bytes, ordinals: Ordinals,
    entropy_bits: int | None = None, policy: str | None = None,
) -> Key:  # fmt: skip
    """Return a new key with its first version.

    Args:
        terms: in canonical form.
        now_s: when it is issued; a version that is good at once keeps an empty ``not_before``.
        key_id: its public name.
        tag: of its token.
        ordinals: reserved for it.
        entropy_bits: declared at import; None when the secret is made here.
        policy: its own, as the registry stores it.
    """
    version = Version(
        ordinal=ordinals.version, number=1, tag=tag, issued_at=now_s, not_before=terms.not_before,
        expires_at=terms.expires_at, entropy_bits=entropy_bits,
    )  # fmt: skip
    return Key(
        ordinal=ordinals.key, key_id=key_id, client_ordinal=client.ordinal, client_id=client.client_id, enabled=True,
        created_at=now_s, expires_at=terms.key_expires_at, scopes=terms.scopes, rules=terms.rules,
        metadata=terms.metadata, prefix=terms.prefix, policy=policy, versions=(version,),
    )  # fmt: skip
