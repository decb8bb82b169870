"""The typed result of a verification, for callers over gRPC and in-process alike.

An answer keeps the bytes of the VerifyResponse. Verdict, phase, revision and staleness are read at once; the rest is
decoded when it is first asked for, so that a caller who only wants to know whether the key is valid pays for no more.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from datetime import UTC

from verifier._wire cimport WIRE_OK, cursor_t, read_field
from verifier.vocabulary import Phase, RevocationReason, Verdict

cdef tuple VERDICTS = tuple(Verdict)
cdef tuple PHASES = tuple(Phase)
cdef object decode = None


cdef inline int small(uint64_t number) noexcept nogil:
    """An enumeration's number; what no release can mean becomes 0 instead of being cut to something it is not."""
    return <int>number if number < 256 else 0


cdef object decoder():
    """Import the protobuf runtime only when it is needed: it costs 30 ms at start."""
    global decode
    if decode is None:
        from verifier.v1.verifier_pb2 import VerifyResponse
        decode = VerifyResponse.FromString
    return decode


@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Answer:
    """What the service said of one key.

    Args:
        response: the bytes of a `verifier.v1.VerifyResponse`.

    Raises:
        ValueError: the bytes are not such a message.
    """

    def __init__(self, bytes response not None):
        cdef cursor_t cursor, content
        cdef uint32_t number, wire_type
        cdef uint64_t value
        cursor.at = <const unsigned char*>PyBytes_AS_STRING(response)
        cursor.end = cursor.at + PyBytes_GET_SIZE(response)
        self.response = response
        self._message = None
        while cursor.at < cursor.end:
            if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK:
                raise ValueError("not a VerifyResponse")
            if wire_type != 0:
                continue
            if number == 1:
                self._verdict = small(value)
            elif number == 2:
                self._phase = small(value)
            elif number == 3:
                self.revision = <int64_t>value
            elif number == 4:
                self.staleness_ms = <int64_t>value

    @property
    def verdict(self):
        """The verdict; one that this release does not know reads as UNSPECIFIED, which is not valid."""
        return VERDICTS[self._verdict] if 0 <= self._verdict < len(VERDICTS) else VERDICTS[0]

    @property
    def valid(self) -> bool:
        """Whether the key is good for what was asked."""
        return self._verdict == 1

    @property
    def phase(self):
        """Where the version stands in its life."""
        return PHASES[self._phase] if 0 <= self._phase < len(PHASES) else PHASES[0]

    cdef object message(self):
        if self._message is None:
            self._message = decoder()(self.response)
        return self._message

    cdef object moment(self, str field):
        message = self.message()
        return getattr(message, field).ToDatetime(tzinfo=UTC) if message.HasField(field) else None

    @property
    def client_id(self) -> str:
        """The client that owns the key; empty when the key is not known."""
        return self.message().client_id

    @property
    def key_id(self) -> str:
        """The key's public name; empty when the key is not known."""
        return self.message().key_id

    @property
    def version(self) -> int:
        """The version of the key; 0 when the key is not known."""
        return self.message().version

    @property
    def not_before(self):
        """When the version becomes active, or None."""
        return self.moment("not_before")

    @property
    def expires_at(self):
        """When the version ends, everything considered, or None."""
        return self.moment("expires_at")

    @property
    def superseded_at(self):
        """When a successor takes its place, or None."""
        return self.moment("superseded_at")

    @property
    def superseded_by(self):
        """The version that takes its place, or None."""
        return self.message().superseded_by or None

    @property
    def revocation_reason(self):
        """Why it was revoked, or None unless the verdict is REVOKED."""
        if self._verdict != 4:
            return None
        try:
            return RevocationReason(self.message().revocation_reason)
        except ValueError:         # of a later release
            return RevocationReason.UNSPECIFIED

    @property
    def scopes(self) -> tuple:
        """The scopes that the key holds, sorted; only when it is valid."""
        return tuple(self.message().scopes)

    @property
    def metadata(self) -> dict:
        """What the operators noted of the key; only when it is valid."""
        return dict(self.message().metadata)

    def to_json(self) -> dict:
        """Return the answer as plain data, as `verifier check --json` prints it."""
        reason = self.revocation_reason
        body = {
            "verdict": self.verdict.name,
            "valid": self.valid,
            "client_id": self.client_id or None,
            "key_id": self.key_id or None,
            "version": self.version or None,
            "phase": self.phase.name if self._phase else None,
            "scopes": list(self.scopes),
            "not_before": time_text(self.not_before),
            "expires_at": time_text(self.expires_at),
            "superseded_at": time_text(self.superseded_at),
            "superseded_by": self.superseded_by,
            "revision": self.revision,
            "staleness_ms": self.staleness_ms,
            "metadata": self.metadata,
        }
        if reason is not None:
            body["revocation_reason"] = reason.name.lower()
        return body

    def __eq__(self, other):
        return isinstance(other, Answer) and self.response == (<Answer>other).response

    def __hash__(self):
        return hash(self.response)

    def __repr__(self) -> str:
        who = f" {self.key_id} v{self.version}" if self._phase else ""
        return f"<Answer {self.verdict.name}{who} revision {self.revision}>"


cdef object time_text(moment):
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
