"""Clients, keys and versions as messages. Nothing here decides anything."""

import hashlib
from collections.abc import Mapping

from verifier.admin.policies import CLOCKS, policy_message, stored_policy
from verifier.admin.times import span, stamp
from verifier.admin.v1 import types_pb2 as pb
from verifier.control import lifecycle, policy
from verifier.control.policy import Policy
from verifier.errors import Conflict
from verifier.registry.facts import Client, Key, Version

ETAG_DIGITS = 16
# Told by nodes at any time: no reason to refuse an update that was begun before.
_UNSTEADY = {"last_used_at", "due_at", "tag"}


def client_message(client: Client, keys: int = 0) -> pb.Client:
    """Write a client.

    Args:
        keys: how many it has, where that was counted.
    """
    return pb.Client(
        client_id=client.client_id, name=client.name or "", enabled=client.enabled,
        created_at=stamp(client.created_at), keys=keys, policy=stored_policy(client.policy), etag=etag_of(client),
    )  # fmt: skip


def key_message(key: Key, inherited: Policy, now_s: int) -> pb.Key:
    """Write a key with its versions.

    Args:
        inherited: the policy of its client's keys that say nothing themselves.
        now_s: phases are as of this second.
    """
    effective = policy.effective(Policy.from_text(key.policy), inherited)
    return pb.Key(
        client_id=key.client_id, key_id=key.key_id, enabled=key.enabled, prefix=key.prefix, scopes=key.scopes,
        allow=key.rules, metadata=dict(key.metadata), created_at=stamp(key.created_at),
        expires_at=stamp(key.expires_at), policy=stored_policy(key.policy),
        effective_policy=policy_message(effective), next_rotation_at=stamp(key.due_at),
        versions=[version_message(key, version, now_s) for version in key.versions], etag=etag_of(key),
    )  # fmt: skip


def version_message(key: Key, version: Version, now_s: int) -> pb.Version:
    """Write a version of a key."""
    return pb.Version(
        version=version.number,
        phase=int(lifecycle.phase(key, version, now_s)),  # type: ignore[arg-type]  # the same numbers
        issued_at=stamp(version.issued_at),
        not_before=stamp(version.not_before),
        expires_at=stamp(lifecycle.effective_end(key, version)),
        own_expires_at=stamp(version.expires_at),
        superseded_at=stamp(version.superseded_at),
        superseded_by=version.superseded_by,
        retire_at=stamp(version.retire_at),
        clock=CLOCKS[version.clock] if version.clock else pb.CLOCK_UNSPECIFIED,
        overlap=span(version.overlap_s),
        first_used_at=stamp(version.first_used_at),
        last_used_at=stamp(version.last_used_at),
        revoked_at=stamp(version.revoked_at),
        reason=0 if version.reason is None else int(version.reason),  # type: ignore[arg-type]
        entropy_bits=version.entropy_bits or 0,
    )


def etag_of(thing: Client | Key) -> str:
    """Return what changes whenever a person or the schedule changes a client or a key."""
    return hashlib.sha256(repr(_steady(thing)).encode()).hexdigest()[:ETAG_DIGITS]


def check_etag(thing: Client | Key, etag: str) -> None:
    """Refuse an update of something that changed since it was read.

    Args:
        thing: as it is now.
        etag: that it had when it was read; empty for any.

    Raises:
        Conflict: it has another one now (``ETAG_MISMATCH``).
    """
    if etag and etag != etag_of(thing):
        what = f"client {thing.client_id}" if isinstance(thing, Client) else f"key {thing.key_id}"
        raise Conflict(
            f"{what} was changed by somebody else meanwhile", hint="read it again, then decide", code="ETAG_MISMATCH"
        )


def _steady(thing: Client | Key | Version) -> list[object]:
    values: list[object] = []
    for name in thing.__slots__:
        value = getattr(thing, name)
        if name == "versions":
            values.append([_steady(version) for version in value])
        elif isinstance(value, Mapping):
            values.append(sorted(value.items()))
        elif name not in _UNSTEADY:
            values.append(value)
    return values
