# One connection, free of sockets: bytes in, calls answered, bytes out. Its engine is nghttp2 or, for HTTP/1.1, _http1.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from verifier._transport cimport call_t, service_t
from verifier._web cimport web_t
from verifier.nghttp2 cimport nghttp2_session

cdef enum:
    FRAME_BYTES_MAX = 16640    # more than nghttp2 gives at once, which is 16 KiB, a frame head and a length of padding

    STAYING = 0
    NOTICE_GIVEN = 1           # GOAWAY with the highest stream id: calls already on their way are still answered
    LEAVING = 2                # the final GOAWAY

# What HTTP/1.1 waits for next.
cdef enum:
    STAGE_HEAD = 0
    STAGE_BODY = 1             # of a known length
    STAGE_CHUNK_SIZE = 2
    STAGE_CHUNK = 3
    STAGE_CHUNK_END = 4
    STAGE_TRAILERS = 5
    STAGE_OVER = 6             # the last answer was given; what still comes is not looked at

ctypedef struct http1_t:
    int stage
    web_t web                  # the request whose body is being received
    bint is_answered           # before its body, which nobody needs
    bint keeps_alive
    int minor                  # of the version
    size_t scanned             # bytes of the head or trailers that were looked at
    uint64_t left              # bytes of the body or chunk that are still to come
    size_t received            # bytes of the body so far, chunk extensions and trailers included
    bint is_held_back          # requests wait for the answers before them to be taken
    uint8_t* kept              # received, not used yet
    size_t kept_length
    size_t kept_capacity
    uint8_t* body
    size_t body_length
    size_t body_capacity
    uint8_t* out               # answers that nobody has taken yet
    size_t out_length
    size_t out_sent
    size_t out_capacity

ctypedef struct session_t:
    service_t* service
    nghttp2_session* h2        # NULL: HTTP/1.1, or not known yet
    http1_t* http1             # NULL: HTTP/2, or not known yet
    int matched                # bytes of HTTP/2's preface seen while that is not known
    int64_t waiting_ms         # HTTP/1.1: since when a request is incomplete; 0: none is
    call_t* calls              # all open streams
    call_t* current            # whose header block is being received
    call_t* recent             # whose data came last
    call_t* borrower           # whose message lies in the receive buffer
    uint32_t call_count
    size_t held                # bytes held for this connection: unfinished requests and unsent replies
    size_t replies_held        # of these, replies
    uint64_t replies_sent      # bytes, to see whether the client takes them
    size_t unconsumed          # bytes of DATA for which the client was not given window again
    size_t useless             # bytes received since the last one that was part of a call's message
    int64_t resets_left
    int64_t control_left
    bint ready                 # the client's preface and SETTINGS, or its first request, have arrived
    bint going_away            # a GOAWAY was sent or received
    bint broken                # nothing more can be sent
    int leaving
    int reason                 # CLOSED_*, once the session is over by its own doing

# `detects`: HTTP/1.1, too; the first bytes decide. NULL when there is no memory.
cdef session_t* session_open(service_t* service, bint detects) noexcept nogil
cdef void session_close(session_t* session) noexcept nogil
# Takes what was received, which may be written into, and answers all complete calls in it. False: the connection is beyond repair.
cdef bint session_feed(session_t* session, uint8_t* data, size_t length) noexcept nogil
# Writes what is to be sent into `room`; returns how much. When FRAME_BYTES_MAX are left over, there is no more.
cdef size_t session_pull(session_t* session, uint8_t* room, size_t capacity) noexcept nogil
# Nothing is left to receive or send.
cdef bint session_done(session_t* session) noexcept nogil
# Asks the client to go, in two steps, so that no call is lost: notice; then, after a round trip, the final GOAWAY.
cdef void session_give_notice(session_t* session) noexcept nogil
cdef void session_leave(session_t* session) noexcept nogil
# Refills the budgets.
cdef void session_refill(session_t* session, int64_t elapsed_ms) noexcept nogil
