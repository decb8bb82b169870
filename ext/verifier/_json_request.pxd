# VerifyRequest as JSON, in protobuf's mapping.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from verifier._judge cimport request_t

# Reads a request; a fault of _wire, or WIRE_OK. What `request` points to lies in `text`, which is written into.
cdef int json_request(uint8_t* text, size_t length, request_t* request) noexcept nogil
