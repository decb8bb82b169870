"""One running control plane: the operators' API, and, on the one that leads, the schedule.

Every control plane of a store answers operators and nodes, and publishes what nodes report to it. One of them leads and
does what is due by the clock; when it is gone another takes over, from where the registry says that it was.
"""

import os
import platform
import signal
import threading
import time
from pathlib import Path

from verifier import __version__
from verifier.admin.bursts import BurstPublisher, PendingWatch
from verifier.admin.compactor import Compactor
from verifier.admin.desk import Desk
from verifier.admin.metrics import ControlMetrics
from verifier.admin.propagation import PropagationWatch
from verifier.admin.server import AdminServer, Settings
from verifier.admin.settings import ControlSettings
from verifier.admin.tls import ServerTls
from verifier.control import events, pruning
from verifier.control.acting import SCHEDULE
from verifier.control.events import Event
from verifier.control.nodes import Propagation
from verifier.control.publishing import publish
from verifier.control.schedule import Schedule
from verifier.errors import InvalidInput, Unavailable, VerifierError
from verifier.registry import queries
from verifier.registry.leader import Leadership, leading
from verifier.server import logs
from verifier.server.http import MetricsServer, json_page, probe_page, text_page
from verifier.server.metrics import CONTENT_TYPE
from verifier.server.signals import STOPPING, Signals
from verifier.server.values import OFF
from verifier.store.home import Home

STOP_LOOK_S = 0.05
LAST_PUBLICATION_S = 10.0
BACKOFF_MAX_S = 30.0
VERSIONS_EACH_S = 86_400.0
DONE, CUT_OFF = 0, 5  # exit codes


