"""``verifier key safe-to-retire``: can a version go without anybody being refused?"""

from typing import Any

import click

from verifier.cli._common import duration_text, joined, json_option, print_json, print_table
from verifier.cli._present import retirement_json
from verifier.cli._seam import seam

EXIT_CODES = {"SAFE": 0, "NOT_SAFE": 1, "UNKNOWN": 3}
SHOWN = ("as_of", "quiet_required_s", "last_used_at", "last_used_node", "old_valid", "new_valid", "share_moved",
         "addresses")  # fmt: skip


@click.command("safe-to-retire")
@click.argument("key_id")
@click.option("--version", "number", type=click.IntRange(1), metavar="N",
              help="Which one.  [the one that was superseded last]")
@click.option("--accept-gaps", is_flag=True, help="Do not count gaps in the reports of nodes that were killed.")
@json_option
@click.pass_context
def safe_to_retire(
    ctx: click.Context, key_id: str, number: int | None, accept_gaps: bool, as_json: bool
) -> None:
    """Say whether a superseded version can be retired without refusing anybody, with the evidence.

    Exits with 0 when it is SAFE, 1 when it is NOT_SAFE, 3 when that is UNKNOWN because reports are missing.
    """
    from verifier.admin.v1 import lifecycle_pb2

    request = lifecycle_pb2.CheckRetirementRequest(key_id=key_id, version=number or 0, accept_gaps=accept_gaps)
    with seam(ctx) as at:
        body = retirement_json(at.admin.lifecycle.CheckRetirement(request), key_id)
    if as_json:
        print_json(body)
    else:
        _show(body)
    if EXIT_CODES[body["safety"]]:
        raise click.exceptions.Exit(EXIT_CODES[body["safety"]])


def _show(body: dict[str, Any]) -> None:
    why = f": {', '.join(body['reasons'])}" if body["reasons"] else ""
    click.echo(f"{body['safety']}: version {body['version']} of key {body['key_id']}{why}")
    for name in SHOWN:
        value = body[name]
        if name == "quiet_required_s" and value is not None:
            because = f" ({body['quiet_because']})" if body["quiet_because"] else ""
            click.echo(f"  {'quiet required:':18}{duration_text(value)}{because}")
        elif value not in (None, []):
            click.echo(f"  {name.replace('_', ' ') + ':':18}{joined(value)}")
    if body["nodes"]:
        columns = ("node", "from", "to", "gap_s")
        print_table("reports", columns, ([node[column] for column in columns] for node in body["nodes"]))
