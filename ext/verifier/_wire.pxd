# Protocol buffers in and out, in place: VerifyRequest, VerifyBatchRequest and the head of VerifyResponse.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from verifier._judge cimport answer_t, request_t

cdef enum:
    WIRE_OK = 0
    WIRE_UNDECODABLE = 1
    WIRE_TOO_MANY_SCOPES = 2
    WIRE_BAD_SCOPE = 3
    WIRE_BAD_ADDRESS = 4
    WIRE_CRITICAL_FIELD = 5    # less than the others: reported only when nothing else is wrong
    WIRE_TOO_MANY_REQUESTS = 6

    HEAD_BYTES_MAX = 24        # verdict, phase, revision, staleness
    BATCH_MAX = 1000

ctypedef struct cursor_t:
    const uint8_t* at
    const uint8_t* end

cdef int read_varint(cursor_t* cursor, uint64_t* value) noexcept nogil
# One field: its number, wire type and, for length-delimited fields, its content; others are skipped past, varints read.
cdef int read_field(cursor_t* cursor, uint32_t* number, uint32_t* wire_type, uint64_t* value,
                    cursor_t* content) noexcept nogil
cdef int parse_request(const uint8_t* message, size_t length, request_t* request) noexcept nogil
# Advances to the next request of a batch: 1 found, 0 at the end. Only for a message that check_batch has passed.
cdef bint next_request(cursor_t* cursor, cursor_t* content) noexcept nogil
cdef int check_batch(const uint8_t* message, size_t length, size_t* count, int64_t* min_revision) noexcept nogil
cdef int check_scope(const uint8_t* scope, size_t length) noexcept nogil
cdef int parse_address(const uint8_t* text, size_t length, uint8_t* address) noexcept nogil

cdef size_t varint_length(uint64_t value) noexcept nogil
cdef uint8_t* write_varint(uint8_t* at, uint64_t value) noexcept nogil
# Fields 1 to 4 of VerifyResponse; returns their length.
cdef size_t write_head(uint8_t* at, const answer_t* answer, int64_t revision, int64_t staleness_ms) noexcept nogil
