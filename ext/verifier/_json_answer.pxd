# VerifyResponse as JSON, in protobuf's mapping.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from verifier._judge cimport answer_t

# What json_answer writes at most.
cdef size_t json_answer_bytes_max(const answer_t* answer) noexcept nogil
cdef size_t json_answer(uint8_t* at, const answer_t* answer, int64_t revision, int64_t staleness_ms) noexcept nogil
