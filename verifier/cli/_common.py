"""What the commands share: options, output, and the store folder."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from verifier.errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])

WIDEST = 100_000

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: one object, lists as one object a line."
)


def require_home(ctx: click.Context) -> Path:
    """Return the folder given with ``--store``, or say how to give it."""
    home = ctx.find_root().obj
    if home is None:
        raise InvalidInput("no store was named", hint="give --store DIR before the command, or set VERIFIER_STORE")
    return Path(home)


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


_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A duration such as ``90s``, ``15m``, ``24h`` or ``30d``, as whole seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the duration in seconds, or fail with what is accepted."""
        if isinstance(value, int):
            return value
        number, unit = value[:-1], value[-1:]
        if not number.isdigit() or unit not in _UNITS_S:
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
