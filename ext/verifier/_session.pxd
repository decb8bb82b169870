# One HTTP/2 connection, free of sockets: bytes in, calls answered, bytes out. The seam for another engine.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from verifier._transport cimport call_t, service_t
from verifier.nghttp2 cimport nghttp2_session

cdef enum:
    FRAME_BYTES_MAX = 16640    # more than nghttp2 gives at once, which is 16 KiB, a frame head and a length of padding

    STAYING = 0
    NOTICE_GIVEN = 1           # GOAWAY with the highest stream id: calls already on their way are still answered
    LEAVING = 2                # the final GOAWAY

ctypedef struct session_t:
    service_t* service
    nghttp2_session* h2
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
    bint ready                 # the client's preface and SETTINGS have arrived
    bint going_away            # a GOAWAY was sent or received
    bint broken                # nothing more can be sent
    int leaving
    int reason                 # CLOSED_*, once the session is over by its own doing

# NULL when there is no memory.
cdef session_t* session_open(service_t* service) noexcept nogil
cdef void session_close(session_t* session) noexcept nogil
# Takes what was received and answers all complete calls in it. False: the connection is beyond repair.
cdef bint session_feed(session_t* session, const uint8_t* data, size_t length) noexcept nogil
# Writes what is to be sent into `room`; returns how much. When FRAME_BYTES_MAX are left over, there is no more.
cdef size_t session_pull(session_t* session, uint8_t* room, size_t capacity) noexcept nogil
# Nothing is left to receive or send.
cdef bint session_done(session_t* session) noexcept nogil
# Asks the client to go, in two steps, so that no call is lost: notice; then, after a round trip, the final GOAWAY.
cdef void session_give_notice(session_t* session) noexcept nogil
cdef void session_leave(session_t* session) noexcept nogil
# Refills the budgets.
cdef void session_refill(session_t* session, int64_t elapsed_ms) noexcept nogil
