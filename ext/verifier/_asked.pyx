"""Reads what a gateway says of a request: the key, wherever it is, required scopes, and the caller's address.

A request that holds more than one key is refused, whatever the keys are: gateway and upstream might otherwise mean
different ones. A header that holds a key and is repeated counts as more than one, and so does a comma in it, since that
is how headers are joined.

A header such as X_Verifier_Client is refused, too: servers after CGI's fashion (WSGI among them) take underscores and
hyphens for the same, and gateways, which overwrite the one, let the other pass.
"""

from libc.string cimport memchr, memcmp

from verifier._authz cimport (
    FORWARDED_BIT, FORWARDED_LENGTH, HEADER_SCHEME, IDENTITY_BIT, IDENTITY_BYTES_MAX, IDENTITY_FIXED, QUERY, place_t,
)
from verifier._judge cimport SCOPES_MAX
from verifier._wire cimport WIRE_OK, check_scope, parse_address


cdef inline bint is_blank(uint8_t letter) noexcept nogil:
    return letter == c' ' or letter == c'\t'


cdef text_t trimmed(const uint8_t* at, size_t length) noexcept nogil:
    cdef text_t text
    while length and is_blank(at[0]):
        at += 1
        length -= 1
    while length and is_blank(at[length - 1]):
        length -= 1
    text.at = at
    text.length = length
    return text


cdef inline bint same(const text_t* text, const uint8_t* other, size_t length) noexcept nogil:
    return text.length == length and memcmp(text.at, other, length) == 0


cdef bint has_scheme(const place_t* place, const text_t* value) noexcept nogil:
    """Tell whether a value begins with the place's scheme, in any case, and a blank or the end after it."""
    cdef size_t i
    if value.length < place.scheme.length:
        return False
    for i in range(place.scheme.length):
        if value.at[i] | (0x20 if c'A' <= value.at[i] <= c'Z' else 0) != place.scheme.at[i]:
            return False
    return value.length == place.scheme.length or is_blank(value.at[place.scheme.length])


cdef text_t key_in(const place_t* place, const uint8_t* at, size_t length) noexcept nogil:
    """The key in a header's value; empty when there is none."""
    cdef text_t text = trimmed(at, length)
    if place.kind == HEADER_SCHEME:
        if has_scheme(place, &text):
            return trimmed(text.at + place.scheme.length, text.length - place.scheme.length)
        text.length = 0
    return text


cdef bint some_key_in(const place_t* place, const text_t* value) noexcept nogil:
    """Tell whether one of several values, parted by commas, holds a key."""
    cdef const uint8_t* at = value.at
    cdef const uint8_t* end = value.at + value.length
    cdef const uint8_t* comma
    while True:
        comma = <const uint8_t*>memchr(at, c',', end - at)
        if key_in(place, at, (end if comma == NULL else comma) - at).length:
            return True
        if comma == NULL:
            return False
        at = comma + 1


cdef void authz_ask_begin(const authz_t* authz, asked_t* asked, request_t* request) noexcept nogil:
    asked.authz = authz
    asked.request = request
    asked.keys = 0
    asked.place = 0
    asked.seen = asked.repeated = asked.held = 0
    asked.bad_scopes = asked.forged = False
    asked.address.at = NULL
    asked.address.length = 0
    asked.forwarded_count = 0
    request.key = NULL
    request.key_length = 0
    request.scope_count = 0
    request.has_address = False
    request.min_revision = 0
    request.probe = False


cdef void take_key(asked_t* asked, int place, const text_t* key) noexcept nogil:
    if asked.keys == 0:
        asked.place = place
        asked.request.key = key.at
        asked.request.key_length = key.length
    asked.keys += 1
    asked.held |= <uint32_t>1 << place


cdef void take_header(asked_t* asked, int number, const uint8_t* value, size_t length) noexcept nogil:
    """Look at a header that is a place: the key in it, or the first of several, which then count as repeated."""
    cdef const place_t* place = &asked.authz.places[number]
    cdef uint32_t bit = <uint32_t>1 << number
    cdef text_t key
    if asked.seen & bit:
        asked.repeated |= bit
    asked.seen |= bit
    key.at = value
    key.length = length
    if length and memchr(value, c',', length) != NULL:
        asked.repeated |= bit
        if some_key_in(place, &key):
            take_key(asked, number, &key)
        return
    key = key_in(place, value, length)
    if key.length:
        take_key(asked, number, &key)


