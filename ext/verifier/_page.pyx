"""An answer of plain HTTP while it is made.

It lies in the room where methods write their replies, in the form that HTTP/1.1 sends; HTTP/2 takes names and values
out of it.
"""

from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

cdef enum:
    NUMBER_BYTES = 24
    PROBLEM_BYTES = 512


cdef const char* reason_of_status(int status) noexcept nogil:
    if status == 200:
        return b"OK"
    if status == 400:
        return b"Bad Request"
    if status == 401:
        return b"Unauthorized"
    if status == 403:
        return b"Forbidden"
    if status == 404:
        return b"Not Found"
    if status == 405:
        return b"Method Not Allowed"
    if status == 413:
        return b"Content Too Large"
    if status == 415:
        return b"Unsupported Media Type"
    if status == 417:
        return b"Expectation Failed"
    if status == 429:
        return b"Too Many Requests"
    if status == 431:
        return b"Request Header Fields Too Large"
    if status == 501:
        return b"Not Implemented"
    if status == 503:
        return b"Service Unavailable"
    if status == 505:
        return b"HTTP Version Not Supported"
    return b"Error"


cdef const char* code_of_status(int status) noexcept nogil:
    """What a program may go by, beside the status; the codes of refused keys are those of _decided."""
    if status == 400:
        return b"bad_request"
    if status == 404:
        return b"not_found"
    if status == 405:
        return b"method_not_allowed"
    if status == 413:
        return b"too_large"
    if status == 415:
        return b"unsupported_media_type"
    if status == 431:
        return b"headers_too_large"
    if status == 503:
        return b"unavailable"
    return b"not_supported"


cdef bint make_room(page_t* page, size_t more) noexcept nogil:
    cdef size_t wanted = page.head_length + page.body_length + more
    if page.failed:
        return False
    if wanted > page.room.capacity and page.room.grow(page.room, 2 * wanted) != 0:
        page.failed = True
        return False
    return True


cdef void page_begin(page_t* page, reply_t* room, int status) noexcept nogil:
    page.room = room
    page.status = status
    page.line_count = 0
    page.head_length = page.body_length = 0
    page.failed = False


cdef void page_field(page_t* page, const uint8_t* name, size_t name_length, const uint8_t* value,
                     size_t value_length) noexcept nogil:
    cdef line_t* line = &page.lines[page.line_count]
    cdef uint8_t* at
    if page.line_count == PAGE_FIELDS_MAX:
        page.failed = True
    if not make_room(page, name_length + value_length + 4):
        return
    at = page.room.body + page.head_length
    line.name_at = <uint32_t>page.head_length
    line.name_length = <uint32_t>name_length
    line.value_at = <uint32_t>(page.head_length + name_length + 2)
    line.value_length = <uint32_t>value_length
    memcpy(at, name, name_length)
    memcpy(at + name_length, b": ", 2)
    if value_length:
        memcpy(at + name_length + 2, value, value_length)
    memcpy(at + name_length + 2 + value_length, b"\r\n", 2)
    page.head_length += name_length + value_length + 4
    page.line_count += 1


cdef void page_text(page_t* page, const char* name, const char* value) noexcept nogil:
    page_field(page, <const uint8_t*>name, strlen(name), <const uint8_t*>value, strlen(value))


cdef void page_number(page_t* page, const char* name, int64_t value) noexcept nogil:
    cdef char text[NUMBER_BYTES]
    cdef int length = snprintf(text, NUMBER_BYTES, b"%lld", <long long>value)
    page_field(page, <const uint8_t*>name, strlen(name), <const uint8_t*>text, <size_t>length)


cdef uint8_t* page_reserve(page_t* page, size_t length) noexcept nogil:
    return page.room.body + page.head_length if make_room(page, length) else NULL


cdef void page_written(page_t* page, size_t length) noexcept nogil:
    page.body_length = length


cdef void page_body(page_t* page, const uint8_t* body, size_t length) noexcept nogil:
    cdef uint8_t* at = page_reserve(page, length)
    if at != NULL and length:
        memcpy(at, body, length)
        page.body_length = length


cdef void page_problem(page_t* page, reply_t* room, int status, const char* detail, const char* allow) noexcept nogil:
    cdef char text[PROBLEM_BYTES]
    cdef int length
    page_begin(page, room, status)
    page_text(page, b"content-type", b"application/problem+json")
    page_text(page, b"cache-control", b"no-store")
    if status == 503:
        page_text(page, b"retry-after", b"1")
    if allow != NULL:
        page_text(page, b"allow", allow)
    length = snprintf(text, PROBLEM_BYTES,
                      b"{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\",\"detail\":\"%s\"}",
                      reason_of_status(status), status, code_of_status(status), detail)
    page_body(page, <const uint8_t*>text, <size_t>length)
