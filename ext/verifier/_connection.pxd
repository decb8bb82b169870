# Connections of one loop: sockets joined to sessions, their output and their timers.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from verifier._plain cimport transport_t
from verifier._session cimport session_t
from verifier._transport cimport service_t

# What an epoll event points to begins with its kind.
cdef enum:
    KIND_WAKE = 0
    KIND_LISTENER = 1
    KIND_CONNECTION = 2

ctypedef struct connection_t:
    int kind
    int fd
    const transport_t* transport
    void* transport_state
    session_t* session
    connection_t* next
    connection_t* previous
    uint8_t* output            # what the socket did not take yet
    size_t output_length
    size_t output_sent
    uint32_t interest          # epoll events asked for
    bint lingering             # all is said; waiting for the peer to hang up
    int reason                 # CLOSED_*, why it is asked to go
    int64_t opened_ms
    int64_t active_ms          # last received
    int64_t age_max_ms
    int64_t leave_ms           # since when it is asked to go, or lingers
    int64_t taken_ms           # when the peer last took some of what is due to it
    uint64_t taken_mark

ctypedef struct connections_t:
    service_t* service
    int epoll
    connection_t* first
    int64_t count              # open now; read by other threads
    int64_t closed             # ever, those that could not be opened included; read by the accepting loop
    uint64_t random
    bint leaving               # all are asked to go, and so is each new one

# Takes a connected, non-blocking socket. `detects`: it may speak HTTP/1.1, too.
cdef void connection_open(connections_t* all, int fd, bint detects, const transport_t* transport, void* state) noexcept nogil
cdef void connection_event(connections_t* all, connection_t* connection, uint32_t events) noexcept nogil
# Timers; once a second, or more often while leaving.
cdef void connections_tick(connections_t* all, int64_t elapsed_ms) noexcept nogil
cdef void connections_leave(connections_t* all) noexcept nogil
cdef void connections_close(connections_t* all, int reason) noexcept nogil
