"""Turns of the event loop: one thread, no GIL, no lock.

A turn waits for events, reads the clocks once, takes the view that was last published, and lets every connection that
has something to say be read once, answered and written once. All calls of a turn are judged at one second and by one
view.
"""

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec

from verifier._accept cimport accept_some, acceptor_close, acceptor_open, acceptor_resume, listener_t, peers_drain
from verifier._connection cimport (
    KIND_CONNECTION, KIND_LISTENER, KIND_WAKE, connection_event, connection_open, connection_t, connections_close,
    connections_leave, connections_tick,
)
from verifier._mailbox cimport mailbox_clear, mailbox_close, mailbox_open, mailbox_take
from verifier._memory cimport pool_clear, pool_serve
from verifier._plain cimport plain_transport
from verifier._service cimport reply_t
from verifier._transport cimport (
    CLOSED_DRAIN, CLOSED_STOP, INPUT_BYTES, LATENCY_BUCKETS, OUTPUT_BYTES, REPLY_BYTES, service_t,
)
from verifier._usage cimport usage_turn
from verifier._view cimport view_t
from verifier.atomics cimport load_i64, load_ptr, store_ptr
from verifier.linux cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, close, epoll_create1, epoll_ctl, epoll_event, epoll_wait,
)

cdef enum:
    EVENTS = 256               # in one turn
    TICK_MS = 1000
    DRAIN_TICK_MS = 20
    STEP_BACK_S_MAX = 60       # the wall clock may be held this long when it is set back; beyond, it is followed
    REPLY_BYTES_KEPT = 1048576

LATENCY_BOUNDS_US[:] = [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10000]


# --- Turns -----------------------------------------------------------------------------------------------------------

cdef int64_t monotonic_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef int64_t wall_s() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return now.tv_sec


cdef int64_t held_clock(int64_t before_s, int64_t now_s, uint64_t* steps_back) noexcept nogil:
    """The second to judge at: never an earlier one, unless the clock was set back by more than a minute."""
    if now_s >= before_s:
        return now_s
    if before_s - now_s <= STEP_BACK_S_MAX:
        return before_s
    steps_back[0] += 1
    return now_s


cdef void take_view(loop_t* loop) noexcept nogil:
    cdef void* view = load_ptr(&loop.mailbox.published)
    if view != <void*>loop.service.turn.view:
        loop.service.turn.view = <const view_t*>view
        store_ptr(&loop.mailbox.seen, view)


cdef void begin_turn(loop_t* loop) noexcept nogil:
    cdef service_t* service = &loop.service
    service.now_ns = monotonic_ns()
    service.now_ms = service.now_ns // 1000000
    service.turn_calls = 0
    service.transport.turns += 1
    take_view(loop)
    if service.turn.usage != NULL:
        usage_turn(service.turn.usage)
    service.turn.now_s = held_clock(service.turn.now_s, wall_s(), &service.transport.clock_steps_back)
    service.turn.serving = service.turn.view != NULL and loop.drain_until_ms == 0
    service.turn.staleness_ms = 0
    if service.turn.view != NULL:
        service.turn.staleness_ms = service.now_ms - load_i64(&service.turn.view.confirmed_ms)
        if service.turn.staleness_ms < 0:
            service.turn.staleness_ms = 0


cdef void end_turn(loop_t* loop) noexcept nogil:
    cdef service_t* service = &loop.service
    cdef int64_t took_ns
    cdef int bucket = 0
    if service.turn_calls == 0:
        return
    took_ns = monotonic_ns() - service.now_ns
    while bucket < LATENCY_BUCKETS - 1 and took_ns > LATENCY_BOUNDS_US[bucket] * 1000:
        bucket += 1
    service.transport.latency[bucket] += service.turn_calls
    service.transport.latency_ns += <uint64_t>took_ns * service.turn_calls
    if service.reply.capacity > REPLY_BYTES_KEPT:
        resize_reply(&service.reply, REPLY_BYTES)


cdef void start_draining(loop_t* loop, int64_t timeout_ms) noexcept nogil:
    loop.drain_until_ms = loop.service.now_ms + timeout_ms
    loop.service.turn.serving = False
    acceptor_close(&loop.acceptor)
    peers_drain(&loop.acceptor, timeout_ms)
    connections_leave(&loop.connections)


cdef void read_mailbox(loop_t* loop) noexcept nogil:
    cdef int fd
    cdef bint detects
    cdef int64_t drain_ms
    mailbox_clear(&loop.mailbox)
    # Read before the ring: whoever hands connections over drains this loop after the last of them.
    drain_ms = load_i64(&loop.mailbox.drain_ms)
    fd = mailbox_take(&loop.mailbox, &detects)
    while fd >= 0:
        connection_open(&loop.connections, fd, detects, plain_transport(), NULL)
        fd = mailbox_take(&loop.mailbox, &detects)
    if drain_ms and loop.drain_until_ms == 0:
        start_draining(loop, drain_ms)
    loop.stopping = load_i64(&loop.mailbox.stop) != 0