cdef bint is_forged(const authz_t* authz, const uint8_t* name, size_t length) noexcept nogil:
    """Tell whether a name is that of an identity header but for underscores."""
    cdef const text_t* own
    cdef int i
    cdef size_t at
    if memchr(name, c'_', length) == NULL:
        return False
    for i in range(IDENTITY_FIXED + authz.metadata_count):
        own = &authz.identity[i]
        at = 0
        while own.length == length and at < length and (c'-' if name[at] == c'_' else name[at]) == own.at[at]:
            at += 1
        if at == length:
            return True
    return False


cdef void look_at_header(asked_t* asked, uint32_t candidates, const uint8_t* name, size_t name_length,
                         const uint8_t* value, size_t value_length) noexcept nogil:
    cdef int i
    for i in range(asked.authz.place_count):
        if candidates >> i & 1 and same(&asked.authz.places[i].name, name, name_length):
            take_header(asked, i, value, value_length)
    if candidates & FORWARDED_BIT and memcmp(name, b"x-forwarded-for", FORWARDED_LENGTH) == 0:
        asked.forwarded[asked.forwarded_count % HOPS_MAX].at = value
        asked.forwarded[asked.forwarded_count % HOPS_MAX].length = value_length
        asked.forwarded_count += 1
    if candidates & IDENTITY_BIT and is_forged(asked.authz, name, name_length):
        asked.forged = True


cdef void authz_ask_header(asked_t* asked, const uint8_t* name, size_t name_length, const uint8_t* value,
                           size_t value_length) noexcept nogil:
    # Most headers have a name of a length that no place has.
    cdef uint32_t candidates
    if name_length > IDENTITY_BYTES_MAX:
        return
    candidates = asked.authz.by_length[name_length]
    if candidates:
        look_at_header(asked, candidates, name, name_length, value, value_length)


cdef inline int hexadecimal(uint8_t digit) noexcept nogil:
    if c'0' <= digit <= c'9':
        return digit - c'0'
    if c'a' <= digit | 0x20 <= c'f':
        return (digit | 0x20) - c'a' + 10
    return -1


cdef text_t decoded(asked_t* asked, const text_t* value) noexcept nogil:
    """Undo percent-encoding in a value of the query; what is too long for a key stays as it is."""
    cdef text_t made = value[0]
    cdef size_t at = 0, length = 0
    cdef int high, low
    if value.length == 0 or memchr(value.at, c'%', value.length) == NULL:
        return made
    while at < value.length:
        if length == TOKEN_BYTES_MAX:
            return made
        asked.decoded[length] = value.at[at]
        if value.at[at] == c'%' and at + 2 < value.length:
            high = hexadecimal(value.at[at + 1])
            low = hexadecimal(value.at[at + 2])
            if high >= 0 and low >= 0:
                asked.decoded[length] = <uint8_t>(high << 4 | low)
                at += 2
        at += 1
        length += 1
    made.at = asked.decoded
    made.length = length
    return made


