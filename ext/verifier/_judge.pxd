# From a token to a verdict: shape and checksum, tag, lookup, then the checks in their fixed order.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t

from verifier._tag cimport TAG_BYTES
from verifier._view cimport view_t

cdef enum:
    TOKEN_BYTES_MAX = 512
    SCOPES_MAX = 64
    SCOPE_BYTES_MAX = 128
    GROUP = 16                 # lookups that overlap in the memory system

    VALID = 1
    MALFORMED = 2
    UNKNOWN = 3
    REVOKED = 4
    CLIENT_DISABLED = 5
    KEY_DISABLED = 6
    NOT_YET_ACTIVE = 7
    EXPIRED = 8
    ADDRESS_NOT_ALLOWED = 9
    INSUFFICIENT_SCOPE = 10

    PHASE_NONE = 0
    PHASE_PENDING = 1
    PHASE_CURRENT = 2
    PHASE_RETIRING = 3
    PHASE_EXPIRED = 4
    PHASE_REVOKED = 5

# What is asked. Pointers lead into the request message.
ctypedef struct request_t:
    const uint8_t* key
    size_t key_length
    int scope_count
    const uint8_t* scopes[SCOPES_MAX]
    uint8_t scope_lengths[SCOPES_MAX]
    bint has_address
    uint8_t address[16]        # IPv6, or IPv4 as ::ffff:a.b.c.d
    int64_t min_revision
    bint probe

# What is answered. `body` leads into the keyring: copy it before the turn ends.
ctypedef struct answer_t:
    int verdict
    int phase
    const uint8_t* body        # fields 8 and up of VerifyResponse, encoded
    size_t body_length
    const uint8_t* record      # what the verdict is of; NULL for MALFORMED and UNKNOWN; good as long as `body`
    # Between the stages of a group of lookups:
    bint well_formed
    uint8_t tag[TAG_BYTES]

# The three stages, so that several requests can overlap their cache misses: all `begin`, all `prefetch`, all `finish`.
cdef void begin(const view_t* view, const request_t* request, answer_t* answer) noexcept nogil
cdef void prefetch(const view_t* view, const answer_t* answer) noexcept nogil
cdef void finish(const view_t* view, const request_t* request, int64_t now_s, answer_t* answer) noexcept nogil
# begin and finish.
cdef void judge(const view_t* view, const request_t* request, int64_t now_s, answer_t* answer) noexcept nogil
