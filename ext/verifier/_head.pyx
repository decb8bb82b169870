"""The head of an HTTP/1.1 request (RFC 9112), read strictly and in place.

A gateway in front may read a request in another way than we do, and then one of both takes for a second request what
the other takes for a body. So nothing is repaired or guessed: lines end in CRLF, fields are not folded, no white space
stands where it need not, a length is said once and in one way, and the target is a path. Whatever is not so is refused,
and the connection ends with the refusal.
"""

from libc.string cimport memchr, memcmp

cdef enum:
    METHOD_BYTES_MAX = 32
    LENGTH_DIGITS_MAX = 15
    VERSION_BYTES = 8          # "HTTP/1.1"

    LOWER_TOKEN = 1            # as it stands
    UPPER_TOKEN = 2

cdef uint8_t TOKEN[256]        # what names and methods are made of (RFC 9110, section 5.6.2)


cdef void token_table() noexcept nogil:
    cdef int c
    cdef const char* others = b"!#$%&'*+-.^_`|~"
    for c in range(256):
        TOKEN[c] = 0
        if c'A' <= c <= c'Z':
            TOKEN[c] = UPPER_TOKEN
        elif c'a' <= c <= c'z' or c'0' <= c <= c'9':
            TOKEN[c] = LOWER_TOKEN
    for c in range(15):
        TOKEN[<uint8_t>others[c]] = LOWER_TOKEN


token_table()


# --- Lines -----------------------------------------------------------------------------------------------------------

cdef int read_method(uint8_t** at, const uint8_t* end, head_t* head) noexcept nogil:
    cdef uint8_t* begin = at[0]
    while at[0] < end and TOKEN[at[0][0]]:
        at[0] += 1
    head.method = begin
    head.method_length = at[0] - begin
    if head.method_length == 0 or head.method_length > METHOD_BYTES_MAX or at[0] == end or at[0][0] != c' ':
        return HTTP_BAD_REQUEST
    at[0] += 1
    return 0


cdef int read_target(uint8_t** at, const uint8_t* end, head_t* head) noexcept nogil:
    """Read a path with or without a query: no other form is for a server that is not a proxy and knows no OPTIONS."""
    cdef uint8_t* begin = at[0]
    if at[0] == end or at[0][0] != c'/':
        return HTTP_BAD_REQUEST
    while at[0] < end and 0x21 <= at[0][0] <= 0x7E and at[0][0] != c'#':
        at[0] += 1
    head.target = begin
    head.target_length = at[0] - begin
    if at[0] == end or at[0][0] != c' ':
        return HTTP_BAD_REQUEST
    at[0] += 1
    return 0


cdef int read_version(const uint8_t* at, const uint8_t* end, head_t* head) noexcept nogil:
    if (end - at != VERSION_BYTES or memcmp(at, b"HTTP/", 5) != 0 or at[6] != c'.' or not c'0' <= at[5] <= c'9'
            or not c'0' <= at[7] <= c'9'):
        return HTTP_BAD_REQUEST
    if at[5] != c'1' or at[7] > c'1':
        return HTTP_VERSION_UNKNOWN
    head.minor = at[7] - c'0'
    return 0


cdef int read_request_line(uint8_t* at, const uint8_t* end, head_t* head) noexcept nogil:
    cdef int fault = read_method(&at, end, head)
    if fault == 0:
        fault = read_target(&at, end, head)
    return fault if fault else read_version(at, end, head)


cdef inline bint is_space(uint8_t c) noexcept nogil:
    return c == c' ' or c == c'\t'


cdef int field_read(uint8_t* line, size_t length, field_t* field) noexcept nogil:
    cdef uint8_t* at = line
    cdef uint8_t* end = line + length
    cdef uint8_t* c
    while at < end and TOKEN[at[0]]:
        if TOKEN[at[0]] == UPPER_TOKEN:
            at[0] |= 0x20
        at += 1
    # A line that begins with white space (obs-fold), and white space before the colon, end up here, too.
    if at == line or at == end or at[0] != c':':
        return HTTP_BAD_REQUEST
    field.name = line
    field.name_length = at - line
    at += 1
    while at < end and is_space(at[0]):
        at += 1
    while end > at and is_space((end - 1)[0]):
        end -= 1
    field.value = at
    field.value_length = end - at
    c = at
    while c < end:
        if (c[0] < 0x20 and c[0] != c'\t') or c[0] == 0x7F:
            return HTTP_BAD_REQUEST
        c += 1
    return 0


