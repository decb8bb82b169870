"""Responses in their canonical bytes, by the protobuf runtime.

The runtime's own deterministic order of map entries puts "k10" before "k1"; keyrings sort names as bytes. So map
entries are encoded one by one here; field 17 is the last, and a message is the sum of its parts.
"""

from collections.abc import Iterable

from verifier.v1.verifier_pb2 import VerifyBatchResponse, VerifyResponse


def canonical(message: VerifyResponse) -> bytes:
    """Encode one response."""
    bare = VerifyResponse()
    bare.CopyFrom(message)
    bare.ClearField("metadata")
    names = sorted(message.metadata, key=str.encode)
    return bare.SerializeToString(deterministic=True) + b"".join(
        VerifyResponse(metadata={name: message.metadata[name]}).SerializeToString() for name in names
    )


def canonical_batch(messages: Iterable[VerifyResponse]) -> bytes:
    """Encode a batch's response."""
    parts = []
    for message in messages:
        body = canonical(message)
        # The runtime writes tag and length, of a message that is as long.
        framed = VerifyBatchResponse(responses=[message]).SerializeToString()
        assert len(framed) > len(body)
        parts.append(framed[: len(framed) - len(body)] + body)
    return b"".join(parts)
