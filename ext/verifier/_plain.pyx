"""The plain transport: a non-blocking TCP or Unix socket."""

from libc.errno cimport errno

from verifier.linux cimport EAGAIN, EINTR, MSG_NOSIGNAL, SHUT_WR, recv, send, shutdown

cdef transport_t PLAIN


cdef ssize_t plain_receive(int fd, void* state, uint8_t* room, size_t capacity) noexcept nogil:
    cdef ssize_t count
    while True:
        count = recv(fd, room, capacity, 0)
        if count >= 0:
            return count
        if errno == EAGAIN:
            return WOULD_BLOCK
        if errno != EINTR:
            return BROKEN


cdef ssize_t plain_send(int fd, void* state, const uint8_t* data, size_t length) noexcept nogil:
    cdef ssize_t count
    while True:
        count = send(fd, data, length, MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno == EAGAIN:
            return WOULD_BLOCK
        if errno != EINTR:
            return BROKEN


cdef void plain_finish(int fd, void* state) noexcept nogil:
    shutdown(fd, SHUT_WR)


cdef void plain_release(void* state) noexcept nogil:
    pass


PLAIN.receive = plain_receive
PLAIN.send = plain_send
PLAIN.finish = plain_finish
PLAIN.release = plain_release


cdef const transport_t* plain_transport() noexcept nogil:
    return &PLAIN
