"""Ed25519 signatures of manifests: one line of text, checked before anything of the manifest is parsed."""

import base64
import binascii
import hashlib
import re
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from verifier.errors import InvalidInput, NotFound, Unavailable, UnsoundPublication

CONTEXT = b"verifier publication 1\n"  # so that no signature made for another purpose can ever fit
LINE_BYTES_MAX = 256
TRUSTED_BYTES_MAX = 65_536

_LINE = re.compile(rb"ed25519 ([0-9a-f]{16}) ([A-Za-z0-9+/]{86}==)\n")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


def key_id_of(key: Ed25519PublicKey) -> str:
    """Return the id of a public key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


class SigningKey:
    """The publisher's private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = key_id_of(key.public_key())

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> "SigningKey":
        """Read a private key that nobody but its owner can read.

        Args:
            path: PKCS#8 PEM, not encrypted.

        Raises:
            NotFound: there is no such file (``NO_SIGNING_KEY``).
            Unavailable: others can read it (``SECRET_EXPOSED``), or it holds no such key.
        """
        check_private(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except FileNotFoundError:
            raise NotFound(
                f"there is no signing key at {path}",
                hint="only the folder of a publisher has one; if it is lost: verifier secrets new-signing-key",
                code="NO_SIGNING_KEY",
            ) from None
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Unavailable(f"{path} holds no private key in PEM, or an encrypted one", code="BAD_KEY") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Unavailable(f"{path} holds a key that is not Ed25519", code="BAD_KEY")
        return cls(key)

    def sign(self, manifest: bytes) -> bytes:
        """Return the signature line of a manifest's bytes."""
        signature = base64.b64encode(self._key.sign(CONTEXT + manifest))
        return b"ed25519 %s %s\n" % (self.key_id.encode(), signature)

    def private_pem(self) -> bytes:
        """Return the private key as PKCS#8 PEM, not encrypted."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public_pem(self) -> bytes:
        """Return the public key as PEM."""
        return public_pem_of(self._key.public_key())


class Trust:
    """The public keys whose signatures are accepted.

    Args:
        keys: at least one public key.
    """

    def __init__(self, *keys: Ed25519PublicKey) -> None:
        if not keys:
            raise InvalidInput("no key is trusted, so nothing could be accepted", code="NO_TRUSTED_KEY")
        self._keys = {key_id_of(key): key for key in keys}

    @classmethod
    def load(cls, path: Path) -> "Trust":
        """Read one or more public keys.

        Args:
            path: the keys in PEM, one after the other.

        Raises:
            NotFound: there is no such file (``NO_TRUSTED_KEY``).
            Unavailable: it cannot be read, or holds something else.
        """
        return cls(*read_public_keys(path).values())

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the trusted keys."""
        return tuple(self._keys)

    def verify(self, manifest: bytes, line: bytes) -> str:
        """Check the signature of a manifest's bytes, before they are parsed.

        Args:
            manifest: the bytes as stored.
            line: the signature file, whole.

        Returns:
            The id of the key that signed.

        Raises:
            UnsoundPublication: ``BAD_SIGNATURE``.
        """
        match = _LINE.fullmatch(line)
        if match is None:
            raise _bad("the signature is not one line 'ed25519 KEY_ID BASE64'")
        key_id = match[1].decode()
        key = self._keys.get(key_id)
        if key is None:
            raise _bad(f"it is signed with key {key_id}, which is not trusted here")
        try:
            key.verify(_decoded(match[2]), CONTEXT + manifest)
        except InvalidSignature:
            raise _bad("the signature does not fit the manifest") from None
        return key_id


def read_public_keys(path: Path) -> dict[str, Ed25519PublicKey]:
    """Read one or more public keys in PEM, by their ids; raises as :meth:`Trust.load`."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            f"there are no trusted keys at {path}",
            hint="is this the right folder? `verifier init` makes one, or copy trusted.pem from the publisher",
            code="NO_TRUSTED_KEY",
        ) from None
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    return parse_public_keys(text, str(path))


def parse_public_keys(text: bytes, where: str) -> dict[str, Ed25519PublicKey]:
    """Read one or more public keys in PEM, by their ids.

    Args:
        text: the keys, one after the other.
        where: they come from, for the message.

    Raises:
        Unavailable: there are none, or they are damaged or too many (``BAD_KEY``).
    """
    if len(text) > TRUSTED_BYTES_MAX:
        raise Unavailable(f"{where} is larger than {TRUSTED_BYTES_MAX} bytes", code="BAD_KEY")
    keys = [_public_key(block, where) for block in _PEM.findall(text)]
    if not keys:
        raise Unavailable(f"{where} holds no public key in PEM", code="BAD_KEY")
    return {key_id_of(key): key for key in keys}


def public_pem_of(key: Ed25519PublicKey) -> bytes:
    """Return a public key as PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def signer_of(line: bytes) -> str | None:
    """Return the id of the key that a signature line says it is of, unchecked; None if it is no such line."""
    match = _LINE.fullmatch(line)
    return match[1].decode() if match else None


def check_private(path: Path) -> None:
    """Refuse a private file that anyone but its owner can read or change.

    Raises:
        Unavailable: ``SECRET_EXPOSED``.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # reading it says what is wrong
    if mode & 0o077:
        raise Unavailable(
            f"{path} has mode {mode:04o}: others than its owner can reach the private key",
            hint=f"chmod 600 {path}",
            code="SECRET_EXPOSED",
        )


def _decoded(text: bytes) -> bytes:
    """Decode base64 in its one canonical form; several texts would otherwise stand for one signature."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _bad("the signature is not base64") from None
    if base64.b64encode(raw) != text:
        raise _bad("the signature is not canonical base64")
    return raw


def _public_key(block: bytes, where: str) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm):
        raise Unavailable(f"{where} holds a damaged public key", code="BAD_KEY") from None
    if not isinstance(key, Ed25519PublicKey):
        raise Unavailable(f"{where} holds a key that is not Ed25519", code="BAD_KEY")
    return key


def _bad(message: str) -> UnsoundPublication:
    return UnsoundPublication(message, code="BAD_SIGNATURE")
