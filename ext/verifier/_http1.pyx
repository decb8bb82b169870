"""HTTP/1.1, the server's side, free of sockets.

Requests are answered in the order in which they came, as soon as they are complete; one that needs no body is answered
when its head is there, and its body is read past. Of pipelined requests only so many are answered at once as the
client takes the answers of; the rest waits as it came.

A request that is not understood to the letter (_head) is refused, and its connection ends with that: nobody knows where
the next one would begin. For the same reason a body that is refused is not read.
"""

from libc.stdint cimport uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memchr, memcpy, memmove, memset

from verifier._head cimport (
    HTTP_BAD_REQUEST, HTTP_FIELDS_TOO_LARGE, HTTP_TOO_LARGE, field_read, field_t, head_read, head_t,
)
from verifier._memory cimport pool_give, pool_resize, pool_take
from verifier._page cimport page_t, reason_of_status
from verifier._session cimport (
    LEAVING, STAGE_BODY, STAGE_CHUNK, STAGE_CHUNK_END, STAGE_CHUNK_SIZE, STAGE_HEAD, STAGE_OVER, STAGE_TRAILERS, STAYING,
)
from verifier._transport cimport CLOSED_PROTOCOL, DATE_BYTES, service_t
from verifier._web cimport WEB_BODY_BYTES_MAX, web_answer, web_answer_body, web_begin, web_date, web_refuse

cdef enum:
    BUFFER_BYTES = 448         # at first: one class of the pool
    OUT_BYTES_MAX = 65536      # of answers that are not taken; then no more requests are looked at
    LINE_BYTES_MAX = 256       # of a chunk's size and extensions
    TRAILER_BYTES_MAX = 4096
    SIZE_DIGITS_MAX = 8
    STATUS_BYTES_MAX = 192     # status line, date, length, connection, empty line


# --- Buffers ---------------------------------------------------------------------------------------------------------

cdef bint make_room(service_t* service, uint8_t** buffer, size_t* capacity, size_t needed) noexcept nogil:
    cdef size_t wanted = capacity[0] if capacity[0] else BUFFER_BYTES
    cdef uint8_t* larger
    if needed <= capacity[0]:
        return True
    while wanted < needed:
        wanted *= 2
    larger = <uint8_t*>pool_resize(&service.pool, buffer[0], wanted)
    if larger == NULL:
        return False
    buffer[0] = larger
    capacity[0] = wanted
    return True


cdef void drop(service_t* service, uint8_t** buffer, size_t* length, size_t* capacity) noexcept nogil:
    pool_give(&service.pool, buffer[0])
    buffer[0] = NULL
    length[0] = capacity[0] = 0


cdef http1_t* http1_open(session_t* session) noexcept nogil:
    cdef http1_t* http1 = <http1_t*>pool_take(&session.service.pool, sizeof(http1_t))
    if http1 != NULL:
        memset(http1, 0, sizeof(http1_t))
    return http1


cdef void http1_close(session_t* session) noexcept nogil:
    cdef http1_t* http1 = session.http1
    pool_give(&session.service.pool, http1.kept)
    pool_give(&session.service.pool, http1.body)
    pool_give(&session.service.pool, http1.out)
    pool_give(&session.service.pool, http1)


# --- Answers ---------------------------------------------------------------------------------------------------------

cdef void end(session_t* session, int reason) noexcept nogil:
    """Nothing more is looked at. `reason`: CLOSED_*, or 0 for what is nobody's fault."""
    session.http1.stage = STAGE_OVER
    if session.reason == 0:
        session.reason = reason


cdef void give_out(session_t* session) noexcept nogil:
    """There is no memory for an answer: the connection cannot go on without it."""
    session.broken = True
    end(session, CLOSED_PROTOCOL)


cdef void write_answer(session_t* session, const page_t* page) noexcept nogil:
    """Put an answer behind those before it."""
    cdef http1_t* http1 = session.http1
    cdef size_t most = STATUS_BYTES_MAX + page.head_length + page.body_length
    cdef const char* connection = b""
    cdef uint8_t* at
    cdef int length
    if page.failed or not make_room(session.service, &http1.out, &http1.out_capacity, http1.out_length + most):
        give_out(session)
        return
    if not http1.keeps_alive:
        connection = b"connection: close\r\n"
    elif http1.minor == 0:
        connection = b"connection: keep-alive\r\n"
    at = http1.out + http1.out_length
    length = snprintf(<char*>at, STATUS_BYTES_MAX, b"HTTP/1.1 %d %s\r\ndate: %.*s\r\ncontent-length: %lu\r\n%s",
                      page.status, reason_of_status(page.status), <int>DATE_BYTES,
                      <const char*>web_date(session.service), <unsigned long>page.body_length, connection)
    at += length
    memcpy(at, page.room.body, page.head_length)
    at += page.head_length
    memcpy(at, b"\r\n", 2)
    at += 2
    if not http1.web.is_head and page.body_length:
        memcpy(at, page.room.body + page.head_length, page.body_length)
        at += page.body_length
    http1.out_length = at - http1.out
    http1.is_answered = True


