"""The methods Verify, in stages, and VerifyBatch, which overlaps its lookups by itself.

Gates first, in their order: a message that cannot be decoded, an unknown critical field, a deadline already past, no
keyring or a stale one, an unsatisfied min_revision. They are faults and end as gRPC errors, before anything is said
about the key. Then the verdict; a refused key is a normal answer.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy

from verifier._counting cimport count_answer
from verifier._judge cimport GROUP, answer_t, begin, finish, prefetch, request_t
from verifier._service cimport (
    GRPC_DEADLINE_EXCEEDED, GRPC_FAILED_PRECONDITION, GRPC_INVALID_ARGUMENT, GRPC_OK, GRPC_RESOURCE_EXHAUSTED,
    GRPC_UNAVAILABLE, GRPC_UNIMPLEMENTED,
)
from verifier._view cimport view_t
from verifier._wire cimport (
    HEAD_BYTES_MAX, WIRE_BAD_ADDRESS, WIRE_BAD_SCOPE, WIRE_CRITICAL_FIELD, WIRE_OK, WIRE_TOO_MANY_REQUESTS,
    WIRE_TOO_MANY_SCOPES, check_batch, cursor_t, next_request, parse_request, varint_length, write_head, write_varint,
)

cdef enum:
    RETRY_AFTER_MS = 50


cdef bint fail(reply_t* reply, int status, const char* message) noexcept nogil:
    reply.status = status
    reply.message = message
    reply.length = 0
    return False


cdef bint accept(reply_t* reply, int fault) noexcept nogil:
    """Turn a fault of the decoder into a gRPC error; True when there is none."""
    if fault == WIRE_OK:
        return True
    if fault == WIRE_CRITICAL_FIELD:
        return fail(reply, GRPC_UNIMPLEMENTED, b"the request has a field numbered 48 to 63 that this node does not know")
    if fault == WIRE_TOO_MANY_SCOPES:
        return fail(reply, GRPC_INVALID_ARGUMENT, b"more than 64 required scopes")
    if fault == WIRE_BAD_SCOPE:
        return fail(reply, GRPC_INVALID_ARGUMENT, b"a required scope is not a scope-token of 1 to 128 characters")
    if fault == WIRE_BAD_ADDRESS:
        return fail(reply, GRPC_INVALID_ARGUMENT, b"client_address is not an IPv4 or IPv6 address")
    if fault == WIRE_TOO_MANY_REQUESTS:
        return fail(reply, GRPC_INVALID_ARGUMENT, b"more than 1000 requests in a batch")
    return fail(reply, GRPC_INVALID_ARGUMENT, b"the request message cannot be decoded")


cdef bint pass_gates(turn_t* turn, bint expired, int64_t min_revision, reply_t* reply) noexcept nogil:
    cdef const view_t* view = turn.view
    if expired:
        return fail(reply, GRPC_DEADLINE_EXCEEDED, b"the deadline was over before the call began")
    if view == NULL:
        return fail(reply, GRPC_UNAVAILABLE, b"no keyring is loaded")
    if view.max_staleness_ms > 0 and turn.staleness_ms > view.max_staleness_ms:
        return fail(reply, GRPC_UNAVAILABLE, b"the keyring is staler than allowed")
    if view.revision < min_revision:
        reply.revision = view.revision
        reply.retry_after_ms = RETRY_AFTER_MS
        return fail(reply, GRPC_FAILED_PRECONDITION, b"min_revision is not served yet")
    return True


cdef bint make_room(reply_t* reply, size_t more) noexcept nogil:
    cdef size_t wanted = reply.length + more
    if wanted <= reply.capacity:
        return True
    if reply.grow(reply, wanted if wanted > 2 * reply.capacity else 2 * reply.capacity) == 0:
        return True
    return fail(reply, GRPC_RESOURCE_EXHAUSTED, b"out of memory")


cdef bint verify_begin(turn_t* turn, const uint8_t* message, size_t length, bint expired, pending_t* pending,
                       reply_t* reply) noexcept nogil:
    if not accept(reply, parse_request(message, length, &pending.request)):
        return False
    if not pass_gates(turn, expired, pending.request.min_revision, reply):
        return False
    begin(turn.view, &pending.request, &pending.answer)
    return True


cdef void verify_prefetch(turn_t* turn, const pending_t* pending) noexcept nogil:
    prefetch(turn.view, &pending.answer)


cdef void verify_finish(turn_t* turn, pending_t* pending, reply_t* reply) noexcept nogil:
    cdef answer_t* answer = &pending.answer
    finish(turn.view, &pending.request, turn.now_s, answer)
    if not make_room(reply, HEAD_BYTES_MAX + answer.body_length):
        return
    reply.length = write_head(reply.body, answer, turn.view.revision, turn.staleness_ms)
    if answer.body_length:
        memcpy(reply.body + reply.length, answer.body, answer.body_length)
        reply.length += answer.body_length
    count_answer(turn.usage, &pending.request, answer, turn.now_s)
    if not pending.request.probe:
        turn.counters.verdicts[answer.verdict] += 1


cdef bint write_item(turn_t* turn, const answer_t* answer, reply_t* reply) noexcept nogil:
    """Append one embedded VerifyResponse."""
    cdef uint8_t head[HEAD_BYTES_MAX]
    cdef size_t head_length = write_head(head, answer, turn.view.revision, turn.staleness_ms)
    cdef size_t length = head_length + answer.body_length
    cdef uint8_t* at
    if not make_room(reply, 1 + varint_length(length) + length):
        return False
    at = reply.body + reply.length
    at[0] = 0x0A
    at = write_varint(at + 1, length)
    memcpy(at, head, head_length)
    at += head_length
    if answer.body_length:
        memcpy(at, answer.body, answer.body_length)
    reply.length = at + answer.body_length - reply.body
    return True


cdef void verify_batch(turn_t* turn, const uint8_t* message, size_t length, bint expired,
                       reply_t* reply) noexcept nogil:
    # Whole in one turn, so that one second and one keyring hold for all; 1,000 keys stall the loop for 0.3-0.4 ms.
    cdef request_t requests[GROUP]
    cdef answer_t answers[GROUP]
    cdef cursor_t cursor, content
    cdef size_t count
    cdef int64_t min_revision
    cdef int filled, i
    if not accept(reply, check_batch(message, length, &count, &min_revision)):
        return
    if not pass_gates(turn, expired, min_revision, reply):
        return
    reply.status = GRPC_OK
    cursor.at = message
    cursor.end = message + length
    while True:
        filled = 0
        while filled < GROUP and next_request(&cursor, &content):
            parse_request(content.at, content.end - content.at, &requests[filled])
            begin(turn.view, &requests[filled], &answers[filled])
            filled += 1
        for i in range(filled):
            prefetch(turn.view, &answers[i])
        for i in range(filled):
            finish(turn.view, &requests[i], turn.now_s, &answers[i])
            if not write_item(turn, &answers[i], reply):
                return
            count_answer(turn.usage, &requests[i], &answers[i], turn.now_s)
            if not requests[i].probe:
                turn.counters.verdicts[answers[i].verdict] += 1
        if filled < GROUP:
            return
