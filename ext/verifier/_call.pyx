"""gRPC over HTTP/2, the server's side of one unary call.

A request is parsed where it lies when the whole message came in one piece of the receive buffer, which is nearly
always so. Otherwise it is collected in a buffer that grows with what has arrived, never with what was announced, and
that counts towards what the connection may make the server hold.

Refusals found in the headers are answered when the request is complete, so that clients need not be reset; a message
that is announced too large, or compressed, is answered at once.
"""

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp, memcpy

from verifier._head cimport HTTP_FIELDS_TOO_LARGE, HTTP_TOO_LARGE
from verifier._memory cimport pool_give, pool_resize
from verifier._plain_call cimport plain_drop, plain_keep
from verifier._service cimport (
    GRPC_INVALID_ARGUMENT, GRPC_OK, GRPC_RESOURCE_EXHAUSTED, GRPC_UNIMPLEMENTED, METHOD_OTHER, STATUSES,
)
from verifier._transport cimport route_t
from verifier._web cimport WEB_BODY_BYTES_MAX, WEB_NONE, WEB_VERIFY, web_path

cdef enum:
    PREFIX_BYTES = 5
    FIELD_BYTES = 32           # what HTTP/2 adds for each field (RFC 9113, section 6.5.2)
    HARD_FACTOR = 4            # a block this much over the limit is not worth an answer
    BUFFER_BYTES = 448         # at first: one class of the pool
    DISCARDED_BYTES_MAX = 65536    # of the body of a call that its headers have doomed
    NS_PER_S = 1000000000
    PSEUDO_FIELDS = 4
    HTTP_UNAVAILABLE = 503

cdef refusal_t NOT_POST, NOT_GRPC, HEADERS_TOO_LARGE, UNKNOWN_METHOD, BAD_TIMEOUT, COMPRESSED, TOO_LARGE, BAD_FLAG
cdef refusal_t REFUSED_PLAIN, NO_MESSAGE, CUT_SHORT, TWO_MESSAGES, NO_ROOM, NOT_TAKEN


cdef void define(refusal_t* refusal, int status, const char* message) noexcept nogil:
    refusal.http_status = b"200"
    refusal.status = status
    refusal.message = message
    refusal.says_identity = False
    refusal.says_post = False


cdef void define_all() noexcept nogil:
    define(&NOT_POST, GRPC_UNIMPLEMENTED, b"")
    NOT_POST.http_status = b"405"
    NOT_POST.says_post = True
    define(&REFUSED_PLAIN, GRPC_UNIMPLEMENTED, b"")    # call.plain_refusal says more
    define(&NOT_GRPC, GRPC_UNIMPLEMENTED, b"")
    NOT_GRPC.http_status = b"415"
    define(&HEADERS_TOO_LARGE, GRPC_RESOURCE_EXHAUSTED, b"the request headers are too large")
    define(&UNKNOWN_METHOD, GRPC_UNIMPLEMENTED, b"unknown method")
    define(&BAD_TIMEOUT, GRPC_INVALID_ARGUMENT, b"grpc-timeout cannot be understood")
    define(&COMPRESSED, GRPC_UNIMPLEMENTED, b"compressed messages are not supported")
    COMPRESSED.says_identity = True
    define(&TOO_LARGE, GRPC_RESOURCE_EXHAUSTED, b"the request message is too large")
    define(&BAD_FLAG, GRPC_INVALID_ARGUMENT, b"the message prefix has an unknown flag")
    # Cardinality has its status in the gRPC specification (doc/statuscodes.md).
    define(&NO_MESSAGE, GRPC_UNIMPLEMENTED, b"the method takes one message and none was sent")
    define(&TWO_MESSAGES, GRPC_UNIMPLEMENTED, b"the method takes one message and more were sent")
    define(&CUT_SHORT, GRPC_INVALID_ARGUMENT, b"the request ends within a message")
    define(&NO_ROOM, GRPC_RESOURCE_EXHAUSTED, b"the connection holds too many unfinished requests")
    define(&NOT_TAKEN, GRPC_RESOURCE_EXHAUSTED, b"the connection leaves too many answers untaken")


define_all()


# --- Headers ---------------------------------------------------------------------------------------------------------

