# How other threads talk to a loop: an eventfd to wake it, one pointer for the view to serve, a ring of connections.

from libc.stdint cimport int64_t

cdef enum:
    INBOX = 1024
    DETECTS = 1073741824       # more than any descriptor

# Fields are written by one side each; the other reads them with acquire order.
ctypedef struct mailbox_t:
    int kind                   # KIND_WAKE: what an epoll event points to
    int wake
    void* published            # const view_t*, by the loader
    void* seen                 # by the loop: it uses this one and none older
    int64_t drain_ms           # by Python, or by the accepting loop: 0, or how long calls in flight may take
    int64_t stop               # by Python
    int64_t sent               # connections put into the ring, by the accepting loop
    int64_t taken              # and taken from it, by the loop
    int64_t ring[INBOX]        # descriptors, with DETECTS if their first bytes tell the protocol

cdef bint mailbox_open(mailbox_t* box) noexcept nogil
# Closes the eventfd and every connection that nobody has taken.
cdef void mailbox_close(mailbox_t* box) noexcept nogil
cdef void mailbox_wake(mailbox_t* box) noexcept nogil
cdef void mailbox_clear(mailbox_t* box) noexcept nogil
# False when the ring is full.
cdef bint mailbox_put(mailbox_t* box, int fd, bint detects) noexcept nogil
# -1 when the ring is empty. `detects` as it was put in.
cdef int mailbox_take(mailbox_t* box, bint* detects) noexcept nogil
