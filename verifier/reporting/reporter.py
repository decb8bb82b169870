"""The reporter of one process: reports of status and of usage over one connection, each in a thread of its own."""

import re
import secrets
import socket
import time
from collections.abc import Callable

from verifier.errors import InvalidInput
from verifier.reporting.backlog import Backlog
from verifier.reporting.link import Link, Target
from verifier.reporting.source import Addresses, Observer, Serving, Tallies, UsageSource
from verifier.reporting.status import StatusReporter
from verifier.reporting.usage import UsageReporter

INTERVAL_S = 10.0
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def default_name(suffix: object) -> str:
    """Return a name for this machine and what tells several of its processes apart, such as a port."""
    ending = re.sub(r"[^A-Za-z0-9._-]", "-", f"-{suffix}")[:40]
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    return host[: 64 - len(ending)] + ending


class Reporter:
    """Tells the control plane what is served and what was verified, until it is stopped. Never holds up a call.

    Args:
        target: the control plane.
        node: name to report under, unique among the nodes of a store: 1 to 64 letters, digits, ``.``, ``_``, ``-``.
        serving: says what is served now; asked in the reporter's threads.
        source: where verifications are counted.
        interval_s: how often counts are reported.
        addresses: where calls are answered.
        observer: is told of faults; by default they are logged.

    Attributes:
        node, epoch: how this process is known.
        tallies: how many reports were taken or failed.
        backlog: what is not yet acknowledged.

    Raises:
        InvalidInput: the name cannot be used.
        Unavailable: a file of the TLS settings cannot be read.
    """

    def __init__(
        self,
        target: Target,
        node: str,
        serving: Callable[[], Serving],
        source: UsageSource,
        *,
        interval_s: float = INTERVAL_S,
        addresses: Addresses = (),
        observer: Observer | None = None,
    ) -> None:
        if NAME.fullmatch(node) is None:
            raise InvalidInput(
                f"{node!r} is not a name for a node", hint="1 to 64 letters, digits, dots, underscores and hyphens"
            )
        observer = observer or Observer()
        self.node = node
        self.epoch = secrets.randbits(64) or 1
        self.tallies = Tallies()
        self.backlog = Backlog(node, self.epoch, time.time_ns() // 1_000_000)
        self._link = Link(target)
        self._status = StatusReporter(
            self._link, node=node, epoch=self.epoch, serving=serving, addresses=tuple(addresses),
            tally=self.tallies.status, observer=observer,
        )  # fmt: skip
        self._usage = UsageReporter(
            self._link, self.backlog, source, interval_s=interval_s, tally=self.tallies.usage, observer=observer
        )

    @property
    def clock_skew_ms(self) -> int | None:
        """By how much this machine's clock is ahead of the control plane's; None before its first answer."""
        return self._status.clock_skew_ms

    def start(self) -> None:
        """Begin to report."""
        self._status.start()
        self._usage.start()

    def changed(self) -> None:
        """Report the status now: another publication is served, or one was refused."""
        self._status.changed()

    def stop(self, timeout_s: float) -> bool:
        """Report what was counted last, say that this was the last report, and end.

        Args:
            timeout_s: for both together, give or take a second.

        Returns:
            Whether all usage was acknowledged.
        """
        until = time.monotonic() + timeout_s
        delivered = self._usage.stop(timeout_s)
        self._status.stop(until - time.monotonic())
        self._link.close()
        return delivered
