"""Structured logs on standard error, as text for people or JSON for machines. Never a token.

No code passes a token to a log; the last processor is the belt to these braces: it blanks whatever has a token's shape
and checksum.
"""

import logging
import re
import sys
import zlib
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

TOKEN_SHAPE = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)*_[0-9A-Za-z]{33,}\b")
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
REDACTED = "[redacted]"


def configure(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    Args:
        log_format: ``text`` or ``json``.
        level: least level that is written: debug, info, warning or error.
        stream: where to write; standard error by default.
    """
    target = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            redact,
            _renderer(log_format, target),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    # Libraries that use the standard library's logging speak through the same door.
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)


def get_logger(name: str) -> Any:
    """Return a logger; ``name`` says which part of the node speaks."""
    return structlog.get_logger(part=name)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank tokens in every value of a log line."""
    for key, value in event.items():
        event[key] = _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return TOKEN_SHAPE.sub(lambda match: REDACTED if _is_token(match[0]) else match[0], value)
    if isinstance(value, bytes):
        return _redacted(value.decode("ascii", "replace"))
    if isinstance(value, Mapping):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


def _is_token(text: str) -> bool:
    remainder, digits = zlib.crc32(text[:-6].encode()), ""
    for _ in range(6):
        remainder, digit = divmod(remainder, 62)
        digits = DIGITS[digit] + digits
    return digits == text[-6:]


def _renderer(log_format: str, stream: TextIO) -> Any:
    if log_format == "json":
        return structlog.processors.JSONRenderer(sort_keys=True, default=str)
    return structlog.dev.ConsoleRenderer(colors=stream.isatty())


class _Bridge(logging.Handler):
    """Hands records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never raise into the code that logs."""
        try:
            logger = structlog.get_logger(part=record.name)
            logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
        except Exception:
            self.handleError(record)
