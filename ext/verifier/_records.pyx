"""Records of a keyring: encoding, one or a million at a time, and a strict check of what was encoded.

`docs/keyring-format.md` is the specification. Two records of the same key differ in little, and so do a million new keys
of one client: a `Shape` holds all that they share, encoded once, and stamps out records.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from verifier._lookup cimport (
    ABSENT_FLAG, AT_CLIENT, AT_END, AT_FLAGS, AT_L1, AT_L2, AT_NOT_BEFORE, AT_REASON, AT_RULES, AT_SUPERSEDED_AT,
    KNOWN_FLAGS, RECORD_FIXED_BYTES, REVOKED_FLAG, RULE_BYTES, RULES_FLAG, load16, load32,
)
from verifier._tag cimport TAG_BYTES, TAG_HEAD_BYTES

from verifier.errors import InvalidInput

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef enum:
    RECORD_LENGTH_MAX = 1904
    KEY_ID_BYTES_MAX = 255
    SCOPE_LENGTH_MAX = 128
    AT_OWN_END = 32
    AT_KEY_END = 36
    AT_VERSION_ORDINAL = 40
    NONE = 0xFFFFFFFF              # no such time (not_before: 0)

RECORD_BYTES_MAX = RECORD_LENGTH_MAX

FAULTS = {
    RECORD_LENGTH: "its length is not that of its parts",
    RECORD_FLAGS: "it has a flag that this build does not know, or a flag without its field",
    RECORD_FIELDS: "a field has a value that it cannot have",
    RECORD_ANSWER: "its answer part is not the canonical encoding of what the fields say",
    RECORD_RULES: "its address rules are not canonical",
}


# --- Encoding --------------------------------------------------------------------------------------------------------

def varint(number) -> bytes:
    """Encode a number >= 0 as a protobuf varint."""
    cdef uint64_t rest = number
    cdef uint8_t digits[10]
    cdef int length = 0
    while rest >= 0x80:
        digits[length] = <uint8_t>(rest | 0x80)
        rest >>= 7
        length += 1
    digits[length] = <uint8_t>rest
    return digits[:length + 1]


def _number(int field, number) -> bytes:
    return varint(field << 3) + varint(number) if number else b""


def _block(int field, bytes content) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def _timestamp(int field, moment) -> bytes:
    return b"" if moment is None else _block(field, _number(1, moment))


@cython.final
cdef class Shape:
    """What records share that differ in tag, key id and version ordinal only.

    The arguments are those of `verifier.keyring.records.Record`, already checked and in canonical form by
    `verifier.keyring.records.shape_of`, which is the way to make one: `scopes` and `metadata` (pairs) are sorted and
    encoded as UTF-8, `rules` holds 17 bytes for each rule, times are seconds or None.
    """
    cdef bytes _before             # the answer part before the key id
    cdef bytes _after              # from there to the end of level 1
    cdef bytes _level_2
    cdef bytes _rules
    cdef uint8_t _fixed[RECORD_FIXED_BYTES]

    def __init__(self, int flags, int reason, bytes client_id not None, int version, not_before, end, superseded_at,
                 int superseded_by, own_end, key_end, uint32_t client_ordinal, scopes, metadata, bytes rules not None):
        cdef uint8_t* fixed = self._fixed
        self._before = _block(8, client_id)
        self._after = b"".join((
            _number(10, version), _timestamp(11, not_before), _timestamp(12, end), _timestamp(13, superseded_at),
            _number(14, superseded_by), _number(15, reason),
        ))
        self._level_2 = b"".join(
            [_block(16, scope) for scope in scopes]
            + [_block(17, _block(1, name) + _block(2, value)) for name, value in metadata]
        )
        self._rules = rules
        memset(fixed, 0, RECORD_FIXED_BYTES)
        store16(fixed + AT_FLAGS, flags)
        fixed[AT_REASON] = reason
        fixed[AT_RULES] = len(rules) // RULE_BYTES
        store32(fixed + AT_NOT_BEFORE, 0 if not_before is None else not_before)
        store32(fixed + AT_END, NONE if end is None else end)
        store32(fixed + AT_SUPERSEDED_AT, NONE if superseded_at is None else superseded_at)
        store32(fixed + AT_OWN_END, NONE if own_end is None else own_end)
        store32(fixed + AT_KEY_END, NONE if key_end is None else key_end)
        store32(fixed + AT_CLIENT, client_ordinal)

    def encode(self, str key_id not None, bytes tag not None, uint32_t version_ordinal) -> bytes:
        """Encode one record: the value in the table `keys`.

        Args:
            key_id: the key's public name, 1 to 255 bytes.
            tag: all 32 bytes.
            version_ordinal: of the version, stable for ever.

        Raises:
            InvalidInput: the record would be longer than 1,904 bytes, or an argument is not usable.
        """
        cdef Py_ssize_t id_length, length, l1, l2, longer
        cdef const char* id_text
        cdef uint8_t* at
        cdef uint8_t* begin
        if PyBytes_GET_SIZE(tag) != TAG_BYTES:
            raise InvalidInput(f"a tag is {TAG_BYTES} bytes, not {len(tag)}")
        try:
            id_text = PyUnicode_AsUTF8AndSize(key_id, &id_length)
        except UnicodeEncodeError:
            raise InvalidInput("a key id is not usable as UTF-8") from None
        if not 1 <= id_length <= KEY_ID_BYTES_MAX:
            raise InvalidInput(f"a key id is 1 to {KEY_ID_BYTES_MAX} bytes of UTF-8")
        longer = 1 if id_length >= 0x80 else 0
        l1 = PyBytes_GET_SIZE(self._before) + 2 + longer + id_length + PyBytes_GET_SIZE(self._after)
        l2 = l1 + PyBytes_GET_SIZE(self._level_2)
        length = (RECORD_FIXED_BYTES + l2 + PyBytes_GET_SIZE(self._rules) + 7) // 8 * 8
        if length > RECORD_LENGTH_MAX:
            raise InvalidInput(f"the key's scopes, metadata and address rules make a record of {length} bytes",
                               hint=f"{RECORD_LENGTH_MAX} bytes fit; give the key fewer or shorter ones",
                               code="RECORD_TOO_LARGE")
        record = PyBytes_FromStringAndSize(NULL, length)
        begin = at = <uint8_t*>PyBytes_AS_STRING(record)
        memcpy(at, self._fixed, RECORD_FIXED_BYTES)
        memcpy(at, PyBytes_AS_STRING(tag) + TAG_HEAD_BYTES, TAG_BYTES - TAG_HEAD_BYTES)
        store32(at + AT_VERSION_ORDINAL, version_ordinal)
        store16(at + AT_L1, <uint16_t>l1)
        store16(at + AT_L2, <uint16_t>l2)
        at = copy(at + RECORD_FIXED_BYTES, self._before, PyBytes_GET_SIZE(self._before))
        at[0] = 9 << 3 | 2
        at[1] = <uint8_t>(id_length | 0x80 if longer else id_length)
        at[1 + longer] = <uint8_t>(id_length >> 7 if longer else id_length)
        memcpy(at + 2 + longer, id_text, id_length)
        at = copy(at + 2 + longer + id_length, self._after, PyBytes_GET_SIZE(self._after))
        at = copy(at, self._level_2, PyBytes_GET_SIZE(self._level_2))
        at = copy(at, self._rules, PyBytes_GET_SIZE(self._rules))
        memset(at, 0, begin + length - at)
        return record


def encode_many(Shape shape not None, key_ids, tags, version_ordinals) -> list:
    """Encode many records of one shape: new keys with the same client, scopes, metadata, rules and times.

    About 0.1 us a record. For callers: `encode_many(shape_of(record), key_ids, tags, version_ordinals)`, where
    `record` is any `verifier.keyring.records.Record` of them (its own key id and version ordinal are not used).

    Args:
        shape: of `verifier.keyring.records.shape_of`.
        key_ids: public names, text.
        tags: 32 bytes each.
        version_ordinals: one for each key.

    Returns:
        The records, in the order of the keys.

    Raises:
        InvalidInput: as `Shape.encode`, or the three sequences differ in length.
    """
    if not len(key_ids) == len(tags) == len(version_ordinals):
        raise InvalidInput(f"{len(key_ids)} key ids, {len(tags)} tags and {len(version_ordinals)} ordinals do not match")
    return [shape.encode(key_id, tag, ordinal)
            for key_id, tag, ordinal in zip(key_ids, tags, version_ordinals, strict=True)]


def encode_absent(bytes tag not None) -> bytes:
    """Encode the record of a delta that says: the base's record of this tag counts as missing."""
    cdef uint8_t record[RECORD_FIXED_BYTES + 4]
    if len(tag) != TAG_BYTES:
        raise InvalidInput(f"a tag is {TAG_BYTES} bytes, not {len(tag)}")
    memset(record, 0, sizeof(record))
    memcpy(record, PyBytes_AS_STRING(tag) + TAG_HEAD_BYTES, TAG_BYTES - TAG_HEAD_BYTES)
    store16(record + AT_FLAGS, ABSENT_FLAG)
    memset(record + AT_END, 0xFF, AT_VERSION_ORDINAL - AT_END)
    return record[:sizeof(record)]


