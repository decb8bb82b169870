# The seam between transport and methods: what a transport hands to a method, and what it gets back.
#
# A transport (HTTP/2 session, later HTTP/1.1) collects one whole request message and calls method_t once. The method
# answers at once, within the call: it never blocks, never takes the GIL, and keeps no pointer it was given, since the
# message may lie in the receive buffer and the keyring may be swapped before the next turn.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from verifier._authz cimport authz_t
from verifier._judge cimport answer_t, request_t
from verifier._usage cimport usage_t
from verifier._view cimport view_t

cdef enum:
    METHODS = 8          # rows of counters_t.calls
    STATUSES = 17        # gRPC status codes 0..16
    VERDICTS = 16
    ASKED = 8            # rows of counters_t.asked
    METHOD_VERIFY = 0
    METHOD_VERIFY_BATCH = 1
    METHOD_HEALTH = 2
    METHOD_CHECK = 3     # of Envoy
    METHOD_AUTHZ = 4     # forward-auth by plain HTTP
    METHOD_JSON = 5      # Verify in JSON
    METHOD_OTHER = 7     # unknown methods

    GRPC_OK = 0
    GRPC_INVALID_ARGUMENT = 3
    GRPC_DEADLINE_EXCEEDED = 4
    GRPC_NOT_FOUND = 5
    GRPC_RESOURCE_EXHAUSTED = 8
    GRPC_FAILED_PRECONDITION = 9
    GRPC_UNIMPLEMENTED = 12
    GRPC_INTERNAL = 13
    GRPC_UNAVAILABLE = 14

# Counted by one loop thread without a lock; read by others word by word (each word is exact, the set need not be).
# Methods count verdicts; the transport counts calls, once it knows a call's status.
ctypedef struct counters_t:
    uint64_t verdicts[VERDICTS]
    uint64_t calls[METHODS][STATUSES]
    uint64_t asked[ASKED]    # by ASKED_* of _asked.pxd: refused by a gateway's rules, without a verdict

# What is the same for every call that one turn of a loop answers.
ctypedef struct turn_t:
    const view_t* view       # NULL: no keyring
    int64_t now_s            # wall clock in whole seconds, read once per turn
    int64_t staleness_ms     # since the node last confirmed that the view's revision is the newest
    bint serving             # False: draining, or no keyring; health says NOT_SERVING
    counters_t* counters
    usage_t* usage           # by version; NULL: the node does not report
    const authz_t* authz     # how gateways are answered; NULL: they are not

ctypedef struct reply_t:
    uint8_t* body            # room for the response message (without gRPC's 5-byte prefix)
    size_t length            # bytes of it that were written
    size_t capacity
    # Makes room for at least `capacity` bytes, keeping the first `length`; -1 when there is no memory.
    int (*grow)(reply_t* reply, size_t capacity) noexcept nogil
    int status               # GRPC_*; with anything but GRPC_OK the body is not sent
    const char* message      # static ASCII text for grpc-message, NULL when OK
    int64_t revision         # trailer verifier-revision, -1 = none
    int64_t retry_after_ms   # trailer retry-after-ms, -1 = none

# `expired`: the caller's deadline was over before the call (DEADLINE_EXCEEDED, unless the message itself is bad).
ctypedef void (*method_t)(turn_t* turn, const uint8_t* message, size_t length, bint expired,
                          reply_t* reply) noexcept nogil

# A method in three stages, so that the lookups of several calls overlap in the memory system: all begin, all prefetch,
# all finish. Between them the message stays where it is, and the view does not change.
ctypedef struct pending_t:
    request_t request
    answer_t answer
    int place                # of a gateway's request: where the key was, an index into authz.places

ctypedef struct stages_t:
    # False: the call is at fault, and the reply says why; then the other stages are left out.
    bint (*begin)(turn_t* turn, const uint8_t* message, size_t length, bint expired, pending_t* pending,
                  reply_t* reply) noexcept nogil
    void (*prefetch)(turn_t* turn, const pending_t* pending) noexcept nogil
    void (*finish)(turn_t* turn, pending_t* pending, reply_t* reply) noexcept nogil
