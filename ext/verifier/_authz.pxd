# How gateways are answered, whatever they speak: where a key is looked for, what the upstream and the caller are told.
#
#   _authz    the settings of that
#   _asked    reads what a gateway says of a request
#   _decided  what a verdict becomes: status, public code, headers, body
#
# No formats and no transports. One request:
#
#   authz_ask_begin, then for all that is read authz_ask_header / _query / _scopes / _address, then authz_ask_end.
#   ASKED_OK: `request` is complete; judge it (_judge), count it (_counting), then authz_decide.
#   Else: the gateway's own refusal, authz_refuse. It has no verdict.
#
# Nothing is copied: pointers lead into the request, the keyring and `decided.room`, and are good until the turn ends.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint16_t

cdef enum:
    PLACES_MAX = 8             # where a key may be
    NAME_BYTES_MAX = 64        # of a header, a query parameter, a scheme
    IDENTITY_BYTES_MAX = 80    # of the name of an identity header
    HOPS_MAX = 8
    METADATA_MAX = 16
    REALM_BYTES_MAX = 128
    CHALLENGE_BYTES_MAX = 192
    IDENTITY_FIXED = 6
    IDENTITY_MAX = 22          # IDENTITY_FIXED + METADATA_MAX

    HEADER = 0                 # the whole value is the key
    HEADER_SCHEME = 1          # a scheme, then the key
    QUERY = 2
    FORWARDED_LENGTH = 15      # of "x-forwarded-for"
    FORWARDED_BIT = 32768      # in authz_t.by_length
    IDENTITY_BIT = 16384

ctypedef struct text_t:
    const uint8_t* at
    size_t length

ctypedef struct place_t:
    int kind                   # HEADER, HEADER_SCHEME, QUERY
    text_t name
    text_t scheme              # lower case
    text_t challenge           # `Bearer realm="..."`: for a caller who sent no key
    text_t invalid             # the same with its error: for one whose key is not good
    text_t multiple
    uint8_t name_bytes[NAME_BYTES_MAX]
    uint8_t scheme_bytes[NAME_BYTES_MAX]
    uint8_t texts[3][CHALLENGE_BYTES_MAX]

# Immutable.
ctypedef struct authz_t:
    place_t places[PLACES_MAX]
    int place_count
    bint asks_query            # some place is a query parameter
    int hops                   # trusted proxies that append to X-Forwarded-For; 0: that header is not looked at
    bint minimal               # all 401 have one body
    bint deprecates            # Deprecation and Sunset besides X-API-Key-Phase
    bint answers_faults        # a fault is an answer (Envoy's error_response) instead of a failed RPC
    text_t identity[IDENTITY_MAX]     # names of the identity headers: fixed ones, then metadata
    text_t metadata[METADATA_MAX]     # names in records
    int metadata_count
    # Bit i: the header of place i has a name so long. Bit 15: X-Forwarded-For is looked at. Bit 14: identity headers.
    uint16_t by_length[IDENTITY_BYTES_MAX + 1]
    uint8_t identity_bytes[METADATA_MAX][IDENTITY_BYTES_MAX]
    uint8_t metadata_bytes[METADATA_MAX][NAME_BYTES_MAX]

cdef class Authz:
    cdef authz_t authz

    cdef _add_place(self, place_t* place, realm, kind, name, scheme)
