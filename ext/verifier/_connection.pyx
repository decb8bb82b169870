"""Connections: read once, let the session answer everything that was read, write once.

Output goes through the loop's scratch buffer. What the socket does not take is copied, and until it is gone nothing
more is taken from the session, so a connection holds at most one scratch buffer of output. Timers are not events but a
scan once a second: that costs a connection nothing while it works.
"""

from libc.string cimport memcpy, memset

from verifier._memory cimport pool_give, pool_take
from verifier._plain cimport BROKEN, ENDED, WOULD_BLOCK
from verifier._session cimport (
    FRAME_BYTES_MAX, LEAVING, NOTICE_GIVEN, session_close, session_done, session_feed, session_give_notice,
    session_leave, session_open, session_pull, session_refill,
)
from verifier._transport cimport (
    CLOSED_AGE, CLOSED_BY_PEER, CLOSED_DRAIN, CLOSED_IDLE, CLOSED_MEMORY, CLOSED_PREFACE, CLOSED_PROTOCOL,
    CLOSED_STALL, INPUT_BYTES, OUTPUT_BYTES,
)
from verifier.atomics cimport store_i64
from verifier.linux cimport (
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, close, epoll_ctl, epoll_event,
)

cdef enum:
    LINGER_MS = 1000           # for a peer to hang up after the last word
    NOTICE_MS = 1000           # for a peer to acknowledge the PING that goes with the first GOAWAY


# --- Opening and closing ---------------------------------------------------------------------------------------------

cdef uint64_t next_random(connections_t* all) noexcept nogil:
    """xorshift64: jitter need not be unpredictable."""
    all.random ^= all.random << 13
    all.random ^= all.random >> 7
    all.random ^= all.random << 17
    return all.random


cdef int64_t jittered(connections_t* all, int64_t time_ms) noexcept nogil:
    """A time, give or take a tenth, so that connections opened together do not end together."""
    cdef int64_t tenth = time_ms // 10
    return time_ms if tenth == 0 else time_ms - tenth + <int64_t>(next_random(all) % <uint64_t>(2 * tenth))


cdef void connection_open(connections_t* all, int fd, bint detects, const transport_t* transport,
                          void* state) noexcept nogil:
    cdef service_t* service = all.service
    cdef epoll_event event
    cdef connection_t* connection = <connection_t*>pool_take(&service.pool, sizeof(connection_t))
    if connection != NULL:
        memset(connection, 0, sizeof(connection_t))
        connection.session = session_open(service, detects)
    if connection == NULL or connection.session == NULL:
        pool_give(&service.pool, connection)
        transport.release(state)
        close(fd)
        service.transport.reasons[CLOSED_MEMORY] += 1
        store_i64(&all.closed, all.closed + 1)
        return
    connection.kind = KIND_CONNECTION
    connection.fd = fd
    connection.transport = transport
    connection.transport_state = state
    connection.opened_ms = connection.active_ms = connection.taken_ms = service.now_ms
    connection.age_max_ms = jittered(all, service.limits.age_ms)
    connection.interest = EPOLLIN
    connection.next = all.first
    if all.first != NULL:
        all.first.previous = connection
    all.first = connection
    store_i64(&all.count, all.count + 1)
    service.transport.opened += 1
    event.events = EPOLLIN
    event.data.ptr = connection
    if epoll_ctl(all.epoll, EPOLL_CTL_ADD, fd, &event) != 0:
        connection_close(all, connection, CLOSED_MEMORY)
        return
    if all.leaving:
        ask_to_go(all, connection, CLOSED_DRAIN)
    flush(all, connection)


cdef void connection_close(connections_t* all, connection_t* connection, int reason) noexcept nogil:
    cdef service_t* service = all.service
    service.transport.reasons[reason] += 1
    session_close(connection.session)
    connection.transport.release(connection.transport_state)
    close(connection.fd)
    pool_give(&service.pool, connection.output)
    if connection.previous != NULL:
        connection.previous.next = connection.next
    else:
        all.first = connection.next
    if connection.next != NULL:
        connection.next.previous = connection.previous
    store_i64(&all.count, all.count - 1)
    store_i64(&all.closed, all.closed + 1)
    pool_give(&service.pool, connection)


