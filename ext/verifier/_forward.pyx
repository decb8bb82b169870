"""Forward-auth: what a gateway asks by plain HTTP of a request that it holds back.

The gateway passes the caller's headers on as they are, and adds where they were sent to. What it requires stands in the
query of its own request, which no caller can reach: `scopes`, and `profile=nginx` for a gateway that knows no other
refusals than 401 and 403. A parameter that nobody knows is refused, since a misspelt `scopes` would let everybody in.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp

from verifier._asked cimport (
    ASKED_BAD_ADDRESS, ASKED_BAD_SCOPES, ASKED_OK, ASKED_UNAVAILABLE, ASKED_UNDECODABLE, asked_t, authz_ask_address,
    authz_ask_begin, authz_ask_end, authz_ask_header, authz_ask_query, authz_ask_scopes,
)
from verifier._authz cimport text_t
from verifier._counting cimport count_answer
from verifier._decided cimport authz_decide, authz_refuse, decided_t, header_t
from verifier._head cimport HTTP_OK
from verifier._judge cimport answer_t, judge, request_t
from verifier._page cimport page_begin, page_body, page_field, page_number, page_text
from verifier._service cimport turn_t

cdef enum:
    TOO_MANY = 429
    FORBIDDEN = 403

# What is told beside the caller's headers.
ctypedef struct told_t:
    text_t target              # that the caller asked for; empty when nobody says so
    bint fails                 # told twice and differently, or not understood
    bint folds                 # for NGINX: 429 is told as 403, and the code in a header, as no body is handed on


cdef inline bint named(const field_t* field, const char* name, size_t length) noexcept nogil:
    return field.name_length == length and memcmp(field.name, name, length) == 0


cdef inline bint is_target(const field_t* field) noexcept nogil:
    if field.name_length == 15:
        return memcmp(field.name, b"x-forwarded-uri", 15) == 0
    return named(field, b"x-original-uri", 14) or named(field, b"x-original-url", 14)


cdef void take_target(told_t* told, const field_t* field, bint asks_query, uint32_t* seen) noexcept nogil:
    """Take where the caller's request went to. Each header may stand once, and where keys are looked for in it, all
    must agree: one of two could be the caller's own."""
    cdef uint32_t bit = 1
    if field.name_length == 14:
        bit = 2 if field.name[13] == c'i' else 4
    if seen[0] & bit:
        told.fails = True
    if asks_query and told.target.at != NULL and (told.target.length != field.value_length
                                   or memcmp(told.target.at, field.value, field.value_length) != 0):
        told.fails = True
    seen[0] |= bit
    told.target.at = field.value
    told.target.length = field.value_length


cdef void take_fields(service_t* service, asked_t* asked, told_t* told, const field_t* fields, int count) noexcept nogil:
    cdef const text_t* address = &service.address_header
    cdef const field_t* field
    cdef uint32_t seen = 0
    cdef int i
    cdef bint has_address = False
    for i in range(count):
        field = &fields[i]
        authz_ask_header(asked, field.name, field.name_length, field.value, field.value_length)
        if is_target(field):
            take_target(told, field, asked.authz.asks_query, &seen)
        elif address.length and named(field, <const char*>address.at, address.length):
            if has_address:
                told.fails = True
            has_address = True
            authz_ask_address(asked, field.value, field.value_length)


# --- The query of the gateway's own request --------------------------------------------------------------------------

