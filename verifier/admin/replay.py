"""Repeats of commands: the same request under the same id has its effect once, and its answer again.

The answer is stored with the effect, in one transaction, without its token: who needs the token again has lost it, and
nobody else may find it here.
"""

import hashlib
import struct
from dataclasses import dataclass

from google.protobuf.message import Message
from sqlalchemy import Connection, delete, insert, select

from verifier.errors import Conflict, InvalidInput
from verifier.registry import schema

KEPT_S = 7 * 86400
ID_CHARACTERS_MAX = 64

_NEED = struct.Struct(">q")


@dataclass(frozen=True, slots=True)
class Name:
    """What a request is known by.

    Attributes:
        principal: who sent it.
        request_id: chosen by him.
        digest: SHA-256 of what it asks for.
    """

    principal: str
    request_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known of a request that was carried out.

    Attributes:
        response: its answer, encoded, without the token.
        need: ``registry.changes`` that a publication must cover to hold the effect.
        at_s: when it was carried out, seconds since 1970.
    """

    response: bytes
    need: int
    at_s: int


def check_id(request_id: str) -> str:
    """Return a request id.

    Raises:
        InvalidInput: it is longer than 64 characters, or has others than printable ASCII.
    """
    if len(request_id) > ID_CHARACTERS_MAX or not (request_id.isascii() and request_id.isprintable()):
        raise InvalidInput(
            f"a request id has at most {ID_CHARACTERS_MAX} printable characters", hint="take a UUID", code="BAD_ID"
        )
    return request_id


def digest_of(request: Message) -> str:
    """Return the SHA-256 of what a request asks for: not under which id, nor how long it waits."""
    bare = type(request)()
    bare.CopyFrom(request)
    options = getattr(_holder(bare), "options", None)
    if options is not None:
        for field in ("request_id", "wait", "timeout"):
            options.ClearField(field)
    name = request.DESCRIPTOR.full_name.encode()
    return hashlib.sha256(name + b"\0" + bare.SerializeToString(deterministic=True)).hexdigest()


def find(connection: Connection, name: Name, now_s: int) -> Stored | None:
    """Return what was stored of a request, None if it is new.

    Raises:
        Conflict: the id was used for another request (``REQUEST_ID_REUSED``).
    """
    table = schema.requests.c
    query = select(table.digest, table.response, table.at).where(
        table.principal == name.principal, table.request_id == name.request_id
    )
    row = connection.execute(query).first()
    if row is None or row.at < now_s - KEPT_S:
        return None
    if row.digest != name.digest:
        raise Conflict(
            "this request id was used for another request",
            hint="take a new one for every command, and the same one only to repeat it",
            code="REQUEST_ID_REUSED",
        )
    return Stored(row.response[_NEED.size :], _NEED.unpack_from(row.response)[0], row.at)


def save(connection: Connection, name: Name, response: Message, now_s: int, *, need: int = 0) -> None:
    """Store the answer of a request, inside the transaction of its effect; ``need`` as in :class:`Stored`."""
    kept = type(response)()
    kept.CopyFrom(response)
    for field in kept.DESCRIPTOR.fields:
        if field.GetOptions().debug_redact:
            kept.ClearField(field.name)
    table = schema.requests
    mine = (table.c.principal == name.principal) & (table.c.request_id == name.request_id)
    connection.execute(delete(table).where(mine))
    connection.execute(
        insert(table).values(
            principal=name.principal, request_id=name.request_id, digest=name.digest, at=now_s,
            response=_NEED.pack(need) + kept.SerializeToString(),
        )
    )


def forget(connection: Connection, now_s: int) -> None:
    """Delete what is older than a week."""
    connection.execute(delete(schema.requests).where(schema.requests.c.at < now_s - KEPT_S))


def _holder(request: Message) -> Message:
    """Return the part of a request that has its options: itself, or the terms of an import."""
    terms: Message = request.terms if "terms" in request.DESCRIPTOR.fields_by_name else request  # type: ignore[attr-defined]
    return terms
