"""One running verifier: its parts, what they tell each other, and how it starts and stops.

The main thread only waits for signals. Loops answer calls in threads that never take the GIL; the follower loads
publications and hands them to the loops; the metrics port and the scrub have threads of their own.
"""

import os
import platform
import resource
import signal
import time
from typing import TYPE_CHECKING

from verifier import __version__
from verifier._tag import Tagger
from verifier.errors import InvalidInput, NotFound
from verifier.limits import Limits
from verifier.server import logs
from verifier.server.authz import authz_of
from verifier.server.http import MetricsServer, json_page, probe_page, text_page
from verifier.server.loop_metrics import LoopCollector
from verifier.server.loops import LoopGroup
from verifier.server.metrics import CONTENT_TYPE, Metrics
from verifier.server.settings import Settings
from verifier.server.signals import STOPPING, Signals
from verifier.server.status import Status
from verifier.server.values import OFF
from verifier.serving.following import Follower, Observer, Refusal
from verifier.serving.highest import HighestServed
from verifier.serving.loading import LoadLimits, Publication
from verifier.serving.scrub import Scrubber
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets

if TYPE_CHECKING:
    from verifier.server.reports import Reports

TAG_SLOW_NS = 300
DRAIN_LOOK_S = 0.05
STOP_TIMEOUT_S = 0.5
REPORT_TIMEOUT_S = 5.0  # for the last reports, when calls are no longer answered
HURRY_S = 0.3
DESCRIPTORS_BESIDE = 256  # for files, events, the metrics port
DONE, CUT_OFF = 0, 5  # exit codes


