# The methods Verify and VerifyBatch of verifier.v1.VerifierService, on the seam of _service.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._service cimport reply_t, turn_t

cdef void verify(turn_t* turn, const uint8_t* message, size_t length, bint expired, reply_t* reply) noexcept nogil
cdef void verify_batch(turn_t* turn, const uint8_t* message, size_t length, bint expired,
                       reply_t* reply) noexcept nogil
