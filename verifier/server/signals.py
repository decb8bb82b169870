"""Signals as values that the main thread waits for.

The wake-up descriptor makes a signal arrive even when it is delivered to another thread, and nothing but the main
thread ever acts on one.
"""

import select
import signal
import socket
import time
from types import FrameType, TracebackType

STOPPING = (signal.SIGTERM, signal.SIGINT)
WATCHED = (*STOPPING, signal.SIGHUP)


class Signals:
    """Catches SIGTERM, SIGINT and SIGHUP from entering to leaving the context. For the main thread only."""

    def __enter__(self) -> "Signals":
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _ignore) for number in WATCHED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._reader.close()
        self._writer.close()

    def next(self, timeout_s: float | None = None) -> int | None:
        """Wait for the next signal and return its number; None when the time is over first.

        Args:
            timeout_s: longest wait in seconds; None waits for ever.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([self._reader], [], [], left_s)[0]:
                return None
            number = self._reader.recv(1)[0]
            if number in WATCHED:
                return number


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number has been written to the wake-up descriptor by then."""
