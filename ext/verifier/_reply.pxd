# Answers as HTTP/2 frames: header fields, message, trailers.

from verifier._session cimport session_t
from verifier._transport cimport call_t, refusal_t

# Answers with what the method left in service.reply.
cdef void send_reply(session_t* session, call_t* call) noexcept nogil
cdef void send_refusal(session_t* session, call_t* call, const refusal_t* refusal) noexcept nogil
# Frees what is unsent of a reply.
cdef void drop_reply(session_t* session, call_t* call) noexcept nogil
