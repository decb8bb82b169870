"""What a node says of itself: the JSON of ``/status``, and whether it is ready."""

import math
import time
from datetime import UTC, datetime
from typing import Any, Protocol

from verifier import __version__
from verifier.keyring.description import KeyringDescription
from verifier.serving.following import Follower, Refusal
from verifier.serving.scrub import ScrubResult
from verifier.store.manifest import Manifest, time_text

STARTING, SERVING, NOT_SERVING, DRAINING = "STARTING", "SERVING", "NOT_SERVING", "DRAINING"


class Reporting(Protocol):
    """What reports to the control plane add to the status."""

    @property
    def clock_skew_ms(self) -> int | None:
        """By how much this machine's clock is ahead of the control plane's; None when it is not known."""

    def to_json(self) -> dict[str, Any] | None:
        """Return the ``usage`` object."""


class Status:
    """Gathers the status of a node from its parts.

    Args:
        follower: what is served, and what was refused.
        addresses: where calls are answered.
        max_staleness_ms: from which staleness on calls fail; 0 = never.
    """

    def __init__(self, follower: Follower, addresses: tuple[str, ...] = (), max_staleness_ms: int = 0) -> None:
        self._follower = follower
        self._max_staleness_ms = max_staleness_ms
        self._started = time.monotonic()
        self.addresses = addresses
        self.started_at = time.time()
        self.draining = False
        self.scrub: ScrubResult | None = None
        self.reports: Reporting | None = None

    @property
    def state(self) -> str:
        """One of STARTING, SERVING, NOT_SERVING (calls are answered UNAVAILABLE) and DRAINING."""
        if self.draining:
            return DRAINING
        publication = self._follower.publication
        if publication is None:
            return NOT_SERVING if self._follower.looked else STARTING
        stale = 0 < self._max_staleness_ms < publication.view.staleness_ms
        return NOT_SERVING if stale else SERVING

    @property
    def ready(self) -> bool:
        """Whether gateways should send calls here."""
        return self.state == SERVING

    @property
    def manifest(self) -> Manifest | None:
        """What is served; None when nothing is."""
        publication = self._follower.publication
        return None if publication is None else publication.manifest

    @property
    def highest_revision(self) -> int | None:
        """The highest revision that was ever served here."""
        return self._follower.highest_revision

    @property
    def staleness_ms(self) -> int | None:
        """Milliseconds since the revision was confirmed to be the newest; None when none is served."""
        publication = self._follower.publication
        return None if publication is None else publication.view.staleness_ms

    @property
    def uptime_s(self) -> float:
        """Seconds since the node started."""
        return time.monotonic() - self._started

    def to_json(self) -> dict[str, Any]:
        """Return the status object of docs/operating.md."""
        publication = self._follower.publication
        manifest = None if publication is None else publication.manifest
        return {
            "state": self.state,
            "revision": manifest and manifest.revision,
            "highest_revision": self._follower.highest_revision,
            "content_of": manifest and manifest.content_of,
            "held": manifest and manifest.held,
            "published_at": manifest and time_text(manifest.published_at),
            "records": manifest and manifest.records,
            "active": manifest and manifest.active,
            "staleness_ms": self.staleness_ms,
            "store_id": manifest and manifest.store_id,
            "last_refusal": refusal_json(self._follower.last_refusal),
            "base": _keyring_json(None if manifest is None else manifest.base),
            "delta": _keyring_json(None if manifest is None else manifest.delta),
            "loaded_in_s": publication and round(publication.load_s, 6),
            "scrub": self._scrub_json(),
            "clock_skew_ms": self.reports and self.reports.clock_skew_ms,
            "usage": self.reports and self.reports.to_json(),
            "addresses": list(self.addresses),
            "started_at": time_text(int(self.started_at)),
            "uptime_s": math.floor(self.uptime_s * 10) / 10,
            "version": __version__,
        }

    def _scrub_json(self) -> dict[str, Any] | None:
        result = self.scrub
        if result is None:
            return None
        ended = result.last_round_at
        return {"segments": result.segments, "mismatches": result.mismatches, "rounds": result.rounds,
                "last_round_at": None if ended is None else time_text(int(ended))}


def refusal_json(refusal: Refusal | None) -> dict[str, Any] | None:
    """Return the ``last_refusal`` object, or None."""
    if refusal is None:
        return None
    at = refusal.at.astimezone(UTC)
    return {"revision": refusal.revision, "code": refusal.code, "message": refusal.message, "at": _rfc3339(at)}


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _keyring_json(keyring: KeyringDescription | None) -> dict[str, Any] | None:
    return None if keyring is None else {"sha256": keyring.sha256, "records": keyring.records, "bytes": keyring.bytes}
