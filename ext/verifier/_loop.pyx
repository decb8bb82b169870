"""The event loop as Python sees it: set up, run, told what to serve, and told to stop.

Python talks to a running loop through its mailbox only. Whatever a loop may still use is kept referenced here: the
views that it has not let go of, and the loops that it hands connections to.
"""

import os
import signal
import socket

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from verifier._accept cimport LISTENERS_MAX, PEERS_MAX
from verifier._authz cimport NAME_BYTES_MAX, Authz, text_t
from verifier._connection cimport KIND_LISTENER
from verifier._mailbox cimport mailbox_wake
from verifier._methods cimport add_echo, add_gateways, add_service
from verifier._service cimport ASKED, METHODS, STATUSES, VERDICTS
from verifier._transport cimport LATENCY_BUCKETS, REASONS, limits_t, transport_counters_t
from verifier._turn cimport LATENCY_BOUNDS_US, loop_free, loop_new, loop_open, loop_run, loop_t
from verifier._usage cimport Usage
from verifier._view cimport View, view_t
from verifier.atomics cimport load_i64, load_ptr, store_i64, store_ptr
from verifier.linux cimport F_DUPFD_CLOEXEC, fcntl

from verifier.limits import Limits

# In the order of CLOSED_* and REFUSED_*.
REASON_NAMES = ("peer", "protocol", "budget", "preface", "idle", "age", "stall", "drain", "stop", "memory", "limit",
                "descriptors")


