# Reads what a gateway says of a request; see _authz.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

from verifier._authz cimport HOPS_MAX, authz_t, text_t
from verifier._judge cimport TOKEN_BYTES_MAX, request_t

cdef enum:
    # What came of a request. All but OK are answered without a verdict.
    ASKED_OK = 0
    ASKED_MISSING_KEY = 1
    ASKED_MULTIPLE_KEYS = 2
    ASKED_BAD_SCOPES = 3
    ASKED_BAD_ADDRESS = 4
    ASKED_UNDECODABLE = 5      # for formats: authz_ask_end never says so
    ASKED_UNAVAILABLE = 6      # likewise: no keyring, or a stale one (503; never folded into a refusal)
    ASKED_FORGED = 7           # a header with underscores that an upstream may take for an identity header

# A request while it is read.
ctypedef struct asked_t:
    const authz_t* authz
    request_t* request
    int keys                   # seen so far
    int place                  # of the first one: index into authz.places
    uint32_t seen              # bit i: the header of place i was there
    uint32_t repeated          # more than once
    uint32_t held              # with a key in it
    bint bad_scopes
    bint forged
    text_t address
    text_t forwarded[HOPS_MAX] # values of X-Forwarded-For, the last ones
    int forwarded_count
    uint8_t decoded[TOKEN_BYTES_MAX]  # a key of the query that was percent-encoded

cdef void authz_ask_begin(const authz_t* authz, asked_t* asked, request_t* request) noexcept nogil
# Each header once; repeated ones one by one or joined by commas. `name` in lower case.
cdef void authz_ask_header(asked_t* asked, const uint8_t* name, size_t name_length, const uint8_t* value,
                           size_t value_length) noexcept nogil
# The target as the caller sent it, `/path?query`; once.
cdef void authz_ask_query(asked_t* asked, const uint8_t* target, size_t length) noexcept nogil
# Required scopes, parted by spaces or commas; all calls add up.
cdef void authz_ask_scopes(asked_t* asked, const uint8_t* text, size_t length) noexcept nogil
# Who connected to the gateway; empty for nobody. The last call counts.
cdef void authz_ask_address(asked_t* asked, const uint8_t* text, size_t length) noexcept nogil
# ASKED_*: bad scopes, addresses and headers before missing and multiple keys.
cdef int authz_ask_end(asked_t* asked) noexcept nogil
