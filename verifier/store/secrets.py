"""The secrets of a store: the publisher's signing key, the keys that nodes trust, and the peppers.

A pepper is never replaced: every tag ever made depends on it.
"""

import fcntl
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from verifier.errors import Conflict, InvalidInput, NotFound, Unavailable
from verifier.store import durable
from verifier.store.signing import SigningKey, Trust

PEPPER_BYTES = 32
PEPPERS_MAX = 64
PEPPER_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")

# Peppers of nodes that mount no secrets folder: "p1:64 hex digits", parted by spaces, commas or line ends.
PEPPERS_VARIABLE = "VERIFIER_PEPPERS"
PEPPERS_FILE_VARIABLE = "VERIFIER_PEPPERS_FILE"

_log = logging.getLogger(__name__)


class Secrets:
    """The ``secrets`` folder of a store, and what the environment adds to it.

    Args:
        folder: the folder; a node that gets everything else from its environment needs only ``trusted.pem`` in it.
        environment: where ``VERIFIER_PEPPERS`` and ``VERIFIER_PEPPERS_FILE`` are looked up; the process's by default.
    """

    def __init__(self, folder: Path | str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = Path(folder)
        self._environment = os.environ if environment is None else environment
        self._peppers_folder = self.folder / "peppers"

    def __repr__(self) -> str:
        return f"Secrets({str(self.folder)!r})"

    @property
    def signing_path(self) -> Path:
        """Where the private key lies."""
        return self.folder / "signing.pem"

    @property
    def trusted_path(self) -> Path:
        """Where the trusted public keys lie."""
        return self.folder / "trusted.pem"

    def create(self, pepper_id: str = "p1") -> None:
        """Make what is missing: a pepper, a signing key, and trust in that key. A repeat changes nothing.

        Args:
            pepper_id: name of the first pepper; not used when there is one already.

        Raises:
            Conflict: keys are trusted but none can sign, so this is no publisher's folder (``NO_SIGNING_KEY``).
            Unavailable: the disk refused, or a private file is exposed.
        """
        self._make_folders()
        with self.locked():
            for folder in (self.folder, self._peppers_folder):
                durable.remove_leftovers(folder)
            if not self._pepper_files():
                self._write_pepper(pepper_id)
            if not self.signing_path.exists():
                if self.trusted_path.exists():
                    raise Conflict(
                        f"{self.trusted_path} is there, but no signing key",
                        hint="restore signing.pem; or make a new key, and bring trusted.pem to the nodes",
                        code="NO_SIGNING_KEY",
                    )
                durable.write_once(self.signing_path, SigningKey.generate().private_pem(), mode=0o600)
            if not self.trusted_path.exists():
                durable.write_once(self.trusted_path, self.signing_key().public_pem())

    def peppers(self) -> dict[str, bytes]:
        """Return the peppers by id: those of the folder, and those of the environment.

        Raises:
            Conflict: folder and environment give one id two values.
            Unavailable: a pepper is damaged or cannot be read.
        """
        found = {path.name: self._read_pepper(path) for path in self._pepper_files()}
        for pepper_id, pepper in self._environment_peppers().items():
            if found.setdefault(pepper_id, pepper) != pepper:
                raise Conflict(f"pepper {pepper_id} of the environment is not the one in {self._peppers_folder}")
        return found

    def add_pepper(self, pepper_id: str) -> bytes:
        """Make a new pepper.

        Args:
            pepper_id: lower-case letters, digits and ``._-``, at most 32 characters.

        Raises:
            Conflict: there is one of this name (``PEPPER_EXISTS``).
            InvalidInput: the id is not of that form.
        """
        self._make_folders()
        with self.locked():
            return self._write_pepper(pepper_id)

    def signing_key(self) -> SigningKey:
        """Return the publisher's key; see :meth:`SigningKey.load`."""
        return SigningKey.load(self.signing_path)

    def trust(self) -> Trust:
        """Return the keys whose signatures are accepted; see :meth:`Trust.load`."""
        return Trust.load(self.trusted_path)

    def _make_folders(self) -> None:
        for folder in (self.folder, self._peppers_folder):
            durable.make_folder(folder, mode=0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing this folder."""
        descriptor = os.open(self._peppers_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _pepper_files(self) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted(path for path in self._peppers_folder.iterdir() if PEPPER_ID.fullmatch(path.name))
        return []

    def _write_pepper(self, pepper_id: str) -> bytes:
        if not PEPPER_ID.fullmatch(pepper_id):
            raise InvalidInput("a pepper id has lower-case letters, digits and '._-', at most 32 characters")
        if len(self._pepper_files()) >= PEPPERS_MAX:
            raise Conflict(f"there are {PEPPERS_MAX} peppers already", code="LIMIT")
        pepper = secrets.token_bytes(PEPPER_BYTES)
        if not durable.write_once(self._peppers_folder / pepper_id, pepper.hex().encode() + b"\n", mode=0o600):
            raise Conflict(f"there is a pepper {pepper_id} already", code="PEPPER_EXISTS")
        return pepper

    def _read_pepper(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(PEPPER_BYTES * 2 + 2)
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        if mode & 0o077:
            # Only a warning: orchestrators mount secrets with modes of their own.
            _log.warning("%s has mode %04o: others than its owner can read it (chmod 600)", path, mode)
        return _pepper_of(text.decode("ascii", "replace").removesuffix("\n"), str(path))

    def _environment_peppers(self) -> dict[str, bytes]:
        text = self._environment.get(PEPPERS_VARIABLE, "")
        file = self._environment.get(PEPPERS_FILE_VARIABLE)
        if file:
            try:
                text += "\n" + Path(file).read_text("ascii")
            except FileNotFoundError:
                raise NotFound(f"{PEPPERS_FILE_VARIABLE} names {file}, which does not exist") from None
            except (OSError, UnicodeDecodeError):
                raise Unavailable(f"cannot read {file}, named by {PEPPERS_FILE_VARIABLE}") from None
        return parse_peppers(text)


def parse_peppers(text: str) -> dict[str, bytes]:
    """Read peppers written as ``p1:64 hex digits``, parted by spaces, commas or line ends.

    Raises:
        InvalidInput: an entry is not of that form, or an id comes twice with different values.
    """
    found: dict[str, bytes] = {}
    for entry in text.replace(",", " ").split():
        pepper_id, colon, digits = entry.partition(":")
        if not colon or not PEPPER_ID.fullmatch(pepper_id):
            raise InvalidInput("a pepper is not written as ID:64-HEX-DIGITS")
        pepper = _pepper_of(digits, f"pepper {pepper_id}")
        if found.setdefault(pepper_id, pepper) != pepper:
            raise InvalidInput(f"pepper {pepper_id} is given twice, with different values")
    return found


def _pepper_of(digits: str, where: str) -> bytes:
    """Turn 64 hex digits into a pepper; the error never shows them."""
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise Unavailable(f"{where} does not hold 64 lower-case hex digits", code="BAD_PEPPER")
    return bytes.fromhex(digits)
