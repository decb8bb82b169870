# grpc.health.v1.Health/Check.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._service cimport reply_t, turn_t

cdef void health_check(turn_t* turn, const uint8_t* message, size_t length, bint expired, reply_t* reply) noexcept nogil
