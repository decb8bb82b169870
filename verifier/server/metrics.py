"""Prometheus metrics of a node, except those of its event loops (:mod:`verifier.server.loop_metrics`).

Labels come from closed sets only: verdicts, codes, methods, reasons; never a client, a key or an address.
"""

import platform
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from verifier import __version__
from verifier.server.status import DRAINING, NOT_SERVING, SERVING, STARTING, Status
from verifier.serving.following import CODES, Refusal
from verifier.serving.loading import Publication

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SWAP_BUCKETS_S = (20e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 20e-3, 0.1, 1.0, 5.0)
LOAD_BUCKETS_S = (500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The metrics of one node, in a registry of its own.

    Args:
        status: what the gauges are read from at each scrape.
    """

    def __init__(self, status: Status) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._load_s = Histogram("verifier_publication_load_seconds", "Time to load and check a publication.",
                                 buckets=LOAD_BUCKETS_S, registry=self.registry)
        self._swap_s = Histogram("verifier_swap_seconds", "Time until every loop answered from a new publication.",
                                 buckets=SWAP_BUCKETS_S, registry=self.registry)
        self._refused = Counter("verifier_publications_refused_total", "Publications refused, by reason.", ["code"],
                                registry=self.registry)
        for code in CODES:
            self._refused.labels(code)
        self._tag_ns = Gauge("verifier_tag_nanoseconds", "Time of one token's tag, measured at start.",
                             registry=self.registry)
        Gauge("verifier_build_info", "Always 1; the labels name this build.", ["version", "python"],
              registry=self.registry).labels(__version__, platform.python_version()).set(1)
        self.registry.register(_StatusCollector(status))

    def served(self, publication: Publication, swap_s: float) -> None:
        """Count a publication that was taken into use."""
        self._load_s.observe(publication.load_s)
        self._swap_s.observe(swap_s)

    def refused(self, refusal: Refusal) -> None:
        """Count a publication that was refused."""
        self._refused.labels(refusal.code).inc()

    def tag_measured(self, tag_ns: float) -> None:
        """Note how long a tag takes on this machine, in nanoseconds."""
        self._tag_ns.set(tag_ns)

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _StatusCollector(Collector):
    """Reads the gauges of what is served at each scrape."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        state = GaugeMetricFamily("verifier_state", "1 for the state that the node is in, 0 for the others.",
                                  labels=["state"])
        now = status.state
        for name in (STARTING, SERVING, NOT_SERVING, DRAINING):
            state.add_metric([name], 1.0 if name == now else 0.0)
        yield state
        yield GaugeMetricFamily("verifier_start_time_seconds", "When the node started.", value=status.started_at)
        yield from self._publication()
        yield from self._scrub()

    def _publication(self) -> Iterator[Metric]:
        status = self._status
        highest = status.highest_revision
        yield GaugeMetricFamily("verifier_highest_revision", "Highest revision ever served here; 0 if none.",
                                value=highest or 0)
        manifest = status.manifest
        yield GaugeMetricFamily("verifier_revision", "Revision that is served; 0 if none.",
                                value=0 if manifest is None else manifest.revision)
        staleness_ms = status.staleness_ms
        if manifest is None or staleness_ms is None:
            return
        yield GaugeMetricFamily("verifier_staleness_seconds", "Time since the revision was confirmed as the newest.",
                                value=staleness_ms / 1000)
        yield GaugeMetricFamily("verifier_published_timestamp_seconds", "When the revision was published.",
                                value=manifest.published_at)
        yield GaugeMetricFamily("verifier_active_keys", "Key versions that are or will be VALID for some caller.",
                                value=manifest.active)
        records = GaugeMetricFamily("verifier_keyring_records", "Records in a keyring.", labels=["kind"])
        size = GaugeMetricFamily("verifier_keyring_bytes", "Size of a keyring.", labels=["kind"])
        for kind, keyring in (("base", manifest.base), ("delta", manifest.delta)):
            records.add_metric([kind], 0 if keyring is None else keyring.records)
            size.add_metric([kind], 0 if keyring is None else keyring.bytes)
        yield records
        yield size

    def _scrub(self) -> Iterator[Metric]:
        result = self._status.scrub
        if result is None:
            return
        yield CounterMetricFamily("verifier_scrub_segments_total", "Segments compared with their checksum.",
                                  value=result.segments)
        yield CounterMetricFamily("verifier_scrub_mismatches_total", "Segments that had changed.",
                                  value=result.mismatches)
        yield CounterMetricFamily("verifier_scrub_rounds_total", "Times that all that is served was compared.",
                                  value=result.rounds)
