"""The mailbox of a loop.

One writer for each field, so plain loads and stores with acquire and release order are enough. A view that is
published is taken at the top of the loop's next turn and then acknowledged in `seen`: from then on the loop holds no
pointer into any older one.
"""

from libc.stdint cimport int64_t, uint64_t

from verifier.atomics cimport load_i64, store_i64
from verifier.linux cimport EFD_CLOEXEC, EFD_NONBLOCK, close, eventfd, read, write


cdef bint mailbox_open(mailbox_t* box) noexcept nogil:
    box.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    return box.wake >= 0


cdef void mailbox_close(mailbox_t* box) noexcept nogil:
    cdef bint detects
    cdef int fd = mailbox_take(box, &detects)
    while fd >= 0:
        close(fd)
        fd = mailbox_take(box, &detects)
    if box.wake >= 0:
        close(box.wake)
        box.wake = -1


cdef void mailbox_wake(mailbox_t* box) noexcept nogil:
    cdef uint64_t one = 1
    # It can fail only when the counter is at its maximum, and then the loop is being woken already.
    if write(box.wake, &one, sizeof(one)) < 0:
        pass


cdef void mailbox_clear(mailbox_t* box) noexcept nogil:
    cdef uint64_t count
    if read(box.wake, &count, sizeof(count)) < 0:
        pass


cdef bint mailbox_put(mailbox_t* box, int fd, bint detects) noexcept nogil:
    if box.sent - load_i64(&box.taken) >= INBOX:
        return False
    box.ring[box.sent % INBOX] = fd | DETECTS if detects else fd
    store_i64(&box.sent, box.sent + 1)
    mailbox_wake(box)
    return True


cdef int mailbox_take(mailbox_t* box, bint* detects) noexcept nogil:
    cdef int64_t entry
    if load_i64(&box.sent) == box.taken:
        return -1
    entry = box.ring[box.taken % INBOX]
    store_i64(&box.taken, box.taken + 1)
    detects[0] = entry & DETECTS != 0
    return <int>(entry & ~DETECTS)
