"""Dependencies for FastAPI and helpers for Starlette endpoints behind :class:`verifier.client.asgi.VerifierMiddleware`.

    @app.post("/orders")
    def order(caller: Annotated[Answer, Depends(requires("trade"))]) -> ...:
        caller.client_id, caller.metadata

Nothing here asks the verifier: the middleware did.
"""

from collections.abc import Callable

from starlette.requests import HTTPConnection

from verifier._answer import Answer
from verifier.client._decision import Decision
from verifier.client.guard import current
from verifier.client.guard.current import NAME, Refused
from verifier.keyring.records import check_scopes

__all__ = ["caller", "decision", "requires"]


def decision(connection: HTTPConnection) -> Decision | None:
    """Return what was decided of this request or websocket; None on exempt paths."""
    found = connection.scope.get(NAME)
    return found if isinstance(found, Decision) else None


def caller(connection: HTTPConnection) -> Answer:
    """Return what the verifier said of the caller's key: client, key, scopes, metadata.

    Raises:
        NotAuthenticated: no key was verified: an exempt path, or let pass while no verifier answered.
    """
    return current.caller_of(decision(connection))


def requires(*scopes: str) -> Callable[[HTTPConnection], Answer]:
    """Return a dependency that gives the caller, and refuses with 403 one whose key lacks a scope.

    The node counts such a call as valid, since it was not told of these scopes; where counts matter, name them as
    routes of the middleware.

    Raises:
        InvalidInput: a scope is not usable.
    """
    check_scopes(scopes)

    def requiring(connection: HTTPConnection) -> Answer:
        answer = caller(connection)
        if not set(scopes) <= set(answer.scopes):
            raise Refused(Decision(False, 403, "insufficient_scope", answer, None), scopes)
        return answer

    return requiring
