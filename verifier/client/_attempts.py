"""What the two clients have in common: one call's attempts and time, faults, and answers from bytes."""

import itertools
import time
from typing import Any

from verifier._answer import Answer
from verifier.client import _channel
from verifier.client._decision import OnUnavailable, checked_policy
from verifier.client._request import split_batch
from verifier.client._retry import Retries
from verifier.client.errors import DeadlineExceeded, Fault, RevisionNotServed, VerifierUnavailable, fault_of


class Settings:
    """How a client calls: targets in turn, time, retries. Thread-safe."""

    def __init__(
        self,
        target: _channel.Targets,
        timeout_s: float,
        retries: Retries | None,
        on_unavailable: OnUnavailable,
    ) -> None:
        self.targets = _channel.checked_targets(target)
        self.timeout_s = timeout_s
        self.retries = Retries() if retries is None else retries
        self.on_unavailable = checked_policy(on_unavailable)
        self._turns = itertools.count()

    def attempts(self, timeout_s: float | None) -> "Attempts":
        """Begin one call, on the next target in turn."""
        return Attempts(self, self.timeout_s if timeout_s is None else timeout_s, next(self._turns))


class Attempts:
    """The attempts of one call, from its first try to its deadline.

    Attributes:
        turn: counts up by one for each call and attempt; the target is this modulo their number.
    """

    def __init__(self, settings: Settings, timeout_s: float, turn: int) -> None:
        self.turn = turn
        self._retries = settings.retries
        self._deadline = time.monotonic() + timeout_s
        self._failures = 0
        self._behind: RevisionNotServed | None = None  # says more than that the time was over meanwhile

    def remaining_s(self) -> float:
        """Return the time left for the next try, in seconds.

        Raises:
            DeadlineExceeded: there is none.
            RevisionNotServed: there is none, and a node was asked that does not serve the revision yet.
        """
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise self._behind or DeadlineExceeded("no time left for the call")
        return remaining_s

    def wait_s(self, fault: Fault) -> float:
        """Return how long to wait before the next try, in seconds, or raise the fault when there is to be none."""
        if isinstance(fault, RevisionNotServed):
            self._behind = fault
        else:
            self._failures += 1
        if isinstance(fault, DeadlineExceeded) and self._behind is not None:
            raise self._behind from fault
        wait_s = self._retries.wait_s(fault, self._failures, self._deadline - time.monotonic())
        if wait_s is None:
            raise fault
        self.turn += 1
        return wait_s


def fault_from(error: Any) -> Fault:
    """Turn grpcio's error (of either kind) into ours."""
    return fault_of(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))


def decoded(response: bytes) -> Answer:
    """Return the answer that the bytes hold; VerifierUnavailable when they hold none."""
    try:
        return Answer(response)
    except ValueError as error:
        raise VerifierUnavailable(f"not an answer: {error}") from None


def decoded_batch(response: bytes, count: int) -> list[Answer]:
    """Return the ``count`` answers that the bytes hold; VerifierUnavailable when they do not."""
    try:
        answers = [Answer(part) for part in split_batch(response)]
    except ValueError as error:
        raise VerifierUnavailable(f"not an answer: {error}") from None
    if len(answers) != count:
        raise VerifierUnavailable(f"{len(answers)} answers to {count} questions")
    return answers
