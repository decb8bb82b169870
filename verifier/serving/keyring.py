"""Verification in-process: the verdicts of a node, without a node."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Protocol

from verifier._answer import Answer
from verifier.errors import Unavailable, UnsoundPublication
from verifier.serving.following import Follower
from verifier.serving.highest import HighestServed
from verifier.serving.loading import LoadLimits, Publication
from verifier.store.home import Home
from verifier.store.layout import Store
from verifier.store.secrets import Secrets

if TYPE_CHECKING:
    from verifier.reporting.link import Target
    from verifier.serving.reports import KeyringReports

REPORT_TIMEOUT_S = 5.0  # for the last reports


class _Verify(Protocol):
    def __call__(
        self,
        token: str | bytes,
        required_scopes: Sequence[str] = (),
        client_address: str | None = None,
        *,
        probe: bool = False,
    ) -> Answer: ...


class _VerifyBatch(Protocol):
    def __call__(
        self,
        tokens: Sequence[str | bytes],
        required_scopes: Sequence[str] = (),
        client_address: str | None = None,
        *,
        probe: bool = False,
    ) -> list[Answer]: ...


class Keyring:
    """The newest publication of a store, kept up to date; open one with :meth:`open`.

    ``verify`` and ``verify_batch`` are the compiled methods of the view that is served: a swap binds new ones, so a
    call costs nothing on top of the verdict. Look them up at each call (``keyring.verify(token)``); a caller that
    keeps the method itself would go on asking the old publication.

    Safe to use from any number of threads. Open it after a fork, not before.

    Attributes:
        verify: judges one token: ``verify(token, required_scopes=(), client_address=None, *, probe=False)`` returns an
            :class:`Answer`. Raises InvalidInput when a scope or the address is not well formed, Unavailable after
            :meth:`close`.
        verify_batch: the same for a list of tokens, all at the same second and of the same publication.
    """

    verify: _Verify
    verify_batch: _VerifyBatch

    def __init__(
        self, folder: Path | str, state: Path | str | None, limits: LoadLimits | None, poll_interval_s: float
    ) -> None:
        home = Home(folder)
        self.verify = self.verify_batch = _closed
        self._revision = 0
        self._reports: KeyringReports | None = None
        self._follower = Follower(
            Store(home.store), Secrets(home.secrets), self._deliver,
            limits=limits, highest=HighestServed(None if state is None else Path(state)),
            poll_interval_s=poll_interval_s,
        )  # fmt: skip

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        watch: bool = True,
        state: Path | str | None = None,
        limits: LoadLimits | None = None,
        poll_interval_s: float = 0.1,
        report_to: "Target | str | None" = None,
        node_name: str | None = None,
        token_file: Path | str | None = None,
    ) -> "Keyring":
        """Load what is published in a store, and follow it.

        Args:
            folder: the folder given to ``--store``: it holds ``store`` and ``secrets``.
            watch: follow the store in a background thread; False serves one publication for good.
            state: where the highest revision served is kept, so that even another process never goes below it; None
                keeps it for the life of this object.
            limits: what may be loaded, and from what memory it is served.
            poll_interval_s: how often the store is looked at where the kernel does not tell of changes.
            report_to: control plane to report status and usage to, ``HOST:PORT`` or ``unix:PATH`` without TLS, or a
                :class:`verifier.reporting.link.Target` with it. Call :meth:`close`, or the last counts are lost.
            node_name: name in reports; host name and process id by default, so that processes do not share one.
            token_file: holds the token for reports, where ``report_to`` is text.

        Raises:
            InvalidInput: ``report_to`` or ``node_name`` cannot be used.
            UnsoundPublication: nothing in the store can be served; ``code`` says why.
            Unavailable: nothing was published yet, or the state folder cannot be written.
        """
        keyring = cls(folder, state, limits, poll_interval_s)
        try:
            if report_to is not None:
                keyring._reports = _make_reports(report_to, node_name, token_file)
            keyring._follower.turn()
            keyring._require()
            if keyring._reports is not None:
                keyring._reports.start()
        except BaseException:
            keyring.close()
            raise
        if watch:
            keyring._follower.start()
        return keyring

    @property
    def revision(self) -> int:
        """The revision of the publication that answers now."""
        return self._revision

    def refresh(self) -> None:
        """Look at the store now, in the background thread."""
        self._follower.reread()

    def close(self) -> None:
        """Stop following the store and let go of the keyring; its memory is freed when the last call has returned.

        With ``report_to``, the last counts are reported first, which may take some seconds when nobody listens.
        """
        self._follower.stop()
        self._follower.publication = None
        self.verify = self.verify_batch = _closed
        reports, self._reports = self._reports, None
        if reports is not None:
            reports.stop(REPORT_TIMEOUT_S)

    def __enter__(self) -> "Keyring":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, publication: Publication) -> None:
        if self._reports is not None:
            self._reports.count(publication)
        # Each call holds a reference to the view it asks, so nothing has to be waited for.
        self.verify = publication.view.verify
        self.verify_batch = publication.view.verify_batch
        self._revision = publication.manifest.revision
        if self._reports is not None:
            self._reports.served(publication)

    def _require(self) -> None:
        if self._follower.publication is not None:
            return
        refusal = self._follower.last_refusal
        if refusal is None:
            raise Unavailable("nothing was published in this store yet", hint="verifier publish")
        raise UnsoundPublication(refusal.message, code=refusal.code)


def _make_reports(report_to: "Target | str", node_name: str | None, token_file: Path | str | None) -> "KeyringReports":
    # Here, since grpcio costs a process that does not report memory and time to start.
    from verifier.reporting.link import Target
    from verifier.serving.reports import KeyringReports

    if isinstance(report_to, str):
        report_to = Target(report_to, token_file=None if token_file is None else Path(token_file))
    return KeyringReports(report_to, node_name)


def _closed(*_arguments: object, **_options: object) -> NoReturn:
    raise Unavailable("the keyring is closed")
