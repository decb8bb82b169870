"""Tokens that are made here: only their digest leaves, so an answer that is lost takes no token with it."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from verifier import tokens
from verifier.cli._seam import Seam, in_doubt
from verifier.cli._wish import RECORDED
from verifier.errors import InvalidInput, Unavailable, VerifierError

Answer = TypeVar("Answer")

HEX = re.compile(r"[0-9a-fA-F]{64}")

sha256_option = click.option("--sha256", metavar="HEX",
                             help="SHA-256 of a token that you made and keep: then none is made or shown here.")
output_option = click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                             help="New file for the token, mode 0600, instead of showing it; with --request-id, that "
                             "of the first try.")


class Handout:
    """A new token on its way to whoever asked for it.

    Args:
        prefix: what it begins with.
        sha256: of a token that the caller keeps, as hex digits.
        output: file for the token.
        repeated: the command may be a repeat, so the file may hold the token already.

    Raises:
        InvalidInput: ``sha256`` is no digest, or comes with ``output``.
        Conflict: the file is there already (``FILE_EXISTS``).
    """

    def __init__(self, prefix: str, sha256: str | None, output: Path | None, *, repeated: bool = False) -> None:
        if sha256 is not None and (output is not None or not HEX.fullmatch(sha256)):
            raise InvalidInput("--sha256 takes 64 hex digits, and leaves nothing to write into a file")
        self.output = output
        self.token: str | None = None
        self._written = False
        if sha256 is not None:
            self.digest = bytes.fromhex(sha256)
            return
        self.token = _kept(output) if output is not None and repeated and output.exists() else tokens.generate(prefix)
        self.digest = hashlib.sha256(self.token.encode("ascii")).digest()
        if output is not None and not (repeated and output.exists()):
            _write(output, self.token)
            self._written = True

    @property
    def shown(self) -> str | None:
        """The token, if it is to be shown: not when it is in a file, or with the caller."""
        return None if self.output is not None else self.token

    def ask(self, seam: Seam, method: Callable[[Any], Answer], request: Any) -> tuple[Answer, VerifierError | None]:
        """Have the change carried out; return its answer, and why it is not published if that failed.

        Args:
            method: of the service.
            request: with its options; gets the digest.
        """
        request.secret.sha256 = self.digest
        try:
            return seam.change(method, request), None
        except VerifierError as error:
            if error.details.get("recorded"):
                # The key is there. Its answer can be had again, as the id is the same.
                request.options.wait = RECORDED
                return method(request), error
            if seam.remote and in_doubt(error):
                self._keep(error)
            else:
                self._discard()
            raise
        except BaseException:
            self._keep(None)
            raise

    def tell(self, lines: list[str]) -> list[str]:
        """Add to the lines for people where the token is."""
        if self.token is None:
            return lines
        return [*lines, f"token: {self.token}" if self.output is None else f"token: in {self.output}"]

    def describe(self, fields: Mapping[str, Any]) -> None:
        """Make of the token's file one JSON object, as soon as there is more to say of the token."""
        from verifier.store import durable

        assert self.output is not None
        line = json.dumps({**fields, "token": self.token}).encode("ascii") + b"\n"
        durable.replace(self.output, line, mode=0o600)

    def remind(self) -> None:
        """Say to people that the token is shown once."""
        if self.shown is not None:
            click.echo("  keep the token now: it is not stored and cannot be shown again", err=True)

    def _keep(self, error: VerifierError | None) -> None:
        """No answer came: hand the token out all the same, or whoever needs it is locked out."""
        if self.output is not None:
            click.echo(f"no answer came; {self.output} holds the token: repeat with the same --output", err=True)
        elif self.token is not None and error is not None:
            error.details["token"] = self.token
            click.echo(f"no answer came; if it was carried out, this is the token: {self.token}", err=True)
        elif self.token is not None:
            click.echo(f"stopped; if it was carried out, this is the token: {self.token}", err=True)

    def _discard(self) -> None:
        if self._written and self.output is not None:
            self.output.unlink(missing_ok=True)


def _write(path: Path, token: str) -> None:
    from verifier.control.handout import NewFile

    with NewFile(path) as file:
        file.write(f"{token}\n".encode("ascii"))
        file.install()


def _kept(path: Path) -> str:
    """Return the token that the first try of this command left in its file."""
    try:
        text = path.read_text("ascii").strip()
        token = str(json.loads(text)["token"]) if text.startswith("{") else text
    except (OSError, UnicodeDecodeError, ValueError, KeyError):
        raise Unavailable(f"cannot read {path}") from None
    tokens.parse(token)
    return token