cdef int reason_of(connection_t* connection) noexcept nogil:
    return connection.session.reason if connection.session.reason else connection.reason


cdef void connections_close(connections_t* all, int reason) noexcept nogil:
    while all.first != NULL:
        connection_close(all, all.first, reason)


# --- Output ----------------------------------------------------------------------------------------------------------

cdef void set_interest(connections_t* all, connection_t* connection) noexcept nogil:
    """Read; but when output is stuck, only write: whoever does not take answers need not ask for more."""
    cdef epoll_event event
    cdef uint32_t wanted = EPOLLOUT if connection.output_length else EPOLLIN
    if wanted != connection.interest:
        connection.interest = wanted
        event.events = wanted
        event.data.ptr = connection
        epoll_ctl(all.epoll, EPOLL_CTL_MOD, connection.fd, &event)


cdef ssize_t send_some(connections_t* all, connection_t* connection, const uint8_t* data, size_t length) noexcept nogil:
    """Send; returns how much was taken, 0 when the socket is full, BROKEN when it is gone."""
    cdef ssize_t count = connection.transport.send(connection.fd, connection.transport_state, data, length)
    if count == WOULD_BLOCK:
        return 0
    if count > 0:
        all.service.transport.bytes_out += <uint64_t>count
    return count


cdef bint send_leftover(connections_t* all, connection_t* connection) noexcept nogil:
    cdef ssize_t count = send_some(all, connection, connection.output + connection.output_sent,
                                   connection.output_length - connection.output_sent)
    if count == BROKEN:
        return False
    connection.output_sent += <size_t>count
    if connection.output_sent == connection.output_length:
        pool_give(&all.service.pool, connection.output)
        connection.output = NULL
        connection.output_length = connection.output_sent = 0
    return True


cdef bint keep_leftover(connections_t* all, connection_t* connection, const uint8_t* data, size_t length) noexcept nogil:
    connection.output = <uint8_t*>pool_take(&all.service.pool, length)
    if connection.output == NULL:
        return False
    memcpy(connection.output, data, length)
    connection.output_length = length
    connection.output_sent = 0
    return True


cdef int send_all(connections_t* all, connection_t* connection) noexcept nogil:
    """Send what the session has to say; 0, or CLOSED_* when the connection cannot go on."""
    cdef uint8_t* scratch = all.service.output
    cdef size_t filled
    cdef ssize_t count
    if connection.output_length and not send_leftover(all, connection):
        return CLOSED_BY_PEER + 1
    while connection.output_length == 0:
        filled = session_pull(connection.session, scratch, OUTPUT_BYTES)
        if filled:
            count = send_some(all, connection, scratch, filled)
            if count == BROKEN:
                return CLOSED_BY_PEER + 1
            if <size_t>count < filled and not keep_leftover(all, connection, scratch + count, filled - <size_t>count):
                return CLOSED_MEMORY + 1
        if connection.session.broken:
            return CLOSED_PROTOCOL + 1
        if OUTPUT_BYTES - filled >= FRAME_BYTES_MAX:
            break
    return 0


cdef void flush(connections_t* all, connection_t* connection) noexcept nogil:
    """Send all there is. May close the connection."""
    cdef int failure = send_all(all, connection)
    if failure:
        connection_close(all, connection, failure - 1)
        return
    if connection.output_length == 0 and not connection.lingering and session_done(connection.session):
        # The last word was said. Closing now could destroy it on the way, if the peer is still sending.
        connection.transport.finish(connection.fd, connection.transport_state)
        connection.lingering = True
        connection.leave_ms = all.service.now_ms
    set_interest(all, connection)


# --- Input -----------------------------------------------------------------------------------------------------------

cdef bint receive(connections_t* all, connection_t* connection) noexcept nogil:
    """Read once and let the session answer. False: the connection was closed."""
    cdef service_t* service = all.service
    cdef ssize_t count = connection.transport.receive(connection.fd, connection.transport_state, service.input,
                                                      INPUT_BYTES)
    if count == WOULD_BLOCK:
        return True
    if count == ENDED or count == BROKEN:
        connection_close(all, connection, reason_of(connection))
        return False
    service.transport.bytes_in += <uint64_t>count
    connection.active_ms = service.now_ms
    if connection.lingering:
        return True
    if not session_feed(connection.session, service.input, <size_t>count):
        send_all(all, connection)
        connection_close(all, connection, reason_of(connection))
        return False
    return True


