"""What is reported, and who is told how reporting goes: the seams between a reporter and what runs it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from verifier._uses import Uses

WatchedCall = tuple[int, int, int, bytes]
"""Ordinal of the version, verdict, second since 1970, and the caller's address: 0, 4 or 16 bytes."""
Addresses = Sequence[str]


@dataclass(frozen=True, slots=True)
class RefusedRevision:
    """A publication that is not served.

    Attributes:
        revision: of it; None when not even that could be read.
        code: the reason.
        message: the reason in a sentence.
        at_s: when.
    """

    revision: int | None
    code: str
    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served at a moment.

    Attributes:
        revision: of the publication; 0 for none.
        store_id: that it belongs to; empty for none.
        served_at_s: since when, by the own clock.
        load_s: how long loading took.
        refusal: the last publication that was refused, if newer than the one that is served.
    """

    revision: int = 0
    store_id: str = ""
    served_at_s: float | None = None
    load_s: float | None = None
    refusal: RefusedRevision | None = None


class UsageSource(Protocol):
    """Where verifications are counted."""

    def collect(self, timeout_s: float) -> tuple[list[Uses], bool]:
        """Return what was counted since the last time, and whether that is all: the rest comes later."""

    def watched(self) -> list[WatchedCall]:
        """Return the calls of watched versions since the last time."""

    @property
    def watched_lost(self) -> int:
        """Calls of watched versions that were left out since the start."""


class Observer:
    """What a reporter tells; every method may be overridden, none may raise. As it is, it logs."""

    _log = logging.getLogger("verifier.reporting")

    def failed(self, report: str, code: str, reason: str) -> None:
        """Reports of this kind (``status`` or ``usage``) fail, for a reason that was not told before."""
        self._log.warning("reports of %s fail: %s %s", report, code, reason)

    def recovered(self, report: str) -> None:
        """Reports of this kind are taken again."""
        self._log.info("reports of %s are taken again", report)

    def skewed(self, skew_ms: int) -> None:
        """The own clock is ahead of the control plane's by so much (behind, when negative), and was not before."""
        self._log.warning("this clock is %d ms ahead of the control plane's", skew_ms)

    def incomplete(self) -> None:
        """An event loop did not hand its counts over in time; they come later."""
        self._log.warning("an event loop did not hand over its counts of usage in time")


@dataclass(slots=True)
class Tally:
    """Reports of one kind, for metrics: how many were taken, and how many attempts failed."""

    sent: int = 0
    failed: int = 0


@dataclass(slots=True)
class Tallies:
    """Both kinds of reports."""

    status: Tally = field(default_factory=Tally)
    usage: Tally = field(default_factory=Tally)
