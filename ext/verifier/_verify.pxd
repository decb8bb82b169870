# The methods Verify and VerifyBatch of verifier.v1.VerifierService, on the seam of _service.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._service cimport pending_t, reply_t, turn_t

# Verify, in stages.
cdef bint verify_begin(turn_t* turn, const uint8_t* message, size_t length, bint expired, pending_t* pending,
                       reply_t* reply) noexcept nogil
cdef void verify_prefetch(turn_t* turn, const pending_t* pending) noexcept nogil
cdef void verify_finish(turn_t* turn, pending_t* pending, reply_t* reply) noexcept nogil
cdef void verify_batch(turn_t* turn, const uint8_t* message, size_t length, bint expired,
                       reply_t* reply) noexcept nogil
