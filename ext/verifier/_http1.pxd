# HTTP/1.1 on one connection, in the place of nghttp2: the other engine behind _session.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._session cimport http1_t, session_t

# NULL when there is no memory.
cdef http1_t* http1_open(session_t* session) noexcept nogil
cdef void http1_close(session_t* session) noexcept nogil
cdef bint http1_feed(session_t* session, uint8_t* data, size_t length) noexcept nogil
cdef size_t http1_pull(session_t* session, uint8_t* room, size_t capacity) noexcept nogil
cdef bint http1_done(const session_t* session) noexcept nogil
# A request has begun to arrive and is not complete.
cdef bint http1_is_waiting(const session_t* session) noexcept nogil
