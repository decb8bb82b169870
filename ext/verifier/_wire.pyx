"""Protocol buffers in and out, in place.

The decoder accepts what a stock parser accepts - fields in any order, repeated singular fields (the last counts),
unknown fields and groups - with two differences: a key may be any bytes (what is not ASCII is MALFORMED, not an
undecodable message), and unknown fields numbered 48 to 63 are an error, since they would change what is asked.
https://protobuf.dev/programming-guides/encoding/
"""

from libc.string cimport memchr, memcpy

from verifier._judge cimport PHASE_NONE, SCOPE_BYTES_MAX, SCOPES_MAX

cdef enum:
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    GROUP_START = 3
    GROUP_END = 4
    FIXED32 = 5

    GROUP_DEPTH_MAX = 100      # as in the stock parsers
    CRITICAL_FIRST = 48
    CRITICAL_LAST = 63
    ADDRESS_TEXT_MAX = 45      # "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"

cdef extern from *:
    """
    #include <arpa/inet.h>
    #include <sys/socket.h>
    """
    int AF_INET
    int AF_INET6
    int inet_pton(int family, const char* text, void* address) nogil


# --- Reading ---------------------------------------------------------------------------------------------------------

cdef int read_varint(cursor_t* cursor, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef int shift = 0
    cdef uint8_t byte
    while cursor.at < cursor.end and shift < 70:
        byte = cursor.at[0]
        cursor.at += 1
        if shift == 63 and byte > 1:
            return WIRE_UNDECODABLE
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            value[0] = result
            return WIRE_OK
        shift += 7
    return WIRE_UNDECODABLE


cdef int skip_group(cursor_t* cursor, uint32_t number) noexcept nogil:
    """Skip past the end of a group whose start was just read."""
    cdef uint32_t open_groups[GROUP_DEPTH_MAX]
    cdef int depth = 1
    cdef uint64_t tag, value
    cdef uint32_t kind
    open_groups[0] = number
    while depth:
        if read_varint(cursor, &tag) != WIRE_OK or tag > 0xFFFFFFFFu or tag >> 3 == 0:
            return WIRE_UNDECODABLE
        kind = tag & 7
        if kind == GROUP_START:
            if depth == GROUP_DEPTH_MAX:
                return WIRE_UNDECODABLE
            open_groups[depth] = tag >> 3
            depth += 1
        elif kind == GROUP_END:
            depth -= 1
            if open_groups[depth] != tag >> 3:
                return WIRE_UNDECODABLE
        elif skip_value(cursor, kind, &value, NULL) != WIRE_OK:
            return WIRE_UNDECODABLE
    return WIRE_OK


cdef int skip_value(cursor_t* cursor, uint32_t wire_type, uint64_t* value, cursor_t* content) noexcept nogil:
    cdef uint64_t left
    if wire_type == VARINT:
        return read_varint(cursor, value)
    if wire_type == BYTES:
        if read_varint(cursor, value) != WIRE_OK or value[0] > <uint64_t>(cursor.end - cursor.at):
            return WIRE_UNDECODABLE
        if content != NULL:
            content.at = cursor.at
            content.end = cursor.at + value[0]
        cursor.at += value[0]
        return WIRE_OK
    if wire_type == FIXED64 or wire_type == FIXED32:
        left = 8 if wire_type == FIXED64 else 4
        if <uint64_t>(cursor.end - cursor.at) < left:
            return WIRE_UNDECODABLE
        cursor.at += left
        return WIRE_OK
    return WIRE_UNDECODABLE


cdef int read_field(cursor_t* cursor, uint32_t* number, uint32_t* wire_type, uint64_t* value,
                    cursor_t* content) noexcept nogil:
    cdef uint64_t tag
    if read_varint(cursor, &tag) != WIRE_OK or tag > 0xFFFFFFFFu or tag >> 3 == 0:
        return WIRE_UNDECODABLE
    number[0] = tag >> 3
    wire_type[0] = tag & 7
    if wire_type[0] == GROUP_START:
        return skip_group(cursor, number[0])
    return skip_value(cursor, wire_type[0], value, content)


# --- Requests --------------------------------------------------------------------------------------------------------

cdef int check_scope(const uint8_t* scope, size_t length) noexcept nogil:
    """A scope-token of RFC 6749 section 3.3, without the comma (which separates scopes on the command line)."""
    cdef size_t i
    if length == 0 or length > SCOPE_BYTES_MAX:
        return WIRE_BAD_SCOPE
    for i in range(length):
        if scope[i] <= 0x20 or scope[i] >= 0x7F or scope[i] == c'"' or scope[i] == c'\\' or scope[i] == c',':
            return WIRE_BAD_SCOPE
    return WIRE_OK


cdef int parse_address(const uint8_t* text, size_t length, uint8_t* address) noexcept nogil:
    """Read an IPv4 or IPv6 address; IPv4 becomes ::ffff:a.b.c.d, so that one form is compared."""
    cdef char terminated[ADDRESS_TEXT_MAX + 1]
    if length > ADDRESS_TEXT_MAX or memchr(text, 0, length) != NULL:
        return WIRE_BAD_ADDRESS
    memcpy(terminated, text, length)
    terminated[length] = 0
    if memchr(text, c':', length) != NULL:
        return WIRE_OK if inet_pton(AF_INET6, terminated, address) == 1 else WIRE_BAD_ADDRESS
    memcpy(address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)
    return WIRE_OK if inet_pton(AF_INET, terminated, address + 12) == 1 else WIRE_BAD_ADDRESS


cdef int parse_request(const uint8_t* message, size_t length, request_t* request) noexcept nogil:
    cdef cursor_t cursor, content, address
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cdef int i
    cdef bint critical = False, too_many_scopes = False, long_scope = False
    cursor.at = message
    cursor.end = message + length
    address.at = address.end = NULL
    request.key = message
    request.key_length = 0
    request.scope_count = 0
    request.has_address = False
    request.min_revision = 0
    request.probe = False
    while cursor.at < cursor.end:
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK:
            return WIRE_UNDECODABLE
        if wire_type == BYTES and number == 1:
            request.key = content.at
            request.key_length = content.end - content.at
        elif wire_type == BYTES and number == 2:
            if request.scope_count == SCOPES_MAX:
                too_many_scopes = True
                continue
            if content.end - content.at > SCOPE_BYTES_MAX:
                long_scope = True
                continue
            request.scopes[request.scope_count] = content.at
            request.scope_lengths[request.scope_count] = <uint8_t>(content.end - content.at)
            request.scope_count += 1
        elif wire_type == BYTES and number == 3:
            address = content
        elif wire_type == VARINT and number == 4:
            request.min_revision = <int64_t>value
        elif wire_type == VARINT and number == 5:
            request.probe = value != 0
        elif CRITICAL_FIRST <= number <= CRITICAL_LAST:
            critical = True
    if too_many_scopes:
        return WIRE_TOO_MANY_SCOPES
    if long_scope:
        return WIRE_BAD_SCOPE
    for i in range(request.scope_count):
        if check_scope(request.scopes[i], request.scope_lengths[i]) != WIRE_OK:
            return WIRE_BAD_SCOPE
    if address.at != address.end:
        if parse_address(address.at, address.end - address.at, request.address) != WIRE_OK:
            return WIRE_BAD_ADDRESS
        request.has_address = True
    return WIRE_CRITICAL_FIELD if critical else WIRE_OK


cdef bint next_request(cursor_t* cursor, cursor_t* content) noexcept nogil:
    cdef uint32_t number, wire_type
    cdef uint64_t value
    while cursor.at < cursor.end:
        if read_field(cursor, &number, &wire_type, &value, content) != WIRE_OK:
            return False
        if number == 1 and wire_type == BYTES:
            return True
    return False


cdef int check_batch(const uint8_t* message, size_t length, size_t* count, int64_t* min_revision) noexcept nogil:
    """Check every request of a batch; count them and find the greatest min_revision."""
    cdef cursor_t cursor, content
    cdef request_t request
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cdef int fault, critical = WIRE_OK
    cursor.at = message
    cursor.end = message + length
    count[0] = 0
    min_revision[0] = 0
    while cursor.at < cursor.end:
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK:
            return WIRE_UNDECODABLE
        if number == 1 and wire_type == BYTES:
            count[0] += 1
            if count[0] > BATCH_MAX:
                return WIRE_TOO_MANY_REQUESTS
            fault = parse_request(content.at, content.end - content.at, &request)
            if fault == WIRE_CRITICAL_FIELD:
                critical = fault
            elif fault != WIRE_OK:
                return fault
            if request.min_revision > min_revision[0]:
                min_revision[0] = request.min_revision
        elif CRITICAL_FIRST <= number <= CRITICAL_LAST:
            critical = WIRE_CRITICAL_FIELD
    return critical


# --- Responses -------------------------------------------------------------------------------------------------------

cdef size_t varint_length(uint64_t value) noexcept nogil:
    cdef size_t length = 1
    while value >= 0x80:
        value >>= 7
        length += 1
    return length


cdef uint8_t* write_varint(uint8_t* at, uint64_t value) noexcept nogil:
    while value >= 0x80:
        at[0] = <uint8_t>(value | 0x80)
        value >>= 7
        at += 1
    at[0] = <uint8_t>value
    return at + 1


cdef size_t write_head(uint8_t* at, const answer_t* answer, int64_t revision, int64_t staleness_ms) noexcept nogil:
    cdef uint8_t* begin = at
    at[0] = 0x08
    at[1] = <uint8_t>answer.verdict
    at += 2
    if answer.phase != PHASE_NONE:
        at[0] = 0x10
        at[1] = <uint8_t>answer.phase
        at += 2
    if revision > 0:
        at[0] = 0x18
        at = write_varint(at + 1, <uint64_t>revision)
    if staleness_ms > 0:
        at[0] = 0x20
        at = write_varint(at + 1, <uint64_t>staleness_ms)
    return at - begin