cdef void refuse(session_t* session, int status, const char* detail) noexcept nogil:
    """Refuse a request that cannot be understood, or not be read to its end; the connection ends with it."""
    cdef page_t page
    session.http1.keeps_alive = False
    session.service.transport.protocol_errors += 1
    if not session.http1.is_answered:
        web_refuse(session.service, &session.http1.web, status, detail, &page)
        write_answer(session, &page)
    end(session, CLOSED_PROTOCOL)


cdef void begin_next(session_t* session) noexcept nogil:
    """A request is over and answered."""
    cdef http1_t* http1 = session.http1
    http1.stage = STAGE_HEAD if http1.keeps_alive else STAGE_OVER
    http1.scanned = 0
    http1.is_answered = False
    memset(&http1.web, 0, sizeof(http1.web))
    session.waiting_ms = 0
    drop(session.service, &http1.body, &http1.body_length, &http1.body_capacity)


cdef void complete(session_t* session, uint8_t* body, size_t length) noexcept nogil:
    """A request is all there."""
    cdef page_t page
    cdef uint8_t nothing = 0
    if not session.http1.is_answered:
        # The connection may have been asked to go since the head came.
        session.http1.keeps_alive = session.http1.keeps_alive and session.leaving == STAYING
        web_answer_body(session.service, &session.http1.web, &nothing if body == NULL else body, length, &page)
        write_answer(session, &page)
    if session.http1.stage != STAGE_OVER:
        begin_next(session)


# --- Heads -----------------------------------------------------------------------------------------------------------

