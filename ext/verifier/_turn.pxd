# One event loop as C sees it: its parts, and its turns for as long as its thread lives.

from libc.stdint cimport int64_t

from verifier._accept cimport acceptor_t
from verifier._connection cimport connections_t
from verifier._mailbox cimport mailbox_t
from verifier._transport cimport LATENCY_BUCKETS, service_t

ctypedef struct loop_t:
    service_t service
    connections_t connections
    acceptor_t acceptor
    mailbox_t mailbox
    int epoll
    int64_t spin_ns
    int64_t last_tick_ms
    int64_t drain_until_ms     # 0: not draining
    bint stopping

# Upper bounds of service_t.transport.latency, but for the last, which has none.
cdef int64_t LATENCY_BOUNDS_US[LATENCY_BUCKETS - 1]

# loop_new, then limits and routes, then loop_open; loop_free at any time when the loop does not run.
cdef loop_t* loop_new() noexcept nogil
cdef bint loop_open(loop_t* loop) noexcept nogil
cdef void loop_run(loop_t* loop) noexcept nogil
cdef void loop_free(loop_t* loop) noexcept nogil