def fault_of(bytes record not None, *, bint in_delta=False) -> str | None:
    """Say what is wrong with a record, or None when it is sound."""
    cdef int fault = check_record(<const uint8_t*>PyBytes_AS_STRING(record), len(record), in_delta)
    return FAULTS[fault] if fault else None


cdef void store16(uint8_t* at, uint16_t value) noexcept nogil:
    memcpy(at, &value, 2)


cdef void store32(uint8_t* at, uint32_t value) noexcept nogil:
    memcpy(at, &value, 4)


cdef uint8_t* copy(uint8_t* at, const char* content, size_t length) noexcept nogil:
    memcpy(at, content, length)
    return at + length


# --- Checking --------------------------------------------------------------------------------------------------------

ctypedef struct span_t:
    const uint8_t* at
    const uint8_t* end


cdef bint take_varint(span_t* span, uint64_t* value) noexcept nogil:
    # Only the shortest encoding of a number is canonical.
    cdef int shift = 0
    cdef uint8_t digit
    value[0] = 0
    while span.at < span.end and shift < 64:
        digit = span.at[0]
        span.at += 1
        value[0] |= <uint64_t>(digit & 0x7F) << shift
        if digit < 0x80:
            return (digit != 0 or shift == 0) and (shift < 63 or digit == 1)
        shift += 7
    return False


