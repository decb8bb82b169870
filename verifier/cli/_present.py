"""What commands print: messages of the operators' API as the objects of docs/cli.md, section JSON.

Nothing here imports gRPC or protobuf: the messages come from whoever was asked.
"""

from typing import TYPE_CHECKING, Any

from verifier.cli._common import time_text
from verifier.vocabulary import Phase, RevocationReason

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from verifier.admin.v1 import lifecycle_pb2, node_pb2, publication_pb2, types_pb2

CLOCKS = ("fixed", "on_first_use", "manual")
POLICY_DURATIONS = ("max_age", "overlap", "max_pending", "expires_in", "min_quiet")


def moment(message: "Message", field: str) -> str | None:
    """Write a time of a message; None when it is absent."""
    return time_text(getattr(message, field).seconds) if message.HasField(field) else None


def seconds(message: "Message", field: str) -> int | None:
    """Return a duration of a message in whole seconds; None when it is absent."""
    return int(getattr(message, field).seconds) if message.HasField(field) else None


def milliseconds(message: "Message", field: str) -> int | None:
    """Return a duration of a message in milliseconds; None when it is absent."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return round(int(value.seconds) * 1000 + int(value.nanos) / 1_000_000)


def moment_ms(message: "Message", field: str) -> int | None:
    """Return a time of a message in milliseconds since 1970; None when it is absent."""
    if not message.HasField(field):
        return None
    value = getattr(message, field)
    return int(value.seconds) * 1000 + int(value.nanos) // 1_000_000


def clock_text(number: int) -> str | None:
    """Name a clock; None when nothing is said of it."""
    return CLOCKS[number - 1] if number else None


def policy_json(policy: "types_pb2.Policy") -> dict[str, Any]:
    """Describe a policy: only what it says."""
    said: dict[str, Any] = {f"{name}_s": seconds(policy, name) for name in POLICY_DURATIONS}
    said["clock"] = clock_text(policy.clock)
    said["notices_s"] = [int(notice.seconds) for notice in policy.notices] or None
    said["retire_when_safe"] = policy.retire_when_safe if policy.HasField("retire_when_safe") else None
    said["max_live"] = policy.max_live or None
    return {name: value for name, value in said.items() if value is not None}


def client_json(client: "types_pb2.Client") -> dict[str, Any]:
    """Describe a client."""
    return {
        "client_id": client.client_id,
        "name": client.name or None,
        "enabled": client.enabled,
        "created_at": moment(client, "created_at"),
        "policy": policy_json(client.policy),
        "etag": client.etag,
    }


def version_json(version: "types_pb2.Version") -> dict[str, Any]:
    """Describe a version; ``expires_at`` is its effective end, as in the Verify API."""
    return {
        "version": version.version,
        "phase": Phase(version.phase).name,
        "issued_at": moment(version, "issued_at"),
        "not_before": moment(version, "not_before"),
        "expires_at": moment(version, "expires_at"),
        "own_expires_at": moment(version, "own_expires_at"),
        "superseded_at": moment(version, "superseded_at"),
        "superseded_by": version.superseded_by or None,
        "retire_at": moment(version, "retire_at"),
        "clock": clock_text(version.clock),
        "overlap_s": seconds(version, "overlap"),
        "first_used_at": moment(version, "first_used_at"),
        "last_used_at": moment(version, "last_used_at"),
        "revoked_at": moment(version, "revoked_at"),
        "reason": reason_text(version),
        "entropy_bits": version.entropy_bits or None,
    }


def reason_text(version: "types_pb2.Version") -> str | None:
    """Name why a version was revoked; None when it was not."""
    return RevocationReason(version.reason).name.lower() if version.HasField("revoked_at") else None


def key_json(key: "types_pb2.Key") -> dict[str, Any]:
    """Describe a key with its versions."""
    return {
        "client_id": key.client_id,
        "key_id": key.key_id,
        "enabled": key.enabled,
        "prefix": key.prefix,
        "scopes": list(key.scopes),
        "allow": list(key.allow),
        "metadata": dict(sorted(key.metadata.items())),
        "created_at": moment(key, "created_at"),
        "expires_at": moment(key, "expires_at"),
        "policy": policy_json(key.policy),
        "effective_policy": policy_json(key.effective_policy),
        "next_rotation_at": moment(key, "next_rotation_at"),
        "etag": key.etag,
        "versions": [version_json(version) for version in key.versions],
    }


def label_of(key: "types_pb2.Key") -> "types_pb2.Version":
    """Return the version that is not superseded."""
    return next(version for version in key.versions if not version.HasField("superseded_at"))


def receipt_json(receipt: "types_pb2.Receipt") -> dict[str, Any]:
    """Describe what a change did, and how far it has come."""
    propagation = receipt.propagation if receipt.HasField("propagation") else None
    return {
        "published": receipt.published,
        "revision": receipt.revision if receipt.published else None,
        "pending_changes": receipt.pending_changes,
        "audit_id": receipt.audit_id or None,
        "request_id": receipt.request_id or None,
        "replayed": receipt.replayed,
        "done_at": moment(receipt, "done_at"),
        "held_at": receipt.held_at or None,
        "nodes": {
            "expected": propagation.expected if propagation else 0,
            "behind": list(propagation.behind) if propagation else [],
        },
        "propagation_ms": milliseconds(propagation, "took") if propagation else None,
        "warnings": list(receipt.warnings),
    }


def difference_json(difference: "publication_pb2.Difference") -> dict[str, int]:
    """Describe what callers notice of a publication."""
    names = ("gained", "lost", "lost_used_24h", "widened", "extended", "denials_kept")
    return {name: int(getattr(difference, name)) for name in names}


def published_json(
    publication: "publication_pb2.Publication", difference: "publication_pb2.Difference", *, changed: bool
) -> dict[str, Any]:
    """Describe what publishing did, without how far it has come."""
    delta = publication.delta
    return {
        "revision": publication.revision,
        "changed": changed,
        "content_of": publication.content_of,
        "held": publication.held,
        "published_at": moment(publication, "published_at"),
        "records": publication.records,
        "active": publication.active,
        "tombstones": publication.tombstones,
        "delta": {"records": delta.records, "bytes": delta.bytes} if publication.HasField("delta") else None,
        "difference": difference_json(difference),
    }


def publication_json(publication: "publication_pb2.Publication") -> dict[str, Any]:
    """Describe one publication of a list."""
    return {
        "revision": publication.revision,
        "published_at": moment(publication, "published_at"),
        "records": publication.records,
        "active": publication.active,
        "content_of": publication.content_of,
        "held": publication.held,
        "current": publication.current,
        "problem": None,
        "tombstones": publication.tombstones,
        "base": keyring_json(publication, "base"),
        "delta": keyring_json(publication, "delta"),
        "publisher": publication.publisher,
    }


def keyring_json(publication: "publication_pb2.Publication", name: str) -> dict[str, Any] | None:
    """Describe a keyring of a publication; None when it has none of that name."""
    if not publication.HasField(name):
        return None
    keyring = getattr(publication, name)
    return {"sha256": keyring.sha256, "records": keyring.records, "bytes": keyring.bytes}


def impact_json(impact: "lifecycle_pb2.Impact") -> dict[str, Any]:
    """Describe a version that a revocation cuts off."""
    return {
        "client_id": impact.client_id,
        "key_id": impact.key_id,
        "version": impact.version,
        "last_used_at": moment(impact, "last_used_at"),
        "valid_24h": impact.valid_24h,
    }


def retirement_json(answer: "lifecycle_pb2.CheckRetirementResponse", key_id: str) -> dict[str, Any]:
    """Describe whether a version can be retired, with the evidence."""
    return {
        "key_id": key_id,
        "version": answer.version,
        "safety": ("UNKNOWN", "SAFE", "NOT_SAFE", "UNKNOWN")[answer.safety],
        "reasons": list(answer.reasons),
        "as_of": moment(answer, "as_of"),
        "quiet_required_s": seconds(answer, "quiet_required"),
        "quiet_because": answer.quiet_because or None,
        "last_used_at": moment(answer, "last_used_at"),
        "last_used_node": answer.last_used_node or None,
        "old_valid": answer.old_valid,
        "new_valid": answer.new_valid,
        "share_moved": round(answer.share_moved, 4),
        "addresses": list(answer.addresses),
        "nodes": [
            {"node": node.node, "from": moment(node, "from"), "to": moment(node, "to"), "gap_s": seconds(node, "gap")}
            for node in answer.nodes
        ],
    }


def node_json(node: "node_pb2.Node") -> dict[str, Any]:
    """Describe a node."""
    refusal = node.last_refusal
    return {
        "node": node.node,
        "expected": node.expected,
        "revision": node.revision or None,
        "served_at": moment(node, "served_at"),
        "load_ms": milliseconds(node, "load_time"),
        "last_refusal": {
            "revision": refusal.revision or None, "code": refusal.code, "message": refusal.message,
            "at": moment(refusal, "refused_at"),
        } if node.HasField("last_refusal") else None,
        "last_seen_at": moment(node, "last_seen_at"),
        "clock_skew_ms": milliseconds(node, "clock_skew"),
        "usage_to": moment(node, "usage_to"),
        "version": node.version or None,
        "addresses": list(node.addresses),
    }  # fmt: skip
