# What the pieces of one loop's transport share: limits, counters, calls and the loop's own scratch memory.
#
#   _loop        epoll, turns, mailbox, accepting and handing over connections
#   _connection  one socket: read once, let the session answer, write once; timers
#   _plain       bytes in and out of a plain socket (TLS takes the same place)
#   _session     HTTP/2 on nghttp2: bytes -> calls, replies -> bytes
#   _call        gRPC on a stream: headers, message framing, deadline, and what is refused
#   _methods     path -> method
#   _http1       HTTP/1.1, in the place of nghttp2: bytes -> requests, answers -> bytes
#   _web         what plain requests are answered, over HTTP/1.1 and HTTP/2 alike

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from verifier._authz cimport NAME_BYTES_MAX, text_t
from verifier._memory cimport pool_t
from verifier._service cimport counters_t, method_t, pending_t, reply_t, stages_t, turn_t
from verifier.nghttp2 cimport nghttp2_mem

cdef enum:
    ROUTES_MAX = 8
    LATENCY_BUCKETS = 20
    INPUT_BYTES = 65536        # one read
    OUTPUT_BYTES = 131072      # one write
    REPLY_BYTES = 65536        # room for an answer at first; it grows for large batches
    PENDING_MAX = 16           # calls whose lookups overlap
    DATE_BYTES = 29            # "Sun, 06 Nov 1994 08:49:37 GMT"

# Why a connection was closed, or not taken.
cdef enum:
    CLOSED_BY_PEER = 0
    CLOSED_PROTOCOL = 1        # not HTTP/2, or a connection error that nghttp2 found
    CLOSED_BUDGET = 2          # ENHANCE_YOUR_CALM
    CLOSED_PREFACE = 3
    CLOSED_IDLE = 4
    CLOSED_AGE = 5
    CLOSED_STALL = 6
    CLOSED_DRAIN = 7
    CLOSED_STOP = 8
    CLOSED_MEMORY = 9
    REFUSED_LIMIT = 10
    REFUSED_DESCRIPTORS = 11
    REASONS = 12

ctypedef struct limits_t:
    int64_t connections_max
    uint32_t streams_max
    size_t message_bytes_max
    uint32_t header_bytes_max
    uint32_t header_fields_max
    size_t held_bytes_max
    size_t head_bytes_max      # of a plain request, which brings what its caller sent to the gateway
    int head_fields_max
    int64_t preface_ms
    int64_t idle_ms
    int64_t age_ms
    int64_t grace_ms
    int64_t stall_ms
    int64_t resets_burst
    int64_t resets_per_s
    int64_t control_burst
    int64_t control_per_s

# Written by the loop's thread only.
ctypedef struct transport_counters_t:
    uint64_t accepted          # by this loop's listeners
    uint64_t opened            # connections that this loop has served
    uint64_t handed            # accepted here, served by another loop
    uint64_t reasons[REASONS]
    uint64_t bytes_in
    uint64_t bytes_out
    uint64_t turns
    uint64_t streams
    uint64_t goaways
    uint64_t resets_in
    uint64_t resets_out
    uint64_t protocol_errors
    uint64_t accept_pauses
    uint64_t clock_steps_back
    # Service time: the duration of a turn, counted once for each call that it answered.
    uint64_t latency[LATENCY_BUCKETS]
    uint64_t latency_ns

ctypedef struct route_t:
    const char* path
    size_t path_length
    method_t method            # NULL: it has stages
    stages_t stages
    int number                 # METHOD_*
    size_t message_bytes_max

ctypedef struct routes_t:
    route_t routes[ROUTES_MAX]
    int count

# Why a call ends without its method being asked.
ctypedef struct refusal_t:
    const char* http_status
    int status                 # GRPC_*
    const char* message
    bint says_identity         # with grpc-accept-encoding: identity
    bint says_post             # with allow: POST

# One stream.
ctypedef struct call_t:
    call_t* next
    call_t* previous
    int32_t stream_id
    bint begun                 # its headers are complete: what follows are trailers
    bint is_post
    bint is_grpc
    bint is_plain              # for _web, not for a method of gRPC
    bint keeps_body            # of a plain request; else it is thrown away
    int plain_refusal          # HTTP status to refuse it with, 0 for none
    uint8_t* head              # its header fields, one after the other: two lengths, name, value
    size_t head_length
    size_t head_capacity
    uint8_t verb[8]            # GET, HEAD, POST, or something else that is cut off
    size_t verb_length
    bint has_deadline
    bint answered
    bint reset_when_answered   # the client is still sending what nobody will read
    const route_t* route
    const refusal_t* refusal
    int64_t deadline_ns
    uint32_t header_bytes
    uint32_t header_fields
    uint8_t prefix[5]
    int prefix_length
    size_t message_length
    size_t received            # bytes of the message
    const uint8_t* borrowed    # the whole message, in the receive buffer
    uint8_t* buffer            # else a copy of what has arrived
    size_t capacity
    uint8_t* reply             # prefix and message, until they are sent
    size_t reply_length
    size_t reply_sent

# A call between the stages of its method. NULL: its stream was closed meanwhile.
ctypedef struct waiting_t:
    call_t* call
    pending_t pending

# One for each loop.
ctypedef struct service_t:
    limits_t limits
    routes_t routes
    turn_t turn
    int64_t now_ns             # CLOCK_MONOTONIC at the beginning of the turn
    int64_t now_ms
    uint64_t turn_calls        # answered in this turn
    counters_t counters
    transport_counters_t transport
    pool_t pool
    nghttp2_mem memory
    reply_t reply              # where methods write; copied before the next call
    waiting_t waiting[PENDING_MAX]    # begun, in the connection whose input is being read
    int waiting_count
    uint8_t* input
    uint8_t* output
    int64_t date_s             # of `date`
    uint8_t date[DATE_BYTES]   # for answers of plain HTTP; see web_date
    text_t address_header      # of a gateway's plain request: who connected to it; empty: nobody says so
    uint8_t address_header_bytes[NAME_BYTES_MAX]
