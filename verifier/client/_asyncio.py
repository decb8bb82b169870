"""The client for asyncio; the same as :class:`verifier.client.VerifierClient`, with ``await``."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from verifier._answer import Answer
from verifier.client import _channel
from verifier.client._attempts import Settings, decoded, decoded_batch, fault_from
from verifier.client._decision import Decision, OnUnavailable, decide
from verifier.client._request import Address, Question, encode_batch
from verifier.client._retry import Retries
from verifier.client.errors import Fault, VerifierUnavailable
from verifier.errors import VerifierError


class AsyncVerifierClient:
    """Asks verifier nodes whether API keys are good. Belongs to the event loop that makes its first call.

    Arguments, errors and meaning are those of :class:`verifier.client.VerifierClient`.
    """

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
        self._credentials = _channel.channel_credentials(tls)
        self._options = _channel.merged_options(options)
        self._channels: list[grpc.aio.Channel] = []
        self._calls: dict[str, list[Callable[..., Any]]] = {}
        self._closed = False

    async def verify(
        self,
        token: str | bytes,
        required_scopes: Sequence[str] = (),
        client_address: Address | None = None,
        *,
        min_revision: int = 0,
        probe: bool = False,
        timeout_s: float | None = None,
    ) -> Answer:
        """Have one key judged; see :meth:`VerifierClient.verify`."""
        question = Question(token, required_scopes, client_address, min_revision, probe)
        return await self.ask(question, timeout_s)

    async def ask(self, question: Question, timeout_s: float | None = None) -> Answer:
        """Have one key judged; see :meth:`VerifierClient.ask`."""
        return decoded(await self._ask(_channel.VERIFY, question.to_bytes(), timeout_s))

    async def verify_batch(
        self, questions: Iterable[Question | str | bytes], timeout_s: float | None = None
    ) -> list[Answer]:
        """Have up to 1,000 keys judged at once; see :meth:`VerifierClient.verify_batch`."""
        items = list(questions)
        response = await self._ask(_channel.VERIFY_BATCH, encode_batch(items), timeout_s)
        return decoded_batch(response, len(items))

    async def decide(
        self,
        token: str | bytes,
        required_scopes: Sequence[str] = (),
        client_address: Address | None = None,
        *,
        min_revision: int = 0,
        timeout_s: float | None = None,
    ) -> Decision:
        """Ask, and say what to answer the caller; see :meth:`VerifierClient.decide`."""
        try:
            answer = await self.verify(
                token, required_scopes, client_address, min_revision=min_revision, timeout_s=timeout_s
            )
        except VerifierError as fault:
            return decide(fault, self._settings.on_unavailable)
        return decide(answer)

    async def health(self, timeout_s: float | None = None) -> bool:
        """Tell whether a node answers and serves a keyring; see :meth:`VerifierClient.health`."""
        return await self._ask(_channel.HEALTH, b"", timeout_s) == _channel.SERVING

    async def close(self) -> None:
        """Close the connections; calls in flight are cancelled."""
        self._closed = True
        channels, self._channels, self._calls = self._channels, [], {}
        for channel in channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    def _connect(self) -> None:
        """Make the channels, inside the running loop: grpcio binds them to it."""
        self._channels = [
            grpc.aio.insecure_channel(name, self._options) if self._credentials is None
            else grpc.aio.secure_channel(name, self._credentials, self._options)
            for name in self._settings.targets
        ]
        for method in (_channel.VERIFY, _channel.VERIFY_BATCH, _channel.HEALTH):
            self._calls[method] = [channel.unary_unary(method) for channel in self._channels]

    async def _ask(self, method: str, message: bytes, timeout_s: float | None) -> bytes:
        """Make a call, and again as long as that may help and there is time."""
        attempts = self._settings.attempts(timeout_s)
        while True:
            if self._closed:
                raise VerifierUnavailable("the client is closed")
            if not self._channels:
                self._connect()
            calls = self._calls[method]
            fault: Fault
            try:
                response: bytes = await calls[attempts.turn % len(calls)](message, timeout=attempts.remaining_s())
                return response
            except grpc.aio.AioRpcError as error:
                fault = fault_from(error)
            except grpc.aio.UsageError:  # closed while the call was waiting
                fault = VerifierUnavailable("the client is closed")
            await asyncio.sleep(attempts.wait_s(fault))
