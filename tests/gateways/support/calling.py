"""A caller: requests as somebody outside would send them, headers repeated and in any form."""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What the caller got; header names in lower case, repeated ones joined."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def arrived(self) -> dict[str, Any]:
        """What the upstream says that it got."""
        assert self.status == 200, self
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def identity(self) -> dict[str, str]:
        """The identity that the upstream was told, without empty values, in any spelling that it may take for one."""
        told: dict[str, str] = {}
        for name, value in self.arrived["headers"]:
            if name.replace("_", "-").startswith("x-verifier-") and value:
                assert name not in told, f"{name} is there twice: {self.arrived}"
                told[name] = value
        return told


def by_key(token: str) -> Headers:
    """The header that a key is sent in."""
    return [("X-API-Key", token)]


def bearer(token: str) -> Headers:
    """The other one."""
    return [("Authorization", f"Bearer {token}")]


class Caller:
    """One connection to a gateway, kept alive. Use it as a context.

    Args:
        port: of the gateway.
        source: address of the loopback network to call from.
    """

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15, source_address=(source, 0))

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def call(self, path: str = "/", headers: Headers = (), method: str = "GET", body: bytes = b"") -> Answer:
        """Send a request and return the answer."""
        self._connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            self._connection.putheader(name, value)
        if body:
            self._connection.putheader("Content-Length", str(len(body)))
        self._connection.endheaders(body or None)
        answer = self._connection.getresponse()
        found: dict[str, str] = {}
        for name, value in answer.getheaders():
            found[name.lower()] = ", ".join(filter(None, [found.get(name.lower()), value]))
        return Answer(answer.status, found, answer.read())


def call(port: int, path: str = "/", headers: Headers = (), *, source: str = "127.0.0.1", **more: Any) -> Answer:
    """Send one request on a connection of its own."""
    with Caller(port, source) as caller:
        return caller.call(path, headers, **more)
