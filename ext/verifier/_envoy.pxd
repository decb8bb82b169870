# The method Check of envoy.service.auth.v3.Authorization, in stages, on the seam of _service.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._service cimport pending_t, reply_t, turn_t

cdef bint check_begin(turn_t* turn, const uint8_t* message, size_t length, bint expired, pending_t* pending,
                      reply_t* reply) noexcept nogil
cdef void check_prefetch(turn_t* turn, const pending_t* pending) noexcept nogil
cdef void check_finish(turn_t* turn, pending_t* pending, reply_t* reply) noexcept nogil
