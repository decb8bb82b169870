"""WSGI middleware: no request reaches the application without a good key. For Flask, Django and all others.

    app.wsgi_app = VerifierMiddleware(app.wsgi_app, Keyring.open("/srv/verifier"))            # Flask
    application = VerifierMiddleware(get_wsgi_application(), VerifierClient("127.0.0.1:50051"))   # Django

The application finds the decision in ``environ["verifier.decision"]``, and anything it calls by
:func:`verifier.client.caller`. It never sees the key, nor a header that claims an identity.
"""

import contextvars
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from verifier._answer import Answer
from verifier.client._decision import Decision
from verifier.client.guard.access import Access
from verifier.client.guard.current import NAME, current
from verifier.client.guard.guarding import Guard, Verifies
from verifier.client.guard.presented import Place
from verifier.client.guard.retiring import headers_for, is_retiring

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

IDENTITY_PREFIX = "HTTP_X_VERIFIER_"


class VerifierMiddleware:
    """Guards a WSGI application.

    Args:
        app: the application.
        verifier: a ``VerifierClient``, the in-process ``Keyring``, or anything with such a ``verify``.
        access: how the application is guarded; by default any good key will do.

    Raises:
        InvalidInput: the verifier is for event loops.
    """

    def __init__(self, app: "WSGIApplication", verifier: Verifies, access: Access | None = None) -> None:
        self._app = app
        self._guard = Guard(verifier, access)
        self._variables = {_variable(name): name for name in self._guard.places.headers}

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Serve one request."""
        guard = self._guard
        scopes = guard.routing.scopes(_path(environ), environ["REQUEST_METHOD"])
        environ = {name: value for name, value in environ.items() if not name.startswith(IDENTITY_PREFIX)}
        if scopes is None:
            return self._app(environ, start_response)
        query = environ.get("QUERY_STRING", "").encode("latin-1")
        presented = guard.places.find(self._headers(environ), query)
        decision = guard.judge(presented, scopes, self._address(environ))
        if not decision.allowed or presented.place is None:
            return self._refuse(decision, presented.place, scopes, environ, start_response)
        self._strip(environ, query, presented.place)
        if decision.answer is not None and is_retiring(decision):
            start_response = _announcing(start_response, decision.answer, guard.access.deprecation)
        environ[NAME] = decision
        return _within(decision, self._app, environ, start_response)

    def _headers(self, environ: "WSGIEnvironment") -> Iterator[tuple[bytes, bytes]]:
        for variable, name in self._variables.items():
            if variable in environ:
                yield name, environ[variable].encode("latin-1")

    def _strip(self, environ: "WSGIEnvironment", query: bytes, place: Place) -> None:
        """Take the key out of a request that was let pass."""
        if not place.in_query:
            del environ[_variable(place.name)]
            return
        environ["QUERY_STRING"] = self._guard.places.stripped_query(query).decode("latin-1")
        for raw in ("REQUEST_URI", "RAW_URI"):  # what servers add holds the query, too
            environ.pop(raw, None)

    def _address(self, environ: "WSGIEnvironment") -> str | None:
        forwarded = []
        if self._guard.access.trusted_proxies and "HTTP_X_FORWARDED_FOR" in environ:
            forwarded = [environ["HTTP_X_FORWARDED_FOR"].encode("latin-1")]
        return self._guard.addresses.client(environ.get("REMOTE_ADDR"), forwarded)

    def _refuse(
        self, decision: Decision, place: Place | None, scopes: tuple[str, ...],
        environ: "WSGIEnvironment", start_response: "StartResponse",
    ) -> Iterable[bytes]:  # fmt: skip
        status = HTTPStatus(decision.http_status)
        body = self._guard.refusals.body(decision)
        headers = [*self._guard.refusals.headers(decision, place, scopes), ("content-length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", [(_capitalized(name), value) for name, value in headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class _Body:
    """A response that is made while it is read, each piece of it in the request's own context."""

    def __init__(self, context: contextvars.Context, parts: Iterable[bytes]) -> None:
        self._context = context
        self._parts = parts
        self._iterator = context.run(iter, parts)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            self._context.run(close)


def _within(
    decision: Decision, app: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterable[bytes]:
    """Call the application so that all that it does sees the decision."""
    context = contextvars.copy_context()
    context.run(current.set, decision)
    parts = context.run(app, environ, start_response)
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(parts, list | tuple) or (isinstance(wrapper, type) and isinstance(parts, wrapper)):
        return parts  # nothing is made any more, and servers send files by themselves
    return _Body(context, parts)


def _announcing(start_response: "StartResponse", answer: Answer, standard: bool) -> "StartResponse":
    """Return a ``start_response`` that tells the caller of the end of its key's version."""

    def announcing(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        headers = headers + [(_capitalized(name), value) for name, value in headers_for(answer, standard)]
        return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

    return announcing


def _path(environ: "WSGIEnvironment") -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1").decode("utf-8", "replace") or "/"


def _variable(name: bytes) -> str:
    return "HTTP_" + name.decode().upper().replace("-", "_")


def _capitalized(name: str) -> str:
    """Return a header's name as old HTTP/1 clients are used to it."""
    return "-".join(part.capitalize() for part in name.split("-")).replace("Www-", "WWW-").replace("Api-", "API-")