class Node(Observer):
    """A node with these settings.

    Raises:
        InvalidInput: no store is named.
        NotFound: there is no such folder, and no other one for the state.
        Unavailable: an address cannot be listened on, or the state folder cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.store is None:
            raise InvalidInput("no store was named", hint="give --store DIR before the command, or set VERIFIER_STORE")
        self.settings = settings
        self._log = logs.get_logger("node")
        home = Home(settings.store)
        if settings.state is None and not home.folder.is_dir():
            raise NotFound(f"there is no folder {home.folder}", hint=f"verifier --store {settings.store} init")
        self._follower = Follower(
            Store(home.store), Secrets(home.secrets), self._deliver,
            limits=load_limits(settings), highest=HighestServed(settings.state or home.state),
            poll_interval_s=settings.poll_interval / 1000, observer=self,
        )  # fmt: skip
        self._loops = LoopGroup(settings.threads, transport_limits(settings), spin_us=settings.spin_us,
                                authz=authz_of(settings), address_header=settings.http_address_header or "")
        self.status = Status(self._follower, max_staleness_ms=settings.max_staleness)
        self.metrics = Metrics(self.status)
        self.metrics.registry.register(LoopCollector(self._loops))
        self._scrubber: Scrubber | None = None
        if settings.scrub_interval:
            self._scrubber = Scrubber(lambda: self._follower.publication, self._damaged, settings.scrub_interval / 1000)
            self.status.scrub = self._scrubber.result
        self._http: MetricsServer | None = None
        self._reports = self._make_reports()
        self._hurry = False

    def start(self) -> None:
        """Listen, answer, and follow the store."""
        settings = self.settings
        self._log.info("starting", version=__version__, python=platform.python_version(), pid=os.getpid(),
                       store=str(settings.store), threads=settings.threads, memory=settings.memory)
        self._measure_tag()
        self._make_room_for_connections()
        if settings.metrics != OFF:
            self._http = MetricsServer(settings.metrics, {
                "/metrics": text_page(CONTENT_TYPE, self.metrics.render),
                "/status": json_page(self.status.to_json),
                "/healthz": probe_page(lambda: True, lambda: "alive"),
                "/readyz": probe_page(lambda: self.status.ready, lambda: self.status.state),
            })
        bound = self._loops.listen(settings.listen, int(settings.socket_mode, 8), settings.http_listen)
        self.status.addresses = tuple(bound)
        self._loops.start()
        if self._reports is not None:
            self._reports.start(self.status.addresses)
        self._follower.start()
        if self._scrubber is not None:
            self._scrubber.start()
        if self._http is not None:
            self._http.start()
        self._log.info("listening", addresses=list(self.status.addresses), http=self._loops.http_addresses,
                       metrics=None if self._http is None else self._http.address)

    def run(self, signals: Signals) -> int:
        """Serve until a signal says to stop; return the exit code.

        SIGHUP rereads the store, SIGTERM and SIGINT drain and stop, a second one stops at once.
        """
        while True:
            number = signals.next()
            if number == signal.SIGHUP:
                self._log.info("rereading the store", signal="SIGHUP")
                self._follower.reread()
            elif number is not None:
                return self._stop(signals, number)

    def close(self) -> None:
        """End all threads and close all ports, whatever is in flight."""
        # Not waiting for a load that goes on: its thread is a daemon, and nobody will use what it loads.
        self._follower.stop(STOP_TIMEOUT_S)
        if self._scrubber is not None:
            self._scrubber.stop(STOP_TIMEOUT_S)
        self._loops.stop()
        if self._reports is not None and not self._reports.stop(HURRY_S if self._hurry else REPORT_TIMEOUT_S):
            self._log.warning("the last counts of usage were not taken")
        if self._http is not None:
            self._http.stop()

    def served(self, publication: Publication, swap_s: float) -> None:
        """Count and log a publication that is served from now on."""
        if self._reports is not None:
            self._reports.served(publication)
        self.metrics.served(publication, swap_s)
        manifest = publication.manifest
        self._log.info("serving", revision=manifest.revision, records=manifest.records, checked=publication.checked,
                       load_ms=round(publication.load_s * 1000, 3), swap_ms=round(swap_s * 1000, 3))

    def refused(self, refusal: Refusal) -> None:
        """Count and log a publication that is not served."""
        if self._reports is not None:
            self._reports.changed()
        self.metrics.refused(refusal)
        served = self.status.manifest
        self._log.error("publication refused", revision=refusal.revision, code=refusal.code, reason=refusal.message,
                        serving=None if served is None else served.revision)

    def fell_back(self, publication: Publication, refused: int | None) -> None:
        """Log that an earlier publication is served."""
        self._log.warning("serving an earlier publication, as the newest one was refused",
                          revision=publication.manifest.revision, refused=refused)

    def not_recorded(self, error: Exception) -> None:
        """Log that the state folder fails."""
        self._log.error("the highest revision could not be recorded", reason=str(error))

    def _deliver(self, publication: Publication) -> None:
        if not self._loops.publish(publication.view):
            self._log.error("a loop did not take the publication in time; what it used before stays in memory",
                            revision=publication.manifest.revision)

    def _damaged(self, sha256: str, offset: int) -> None:
        self._log.error("what is served has changed in memory or on disk; loading it again", keyring=sha256,
                        offset=offset)
        self._follower.reread(discard_base=True)

    def _make_reports(self) -> "Reports | None":
        if self.settings.report_to is None:
            return None
        # Here, since grpcio costs a node that does not report memory and time to start.
        from verifier.server.reports import ReportCollector, Reports

        reports = Reports(self.settings, self._loops, self._follower)
        self.metrics.registry.register(ReportCollector(reports))
        self.status.reports = reports
        return reports

    def _measure_tag(self) -> None:
        tag_ns = Tagger([bytes(32)]).measure_ns()
        self.metrics.tag_measured(tag_ns)
        if tag_ns > TAG_SLOW_NS:
            self._log.warning("tags are slow: has this machine no SHA instructions?", tag_ns=round(tag_ns))

    def _make_room_for_connections(self) -> None:
        """Raise the soft limit of descriptors as far as it may go, and say when that is too little."""
        wanted = self.settings.connections_max + DESCRIPTORS_BESIDE
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, reachable), hard))
            if reachable < wanted:
                self._log.warning("fewer descriptors than connections_max: further connections will wait",
                                  descriptors_max=max(soft, reachable), connections_max=self.settings.connections_max)

    def _stop(self, signals: Signals, number: int) -> int:
        self._log.info("draining", signal=signal.Signals(number).name, timeout_ms=self.settings.drain_timeout)
        self.status.draining = True
        timeout_s = self.settings.drain_timeout / 1000
        until = time.monotonic() + timeout_s
        self._loops.drain(timeout_s)
        while self._loops.running:
            if signals.next(DRAIN_LOOK_S) in STOPPING:
                self._hurry = True
                self._log.warning("stopping at once: a second signal came")
                return CUT_OFF
        if time.monotonic() >= until:
            self._log.warning("stopped: calls were still in flight when the time was over")
            return CUT_OFF
        self._log.info("drained")
        return DONE


def load_limits(settings: Settings) -> LoadLimits:
    """Return what may be loaded."""
    return LoadLimits(
        records_max=settings.records_max, bytes_max=settings.keyring_bytes_max, reserve_bytes=settings.memory_reserve,
        memory="mapped" if settings.memory == "mapped" else "sealed", max_staleness_ms=settings.max_staleness,
    )  # fmt: skip


def transport_limits(settings: Settings) -> Limits:
    """Return what clients may take."""
    return Limits(
        connections_max=settings.connections_max, streams_max=settings.streams_max,
        message_bytes_max=settings.message_bytes_max, header_bytes_max=settings.header_bytes_max,
        header_fields_max=settings.header_fields_max, held_bytes_max=settings.held_bytes_max,
        head_bytes_max=settings.http_header_bytes_max, head_fields_max=settings.http_header_fields_max,
        preface_ms=settings.preface_timeout, idle_ms=settings.idle_timeout, age_ms=settings.connection_age_max,
        grace_ms=settings.connection_grace, stall_ms=settings.stall_timeout,
        resets_burst=settings.resets_burst, resets_per_s=settings.resets_per_s,
        control_burst=settings.control_burst, control_per_s=settings.control_per_s,
    )  # fmt: skip


def serve(settings: Settings) -> int:
    """Run a node until it is told to stop; return the exit code. For the main thread."""
    logs.configure(settings.log_format, settings.log_level)
    node = Node(settings)
    with Signals() as signals:
        try:
            node.start()
            return node.run(signals)
        finally:
            node.close()
