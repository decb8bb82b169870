"""What a client of the data port may take: limits on connections, messages, time and misbehaviour."""

from dataclasses import dataclass, fields

from verifier.errors import InvalidInput


@dataclass(frozen=True)
class Limits:
    """Limits of one event loop and its connections. Sizes are in bytes, times in milliseconds; a time of 0 means never.

    Budgets are token buckets of one connection: `burst` at first, refilled at `per_s`. Who empties one is sent GOAWAY
    with ENHANCE_YOUR_CALM. The sources are the HTTP/2 attacks named in docs/operating.md.

    Raises:
        InvalidInput: a value is negative, or a size or count is 0.
    """

    connections_max: int = 10_000
    """Open connections, over all loops of a group; more are closed as soon as they are accepted."""
    streams_max: int = 1000
    """Calls in flight on one connection (SETTINGS_MAX_CONCURRENT_STREAMS)."""
    message_bytes_max: int = 512 * 1024
    """Largest request message; methods that need less allow less."""
    header_bytes_max: int = 8192
    """Largest block of request headers, counted as HTTP/2 does: names, values and 32 for each field."""
    header_fields_max: int = 64
    """Most fields in a block of request headers."""
    held_bytes_max: int = 768 * 1024
    """Most that one connection may make the server hold: unfinished requests and answers that it does not take."""
    head_bytes_max: int = 64 * 1024
    """Largest head of a plain HTTP request, which brings what its caller sent to the gateway."""
    head_fields_max: int = 128
    """Most fields in it; never more than 256."""
    preface_ms: int = 5_000
    """Time until the client's preface and SETTINGS must have arrived, or each of its requests in HTTP/1.1."""
    idle_ms: int = 0
    """Connections on which nothing arrived for this long are asked to reconnect."""
    age_ms: int = 0
    """Connections older than this, give or take a tenth, are asked to reconnect."""
    grace_ms: int = 30_000
    """How long calls in flight may take once a connection was asked to go."""
    stall_ms: int = 10_000
    """How long a client may leave answers untaken: by not reading, or by a closed flow-control window."""
    resets_burst: int = 800
    """Streams that may be reset, in either direction (nghttp2 itself gives up at 1,000)."""
    resets_per_s: int = 30
    control_burst: int = 10_000
    """Frames that ask for nothing: PING, SETTINGS, WINDOW_UPDATE, tiny or empty DATA. Each call gives some back."""
    control_per_s: int = 1_000

    def __post_init__(self) -> None:
        """Check the values."""
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name.endswith(("_ms", "_per_s")) else 1
            if not least <= value < 1 << 31:
                raise InvalidInput(f"limit {field.name} must be {least} to 2147483647, not {value}")