cdef void dispatch(loop_t* loop, const epoll_event* events, int count) noexcept nogil:
    """Handle the events of a turn. A connection's event closes no other connection; the mailbox may (a drain does),
    so it comes last: an event behind it could point to a connection that is gone."""
    cdef const epoll_event* event
    cdef bint woken = False
    cdef int i, kind
    for i in range(count):
        event = &events[i]
        kind = (<const int*>event.data.ptr)[0]
        if kind == KIND_CONNECTION:
            connection_event(&loop.connections, <connection_t*>event.data.ptr, event.events)
        elif kind == KIND_LISTENER:
            accept_some(&loop.acceptor, <const listener_t*>event.data.ptr)
        else:
            woken = True
    if woken:
        read_mailbox(loop)


cdef int64_t tick_length_ms(const loop_t* loop) noexcept nogil:
    return DRAIN_TICK_MS if loop.drain_until_ms else TICK_MS


cdef void tick(loop_t* loop) noexcept nogil:
    cdef int64_t elapsed_ms = loop.service.now_ms - loop.last_tick_ms
    if elapsed_ms < tick_length_ms(loop):
        return
    loop.last_tick_ms = loop.service.now_ms
    connections_tick(&loop.connections, elapsed_ms)
    if loop.drain_until_ms == 0:
        acceptor_resume(&loop.acceptor)


cdef int wait(loop_t* loop, epoll_event* events) noexcept nogil:
    """Wait for events, at most until the next tick if there is something to look after."""
    cdef int count
    cdef int64_t timeout_ms = -1, spin_until_ns
    if loop.spin_ns:
        spin_until_ns = monotonic_ns() + loop.spin_ns
        while True:
            count = epoll_wait(loop.epoll, events, EVENTS, 0)
            if count != 0 or monotonic_ns() >= spin_until_ns:
                break
        if count > 0:
            return count
    if loop.connections.first != NULL or loop.acceptor.paused or loop.drain_until_ms:
        # A tick that is overdue waits for no event, but events come first.
        timeout_ms = loop.last_tick_ms + tick_length_ms(loop) - loop.service.now_ms
        timeout_ms = 0 if timeout_ms < 0 else timeout_ms
    return epoll_wait(loop.epoll, events, EVENTS, <int>timeout_ms)


cdef bint is_over(loop_t* loop) noexcept nogil:
    if loop.stopping:
        return True
    return loop.drain_until_ms != 0 and (loop.connections.first == NULL
                                         or loop.service.now_ms >= loop.drain_until_ms)


cdef void loop_run(loop_t* loop) noexcept nogil:
    cdef epoll_event events[EVENTS]
    cdef int count
    begin_turn(loop)
    loop.last_tick_ms = loop.service.now_ms
    acceptor_open(&loop.acceptor)
    while not is_over(loop):
        count = wait(loop, events)
        begin_turn(loop)
        dispatch(loop, events, count)
        tick(loop)
        end_turn(loop)
    acceptor_close(&loop.acceptor)
    connections_close(&loop.connections, CLOSED_STOP if loop.stopping else CLOSED_DRAIN)


# --- Memory ----------------------------------------------------------------------------------------------------------

cdef int resize_reply(reply_t* reply, size_t capacity) noexcept nogil:
    cdef uint8_t* body = <uint8_t*>realloc(reply.body, capacity)
    if body == NULL:
        return -1
    reply.body = body
    reply.capacity = capacity
    return 0


cdef loop_t* loop_new() noexcept nogil:
    cdef loop_t* loop = <loop_t*>calloc(1, sizeof(loop_t))
    if loop != NULL:
        loop.mailbox.wake = loop.epoll = loop.acceptor.reserve = -1
    return loop


cdef bint loop_open(loop_t* loop) noexcept nogil:
    """Set up what cannot fail later."""
    cdef epoll_event event
    loop.service.reply.grow = resize_reply
    loop.service.input = <uint8_t*>malloc(INPUT_BYTES)
    loop.service.output = <uint8_t*>malloc(OUTPUT_BYTES)
    if loop.service.input == NULL or loop.service.output == NULL or resize_reply(&loop.service.reply, REPLY_BYTES):
        return False
    loop.epoll = epoll_create1(EPOLL_CLOEXEC)
    if loop.epoll < 0 or not mailbox_open(&loop.mailbox):
        return False
    loop.service.turn.counters = &loop.service.counters
    pool_serve(&loop.service.pool, &loop.service.memory)
    loop.connections.service = loop.acceptor.service = &loop.service
    loop.connections.epoll = loop.acceptor.epoll = loop.epoll
    loop.connections.random = <uint64_t>monotonic_ns() | 1
    loop.acceptor.connections = &loop.connections
    loop.mailbox.kind = KIND_WAKE
    event.events = EPOLLIN
    event.data.ptr = &loop.mailbox
    return epoll_ctl(loop.epoll, EPOLL_CTL_ADD, loop.mailbox.wake, &event) == 0


cdef void loop_free(loop_t* loop) noexcept nogil:
    cdef int i
    for i in range(loop.acceptor.listener_count):
        close(loop.acceptor.listeners[i].fd)
    mailbox_close(&loop.mailbox)
    if loop.epoll >= 0:
        close(loop.epoll)
    pool_clear(&loop.service.pool)
    free(loop.service.input)
    free(loop.service.output)
    free(loop.service.reply.body)
    free(loop)
