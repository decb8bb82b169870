"""From a presented key to a decision, over whichever verifier a service was given."""

import inspect
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

from verifier._answer import Answer
from verifier.client._decision import Decision, decide
from verifier.client.guard.access import Access
from verifier.client.guard.addresses import Addresses
from verifier.client.guard.presented import Places, Presented
from verifier.client.guard.refusing import Refusals
from verifier.client.guard.routing import Routing
from verifier.errors import InvalidInput, VerifierError

MISSING_KEY: Final = Decision(False, 401, "missing_key", None, None)
MULTIPLE_KEYS: Final = Decision(False, 401, "multiple_keys", None, None)
LOG_PAUSE_S = 1.0

log = logging.getLogger("verifier.client")


class Verifies(Protocol):
    """What judges keys in threads: a ``VerifierClient``, the in-process ``Keyring``, or anything alike.

    Faults are raised as VerifierError; whatever is returned is a verdict.
    """

    def verify(
        self, token: bytes, required_scopes: Sequence[str] = (), client_address: str | None = None, /
    ) -> Answer:
        """Judge one key."""


class VerifiesAsync(Protocol):
    """What judges keys in an event loop: an ``AsyncVerifierClient``, or anything alike."""

    def verify(
        self, token: bytes, required_scopes: Sequence[str] = (), client_address: str | None = None, /
    ) -> Awaitable[Answer]:
        """Judge one key."""


class _Rules:
    """What blocking and asyncio guards share."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.places = Places(access.places)
        self.routing = Routing(access)
        self.addresses = Addresses(access.trusted_proxies)
        self.refusals = Refusals(access, self.places.first)
        self._quiet_until = 0.0

    def _unasked(self, presented: Presented) -> Decision:
        return MULTIPLE_KEYS if presented.keys else MISSING_KEY

    def _faulted(self, fault: VerifierError) -> Decision:
        """Decide without an answer, and say so in the log, once in a while: faults come by the thousand."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + LOG_PAUSE_S
            log.warning("no verdict (%s): %s", fault.code, fault.message)
        return decide(fault, self.access.on_unavailable)


class Guard(_Rules):
    """Decides in threads.

    Raises:
        InvalidInput: the verifier is for event loops, or ``access`` is not usable.
    """

    def __init__(self, verifier: Verifies, access: Access | None = None) -> None:
        super().__init__(access or Access())
        if inspect.iscoroutinefunction(verifier.verify):
            raise InvalidInput("this verifier needs an event loop", hint="use VerifierClient, or a Keyring")
        self._verifier = verifier

    def judge(self, presented: Presented, scopes: Sequence[str], address: str | None) -> Decision:
        """Decide on what a request presented."""
        if presented.keys != 1:
            return self._unasked(presented)
        try:
            # Looked up at each call: a Keyring that follows its store exchanges the method.
            return decide(self._verifier.verify(presented.token, scopes, address))
        except VerifierError as fault:
            return self._faulted(fault)


class AsyncGuard(_Rules):
    """Decides in an event loop. An in-process ``Keyring`` is called directly: it answers in microseconds.

    Raises:
        InvalidInput: the verifier would block the loop, or ``access`` is not usable.
    """

    def __init__(self, verifier: Verifies | VerifiesAsync, access: Access | None = None) -> None:
        super().__init__(access or Access())
        if getattr(verifier, "waits", False):
            raise InvalidInput("this verifier would block the event loop", hint="use AsyncVerifierClient")
        self._verifier = verifier

    async def judge(self, presented: Presented, scopes: Sequence[str], address: str | None) -> Decision:
        """Decide on what a request presented."""
        if presented.keys != 1:
            return self._unasked(presented)
        try:
            answer = self._verifier.verify(presented.token, scopes, address)
            return decide(answer if isinstance(answer, Answer) else await answer)
        except VerifierError as fault:
            return self._faulted(fault)
