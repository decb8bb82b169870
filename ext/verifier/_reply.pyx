"""Answers as HTTP/2 frames.

A good answer is HEADERS, DATA and trailers; any other is HEADERS alone, with END_STREAM ("trailers-only"). Names and
values that never change are not copied by nghttp2, and stay in the connection's dynamic table: a byte each.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strlen

from verifier._memory cimport pool_give, pool_take
from verifier._service cimport GRPC_INTERNAL, GRPC_OK, GRPC_RESOURCE_EXHAUSTED, STATUSES, reply_t
from verifier.nghttp2 cimport (
    NGHTTP2_DATA_FLAG_EOF, NGHTTP2_DATA_FLAG_NO_END_STREAM, NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE,
    NGHTTP2_NV_FLAG_NO_COPY_NAME, NGHTTP2_NV_FLAG_NO_COPY_VALUE, nghttp2_data_provider, nghttp2_data_source,
    nghttp2_nv, nghttp2_session, nghttp2_submit_response, nghttp2_submit_trailer,
)

cdef enum:
    PREFIX_BYTES = 5
    FIELDS_MAX = 8
    NUMBER_BYTES = 24

cdef const char* STATUS_TEXT[STATUSES]
STATUS_TEXT[:] = [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"12", b"13", b"14", b"15",
                  b"16"]

ctypedef struct fields_t:
    nghttp2_nv fields[FIELDS_MAX]
    size_t count
    char numbers[2][NUMBER_BYTES]

cdef nghttp2_nv GOOD_HEADERS[2]
cdef nghttp2_nv GOOD_TRAILERS[1]


cdef inline void put(nghttp2_nv* field, const char* name, const char* value) noexcept nogil:
    field.name = <uint8_t*>name
    field.namelen = strlen(name)
    field.value = <uint8_t*>value
    field.valuelen = strlen(value)
    field.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE


put(&GOOD_HEADERS[0], b":status", b"200")
put(&GOOD_HEADERS[1], b"content-type", b"application/grpc")
put(&GOOD_TRAILERS[0], b"grpc-status", b"0")


cdef void add(fields_t* fields, const char* name, const char* value) noexcept nogil:
    put(&fields.fields[fields.count], name, value)
    fields.count += 1


cdef void add_number(fields_t* fields, int slot, const char* name, int64_t value) noexcept nogil:
    snprintf(fields.numbers[slot], NUMBER_BYTES, b"%lld", <long long>value)
    add(fields, name, fields.numbers[slot])
    fields.fields[fields.count - 1].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME


cdef void begin_error(fields_t* fields, const char* http_status, int status, const char* message) noexcept nogil:
    fields.count = 0
    add(fields, b":status", http_status)
    add(fields, b"content-type", b"application/grpc")
    add(fields, b"grpc-status", STATUS_TEXT[status if 0 <= status < STATUSES else GRPC_INTERNAL])
    if message != NULL:
        add(fields, b"grpc-message", message)


cdef void submit_alone(session_t* session, call_t* call, const fields_t* fields) noexcept nogil:
    nghttp2_submit_response(session.h2, call.stream_id, fields.fields, fields.count, NULL)


cdef void send_refusal(session_t* session, call_t* call, const refusal_t* refusal) noexcept nogil:
    cdef fields_t fields
    if refusal.http_status[0] != c'2':
        # Not a gRPC call at all: an HTTP answer that no HTTP client takes for a success.
        fields.count = 0
        add(&fields, b":status", refusal.http_status)
        if refusal.says_post:
            add(&fields, b"allow", b"POST")
    else:
        begin_error(&fields, refusal.http_status, refusal.status, refusal.message)
        if refusal.says_identity:
            add(&fields, b"grpc-accept-encoding", b"identity")
    submit_alone(session, call, &fields)


cdef void send_error(session_t* session, call_t* call, const reply_t* reply) noexcept nogil:
    cdef fields_t fields
    begin_error(&fields, b"200", reply.status, reply.message)
    if reply.revision >= 0:
        add_number(&fields, 0, b"verifier-revision", reply.revision)
    if reply.retry_after_ms >= 0:
        add_number(&fields, 1, b"retry-after-ms", reply.retry_after_ms)
    submit_alone(session, call, &fields)


cdef void send_reply(session_t* session, call_t* call) noexcept nogil:
    cdef reply_t* reply = &session.service.reply
    cdef nghttp2_data_provider provider
    cdef uint8_t* frame
    if reply.status != GRPC_OK:
        send_error(session, call, reply)
        return
    frame = <uint8_t*>pool_take(&session.service.pool, PREFIX_BYTES + reply.length)
    if frame == NULL:
        reply.status = GRPC_RESOURCE_EXHAUSTED
        reply.message = b"out of memory"
        send_error(session, call, reply)
        return
    frame[0] = 0
    frame[1] = (reply.length >> 24) & 0xFF
    frame[2] = (reply.length >> 16) & 0xFF
    frame[3] = (reply.length >> 8) & 0xFF
    frame[4] = reply.length & 0xFF
    memcpy(frame + PREFIX_BYTES, reply.body, reply.length)
    call.reply = frame
    call.reply_length = PREFIX_BYTES + reply.length
    call.reply_sent = 0
    session.held += call.reply_length
    session.replies_held += call.reply_length
    provider.source.ptr = call
    provider.read_callback = on_read_reply
    if nghttp2_submit_response(session.h2, call.stream_id, GOOD_HEADERS, 2, &provider) != 0:
        drop_reply(session, call)


cdef void drop_reply(session_t* session, call_t* call) noexcept nogil:
    if call.reply != NULL:
        pool_give(&session.service.pool, call.reply)
        session.held -= call.reply_length
        session.replies_held -= call.reply_length
        call.reply = NULL


cdef ssize_t on_read_reply(nghttp2_session* h2, int32_t stream_id, uint8_t* room, size_t length, uint32_t* data_flags,
                           nghttp2_data_source* source, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    cdef call_t* call = <call_t*>source.ptr
    cdef size_t left = call.reply_length - call.reply_sent
    if left > length:
        left = length
    memcpy(room, call.reply + call.reply_sent, left)
    call.reply_sent += left
    session.replies_sent += left
    if call.reply_sent == call.reply_length:
        data_flags[0] |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM
        if nghttp2_submit_trailer(h2, stream_id, GOOD_TRAILERS, 1) != 0:
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
        drop_reply(session, call)
    return left