cdef bint take_block(span_t* span, span_t* content) noexcept nogil:
    cdef uint64_t length
    if not take_varint(span, &length) or length > <uint64_t>(span.end - span.at):
        return False
    content.at = span.at
    span.at += length
    content.end = span.at
    return True


cdef bint take_field(span_t* span, int field, span_t* content) noexcept nogil:
    # A field of a map entry: its tag is one byte.
    if span.at == span.end or span.at[0] != (field << 3 | 2):
        return False
    span.at += 1
    return take_block(span, content)


cdef bint is_after(const span_t* text, const span_t* before) noexcept nogil:
    # Strictly ascending, as bytes.
    cdef size_t length = text.end - text.at, before_length = before.end - before.at
    cdef int order = memcmp(text.at, before.at, min(length, before_length))
    return order > 0 or (order == 0 and length > before_length)


cdef bint is_text(const span_t* text) noexcept nogil:
    # UTF-8 as protobuf demands it: shortest form, no surrogates, nothing beyond U+10FFFF.
    cdef const uint8_t* at = text.at
    cdef int more, i
    cdef uint32_t point
    while at < text.end:
        if at[0] < 0x80:
            at += 1
            continue
        if 0xC2 <= at[0] <= 0xDF:
            more = 1
        elif 0xE0 <= at[0] <= 0xEF:
            more = 2
        elif 0xF0 <= at[0] <= 0xF4:
            more = 3
        else:
            return False
        if text.end - at <= more:
            return False
        point = at[0] & (0x3F >> more)
        for i in range(1, more + 1):
            if at[i] & 0xC0 != 0x80:
                return False
            point = point << 6 | (at[i] & 0x3F)
        if ((more == 2 and (point < 0x800 or 0xD800 <= point <= 0xDFFF))
                or (more == 3 and not 0x10000 <= point <= 0x10FFFF)):
            return False
        at += more + 1
    return True


cdef bint is_scope(const span_t* text) noexcept nogil:
    # scope-token of RFC 6749 without the comma.
    cdef const uint8_t* at = text.at
    if not 1 <= text.end - text.at <= SCOPE_LENGTH_MAX:
        return False
    while at < text.end:
        if not 0x21 <= at[0] <= 0x7E or at[0] == 0x22 or at[0] == 0x2C or at[0] == 0x5C:
            return False
        at += 1
    return True


cdef bint is_time(span_t content, uint32_t moment) noexcept nogil:
    # A Timestamp of exactly this second.
    cdef uint64_t seconds = 0
    if content.at != content.end:
        if content.at[0] != 1 << 3:
            return False
        content.at += 1
        if not take_varint(&content, &seconds) or seconds == 0 or content.at != content.end:
            return False
    return seconds == moment


