"""A client of HTTP/2 that may do anything: frames written by hand, and read back one by one."""

import socket
import struct
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import hpack
import hyperframe.frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ECHO = "/verifier.test.Echo/Echo"
TIMEOUT_S = 5.0

NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 11


def message(body: bytes, flag: int = 0, length: int | None = None) -> bytes:
    """Frame a gRPC message; ``length`` lies about its length."""
    return struct.pack(">BI", flag, len(body) if length is None else length) + body


class Http2Client:
    """One connection.

    Attributes:
        received: all frames that have come, in order.
    """

    def __init__(self, address: Any, *, preface: bool = True, settings: Mapping[int, int] | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(address)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.received: list[frames.Frame] = []
        self._buffer = b""
        self._header_block = b""
        self.closed = False
        self._speaks = preface
        self._windows: dict[int, int] = {}
        if preface:
            self.raw(PREFACE)
            self.send(frames.SettingsFrame(0, settings=dict(settings or {})))

    def __enter__(self) -> "Http2Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def send(self, *some: frames.Frame) -> None:
        """Send frames in one write."""
        self.raw(b"".join(frame.serialize() for frame in some))

    def open_windows(self, stream: int) -> None:
        """Let the server send a lot, on the connection and on a stream."""
        self.send(frames.WindowUpdateFrame(0, window_increment=1 << 24),
                  frames.WindowUpdateFrame(stream, window_increment=1 << 24))

    def headers(
        self, stream: int, path: str = ECHO, *, extra: Iterable[tuple[str, str]] = (), end: bool = False,
        method: str = "POST", content_type: str | None = "application/grpc",
    ) -> frames.HeadersFrame:
        """Make the HEADERS frame of a call."""
        fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test"), ("te", "trailers")]
        if content_type is not None:
            fields.append(("content-type", content_type))
        frame = frames.HeadersFrame(stream, self.encoder.encode([*fields, *extra]), flags=["END_HEADERS"])
        if end:
            frame.flags.add("END_STREAM")
        return frame

    @staticmethod
    def data(stream: int, body: bytes, *, end: bool = True) -> frames.DataFrame:
        """Make a DATA frame."""
        return frames.DataFrame(stream, body, flags=["END_STREAM"] if end else [])

    def call(self, stream: int, body: bytes, path: str = ECHO, **options: Any) -> None:
        """Send a whole call in one write."""
        self.send(self.headers(stream, path, **options), self.data(stream, message(body)))

    def room(self, stream: int) -> int:
        """How many bytes of DATA the server's windows allow."""
        return min(self._windows.get(0, 65535), self._windows.get(stream, 65535))

    def upload(self, stream: int, body: bytes, piece: int = 16384, *, end: bool = True) -> None:
        """Send a request body in pieces, as fast as the server's windows allow."""
        sent = 0
        while sent < len(body) or not body:
            room = min(self.room(stream), piece)
            if room <= 0:
                assert self.next_frame() is not None
                continue
            part = body[sent : sent + room]
            sent += len(part)
            for window in (0, stream):
                self._windows[window] = self._windows.get(window, 65535) - len(part)
            self.send(self.data(stream, part, end=end and sent == len(body)))
            if not body:
                break

    def next_frame(self, timeout_s: float = TIMEOUT_S) -> frames.Frame | None:
        """Read a frame, acknowledging SETTINGS; None when the server has hung up."""
        while True:
            if len(self._buffer) >= 9:
                frame, length = frames.Frame.parse_frame_header(memoryview(self._buffer[:9]))
                if len(self._buffer) >= 9 + length:
                    frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
                    self._buffer = self._buffer[9 + length :]
                    return self._take(frame)
            self.socket.settimeout(timeout_s)
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                return None
            self._buffer += data

    def _take(self, frame: frames.Frame) -> frames.Frame:
        self.received.append(frame)
        if isinstance(frame, frames.HeadersFrame):
            frame.fields = dict(self.decoder.decode(frame.data))
        elif isinstance(frame, frames.SettingsFrame) and "ACK" not in frame.flags and self._speaks:
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send(frames.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, frames.WindowUpdateFrame):
            self._windows[frame.stream_id] = self._windows.get(frame.stream_id, 65535) + frame.window_increment
        return frame

    def response(self, stream: int) -> "Response":
        """Read until a stream has ended."""
        found = Response()
        for frame in list(self.received):
            found.take(frame, stream)
        while not found.ended:
            frame = self.next_frame()
            if frame is None:
                raise ConnectionError(f"hung up before stream {stream} had ended: {self.received[-3:]}")
            found.take(frame, stream)
        return found

    def until(self, kind: type[frames.Frame], timeout_s: float = TIMEOUT_S) -> Any:
        """Read until a frame of this kind comes; None when the server hangs up first."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            frame = self.next_frame(max(0.01, deadline - time.monotonic()))
            if frame is None or isinstance(frame, kind):
                return frame
        raise TimeoutError(f"no {kind.__name__}")

    def rest(self, timeout_s: float = TIMEOUT_S) -> list[frames.Frame]:
        """Read until the server hangs up, and return what came."""
        before = len(self.received)
        while self.next_frame(timeout_s) is not None:
            pass
        return self.received[before:]


class Response:
    """What came on one stream."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.reset: int | None = None

    def take(self, frame: frames.Frame, stream: int) -> None:
        """Add a frame, if it belongs to the stream."""
        if frame.stream_id != stream:
            return
        if isinstance(frame, frames.HeadersFrame):
            self.fields.update(frame.fields)
        elif isinstance(frame, frames.DataFrame):
            self.body += frame.data
        elif isinstance(frame, frames.RstStreamFrame):
            self.reset, self.ended = frame.error_code, True
        self.ended = self.ended or "END_STREAM" in frame.flags

    @property
    def status(self) -> int:
        """The gRPC status, -1 without one."""
        return int(self.fields.get("grpc-status", -1))

    @property
    def message(self) -> bytes:
        """The message, without its prefix."""
        assert self.body[:5] == message(self.body[5:])[:5]
        return self.body[5:]
