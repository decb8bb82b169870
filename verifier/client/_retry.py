"""When a failed call is made again, and after how long; never beyond the caller's deadline."""

import random
from dataclasses import dataclass

from verifier.client.errors import Fault, RevisionNotServed, VerifierUnavailable


@dataclass(frozen=True, slots=True)
class Retries:
    """How a client repeats calls. Verify changes nothing, so repeating it is always safe.

    UNAVAILABLE is repeated after a wait that doubles each time, with full jitter, so that the clients of a node that
    restarts do not come back in step. An unsatisfied ``min_revision`` is repeated after the node's own hint.

    Args:
        attempts: calls in all, the first included; 1 = never repeat. Waits for a revision do not count, only the
            deadline ends them.
        first_wait_s: the longest first wait, in seconds.
        wait_max_s: the longest wait, in seconds.
    """

    attempts: int = 4
    first_wait_s: float = 0.01
    wait_max_s: float = 0.5

    def wait_s(self, fault: Fault, failures: int, remaining_s: float) -> float | None:
        """Return how long to wait before the next call, or None to give up.

        Args:
            fault: what the last call failed with.
            failures: calls that failed for another reason than a revision not yet served, this one included.
            remaining_s: time left until the caller's deadline, in seconds.
        """
        if self.attempts <= 1:
            return None
        if isinstance(fault, RevisionNotServed):
            # Up to half as long again: callers that wait for the same revision should not all come at once.
            wait = fault.retry_after_ms / 1000 * random.uniform(1, 1.5)  # noqa: S311 (jitter, no secret)
        elif isinstance(fault, VerifierUnavailable) and fault.retryable and failures < self.attempts:
            longest = min(self.first_wait_s * 2 ** (failures - 1), self.wait_max_s)
            wait = random.uniform(0, longest)  # noqa: S311
        else:
            return None
        return wait if wait < remaining_s else None


NEVER = Retries(attempts=1)