cdef class Loop:
    """One event loop. Its thread calls `run`; all other methods may be called from any thread, one at a time.

    Args:
        limits: what clients may take; the defaults of `Limits` when None.
        index: which of a group's loops this is, for reports.
        spin_us: microseconds to go on looking for work before sleeping; 0 sleeps at once.
        methods: "service" serves Verify, VerifyBatch and health; "echo" adds a method for tests and measurements.
        authz: how gateways are answered; None: they are not.
        address_header: of a gateway's plain HTTP request, which says who connected to it; empty for none.

    Raises:
        OSError: no descriptors for epoll or eventfd.
        ValueError: unknown methods.
    """

    cdef loop_t* loop
    cdef readonly object limits
    cdef readonly int index
    cdef readonly Usage usage
    cdef readonly Authz authz
    cdef list _views
    cdef list _peers
    cdef bint _has_producer
    cdef bint _started
    cdef readonly bint running

    def __cinit__(self):
        self.loop = loop_new()
        if self.loop == NULL:
            raise MemoryError

    def __init__(self, limits=None, int index=0, int64_t spin_us=0, str methods="service", Authz authz=None,
                 str address_header=""):
        if self.limits is not None:
            raise RuntimeError("a loop is set up once")
        if methods not in ("service", "echo"):
            raise ValueError(f"methods are service or echo, not {methods!r}")
        self.limits = Limits() if limits is None else limits
        self.index = index
        self._views = []
        self._peers = []
        self._copy_limits(self.limits)
        self.loop.spin_ns = spin_us * 1000
        add_service(&self.loop.service.routes, self.limits.message_bytes_max)
        self.authz = authz
        if authz is not None:
            self.loop.service.turn.authz = &authz.authz
            add_gateways(&self.loop.service.routes, self.limits.message_bytes_max)
        self._name_address_header(address_header.lower().encode("ascii"))
        if methods == "echo":
            add_echo(&self.loop.service.routes, self.limits.message_bytes_max)
        if not loop_open(self.loop):
            raise OSError("no descriptors or memory for an event loop")

    def __dealloc__(self):
        if self.loop != NULL:
            loop_free(self.loop)

    def _copy_limits(self, limits):
        cdef limits_t* target = &self.loop.service.limits
        target.connections_max = limits.connections_max
        target.streams_max = limits.streams_max
        target.message_bytes_max = limits.message_bytes_max
        target.header_bytes_max = limits.header_bytes_max
        target.header_fields_max = limits.header_fields_max
        target.held_bytes_max = limits.held_bytes_max
        target.head_bytes_max = limits.head_bytes_max
        target.head_fields_max = limits.head_fields_max
        target.preface_ms = limits.preface_ms
        target.idle_ms = limits.idle_ms
        target.age_ms = limits.age_ms
        target.grace_ms = limits.grace_ms
        target.stall_ms = limits.stall_ms
        target.resets_burst = limits.resets_burst
        target.resets_per_s = limits.resets_per_s
        target.control_burst = limits.control_burst
        target.control_per_s = limits.control_per_s

    def _name_address_header(self, bytes name):
        cdef text_t* target = &self.loop.service.address_header
        if len(name) > NAME_BYTES_MAX:
            raise ValueError(f"a header's name of more than {NAME_BYTES_MAX} bytes")
        memcpy(self.loop.service.address_header_bytes, <const char*>name, len(name))
        target.at = self.loop.service.address_header_bytes
        target.length = len(name)

    def add_listener(self, int fd, bint detects=False):
        """Accept connections from a listening socket, from `run` on. The loop uses a duplicate and closes only that.

        Args:
            fd: the socket's descriptor.
            detects: HTTP/1.1 is spoken there, too; a connection's first bytes decide. Else it is HTTP/2 only.

        Raises:
            RuntimeError: the loop runs already, is another's peer, or has too many listeners.
            OSError: no descriptor for the duplicate.
        """
        cdef int own
        if self._started or self._has_producer or self.loop.acceptor.listener_count == LISTENERS_MAX:
            raise RuntimeError(f"a loop that is no other's peer takes {LISTENERS_MAX} listeners, before it runs")
        own = fcntl(fd, F_DUPFD_CLOEXEC, 0)
        if own < 0:
            raise OSError("cannot duplicate the listening socket")
        os.set_blocking(own, False)
        family = socket.socket(fileno=own)
        listener = &self.loop.acceptor.listeners[self.loop.acceptor.listener_count]
        listener.kind = KIND_LISTENER
        listener.fd = own
        listener.is_tcp = family.family in (socket.AF_INET, socket.AF_INET6)
        listener.detects = detects
        family.detach()
        self.loop.acceptor.listener_count += 1

    def add_peer(self, Loop peer not None):
        """Hand connections to another loop when that has fewer. All that the peer ever gets comes from here.

        Raises:
            RuntimeError: this loop runs already, or the peer already takes connections from a loop or a listener.
        """
        if self._started or peer is self or peer._has_producer or len(self._peers) == PEERS_MAX:
            raise RuntimeError("peers are added before the loop runs, and each to one loop")
        if peer.loop.acceptor.listener_count:
            raise RuntimeError("a peer has no listeners of its own")
        self.loop.acceptor.peers[self.loop.acceptor.peer_count].mailbox = &peer.loop.mailbox
        self.loop.acceptor.peers[self.loop.acceptor.peer_count].connections = &peer.loop.connections
        self.loop.acceptor.peer_count += 1
        self._peers.append(peer)
        peer._has_producer = True

    def count_usage(self):
        """Count verifications by version, from `run` on, in `usage`.

        Raises:
            RuntimeError: the loop runs already.
            Unavailable: no address space.
        """
        if self._started:
            raise RuntimeError("counting begins before the loop runs")
        self.usage = Usage()
        self.loop.service.turn.usage = self.usage.usage

    def run(self):
        """Serve until stopped or drained, without the GIL. Call it in a daemon thread and join that before exit.

        Signals stay blocked meanwhile: one that reached this thread would not be acted on.

        Raises:
            RuntimeError: the loop has run already.
        """
        if self._started:
            raise RuntimeError("a loop runs once")
        self._started = self.running = True
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with nogil:
                loop_run(self.loop)
        finally:
            self.running = False
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def publish(self, View view not None):
        """Serve this view from the next turn on. The views before it are kept until the loop has let go of them."""
        self._views.append(view)
        store_ptr(&self.loop.mailbox.published, <void*>&view.view)
        mailbox_wake(&self.loop.mailbox)

    def seen(self, View view not None):
        """Tell whether the loop uses this view and none older; then those are no longer kept here."""
        if load_ptr(&self.loop.mailbox.seen) != <void*>&view.view:
            return False
        while self._views and self._views[0] is not view:
            del self._views[0]
        return True

    def exchange_usage(self):
        """Tell whether what was asked for with `usage.ask` is made; wakes the loop, or acts for one that has ended."""
        if not self.running:
            self.usage.exchange()
        elif not self.usage.exchanged:
            mailbox_wake(&self.loop.mailbox)
        return self.usage.exchanged

    def drain(self, double timeout_s):
        """Stop accepting, ask clients to go, finish what is in flight, and return from `run` by the deadline.

        Peers follow once they have all that was accepted for them: drain none by itself, or it may leave too early.
        """
        store_i64(&self.loop.mailbox.drain_ms, max(1, int(timeout_s * 1000)))
        mailbox_wake(&self.loop.mailbox)

    def stop(self):
        """Return from `run` now; calls in flight are lost."""
        store_i64(&self.loop.mailbox.stop, 1)
        mailbox_wake(&self.loop.mailbox)

    @property
    def connections(self):
        """Open connections."""
        return load_i64(&self.loop.connections.count)

    def counters(self):
        """Return what the loop has counted since it started, as plain data.

        Each number is exact; the set is not of one instant, since nothing stops the loop meanwhile. `verdicts` and
        `calls` are indexed by verdict, and by method and gRPC status; `asked` by what a gateway's request was refused for
        without a verdict. `latency_counts` has one more entry than
        `latency_bounds_us`, for what took longer. The duration of a turn counts for each call that it answered.
        """
        cdef transport_counters_t* counted = &self.loop.service.transport
        cdef int i, j
        return {
            "index": self.index,
            "connections": load_i64(&self.loop.connections.count),
            "accepted": counted.accepted,
            "opened": counted.opened,
            "handed": counted.handed,
            "closed": {REASON_NAMES[i]: counted.reasons[i] for i in range(REASONS)},
            "bytes_in": counted.bytes_in,
            "bytes_out": counted.bytes_out,
            "turns": counted.turns,
            "streams": counted.streams,
            "goaways": counted.goaways,
            "resets_in": counted.resets_in,
            "resets_out": counted.resets_out,
            "protocol_errors": counted.protocol_errors,
            "accept_pauses": counted.accept_pauses,
            "clock_steps_back": counted.clock_steps_back,
            "verdicts": [self.loop.service.counters.verdicts[i] for i in range(VERDICTS)],
            "calls": [[self.loop.service.counters.calls[i][j] for j in range(STATUSES)] for i in range(METHODS)],
            "asked": [self.loop.service.counters.asked[i] for i in range(ASKED)],
            "latency_bounds_us": [LATENCY_BOUNDS_US[i] for i in range(LATENCY_BUCKETS - 1)],
            "latency_counts": [counted.latency[i] for i in range(LATENCY_BUCKETS)],
            "latency_sum_us": counted.latency_ns / 1000.0,
        }