class ControlPlane:
    """A control plane of a ``--store`` folder.

    Args:
        home: the folder, and where its registry is.
        settings: how to run.

    Raises:
        NotFound: there is no registry, or a file does not exist.
        InvalidInput: an address or the hand-out folder cannot be used.
        Unavailable: the registry cannot be used, or others could reach the address and there is no TLS.
    """

    def __init__(self, home: Home, settings: ControlSettings) -> None:
        self.settings = settings
        self._log = logs.get_logger("control")
        if settings.handout is not None:
            check_handout(settings.handout)
        self._desk = Desk(home)
        try:
            self.server = AdminServer(self._desk, Settings(settings.listen, _tls(settings)))
        except BaseException:
            self._desk.close()
            raise
        self._leadership: Leadership | None = None
        self._schedule: Schedule | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._pruned_at = time.monotonic()
        self._versions_pruned_at: float | None = None
        self.metrics = ControlMetrics(self._desk.registry, lambda: self.leads, self._told_to)
        self._bursts = BurstPublisher(self._desk, self.metrics.publication_failed)
        self._compactor = Compactor(self._desk, self.metrics.publication_failed)
        self._propagation = PropagationWatch(self._desk, self._arrived)
        self._pending = PendingWatch(self._desk, settings.publish_pending / 1000)
        self._desk.full_addresses = settings.full_addresses
        self._desk.on_publication_due = self._bursts.due
        self._desk.on_waited = self.metrics.waited
        self._loop = threading.Thread(target=self._run, name="schedule", daemon=True)
        self._http: MetricsServer | None = None
        self._failing: str | None = None
        self._unsubscribe = events.subscribe(self._happened)

    @property
    def leads(self) -> bool:
        """Whether this is the one that runs the schedule."""
        return self._leadership is not None

    def start(self) -> None:
        """Listen, answer, and try to lead.

        Raises:
            Unavailable: an address cannot be listened on.
        """
        self._log.info("starting", version=__version__, python=platform.python_version(), pid=os.getpid(),
                       store=str(self._desk.home.folder), handout=_text(self.settings.handout))
        if self.settings.metrics != OFF:
            self._http = MetricsServer(self.settings.metrics, {
                "/metrics": text_page(CONTENT_TYPE, self.metrics.render),
                "/status": json_page(self.status),
                "/healthz": probe_page(lambda: True, lambda: "alive"),
                "/readyz": probe_page(self._is_ready, lambda: "SERVING" if self._is_ready() else "NOT_SERVING"),
            })
        self.server.start()
        self._bursts.start()
        self._propagation.start()
        self._loop.start()
        if self._http is not None:
            self._http.start()
        self._log.info("listening", address=self.server.target, metrics=None if self._http is None else
                       self._http.address, tls=self.settings.tls_cert is not None)

    def run(self, signals: Signals) -> int:
        """Go on until a signal says to stop; return the exit code.

        SIGHUP has the schedule's turn come now, SIGTERM and SIGINT stop when calls in flight are answered, a second one
        stops at once.
        """
        while True:
            number = signals.next()
            if number == signal.SIGHUP:
                self._wake.set()
            elif number is not None:
                return self._stop(signals, number)

    def close(self) -> None:
        """End all threads and close all ports: first callers, then the schedule, then what is left to publish."""
        self.server.stop(self.settings.drain_timeout / 1000)
        self._stopping.set()
        self._wake.set()
        if self._loop.ident is not None:
            self._loop.join()
        if not self._bursts.stop(LAST_PUBLICATION_S):
            self._log.warning("a publication is still being made")
        if not self._compactor.wait(LAST_PUBLICATION_S):
            self._log.warning("a new base is still being built")
        self._propagation.stop()
        if self._http is not None:
            self._http.stop()
        self._unsubscribe()
        self._desk.close()
        self._log.info("stopped")

    def status(self) -> dict[str, object]:
        """Return the object of ``/status``."""
        with self._desk.registry.read() as connection:
            state = queries.state(connection)
        return {
            "state": "LEADING" if self.leads else "STANDING_BY", "revision": state.last_revision,
            "held_at": state.hold, "pending_changes": state.pending_changes, "store_id": state.store_id,
            "address": self.server.target, "events_told_to": self._told_to() if self.leads else None,
            "failing": self._failing, "version": __version__,
        }  # fmt: skip

    # --- The schedule ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        interval_s = pause_s = self.settings.interval / 1000
        while not self._stopping.is_set():
            try:
                if self._is_leader():
                    self._turn()
                self._failing, pause_s = None, interval_s
            except Exception as error:
                self._failed(error)
                pause_s = min(max(pause_s * 2, interval_s), BACKOFF_MAX_S)
            self._wake.wait(pause_s)
            self._wake.clear()
        self._follow()

    def _is_leader(self) -> bool:
        if self._leadership is not None and not self._leadership.still_held():
            self._log.warning("another may lead now: the lock was lost")
            self._follow()
        if self._leadership is None:
            leadership = leading(self._desk.registry)
            if leadership is None:
                return False
            self._schedule = Schedule(
                self._desk.registry, self._desk.acting, self._desk.peppers, handout=self.settings.handout,
                rotations_per_turn=self.settings.rotations_per_turn, events_s=self.settings.keep_events // 1000,
                pause=self._pause,
            )  # fmt: skip
            self._leadership = leadership
            self._log.info("leading")
            self._bursts.catch_up()
        return True

    def _pause(self, pause_s: float) -> None:
        self._stopping.wait(pause_s)

    def _follow(self) -> None:
        leadership, self._leadership, self._schedule = self._leadership, None, None
        if leadership is not None:
            leadership.release()

    def _turn(self) -> None:
        assert self._schedule is not None
        began = time.monotonic()
        turn = self._schedule.turn(may_rotate=self._is_whole())
        self.metrics.turned(turn, time.monotonic() - began)
        if turn.changed or self._pending.is_due():
            self._bursts.due()
        self._compactor.look()
        self._prune()
        self._prune_versions()

    def _is_whole(self) -> bool:
        """Tell whether the registry is no older than the store: a restored one must be reconciled before it grows."""
        with self._desk.registry.read() as connection:
            return queries.state(connection).last_revision == (self._desk.store.current() or 0)

    def _prune(self) -> None:
        every_s = self.settings.prune_interval / 1000
        if not every_s or time.monotonic() - self._pruned_at < every_s:
            return
        self._pruned_at = time.monotonic()
        publisher, desk = self._desk.publisher, self._desk
        with publisher.alone():
            pruned = publisher.carry_out(
                lambda: pruning.prune(desk.home, registry=desk.registry, actor=SCHEDULE)
            )
        self._log.info("pruned", revisions=len(pruned.revisions), files=len(pruned.files), bytes=pruned.bytes)

    def _prune_versions(self) -> None:
        """Remove versions that ended long ago, once a day; their tokens are unknown from the next publication on."""
        last, keep_s = self._versions_pruned_at, self.settings.keep_versions // 1000
        if not keep_s or (last is not None and time.monotonic() - last < VERSIONS_EACH_S) or not self._is_whole():
            return
        self._versions_pruned_at = time.monotonic()
        desk = self._desk
        pruned = pruning.prune_in_parts(desk.registry, desk.acting, keep_s, self._pause)
        self._log.info("pruned versions", versions=pruned.versions, keys=pruned.keys)
        with desk.registry.read() as connection:
            state = queries.state(connection)
        # What follows has a new base: better now than with a revocation that somebody waits for.
        if pruned.versions and state.last_revision and not state.pending_changes:
            with desk.publisher.alone():
                desk.publisher.carry_out(
                    lambda: publish(desk.home, registry=desk.registry, actor=SCHEDULE, held_ok=True, rebase=True)
                )

    def _failed(self, error: Exception) -> None:
        code = error.code if isinstance(error, VerifierError) else "INTERNAL"
        self.metrics.turn_failed(code)
        if self._failing == code:
            return  # said already
        self._failing = code
        unexpected = None if isinstance(error, VerifierError) else error
        self._log.error("a turn of the schedule failed", code=code, reason=str(error), exc_info=unexpected)

    def _told_to(self) -> int | None:
        schedule = self._schedule
        return None if schedule is None else schedule.told_to

    # --- What happens ------------------------------------------------------------------------------------------------

    def _happened(self, event: Event) -> None:
        self.metrics.happened(event)
        self._propagation.happened(event)
        named = {"client_id": event.client_id, "key_id": event.key_id, "version": event.version}
        named = {name: value for name, value in named.items() if value is not None}
        self._log.info(event.kind, sequence=event.sequence, at=event.at, **named, details=dict(event.details))

    def _arrived(self, revision: int, reached: Propagation) -> None:
        if reached.behind:
            self.metrics.propagation_late()
            self._log.warning("nodes do not serve a publication", revision=revision, behind=list(reached.behind))
        elif reached.took_ms is not None:
            self.metrics.propagated(reached.took_ms / 1000)

    def _is_ready(self) -> bool:
        if self._stopping.is_set() or self._desk.stopping.is_set():
            return False
        try:
            with self._desk.registry.read() as connection:
                queries.state(connection)
        except VerifierError:
            return False
        return True

    def _stop(self, signals: Signals, number: int) -> int:
        self._log.info("draining", signal=signal.Signals(number).name, timeout_ms=self.settings.drain_timeout)
        closing = threading.Thread(target=self.close, name="closing", daemon=True)
        closing.start()
        while closing.is_alive():
            if signals.next(STOP_LOOK_S) in STOPPING:
                self._log.warning("stopping at once: a second signal came")
                os._exit(CUT_OFF)  # threads that carry out calls cannot be interrupted otherwise
        return DONE


def check_handout(folder: Path) -> None:
    """Refuse a folder for tokens that others can read or write, or that is none.

    Raises:
        InvalidInput: it is no folder, or others may enter it (``BAD_HANDOUT``).
        Unavailable: it cannot be written (``NOT_WRITABLE``).
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder", hint=f"mkdir -m 700 {folder}", code="BAD_HANDOUT")
    if folder.stat().st_mode & 0o007:
        raise InvalidInput(
            f"everybody on this machine may enter {folder}, where tokens will lie", hint=f"chmod 700 {folder}",
            code="BAD_HANDOUT",
        )  # fmt: skip
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unavailable(f"cannot write in {folder}", code="NOT_WRITABLE")


def run(home: Home, settings: ControlSettings) -> int:
    """Run a control plane until it is told to stop; return the exit code. For the main thread."""
    logs.configure(settings.log_format, settings.log_level)
    with Signals() as signals:
        control = ControlPlane(home, settings)
        try:
            control.start()
        except BaseException:
            control.close()
            raise
        return control.run(signals)


def _tls(settings: ControlSettings) -> ServerTls | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ServerTls(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
