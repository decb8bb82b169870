"""Which scopes a request needs, by its path and method."""

import posixpath
from collections.abc import Sequence

from verifier.client.guard.access import Access

Scopes = tuple[str, ...]


class Routing:
    """The routes of an :class:`Access`, ready to be asked."""

    def __init__(self, access: Access) -> None:
        self._default: Scopes = tuple(access.scopes)
        self._exempt = tuple(_Pattern(path) for path in access.exempt)
        self._routes = tuple(
            (_Pattern(route.path), _methods(route.methods), tuple(route.scopes)) for route in access.routes
        )

    def scopes(self, path: str, method: str) -> Scopes | None:
        """Return what a key must hold for a request; None when it needs no key.

        A path that is written in a strange way (``//``, ``..``) needs what its plain form needs, and is never exempt:
        nobody knows which form the service behind goes by.
        """
        if not self._exempt and not self._routes:
            return self._default
        plain, method = normal(path), method.upper()  # as Django and Werkzeug read it
        if any(pattern.fits(plain) for pattern in self._exempt) and plain == (path.rstrip("/") or "/"):
            return None
        for pattern, methods, scopes in self._routes:
            if (not methods or method in methods) and pattern.fits(plain):
                return scopes
        return self._default


class _Pattern:
    def __init__(self, path: str) -> None:
        self._whole = path.removesuffix("/*").rstrip("/") or "/"
        self._below = None if not path.endswith("/*") else self._whole.rstrip("/") + "/"

    def fits(self, plain: str) -> bool:
        return plain == self._whole or (self._below is not None and plain.startswith(self._below))


def normal(path: str) -> str:
    """Return a path with a slash at its beginning, without dot segments, doubled slashes, and a slash at its end."""
    if path[:1] == "/" and "//" not in path and "/." not in path and not path.endswith("/"):
        return path
    return posixpath.normpath("/" + path.lstrip("/"))


def _methods(methods: Sequence[str]) -> frozenset[str]:
    upper = {method.upper() for method in methods}
    return frozenset(upper | {"HEAD"} if "GET" in upper else upper)