cdef void connection_event(connections_t* all, connection_t* connection, uint32_t events) noexcept nogil:
    if events & (EPOLLIN | EPOLLHUP | EPOLLERR) and not receive(all, connection):
        return
    if not connection.lingering:
        flush(all, connection)


# --- Timers ----------------------------------------------------------------------------------------------------------

cdef void ask_to_go(connections_t* all, connection_t* connection, int reason) noexcept nogil:
    if connection.leave_ms == 0:
        connection.leave_ms = all.service.now_ms
        connection.reason = reason
        session_give_notice(connection.session)


cdef bint is_stalled(connections_t* all, connection_t* connection) noexcept nogil:
    """Tell whether the peer has taken nothing of what is due to it for too long."""
    cdef uint64_t mark
    if connection.output_length:
        mark = <uint64_t>connection.output_sent + connection.session.replies_sent
    elif connection.session.replies_held:
        mark = connection.session.replies_sent
    else:
        connection.taken_ms = all.service.now_ms
        return False
    if mark != connection.taken_mark:
        connection.taken_mark = mark
        connection.taken_ms = all.service.now_ms
    return (all.service.limits.stall_ms > 0
            and all.service.now_ms - connection.taken_ms >= all.service.limits.stall_ms)


cdef int overdue(connections_t* all, connection_t* connection) noexcept nogil:
    """The reason to close a connection now, plus one; else 0."""
    cdef int64_t now_ms = all.service.now_ms
    if connection.lingering:
        return reason_of(connection) + 1 if now_ms - connection.leave_ms >= LINGER_MS else 0
    if (not connection.session.ready and all.service.limits.preface_ms > 0
            and now_ms - connection.opened_ms >= all.service.limits.preface_ms):
        return CLOSED_PREFACE + 1
    # Nothing is read as long as answers are not taken: then the client is not late, but perhaps stalled.
    if (connection.session.waiting_ms and connection.output_length == 0 and all.service.limits.preface_ms > 0
            and now_ms - connection.session.waiting_ms >= all.service.limits.preface_ms):
        return CLOSED_PREFACE + 1
    if is_stalled(all, connection):
        return CLOSED_STALL + 1
    if connection.leave_ms and now_ms - connection.leave_ms >= all.service.limits.grace_ms > 0:
        return reason_of(connection) + 1
    return 0


cdef void review(connections_t* all, connection_t* connection) noexcept nogil:
    """Ask a connection to go when its time has come, and on with its leaving."""
    cdef int64_t now_ms = all.service.now_ms
    if connection.lingering:
        return
    if connection.leave_ms:
        if connection.session.leaving == NOTICE_GIVEN and now_ms - connection.leave_ms >= NOTICE_MS:
            session_leave(connection.session)
            flush(all, connection)
    elif all.service.limits.idle_ms and now_ms - connection.active_ms >= all.service.limits.idle_ms:
        ask_to_go(all, connection, CLOSED_IDLE)
        flush(all, connection)
    elif connection.age_max_ms and now_ms - connection.opened_ms >= connection.age_max_ms:
        ask_to_go(all, connection, CLOSED_AGE)
        flush(all, connection)


cdef void connections_tick(connections_t* all, int64_t elapsed_ms) noexcept nogil:
    cdef connection_t* connection = all.first
    cdef connection_t* following
    cdef int reason
    while connection != NULL:
        following = connection.next
        session_refill(connection.session, elapsed_ms)
        reason = overdue(all, connection)
        if reason:
            connection_close(all, connection, reason - 1)
        else:
            review(all, connection)
        connection = following


cdef void connections_leave(connections_t* all) noexcept nogil:
    cdef connection_t* connection = all.first
    cdef connection_t* following
    all.leaving = True
    while connection != NULL:
        following = connection.next
        ask_to_go(all, connection, CLOSED_DRAIN)
        if not connection.lingering:
            flush(all, connection)
        connection = following