cdef int check_level_1(const uint8_t* record) noexcept nogil:
    # Fields 8 to 15, in this order: each says what the fixed part says.
    cdef span_t span, content
    cdef uint64_t number, value
    cdef uint64_t seen = 0, wanted = 1 << 8 | 1 << 9 | 1 << 10
    cdef uint64_t last = 0
    span.at = record + RECORD_FIXED_BYTES
    span.end = span.at + load16(record + AT_L1)
    if load32(record + AT_NOT_BEFORE) != 0:
        wanted |= 1 << 11
    if load32(record + AT_END) != NONE:
        wanted |= 1 << 12
    if load32(record + AT_SUPERSEDED_AT) != NONE:
        wanted |= 1 << 13
    if record[AT_REASON] != 0:
        wanted |= 1 << 15
    while span.at < span.end:
        if not take_varint(&span, &number) or number >> 3 <= last or number >> 3 > 15:
            return RECORD_ANSWER
        last = number >> 3
        seen |= <uint64_t>1 << last
        if number & 7 != (0 if last == 10 or last >= 14 else 2):
            return RECORD_ANSWER
        if number & 7 == 0:
            if not take_varint(&span, &value) or not 0 < value <= 0x7FFFFFFF:
                return RECORD_ANSWER
            if last == 15 and value != record[AT_REASON]:
                return RECORD_ANSWER
            continue
        if not take_block(&span, &content):
            return RECORD_ANSWER
        if last <= 9:
            if content.at == content.end or not is_text(&content):
                return RECORD_ANSWER
        elif not is_time(content, load32(record + (AT_NOT_BEFORE if last == 11 else AT_END if last == 12
                                                   else AT_SUPERSEDED_AT))):
            return RECORD_ANSWER
    return RECORD_SOUND if seen & ~(<uint64_t>1 << 14) == wanted else RECORD_ANSWER


cdef int check_level_2(const uint8_t* record) noexcept nogil:
    # Fields 16 and 17; later formats may append fields from 18 on, and no older reader minds.
    cdef span_t span, content, name, value, before
    cdef uint64_t number, last = 0, skipped
    before.at = before.end = record
    span.at = record + RECORD_FIXED_BYTES + load16(record + AT_L1)
    span.end = record + RECORD_FIXED_BYTES + load16(record + AT_L2)
    while span.at < span.end:
        if not take_varint(&span, &number) or number >> 3 < 16 or number >> 3 < last:
            return RECORD_ANSWER
        if number >> 3 != last:
            before.at = before.end = record
        last = number >> 3
        if number & 7 == 0 and last >= 18:
            if not take_varint(&span, &skipped):
                return RECORD_ANSWER
            continue
        if number & 7 != 2 or not take_block(&span, &content):
            return RECORD_ANSWER
        if last == 16:
            if not is_scope(&content) or not is_after(&content, &before):
                return RECORD_ANSWER
            before = content
        elif last == 17:
            if (not take_field(&content, 1, &name) or not take_field(&content, 2, &value) or content.at != content.end
                    or not is_text(&name) or not is_text(&value) or not is_after(&name, &before)):
                return RECORD_ANSWER
            before = name
    return RECORD_SOUND


cdef int check_rules(const uint8_t* rules, int count) noexcept nogil:
    # Prefix lengths in range, host bits zero, strictly ascending.
    cdef const uint8_t* rule
    cdef int i, byte, bits
    for i in range(count):
        rule = rules + i * RULE_BYTES
        if rule[0] > 128 or (i and memcmp(rule, rule - RULE_BYTES, RULE_BYTES) <= 0):
            return RECORD_RULES
        for byte in range(16):
            bits = max(0, min(8, rule[0] - 8 * byte))
            if rule[1 + byte] & (0xFF >> bits):
                return RECORD_RULES
    return RECORD_SOUND


cdef int check_record(const uint8_t* record, size_t room, bint in_delta) noexcept nogil:
    cdef size_t length
    cdef int flags, rules, fault
    if not RECORD_FIXED_BYTES <= room <= RECORD_LENGTH_MAX:
        return RECORD_LENGTH
    flags = load16(record + AT_FLAGS)
    rules = record[AT_RULES]
    if flags & ~KNOWN_FLAGS or (flags & ABSENT_FLAG and not in_delta) or (flags & RULES_FLAG != 0) != (rules != 0):
        return RECORD_FLAGS
    length = RECORD_FIXED_BYTES + load16(record + AT_L2) + rules * RULE_BYTES
    if load16(record + AT_L1) > load16(record + AT_L2) or (length + 7) // 8 * 8 != room:
        return RECORD_LENGTH
    while length < room:
        if record[length] != 0:
            return RECORD_LENGTH
        length += 1
    if ((record[AT_REASON] != 0 and not flags & REVOKED_FLAG) or load32(record + AT_END) == 0
            or load32(record + AT_SUPERSEDED_AT) == 0 or load32(record + AT_OWN_END) == 0
            or load32(record + AT_KEY_END) == 0 or load32(record + AT_NOT_BEFORE) == NONE):
        return RECORD_FIELDS
    if flags & ABSENT_FLAG:
        return RECORD_SOUND if flags == ABSENT_FLAG and load16(record + AT_L2) == 0 else RECORD_FLAGS
    fault = check_level_1(record)
    if fault == RECORD_SOUND:
        fault = check_level_2(record)
    if fault == RECORD_SOUND:
        fault = check_rules(record + RECORD_FIXED_BYTES + load16(record + AT_L2), rules)
    return fault
