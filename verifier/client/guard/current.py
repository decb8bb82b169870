"""Whom the code behind a guard serves, wherever it is called from."""

from contextvars import ContextVar

from verifier._answer import Answer
from verifier.client._decision import Decision
from verifier.errors import NotAuthenticated

# Under this name the decision is in ASGI scopes and WSGI environments, too.
NAME = "verifier.decision"

current: ContextVar[Decision | None] = ContextVar("verifier_decision", default=None)


class Refused(NotAuthenticated):
    """Raised behind the guard to refuse a request after all; the ASGI middleware turns it into the answer.

    Attributes:
        decision: what is answered.
        scopes: what was asked for.
    """

    def __init__(self, decision: Decision, scopes: tuple[str, ...] = ()) -> None:
        super().__init__(f"refused: {decision.code}")
        self.decision = decision
        self.scopes = scopes


def current_decision() -> Decision | None:
    """Return what was decided of the request that this code serves; None outside of one and on exempt paths."""
    return current.get()


def caller() -> Answer:
    """Return what the verifier said of the key that this code serves: client, key, scopes, metadata.

    Raises:
        NotAuthenticated: no key was verified: an exempt path, or let pass while no verifier answered.
    """
    return caller_of(current.get())


def caller_of(decision: Decision | None) -> Answer:
    """Return the answer of a decision; raises as :func:`caller`."""
    if decision is None:
        raise NotAuthenticated("no key was verified for this request")
    if decision.answer is None:
        # Let pass while no verifier answered. Who must know the caller cannot serve it: a fault, not a refusal.
        raise Refused(Decision(False, 503, "unavailable", None, decision.fault))
    return decision.answer