# --- What fields say of the message ----------------------------------------------------------------------------------

cdef inline bint same_word(const uint8_t* text, size_t length, const char* word, size_t word_length) noexcept nogil:
    """Compare with a word in lower case."""
    cdef size_t i
    cdef uint8_t c
    if length != word_length:
        return False
    for i in range(length):
        c = text[i]
        if c'A' <= c <= c'Z':
            c |= 0x20
        if c != <uint8_t>word[i]:
            return False
    return True


cdef bint lists(const field_t* field, const char* word, size_t word_length) noexcept nogil:
    """Tell whether a list with commas has a word."""
    cdef const uint8_t* at = field.value
    cdef const uint8_t* end = at + field.value_length
    cdef const uint8_t* comma
    cdef const uint8_t* last
    while at <= end:
        comma = <const uint8_t*>memchr(at, c',', end - at) if end > at else NULL
        if comma == NULL:
            comma = end
        last = comma
        while at < last and is_space(at[0]):
            at += 1
        while last > at and is_space((last - 1)[0]):
            last -= 1
        if same_word(at, last - at, word, word_length):
            return True
        at = comma + 1
    return False


cdef int read_length(const field_t* field, head_t* head) noexcept nogil:
    cdef size_t i
    if field.value_length == 0 or field.value_length > LENGTH_DIGITS_MAX:
        return HTTP_BAD_REQUEST
    for i in range(field.value_length):
        if not c'0' <= field.value[i] <= c'9':
            return HTTP_BAD_REQUEST
        head.content_length = head.content_length * 10 + field.value[i] - c'0'
    return 0


cdef inline bint named(const field_t* field, const char* name, size_t length) noexcept nogil:
    return field.name_length == length and memcmp(field.name, name, length) == 0


cdef int understand(head_t* head) noexcept nogil:
    """Decide what the fields say of the message's end and of the connection's."""
    cdef const field_t* field
    cdef int i, hosts = 0, lengths = 0, codings = 0
    cdef bint closes = False, keeps = False
    for i in range(head.field_count):
        field = &head.fields[i]
        if named(field, b"host", 4):
            hosts += 1
        elif named(field, b"content-length", 14):
            lengths += 1
            if read_length(field, head):
                return HTTP_BAD_REQUEST
        elif named(field, b"transfer-encoding", 17):
            codings += 1
            if not same_word(field.value, field.value_length, b"chunked", 7):
                return HTTP_NOT_IMPLEMENTED
            head.chunked = True
        elif named(field, b"connection", 10):
            closes = closes or lists(field, b"close", 5)
            keeps = keeps or lists(field, b"keep-alive", 10)
        elif named(field, b"expect", 6):
            if not same_word(field.value, field.value_length, b"100-continue", 12):
                return HTTP_EXPECTATION_FAILED
            head.expects = head.minor == 1
    # Each of these may stand once. A length and a coding contradict each other, and HTTP/1.0 knows no coding.
    if hosts > 1 or lengths > 1 or codings > 1 or (codings and (lengths or head.minor == 0)):
        return HTTP_BAD_REQUEST
    if hosts == 0 and head.minor == 1:
        return HTTP_BAD_REQUEST
    head.keeps_alive = not closes and (head.minor == 1 or keeps)
    return 0


cdef int head_read(uint8_t* text, size_t length, int fields_max, head_t* head) noexcept nogil:
    cdef uint8_t* at = text
    cdef uint8_t* end = text + length - 2      # the empty line
    cdef uint8_t* line_end
    cdef int fault
    head.chunked = head.expects = False
    head.content_length = 0
    head.field_count = 0
    line_end = <uint8_t*>memchr(at, c'\n', end - at)
    if line_end == NULL or line_end == at or (line_end - 1)[0] != c'\r':
        return HTTP_BAD_REQUEST
    fault = read_request_line(at, line_end - 1, head)
    at = line_end + 1
    while fault == 0 and at < end:
        if head.field_count == fields_max or head.field_count == HEAD_FIELDS_MAX:
            return HTTP_FIELDS_TOO_LARGE
        line_end = <uint8_t*>memchr(at, c'\n', end - at)
        if line_end == NULL or line_end == at or (line_end - 1)[0] != c'\r':
            return HTTP_BAD_REQUEST
        fault = field_read(at, line_end - 1 - at, &head.fields[head.field_count])
        head.field_count += 1
        at = line_end + 1
    return fault if fault else understand(head)
