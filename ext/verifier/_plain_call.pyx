"""Plain requests on a stream of HTTP/2.

nghttp2 gives header fields one by one and keeps none, so they are copied into one block: for each field two lengths of
four bytes, name, value; the path comes first.
"""

from libc.stdint cimport int32_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from verifier._head cimport HEAD_FIELDS_MAX, HTTP_FIELDS_TOO_LARGE, field_t
from verifier._memory cimport pool_give, pool_resize, pool_take
from verifier._page cimport PAGE_FIELDS_MAX, line_t, page_t
from verifier._reply cimport drop_reply
from verifier._transport cimport DATE_BYTES
from verifier._web cimport web_answer, web_answer_body, web_begin, web_date, web_refuse, web_t
from verifier.nghttp2 cimport (
    NGHTTP2_DATA_FLAG_EOF, nghttp2_data_provider, nghttp2_data_source, nghttp2_nv,
    nghttp2_session, nghttp2_submit_response,
)

cdef enum:
    LENGTHS_BYTES = 8
    BLOCK_BYTES = 960          # at first: one class of the pool
    NUMBER_BYTES = 24
    UNAVAILABLE = 503


# --- Fields ----------------------------------------------------------------------------------------------------------

cdef bint plain_keep(service_t* service, call_t* call, size_t* held, const uint8_t* name, size_t name_length,
                     const uint8_t* value, size_t value_length) noexcept nogil:
    cdef size_t needed = call.head_length + LENGTHS_BYTES + name_length + value_length
    cdef size_t capacity = call.head_capacity if call.head_capacity else BLOCK_BYTES
    cdef uint32_t lengths[2]
    cdef uint8_t* larger
    if needed > call.head_capacity:
        while capacity < needed:
            capacity *= 2
        if held[0] + capacity - call.head_capacity > service.limits.held_bytes_max:
            return False
        larger = <uint8_t*>pool_resize(&service.pool, call.head, capacity)
        if larger == NULL:
            return False
        held[0] += capacity - call.head_capacity
        call.head = larger
        call.head_capacity = capacity
    lengths[0] = <uint32_t>name_length
    lengths[1] = <uint32_t>value_length
    larger = call.head + call.head_length
    memcpy(larger, lengths, LENGTHS_BYTES)
    memcpy(larger + LENGTHS_BYTES, name, name_length)
    if value_length:
        memcpy(larger + LENGTHS_BYTES + name_length, value, value_length)
    call.head_length = needed
    return True


cdef void plain_drop(service_t* service, call_t* call, size_t* held) noexcept nogil:
    if call.head != NULL:
        pool_give(&service.pool, call.head)
        held[0] -= call.head_capacity
        call.head = NULL
        call.head_length = call.head_capacity = 0


cdef int fields_of(const call_t* call, field_t* fields) noexcept nogil:
    """Find the fields in the block; returns how many, or -1 when there are too many."""
    cdef uint32_t lengths[2]
    cdef size_t at = 0
    cdef int count = 0
    while at < call.head_length:
        if count == HEAD_FIELDS_MAX:
            return -1
        memcpy(lengths, call.head + at, LENGTHS_BYTES)
        fields[count].name = call.head + at + LENGTHS_BYTES
        fields[count].name_length = lengths[0]
        fields[count].value = call.head + at + LENGTHS_BYTES + lengths[0]
        fields[count].value_length = lengths[1]
        at += LENGTHS_BYTES + lengths[0] + lengths[1]
        count += 1
    return count


# --- Answers ---------------------------------------------------------------------------------------------------------

cdef ssize_t on_read_page(nghttp2_session* h2, int32_t stream_id, uint8_t* room, size_t length, uint32_t* data_flags,
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
        data_flags[0] |= NGHTTP2_DATA_FLAG_EOF
        drop_reply(session, call)
    return left


cdef inline void put(nghttp2_nv* field, const uint8_t* name, size_t name_length, const uint8_t* value,
                     size_t value_length) noexcept nogil:
    field.name = <uint8_t*>name
    field.namelen = name_length
    field.value = <uint8_t*>value
    field.valuelen = value_length
    field.flags = 0            # copied


cdef bint keep_body(session_t* session, call_t* call, const page_t* page) noexcept nogil:
    """Copy the body to where it stays until it is sent."""
    call.reply = <uint8_t*>pool_take(&session.service.pool, page.body_length)
    if call.reply == NULL:
        return False
    memcpy(call.reply, page.room.body + page.head_length, page.body_length)
    call.reply_length = page.body_length
    call.reply_sent = 0
    session.held += call.reply_length
    session.replies_held += call.reply_length
    return True


cdef void send_page(session_t* session, call_t* call, const page_t* page, bint is_head) noexcept nogil:
    cdef nghttp2_nv fields[PAGE_FIELDS_MAX + 3]
    cdef nghttp2_data_provider provider
    cdef char status[NUMBER_BYTES]
    cdef char length[NUMBER_BYTES]
    cdef const line_t* line
    cdef const uint8_t* text = page.room.body
    cdef int i
    # A client that is still sending is sent nothing but a header block: what ends with it can be reset (_session).
    cdef bint has_body = (page.body_length > 0 and not is_head and not call.reset_when_answered and not page.failed
                          and keep_body(session, call, page))
    put(&fields[0], <const uint8_t*>b":status", 7, <const uint8_t*>status,
        <size_t>snprintf(status, NUMBER_BYTES, b"%d", UNAVAILABLE if page.failed else page.status))
    put(&fields[1], <const uint8_t*>b"content-length", 14, <const uint8_t*>length,
        <size_t>snprintf(length, NUMBER_BYTES, b"%lu",
                         <unsigned long>(page.body_length if has_body or is_head else 0)))
    put(&fields[2], <const uint8_t*>b"date", 4, web_date(session.service), DATE_BYTES)
    for i in range(page.line_count):
        line = &page.lines[i]
        put(&fields[i + 3], text + line.name_at, line.name_length, text + line.value_at, line.value_length)
    provider.source.ptr = call
    provider.read_callback = on_read_page
    if nghttp2_submit_response(session.h2, call.stream_id, fields, <size_t>page.line_count + 3,
                               &provider if has_body else NULL) != 0:
        drop_reply(session, call)


cdef void plain_answer(session_t* session, call_t* call) noexcept nogil:
    cdef service_t* service = session.service
    cdef field_t fields[HEAD_FIELDS_MAX]
    cdef web_t web
    cdef page_t page
    cdef int count = fields_of(call, fields), refusal = call.plain_refusal
    if count < 1:
        # Too many fields, or no room for the path.
        refusal = refusal if refusal else HTTP_FIELDS_TOO_LARGE
        fields[0].value = call.verb
        fields[0].value_length = 0
        count = 1
    elif session.replies_held > service.limits.held_bytes_max:
        refusal = UNAVAILABLE
    web_begin(&web, call.verb, call.verb_length, fields[0].value, fields[0].value_length, fields + 1, count - 1)
    if refusal:
        web_refuse(service, &web, refusal, NULL, &page)
    elif web.wants_body:
        web_answer_body(service, &web, call.buffer if call.buffer != NULL else &call.verb[0], call.received, &page)
    else:
        web_answer(service, &web, fields + 1, count - 1, &page)
    send_page(session, call, &page, web.is_head)
