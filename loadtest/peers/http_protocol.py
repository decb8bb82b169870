"""HTTP peer: the least that Python can do, an ``asyncio.Protocol`` with httptools' parser on uvloop.

No framework, no task and no coroutine for a request: what is left is the event loop, the parser and the answer. Run it
with ``python -m loadtest.peers.http_protocol PORT``; the store comes from ``VERIFIER_STORE``.
"""

import asyncio
import sys

from loadtest.peers.http_asgi import identity, token_of

REASONS = {200: b"OK", 401: b"Unauthorized"}


class Http1(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        from httptools import HttpRequestParser

        self.parser = HttpRequestParser(self)
        self.headers: list[tuple[bytes, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; whole requests are answered meanwhile."""
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        """Answer a request."""
        status, headers = identity(token_of(self.headers))
        self.headers = []
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        self.transport.write(b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, REASONS[status], lines))  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    """Serve on the loopback interface until killed."""
    server = await asyncio.get_running_loop().create_server(Http1, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