cdef inline bint same(const uint8_t* text, size_t length, const char* expected, size_t expected_length) noexcept nogil:
    return length == expected_length and memcmp(text, expected, expected_length) == 0


cdef const route_t* find_route(const service_t* service, const uint8_t* path, size_t length) noexcept nogil:
    cdef int i
    for i in range(service.routes.count):
        if same(path, length, service.routes.routes[i].path, service.routes.routes[i].path_length):
            return &service.routes.routes[i]
    return NULL


cdef bint is_grpc(const uint8_t* value, size_t length) noexcept nogil:
    """application/grpc, application/grpc+proto, application/grpc;charset=utf-8, but not application/grpc-web."""
    if length < 16 or memcmp(value, b"application/grpc", 16) != 0:
        return False
    return length == 16 or value[16] == c'+' or value[16] == c';'


cdef int64_t timeout_ns(const uint8_t* value, size_t length) noexcept nogil:
    """Read grpc-timeout, 1 to 8 digits and a unit; -1 when it is not one."""
    cdef int64_t number = 0
    cdef size_t i
    if length < 2 or length > 9:
        return -1
    for i in range(length - 1):
        if value[i] < c'0' or value[i] > c'9':
            return -1
        number = number * 10 + value[i] - c'0'
    if value[length - 1] == c'n':
        return number
    if value[length - 1] == c'u':
        return number * 1000
    if value[length - 1] == c'm':
        return number * 1000000
    if value[length - 1] == c'S':
        return number * NS_PER_S
    if value[length - 1] == c'M':
        return number * 60 * NS_PER_S
    if value[length - 1] == c'H':
        # 99999999 hours do not fit into 64 bits of nanoseconds; 2 million are longer than anybody waits.
        return (number if number < 2000000 else 2000000) * 3600 * NS_PER_S
    return -1


cdef void take_timeout(service_t* service, call_t* call, const uint8_t* value, size_t length) noexcept nogil:
    cdef int64_t timeout = timeout_ns(value, length)
    if timeout < 0:
        call.refusal = &BAD_TIMEOUT
        return
    call.has_deadline = True
    call.deadline_ns = service.now_ns + timeout


cdef void refuse_plain(call_t* call, int status) noexcept nogil:
    call.refusal = &REFUSED_PLAIN
    call.plain_refusal = status


cdef void take_verb(call_t* call, const uint8_t* verb, size_t length) noexcept nogil:
    call.is_post = same(verb, length, b"POST", 4)
    call.verb_length = length if length < sizeof(call.verb) else sizeof(call.verb)
    memcpy(call.verb, verb, call.verb_length)


cdef bint plain_header(service_t* service, call_t* call, size_t* held, const uint8_t* name, size_t name_length,
                       const uint8_t* value, size_t value_length) noexcept nogil:
    """Take a header field of a plain request behind its path, or a trailer, which says nothing."""
    if not call.begun and name_length == 7 and memcmp(name, b":method", 7) == 0:
        take_verb(call, value, value_length)
    if (call.header_bytes > service.limits.head_bytes_max + FIELD_BYTES * call.header_fields
            or call.header_fields > <uint32_t>service.limits.head_fields_max + PSEUDO_FIELDS):
        refuse_plain(call, HTTP_FIELDS_TOO_LARGE)
        return (call.header_bytes <= HARD_FACTOR * service.limits.head_bytes_max
                and call.header_fields <= HARD_FACTOR * <uint32_t>service.limits.head_fields_max)
    if not call.begun and call.refusal == NULL and name[0] != c':' and not plain_keep(
            service, call, held, name, name_length, value, value_length):
        refuse_plain(call, HTTP_UNAVAILABLE)
    return True


cdef void take_path(service_t* service, call_t* call, size_t* held, const uint8_t* path, size_t length) noexcept nogil:
    call.route = find_route(service, path, length)
    call.is_plain = call.route == NULL and web_path(path, length) != WEB_NONE
    call.keeps_body = call.is_plain and web_path(path, length) == WEB_VERIFY
    if not call.is_plain:
        return
    call.refusal = NULL                # its own limits are wider
    if not plain_keep(service, call, held, <const uint8_t*>b":path", 5, path, length):
        refuse_plain(call, HTTP_UNAVAILABLE)


