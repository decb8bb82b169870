"""Check of envoy.service.auth.v3.Authorization: Envoy's external authorization over gRPC.

A CheckRequest is walked where it lies; what is not asked for is stepped over. The decoder takes what a stock parser
takes, with two differences, both on the side of refusing: values may be any bytes (a key that is not ASCII is
MALFORMED), and a map that holds a header twice counts as that header repeated.
https://github.com/envoyproxy/data-plane-api/blob/main/envoy/service/auth/v3/external_auth.proto

What the answer sets overwrites what the caller sent. Two generations of Envoy read the same bytes: the older one knows
`append` only, whose absence means to overwrite here, the newer one `append_action`, whose default is to append.
Faults fail the RPC, which every Envoy takes for an error and treats as its operator said (`failure_mode_allow`).
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, strlen

from verifier._asked cimport (
    ASKED_MISSING_KEY, ASKED_MULTIPLE_KEYS, ASKED_OK, ASKED_UNAVAILABLE, ASKED_UNDECODABLE, asked_t,
    authz_ask_address, authz_ask_begin, authz_ask_end, authz_ask_header, authz_ask_query, authz_ask_scopes,
)
from verifier._authz cimport QUERY, place_t, text_t
from verifier._counting cimport count_answer
from verifier._decided cimport authz_decide, authz_refuse, decided_t, header_t
from verifier._judge cimport answer_t, begin, finish, prefetch
from verifier._service cimport GRPC_OK, GRPC_UNAVAILABLE
from verifier._verify cimport make_room, pass_gates
from verifier._wire cimport WIRE_OK, cursor_t, read_field, varint_length, write_varint

cdef enum:
    BYTES = 2                  # wire type
    VERDICTS = 13
    PREFIX_LENGTH = 11         # of "x-verifier-"
    # All that decided_t.room can hold, twice, with the names and lengths around it.
    CHECK_BYTES_MAX = 32768
    # Tags of the messages below: number << 3 | wire type.
    STATUS = 1 << 3 | 2        # CheckResponse
    DENIED = 2 << 3 | 2
    OK = 3 << 3 | 2
    DYNAMIC_METADATA = 4 << 3 | 2
    ERROR = 5 << 3 | 2
    CODE = 1 << 3              # google.rpc.Status, envoy.type.v3.HttpStatus
    HTTP_STATUS = 1 << 3 | 2   # DeniedHttpResponse
    HEADERS = 2 << 3 | 2       # DeniedHttpResponse, OkHttpResponse
    BODY = 3 << 3 | 2          # DeniedHttpResponse
    HEADERS_TO_REMOVE = 5 << 3 | 2
    RESPONSE_HEADERS_TO_ADD = 6 << 3 | 2
    QUERY_PARAMETERS_TO_REMOVE = 8 << 3 | 2
    FIRST = 1 << 3 | 2         # HeaderValueOption.header, HeaderValue.key, Struct.fields, the key of a map's entry
    SECOND = 2 << 3 | 2        # HeaderValue.value, the value of a map's entry
    STRING_VALUE = 3 << 3 | 2  # google.protobuf.Value

cdef const char* VERDICT_TEXT[VERDICTS]
VERDICT_TEXT[:] = [b"", b"VALID", b"MALFORMED", b"UNKNOWN", b"REVOKED", b"CLIENT_DISABLED", b"KEY_DISABLED",
                   b"NOT_YET_ACTIVE", b"EXPIRED", b"ADDRESS_NOT_ALLOWED", b"INSUFFICIENT_SCOPE", b"RATE_LIMITED",
                   b"QUOTA_EXCEEDED"]

cdef header_t PROBLEM
PROBLEM.name.at = <const uint8_t*>b"content-type"
PROBLEM.name.length = 12
PROBLEM.value.at = <const uint8_t*>b"application/problem+json"
PROBLEM.value.length = 24
PROBLEM.joins = False


# --- Reading a CheckRequest ------------------------------------------------------------------------------------------

cdef inline bint next_field(cursor_t* cursor, uint32_t* number, uint32_t* wire_type, cursor_t* content,
                            bint* sound) noexcept nogil:
    # One field, or False at the end and for what cannot be decoded. Nearly all have a tag of one byte and a length of
    # one or two.
    cdef uint64_t value
    cdef const uint8_t* at = cursor.at
    cdef size_t length
    if at == cursor.end:
        return False
    if cursor.end - at >= 3 and at[0] & 0x87 == BYTES and at[0] >= 8:
        number[0] = at[0] >> 3
        wire_type[0] = BYTES
        length = at[1]
        at += 2
        if length >= 0x80 and at[0] < 0x80:
            length = (length & 0x7F) | <size_t>at[0] << 7
            at += 1
        elif length >= 0x80:
            length = <size_t>-1
        if length <= <size_t>(cursor.end - at):
            content.at = at
            content.end = cursor.at = at + length
            return True
    sound[0] = read_field(cursor, number, wire_type, &value, content) == WIRE_OK
    return sound[0]


cdef bint read_header(asked_t* asked, cursor_t entry, bint raw) noexcept nogil:
    """An entry of `headers`, or a HeaderValue of `header_map`, whose value may stand in raw_value (3)."""
    cdef cursor_t content, name, value, raw_value
    cdef uint32_t number, wire_type
    cdef bint sound = True
    name.at = name.end = value.at = value.end = raw_value.at = raw_value.end = entry.end
    while next_field(&entry, &number, &wire_type, &content, &sound):
        if wire_type != BYTES:
            continue
        if number == 1:
            name = content
        elif number == 2:
            value = content
        elif number == 3 and raw:
            raw_value = content
    if raw_value.at != raw_value.end:
        value = raw_value
    if sound:
        authz_ask_header(asked, name.at, name.end - name.at, value.at, value.end - value.at)
    return sound


cdef bint read_header_map(asked_t* asked, cursor_t cursor) noexcept nogil:
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if number == 1 and wire_type == BYTES and not read_header(asked, content, True):
            return False
    return sound


cdef bint read_http(asked_t* asked, cursor_t cursor, cursor_t* path) noexcept nogil:
    """AttributeContext.HttpRequest."""
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if wire_type != BYTES:
            continue
        if number == 3:
            sound = read_header(asked, content, False)
        elif number == 4:
            path[0] = content
        elif number == 13:
            sound = read_header_map(asked, content)
        if not sound:
            return False
    return sound


cdef bint read_request(asked_t* asked, cursor_t cursor, cursor_t* path) noexcept nogil:
    """AttributeContext.Request."""
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if number == 2 and wire_type == BYTES and not read_http(asked, content, path):
            return False
    return sound


cdef bint read_socket_address(asked_t* asked, cursor_t cursor) noexcept nogil:
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if number == 2 and wire_type == BYTES:
            authz_ask_address(asked, content.at, content.end - content.at)
    return sound


cdef bint read_address(asked_t* asked, cursor_t cursor) noexcept nogil:
    """Address: one of socket_address (1), pipe (2) and envoy_internal_address (3); the last counts."""
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if wire_type != BYTES:
            continue
        if number == 1 and not read_socket_address(asked, content):
            return False
        if number == 2 or number == 3:
            authz_ask_address(asked, content.at, 0)
    return sound


cdef bint read_peer(asked_t* asked, cursor_t cursor) noexcept nogil:
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if number == 1 and wire_type == BYTES and not read_address(asked, content):
            return False
    return sound


cdef bint speaks_of(cursor_t name, const char* word, size_t length) noexcept nogil:
    """Tell whether a word of small letters stands in a name, in any case."""
    cdef size_t i
    while <size_t>(name.end - name.at) >= length:
        i = 0
        while i < length and name.at[i] | 0x20 == <uint8_t>word[i]:
            i += 1
        if i == length:
            return True
        name.at += 1
    return False


cdef bint read_extension(asked_t* asked, cursor_t entry) noexcept nogil:
    """An entry of `context_extensions`, which operators set for each route: the scopes required there.

    What else speaks of scopes or is required (or misspelt) must not be passed over: that would allow more than was meant.
    """
    cdef cursor_t content, name, value
    cdef uint32_t number, wire_type
    cdef bint sound = True
    name.at = name.end = value.at = value.end = entry.end
    while next_field(&entry, &number, &wire_type, &content, &sound):
        if number == 1 and wire_type == BYTES:
            name = content
        elif number == 2 and wire_type == BYTES:
            value = content
    if not sound:
        return False
    if name.end - name.at == 15 and memcmp(name.at, b"required_scopes", 15) == 0:
        authz_ask_scopes(asked, value.at, value.end - value.at)
    elif speaks_of(name, b"scope", 5) or speaks_of(name, b"required", 8):
        asked.bad_scopes = True
    return True


cdef bint read_attributes(asked_t* asked, cursor_t cursor, cursor_t* path) noexcept nogil:
    """AttributeContext."""
    cdef cursor_t content
    cdef uint32_t number, wire_type
    cdef bint sound = True
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if wire_type != BYTES:
            continue
        if number == 1:
            sound = read_peer(asked, content)
        elif number == 4:
            sound = read_request(asked, content, path)
        elif number == 10:
            sound = read_extension(asked, content)
        if not sound:
            return False
    return sound


cdef int read_check(asked_t* asked, const uint8_t* message, size_t length) noexcept nogil:
    """CheckRequest; returns ASKED_*."""
    cdef cursor_t cursor, content, path
    cdef uint32_t number, wire_type
    cdef bint sound = True
    cursor.at = path.at = path.end = message
    cursor.end = message + length
    while next_field(&cursor, &number, &wire_type, &content, &sound):
        if number == 1 and wire_type == BYTES and not read_attributes(asked, content, &path):
            return ASKED_UNDECODABLE
    if not sound:
        return ASKED_UNDECODABLE
    authz_ask_query(asked, path.at, path.end - path.at)
    return authz_ask_end(asked)


# --- Writing a CheckResponse -----------------------------------------------------------------------------------------

cdef inline uint8_t* put(uint8_t* at, const void* text, size_t length) noexcept nogil:
    memcpy(at, text, length)
    return at + length


cdef inline uint8_t* put_text(uint8_t* at, uint8_t tag, const uint8_t* text, size_t length) noexcept nogil:
    at[0] = tag
    return put(write_varint(at + 1, length), text, length)


cdef inline size_t text_length(size_t length) noexcept nogil:
    return 1 + varint_length(length) + length


cdef inline uint8_t* open_block(uint8_t* at, uint8_t tag) noexcept nogil:
    """Begin an embedded message of unknown length, nearly always of 128 bytes and more; returns where it begins."""
    at[0] = tag
    return at + 3


cdef uint8_t* close_block(uint8_t* begin, uint8_t* end) noexcept nogil:
    """Put the length before an embedded message, in its shortest form; returns its new end."""
    cdef size_t length = end - begin
    cdef uint8_t* moved = begin - 2 + varint_length(length)
    if moved != begin:
        memmove(moved, begin, length)
    write_varint(begin - 2, length)
    return moved + length


cdef uint8_t* put_header(uint8_t* at, uint8_t tag, const header_t* header) noexcept nogil:
    """Write a HeaderValueOption that overwrites, or joins what is there."""
    cdef const text_t* name = &header.name
    cdef const text_t* value = &header.value
    cdef size_t pair = text_length(name.length)
    cdef size_t option
    if value.length:
        pair += text_length(value.length)
    option = text_length(pair) + (4 if header.joins or value.length == 0 else 2)
    at[0] = tag
    at = write_varint(at + 1, option)
    at[0] = FIRST
    at = write_varint(at + 1, pair)
    at = put_text(at, FIRST, name.at, name.length)
    if value.length:
        at = put_text(at, SECOND, value.at, value.length)
    if header.joins:
        return put(at, b"\x12\x02\x08\x01", 4)             # append: true
    at = put(at, b"\x18\x02", 2)                           # append_action: OVERWRITE_IF_EXISTS_OR_ADD
    return put(at, b"\x20\x01", 2) if value.length == 0 else at    # keep_empty_value: true


cdef uint8_t* put_value(uint8_t* at, const uint8_t* name, size_t name_length, const uint8_t* value,
                        size_t value_length) noexcept nogil:
    """Write one field of a Struct, a text; hyphens in its name become underscores."""
    cdef size_t inner = text_length(value_length)
    cdef uint8_t* written
    cdef size_t i
    at[0] = FIRST
    at = write_varint(at + 1, text_length(name_length) + text_length(inner))
    at = put_text(at, FIRST, name, name_length)
    written = at - name_length
    for i in range(name_length):
        if written[i] == c'-':
            written[i] = c'_'
    at[0] = SECOND
    return put_text(write_varint(at + 1, inner), STRING_VALUE, value, value_length)


cdef uint8_t* put_metadata(uint8_t* at, const decided_t* decided) noexcept nogil:
    """Write dynamic_metadata: what access logs and rate limits may want, of refusals too. Never the key."""
    cdef uint8_t* block = open_block(at, DYNAMIC_METADATA)
    cdef const header_t* header
    cdef size_t skipped
    cdef int i
    at = block
    if 0 < decided.verdict < VERDICTS:
        at = put_value(at, <const uint8_t*>b"verdict", 7, <const uint8_t*>VERDICT_TEXT[decided.verdict],
                       strlen(VERDICT_TEXT[decided.verdict]))
    if decided.code.length:
        at = put_value(at, <const uint8_t*>b"code", 4, decided.code.at, decided.code.length)
    for i in range(decided.identity_count):
        header = &decided.identity[i]
        if header.value.length:
            skipped = PREFIX_LENGTH if memcmp(header.name.at, b"x-verifier-", PREFIX_LENGTH) == 0 else 0
            at = put_value(at, header.name.at + skipped, header.name.length - skipped, header.value.at,
                           header.value.length)
    return close_block(block, at)


cdef uint8_t* put_allowed(uint8_t* at, const decided_t* decided, const place_t* place) noexcept nogil:
    cdef uint8_t* block = open_block(put(at, b"\x0A\x00", 2), OK)
    cdef int i
    at = block
    for i in range(decided.identity_count):
        at = put_header(at, HEADERS, &decided.identity[i])
    if place.kind != QUERY:
        at = put_text(at, HEADERS_TO_REMOVE, place.name.at, place.name.length)
    for i in range(decided.caller_count):
        at = put_header(at, RESPONSE_HEADERS_TO_ADD, &decided.caller[i])
    if place.kind == QUERY:
        at = put_text(at, QUERY_PARAMETERS_TO_REMOVE, place.name.at, place.name.length)
    return close_block(block, at)


cdef uint8_t* put_refused(uint8_t* at, uint8_t tag, const decided_t* decided) noexcept nogil:
    """Write a DeniedHttpResponse."""
    cdef uint8_t* block = open_block(at, tag)
    cdef int i
    at = block
    at[0] = HTTP_STATUS
    at[1] = <uint8_t>(1 + varint_length(decided.http_status))
    at[2] = CODE
    at = write_varint(at + 3, decided.http_status)
    at = put_header(at, HEADERS, &PROBLEM)
    for i in range(decided.caller_count):
        at = put_header(at, HEADERS, &decided.caller[i])
    at = put_text(at, BODY, decided.body.at, decided.body.length)
    return close_block(block, at)


cdef uint8_t* put_status(uint8_t* at, int rpc_code) noexcept nogil:
    at[0] = STATUS
    at[1] = 2
    at[2] = CODE
    at[3] = <uint8_t>rpc_code
    return at + 4


cdef bint refuse(turn_t* turn, int asked, reply_t* reply) noexcept nogil:
    """Answer without a verdict; returns False, as the other stages are not wanted."""
    cdef decided_t decided
    cdef uint8_t* at
    turn.counters.asked[asked] += 1
    if not make_room(reply, CHECK_BYTES_MAX):
        return False
    authz_refuse(turn.authz, asked, &decided)
    at = put_status(reply.body, decided.rpc_code)
    if asked == ASKED_UNAVAILABLE:
        at = put_refused(put_metadata(at, &decided), ERROR, &decided)
    else:
        at = put_metadata(put_refused(at, DENIED, &decided), &decided)
    reply.length = at - reply.body
    reply.status = GRPC_OK
    reply.message = NULL
    return False


# --- Stages ----------------------------------------------------------------------------------------------------------

cdef bint check_begin(turn_t* turn, const uint8_t* message, size_t length, bint expired, pending_t* pending,
                      reply_t* reply) noexcept nogil:
    cdef asked_t asked
    cdef int outcome
    authz_ask_begin(turn.authz, &asked, &pending.request)
    outcome = read_check(&asked, message, length)
    if outcome != ASKED_OK and outcome != ASKED_MISSING_KEY and outcome != ASKED_MULTIPLE_KEYS:
        return refuse(turn, outcome, reply)
    if not pass_gates(turn, expired, 0, reply):
        if reply.status == GRPC_UNAVAILABLE and turn.authz.answers_faults:
            return refuse(turn, ASKED_UNAVAILABLE, reply)
        return False
    if outcome != ASKED_OK:
        return refuse(turn, outcome, reply)
    begin(turn.view, &pending.request, &pending.answer)
    # The key may lie in `asked`, which ends here; no later stage needs it.
    pending.request.key = NULL
    pending.place = asked.place
    return True


cdef void check_prefetch(turn_t* turn, const pending_t* pending) noexcept nogil:
    prefetch(turn.view, &pending.answer)


cdef void check_finish(turn_t* turn, pending_t* pending, reply_t* reply) noexcept nogil:
    cdef answer_t* answer = &pending.answer
    cdef decided_t decided
    cdef uint8_t* at
    finish(turn.view, &pending.request, turn.now_s, answer)
    if not make_room(reply, CHECK_BYTES_MAX):
        return
    authz_decide(turn.authz, pending.place, &pending.request, answer, turn.view.revision, &decided)
    if decided.http_status == 200:
        at = put_allowed(reply.body, &decided, &turn.authz.places[pending.place])
    else:
        at = put_refused(put_status(reply.body, decided.rpc_code), DENIED, &decided)
    at = put_metadata(at, &decided)
    reply.length = at - reply.body
    count_answer(turn.usage, &pending.request, answer, turn.now_s)
    turn.counters.verdicts[answer.verdict] += 1
