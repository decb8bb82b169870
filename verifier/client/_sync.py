"""The client for threads."""

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

import grpc

from verifier._answer import Answer
from verifier.client import _channel
from verifier.client._attempts import Settings, decoded, decoded_batch, fault_from
from verifier.client._decision import Decision, OnUnavailable, decide
from verifier.client._request import Address, Question, encode_batch
from verifier.client._retry import Retries
from verifier.client.errors import Fault, VerifierUnavailable
from verifier.errors import VerifierError

_Calls = Sequence[Callable[..., bytes]]


class VerifierClient:
    """Asks verifier nodes whether API keys are good. Thread-safe: make one and share it.

    Connections are made at the first call and again after a fault. Make the client after a fork, not before.

    Args:
        target: "host:port" or "unix:path"; of several, calls go to each in turn, and a repeated call to the next.
        timeout_s: time that one call may take in all, retries included, in seconds.
        tls: False = plain text, True = TLS with the system's trusted roots, or grpcio channel credentials.
        retries: how failed calls are repeated.
        on_unavailable: what :meth:`decide` says when no node answers: "refuse", or "allow" at your own risk.
        options: more grpcio channel options; they win over the client's own.

    Raises:
        InvalidInput: a target that is none.

    Attributes:
        waits: calls wait for the network, so they have no place in an event loop.
    """

    waits = True

    def __init__(
        self,
        target: _channel.Targets,
        *,
        timeout_s: float = 0.2,
        tls: _channel.Credentials = False,
        retries: Retries | None = None,
        on_unavailable: OnUnavailable = "refuse",
        options: _channel.ChannelOptions = (),
    ) -> None:
        self._settings = Settings(target, timeout_s, retries, on_unavailable)
        credentials = _channel.channel_credentials(tls)
        merged = _channel.merged_options(options)
        self._channels = [
            grpc.insecure_channel(name, merged) if credentials is None
            else grpc.secure_channel(name, credentials, merged)
            for name in self._settings.targets
        ]
        # Bytes in, bytes out: what grpcio does not decode it cannot log.
        self._verify: _Calls = [channel.unary_unary(_channel.VERIFY) for channel in self._channels]
        self._batch: _Calls = [channel.unary_unary(_channel.VERIFY_BATCH) for channel in self._channels]
        self._health: _Calls = [channel.unary_unary(_channel.HEALTH) for channel in self._channels]

    def verify(
        self,
        token: str | bytes,
        required_scopes: Sequence[str] = (),
        client_address: Address | None = None,
        *,
        min_revision: int = 0,
        probe: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """Have one key judged.

        Args:
            token: the API key as the caller presented it.
            required_scopes: scopes that the key must hold, all of them.
            client_address: the caller's IP address, without a port; None if unknown.
            min_revision: the lowest revision that may answer; waited for within the timeout.
            probe: judge, but count nothing.
            timeout_s: for this call, in seconds.

        Raises:
            VerifierUnavailable: no node answered.
            DeadlineExceeded: not in time.
            RevisionNotServed: no node served ``min_revision`` in time.
            BadRequest: scopes or address are not well-formed.
        """
        question = Question(token, required_scopes, client_address, min_revision, probe)
        return self.ask(question, timeout_s)

    def ask(self, question: Question, timeout_s: float | None = None) -> Answer:
        """Have one key judged, as :meth:`verify`, with its conditions in one object."""
        return decoded(self._ask(self._verify, question.to_bytes(), timeout_s))

    def verify_batch(
        self, questions: Iterable[Question | str | bytes], timeout_s: float | None = None
    ) -> list[Answer]:
        """Have up to 1,000 keys judged at the same second and by the same revision; answers in the same order.

        Args:
            questions: tokens, or :class:`Question` for those with conditions.
            timeout_s: for this call, in seconds.

        Raises:
            VerifierUnavailable, DeadlineExceeded, RevisionNotServed, BadRequest: as :meth:`verify`.
        """
        items = list(questions)
        return decoded_batch(self._ask(self._batch, encode_batch(items), timeout_s), len(items))

    def decide(
        self,
        token: str | bytes,
        required_scopes: Sequence[str] = (),
        client_address: Address | None = None,
        *,
        min_revision: int = 0,
        timeout_s: float | None = None,
    ) -> Decision:
        """Ask, and say what to answer the caller: allowed or not, HTTP status, public code. Faults do not raise."""
        try:
            answer = self.verify(
                token, required_scopes, client_address, min_revision=min_revision, timeout_s=timeout_s
            )
        except VerifierError as fault:
            return decide(fault, self._settings.on_unavailable)
        return decide(answer)

    def health(self, timeout_s: float | None = None) -> bool:
        """Tell whether a node answers and serves a keyring; False while it drains or has none.

        Raises:
            VerifierUnavailable, DeadlineExceeded: no node answered.
        """
        return self._ask(self._health, b"", timeout_s) == _channel.SERVING

    def close(self) -> None:
        """Close the connections; calls in flight are cancelled."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def _ask(self, calls: _Calls, message: bytes, timeout_s: float | None) -> bytes:
        """Make a call, and again as long as that may help and there is time."""
        attempts = self._settings.attempts(timeout_s)
        while True:
            call = calls[attempts.turn % len(calls)]
            fault: Fault
            try:
                return call(message, timeout=attempts.remaining_s())
            except grpc.RpcError as error:
                fault = fault_from(error)
            except ValueError:  # grpcio's word for a closed channel
                fault = VerifierUnavailable("the client is closed")
            time.sleep(attempts.wait_s(fault))
