"""From a token to a verdict.

The checks run in the order of the verdicts' numbers; the first that fails decides. A token that is unknown, has the
wrong secret or is well-formed garbage takes the same path. `now_s` is read once per turn by the caller, so that the
same second holds for every answer of a batch.
"""

from libc.string cimport memchr, memcmp

from verifier._lookup cimport (
    ABSENT_FLAG, AT_CLIENT, AT_END, AT_FLAGS, AT_L1, AT_L2, AT_NOT_BEFORE, AT_RULES, AT_SUPERSEDED_AT,
    KEY_OFF_FLAG, RECORD_FIXED_BYTES, REVOKED_FLAG, RULE_BYTES, RULES_FLAG,
    find, load16, load32, load64, prefetch_record, prefetch_slot,
)
from verifier._tag cimport CHECKSUM_DIGITS, TAG_HEAD_BYTES, checksum_of, tag_of_token
from verifier._view cimport MIXED, prefix_t

cdef enum:
    SECRET_DIGITS_MIN = 27     # 160 bits in base62
    NEVER = 0xFFFFFFFF

cdef uint8_t IS_BASE62[256]


cdef void base62_table() noexcept nogil:
    cdef int c
    for c in range(256):
        IS_BASE62[c] = (48 <= c <= 57) or (65 <= c <= 90) or (97 <= c <= 122)


base62_table()


# --- V1: shape and checksum ------------------------------------------------------------------------------------------

cdef bint is_ascii(const uint8_t* text, size_t length) noexcept nogil:
    cdef unsigned long long seen = 0
    while length >= 8:
        seen |= load64(text)
        text += 8
        length -= 8
    while length:
        seen |= text[0]
        text += 1
        length -= 1
    return seen & 0x8080808080808080ull == 0


cdef bint is_base62(const uint8_t* text, size_t length) noexcept nogil:
    cdef uint8_t all_base62 = 1
    cdef size_t at
    for at in range(length):
        all_base62 &= IS_BASE62[text[at]]
    return all_base62


cdef bint is_native(const uint8_t* token, size_t prefix_length, size_t length) noexcept nogil:
    """Tell whether secret and checksum after `<prefix>_`, known to be base62, are as this service issues them."""
    cdef uint8_t digits[CHECKSUM_DIGITS]
    if length < prefix_length + 1 + SECRET_DIGITS_MIN + CHECKSUM_DIGITS:
        return False
    checksum_of(token, length - CHECKSUM_DIGITS, digits)
    return memcmp(digits, token + length - CHECKSUM_DIGITS, CHECKSUM_DIGITS) == 0


cdef bint is_well_formed(const view_t* view, const uint8_t* token, size_t length) noexcept nogil:
    """Decide whether a token is worth a lookup (semantics of NATIVE and MIXED prefixes and foreign tokens)."""
    cdef const prefix_t* prefix
    cdef size_t after
    cdef int i
    cdef bint may_be_foreign = view.accepts_foreign
    if length == 0 or length > TOKEN_BYTES_MAX:
        return False
    for i in range(view.prefix_count):
        prefix = &view.prefixes[i]
        after = prefix.length + 1
        if length < after or token[prefix.length] != c'_' or memcmp(token, prefix.text, prefix.length) != 0:
            continue
        if prefix.mode == MIXED:
            return is_ascii(token, length)
        # Base62 has no underscore: if all the rest is base62, the underscore before it is the one that separates.
        if is_base62(token + after, length - after):
            return is_native(token, prefix.length, length)
        if memchr(token + after, c'_', length - after) == NULL:
            may_be_foreign = False
    return may_be_foreign and is_ascii(token, length)


# --- V2 to V12 -------------------------------------------------------------------------------------------------------

cdef bint equal_in_constant_time(const uint8_t* a, const uint8_t* b) noexcept nogil:
    """Compare the 16 bytes after the tag head without a branch on their content."""
    return ((load64(a) ^ load64(b)) | (load64(a + 8) ^ load64(b + 8))) == 0


cdef const uint8_t* look_up(const view_t* view, const uint8_t* tag) noexcept nogil:
    """Return the record of a tag, the delta's before the base's, or NULL."""
    cdef const uint8_t* record = NULL
    if view.delta.slots != NULL:
        record = find(&view.delta, tag)
    if record == NULL:
        record = find(&view.base, tag)
    if record == NULL or load16(record + AT_FLAGS) & ABSENT_FLAG:
        return NULL
    return record if equal_in_constant_time(record, tag + TAG_HEAD_BYTES) else NULL


cdef int phase_of(const uint8_t* record, int64_t now_s) noexcept nogil:
    cdef uint32_t end = load32(record + AT_END), superseded_at = load32(record + AT_SUPERSEDED_AT)
    if load16(record + AT_FLAGS) & REVOKED_FLAG:
        return PHASE_REVOKED
    if end != <uint32_t>NEVER and now_s >= end:
        return PHASE_EXPIRED
    if now_s < load32(record + AT_NOT_BEFORE):
        return PHASE_PENDING
    if superseded_at != <uint32_t>NEVER and now_s >= superseded_at:
        return PHASE_RETIRING
    return PHASE_CURRENT


