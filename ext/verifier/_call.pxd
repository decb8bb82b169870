# gRPC on a stream, for any HTTP/2 engine: what the headers ask, the message's framing, the deadline, the method's run.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._transport cimport call_t, pending_t, refusal_t, reply_t, service_t

# Takes one header field. False: the block is so large that the stream must be reset.
cdef bint call_header(service_t* service, call_t* call, size_t* held, const uint8_t* name, size_t name_length,
                      const uint8_t* value, size_t value_length) noexcept nogil
# The header block is complete: decides what can be decided from it.
cdef void call_begin(call_t* call) noexcept nogil
# Takes a chunk of the body. `held` is what the connection makes the server hold.
cdef void call_data(service_t* service, call_t* call, size_t* held, const uint8_t* data, size_t length) noexcept nogil
# The receive buffer is about to be reused: keep what was borrowed from it.
cdef void call_keep(service_t* service, call_t* call, size_t* held) noexcept nogil
# The request is complete, or refused early: the refusal, or NULL when the method may run.
# `replies_held`: bytes of answers that the connection has not taken yet.
cdef const refusal_t* call_check(service_t* service, call_t* call, size_t replies_held) noexcept nogil
# Runs a method without stages; see service.reply.
cdef void call_run(service_t* service, call_t* call) noexcept nogil
# The first stage and, after the prefetches, the last of a method with stages. False: it was at fault; see service.reply.
cdef bint call_start(service_t* service, call_t* call, pending_t* pending) noexcept nogil
cdef void call_finish(service_t* service, call_t* call, pending_t* pending) noexcept nogil
# Frees what the request took.
cdef void call_drop_request(service_t* service, call_t* call, size_t* held) noexcept nogil