cdef size_t head_length(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    """Look for the empty line; 0 when it is not there yet, or the head is refused."""
    cdef http1_t* http1 = session.http1
    cdef size_t most = session.service.limits.head_bytes_max
    cdef const uint8_t* at = data + http1.scanned
    cdef const uint8_t* feed
    while True:
        feed = <const uint8_t*>memchr(at, c'\n', data + length - at)
        if feed == NULL or <size_t>(feed - data) >= most:
            break
        if feed == data or (feed - 1)[0] != c'\r':
            refuse(session, HTTP_BAD_REQUEST, b"A line does not end in CRLF.")
            return 0
        if feed - data >= 3 and (feed - 2)[0] == c'\n':
            return feed - data + 1
        at = feed + 1
        http1.scanned = at - data
    if length > most:
        refuse(session, HTTP_FIELDS_TOO_LARGE, b"The head of the request is too large.")
    return 0


cdef void ask_for_body(session_t* session, bint has_some) noexcept nogil:
    """Answer Expect: 100-continue, unless the client did not wait."""
    cdef http1_t* http1 = session.http1
    if has_some:
        return
    if not make_room(session.service, &http1.out, &http1.out_capacity, http1.out_length + 32):
        give_out(session)
        return
    memcpy(http1.out + http1.out_length, b"HTTP/1.1 100 Continue\r\n\r\n", 25)
    http1.out_length += 25


cdef void take_request(session_t* session, const head_t* head, bint has_more) noexcept nogil:
    """A head is there: answer it if it can be, and prepare for its body."""
    cdef http1_t* http1 = session.http1
    cdef page_t page
    cdef bint has_body = head.chunked or head.content_length > 0
    http1.minor = head.minor
    http1.keeps_alive = head.keeps_alive and session.leaving == STAYING
    web_begin(&http1.web, head.method, head.method_length, head.target, head.target_length, head.fields,
              head.field_count)
    if not http1.web.wants_body:
        # What is too large to be read past ends the connection. So does a body that its sender waits for leave to send:
        # it gets the answer instead, and may send it or not.
        http1.keeps_alive = (http1.keeps_alive and head.content_length <= WEB_BODY_BYTES_MAX
                             and not (has_body and head.expects))
        web_answer(session.service, &http1.web, head.fields, head.field_count, &page)
        write_answer(session, &page)
    elif head.content_length > WEB_BODY_BYTES_MAX:
        refuse(session, HTTP_TOO_LARGE, b"The body is too large.")
    elif has_body and head.expects:
        ask_for_body(session, has_more)
    if http1.stage == STAGE_OVER:
        return
    http1.received = 0
    http1.left = head.content_length
    if head.chunked:
        http1.stage = STAGE_CHUNK_SIZE
    elif has_body:
        http1.stage = STAGE_BODY
    else:
        complete(session, NULL, 0)
        return
    if http1.is_answered and not http1.keeps_alive:
        end(session, 0)


cdef size_t take_head(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    cdef head_t head
    cdef size_t size
    cdef int status
    # No method of ours begins in another way; nor is there an empty line between requests, as some would let pass.
    if http1.scanned == 0 and not (c'A' <= data[0] <= c'Z' or c'a' <= data[0] <= c'z'):
        refuse(session, HTTP_BAD_REQUEST, b"This is not HTTP/1.1.")
        return 0
    size = head_length(session, data, length)
    if size == 0:
        return 0
    http1.scanned = 0
    session.ready = True
    session.service.transport.streams += 1
    status = head_read(data, size, session.service.limits.head_fields_max, &head)
    if status:
        refuse(session, status, b"The head of the request is not understood.")
        return 0
    take_request(session, &head, length > size)
    return size


# --- Bodies ----------------------------------------------------------------------------------------------------------

cdef bint keep_body(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    if http1.is_answered:
        return True
    if not make_room(session.service, &http1.body, &http1.body_capacity, http1.body_length + length):
        give_out(session)
        return False
    memcpy(http1.body + http1.body_length, data, length)
    http1.body_length += length
    return True


cdef bint count_body(session_t* session, size_t length) noexcept nogil:
    """Count what a request has sent behind its head."""
    session.http1.received += length
    if session.http1.received <= WEB_BODY_BYTES_MAX:
        return True
    refuse(session, HTTP_TOO_LARGE, b"The body is too large.")
    return False


cdef size_t take_body(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    if length > http1.left:
        length = <size_t>http1.left
    http1.left -= length
    if http1.left == 0 and http1.body_length == 0:
        complete(session, data, length)
    elif keep_body(session, data, length) and http1.left == 0:
        complete(session, http1.body, http1.body_length)
    return length


cdef size_t line_length(session_t* session, const uint8_t* data, size_t length, size_t most) noexcept nogil:
    """Length of a line with its CRLF; 0 when it is not there yet, or is refused."""
    cdef const uint8_t* feed = <const uint8_t*>memchr(data, c'\n', length if length < most else most)
    if feed == NULL:
        if length >= most:
            refuse(session, HTTP_BAD_REQUEST, b"A line of the body is too long.")
        return 0
    if feed == data or (feed - 1)[0] != c'\r':
        refuse(session, HTTP_BAD_REQUEST, b"A line of the body does not end in CRLF.")
        return 0
    return feed - data + 1


cdef int read_size(const uint8_t* at, const uint8_t* line_end, uint64_t* size) noexcept nogil:
    """Read the size of a chunk; behind a semicolon may stand what nobody needs. Returns how many digits it has."""
    cdef int digits = 0, digit
    cdef uint8_t c
    size[0] = 0
    while at < line_end and digits <= SIZE_DIGITS_MAX:
        c = at[0]
        if c'0' <= c <= c'9':
            digit = c - c'0'
        elif c'a' <= (c | 0x20) <= c'f':
            digit = (c | 0x20) - c'a' + 10
        else:
            break
        size[0] = size[0] << 4 | <uint64_t>digit
        digits += 1
        at += 1
    if digits > SIZE_DIGITS_MAX or (at < line_end and at[0] != c';'):
        return 0
    while at < line_end:
        if at[0] == 0x7F or (at[0] < 0x20 and at[0] != c'\t'):
            return 0
        at += 1
    return digits


cdef size_t take_chunk_size(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    cdef size_t line = line_length(session, data, length, LINE_BYTES_MAX)
    if line == 0:
        return 0
    if read_size(data, data + line - 2, &http1.left) == 0:
        refuse(session, HTTP_BAD_REQUEST, b"The size of a chunk is not understood.")
        return 0
    if not count_body(session, line) or http1.left > WEB_BODY_BYTES_MAX:
        if http1.stage != STAGE_OVER:
            refuse(session, HTTP_TOO_LARGE, b"The body is too large.")
        return 0
    http1.stage = STAGE_CHUNK if http1.left else STAGE_TRAILERS
    return line


cdef size_t take_chunk(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    if length > http1.left:
        length = <size_t>http1.left
    if not count_body(session, length) or not keep_body(session, data, length):
        return 0
    http1.left -= length
    if http1.left == 0:
        http1.stage = STAGE_CHUNK_END
    return length


cdef size_t take_chunk_end(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    if data[0] != c'\r' or (length > 1 and data[1] != c'\n'):
        refuse(session, HTTP_BAD_REQUEST, b"A chunk is not as long as it says.")
        return 0
    if length < 2:
        return 0
    session.http1.stage = STAGE_CHUNK_SIZE
    return 2


cdef size_t take_trailer(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    cdef field_t field
    cdef size_t line = line_length(session, data, length, TRAILER_BYTES_MAX)
    if line == 0:
        return 0
    if line == 2:
        complete(session, session.http1.body, session.http1.body_length)
    elif field_read(data, line - 2, &field):
        refuse(session, HTTP_BAD_REQUEST, b"A trailer is not understood.")
    else:
        count_body(session, line)
    return line


# --- Input and output ------------------------------------------------------------------------------------------------

cdef size_t take_some(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    """Use up the next piece of a request; 0 when more is needed for it."""
    cdef int stage = session.http1.stage
    if stage == STAGE_HEAD:
        return take_head(session, data, length)
    if stage == STAGE_BODY:
        return take_body(session, data, length)
    if stage == STAGE_CHUNK_SIZE:
        return take_chunk_size(session, data, length)
    if stage == STAGE_CHUNK:
        return take_chunk(session, data, length)
    if stage == STAGE_CHUNK_END:
        return take_chunk_end(session, data, length)
    return take_trailer(session, data, length)


cdef size_t consume(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    """Answer what is complete, as long as answers are taken; return how many bytes are used up."""
    cdef http1_t* http1 = session.http1
    cdef size_t used = 0, some
    while used < length and http1.stage != STAGE_OVER and http1.out_length < OUT_BYTES_MAX:
        some = take_some(session, data + used, length - used)
        if some == 0:
            break
        used += some
    http1.is_held_back = used < length and http1.stage != STAGE_OVER and http1.out_length >= OUT_BYTES_MAX
    return length if http1.stage == STAGE_OVER else used


cdef bint keep(session_t* session, const uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    if length == 0:
        return True
    if not make_room(session.service, &http1.kept, &http1.kept_capacity, http1.kept_length + length):
        return False
    memcpy(http1.kept + http1.kept_length, data, length)
    http1.kept_length += length
    return True


cdef void use_kept(session_t* session) noexcept nogil:
    cdef http1_t* http1 = session.http1
    cdef size_t used = consume(session, http1.kept, http1.kept_length)
    http1.kept_length -= used
    if http1.kept_length == 0:
        drop(session.service, &http1.kept, &http1.kept_length, &http1.kept_capacity)
    elif used:
        memmove(http1.kept, http1.kept + used, http1.kept_length)


cdef void note_waiting(session_t* session) noexcept nogil:
    """Note since when a request is incomplete; the time runs until it is complete, whatever arrives meanwhile."""
    if session.waiting_ms == 0 and http1_is_waiting(session):
        session.waiting_ms = session.service.now_ms


cdef bint http1_feed(session_t* session, uint8_t* data, size_t length) noexcept nogil:
    cdef http1_t* http1 = session.http1
    cdef size_t used
    if http1.stage == STAGE_OVER:
        return True
    if http1.kept_length == 0:
        used = consume(session, data, length)
        if not keep(session, data + used, length - used):
            return False
    else:
        if not keep(session, data, length):
            return False
        use_kept(session)
    note_waiting(session)
    return not session.broken


cdef size_t http1_pull(session_t* session, uint8_t* room, size_t capacity) noexcept nogil:
    cdef http1_t* http1 = session.http1
    cdef size_t filled = 0, some
    while filled < capacity:
        if http1.out_length == 0:
            # Requests may wait for the answers before them to be taken.
            if not http1.is_held_back:
                break
            # The client could not send the rest of a request meanwhile, so its time begins now: then, and never else.
            session.waiting_ms = 0
            use_kept(session)
            note_waiting(session)
            if http1.out_length == 0:
                break
        some = http1.out_length - http1.out_sent
        if some > capacity - filled:
            some = capacity - filled
        memcpy(room + filled, http1.out + http1.out_sent, some)
        http1.out_sent += some
        filled += some
        session.replies_sent += some
        if http1.out_sent == http1.out_length:
            http1.out_sent = 0
            drop(session.service, &http1.out, &http1.out_length, &http1.out_capacity)
    return filled


cdef bint http1_is_waiting(const session_t* session) noexcept nogil:
    cdef const http1_t* http1 = session.http1
    if http1.stage == STAGE_OVER:
        return False
    return http1.stage != STAGE_HEAD or http1.kept_length != 0


cdef bint http1_done(const session_t* session) noexcept nogil:
    if session.http1.out_length:
        return False
    return session.http1.stage == STAGE_OVER or (session.leaving == LEAVING and not http1_is_waiting(session))
