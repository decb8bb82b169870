"""A node's reports to the control plane: what it is told of them by its settings, and what it tells of them."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from verifier.reporting.link import Target
from verifier.reporting.reporter import Reporter, default_name
from verifier.reporting.source import Observer, RefusedRevision, Serving
from verifier.server import logs
from verifier.server.loops import LoopGroup
from verifier.server.settings import Settings
from verifier.server.usage import LoopUsage
from verifier.serving.following import Follower, Refusal
from verifier.serving.loading import Publication
from verifier.store.manifest import time_text


def target_of(settings: Settings) -> Target:
    """Return the control plane to report to.

    Raises:
        InvalidInput: its settings do not fit together.
    """
    assert settings.report_to is not None
    return Target(
        settings.report_to, token_file=settings.report_token_file, ca=settings.report_ca, cert=settings.report_cert,
        key=settings.report_key, plaintext=settings.report_plaintext == "allow",
    )  # fmt: skip


class Reports:
    """What a node reports, from before its loops run until after they have ended.

    Args:
        settings: with ``report_to``.
        loops: that do not run yet.
        follower: knows what was refused.

    Raises:
        InvalidInput: the settings do not fit together.
        Unavailable: no address space to count in.
    """

    def __init__(self, settings: Settings, loops: LoopGroup, follower: Follower) -> None:
        self._settings = settings
        self._target = target_of(settings)
        self._source = LoopUsage(loops.loops)
        self._follower = follower
        self._served: tuple[Publication, float] | None = None
        self._reporter: Reporter | None = None

    def start(self, addresses: Sequence[str]) -> None:
        """Report from now on.

        Args:
            addresses: where calls are answered; the port of the first is part of the default name.

        Raises:
            Unavailable: a file of the TLS settings cannot be read.
        """
        name = self._settings.node_name or default_name(addresses[0].rpartition(":")[2])
        self._reporter = Reporter(
            self._target, name, self._serving, self._source, addresses=addresses, observer=LoggingObserver(),
            interval_s=self._settings.report_interval / 1000,
        )  # fmt: skip
        self._reporter.start()

    def stop(self, timeout_s: float) -> bool:
        """Report what was counted last, say good-bye, and end; tell whether all usage was taken."""
        reporter, self._reporter = self._reporter, None
        return reporter is None or reporter.stop(timeout_s)

    def served(self, publication: Publication) -> None:
        """Report a publication that is served from now on."""
        self._served = publication, time.time()
        self.changed()

    def changed(self) -> None:
        """Report the status now."""
        if self._reporter is not None:
            self._reporter.changed()

    @property
    def clock_skew_ms(self) -> int | None:
        """By how much this machine's clock is ahead of the control plane's."""
        return None if self._reporter is None else self._reporter.clock_skew_ms

    def to_json(self) -> dict[str, Any] | None:
        """Return the ``usage`` object of the status."""
        if self._reporter is None:
            return None
        backlog = self._reporter.backlog
        until_ms = backlog.reported_to_ms
        return {
            "sequence": backlog.applied, "backlog": backlog.waiting, "watched_lost": backlog.watched_lost,
            "reported_to": None if until_ms is None else time_text(until_ms // 1000),
        }  # fmt: skip

    def metrics(self) -> Iterator[Metric]:
        """Yield the metrics of the reports."""
        reporter = self._reporter
        if reporter is None:
            return
        reports = CounterMetricFamily("verifier_reports_total", "Reports to the control plane.",
                                      labels=["report", "outcome"])
        for kind, tally in (("status", reporter.tallies.status), ("usage", reporter.tallies.usage)):
            reports.add_metric([kind, "sent"], tally.sent)
            reports.add_metric([kind, "failed"], tally.failed)
        yield reports
        backlog = reporter.backlog
        yield GaugeMetricFamily("verifier_usage_backlog", "Counts of versions and watched calls not acknowledged.",
                                value=backlog.waiting)
        yield CounterMetricFamily("verifier_watched_calls_lost_total", "Watched calls left out, being too many.",
                                  value=backlog.watched_lost)
        if backlog.reported_to_ms is not None:
            yield GaugeMetricFamily("verifier_usage_reported_timestamp_seconds", "Until when usage was acknowledged.",
                                    value=backlog.reported_to_ms / 1000)
        if reporter.clock_skew_ms is not None:
            yield GaugeMetricFamily("verifier_clock_skew_seconds", "By how much this clock is ahead of the control "
                                    "plane's.", value=reporter.clock_skew_ms / 1000)

    def _serving(self) -> Serving:
        refusal = self._follower.last_refusal
        if self._served is None:
            return Serving(refusal=None if refusal is None else refused_revision(refusal))
        publication, at_s = self._served
        manifest = publication.manifest
        newer = refusal is not None and (
            refusal.at.timestamp() > at_s if refusal.revision is None else refusal.revision > manifest.revision
        )
        return Serving(
            revision=manifest.revision, store_id=manifest.store_id, served_at_s=at_s, load_s=publication.load_s,
            refusal=refused_revision(refusal) if refusal is not None and newer else None,
        )  # fmt: skip


def refused_revision(refusal: Refusal) -> RefusedRevision:
    """Return a refusal as it is reported."""
    return RefusedRevision(refusal.revision, refusal.code, refusal.message, refusal.at.timestamp())


class ReportCollector(Collector):
    """Collects the metrics of a node's reports at each scrape."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        yield from self._reports.metrics()


class LoggingObserver(Observer):
    """Logs what happens to reports."""

    def __init__(self) -> None:
        self._logger = logs.get_logger("reports")

    def failed(self, report: str, code: str, reason: str) -> None:
        """Log that reports fail."""
        self._logger.warning("reports fail", report=report, code=code, reason=reason)

    def recovered(self, report: str) -> None:
        """Log that reports are taken again."""
        self._logger.info("reports are taken again", report=report)

    def skewed(self, skew_ms: int) -> None:
        """Log that the clocks differ."""
        self._logger.warning("this clock differs from the control plane's: windows begin and end early or late",
                             clock_skew_ms=skew_ms)

    def incomplete(self) -> None:
        """Log that a loop is late."""
        self._logger.error("a loop did not hand its counts over in time; they are reported later")
