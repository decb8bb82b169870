"""``verifier audit``: who did what, when."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Moment, json_option, pages, print_json, print_table
from verifier.cli._present import moment
from verifier.cli._seam import Seam, seam

if TYPE_CHECKING:
    from verifier.admin.v1 import audit_pb2

LISTED = 50
COLUMNS = ("audit_id", "at", "principal", "action", "client_id", "key_id", "version", "revision", "note")


@click.group()
def command() -> None:
    """Who did what, when: list, verify and export the audit log.

    Every change is one entry, bound by its hash to the one before.
    """


def _chosen(function: Any) -> Any:
    """Add the options that choose entries; the command gets them as ``chosen``."""
    for option in (
        click.option("--until", type=Moment(), metavar="TIME", help="Only before."),
        click.option("--since", type=Moment(), metavar="TIME", help="Only at or after: RFC 3339."),
        click.option("--principal", metavar="NAME", help="Only by this one, such as token:NAME."),
        click.option("--action", metavar="NAME", help="Only this action, such as key.rotate, or all of key."),
        click.option("--key", "key_id", metavar="ID", help="Only of this key."),
        click.option("--client", "client_id", metavar="ID", help="Only of this client."),
    ):
        function = option(function)
    return function


@command.command("list")
@_chosen
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N.  [default: {LISTED}; JSON: all]")
@json_option
@click.pass_context
def list_(ctx: click.Context, /, limit: int | None, as_json: bool, **chosen: Any) -> None:
    """List entries, the newest first; with --json, what was before and after, too."""
    with seam(ctx) as at:
        entries = _entries(at, chosen, limit if as_json else (limit or LISTED), ascending=False)
        if as_json:
            for entry in entries:
                print_json(entry)
            return
        rows = [{**entry, "note": entry["details"].get("note")} for entry in entries]
    columns = [name for name in COLUMNS if name in ("audit_id", "at", "action") or any(row[name] for row in rows)]
    print_table("audit log", columns, ([row[name] for name in columns] for row in rows))


@command.command()
@click.option("--anchor", metavar="AUDIT_ID:HASH", help="An entry that you noted elsewhere: it must still be there.")
@json_option
@click.pass_context
def verify(ctx: click.Context, anchor: str | None, as_json: bool) -> None:
    """Check the chain from the first entry to the last. Exits with 0 when it is sound, 3 when it is not.

    Note the anchor that it prints elsewhere: whoever has the database could rewrite all of the log, but not to that.
    """
    from verifier.admin.v1 import audit_pb2

    with seam(ctx) as at:
        found = at.admin.audit.VerifyLog(audit_pb2.VerifyLogRequest(anchor=anchor or ""))
    problems = list(found.problems)
    if as_json:
        print_json({"sound": found.sound, "entries": found.entries, "anchor": found.anchor or None,
                    "problems": problems})
    else:
        for problem in problems:
            click.echo(f"problem: {problem}", err=True)
        word = "is sound" if found.sound else "is NOT SOUND"
        click.echo(f"the audit log of {found.entries:,} {'entry' if found.entries == 1 else 'entries'} {word}")
        if found.anchor:
            click.echo(f"  anchor: {found.anchor}")
    if not found.sound:
        raise click.exceptions.Exit(3)


@command.command()
@_chosen
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="New file, mode 0600.  [standard output]")
@click.pass_context
def export(ctx: click.Context, /, output: Path | None, **chosen: Any) -> None:
    """Write entries as JSON lines, the oldest first, with all that their hashes are made of."""
    from verifier.control.handout import NewFile

    with seam(ctx) as at:
        entries = _entries(at, chosen, None, ascending=True)
        if output is None:
            for entry in entries:
                print_json(entry)
            return
        number = 0
        with NewFile(output) as file:
            for entry in entries:
                file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
                number += 1
            file.install()
    click.echo(f"wrote {number:,} entries to {output}", err=True)


def _entries(at: Seam, chosen: dict[str, Any], limit: int | None, *, ascending: bool) -> Iterator[dict[str, Any]]:
    from verifier.admin.times import stamp
    from verifier.admin.v1 import audit_pb2

    request = audit_pb2.ListEntriesRequest(
        client_id=chosen["client_id"] or "", key_id=chosen["key_id"] or "", action=chosen["action"] or "",
        principal=chosen["principal"] or "", since=stamp(chosen["since"]), until=stamp(chosen["until"]),
        ascending=ascending,
    )  # fmt: skip
    for entry in pages(at.admin.audit.ListEntries, request, "entries", limit):
        yield entry_json(entry)


def entry_json(entry: "audit_pb2.Entry") -> dict[str, Any]:
    """Describe an entry."""
    return {
        "audit_id": entry.audit_id,
        "at": moment(entry, "at"),
        "principal": entry.principal,
        "action": entry.action,
        "client_id": entry.client_id or None,
        "key_id": entry.key_id or None,
        "version": entry.version or None,
        "details": json.loads(entry.details_json or "{}"),
        "request_id": entry.request_id or None,
        "revision": entry.revision or None,
        "change": entry.change,
        "about_revision": entry.about_revision or None,
        "hash": entry.hash,
    }

