"""VerifyResponse as JSON, in protobuf's mapping: as MessageToDict of the protobuf runtime gives it."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen
from posix.types cimport time_t

from verifier._judge cimport PHASE_NONE
from verifier._wire cimport WIRE_OK, cursor_t, read_field

cdef extern from "<time.h>" nogil:
    struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year
    tm* gmtime_r(const time_t* time, tm* result)

cdef enum:
    FIXED_BYTES = 1024         # of an answer: names, numbers, times
    ESCAPED_BYTES_MAX = 6      # for one byte

cdef const char* VERDICTS[13]
VERDICTS[:] = [b"UNSPECIFIED", b"VALID", b"MALFORMED", b"UNKNOWN", b"REVOKED", b"CLIENT_DISABLED", b"KEY_DISABLED",
               b"NOT_YET_ACTIVE", b"EXPIRED", b"ADDRESS_NOT_ALLOWED", b"INSUFFICIENT_SCOPE", b"RATE_LIMITED",
               b"QUOTA_EXCEEDED"]
cdef const char* PHASES[6]
PHASES[:] = [b"UNSPECIFIED", b"PENDING", b"CURRENT", b"RETIRING", b"EXPIRED", b"REVOKED"]


cdef inline uint8_t* put(uint8_t* at, const char* text) noexcept nogil:
    cdef size_t length = strlen(text)
    memcpy(at, text, length)
    return at + length


cdef uint8_t* put_string(uint8_t* at, const uint8_t* text, const uint8_t* end) noexcept nogil:
    at[0] = c'"'
    at += 1
    while text < end:
        if text[0] < 0x20:
            at += snprintf(<char*>at, 7, b"\\u%04x", <unsigned int>text[0])
        else:
            if text[0] == c'"' or text[0] == c'\\':
                at[0] = c'\\'
                at += 1
            at[0] = text[0]
            at += 1
        text += 1
    at[0] = c'"'
    return at + 1


cdef uint8_t* put_name(uint8_t* at, const char* name) noexcept nogil:
    """Write `,"name":`; an answer's first field, the verdict, is written by itself."""
    return put(put(put(at, b",\""), name), b"\":")


cdef uint8_t* put_number(uint8_t* at, int64_t value) noexcept nogil:
    return at + snprintf(<char*>at, 24, b"%lld", <long long>value)


cdef uint8_t* put_quoted(uint8_t* at, int64_t value) noexcept nogil:
    """64-bit numbers are strings, since JavaScript would round them."""
    return put(put_number(put(at, b"\""), value), b"\"")


cdef uint8_t* put_time(uint8_t* at, cursor_t content) noexcept nogil:
    """Write a google.protobuf.Timestamp of whole seconds."""
    cdef cursor_t ignored
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cdef time_t seconds = 0
    cdef tm parts
    while content.at < content.end:
        if read_field(&content, &number, &wire_type, &value, &ignored) != WIRE_OK:
            break
        if number == 1 and wire_type == 0:
            seconds = <time_t><int64_t>value
    if gmtime_r(&seconds, &parts) == NULL:
        return put(at, b"null")
    return at + snprintf(<char*>at, 40, b"\"%04d-%02d-%02dT%02d:%02d:%02dZ\"", parts.tm_year + 1900, parts.tm_mon + 1,
                         parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec)


cdef uint8_t* put_pair(uint8_t* at, cursor_t content) noexcept nogil:
    """Write an entry of a map."""
    cdef cursor_t part, key, text
    cdef uint32_t number, wire_type
    cdef uint64_t value
    key.at = key.end = text.at = text.end = content.end
    while content.at < content.end:
        if read_field(&content, &number, &wire_type, &value, &part) != WIRE_OK:
            break
        if wire_type == 2 and number == 1:
            key = part
        elif wire_type == 2 and number == 2:
            text = part
    return put_string(put(put_string(at, key.at, key.end), b":"), text.at, text.end)


cdef const char* reason_name(uint64_t reason) noexcept nogil:
    if reason == 1:
        return b"\"REVOCATION_REASON_KEY_COMPROMISE\""
    if reason == 3:
        return b"\"REVOCATION_REASON_AFFILIATION_CHANGED\""
    if reason == 4:
        return b"\"REVOCATION_REASON_SUPERSEDED\""
    if reason == 5:
        return b"\"REVOCATION_REASON_CESSATION_OF_OPERATION\""
    if reason == 9:
        return b"\"REVOCATION_REASON_PRIVILEGE_WITHDRAWN\""
    return NULL


cdef uint8_t* put_reason(uint8_t* at, uint64_t reason) noexcept nogil:
    """A number without a name is written as the number."""
    cdef const char* name = reason_name(reason)
    return put_number(at, <int64_t>reason) if name == NULL else put(at, name)


cdef uint8_t* put_field(uint8_t* at, uint32_t number, uint64_t value, const cursor_t* content) noexcept nogil:
    if number == 8:
        return put_string(put_name(at, b"clientId"), content.at, content.end)
    if number == 9:
        return put_string(put_name(at, b"keyId"), content.at, content.end)
    if number == 10:
        return put_number(put_name(at, b"version"), <int64_t>value)
    if number == 11:
        return put_time(put_name(at, b"notBefore"), content[0])
    if number == 12:
        return put_time(put_name(at, b"expiresAt"), content[0])
    if number == 13:
        return put_time(put_name(at, b"supersededAt"), content[0])
    if number == 14:
        return put_number(put_name(at, b"supersededBy"), <int64_t>value)
    if number == 15:
        return put_reason(put_name(at, b"revocationReason"), value)
    return at


cdef uint8_t* put_body(uint8_t* at, const answer_t* answer) noexcept nogil:
    """Write fields 8 to 17, which the record holds encoded and in the order of their numbers."""
    cdef cursor_t cursor, content
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cdef uint32_t before = 0
    cursor.at = answer.body
    cursor.end = answer.body + answer.body_length
    while cursor.at < cursor.end:
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK:
            break
        if before >= 16 and number != before:
            at = put(at, b"]" if before == 16 else b"}")
        if number == 16:
            at = put(at, b",") if before == 16 else put(put_name(at, b"scopes"), b"[")
            at = put_string(at, content.at, content.end)
        elif number == 17:
            at = put(at, b",") if before == 17 else put(put_name(at, b"metadata"), b"{")
            at = put_pair(at, content)
        else:
            at = put_field(at, number, value, &content)
        before = number
    if before >= 16:
        at = put(at, b"]" if before == 16 else b"}")
    return at


cdef size_t json_answer_bytes_max(const answer_t* answer) noexcept nogil:
    return FIXED_BYTES + ESCAPED_BYTES_MAX * answer.body_length


cdef size_t json_answer(uint8_t* begin, const answer_t* answer, int64_t revision, int64_t staleness_ms) noexcept nogil:
    cdef uint8_t* at = put(put(put(begin, b"{\"verdict\":\"VERDICT_"), VERDICTS[answer.verdict]), b"\"")
    if answer.phase != PHASE_NONE:
        at = put(put(put(put_name(at, b"phase"), b"\"PHASE_"), PHASES[answer.phase]), b"\"")
    if revision > 0:
        at = put_quoted(put_name(at, b"revision"), revision)
    if staleness_ms > 0:
        at = put_quoted(put_name(at, b"stalenessMs"), staleness_ms)
    at = put(put_body(at, answer), b"}")
    return at - begin
