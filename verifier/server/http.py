"""The metrics port: ``/metrics``, ``/status``, ``/healthz`` and ``/readyz`` over HTTP/1.1.

For scrapers, probes and operators, by default on the loopback interface only. Nothing here changes anything, and
nothing tells a key.
"""

import json
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from verifier.errors import Unavailable
from verifier.server.values import split_address

REQUEST_TIMEOUT_S = 5.0
REQUESTS_MAX = 16  # at a time; more are turned away, so that a flood takes neither threads nor memory

Page = Callable[[], tuple[HTTPStatus, str, bytes]]


class MetricsServer:
    """Serves pages in threads of its own.

    Args:
        address: ``HOST:PORT``; port 0 takes any that is free.
        pages: what answers under each path.

    Raises:
        Unavailable: the address cannot be listened on.
    """

    def __init__(self, address: str, pages: dict[str, Page]) -> None:
        host, port = split_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._server = _Server(family, (host, port), pages)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {address} for metrics: {error.strerror}",
                hint="choose another port with --metrics, or --metrics off",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def address(self) -> str:
        """The address that is listened on, with the port that was taken."""
        host, port = self._server.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port."""
        if self._thread.ident is not None:
            self._server.shutdown()
        self._server.server_close()


def json_page(body: Callable[[], dict[str, Any]]) -> Page:
    """Make a page of a function that returns a JSON object."""
    return lambda: (HTTPStatus.OK, "application/json", json.dumps(body()).encode() + b"\n")


def text_page(content_type: str, body: Callable[[], bytes]) -> Page:
    """Make a page of a function that returns a text."""
    return lambda: (HTTPStatus.OK, content_type, body())


def probe_page(good: Callable[[], bool], what: Callable[[], str]) -> Page:
    """Make a page that answers 200 or 503 with one word."""
    return lambda: (
        HTTPStatus.OK if good() else HTTPStatus.SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", f"{what()}\n".encode()
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], pages: dict[str, Page]) -> None:
        self.address_family = family
        self.pages = pages
        self._room = threading.BoundedSemaphore(REQUESTS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a scraper that went away is none of the node's faults."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_TIMEOUT_S
    server_version = "verifier"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8",
                         f"not found; try {' '.join(self.server.pages)}\n".encode())
            return
        try:
            answer = page()
        except Exception as error:
            what = f"{type(error).__name__}\n".encode()
            answer = (HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", what)
        self._answer(*answer)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Log nothing per request."""
