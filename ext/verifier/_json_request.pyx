"""VerifyRequest as JSON, in protobuf's mapping (https://protobuf.dev/programming-guides/json/).

A request is one flat object, so nothing nests and nothing recurses. The reader takes RFC 8259 to the letter, and refuses
what parsers read differently: a name that stands twice, a lone surrogate, a name that it does not know. Strings are
unescaped where they lie, since none grows by it.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, strlen

from verifier._judge cimport SCOPES_MAX
from verifier._wire cimport (
    WIRE_BAD_SCOPE, WIRE_OK, WIRE_TOO_MANY_SCOPES, WIRE_UNDECODABLE, check_scope, parse_address,
)

cdef enum:
    KEY = 1
    REQUIRED_SCOPES = 2
    CLIENT_ADDRESS = 4
    MIN_REVISION = 8
    PROBE = 16


# --- Characters ------------------------------------------------------------------------------------------------------

ctypedef struct text_t:
    uint8_t* at
    uint8_t* end


cdef inline int next_token(text_t* text) noexcept nogil:
    """Skip white space and return the next character, which stays; -1 at the end."""
    while text.at < text.end and (text.at[0] == c' ' or text.at[0] == c'\n' or text.at[0] == c'\r'
                                  or text.at[0] == c'\t'):
        text.at += 1
    return text.at[0] if text.at < text.end else -1


cdef inline bint take(text_t* text, int character) noexcept nogil:
    if next_token(text) != character:
        return False
    text.at += 1
    return True


cdef bint take_word(text_t* text, const char* word, size_t length) noexcept nogil:
    next_token(text)
    if <size_t>(text.end - text.at) < length or memcmp(text.at, word, length) != 0:
        return False
    text.at += length
    return True


cdef int hex_digit(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef int read_unit(text_t* text) noexcept nogil:
    """Read the four digits of \\uXXXX; -1 when they are not."""
    cdef int unit = 0, digit, i
    if text.end - text.at < 4:
        return -1
    for i in range(4):
        digit = hex_digit(text.at[i])
        if digit < 0:
            return -1
        unit = unit << 4 | digit
    text.at += 4
    return unit


cdef uint8_t* write_utf8(uint8_t* to, uint32_t code) noexcept nogil:
    if code < 0x80:
        to[0] = <uint8_t>code
        return to + 1
    if code < 0x800:
        to[0] = <uint8_t>(0xC0 | code >> 6)
        to[1] = <uint8_t>(0x80 | (code & 0x3F))
        return to + 2
    if code < 0x10000:
        to[0] = <uint8_t>(0xE0 | code >> 12)
        to[1] = <uint8_t>(0x80 | (code >> 6 & 0x3F))
        to[2] = <uint8_t>(0x80 | (code & 0x3F))
        return to + 3
    to[0] = <uint8_t>(0xF0 | code >> 18)
    to[1] = <uint8_t>(0x80 | (code >> 12 & 0x3F))
    to[2] = <uint8_t>(0x80 | (code >> 6 & 0x3F))
    to[3] = <uint8_t>(0x80 | (code & 0x3F))
    return to + 4


cdef uint8_t* take_escape(text_t* text, uint8_t* to) noexcept nogil:
    """Write what stands behind a backslash; NULL when it is no escape."""
    cdef uint8_t c
    cdef int high, low
    if text.at == text.end:
        return NULL
    c = text.at[0]
    text.at += 1
    if c == c'u':
        high = read_unit(text)
        if high < 0 or 0xDC00 <= high <= 0xDFFF:
            return NULL
        if not 0xD800 <= high <= 0xDBFF:
            return write_utf8(to, <uint32_t>high)
        if text.end - text.at < 6 or text.at[0] != c'\\' or text.at[1] != c'u':
            return NULL
        text.at += 2
        low = read_unit(text)
        if not 0xDC00 <= low <= 0xDFFF:
            return NULL
        return write_utf8(to, 0x10000 + (<uint32_t>(high - 0xD800) << 10) + <uint32_t>(low - 0xDC00))
    if c == c'n':
        c = c'\n'
    elif c == c't':
        c = c'\t'
    elif c == c'r':
        c = c'\r'
    elif c == c'b':
        c = 8
    elif c == c'f':
        c = 12
    elif c != c'"' and c != c'\\' and c != c'/':
        return NULL
    to[0] = c
    return to + 1


cdef size_t utf8_length(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """How many bytes the character of several bytes has; 0 when it is none (RFC 3629)."""
    cdef size_t length, i
    cdef uint8_t least = 0x80, most = 0xBF
    if 0xC2 <= at[0] <= 0xDF:
        length = 2
    elif 0xE0 <= at[0] <= 0xEF:
        length = 3
        if at[0] == 0xE0:
            least = 0xA0
        elif at[0] == 0xED:
            most = 0x9F
    elif 0xF0 <= at[0] <= 0xF4:
        length = 4
        if at[0] == 0xF0:
            least = 0x90
        elif at[0] == 0xF4:
            most = 0x8F
    else:
        return 0
    if <size_t>(end - at) < length or not least <= at[1] <= most:
        return 0
    for i in range(2, length):
        if at[i] & 0xC0 != 0x80:
            return 0
    return length


cdef bint read_string(text_t* text, uint8_t** content, size_t* length) noexcept nogil:
    """Read a string and unescape it where it lies."""
    cdef uint8_t* to
    cdef uint8_t c
    cdef size_t count, i
    if not take(text, c'"'):
        return False
    content[0] = to = text.at
    while text.at < text.end:
        c = text.at[0]
        if c == c'"':
            text.at += 1
            length[0] = to - content[0]
            return True
        if c < 0x20:
            return False
        if c == c'\\':
            text.at += 1
            to = take_escape(text, to)
            if to == NULL:
                return False
            continue
        count = 1 if c < 0x80 else utf8_length(text.at, text.end)
        if count == 0:
            return False
        for i in range(count):
            to[i] = text.at[i]
        to += count
        text.at += count
    return False


cdef bint read_digits(text_t* text, int64_t* value) noexcept nogil:
    """Read a whole number of 64 bits as JSON writes one, without fraction and exponent."""
    cdef uint64_t number = 0, most = <uint64_t>0x7FFFFFFFFFFFFFFF
    cdef bint negative = text.at < text.end and text.at[0] == c'-'
    cdef uint8_t* begin
    cdef uint8_t digit
    if negative:
        text.at += 1
        most += 1
    begin = text.at
    while text.at < text.end and c'0' <= text.at[0] <= c'9':
        digit = text.at[0] - c'0'
        if number > (most - digit) // 10:
            return False
        number = number * 10 + digit
        text.at += 1
    if text.at == begin or (begin[0] == c'0' and text.at - begin > 1):
        return False
    value[0] = <int64_t>(0 - number) if negative else <int64_t>number
    return True


cdef bint read_integer(text_t* text, int64_t* value) noexcept nogil:
    """Read an int64: a number, or, since other languages would round it, a string with one."""
    cdef text_t inner
    cdef uint8_t* content
    cdef size_t length
    cdef int after
    if next_token(text) == c'"':
        if not read_string(text, &content, &length):
            return False
        inner.at = content
        inner.end = content + length
        return read_digits(&inner, value) and inner.at == inner.end
    if not read_digits(text, value):
        return False
    after = next_token(text)
    return after == c',' or after == c'}'


# --- The request ------------------------------------------------------------------------------------------------------

cdef inline bint is_name(const uint8_t* name, size_t length, const char* one, const char* other) noexcept nogil:
    return ((length == strlen(one) and memcmp(name, one, length) == 0)
            or (length == strlen(other) and memcmp(name, other, length) == 0))


cdef int field_of(const uint8_t* name, size_t length) noexcept nogil:
    """Protobuf's parsers take a field by either of its names; 0 when it is none."""
    if is_name(name, length, b"key", b"key"):
        return KEY
    if is_name(name, length, b"requiredScopes", b"required_scopes"):
        return REQUIRED_SCOPES
    if is_name(name, length, b"clientAddress", b"client_address"):
        return CLIENT_ADDRESS
    if is_name(name, length, b"minRevision", b"min_revision"):
        return MIN_REVISION
    if is_name(name, length, b"probe", b"probe"):
        return PROBE
    return 0


