"""Clients, keys and versions: everything that operators do to them, under one name."""

from verifier.control.clients import (
    ClientSummary,
    create_client,
    list_clients,
    set_client_enabled,
    show_client,
    update_client,
)
from verifier.control.issuing import IssuedKey, issue_key, pepper_secrets
from verifier.control.issuing_many import issue_keys
from verifier.control.keys import (
    KeyUpdate,
    list_keys,
    set_key_enabled,
    show_key,
    update_key,
)
from verifier.control.revoking import Revocation, revoke_version
from verifier.control.terms import Terms

__all__ = [
    "ClientSummary",
    "IssuedKey",
    "KeyUpdate",
    "Revocation",
    "Terms",
    "create_client",
    "issue_key",
    "issue_keys",
    "list_clients",
    "list_keys",
    "pepper_secrets",
    "revoke_version",
    "set_client_enabled",
    "set_key_enabled",
    "show_client",
    "show_key",
    "update_client",
    "update_key",
]
