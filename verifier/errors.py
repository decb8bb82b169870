"""The errors that users see: one base class, one class per outcome.

``code`` is the stable name in JSON, ``exit_code`` what the command line exits with
(0 done, 1 refused by a verdict, 2 usage, 3 fault, 4 precondition or conflict, 5 done but not everywhere yet).
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class VerifierError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: what is wrong, in one sentence; never holds a token or a pepper.
        hint: what to do about it, often a command.
        code: stable name of this very case, where the class has several.
        details: plain data for ``--json``.
    """

    code: str = "INTERNAL"
    exit_code: ClassVar[int] = 3

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})
        if code is not None:
            self.code = code

    def to_json(self) -> dict[str, Any]:
        """Return the ``error`` object of the JSON output."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint is not None:
            body["hint"] = self.hint
        if self.details:
            body["details"] = self.details
        return {"error": body}


class InvalidInput(VerifierError):
    """What the caller gave is not usable as it is."""

    code = "INVALID_INPUT"
    exit_code = 2


class NotFound(VerifierError):
    """The named client, key, version, revision or file does not exist."""

    code = "NOT_FOUND"
    exit_code = 4


class Conflict(VerifierError):
    """The state of the registry or store forbids what was asked."""

    code = "CONFLICT"
    exit_code = 4


class Unavailable(VerifierError):
    """Something needed is missing or unreachable: a fault, not a refusal."""

    code = "UNAVAILABLE"
    exit_code = 3


class UnsoundPublication(VerifierError):
    """A publication or keyring that must not be served.

    ``code`` is one of BAD_DIGEST, BAD_SIGNATURE, LOWER_REVISION, EQUIVOCATION, PEPPER_MISSING, FORMAT, FEATURE,
    LIMIT, DROP_GUARD, RESURRECTION.
    """

    code = "FORMAT"
    exit_code = 3


class NotAuthenticated(VerifierError):
    """The operators' API does not know who calls."""

    code = "NOT_AUTHENTICATED"
    exit_code = 4


class NotAllowed(VerifierError):
    """The caller is known, and may not do this."""

    code = "NOT_ALLOWED"
    exit_code = 4
