"""Times and durations between messages and whole seconds."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from verifier.errors import InvalidInput


def stamp(seconds: int | None) -> Timestamp | None:
    """Write seconds since 1970; None, which a message takes for "absent", stays None."""
    return None if seconds is None else Timestamp(seconds=seconds)


def stamp_ms(milliseconds: int | None) -> Timestamp | None:
    """Write milliseconds since 1970."""
    if milliseconds is None:
        return None
    return Timestamp(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def span(seconds: int | None) -> Duration | None:
    """Write a number of seconds."""
    return None if seconds is None else Duration(seconds=seconds)


def span_ms(milliseconds: int | None) -> Duration | None:
    """Write a number of milliseconds, which may be negative."""
    if milliseconds is None:
        return None
    duration = Duration()
    duration.FromMilliseconds(milliseconds)
    return duration


def moment_s(message: Message, field: str) -> int | None:
    """Read a field of type Timestamp: seconds since 1970, the fraction cut off; None when it is absent."""
    return int(getattr(message, field).seconds) if message.HasField(field) else None


def moment_ms(message: Message, field: str) -> int | None:
    """Read a field of type Timestamp: milliseconds since 1970; None when it is absent."""
    if not message.HasField(field):
        return None
    value: Timestamp = getattr(message, field)
    return value.seconds * 1000 + value.nanos // 1_000_000


def span_s(message: Message, field: str) -> int | None:
    """Read a field of type Duration in whole seconds; None when it is absent.

    Raises:
        InvalidInput: it is negative (``BAD_DURATION``).
    """
    if not message.HasField(field):
        return None
    return whole_s(getattr(message, field), field)


def whole_s(duration: Duration, name: str) -> int:
    """Return a duration in whole seconds, the fraction cut off.

    Raises:
        InvalidInput: it is negative (``BAD_DURATION``).
    """
    if duration.seconds < 0 or duration.nanos < 0:
        raise InvalidInput(f"{name} is a negative time", code="BAD_DURATION")
    return int(duration.seconds)
