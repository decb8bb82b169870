"""Changing the publisher's signing key without a publication that a node refuses.

The order is: make the next key beside the present one; have it trusted here and bring ``trusted.pem`` to every node;
switch; publish, and see that all nodes serve it; distrust the old key, and bring ``trusted.pem`` to the nodes again.
"""

from pathlib import Path

from verifier.errors import Conflict, InvalidInput, NotFound
from verifier.store import durable
from verifier.store.secrets import Secrets
from verifier.store.signing import TRUSTED_BYTES_MAX, SigningKey, parse_public_keys, public_pem_of, read_public_keys

NEXT = "signing.next.pem"


def next_path(secrets: Secrets) -> Path:
    """Say where the next private key lies until it is switched to."""
    return secrets.folder / NEXT


def make_next(secrets: Secrets) -> SigningKey:
    """Make a signing key beside the present one, and trust it here; return it. A repeat returns the same.

    Raises:
        Unavailable: the disk refused.
    """
    with secrets.locked():
        path = next_path(secrets)
        if not path.exists():
            durable.write_once(path, SigningKey.generate().private_pem(), mode=0o600)
        key = SigningKey.load(path)
        _trust(secrets, key.public_pem())
        return key


def switch(secrets: Secrets) -> SigningKey:
    """Sign with the next key from now on; the old private key is gone then. Return the key that signs now.

    Raises:
        NotFound: there is no next key (``NO_SIGNING_KEY``).
        Conflict: it is not trusted here (``NOT_TRUSTED``), so nodes would refuse what it signs.
    """
    with secrets.locked():
        path = next_path(secrets)
        key = SigningKey.load(path)
        if key.key_id not in trusted_ids(secrets):
            raise Conflict(
                f"nodes would refuse what signing key {key.key_id} signs: it is not in {secrets.trusted_path}",
                hint="trust it, and bring trusted.pem to the nodes first",
                code="NOT_TRUSTED",
            )
        # Copied, then removed: whenever the process dies, there is a key to sign with.
        durable.replace(secrets.signing_path, key.private_pem(), mode=0o600)
        durable.remove(path)
        return key


def trust(secrets: Secrets, public_pem: bytes) -> tuple[str, ...]:
    """Trust further public keys, such as another publisher's; return the ids of those that are new.

    Args:
        secrets: whose trusted keys.
        public_pem: one or more public keys in PEM.

    Raises:
        Unavailable: there is none in it (``BAD_KEY``).
        InvalidInput: ``trusted.pem`` would become too large (``LIMIT``).
    """
    with secrets.locked():
        return _trust(secrets, public_pem)


def distrust(secrets: Secrets, key_id: str) -> None:
    """Trust a public key no longer: nodes that get this ``trusted.pem`` refuse all that it signed.

    What is published now must be signed with another key by then, or a node that starts has nothing to serve.

    Raises:
        NotFound: it is not trusted (``NO_TRUSTED_KEY``).
        Conflict: it is the only one, or what the publisher signs with now or next (``IN_USE``).
    """
    with secrets.locked():
        keys = read_public_keys(secrets.trusted_path)
        if key_id not in keys:
            raise NotFound(f"key {key_id} is not trusted", hint=f"trusted: {', '.join(keys)}", code="NO_TRUSTED_KEY")
        if len(keys) == 1 or key_id in _own(secrets):
            raise Conflict(
                f"key {key_id} is in use: nothing that is published could be served",
                hint="make another one, bring it to the nodes, and switch to it first",
                code="IN_USE",
            )
        left = [public_pem_of(key) for other, key in keys.items() if other != key_id]
        durable.replace(secrets.trusted_path, b"".join(left))


def trusted_ids(secrets: Secrets) -> tuple[str, ...]:
    """Return the ids of the keys that are trusted; none if there is no ``trusted.pem``."""
    try:
        return secrets.trust().key_ids
    except NotFound:
        return ()


def _trust(secrets: Secrets, public_pem: bytes) -> tuple[str, ...]:
    added = parse_public_keys(public_pem, "what is to be trusted")
    known = trusted_ids(secrets)
    new = {key_id: key for key_id, key in added.items() if key_id not in known}
    if new:
        present = secrets.trusted_path.read_bytes() if known else b""
        text = present + b"".join(public_pem_of(key) for key in new.values())
        if len(text) > TRUSTED_BYTES_MAX:
            raise InvalidInput(f"{secrets.trusted_path} would have more than {TRUSTED_BYTES_MAX} bytes", code="LIMIT")
        durable.replace(secrets.trusted_path, text)
    return tuple(new)


def _own(secrets: Secrets) -> set[str]:
    paths = (secrets.signing_path, next_path(secrets))
    return {SigningKey.load(path).key_id for path in paths if path.exists()}
