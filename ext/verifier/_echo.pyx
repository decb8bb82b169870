"""A method that answers with what it was asked.

With it a loop is a bare transport: the difference to Verify is what judging costs, and tests of the transport can send
and expect any bytes. No node serves it.
"""

from libc.string cimport memcpy

from verifier._service cimport GRPC_DEADLINE_EXCEEDED, GRPC_OK, GRPC_RESOURCE_EXHAUSTED


cdef void echo(turn_t* turn, const uint8_t* message, size_t length, bint expired, reply_t* reply) noexcept nogil:
    if expired:
        reply.status = GRPC_DEADLINE_EXCEEDED
        reply.message = b"the deadline was over before the call began"
        return
    if length > reply.capacity and reply.grow(reply, length) != 0:
        reply.status = GRPC_RESOURCE_EXHAUSTED
        reply.message = b"out of memory"
        return
    memcpy(reply.body, message, length)
    reply.length = length
    reply.status = GRPC_OK
