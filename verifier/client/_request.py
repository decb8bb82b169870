"""Requests as bytes.

The token is put on the wire as it was presented, whatever its bytes: protobuf's Python encoder refuses a string that
is not UTF-8, and a caller's garbage must become the verdict MALFORMED, not an exception in the gateway. Nothing here
prints or keeps a request: ``debug_redact`` does not redact ``str(message)`` in Python.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from verifier.client.errors import BadRequest
from verifier.v1.verifier_pb2 import VerifyRequest

# The node calls longer tokens MALFORMED, however long they are: one byte more says it all.
TOKEN_BYTES_MAX = 512
BATCH_MAX = 1000
_KEY_TAG = b"\x0a"
_REQUEST_TAG = b"\x0a"
_RESPONSE_TAG = 0x0A

Address = str | IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Question:
    """One key to judge, as part of a batch; the fields of ``verifier.v1.VerifyRequest``.

    Args:
        token: the API key as the caller presented it; not part of the ``repr``.
        required_scopes: scopes that the key must hold, all of them.
        client_address: the caller's IP address, without a port.
        min_revision: the lowest revision that may answer.
        probe: judge, but count nothing.
    """

    token: str | bytes = field(repr=False)
    required_scopes: Sequence[str] = ()
    client_address: Address | None = None
    min_revision: int = 0
    probe: bool = False

    def to_bytes(self) -> bytes:
        """Encode the request.

        Raises:
            BadRequest: a value that cannot be put into a request.
        """
        token = self.token
        raw = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else bytes(token)
        raw = raw[: TOKEN_BYTES_MAX + 1]
        key = _KEY_TAG + varint(len(raw)) + raw if raw else b""
        if not (self.required_scopes or self.client_address or self.min_revision or self.probe):
            return key
        if isinstance(self.required_scopes, str):
            raise BadRequest("required_scopes is a list of scopes, not one string")
        address = "" if self.client_address is None else str(self.client_address)
        try:
            rest = VerifyRequest(
                required_scopes=self.required_scopes, client_address=address,
                min_revision=self.min_revision, probe=self.probe,
            )
        except (TypeError, ValueError) as error:
            # The message names a scope, an address or a revision; the token is not in it.
            raise BadRequest(f"not a request: {error}") from None
        return key + rest.SerializeToString()


def encode_batch(questions: Iterable[Question | str | bytes]) -> bytes:
    """Encode a ``VerifyBatchRequest``; a plain token is a question without conditions.

    Raises:
        BadRequest: more than 1,000 keys.
    """
    parts: list[bytes] = []
    for question in questions:
        message = (question if isinstance(question, Question) else Question(question)).to_bytes()
        parts.append(_REQUEST_TAG + varint(len(message)) + message)
    if len(parts) > BATCH_MAX:
        raise BadRequest(f"{len(parts)} keys in one batch; at most {BATCH_MAX}")
    return b"".join(parts)


def split_batch(response: bytes) -> list[bytes]:
    """Cut a ``VerifyBatchResponse`` into its responses, each still encoded.

    Raises:
        ValueError: not such a message.
    """
    parts: list[bytes] = []
    at, end = 0, len(response)
    while at < end:
        if response[at] != _RESPONSE_TAG:
            raise ValueError("an answer with an unknown field")
        length, start = read_varint(response, at + 1)
        at = start + length
        if at > end:
            raise ValueError("an answer that is cut off")
        parts.append(response[start:at])
    return parts


def varint(value: int) -> bytes:
    """Encode a number from 0 on as a protobuf varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint and the offset after it; ValueError when it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number that does not end")