cdef bint call_header(service_t* service, call_t* call, size_t* held, const uint8_t* name, size_t name_length,
                      const uint8_t* value, size_t value_length) noexcept nogil:
    call.header_fields += 1
    call.header_bytes += <uint32_t>(name_length + value_length + FIELD_BYTES)
    if call.is_plain:
        return plain_header(service, call, held, name, name_length, value, value_length)
    if call.header_bytes > service.limits.header_bytes_max or call.header_fields > service.limits.header_fields_max:
        call.refusal = &HEADERS_TOO_LARGE
        if (call.header_bytes > HARD_FACTOR * service.limits.header_bytes_max
                or call.header_fields > HARD_FACTOR * service.limits.header_fields_max):
            return False
    if call.begun:
        return True                    # a trailer says nothing of the call, but counts
    if name_length == 5 and memcmp(name, b":path", 5) == 0:
        take_path(service, call, held, value, value_length)
    elif name_length == 7 and memcmp(name, b":method", 7) == 0:
        take_verb(call, value, value_length)
    elif name_length == 12:
        if memcmp(name, b"content-type", 12) == 0:
            call.is_grpc = is_grpc(value, value_length)
        elif call.refusal == NULL and memcmp(name, b"grpc-timeout", 12) == 0:
            take_timeout(service, call, value, value_length)
    return True


cdef void call_begin(call_t* call) noexcept nogil:
    call.begun = True
    if call.is_plain:
        call.message_length = WEB_BODY_BYTES_MAX
        return
    # First whether it is gRPC at all: to anybody else the 200 of a gRPC error would be a success.
    if not call.is_post:
        call.refusal = &NOT_POST
    elif not call.is_grpc:
        call.refusal = &NOT_GRPC
    elif call.refusal != &HEADERS_TOO_LARGE and call.route == NULL:
        call.refusal = &UNKNOWN_METHOD


# --- Body ------------------------------------------------------------------------------------------------------------

cdef void refuse_now(call_t* call, const refusal_t* refusal) noexcept nogil:
    call.refusal = refusal
    call.reset_when_answered = True


cdef size_t take_prefix(call_t* call, const uint8_t* data, size_t length) noexcept nogil:
    """Take what is missing of the five bytes before a message; return how many were taken."""
    cdef size_t count = PREFIX_BYTES - call.prefix_length
    if count > length:
        count = length
    memcpy(call.prefix + call.prefix_length, data, count)
    call.prefix_length += <int>count
    if call.prefix_length == PREFIX_BYTES:
        call.message_length = (<size_t>call.prefix[1] << 24 | <size_t>call.prefix[2] << 16
                               | <size_t>call.prefix[3] << 8 | <size_t>call.prefix[4])
        if call.prefix[0] == 1:
            refuse_now(call, &COMPRESSED)
        elif call.prefix[0] != 0:
            refuse_now(call, &BAD_FLAG)
        elif call.message_length > call.route.message_bytes_max:
            refuse_now(call, &TOO_LARGE)
    return count


cdef bint make_room(service_t* service, call_t* call, size_t* held, size_t needed) noexcept nogil:
    """Let the call's buffer hold `needed` bytes, by doubling it; False when the connection holds too much already.

    Never more than the message: doubled beyond it, a large one alone would count for more than may be held.
    """
    cdef size_t capacity = call.capacity if call.capacity else BUFFER_BYTES
    cdef uint8_t* buffer
    if needed <= call.capacity:
        return True
    while capacity < needed:
        capacity *= 2
    if capacity > call.message_length:
        capacity = call.message_length
    # A message alone may always have its room, or the limits would contradict each other.
    if held[0] > call.capacity and held[0] - call.capacity + capacity > service.limits.held_bytes_max:
        return False
    buffer = <uint8_t*>pool_resize(&service.pool, call.buffer, capacity)
    if buffer == NULL:
        return False
    held[0] += capacity - call.capacity
    call.buffer = buffer
    call.capacity = capacity
    return True


cdef void plain_data(service_t* service, call_t* call, size_t* held, const uint8_t* data, size_t length) noexcept nogil:
    if not call.keeps_body:
        call.received += length
        call.reset_when_answered = call.received > WEB_BODY_BYTES_MAX
    elif length > call.message_length - call.received:
        refuse_plain(call, HTTP_TOO_LARGE)
        call.reset_when_answered = True
    elif length and make_room(service, call, held, call.received + length):
        memcpy(call.buffer + call.received, data, length)
        call.received += length
    elif length:
        refuse_plain(call, HTTP_UNAVAILABLE)
        call.reset_when_answered = True