cdef int hex_digit(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    c |= 0x20
    return c - c'a' + 10 if c'a' <= c <= c'f' else -1


cdef bint decode(uint8_t* text, size_t* length) noexcept nogil:
    """Decode what a form encodes, where it lies; False when it is not so encoded."""
    cdef size_t at = 0, to = 0
    cdef int high, low
    while at < length[0]:
        if text[at] == c'+':
            text[to] = c' '
        elif text[at] != c'%':
            text[to] = text[at]
        else:
            if length[0] - at < 3:
                return False
            high = hex_digit(text[at + 1])
            low = hex_digit(text[at + 2])
            if high < 0 or low < 0:
                return False
            text[to] = <uint8_t>(high << 4 | low)
            at += 2
        at += 1
        to += 1
    length[0] = to
    return True


cdef inline bint same(const uint8_t* text, size_t length, const char* expected, size_t expected_length) noexcept nogil:
    return length == expected_length and memcmp(text, expected, length) == 0


cdef bint take_parameter(asked_t* asked, told_t* told, uint8_t* at, size_t length) noexcept nogil:
    cdef uint8_t* value = <uint8_t*>memchr(at, c'=', length)
    cdef size_t name_length, value_length
    if value == NULL:
        return False
    name_length = value - at
    value += 1
    value_length = at + length - value
    if not decode(value, &value_length):
        return False
    if same(at, name_length, b"scopes", 6):
        authz_ask_scopes(asked, value, value_length)
        return True
    if same(at, name_length, b"profile", 7) and same(value, value_length, b"nginx", 5):
        told.folds = True
        return True
    return False


cdef bint take_query(asked_t* asked, told_t* told, uint8_t* at, size_t length) noexcept nogil:
    cdef uint8_t* end = at + length
    cdef uint8_t* next_at
    while at < end:
        next_at = <uint8_t*>memchr(at, c'&', end - at)
        if next_at == NULL:
            next_at = end
        if next_at > at and not take_parameter(asked, told, at, next_at - at):
            return False
        at = next_at + 1
    return True


# --- The answer ------------------------------------------------------------------------------------------------------

cdef bint is_servable(const turn_t* turn) noexcept nogil:
    if turn.view == NULL:
        return False
    return turn.view.max_staleness_ms <= 0 or turn.staleness_ms <= turn.view.max_staleness_ms


cdef void decide(turn_t* turn, const asked_t* asked, const request_t* request, decided_t* decided) noexcept nogil:
    cdef answer_t answer
    judge(turn.view, request, turn.now_s, &answer)
    authz_decide(turn.authz, asked.place, request, &answer, turn.view.revision, decided)
    count_answer(turn.usage, request, &answer, turn.now_s)
    turn.counters.verdicts[answer.verdict] += 1


cdef void put_header(page_t* page, const header_t* header) noexcept nogil:
    page_field(page, header.name.at, header.name.length, header.value.at, header.value.length)


cdef void write_page(page_t* page, service_t* service, const told_t* told, const decided_t* decided) noexcept nogil:
    """Write the answer. Who the caller is stands only where it is let in: a refusal is handed on to it as it is."""
    cdef bint folded = told.folds and decided.http_status == TOO_MANY
    cdef int i
    page_begin(page, &service.reply, FORBIDDEN if folded else decided.http_status)
    if decided.http_status == HTTP_OK:
        for i in range(decided.identity_count):
            put_header(page, &decided.identity[i])
    # For gateways that keep answers, whatever the caller's own response may be.
    page_text(page, b"cache-control", b"no-store")
    for i in range(decided.caller_count):
        if not same(decided.caller[i].name.at, decided.caller[i].name.length, b"cache-control", 13):
            put_header(page, &decided.caller[i])
    if folded:
        page_number(page, b"x-verifier-status", decided.http_status)
    if told.folds and decided.http_status != HTTP_OK:
        page_field(page, <const uint8_t*>b"x-verifier-code", 15, decided.told_code.at, decided.told_code.length)
    if decided.body.length:
        page_text(page, b"content-type", b"application/problem+json")
    page_body(page, decided.body.at, decided.body.length)


cdef int forward_answer(service_t* service, uint8_t* query, size_t query_length, const field_t* fields, int field_count,
                        page_t* page) noexcept nogil:
    cdef turn_t* turn = &service.turn
    cdef request_t request
    cdef asked_t asked
    cdef told_t told
    cdef decided_t decided
    cdef int outcome
    told.target.at = NULL
    told.target.length = 0
    told.fails = told.folds = False
    authz_ask_begin(turn.authz, &asked, &request)
    take_fields(service, &asked, &told, fields, field_count)
    if not take_query(&asked, &told, query, query_length):
        told.fails = True
    if told.target.length:
        authz_ask_query(&asked, told.target.at, told.target.length)
    outcome = authz_ask_end(&asked)
    # Gates before anything is said of the key, or of its absence.
    if told.fails:
        outcome = ASKED_UNDECODABLE
    elif outcome != ASKED_BAD_SCOPES and outcome != ASKED_BAD_ADDRESS and not is_servable(turn):
        outcome = ASKED_UNAVAILABLE
    if outcome == ASKED_OK:
        decide(turn, &asked, &request, &decided)
    else:
        authz_refuse(turn.authz, outcome, &decided)
        turn.counters.asked[outcome] += 1
    write_page(page, service, &told, &decided)
    return decided.rpc_code
