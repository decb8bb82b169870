# What a verdict becomes for the upstream and for the caller; see _authz.pxd.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t

from verifier._authz cimport IDENTITY_MAX, authz_t, text_t
from verifier._judge cimport answer_t, request_t

cdef enum:
    CALLER_MAX = 6
    ROOM_BYTES = 10240

# `joins`: add it to what the response has of this name (Cache-Control); else it takes the place of all others.
ctypedef struct header_t:
    text_t name                # lower case
    text_t value               # safe in a header: printable ASCII, no space at either end
    bint joins

# What an answer's record says. Times are seconds, 0 for none.
ctypedef struct facts_t:
    text_t client_id
    text_t key_id
    uint32_t version
    uint32_t superseded_by
    uint32_t reason
    int64_t not_before_s
    int64_t end_s
    int64_t superseded_at_s
    text_t level_2             # fields 16 (scopes) and 17 (metadata) of VerifyResponse, encoded; empty unless VALID

ctypedef struct decided_t:
    int http_status            # 200: allowed
    int rpc_code               # google.rpc.Code: 0, 3, 7, 8, 14, 16
    int verdict                # 0: none, the gateway's own refusal
    int phase
    text_t code                # public code; empty when allowed
    text_t told_code           # what the caller learns of it
    text_t body                # application/problem+json; empty when allowed
    facts_t facts              # all zero without a record
    # For the upstream (and for logs): always the whole set, in this order, with empty values where there is nothing to
    # say, so that whatever a caller sent of these names is overwritten.
    header_t identity[IDENTITY_MAX]
    int identity_count
    # For the caller, on the response that it gets in the end.
    header_t caller[CALLER_MAX]
    int caller_count
    uint8_t room[ROOM_BYTES]   # what some values lead to
    size_t room_used

# `place`: asked.place. `request` must still hold the scopes that were asked for.
cdef void authz_decide(const authz_t* authz, int place, const request_t* request, const answer_t* answer,
                       int64_t revision, decided_t* decided) noexcept nogil
cdef void authz_refuse(const authz_t* authz, int asked, decided_t* decided) noexcept nogil
