"""HTTP/2 on nghttp2, the server's side, free of sockets; HTTP/1.1 is handed to _http1.

nghttp2 keeps framing, HPACK, flow control and its validation of headers. What it leaves to us are limits: it counts
almost nothing against a client that is only annoying. So each connection has two budgets, for resets in either
direction and for frames that ask for nothing, and an account of the memory that it makes us hold. Window for more
requests is given only while the client takes its answers, which turns a slow reader's pressure back to its source.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memset

from verifier._call cimport (
    call_begin, call_check, call_data, call_drop_request, call_finish, call_header, call_keep, call_run, call_start,
)
from verifier._http1 cimport http1_close, http1_done, http1_feed, http1_open, http1_pull
from verifier._memory cimport pool_give, pool_take
from verifier._plain_call cimport plain_answer
from verifier._reply cimport drop_reply, send_refusal, send_reply
from verifier._transport cimport CLOSED_BUDGET, CLOSED_PROTOCOL, PENDING_MAX, refusal_t, service_t, waiting_t
from verifier.nghttp2 cimport *

cdef enum:
    SMALL_DATA_BYTES = 1024    # DATA below this that does not end a request costs a control frame
    CONTROL_PER_CALL = 8       # control frames that a call gives back: window updates, pings of its client
    USELESS_BYTES_MAX = 4194304  # in a second: for what nghttp2 skips without a word, as PRIORITY and unknown frames
    BACKPRESSURE_PART = 3      # replies over this part of what may be held: no more window

cdef nghttp2_session_callbacks* CALLBACKS
cdef nghttp2_option* OPTIONS


# --- Budgets ---------------------------------------------------------------------------------------------------------

cdef void calm(session_t* session) noexcept nogil:
    """Send the client away: ENHANCE_YOUR_CALM."""
    if session.reason == 0:
        session.reason = CLOSED_BUDGET
        nghttp2_session_terminate_session(session.h2, NGHTTP2_ENHANCE_YOUR_CALM)


cdef inline void spend_control(session_t* session) noexcept nogil:
    session.control_left -= 1
    if session.control_left < 0:
        calm(session)


cdef inline void spend_reset(session_t* session) noexcept nogil:
    session.resets_left -= 1
    if session.resets_left < 0:
        calm(session)


cdef int64_t refilled(int64_t left, int64_t burst, int64_t per_s, int64_t elapsed_ms) noexcept nogil:
    left += per_s * elapsed_ms // 1000
    return burst if left > burst else left


cdef void session_refill(session_t* session, int64_t elapsed_ms) noexcept nogil:
    session.useless = 0
    session.resets_left = refilled(session.resets_left, session.service.limits.resets_burst,
                                   session.service.limits.resets_per_s, elapsed_ms)
    session.control_left = refilled(session.control_left, session.service.limits.control_burst,
                                    session.service.limits.control_per_s, elapsed_ms)


# --- Calls -----------------------------------------------------------------------------------------------------------

cdef call_t* open_call(session_t* session, int32_t stream_id) noexcept nogil:
    cdef call_t* call = <call_t*>pool_take(&session.service.pool, sizeof(call_t))
    if call == NULL:
        return NULL
    memset(call, 0, sizeof(call_t))
    call.stream_id = stream_id
    call.next = session.calls
    if session.calls != NULL:
        session.calls.previous = call
    session.calls = call
    session.call_count += 1
    session.service.transport.streams += 1
    return call


cdef void forget_waiting(service_t* service, call_t* call) noexcept nogil:
    cdef int i
    for i in range(service.waiting_count):
        if service.waiting[i].call == call:
            service.waiting[i].call = NULL


cdef void close_call(session_t* session, call_t* call) noexcept nogil:
    forget_waiting(session.service, call)
    call_drop_request(session.service, call, &session.held)
    drop_reply(session, call)
    if call.previous != NULL:
        call.previous.next = call.next
    else:
        session.calls = call.next
    if call.next != NULL:
        call.next.previous = call.previous
    session.call_count -= 1
    if session.current == call:
        session.current = NULL
    if session.recent == call:
        session.recent = NULL
    if session.borrower == call:
        session.borrower = NULL
    pool_give(&session.service.pool, call)


cdef inline call_t* find_call(session_t* session, int32_t stream_id) noexcept nogil:
    if session.recent == NULL or session.recent.stream_id != stream_id:
        session.recent = <call_t*>nghttp2_session_get_stream_user_data(session.h2, stream_id)
    return session.recent


cdef void conclude(session_t* session, call_t* call) noexcept nogil:
    """The reply is on its way: let go of the request."""
    call_drop_request(session.service, call, &session.held)
    if session.control_left < session.service.limits.control_burst:
        session.control_left += CONTROL_PER_CALL


cdef void finish_waiting(session_t* session) noexcept nogil:
    """Answer the calls that were begun, now that their cache lines are on the way."""
    cdef service_t* service = session.service
    cdef waiting_t* waiting
    cdef call_t* call
    cdef int i
    for i in range(service.waiting_count):
        waiting = &service.waiting[i]
        if waiting.call != NULL:
            waiting.call.route.stages.prefetch(&service.turn, &waiting.pending)
    for i in range(service.waiting_count):
        waiting = &service.waiting[i]
        call = waiting.call
        if call != NULL:
            waiting.call = NULL
            call_finish(service, call, &waiting.pending)
            send_reply(session, call)
            conclude(session, call)
    service.waiting_count = 0


cdef void start(session_t* session, call_t* call) noexcept nogil:
    """Begin a call that others may overlap with. It is finished before its request leaves the receive buffer."""
    cdef service_t* service = session.service
    if not call_start(service, call, &service.waiting[service.waiting_count].pending):
        send_reply(session, call)
        conclude(session, call)
        return
    service.waiting[service.waiting_count].call = call
    service.waiting_count += 1
    if service.waiting_count == PENDING_MAX:
        finish_waiting(session)


cdef void answer(session_t* session, call_t* call) noexcept nogil:
    """Answer a call whose request is complete, or refused early."""
    cdef const refusal_t* refusal
    if call.answered:
        return
    call.answered = True
    session.useless = 0
    if session.borrower == call:
        session.borrower = NULL
    if call.is_plain:
        plain_answer(session, call)
        conclude(session, call)
        return
    refusal = call_check(session.service, call, session.replies_held)
    if refusal == NULL and call.route.method == NULL:
        start(session, call)
        return
    if refusal != NULL:
        send_refusal(session, call, refusal)
    else:
        call_run(session.service, call)
        send_reply(session, call)
    conclude(session, call)


cdef void end_of_request(session_t* session, call_t* call) noexcept nogil:
    if call != NULL:
        call.reset_when_answered = False
        answer(session, call)


cdef void keep_borrowed(session_t* session) noexcept nogil:
    """Copy the message that lies in the receive buffer, which is about to be used again."""
    cdef call_t* call = session.borrower
    session.borrower = NULL
    if call != NULL:
        call_keep(session.service, call, &session.held)
        if call.reset_when_answered:
            answer(session, call)


# --- What nghttp2 calls ----------------------------------------------------------------------------------------------

cdef int on_begin_headers(nghttp2_session* h2, const nghttp2_frame* frame, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    if frame.headers.cat != NGHTTP2_HCAT_REQUEST:
        session.current = find_call(session, frame.hd.stream_id)
        return 0
    session.current = open_call(session, frame.hd.stream_id)
    if session.current == NULL:
        return NGHTTP2_ERR_CALLBACK_FAILURE
    session.recent = session.current
    nghttp2_session_set_stream_user_data(h2, frame.hd.stream_id, session.current)
    return 0


cdef int on_header(nghttp2_session* h2, const nghttp2_frame* frame, const uint8_t* name, size_t name_length,
                   const uint8_t* value, size_t value_length, uint8_t flags, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    if session.current != NULL and not call_header(session.service, session.current, &session.held, name,
                                                   name_length, value, value_length):
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE
    return 0


cdef int on_data_chunk(nghttp2_session* h2, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t length,
                       void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    cdef call_t* call = find_call(session, stream_id)
    session.unconsumed += length
    if call == NULL or call.answered:
        return 0
    session.useless = 0
    call_data(session.service, call, &session.held, data, length)
    if call.borrowed != NULL:
        if session.borrower != NULL and session.borrower != call:
            keep_borrowed(session)
        session.borrower = call
    else:
        nghttp2_session_consume_stream(h2, stream_id, length)
    if call.reset_when_answered:
        answer(session, call)
    return 0


cdef int on_frame_recv(nghttp2_session* h2, const nghttp2_frame* frame, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    cdef bint ends = frame.hd.flags & NGHTTP2_FLAG_END_STREAM != 0
    if frame.hd.type == NGHTTP2_DATA:
        if ends:
            end_of_request(session, find_call(session, frame.hd.stream_id))
        elif frame.hd.length < SMALL_DATA_BYTES:
            spend_control(session)
    elif frame.hd.type == NGHTTP2_HEADERS:
        if session.current != NULL:
            if frame.headers.cat == NGHTTP2_HCAT_REQUEST:
                call_begin(session.current)
            if ends:
                end_of_request(session, session.current)
        session.current = NULL
    else:
        on_control_frame(session, frame)
    return 0


cdef void on_control_frame(session_t* session, const nghttp2_frame* frame) noexcept nogil:
    cdef bint acknowledges = frame.hd.flags & NGHTTP2_FLAG_ACK != 0
    spend_control(session)
    if frame.hd.type == NGHTTP2_SETTINGS and not acknowledges:
        session.ready = True
    elif frame.hd.type == NGHTTP2_PING and acknowledges and session.leaving == NOTICE_GIVEN:
        session_leave(session)
    elif frame.hd.type == NGHTTP2_RST_STREAM:
        session.service.transport.resets_in += 1
        spend_reset(session)
    elif frame.hd.type == NGHTTP2_GOAWAY:
        session.going_away = True


cdef int on_invalid_frame(nghttp2_session* h2, const nghttp2_frame* frame, int error, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    session.service.transport.protocol_errors += 1
    return 0


cdef int on_frame_send(nghttp2_session* h2, const nghttp2_frame* frame, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    cdef call_t* call
    if frame.hd.type == NGHTTP2_HEADERS:
        if frame.hd.flags & NGHTTP2_FLAG_END_STREAM:
            # Only now: submitted together with the answer, the reset would overtake and drop it.
            call = find_call(session, frame.hd.stream_id)
            if call != NULL and call.reset_when_answered:
                nghttp2_submit_rst_stream(h2, 0, frame.hd.stream_id, NGHTTP2_NO_ERROR)
    elif frame.hd.type == NGHTTP2_RST_STREAM:
        session.service.transport.resets_out += 1
        spend_reset(session)
    elif frame.hd.type == NGHTTP2_GOAWAY:
        session.going_away = True
        session.service.transport.goaways += 1
        if session.leaving == STAYING and session.reason == 0:
            session.reason = CLOSED_PROTOCOL
    return 0


cdef int on_stream_close(nghttp2_session* h2, int32_t stream_id, uint32_t error_code, void* user) noexcept nogil:
    cdef session_t* session = <session_t*>user
    cdef call_t* call = find_call(session, stream_id)
    if call != NULL:
        close_call(session, call)
    return 0


cdef bint prepare() noexcept nogil:
    global CALLBACKS, OPTIONS
    if nghttp2_session_callbacks_new(&CALLBACKS) != 0 or nghttp2_option_new(&OPTIONS) != 0:
        return False
    nghttp2_session_callbacks_set_on_begin_headers_callback(CALLBACKS, on_begin_headers)
    nghttp2_session_callbacks_set_on_header_callback(CALLBACKS, on_header)
    nghttp2_session_callbacks_set_on_frame_recv_callback(CALLBACKS, on_frame_recv)
    nghttp2_session_callbacks_set_on_frame_send_callback(CALLBACKS, on_frame_send)
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(CALLBACKS, on_invalid_frame)
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(CALLBACKS, on_data_chunk)
    nghttp2_session_callbacks_set_on_stream_close_callback(CALLBACKS, on_stream_close)
    nghttp2_option_set_no_auto_window_update(OPTIONS, 1)
    nghttp2_option_set_no_closed_streams(OPTIONS, 1)
    nghttp2_option_set_max_reserved_remote_streams(OPTIONS, 0)
    return True


if not prepare():
    raise MemoryError


# --- The seam --------------------------------------------------------------------------------------------------------

cdef bint open_http2(session_t* session) noexcept nogil:
    cdef nghttp2_settings_entry settings[3]
    cdef service_t* service = session.service
    if nghttp2_session_server_new3(&session.h2, CALLBACKS, session, OPTIONS, &service.memory) != 0:
        session.h2 = NULL
        return False
    settings[0].settings_id = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS
    settings[0].value = service.limits.streams_max
    settings[1].settings_id = NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE
    settings[1].value = service.limits.header_bytes_max
    settings[2].settings_id = NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES
    settings[2].value = 1
    nghttp2_submit_settings(session.h2, NGHTTP2_FLAG_NONE, settings, 3)
    return True


cdef session_t* session_open(service_t* service, bint detects) noexcept nogil:
    cdef session_t* session = <session_t*>pool_take(&service.pool, sizeof(session_t))
    if session == NULL:
        return NULL
    memset(session, 0, sizeof(session_t))
    session.service = service
    session.resets_left = service.limits.resets_burst
    session.control_left = service.limits.control_burst
    if not detects and not open_http2(session):
        pool_give(&service.pool, session)
        return NULL
    return session


cdef void session_close(session_t* session) noexcept nogil:
    while session.calls != NULL:
        close_call(session, session.calls)
    if session.h2 != NULL:
        nghttp2_session_del(session.h2)
    if session.http1 != NULL:
        http1_close(session)
    pool_give(&session.service.pool, session)


cdef bint feed_engine(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    return http1_feed(session, data, length) if session.h2 == NULL else feed_http2(session, data, length)


cdef bint choose_engine(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    """Go by the first bytes: HTTP/2 begins with a method that HTTP/1.1 does not have (RFC 9113, section 3.4)."""
    cdef uint8_t preface[4]
    cdef int before = session.matched
    cdef size_t at = 0
    memcpy(preface, b"PRI ", 4)
    while session.matched < 4 and at < length and data[at] == preface[session.matched]:
        session.matched += 1
        at += 1
    if session.matched < 4 and at == length:
        return True
    if session.matched == 4:
        if not open_http2(session):
            return False
        if session.leaving:
            submit_notice(session)
    else:
        session.http1 = http1_open(session)
        if session.http1 == NULL:
            return False
    if before and not feed_engine(session, preface, <size_t>before):
        return False
    return feed_engine(session, data, length)


cdef bint give_window(session_t* session) noexcept nogil:
    """Let the client send as much as was taken in, unless it leaves too many answers untaken."""
    if (session.unconsumed == 0
            or session.replies_held > session.service.limits.held_bytes_max // BACKPRESSURE_PART):
        return False
    nghttp2_session_consume_connection(session.h2, session.unconsumed)
    session.unconsumed = 0
    return True


cdef bint session_feed(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    if session.h2 == NULL and session.http1 == NULL:
        return choose_engine(session, data, length)
    return feed_engine(session, data, length)


cdef bint feed_http2(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    cdef ssize_t taken
    session.useless += length
    if session.useless > USELESS_BYTES_MAX:
        calm(session)
    taken = nghttp2_session_mem_recv(session.h2, data, length)
    finish_waiting(session)
    keep_borrowed(session)
    if taken < 0:
        session.service.transport.protocol_errors += 1
        session.reason = CLOSED_PROTOCOL
        return False
    give_window(session)
    return True


cdef size_t session_pull(session_t* session, uint8_t* room, size_t capacity) noexcept nogil:
    cdef size_t filled = 0
    cdef const uint8_t* frame
    cdef ssize_t length
    if session.h2 == NULL:
        return 0 if session.http1 == NULL else http1_pull(session, room, capacity)
    while capacity - filled >= FRAME_BYTES_MAX:
        length = nghttp2_session_mem_send(session.h2, &frame)
        if length == 0:
            if give_window(session):
                continue
            break
        if not 0 < length <= FRAME_BYTES_MAX:
            session.broken = True
            break
        memcpy(room + filled, frame, length)
        filled += <size_t>length
    return filled


cdef bint session_done(session_t* session) noexcept nogil:
    if session.h2 == NULL:
        return session.leaving == LEAVING if session.http1 == NULL else http1_done(session)
    return (session.going_away and not nghttp2_session_want_read(session.h2)
            and not nghttp2_session_want_write(session.h2))


cdef void submit_notice(session_t* session) noexcept nogil:
    nghttp2_submit_shutdown_notice(session.h2)
    nghttp2_submit_ping(session.h2, NGHTTP2_FLAG_NONE, NULL)


cdef void session_give_notice(session_t* session) noexcept nogil:
    if session.leaving == STAYING and session.reason == 0:
        session.leaving = NOTICE_GIVEN
        # HTTP/1.1 has no such word: its next answer says that it is the last.
        if session.h2 != NULL:
            submit_notice(session)


cdef void session_leave(session_t* session) noexcept nogil:
    if session.leaving != LEAVING and session.reason == 0:
        session.leaving = LEAVING
        if session.h2 != NULL:
            nghttp2_submit_goaway(session.h2, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session.h2),
                                  NGHTTP2_NO_ERROR, NULL, 0)
