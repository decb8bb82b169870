# Accepting connections, and handing each to the loop that has the fewest.

from libc.stdint cimport int64_t

from verifier._connection cimport connections_t
from verifier._mailbox cimport mailbox_t
from verifier._transport cimport service_t

cdef enum:
    LISTENERS_MAX = 16
    PEERS_MAX = 255

ctypedef struct listener_t:
    int kind                   # KIND_LISTENER: what an epoll event points to
    int fd
    bint is_tcp
    bint detects               # the first bytes tell HTTP/1.1 from HTTP/2

ctypedef struct peer_t:
    mailbox_t* mailbox
    connections_t* connections

ctypedef struct acceptor_t:
    service_t* service
    connections_t* connections # this loop's own
    int epoll
    listener_t listeners[LISTENERS_MAX]
    int listener_count
    peer_t peers[PEERS_MAX]
    int peer_count
    int reserve                # a descriptor to give up when there are no more, so that a connection can be refused
    bint paused

cdef void acceptor_open(acceptor_t* acceptor) noexcept nogil
# Listens on all listeners; at start, and again after a pause.
cdef void acceptor_resume(acceptor_t* acceptor) noexcept nogil
cdef void accept_some(acceptor_t* acceptor, const listener_t* listener) noexcept nogil
# Takes what already waits in the backlogs, then closes all listeners.
cdef void acceptor_close(acceptor_t* acceptor) noexcept nogil
# Drains the loops that connections are handed to: only now, when they get no more.
cdef void peers_drain(acceptor_t* acceptor, int64_t timeout_ms) noexcept nogil
