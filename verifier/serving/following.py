"""Following a store: one thread that loads what is published and hands it to whoever answers.

A publication that must not be served changes nothing: the last good one goes on answering, and the refusal is kept
for status, metrics and logs. It is tried again when a file it depends on changes, or after a growing pause.

Small loads (a delta, a manifest that names the same base) run at normal priority, since a revocation waits for them.
Large ones run, and are freed, in a thread at nice 19: on a core that answers calls they would cost milliseconds.
"""

import contextlib
import errno
import functools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from verifier.errors import UnsoundPublication, VerifierError
from verifier.serving.highest import HighestServed
from verifier.serving.loading import (
    LoadLimits,
    Publication,
    authenticate,
    bytes_to_load,
    load_publication,
)
from verifier.serving.watching import Stamp, Watch, stamp
from verifier.store.layout import Store
from verifier.store.manifest import Manifest
from verifier.store.secrets import Secrets

SMALL_BYTES = 1 << 20
NICE = 19
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
FALL_BACK_MAX = 16

# All codes a refusal may have: a closed set, since it becomes a metric's label.
CODES = (
    "BAD_DIGEST", "BAD_SIGNATURE", "LOWER_REVISION", "EQUIVOCATION", "PEPPER_MISSING", "FORMAT", "FEATURE", "LIMIT",
    "DROP_GUARD", "RESURRECTION", "UNREADABLE", "INTERNAL",
)  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class Refusal:
    """A publication that was not served, and why.

    Attributes:
        revision: its revision; None when not even that could be read.
        code: one of :data:`CODES`: those of :class:`UnsoundPublication`, UNREADABLE (a file or secret could not be
            read) or INTERNAL (a fault of this program).
        message: the reason in one sentence.
        at: when, in UTC.
    """

    revision: int | None
    code: str
    message: str
    at: datetime

    def same_as(self, other: "Refusal | None") -> bool:
        """Tell whether both say the same, at whatever time."""
        return other is not None and (self.revision, self.code, self.message) == (
            other.revision, other.code, other.message)


class Observer:
    """What a follower tells; every method may be overridden, none may raise."""

    def served(self, publication: Publication, swap_s: float) -> None:
        """Everything answers from this publication now; handing it over took ``swap_s`` seconds."""

    def refused(self, refusal: Refusal) -> None:
        """A publication was refused, for a reason that was not told before."""

    def fell_back(self, publication: Publication, refused: int | None) -> None:
        """At start, an earlier publication is served because the newest one was refused."""

    def not_recorded(self, error: Exception) -> None:
        """The highest revision, or its tombstones, could not be written to the state folder."""


