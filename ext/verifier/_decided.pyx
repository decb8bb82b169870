"""What a verdict becomes for the upstream and for the caller.

Whatever goes into a header is made safe for it: bytes other than printable ASCII, percent signs, and spaces at either
end are percent-encoded, so that no name or value of the registry can end a header, begin another, or read like a
different value.

Bodies are problem details (RFC 9457), challenges those of RFC 9110 section 11.6.1 and RFC 6750 section 3. A key that is
malformed and one that is unknown are answered alike to the byte.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strlen

from verifier._asked cimport (
    ASKED_BAD_ADDRESS, ASKED_BAD_SCOPES, ASKED_FORGED, ASKED_MISSING_KEY, ASKED_MULTIPLE_KEYS, ASKED_UNAVAILABLE,
)
from verifier._authz cimport place_t
from verifier._dates cimport put_http_date, put_number, put_timestamp
from verifier._judge cimport (
    ADDRESS_NOT_ALLOWED, CLIENT_DISABLED, EXPIRED, INSUFFICIENT_SCOPE, KEY_DISABLED, MALFORMED, NOT_YET_ACTIVE,
    PHASE_NONE, PHASE_RETIRING, REVOKED, UNKNOWN, VALID,
)
from verifier._lookup cimport AT_END, AT_NOT_BEFORE, AT_SUPERSEDED_AT, load32
from verifier._wire cimport WIRE_OK, cursor_t, read_field

cdef enum:
    NONE = 0xFFFFFFFF          # no such time, in a record
    SCOPE_TEXT_MAX = 1024      # in a challenge
    RATE_LIMITED = 11
    QUOTA_EXCEEDED = 12
    VERDICTS = 13
    PHASES = 6
    CLIENT_ID_FIELD = 8
    KEY_ID_FIELD = 9
    VERSION_FIELD = 10
    SUPERSEDED_BY_FIELD = 14
    REASON_FIELD = 15
    SCOPE_FIELD = 16
    METADATA_FIELD = 17

# What is said in public: one row for each code.
ctypedef struct public_t:
    int http_status
    int rpc_code
    const char* code
    const char* body           # without its closing brace

cdef public_t INVALID_KEY, MISSING_KEY, MULTIPLE_KEYS, KEY_REVOKED, DISABLED_KEY, KEY_NOT_ACTIVE, KEY_EXPIRED
cdef public_t FOREIGN_ADDRESS, MISSING_SCOPE, LIMITED, EXCEEDED, BAD_SCOPES, BAD_ADDRESS, FORGED, UNDECODABLE, UNAVAILABLE
cdef public_t MINIMAL          # the one body of all 401, where so little is told
cdef public_t* BY_VERDICT[VERDICTS]

cdef text_t PHASE_TEXT[PHASES]
cdef text_t PHASE_NAME, DEPRECATION_NAME, SUNSET_NAME, CACHE_NAME, CHALLENGE_NAME, RETRY_NAME
cdef text_t NO_STORE, PRIVATE, ONE, EMPTY


cdef void define(public_t* public, int http_status, int rpc_code, const char* code, const char* body) noexcept nogil:
    public.http_status = http_status
    public.rpc_code = rpc_code
    public.code = code
    public.body = body


cdef text_t text_of(const char* literal) noexcept nogil:
    cdef text_t text
    text.at = <const uint8_t*>literal
    text.length = strlen(literal)
    return text


cdef void define_all() noexcept nogil:
    define(&INVALID_KEY, 401, 16, b"invalid_key",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"invalid_key",'
           b'"detail":"The API key is not valid."')
    define(&MISSING_KEY, 401, 16, b"missing_key",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"missing_key",'
           b'"detail":"The request has no API key."')
    define(&MULTIPLE_KEYS, 401, 16, b"multiple_keys",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"multiple_keys",'
           b'"detail":"The request has more than one API key."')
    define(&KEY_REVOKED, 401, 16, b"key_revoked",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"key_revoked",'
           b'"detail":"The API key was revoked."')
    define(&DISABLED_KEY, 401, 16, b"key_disabled",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"key_disabled",'
           b'"detail":"The API key is switched off."')
    define(&KEY_NOT_ACTIVE, 401, 16, b"key_not_active",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"key_not_active",'
           b'"detail":"The API key is not active yet."')
    define(&KEY_EXPIRED, 401, 16, b"key_expired",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"key_expired",'
           b'"detail":"The API key has expired."')
    define(&MINIMAL, 401, 16, b"unauthorized",
           b'{"type":"about:blank","title":"Unauthorized","status":401,"code":"unauthorized",'
           b'"detail":"A valid API key is required."')
    define(&FOREIGN_ADDRESS, 403, 7, b"address_not_allowed",
           b'{"type":"about:blank","title":"Forbidden","status":403,"code":"address_not_allowed",'
           b'"detail":"The API key may not be used from this address."')
    define(&MISSING_SCOPE, 403, 7, b"insufficient_scope",
           b'{"type":"about:blank","title":"Forbidden","status":403,"code":"insufficient_scope",'
           b'"detail":"The API key lacks a scope that is required here."')
    define(&LIMITED, 429, 8, b"rate_limited",
           b'{"type":"about:blank","title":"Too Many Requests","status":429,"code":"rate_limited",'
           b'"detail":"The API key is used too often."')
    define(&EXCEEDED, 429, 8, b"quota_exceeded",
           b'{"type":"about:blank","title":"Too Many Requests","status":429,"code":"quota_exceeded",'
           b'"detail":"The quota of the API key is used up."')
    define(&BAD_SCOPES, 400, 3, b"bad_request",
           b'{"type":"about:blank","title":"Bad Request","status":400,"code":"bad_request",'
           b'"detail":"What is required here is not a list of up to 64 scopes."')
    define(&BAD_ADDRESS, 400, 3, b"bad_request",
           b'{"type":"about:blank","title":"Bad Request","status":400,"code":"bad_request",'
           b'"detail":"The caller\'s address is not an IP address."')
    define(&FORGED, 400, 3, b"bad_request",
           b'{"type":"about:blank","title":"Bad Request","status":400,"code":"bad_request",'
           b'"detail":"The request has a header that only the gateway may set."')
    define(&UNDECODABLE, 400, 3, b"bad_request",
           b'{"type":"about:blank","title":"Bad Request","status":400,"code":"bad_request",'
           b'"detail":"The request cannot be understood."')
    define(&UNAVAILABLE, 503, 14, b"unavailable",
           b'{"type":"about:blank","title":"Service Unavailable","status":503,"code":"unavailable",'
           b'"detail":"API keys cannot be verified at the moment."')
    BY_VERDICT[0] = BY_VERDICT[VALID] = NULL
    BY_VERDICT[MALFORMED] = BY_VERDICT[UNKNOWN] = &INVALID_KEY
    BY_VERDICT[REVOKED] = &KEY_REVOKED
    BY_VERDICT[CLIENT_DISABLED] = BY_VERDICT[KEY_DISABLED] = &DISABLED_KEY
    BY_VERDICT[NOT_YET_ACTIVE] = &KEY_NOT_ACTIVE
    BY_VERDICT[EXPIRED] = &KEY_EXPIRED
    BY_VERDICT[ADDRESS_NOT_ALLOWED] = &FOREIGN_ADDRESS
    BY_VERDICT[INSUFFICIENT_SCOPE] = &MISSING_SCOPE
    BY_VERDICT[RATE_LIMITED] = &LIMITED
    BY_VERDICT[QUOTA_EXCEEDED] = &EXCEEDED


define_all()
PHASE_TEXT[:] = [text_of(b""), text_of(b"PENDING"), text_of(b"CURRENT"), text_of(b"RETIRING"), text_of(b"EXPIRED"),
                 text_of(b"REVOKED")]
PHASE_NAME = text_of(b"x-api-key-phase")
DEPRECATION_NAME = text_of(b"deprecation")
SUNSET_NAME = text_of(b"sunset")
CACHE_NAME = text_of(b"cache-control")
CHALLENGE_NAME = text_of(b"www-authenticate")
RETRY_NAME = text_of(b"retry-after")
NO_STORE = text_of(b"no-store")
PRIVATE = text_of(b"private")
ONE = text_of(b"1")
EMPTY = text_of(b"")


cdef inline bint same(const text_t* text, const uint8_t* other, size_t length) noexcept nogil:
    return text.length == length and memcmp(text.at, other, length) == 0


# --- Writing into decided.room ---------------------------------------------------------------------------------------

# Texts are begun at the end of what is in the room, and grow there. ROOM_BYTES holds all that a record can make of
# them: 2 x 255 and 1,024 bytes threefold, scopes of less than 1,904, a challenge of 1.3 KiB, a body of 0.4 KiB, numbers.

cdef inline uint8_t* here(decided_t* decided) noexcept nogil:
    return decided.room + decided.room_used


cdef inline text_t ended(decided_t* decided, uint8_t* end) noexcept nogil:
    cdef text_t text
    text.at = decided.room + decided.room_used
    text.length = end - text.at
    decided.room_used = end - decided.room
    return text


cdef inline uint8_t* put(uint8_t* at, const void* text, size_t length) noexcept nogil:
    memcpy(at, text, length)
    return at + length


cdef inline uint8_t* put_literal(uint8_t* at, const char* text) noexcept nogil:
    return put(at, text, strlen(text))


cdef inline bint is_plain(uint8_t letter) noexcept nogil:
    return 0x20 <= letter <= 0x7E and letter != c'%'


cdef text_t safe(decided_t* decided, text_t text) noexcept nogil:
    """Return a text as it may stand in a header: itself, or percent-encoded."""
    cdef const char* digits = b"0123456789ABCDEF"
    cdef size_t i
    cdef uint8_t letter
    cdef uint8_t* at
    cdef bint plain = text.length == 0 or (text.at[0] != c' ' and text.at[text.length - 1] != c' ')
    for i in range(text.length):
        plain &= is_plain(text.at[i])
    if plain:
        return text
    at = here(decided)
    for i in range(text.length):
        letter = text.at[i]
        if is_plain(letter) and (letter != c' ' or 0 < i < text.length - 1):
            at[0] = letter
            at += 1
        else:
            at[0] = c'%'
            at[1] = digits[letter >> 4]
            at[2] = digits[letter & 15]
            at += 3
    return ended(decided, at)


# --- Facts -----------------------------------------------------------------------------------------------------------

cdef inline int64_t moment_of(const uint8_t* at) noexcept nogil:
    cdef uint32_t moment = load32(at)
    return 0 if moment == <uint32_t>NONE else moment


cdef text_t text_in(const cursor_t* content) noexcept nogil:
    cdef text_t text
    text.at = content.at
    text.length = content.end - content.at
    return text


cdef void read_facts(const answer_t* answer, facts_t* facts) noexcept nogil:
    """Decode the answer part of a record, once. It was checked when the keyring was loaded."""
    cdef cursor_t cursor, content
    cdef const uint8_t* begin
    cdef uint32_t number, wire_type
    cdef uint64_t value
    memset(facts, 0, sizeof(facts_t))
    if answer.record == NULL:
        return
    facts.not_before_s = load32(answer.record + AT_NOT_BEFORE)
    facts.end_s = moment_of(answer.record + AT_END)
    facts.superseded_at_s = moment_of(answer.record + AT_SUPERSEDED_AT)
    cursor.at = answer.body
    cursor.end = answer.body + answer.body_length
    while cursor.at < cursor.end:
        begin = cursor.at
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK:
            return
        if number == CLIENT_ID_FIELD:
            facts.client_id = text_in(&content)
        elif number == KEY_ID_FIELD:
            facts.key_id = text_in(&content)
        elif number == VERSION_FIELD:
            facts.version = <uint32_t>value
        elif number == SUPERSEDED_BY_FIELD:
            facts.superseded_by = <uint32_t>value
        elif number == REASON_FIELD:
            facts.reason = <uint32_t>value
        elif number >= SCOPE_FIELD:
            facts.level_2.at = begin
            facts.level_2.length = cursor.end - begin
            return


cdef text_t scopes_of(decided_t* decided) noexcept nogil:
    """All scopes, parted by spaces."""
    cdef cursor_t cursor, content
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cdef uint8_t* begin = here(decided)
    cdef uint8_t* at = begin
    cursor.at = decided.facts.level_2.at
    cursor.end = cursor.at + decided.facts.level_2.length
    while cursor.at < cursor.end:
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK or number != SCOPE_FIELD:
            break
        if at != begin:
            at[0] = c' '
            at += 1
        at = put(at, content.at, content.end - content.at)
    return ended(decided, at)


cdef text_t metadata_of(const facts_t* facts, const text_t* name) noexcept nogil:
    cdef cursor_t cursor, content, inner
    cdef uint32_t number, wire_type
    cdef uint64_t value
    cursor.at = facts.level_2.at
    cursor.end = cursor.at + facts.level_2.length
    while cursor.at < cursor.end:
        if read_field(&cursor, &number, &wire_type, &value, &content) != WIRE_OK or number > METADATA_FIELD:
            break
        if (number == METADATA_FIELD and read_field(&content, &number, &wire_type, &value, &inner) == WIRE_OK
                and same(name, inner.at, inner.end - inner.at)
                and read_field(&content, &number, &wire_type, &value, &inner) == WIRE_OK):
            return text_in(&inner)
    return EMPTY


# --- Deciding --------------------------------------------------------------------------------------------------------

cdef inline void identify(decided_t* decided, const authz_t* authz, text_t value) noexcept nogil:
    cdef header_t* header = &decided.identity[decided.identity_count]
    header.name = authz.identity[decided.identity_count]
    header.value = value
    header.joins = False
    decided.identity_count += 1


cdef void identify_all(const authz_t* authz, decided_t* decided, int64_t revision) noexcept nogil:
    cdef int i
    identify(decided, authz, safe(decided, decided.facts.client_id))
    identify(decided, authz, safe(decided, decided.facts.key_id))
    identify(decided, authz, ended(decided, put_number(here(decided), decided.facts.version,
                                                       decided.facts.version != 0)))
    identify(decided, authz, PHASE_TEXT[decided.phase])
    identify(decided, authz, scopes_of(decided))
    identify(decided, authz, ended(decided, put_number(here(decided), revision, revision != 0)))
    for i in range(authz.metadata_count):
        identify(decided, authz, safe(decided, metadata_of(&decided.facts, &authz.metadata[i])))


cdef void tell(decided_t* decided, text_t name, text_t value, bint joins) noexcept nogil:
    cdef header_t* header = &decided.caller[decided.caller_count]
    header.name = name
    header.value = value
    header.joins = joins
    decided.caller_count += 1


cdef void tell_of_retirement(const authz_t* authz, decided_t* decided) noexcept nogil:
    """Warn the caller: in a header of our own, and, by setting, in those of RFC 9745 and RFC 8594."""
    cdef facts_t* facts = &decided.facts
    cdef uint8_t* at = put_literal(here(decided), b"retiring")
    if facts.superseded_by:
        at = put_number(put_literal(at, b"; successor="), facts.superseded_by, 1)
    if facts.end_s:
        at = put_number(put_literal(at, b"; end="), facts.end_s, 1)
    tell(decided, PHASE_NAME, ended(decided, at), False)
    if authz.deprecates:
        at = put_number(put_literal(here(decided), b"@"), facts.superseded_at_s, 1)
        tell(decided, DEPRECATION_NAME, ended(decided, at), False)
        if facts.end_s:
            tell(decided, SUNSET_NAME, ended(decided, put_http_date(here(decided), facts.end_s)), False)
    # This is said of the caller's key, not of the resource: no shared cache may hand it to others.
    tell(decided, CACHE_NAME, PRIVATE, True)


cdef text_t scope_challenge(decided_t* decided, const place_t* place, const request_t* request) noexcept nogil:
    """`Bearer ..., error="insufficient_scope", scope="..."`, with what was required unless that is very long."""
    cdef uint8_t* at = put(here(decided), place.challenge.at, place.challenge.length)
    cdef size_t length = 0
    cdef int i
    at = put_literal(at, b', error="insufficient_scope"')
    for i in range(request.scope_count):
        length += request.scope_lengths[i] + 1
    if 0 < length <= SCOPE_TEXT_MAX:
        at = put_literal(at, b', scope="')
        for i in range(request.scope_count):
            at = put(at, request.scopes[i], request.scope_lengths[i])
            at[0] = c' ' if i + 1 < request.scope_count else c'"'
            at += 1
    return ended(decided, at)


cdef void say(const authz_t* authz, decided_t* decided, public_t* public) noexcept nogil:
    """Status, code and body of a refusal; both of what is invalid and what is unknown have the same."""
    cdef public_t* told = &MINIMAL if authz.minimal and public.http_status == 401 else public
    cdef uint8_t* at = put_literal(here(decided), told.body)
    decided.http_status = public.http_status
    decided.rpc_code = public.rpc_code
    decided.code = text_of(public.code)
    decided.told_code = text_of(told.code)
    if told == &KEY_EXPIRED and decided.facts.end_s:
        at = put_timestamp(put_literal(at, b',"expires_at":"'), decided.facts.end_s)
        at = put_literal(at, b'"')
    elif told == &KEY_NOT_ACTIVE:
        at = put_timestamp(put_literal(at, b',"not_before":"'), decided.facts.not_before_s)
        at = put_literal(at, b'"')
    decided.body = ended(decided, put_literal(at, b"}"))
    if public.http_status == 429 or public.http_status == 503:
        tell(decided, RETRY_NAME, ONE, False)
    tell(decided, CACHE_NAME, NO_STORE, False)


cdef void begin_decided(decided_t* decided) noexcept nogil:
    decided.http_status = 200
    decided.rpc_code = 0
    decided.verdict = 0
    decided.phase = PHASE_NONE
    decided.code = decided.told_code = decided.body = EMPTY
    decided.identity_count = decided.caller_count = 0
    decided.room_used = 0


cdef void authz_decide(const authz_t* authz, int place, const request_t* request, const answer_t* answer,
                       int64_t revision, decided_t* decided) noexcept nogil:
    cdef public_t* public = NULL
    begin_decided(decided)
    decided.verdict = answer.verdict
    decided.phase = answer.phase
    read_facts(answer, &decided.facts)
    identify_all(authz, decided, revision)
    if answer.verdict == VALID:
        if answer.phase == PHASE_RETIRING:
            tell_of_retirement(authz, decided)
        return
    if 0 <= answer.verdict < VERDICTS:
        public = BY_VERDICT[answer.verdict]
    if public == NULL:
        public = &INVALID_KEY
    say(authz, decided, public)
    if public.http_status == 401:
        tell(decided, CHALLENGE_NAME, authz.places[place].invalid, False)
    elif answer.verdict == INSUFFICIENT_SCOPE:
        if authz.places[place].invalid.length == authz.places[place].challenge.length:
            tell(decided, CHALLENGE_NAME, authz.places[place].challenge, False)
        else:
            tell(decided, CHALLENGE_NAME, scope_challenge(decided, &authz.places[place], request), False)


cdef void authz_refuse(const authz_t* authz, int asked, decided_t* decided) noexcept nogil:
    cdef public_t* public = &UNDECODABLE
    begin_decided(decided)
    memset(&decided.facts, 0, sizeof(facts_t))
    if asked == ASKED_MISSING_KEY:
        public = &MISSING_KEY
    elif asked == ASKED_MULTIPLE_KEYS:
        public = &MULTIPLE_KEYS
    elif asked == ASKED_BAD_SCOPES:
        public = &BAD_SCOPES
    elif asked == ASKED_BAD_ADDRESS:
        public = &BAD_ADDRESS
    elif asked == ASKED_FORGED:
        public = &FORGED
    elif asked == ASKED_UNAVAILABLE:
        public = &UNAVAILABLE
    say(authz, decided, public)
    # Who sent no key is told how to send one; the first place is the one that operators prefer.
    if asked == ASKED_MISSING_KEY:
        tell(decided, CHALLENGE_NAME, authz.places[0].challenge, False)
    elif asked == ASKED_MULTIPLE_KEYS:
        tell(decided, CHALLENGE_NAME, authz.places[0].multiple, False)