cdef int read_scopes(text_t* text, request_t* request) noexcept nogil:
    cdef uint8_t* scope
    cdef size_t length
    cdef int fault = WIRE_OK
    if not take(text, c'['):
        return WIRE_UNDECODABLE
    if take(text, c']'):
        return WIRE_OK
    while True:
        if not read_string(text, &scope, &length):
            return WIRE_UNDECODABLE
        if request.scope_count == SCOPES_MAX:
            fault = WIRE_TOO_MANY_SCOPES
        elif check_scope(scope, length) != WIRE_OK:
            fault = WIRE_BAD_SCOPE if fault == WIRE_OK else fault
        else:
            request.scopes[request.scope_count] = scope
            request.scope_lengths[request.scope_count] = <uint8_t>length
            request.scope_count += 1
        if take(text, c']'):
            return fault
        if not take(text, c','):
            return WIRE_UNDECODABLE


cdef int read_value(text_t* text, int field, request_t* request) noexcept nogil:
    cdef uint8_t* content
    cdef size_t length
    if take_word(text, b"null", 4):
        return WIRE_OK
    if field == KEY:
        if not read_string(text, &content, &length):
            return WIRE_UNDECODABLE
        request.key = content
        request.key_length = length
    elif field == REQUIRED_SCOPES:
        return read_scopes(text, request)
    elif field == CLIENT_ADDRESS:
        if not read_string(text, &content, &length):
            return WIRE_UNDECODABLE
        if length:
            request.has_address = True
            return parse_address(content, length, request.address)
    elif field == MIN_REVISION:
        return WIRE_OK if read_integer(text, &request.min_revision) else WIRE_UNDECODABLE
    elif take_word(text, b"true", 4):
        request.probe = True
    elif not take_word(text, b"false", 5):
        return WIRE_UNDECODABLE
    return WIRE_OK


cdef int json_request(uint8_t* text_begin, size_t text_length, request_t* request) noexcept nogil:
    cdef text_t text
    cdef uint8_t* name
    cdef size_t length
    cdef int field, seen = 0, fault, worst = WIRE_OK
    text.at = text_begin
    text.end = text_begin + text_length
    request.key = text_begin
    request.key_length = 0
    request.scope_count = 0
    request.has_address = request.probe = False
    request.min_revision = 0
    if not take(&text, c'{'):
        return WIRE_UNDECODABLE
    if not take(&text, c'}'):
        while True:
            if not read_string(&text, &name, &length) or not take(&text, c':'):
                return WIRE_UNDECODABLE
            field = field_of(name, length)
            if field == 0 or seen & field:
                return WIRE_UNDECODABLE
            seen |= field
            fault = read_value(&text, field, request)
            if fault == WIRE_UNDECODABLE:
                return fault
            worst = fault if worst == WIRE_OK else worst
            if take(&text, c'}'):
                break
            if not take(&text, c','):
                return WIRE_UNDECODABLE
    return worst if next_token(&text) < 0 else WIRE_UNDECODABLE
