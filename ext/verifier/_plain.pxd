# Bytes in and out of a connection. TLS will be another transport_t.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef enum:
    ENDED = 0                  # the peer will send no more
    WOULD_BLOCK = -1
    BROKEN = -2

ctypedef struct transport_t:
    # Each returns bytes, or one of the above. `state` is the transport's own, NULL for plain sockets.
    ssize_t (*receive)(int fd, void* state, uint8_t* room, size_t capacity) noexcept nogil
    ssize_t (*send)(int fd, void* state, const uint8_t* data, size_t length) noexcept nogil
    # No more will be sent.
    void (*finish)(int fd, void* state) noexcept nogil
    void (*release)(void* state) noexcept nogil

cdef const transport_t* plain_transport() noexcept nogil