cdef void call_data(service_t* service, call_t* call, size_t* held, const uint8_t* data, size_t length) noexcept nogil:
    cdef size_t count
    if call.refusal != NULL:
        call.received += length
        if call.received > DISCARDED_BYTES_MAX:
            call.reset_when_answered = True
        return
    if call.is_plain:
        plain_data(service, call, held, data, length)
        return
    if call.prefix_length < PREFIX_BYTES:
        count = take_prefix(call, data, length)
        data += count
        length -= count
        if call.refusal != NULL or length == 0:
            return
    if length > call.message_length - call.received:
        refuse_now(call, &TWO_MESSAGES)
        return
    if call.received == 0 and length == call.message_length:
        call.borrowed = data
    elif make_room(service, call, held, call.received + length):
        memcpy(call.buffer + call.received, data, length)
    else:
        refuse_now(call, &NO_ROOM)
        return
    call.received += length


cdef void call_keep(service_t* service, call_t* call, size_t* held) noexcept nogil:
    if call.borrowed == NULL:
        return
    if make_room(service, call, held, call.message_length):
        memcpy(call.buffer, call.borrowed, call.message_length)
    else:
        refuse_now(call, &NO_ROOM)
    call.borrowed = NULL


# --- The end ---------------------------------------------------------------------------------------------------------

cdef void find_faults(call_t* call) noexcept nogil:
    if call.refusal != NULL:
        return
    if call.prefix_length == 0:
        call.refusal = &NO_MESSAGE
    elif call.prefix_length < PREFIX_BYTES or call.received < call.message_length:
        call.refusal = &CUT_SHORT


cdef const refusal_t* call_check(service_t* service, call_t* call, size_t replies_held) noexcept nogil:
    find_faults(call)
    if call.refusal == NULL and replies_held > service.limits.held_bytes_max:
        call.refusal = &NOT_TAKEN
    if call.refusal != NULL:
        call_count(service, call, call.refusal.status)
    return call.refusal


cdef void clear_reply(reply_t* reply) noexcept nogil:
    reply.length = 0
    reply.status = GRPC_OK
    reply.message = NULL
    reply.revision = -1
    reply.retry_after_ms = -1


cdef const uint8_t* message_of(call_t* call) noexcept nogil:
    if call.borrowed != NULL:
        return call.borrowed
    if call.buffer != NULL:
        return call.buffer
    return call.prefix             # an empty message; never dereferenced, but not NULL


cdef bint is_expired(const service_t* service, const call_t* call) noexcept nogil:
    return call.has_deadline and service.now_ns >= call.deadline_ns


cdef void call_run(service_t* service, call_t* call) noexcept nogil:
    clear_reply(&service.reply)
    call.route.method(&service.turn, message_of(call), call.message_length, is_expired(service, call), &service.reply)
    call_count(service, call, service.reply.status)


cdef bint call_start(service_t* service, call_t* call, pending_t* pending) noexcept nogil:
    clear_reply(&service.reply)
    if call.route.stages.begin(&service.turn, message_of(call), call.message_length, is_expired(service, call), pending,
                               &service.reply):
        return True
    call_count(service, call, service.reply.status)
    return False


cdef void call_finish(service_t* service, call_t* call, pending_t* pending) noexcept nogil:
    clear_reply(&service.reply)
    call.route.stages.finish(&service.turn, pending, &service.reply)
    call_count(service, call, service.reply.status)


cdef void call_count(service_t* service, const call_t* call, int status) noexcept nogil:
    cdef int method = METHOD_OTHER if call.route == NULL else call.route.number
    service.turn_calls += 1
    if 0 <= status < STATUSES:
        service.counters.calls[method][status] += 1


cdef void call_drop_request(service_t* service, call_t* call, size_t* held) noexcept nogil:
    call.borrowed = NULL
    if call.buffer != NULL:
        pool_give(&service.pool, call.buffer)
        held[0] -= call.capacity
        call.buffer = NULL
        call.capacity = 0
    if call.head != NULL:
        plain_drop(service, call, held)
