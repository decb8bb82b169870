"""Prometheus metrics of a control plane. Labels come from closed sets: never a client, a key or a node."""

import platform
import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from verifier import __version__
from verifier.control.coverage import is_expected
from verifier.control.events import Event
from verifier.control.schedule import Turn
from verifier.errors import VerifierError
from verifier.registry import nodes, queries
from verifier.registry.database import Registry

SILENT_AFTER_S = 30
PROPAGATION_BUCKETS_S = (5e-3, 10e-3, 20e-3, 30e-3, 50e-3, 75e-3, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
WAIT_BUCKETS_S = (1e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0)
TURN_BUCKETS_S = (1e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0)


class ControlMetrics:
    """The metrics of one control plane, in a registry of its own.

    Args:
        registry: whose facts are read at each scrape.
        leading: whether this process leads.
        told_to: the second up to which events of the clock are told.
    """

    def __init__(self, registry: Registry, leading: Callable[[], bool], told_to: Callable[[], int | None]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._publications = self._counter("publications", "Publications made by this process.")
        self._failures = self._counter(
            "publication_failures", "Publications that could not be made by itself, by reason.", "code")
        self._events = self._counter("events", "Events of this process, by kind.", "kind")
        self._rotations = self._counter("rotations", "Keys whose rotation was due, by what became of it.", "outcome")
        for outcome in ("rotated", "due", "postponed"):
            self._rotations.labels(outcome)
        self._retired = self._counter("retirements", "Versions retired since it was safe.")
        self._turn_failures = self._counter("turn_failures", "Turns of the schedule that failed, by reason.", "code")
        self._propagation_late = self._counter(
            "propagation_timeouts", "Publications that some node did not serve within 30 s.")
        self._propagation_s = Histogram(
            "verifier_control_propagation_seconds", "Time from a publication becoming current until all nodes served.",
            buckets=PROPAGATION_BUCKETS_S, registry=self.registry)
        self._write_wait_s = Histogram(
            "verifier_control_write_wait_seconds", "Time that acts waited for their turn to write the registry.",
            buckets=WAIT_BUCKETS_S, registry=self.registry)
        self._turn_s = Histogram("verifier_control_turn_seconds", "Duration of the schedule's turns.",
                                 buckets=TURN_BUCKETS_S, registry=self.registry)
        Gauge("verifier_build_info", "Always 1; the labels name this build.", ["version", "python"],
              registry=self.registry).labels(__version__, platform.python_version()).set(1)
        self.registry.register(_FactsCollector(registry, leading, told_to))

    def happened(self, event: Event) -> None:
        """Count an event."""
        self._events.labels(event.kind).inc()
        if event.kind == "publication.published":
            self._publications.inc()

    def turned(self, turn: Turn, took_s: float) -> None:
        """Count what a turn did."""
        self._turn_s.observe(took_s)
        rotations = turn.rotations
        for outcome in ("rotated", "due", "postponed"):
            self._rotations.labels(outcome).inc(getattr(rotations, outcome))
        self._retired.inc(turn.retired)

    def turn_failed(self, code: str) -> None:
        """Count a turn that failed."""
        self._turn_failures.labels(code).inc()

    def publication_failed(self, code: str) -> None:
        """Count a publication that failed."""
        self._failures.labels(code).inc()

    def propagated(self, took_s: float) -> None:
        """Note how long a publication took to all nodes."""
        self._propagation_s.observe(took_s)

    def propagation_late(self) -> None:
        """Count a publication that did not reach all nodes in time."""
        self._propagation_late.inc()

    def waited(self, waited_s: float) -> None:
        """Note how long an act waited."""
        self._write_wait_s.observe(waited_s)

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"verifier_control_{name}_total", text, labels, registry=self.registry)


class _FactsCollector(Collector):
    """Reads the registry at each scrape."""

    def __init__(self, registry: Registry, leading: Callable[[], bool], told_to: Callable[[], int | None]) -> None:
        self._registry = registry
        self._leading = leading
        self._told_to = told_to

    def collect(self) -> Iterator[Metric]:
        now_s = int(time.time())
        yield GaugeMetricFamily("verifier_control_leader", "1 if this process runs the schedule, 0 if it stands by.",
                                value=float(self._leading()))
        told_to = self._told_to() if self._leading() else None
        if told_to is not None:
            yield GaugeMetricFamily("verifier_control_events_behind_seconds", "Age of the last second that is told.",
                                    value=max(0, now_s - told_to))
        try:
            with self._registry.read() as connection:
                state, every = queries.state(connection), nodes.every(connection)
        except VerifierError:
            yield GaugeMetricFamily("verifier_control_registry_up", "Whether the registry can be read.", value=0)
            return
        yield GaugeMetricFamily("verifier_control_registry_up", "Whether the registry can be read.", value=1)
        yield GaugeMetricFamily("verifier_control_revision", "The last publication.", value=state.last_revision)
        yield GaugeMetricFamily("verifier_control_held", "1 while the store is held after a rollback.",
                                value=float(state.hold is not None))
        yield GaugeMetricFamily("verifier_control_pending_changes", "Changes that are recorded and not published.",
                                value=state.pending_changes)
        expected = [node for node in every if is_expected(node, now_s)]
        counts = {
            "expected": len(expected),
            "behind": sum(node.revision < state.last_revision for node in expected),
            "silent": sum(node.last_seen_at < now_s - SILENT_AFTER_S for node in expected),
        }
        family = GaugeMetricFamily("verifier_control_nodes", "Nodes, by what is known of them.", labels=["state"])
        for name, count in counts.items():
            family.add_metric([name], count)
        yield family
