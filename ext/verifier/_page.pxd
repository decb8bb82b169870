# An answer of plain HTTP while it is made: status, header lines, body, for whichever transport sends it.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t

from verifier._service cimport reply_t

cdef enum:
    PAGE_FIELDS_MAX = 40

ctypedef struct line_t:
    uint32_t name_at           # in room.body
    uint32_t name_length
    uint32_t value_at
    uint32_t value_length

# `room` holds the header lines as HTTP/1.1 writes them, "name: value\r\n", and then the body.
ctypedef struct page_t:
    reply_t* room
    int status
    line_t lines[PAGE_FIELDS_MAX]
    int line_count
    size_t head_length         # of all lines
    size_t body_length         # behind them
    bint failed                # there was no memory: send 503 and nothing else

cdef void page_begin(page_t* page, reply_t* room, int status) noexcept nogil
# Fields come before the body. The value must be fit for a header.
cdef void page_field(page_t* page, const uint8_t* name, size_t name_length, const uint8_t* value,
                     size_t value_length) noexcept nogil
cdef void page_text(page_t* page, const char* name, const char* value) noexcept nogil
cdef void page_number(page_t* page, const char* name, int64_t value) noexcept nogil
cdef void page_body(page_t* page, const uint8_t* body, size_t length) noexcept nogil
# Makes room for a body that is written straight behind the lines; NULL when there is no memory. Then page_written.
cdef uint8_t* page_reserve(page_t* page, size_t length) noexcept nogil
cdef void page_written(page_t* page, size_t length) noexcept nogil
# A whole answer that says what is wrong with a request (RFC 9457). `detail` is static text without quotes; `allow` NULL
# or the methods that there are.
cdef void page_problem(page_t* page, reply_t* room, int status, const char* detail, const char* allow) noexcept nogil
cdef const char* reason_of_status(int status) noexcept nogil
