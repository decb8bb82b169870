"""What the commands share: options, output, and the store folder."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from verifier.errors import InvalidInput

WIDEST = 100_000
PAGE = 1000

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one object, lists as one object a line."
)


def print_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object as one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table for people, to standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(columns)
    cells = [[plain(cell) for cell in row] for row in rows]
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", show_header=any(columns)
    )
    for index, column in enumerate(columns):
        # An id or a time that is broken over two lines cannot be copied; only texts with spaces may be.
        table.add_column(column, overflow="fold", no_wrap=not any(" " in row[index] for row in cells))
    for row in cells:
        table.add_row(*map(Text, row))
    console = Console()
    # Measured as if there were room without end: a table that does not fit would be cut without a word.
    size = console.measure(table, options=console.options.update(width=WIDEST))
    console.width = max(console.width, size.minimum) if console.is_terminal else size.maximum
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        click.echo(line.rstrip())


def plain(value: object) -> str:
    """Write a value for people: yes and no for switches, a dash for nothing."""
    if value is None:
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def counted(number: int, noun: str) -> str:
    """Write ``1 key``, ``20,000 keys``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def time_text(seconds: int | None) -> str | None:
    """Write seconds since 1970 as RFC 3339 in UTC with ``Z``; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration_text(seconds: int) -> str:
    """Write a duration so that it can be read back: 90s, 15m, 24h, 30d; without loss."""
    unit = next(name for name in ("d", "h", "m", "s") if seconds % _UNITS_S[name] == 0) if seconds else "s"
    return f"{seconds // _UNITS_S[unit]}{unit}"


def joined(value: object) -> str:
    """Write a list or mapping for people in one line."""
    if isinstance(value, dict):
        return " ".join(f"{name}={plain(text)}" for name, text in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return plain(value)


def print_fields(body: Mapping[str, Any], width: int = 12) -> None:
    """Write one thing for people: a line for each field."""
    for name, value in body.items():
        click.echo(f"{name.replace('_', ' ') + ':':{width}}{joined(value)}")


def pairs(values: Sequence[str], what: str = "metadata") -> dict[str, str]:
    """Read ``k=v`` options.

    Raises:
        InvalidInput: one has no ``=``, or a name comes twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, separator, text = value.partition("=")
        if not separator or name in found:
            raise InvalidInput(
                f"{value[:40]!r} is not NAME=VALUE, or the name comes twice", code=f"BAD_{what.upper()}"
            )
        found[name] = text
    return found


def words(values: Sequence[str]) -> tuple[str, ...]:
    """Read options that may be repeated or hold several values parted by commas."""
    return tuple(word.strip() for value in values for word in value.split(",") if word.strip())


def pages(ask: Any, request: Any, field: str, limit: int | None = None) -> Iterator[Any]:
    """Yield what a list method returns, page after page.

    Args:
        ask: the method.
        request: for the first page.
        field: of the response that holds the items.
        limit: at most so many.
    """
    left = limit
    while left is None or left > 0:
        request.page_size = PAGE if left is None else min(PAGE, left)
        response = ask(request)
        yield from getattr(response, field)
        left = None if left is None else left - len(getattr(response, field))
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A duration such as ``90s``, ``15m``, ``24h`` or ``30d``, as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the duration in seconds, or fail with what is accepted."""
        if isinstance(value, int):
            return value
        number, unit = value[:-1], value[-1:]
        if not (number.isascii() and number.isdigit()) or unit not in _UNITS_S:
            self.fail(f"{value!r} is not a duration; write 90s, 15m, 24h or 30d", param, ctx)
        return int(number) * _UNITS_S[unit]


class Moment(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A point in time: RFC 3339 with an offset, or ``+24h`` from now, as whole seconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds since 1970, or fail with what is accepted."""
        if isinstance(value, int):
            return value
        if value.startswith("+"):
            later = timedelta(seconds=Duration().convert(value[1:], param, ctx))
            return int((datetime.now(UTC) + later).timestamp())
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2026-12-31T00:00:00Z or +24h", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no offset; add Z for UTC, or +02:00", param, ctx)
        return int(moment.timestamp())
