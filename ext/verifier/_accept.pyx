"""Accepting connections.

One loop accepts and hands over, since with SO_REUSEPORT a second server would share the port silently. When there are
no more file descriptors the listening socket stays readable, and a careless loop would spin on it: so one descriptor
is kept in reserve, given up to take a connection and close it at once, and opened again. If even that fails, accepting
pauses until the next tick.
"""

from libc.errno cimport errno

from verifier._connection cimport connection_open
from verifier._mailbox cimport mailbox_put, mailbox_wake
from verifier._plain cimport plain_transport
from verifier._transport cimport REFUSED_DESCRIPTORS, REFUSED_LIMIT
from verifier.atomics cimport load_i64, store_i64
from verifier.linux cimport (
    EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, IPPROTO_TCP, O_CLOEXEC, O_RDONLY,
    SOCK_CLOEXEC, SOCK_NONBLOCK, TCP_NODELAY, accept4, close, epoll_ctl, epoll_event, open, setsockopt,
)

cdef enum:
    ACCEPTS_PER_TURN = 64      # so that a flood of connections does not hold up calls
    LAST_ACCEPTS = 4096


cdef void acceptor_open(acceptor_t* acceptor) noexcept nogil:
    acceptor.reserve = open(b"/dev/null", O_RDONLY | O_CLOEXEC)
    acceptor.paused = True
    acceptor_resume(acceptor)


cdef void acceptor_resume(acceptor_t* acceptor) noexcept nogil:
    cdef epoll_event event
    cdef int i
    if not acceptor.paused:
        return
    acceptor.paused = False
    if acceptor.reserve < 0:
        acceptor.reserve = open(b"/dev/null", O_RDONLY | O_CLOEXEC)
    for i in range(acceptor.listener_count):
        event.events = EPOLLIN
        event.data.ptr = &acceptor.listeners[i]
        epoll_ctl(acceptor.epoll, EPOLL_CTL_ADD, acceptor.listeners[i].fd, &event)


cdef void pause(acceptor_t* acceptor) noexcept nogil:
    cdef epoll_event event
    cdef int i
    acceptor.paused = True
    acceptor.service.transport.accept_pauses += 1
    for i in range(acceptor.listener_count):
        epoll_ctl(acceptor.epoll, EPOLL_CTL_DEL, acceptor.listeners[i].fd, &event)


cdef void refuse_one(acceptor_t* acceptor, const listener_t* listener) noexcept nogil:
    """There are no more descriptors: give up the reserve to take one connection and close it."""
    cdef int fd
    if acceptor.reserve < 0:
        pause(acceptor)
        return
    close(acceptor.reserve)
    fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if fd >= 0:
        close(fd)
        acceptor.service.transport.reasons[REFUSED_DESCRIPTORS] += 1
    acceptor.reserve = open(b"/dev/null", O_RDONLY | O_CLOEXEC)


cdef int64_t load_of(const peer_t* peer) noexcept nogil:
    """A peer's connections, with those on their way to it. All come from here, so what is not closed is there."""
    return peer.mailbox.sent - load_i64(&peer.connections.closed)


cdef void place(acceptor_t* acceptor, int fd, bint detects) noexcept nogil:
    """Give a connection to the loop with the fewest."""
    cdef int64_t least = acceptor.connections.count, total = least, load
    cdef int chosen = -1, i
    for i in range(acceptor.peer_count):
        load = load_of(&acceptor.peers[i])
        total += load
        if load < least:
            least = load
            chosen = i
    if total >= acceptor.service.limits.connections_max:
        close(fd)
        acceptor.service.transport.reasons[REFUSED_LIMIT] += 1
    elif chosen >= 0 and mailbox_put(acceptor.peers[chosen].mailbox, fd, detects):
        acceptor.service.transport.handed += 1
    else:
        connection_open(acceptor.connections, fd, detects, plain_transport(), NULL)


cdef bint accept_one(acceptor_t* acceptor, const listener_t* listener) noexcept nogil:
    """False: there is nothing more to accept now."""
    cdef int one = 1
    cdef int fd = accept4(listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if fd < 0:
        if errno == EMFILE or errno == ENFILE:
            refuse_one(acceptor, listener)
            return not acceptor.paused
        if errno == ENOBUFS or errno == ENOMEM:
            pause(acceptor)
            return False
        # Anything else but EAGAIN concerns the one connection that failed before it was taken (accept(2)).
        return errno != EAGAIN
    acceptor.service.transport.accepted += 1
    if listener.is_tcp:
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))
    place(acceptor, fd, listener.detects)
    return True


cdef void accept_some(acceptor_t* acceptor, const listener_t* listener) noexcept nogil:
    cdef int i
    for i in range(ACCEPTS_PER_TURN):
        if not accept_one(acceptor, listener):
            return


cdef void acceptor_close(acceptor_t* acceptor) noexcept nogil:
    cdef int i, accepted
    for i in range(acceptor.listener_count):
        for accepted in range(LAST_ACCEPTS):
            if not accept_one(acceptor, &acceptor.listeners[i]):
                break
        close(acceptor.listeners[i].fd)
    acceptor.listener_count = 0
    if acceptor.reserve >= 0:
        close(acceptor.reserve)
        acceptor.reserve = -1


cdef void peers_drain(acceptor_t* acceptor, int64_t timeout_ms) noexcept nogil:
    cdef int i
    for i in range(acceptor.peer_count):
        store_i64(&acceptor.peers[i].mailbox.drain_ms, timeout_ms)
        mailbox_wake(acceptor.peers[i].mailbox)
