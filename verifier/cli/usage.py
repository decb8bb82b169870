"""``verifier usage``: how much keys are used."""

from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Moment, json_option, print_json, print_table
from verifier.cli._present import moment
from verifier.cli._seam import seam
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.admin.v1 import usage_pb2

COLUMNS = ("day", "key_id", "version", "valid", "refused", "hours")


@click.command()
@click.argument("key_id", required=False)
@click.option("--client", "client_id", metavar="ID", help="All keys of this client, instead of one key.")
@click.option("--since", type=Moment(), metavar="TIME", help="From this day on, RFC 3339.  [30 days ago]")
@click.option("--limit", type=click.IntRange(1, 10_000), metavar="N", help="At most so many rows.  [1,000]")
@json_option
@click.pass_context
def command(
    ctx: click.Context, *, key_id: str | None, client_id: str | None, since: int | None, limit: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """How much a key, or all keys of a client, were used, by version and day, the newest first.

    Hours are those in UTC in which a call was answered VALID. What nodes have not reported yet is missing: `as_of` says
    until when all have, and silent nodes are named.
    """
    from verifier.admin.times import stamp
    from verifier.admin.v1 import lifecycle_pb2, usage_pb2

    if (key_id is None) == (client_id is None):
        raise InvalidInput("give a key or --client", hint="verifier usage KEY_ID, or verifier usage --client ID")
    request = usage_pb2.QueryUsageRequest(
        key_id=key_id or "", client_id=client_id or "", since=stamp(since), limit=limit or 0
    )
    with seam(ctx) as at:
        found = at.admin.usage.QueryUsage(request)
        if key_id is not None:
            client_id = at.admin.lifecycle.GetKey(lifecycle_pb2.GetKeyRequest(key_id=key_id)).key.client_id
    rows = [_row(day) for day in found.days]
    as_of, silent = moment(found, "as_of"), list(found.silent_nodes)
    if as_json:
        print_json({"key_id": key_id, "client_id": client_id, "as_of": as_of, "silent_nodes": silent, "days": rows})
        return
    print_table("usage", COLUMNS, ([_hours(row["hours"]) if name == "hours" else row[name] for name in COLUMNS]
                                   for row in rows))
    click.echo(f"as of {as_of}" if as_of else "no node has reported yet")
    if silent:
        click.echo(f"not reported since by {', '.join(silent)}", err=True)


def _row(day: "usage_pb2.UsageDay") -> dict[str, Any]:
    return {**{name: getattr(day, name) for name in COLUMNS[:-1]}, "hours": list(day.hours)}


def _hours(hours: list[int]) -> str:
    """Write hours for people: 0-5,9,22."""
    runs: list[list[int]] = []
    for hour in hours:
        if runs and hour == runs[-1][-1] + 1:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "-"
