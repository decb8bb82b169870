# A method that answers with what it was asked: the bare transport, for measuring and for tests.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._service cimport reply_t, turn_t

cdef void echo(turn_t* turn, const uint8_t* message, size_t length, bint expired, reply_t* reply) noexcept nogil