cdef void take_parameter(asked_t* asked, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef const uint8_t* equals = <const uint8_t*>memchr(at, c'=', end - at)
    cdef text_t value
    cdef int i
    if equals == NULL or equals + 1 == end:
        return
    for i in range(asked.authz.place_count):
        if asked.authz.places[i].kind == QUERY and same(&asked.authz.places[i].name, at, equals - at):
            value.at = equals + 1
            value.length = end - value.at
            if asked.keys == 0:
                value = decoded(asked, &value)
            take_key(asked, i, &value)


cdef void authz_ask_query(asked_t* asked, const uint8_t* target, size_t length) noexcept nogil:
    cdef const uint8_t* end = target + length
    cdef const uint8_t* at
    cdef const uint8_t* next
    if not asked.authz.asks_query or length == 0:
        return
    at = <const uint8_t*>memchr(target, c'?', length)
    while at != NULL and at + 1 < end:
        at += 1
        next = <const uint8_t*>memchr(at, c'&', end - at)
        if next != at:
            take_parameter(asked, at, end if next == NULL else next)
        at = next


cdef void authz_ask_scopes(asked_t* asked, const uint8_t* text, size_t length) noexcept nogil:
    cdef request_t* request = asked.request
    cdef size_t at = 0, begin
    while at < length:
        if is_blank(text[at]) or text[at] == c',':
            at += 1
            continue
        begin = at
        while at < length and not is_blank(text[at]) and text[at] != c',':
            at += 1
        if request.scope_count == SCOPES_MAX or check_scope(text + begin, at - begin) != WIRE_OK:
            asked.bad_scopes = True
            return
        request.scopes[request.scope_count] = text + begin
        request.scope_lengths[request.scope_count] = <uint8_t>(at - begin)
        request.scope_count += 1


cdef void authz_ask_address(asked_t* asked, const uint8_t* text, size_t length) noexcept nogil:
    asked.address.at = text
    asked.address.length = length


cdef text_t hop_of(const asked_t* asked) noexcept nogil:
    """The address that the outermost trusted proxy saw: as many entries from the end as there are such proxies."""
    cdef int line = asked.forwarded_count, left = asked.authz.hops
    cdef const uint8_t* begin
    cdef const uint8_t* at
    cdef const uint8_t* end
    cdef text_t none
    while line > 0 and line > asked.forwarded_count - HOPS_MAX:
        line -= 1
        begin = asked.forwarded[line % HOPS_MAX].at
        end = begin + asked.forwarded[line % HOPS_MAX].length
        while end >= begin:
            at = end
            while at > begin and (at - 1)[0] != c',':
                at -= 1
            left -= 1
            if left == 0:
                return trimmed(at, end - at)
            if at == begin:
                break
            end = at - 1
    none.at = NULL
    none.length = 0
    return none


cdef text_t without_port(text_t text) noexcept nogil:
    """Cut what some proxies add to an address: brackets and a port."""
    cdef const uint8_t* mark
    if text.length and text.at[0] == c'[':
        mark = <const uint8_t*>memchr(text.at, c']', text.length)
        text.length = (text.length if mark == NULL else <size_t>(mark - text.at)) - 1
        text.at += 1
        return text
    mark = <const uint8_t*>memchr(text.at, c':', text.length) if text.length else NULL
    if mark != NULL and memchr(mark + 1, c':', text.at + text.length - mark - 1) == NULL:
        text.length = mark - text.at
    return text


cdef text_t without_zone(text_t text) noexcept nogil:
    """Cut the interface from a link-local address, fe80::1%eth0."""
    cdef const uint8_t* mark = <const uint8_t*>memchr(text.at, c'%', text.length) if text.length else NULL
    if mark != NULL:
        text.length = mark - text.at
    return text


cdef int settle_address(asked_t* asked) noexcept nogil:
    cdef request_t* request = asked.request
    cdef text_t address
    if asked.authz.hops:
        # Who came past the proxies, or wrote what is no address, has none: a key with address rules is refused then.
        address = without_zone(without_port(hop_of(asked)))
        request.has_address = (address.length != 0
                               and parse_address(address.at, address.length, request.address) == WIRE_OK)
        return ASKED_OK
    address = without_zone(asked.address)
    if address.length == 0:
        return ASKED_OK
    if parse_address(address.at, address.length, request.address) != WIRE_OK:
        return ASKED_BAD_ADDRESS
    request.has_address = True
    return ASKED_OK


cdef int authz_ask_end(asked_t* asked) noexcept nogil:
    if asked.bad_scopes:
        return ASKED_BAD_SCOPES
    if settle_address(asked) != ASKED_OK:
        return ASKED_BAD_ADDRESS
    if asked.forged:
        return ASKED_FORGED
    if asked.keys == 0:
        return ASKED_MISSING_KEY
    if asked.keys > 1 or asked.repeated & asked.held:
        return ASKED_MULTIPLE_KEYS
    return ASKED_OK
