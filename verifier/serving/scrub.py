"""The scrub: a slow comparison of what is being served with the checksums that came with it.

Memory can rot and, where a keyring is served from the mapped file, so can the disk. XXH3 finds accidents, not attacks:
those are kept out by the digest at load and the sealing of the memory.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import xxhash

from verifier._map import Map
from verifier.keyring.description import KeyringDescription
from verifier.serving.loading import Publication

STEP_BYTES = 1 << 18  # hashed at once, with the GIL held: about 20 us
NICE = 19
PAUSE_MAX_S = 1.0


@dataclass
class ScrubResult:
    """What the scrub has found since the start of the process.

    Attributes:
        segments: segments compared.
        mismatches: those that were not what they should be.
        rounds: times that all that is served was compared once.
        last_round_at: when the last round ended, in seconds since 1970; None before the first.
    """

    segments: int = 0
    mismatches: int = 0
    rounds: int = 0
    last_round_at: float | None = None


class Scrubber:
    """Compares all that is served once in an interval, in a thread at nice 19.

    Args:
        serving: returns the publication being served, or None.
        damaged: is told of a segment that changed: which keyring (SHA-256), and the offset of the segment in bytes.
        interval_s: time for one round; the segments are spread over it.
    """

    def __init__(
        self, serving: Callable[[], Publication | None], damaged: Callable[[str, int], None], interval_s: float
    ) -> None:
        self._serving = serving
        self._damaged = damaged
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
        self.result = ScrubResult()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End, within a segment."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def round(self, pause_s: float | None = None) -> None:
        """Compare everything that is served once.

        Args:
            pause_s: rest after each segment; None spreads the round over the interval.
        """
        publication = self._serving()
        if publication is None:
            return
        count = sum(len(keyring.segments.xxh3_64) for keyring in publication.manifest.keyrings)
        pause_s = self._interval_s / max(1, count) if pause_s is None else pause_s
        for keyring, offset, segment_map, expected in _segments(publication):
            if self._serving() is not publication:
                return  # the next round begins with what is served by then
            found = checksum(segment_map, offset, keyring.segments.bytes)
            self.result.segments += 1
            if found != expected:
                self.result.mismatches += 1
                self._damaged(keyring.sha256, offset)
            del segment_map
            if self._rest(publication, pause_s):
                return
        self.result.rounds += 1
        self.result.last_round_at = time.time()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._stop.wait(min(self._interval_s, PAUSE_MAX_S)):
            self.round()

    def _rest(self, publication: Publication, pause_s: float) -> bool:
        """Sleep; return whether to give the round up, since it ends or something else is served."""
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0:
            if self._stop.wait(min(left_s, PAUSE_MAX_S)) or self._serving() is not publication:
                return True
        return self._stop.is_set()


def checksum(source: Map, offset: int, length: int) -> str:
    """Return the XXH3-64 of a segment as 16 hex digits, hashed in steps that do not hold the GIL for long."""
    state = xxhash.xxh3_64()
    view = memoryview(source)
    for begin in range(offset, min(offset + length, len(view)), STEP_BYTES):
        state.update(view[begin : min(begin + STEP_BYTES, offset + length)])
    return state.hexdigest()


def _segments(publication: Publication) -> Iterator[tuple[KeyringDescription, int, Map, str]]:
    for keyring, source in zip(
        publication.manifest.keyrings, (publication.view.base, publication.view.delta), strict=False
    ):
        assert source is not None
        for number, expected in enumerate(keyring.segments.xxh3_64):
            yield keyring, number * keyring.segments.bytes, source, expected
