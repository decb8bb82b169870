"""How the values of settings are written: text to value and back."""

import re
from collections.abc import Callable

OFF = "off"


def address(text: str) -> str:
    """Check an address to listen on: ``HOST:PORT``, ``[HOST]:PORT`` or ``unix:PATH``."""
    if text.startswith("unix:"):
        if len(text) == len("unix:"):
            raise ValueError("write unix:PATH")
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError("write HOST:PORT, [IPV6]:PORT or unix:PATH")
    return text


def split_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[HOST]:PORT`` into host and port."""
    host, _, port = text.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def control_address(text: str) -> str:
    """Check where a control plane is: ``HOST:PORT`` or ``unix:PATH``, with a port that is known."""
    if address(text).endswith(":0"):
        raise ValueError("write the port that it listens on")
    return text


def node_name(text: str) -> str:
    """Check the name of a node."""
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) is None:
        raise ValueError("write 1 to 64 letters, digits, dots, underscores and hyphens")
    return text


def header_name(text: str) -> str:
    """Check the name of a header that says an address, and nothing else."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", text) is None or text.lower() == "x-forwarded-for":
        raise ValueError("write a header's name; for X-Forwarded-For there is authz_forwarded_hops")
    return text


def tcp_address(text: str) -> str:
    """Check a TCP address, or ``off``."""
    if text != OFF and address(text).startswith("unix:"):
        raise ValueError("write HOST:PORT, or off")
    return text


_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """Read ``250ms``, ``30s``, ``15m``, ``24h`` or ``0`` as milliseconds."""
    if text == "0":
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None:
        raise ValueError("write a duration such as 250ms, 30s, 15m or 24h")
    return int(float(match[1]) * _UNITS_MS[match[2]])


def report_interval_ms(text: str) -> int:
    """Read how often usage is reported; what is older than 10 s counts as a gap there."""
    value_ms = duration_ms(text)
    if not 100 <= value_ms <= 10_000:
        raise ValueError("write 100ms to 10s")
    return value_ms


def duration_text(value_ms: int) -> str:
    """Write milliseconds so that :func:`duration_ms` reads them."""
    for unit in ("d", "h", "m", "s"):
        if value_ms and value_ms % _UNITS_MS[unit] == 0:
            return f"{value_ms // _UNITS_MS[unit]}{unit}"
    return f"{value_ms}ms" if value_ms else "0"


_UNITS_BYTES = {"": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def size_bytes(text: str) -> int:
    """Read ``65536``, ``64KiB``, ``16MiB`` or ``2GiB`` as bytes."""
    match = re.fullmatch(r"(\d+) ?(|KIB|MIB|GIB)", text.upper())
    if match is None:
        raise ValueError("write a size such as 65536, 64KiB, 16MiB or 2GiB")
    return int(match[1]) * _UNITS_BYTES[match[2]]


def limit_bytes(text: str) -> int:
    """Read a size that a connection or request may have; smaller, and nothing would be understood."""
    value = size_bytes(text)
    if not 1 << 10 <= value <= 1 << 30:
        raise ValueError("write a size from 1KiB to 1GiB")
    return value


def size_text(value: int) -> str:
    """Write bytes so that :func:`size_bytes` reads them."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value and value % unit == 0:
            return f"{value // unit}{name}"
    return str(value)


def number(low: int, high: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise ValueError(f"write a whole number from {low} to {high}")
        return int(text)

    return parse


def yes_no(text: str) -> bool:
    """Read ``yes`` or ``no``."""
    return one_of("yes", "no")(text) == "yes"


def one_of(*choices: str) -> Callable[[str], str]:
    """Make a parser of a fixed choice."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"choose one of {', '.join(choices)}")
        return text

    return parse
