"""Who may do what: one row for each method of the operators' API."""

from collections.abc import Mapping
from enum import StrEnum

from verifier.errors import NotAllowed


class Role(StrEnum):
    """What an identity is there for."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    ADMIN = "admin"
    NODE = "node"


_READING = frozenset({Role.VIEWER, Role.OPERATOR, Role.PUBLISHER, Role.ADMIN})
_OPERATING = frozenset({Role.OPERATOR, Role.ADMIN})
_PUBLISHING = frozenset({Role.PUBLISHER, Role.ADMIN})
_ADMINISTERING = frozenset({Role.ADMIN})
_REPORTING = frozenset({Role.NODE})  # nobody else: what nodes report decides what is safe to retire

ALLOWED: Mapping[str, frozenset[Role]] = {
    "LifecycleService/CreateClient": _OPERATING,
    "LifecycleService/GetClient": _READING,
    "LifecycleService/ListClients": _READING,
    "LifecycleService/UpdateClient": _OPERATING,
    "LifecycleService/CreateKey": _OPERATING,
    "LifecycleService/GetKey": _READING,
    "LifecycleService/ListKeys": _READING,
    "LifecycleService/UpdateKey": _OPERATING,  # with extend, admin: a check of its own
    "LifecycleService/RotateKey": _OPERATING,
    "LifecycleService/PromoteVersion": _OPERATING,
    "LifecycleService/RetireVersion": _OPERATING,
    "LifecycleService/CancelRotation": _OPERATING,
    "LifecycleService/RollBackKey": _OPERATING,
    "LifecycleService/Revoke": _OPERATING,
    "LifecycleService/Reinstate": _ADMINISTERING,
    "LifecycleService/ImportKeys": _OPERATING,
    "LifecycleService/CheckRetirement": _READING,
    "LifecycleService/GetStorePolicy": _READING,
    "LifecycleService/UpdateStorePolicy": _OPERATING,
    "PublicationService/Publish": _PUBLISHING,
    "PublicationService/RollBack": _PUBLISHING,
    "PublicationService/ComparePublications": _READING,
    "PublicationService/ListPublications": _READING,
    "PublicationService/PrunePublications": _PUBLISHING,
    "PublicationService/ReconcileRegistry": _PUBLISHING,
    "NodeService/ReportStatus": _REPORTING,
    "NodeService/ReportUsage": _REPORTING,
    "NodeService/ListNodes": _READING,
    "NodeService/ForgetNode": _OPERATING,
    "AuditService/ListEntries": _READING,
    "AuditService/VerifyLog": _READING,
    "UsageService/QueryUsage": _READING,
}
REFLECTION = _READING


def require(role: Role, allowed: frozenset[Role], what: str) -> None:
    """Refuse what a role is not there for.

    Args:
        role: of the caller.
        allowed: the roles that may.
        what: the method, for the message.

    Raises:
        NotAllowed: the role is not among them.
    """
    if role not in allowed:
        needed = " or ".join(sorted(allowed))
        raise NotAllowed(f"{what} needs the role {needed}; this identity is {role}", details={"role": str(role)})
