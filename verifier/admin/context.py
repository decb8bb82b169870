"""Who calls, and how long he waits."""

import time
from dataclasses import dataclass

from verifier.admin.roles import Role
from verifier.control.acting import Actor, local_actor


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request.

    Attributes:
        principal: as in the audit log: ``local:USER``, ``token:NAME`` or ``cert:NAME``.
        role: what he may do.
        deadline: until when he waits for the answer, in seconds of ``time.monotonic``; None means for ever.
    """

    principal: str
    role: Role
    deadline: float | None = None

    def actor(self, request_id: str | None = None, note: str | None = None) -> Actor:
        """Return him as the one who acts."""
        return Actor(self.principal, request_id or None, note or None)

    def time_left_s(self) -> float | None:
        """Return the seconds until his deadline, None if he has none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


def local_caller() -> Caller:
    """Return the user of this process, who has the files and so may do everything."""
    return Caller(local_actor().principal, Role.ADMIN)
