"""The method Check of grpc.health.v1.Health, for the whole server ("") and for verifier.v1.VerifierService.

SERVING means that a call to Verify would be answered: there is a keyring, it is not staler than allowed, and the node
is not on its way out. Watch is not there yet; its clients take UNIMPLEMENTED for "do not check".
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

from verifier._service cimport GRPC_DEADLINE_EXCEEDED, GRPC_INVALID_ARGUMENT, GRPC_NOT_FOUND, GRPC_OK
from verifier._wire cimport WIRE_OK, cursor_t, read_field

cdef enum:
    SERVICE_FIELD = 1
    LENGTH_DELIMITED = 2
    STATUS_TAG = 0x08          # field 1, varint
    SERVING = 1
    NOT_SERVING = 2


cdef const char* NAME = b"verifier.v1.VerifierService"
cdef size_t NAME_LENGTH = 27


cdef bint is_serving(const turn_t* turn) noexcept nogil:
    if not turn.serving or turn.view == NULL:
        return False
    return turn.view.max_staleness_ms <= 0 or turn.staleness_ms <= turn.view.max_staleness_ms


cdef void fail(reply_t* reply, int status, const char* message) noexcept nogil:
    reply.status = status
    reply.message = message


cdef bint read_service(const uint8_t* message, size_t length, cursor_t* service) noexcept nogil:
    """Find the field `service`; the last one counts, as in any protobuf message."""
    cdef cursor_t cursor, content
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cursor.at = message
    cursor.end = message + length
    service.at = service.end = message
    while cursor.at < cursor.end:
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK:
            return False
        if number == SERVICE_FIELD and wire_type == LENGTH_DELIMITED:
            service[0] = content
    return True


cdef void health_check(turn_t* turn, const uint8_t* message, size_t length, bint expired,
                       reply_t* reply) noexcept nogil:
    cdef cursor_t service
    cdef size_t name_length
    if not read_service(message, length, &service):
        fail(reply, GRPC_INVALID_ARGUMENT, b"the request message cannot be decoded")
        return
    if expired:
        fail(reply, GRPC_DEADLINE_EXCEEDED, b"the deadline was over before the call began")
        return
    name_length = service.end - service.at
    if name_length != 0 and (name_length != NAME_LENGTH or memcmp(service.at, NAME, NAME_LENGTH) != 0):
        fail(reply, GRPC_NOT_FOUND, b"unknown service")
        return
    reply.body[0] = STATUS_TAG
    reply.body[1] = SERVING if is_serving(turn) else NOT_SERVING
    reply.length = 2
    reply.status = GRPC_OK