class Follower:
    """Keeps ``deliver`` supplied with the newest sound publication of a store.

    Args:
        store: the store.
        secrets: peppers and trusted keys; read again for every publication.
        deliver: takes a publication into use, and returns when nothing uses the one before any more.
        limits: what may be loaded.
        highest: the highest publication served so far.
        poll_interval_s: how often the store is looked at where the kernel does not tell.
        observer: is told what happens.

    Attributes:
        looked: whether the store was looked at, so that what it offers is served or refused.
        publication: what is served, or None.
        last_refusal: the last publication that was refused; kept after a sound one followed.
    """

    def __init__(
        self,
        store: Store,
        secrets: Secrets,
        deliver: Callable[[Publication], None],
        *,
        limits: LoadLimits | None = None,
        highest: HighestServed | None = None,
        poll_interval_s: float = 0.1,
        observer: Observer | None = None,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._deliver = deliver
        self._limits = limits or LoadLimits()
        self._highest = highest or HighestServed(None)
        self._observer = observer or Observer()
        self._watch = Watch(store.folder, poll_interval_s)
        self._stopping = False
        self._ask = False
        self._discard_base = False
        self._seen: object = None
        self._clues: tuple[Stamp | None, ...] | None = None
        self._retry_at = 0.0
        self._retry_s = RETRY_FIRST_S
        self._thread: threading.Thread | None = None
        self.looked = False
        self.publication: Publication | None = None
        self.last_refusal: Refusal | None = None

    @property
    def highest_revision(self) -> int | None:
        """The highest revision that was ever served here."""
        return None if self._highest.mark is None else self._highest.mark.revision

    def start(self) -> None:
        """Follow the store in a thread of its own, beginning with what is current now."""
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._thread.start()

    def reread(self, *, discard_base: bool = False) -> None:
        """Look at the store now, and try again what was refused. Safe from any thread and from signal handlers.

        Args:
            discard_base: load everything anew, even a base keyring that is in memory already.
        """
        self._discard_base = self._discard_base or discard_base
        self._ask = True
        self._watch.wake()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop following. What is served stays as it is."""
        self._stopping = True
        self._watch.wake()
        if self._thread is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                return
        self._watch.close()

    def turn(self) -> None:
        """Look at the store once, and load what is new. What :meth:`start` does again and again."""
        asked, self._ask = self._ask, False
        seen: object
        try:
            seen = (self._store.stamp(), self._store.current())
        except VerifierError as error:
            seen = (error.code, error.message)
        if seen == self._seen and not asked and not self._worth_another_try():
            if self._clues is None and self.publication is not None:
                self.publication.view.confirm()
            return
        self._seen = seen
        self._catch_up()
        self.looked = True

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.turn()
            except Exception as error:
                # This thread must not end: without it nothing is ever revoked here again.
                self._tell(_refusal(None, error))
            self._watch.wait()

    def _catch_up(self) -> None:
        """Serve what ``CURRENT`` names, or remember why not."""
        revision: int | None = None
        try:
            revision = self._store.current()
            if revision is None:
                if self.publication is not None:
                    raise UnsoundPublication("CURRENT is missing, although a publication is served")
                self._clues = None
                return
            self._take(revision)
            self._clues = None
            self._retry_s = RETRY_FIRST_S
        except Exception as error:
            self._refuse(_refusal(revision, error))
            if self.publication is None:
                self._fall_back(revision)

    def _take(self, revision: int) -> None:
        """Load one publication and hand it over; nothing happens when it is the one being served."""
        manifest, mark = authenticate(self._store, revision, self._secrets.trust())
        self._highest.admit(mark)
        if self.publication is not None and self.publication.mark == mark and not self._discard_base:
            self.publication.view.confirm()
            return
        self._hand_over(self._load(manifest))
        self._discard_base = False

    def _load(self, manifest: Manifest) -> Publication:
        reuse = None if self._discard_base else self.publication
        work = functools.partial(load_publication, self._store, manifest.revision, self._secrets,
                                 limits=self._limits, highest=self._highest, reuse=reuse)
        # The first load runs at normal priority: nobody is served yet.
        large = self.publication is not None and bytes_to_load(manifest, reuse) > SMALL_BYTES
        return _at_low_priority(work) if large else work()

    def _hand_over(self, publication: Publication) -> None:
        # Recorded first: a crash in between must not leave a node that forgets what it has answered from.
        try:
            self._highest.record(publication.mark)
        except (OSError, VerifierError) as error:
            self._observer.not_recorded(error)
        publication.view.confirm()
        started = time.monotonic()
        self._deliver(publication)
        swap_s = time.monotonic() - started
        old, self.publication = [self.publication], publication
        self._observer.served(publication, swap_s)
        # After the swap: a revocation does not wait for this.
        try:
            self._highest.bury(publication.buried, self._store)
        except (OSError, VerifierError) as error:
            self._observer.not_recorded(error)
        if old[0] is not None and old[0].view.base is not publication.view.base:
            _at_low_priority(old.clear)

    def _refuse(self, refusal: Refusal) -> None:
        self._clues = self._gather_clues(refusal.revision)
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)
        if self._tell(refusal):
            self._retry_s = RETRY_FIRST_S

    def _tell(self, refusal: Refusal) -> bool:
        """Keep a refusal and tell the observer, unless it was told last; return whether it was news."""
        if refusal.same_as(self.last_refusal):
            return False
        self.last_refusal = refusal
        self._observer.refused(refusal)
        return True

    def _worth_another_try(self) -> bool:
        """Tell whether a refused publication might be sound by now."""
        if self._clues is None:
            return False
        revision = None if self.last_refusal is None else self.last_refusal.revision
        return time.monotonic() >= self._retry_at or self._gather_clues(revision) != self._clues

    def _gather_clues(self, revision: int | None) -> tuple[Stamp | None, ...]:
        """Stamp the files that a refused publication depends on."""
        paths = [self._secrets.trusted_path, self._secrets.folder / "peppers"]
        if revision is not None:
            paths += [self._store.manifest_path(revision), self._store.signature_path(revision)]
            with contextlib.suppress(VerifierError, OSError):
                manifest, _ = authenticate(self._store, revision, self._secrets.trust())
                paths += [self._store.keyring_path(keyring.sha256) for keyring in manifest.keyrings]
                paths += [self._store.tombstone_path(file.sha256) for file in manifest.tombstones]
        stamps: list[Stamp | None] = []
        for path in paths:
            try:
                stamps.append(stamp(path))
            except OSError:
                stamps.append(None)
        return tuple(stamps)

    def _fall_back(self, refused: int | None) -> None:
        """Serve the newest earlier publication that is sound and not lower than what was served before.

        Publications above both ``CURRENT`` and the highest served were never made current, so they do not count.
        """
        served_before = self.highest_revision or 0
        newest = max(refused or 0, served_before)
        try:
            revisions = self._store.revisions()[::-1]
        except VerifierError:
            return
        for revision in [r for r in revisions if served_before <= r <= newest and r != refused][:FALL_BACK_MAX]:
            # The reason that counts is the newest publication's, and it has been told.
            with contextlib.suppress(Exception):
                self._take(revision)
            if self.publication is not None:
                self._observer.fell_back(self.publication, refused)
                return


def _refusal(revision: int | None, error: Exception) -> Refusal:
    if isinstance(error, VerifierError) and error.code in CODES:
        code = error.code
    elif isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        code = "LIMIT"
    elif isinstance(error, OSError | VerifierError):
        code = "UNREADABLE"
    else:
        code = "INTERNAL"
    return Refusal(revision, code, str(error) or type(error).__name__, datetime.now(UTC))


def _at_low_priority(work: Callable[[], T]) -> T:
    """Do the work in a thread at nice 19, wait for it, and return or raise what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="loader", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
