# The head of an HTTP/1.1 request, read strictly and in place.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

cdef enum:
    HEAD_FIELDS_MAX = 256      # whatever the limits say

    HTTP_OK = 200
    HTTP_BAD_REQUEST = 400
    HTTP_TOO_LARGE = 413
    HTTP_EXPECTATION_FAILED = 417
    HTTP_FIELDS_TOO_LARGE = 431
    HTTP_NOT_IMPLEMENTED = 501
    HTTP_VERSION_UNKNOWN = 505

ctypedef struct field_t:
    const uint8_t* name        # in lower case
    size_t name_length
    uint8_t* value             # without white space around it
    size_t value_length

ctypedef struct head_t:
    const uint8_t* method
    size_t method_length
    uint8_t* target            # origin-form
    size_t target_length
    int minor                  # of the version: HTTP/1.minor
    bint keeps_alive           # the connection goes on after the answer, as far as the client is concerned
    bint expects               # 100-continue
    bint chunked
    uint64_t content_length    # 0 when there is none, too
    field_t fields[HEAD_FIELDS_MAX]
    int field_count

# Reads a head, up to and including the empty line. Writes lower case into it. 0, or the HTTP status to refuse it with.
cdef int head_read(uint8_t* text, size_t length, int fields_max, head_t* head) noexcept nogil
# Reads one field line without its CRLF, as a trailer may be one.
cdef int field_read(uint8_t* line, size_t length, field_t* field) noexcept nogil
