"""Reports of an in-process keyring: what its process serves and verifies, to the control plane."""

import os
import time

from verifier._usage import Usage
from verifier._uses import Uses
from verifier.reporting.link import Target
from verifier.reporting.reporter import Reporter, default_name
from verifier.reporting.source import Serving, WatchedCall
from verifier.serving.loading import Publication


class OwnUsage:
    """What all threads of this process have counted: they hold the GIL for each call, and so does who gathers."""

    def __init__(self) -> None:
        self.usage = Usage()

    def collect(self, timeout_s: float) -> tuple[list[Uses], bool]:
        """Return what was counted since the last time; nothing has to be waited for."""
        self.usage.ask()
        self.usage.exchange()
        return [self.usage.drain()], True

    def watched(self) -> list[WatchedCall]:
        """Return the calls of watched versions since the last time."""
        return self.usage.watched()

    @property
    def watched_lost(self) -> int:
        """Calls of watched versions that were left out since the start."""
        return self.usage.watched_lost


class KeyringReports:
    """Reports for one :class:`verifier.serving.keyring.Keyring`.

    Args:
        target: the control plane.
        node: name to report under; host name and process id when None.

    Raises:
        InvalidInput: name or target cannot be used.
        Unavailable: no address space to count in, or a file of the TLS settings cannot be read.
    """

    def __init__(self, target: Target, node: str | None) -> None:
        self._source = OwnUsage()
        self._serving = Serving()
        self._reporter = Reporter(target, node or default_name(os.getpid()), lambda: self._serving, self._source)

    def start(self) -> None:
        """Report from now on."""
        self._reporter.start()

    def count(self, publication: Publication) -> None:
        """Count what this publication's view answers; before it is asked."""
        publication.view.count_into(self._source.usage)

    def served(self, publication: Publication) -> None:
        """Report that this publication answers now."""
        self._serving = Serving(publication.manifest.revision, publication.manifest.store_id, time.time(),
                                publication.load_s)
        self._reporter.changed()

    def stop(self, timeout_s: float) -> bool:
        """Report what was counted last, say good-bye, and end; tell whether all usage was taken."""
        return self._reporter.stop(timeout_s)
