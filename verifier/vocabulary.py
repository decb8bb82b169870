"""The enumerations of the API as plain Python, with the numbers of ``proto/verifier/v1/verifier.proto``."""

from enum import IntEnum


class Verdict(IntEnum):
    """What the service says of a key; the check that failed first."""

    UNSPECIFIED = 0
    VALID = 1
    MALFORMED = 2
    UNKNOWN = 3
    REVOKED = 4
    CLIENT_DISABLED = 5
    KEY_DISABLED = 6
    NOT_YET_ACTIVE = 7
    EXPIRED = 8
    ADDRESS_NOT_ALLOWED = 9
    INSUFFICIENT_SCOPE = 10
    RATE_LIMITED = 11
    QUOTA_EXCEEDED = 12


class Phase(IntEnum):
    """Where a version stands in its life at a given second."""

    UNSPECIFIED = 0
    PENDING = 1
    CURRENT = 2
    RETIRING = 3
    EXPIRED = 4
    REVOKED = 5


class RevocationReason(IntEnum):
    """Why a version was revoked: the CRL reason codes of RFC 5280, section 5.3.1."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    PRIVILEGE_WITHDRAWN = 9