cdef bint is_client_off(const view_t* view, uint32_t ordinal) noexcept nogil:
    return ordinal < view.switch_count and (view.switches[ordinal >> 3] >> (ordinal & 7)) & 1


cdef bint is_inside(const uint8_t* rule, const uint8_t* address) noexcept nogil:
    """Tell whether an address lies in a rule's network: prefix length, then 16 bytes."""
    cdef int whole = rule[0] >> 3, rest = rule[0] & 7
    if memcmp(rule + 1, address, whole) != 0:
        return False
    return rest == 0 or (rule[1 + whole] ^ address[whole]) >> (8 - rest) == 0


cdef bint is_address_allowed(const uint8_t* record, const request_t* request) noexcept nogil:
    cdef const uint8_t* rule = record + RECORD_FIXED_BYTES + load16(record + AT_L2)
    cdef int i
    if not request.has_address:
        return False
    for i in range(record[AT_RULES]):
        if is_inside(rule + i * RULE_BYTES, request.address):
            return True
    return False


cdef bint holds_scope(const uint8_t* at, const uint8_t* end, const uint8_t* scope, size_t length) noexcept nogil:
    """Look for a scope among the field 16 entries of the answer part (tag bytes 0x82 0x01, length, text)."""
    cdef size_t held
    while end - at >= 3 and at[0] == 0x82 and at[1] == 0x01:
        at += 2
        held = at[0]
        at += 1
        if held & 0x80 and at < end:
            held = (held & 0x7F) | <size_t>at[0] << 7
            at += 1
        if held > <size_t>(end - at):
            return False
        if held == length and memcmp(at, scope, length) == 0:
            return True
        at += held
    return False


cdef bint holds_scopes(const uint8_t* record, const request_t* request) noexcept nogil:
    cdef const uint8_t* body = record + RECORD_FIXED_BYTES
    cdef const uint8_t* first = body + load16(record + AT_L1)
    cdef const uint8_t* end = body + load16(record + AT_L2)
    cdef int i
    for i in range(request.scope_count):
        if not holds_scope(first, end, request.scopes[i], request.scope_lengths[i]):
            return False
    return True


cdef int verdict_of(const view_t* view, const uint8_t* record, const request_t* request,
                    int64_t now_s) noexcept nogil:
    cdef int flags = load16(record + AT_FLAGS)
    cdef uint32_t end = load32(record + AT_END)
    if flags & REVOKED_FLAG:
        return REVOKED
    if is_client_off(view, load32(record + AT_CLIENT)):
        return CLIENT_DISABLED
    if flags & KEY_OFF_FLAG:
        return KEY_DISABLED
    if now_s < load32(record + AT_NOT_BEFORE):
        return NOT_YET_ACTIVE
    if end != <uint32_t>NEVER and now_s >= end:
        return EXPIRED
    if flags & RULES_FLAG and not is_address_allowed(record, request):
        return ADDRESS_NOT_ALLOWED
    if request.scope_count and not holds_scopes(record, request):
        return INSUFFICIENT_SCOPE
    return VALID


# --- Stages ----------------------------------------------------------------------------------------------------------

cdef void begin(const view_t* view, const request_t* request, answer_t* answer) noexcept nogil:
    answer.well_formed = is_well_formed(view, request.key, request.key_length)
    if answer.well_formed:
        tag_of_token(view.peppers, view.pepper_count, request.key, request.key_length, answer.tag)
        prefetch_slot(&view.delta, answer.tag)
        prefetch_slot(&view.base, answer.tag)


cdef void prefetch(const view_t* view, const answer_t* answer) noexcept nogil:
    if answer.well_formed:
        prefetch_record(&view.delta, answer.tag)
        prefetch_record(&view.base, answer.tag)


cdef void finish(const view_t* view, const request_t* request, int64_t now_s, answer_t* answer) noexcept nogil:
    cdef const uint8_t* record
    answer.phase = PHASE_NONE
    answer.record = answer.body = NULL
    answer.body_length = 0
    if not answer.well_formed:
        answer.verdict = MALFORMED
        return
    record = look_up(view, answer.tag)
    if record == NULL:
        answer.verdict = UNKNOWN
        return
    answer.record = record
    answer.verdict = verdict_of(view, record, request, now_s)
    answer.phase = phase_of(record, now_s)
    answer.body = record + RECORD_FIXED_BYTES
    answer.body_length = load16(record + (AT_L2 if answer.verdict == VALID else AT_L1))


cdef void judge(const view_t* view, const request_t* request, int64_t now_s, answer_t* answer) noexcept nogil:
    begin(view, request, answer)
    finish(view, request, now_s, answer)
