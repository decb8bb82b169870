# The methods Verify and VerifyBatch of verifier.v1.VerifierService, on the seam of _service.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from verifier._service cimport pending_t, reply_t, turn_t

# What any method that judges keys needs.
cdef bint fail(reply_t* reply, int status, const char* message) noexcept nogil
# G4 to G6: the deadline, the keyring and its staleness, min_revision. False: the reply says which.
cdef bint pass_gates(turn_t* turn, bint expired, int64_t min_revision, reply_t* reply) noexcept nogil
# False: no memory, and the reply says so.
cdef bint make_room(reply_t* reply, size_t more) noexcept nogil
# Verify, in stages.
cdef bint verify_begin(turn_t* turn, const uint8_t* message, size_t length, bint expired, pending_t* pending,
                       reply_t* reply) noexcept nogil
cdef void verify_prefetch(turn_t* turn, const pending_t* pending) noexcept nogil
cdef void verify_finish(turn_t* turn, pending_t* pending, reply_t* reply) noexcept nogil
cdef void verify_batch(turn_t* turn, const uint8_t* message, size_t length, bint expired,
                       reply_t* reply) noexcept nogil

# Gates, for other formats of the same requests. False: the reply says what is at fault.
cdef bint accept(reply_t* reply, int fault) noexcept nogil
cdef bint pass_gates(turn_t* turn, bint expired, int64_t min_revision, reply_t* reply) noexcept nogil
