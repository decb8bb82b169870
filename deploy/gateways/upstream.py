"""An upstream to try gateways with: answers every request with what arrived, as JSON.

    python3 upstream.py [PORT]

``/status/CODE`` is answered with that code. Only for trying out: it answers with all headers, keys included.
"""

import json
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Echo(BaseHTTPRequestHandler):
    """Answer with method, path, headers (names in lower case, in order) and the length of the body."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        """Read the body and send what arrived."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        arrived = {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body_bytes": len(body),
        }
        self.arrived(arrived)
        text = json.dumps(arrived).encode()
        parts = self.path.split("/")
        self.send_response(int(parts[2][:3]) if parts[1] == "status" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def arrived(self, request: dict[str, Any]) -> None:
        """Note a request; for tests to override."""

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815


class Upstream(ThreadingHTTPServer):
    """The server; one thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet of gateways that hang up; tell of anything else."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        Upstream(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Echo).serve_forever()
