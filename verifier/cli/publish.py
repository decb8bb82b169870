"""``verifier publish``: make what the registry says what nodes answer."""

from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import counted
from verifier.cli._present import published_json
from verifier.cli._seam import seam
from verifier.cli._wish import Wish, changing, tell

if TYPE_CHECKING:
    from verifier.admin.v1 import publication_pb2

DROP_PERCENT = 20


@click.command()
@click.option("--allow-drop", is_flag=True, help="Publish even if many active keys are lost.")
@click.option("--drop-limit", type=click.IntRange(0, 100), default=DROP_PERCENT, show_default=True, metavar="PERCENT",
              envvar="VERIFIER_DROP_LIMIT", show_envvar=True,
              help="Share of the active keys that may be lost without --allow-drop (fewer than 10 always may).")
@click.option("--allow-clock-back", is_flag=True, help="Publish even if the clock is behind the last publication.")
@click.option("--resume", is_flag=True, help="End the hold of a rollback: publish what the registry says again.")
@click.option("--rebase", is_flag=True, help="Build a new base keyring, however small the changes are.")
@changing(publish=False)
@click.pass_context
def command(
    ctx: click.Context, *, allow_drop: bool, drop_limit: int, allow_clock_back: bool, resume: bool, rebase: bool,
    wish: Wish,
) -> None:  # fmt: skip
    """Publish clients and keys as they are now; nodes take the publication up by themselves.

    Succeeds without doing anything if nothing changed. With --wait it returns once the nodes serve it, and says how
    long the slowest took; --node asks nodes directly, which needs no control plane.

    \b
        verifier publish --wait --node 127.0.0.1:9464 --node 10.0.0.7:9464
    """
    from verifier.admin.v1 import publication_pb2

    with seam(ctx) as at:
        request = publication_pb2.PublishRequest(
            allow_drop=allow_drop, allow_clock_back=allow_clock_back, resume=resume, rebase=rebase,
            drop_limit_percent=drop_limit, options=wish.options(at),
        )  # fmt: skip
        done = at.change(at.admin.publication.Publish, request)
        publication = done.publication
        body = published_json(publication, done.difference, changed=done.changed)
        if not done.changed:
            lines = [f"nothing changed since revision {publication.revision}"]
        else:
            lines = published_lines(publication, body["difference"], dry_run=wish.dry_run)
        tell(wish, lines, body, done.receipt, quiet=True)


def published_lines(
    publication: "publication_pb2.Publication", difference: dict[str, Any], *, dry_run: bool
) -> list[str]:
    """Write for people what was published, and what that changes for callers."""
    verb = "would publish" if dry_run else "published"
    held = f", as of revision {publication.content_of}" if publication.held else ""
    lines = [f"{verb} revision {publication.revision}{held}: {counted(publication.records, 'record')}, "
             f"{publication.active:,} active"]
    parts = [f"{name} {difference[name]:,}" for name in ("gained", "lost", "widened", "extended")]
    if difference["denials_kept"]:
        parts.append(f"denials kept {difference['denials_kept']:,}")
    lines.append(f"  {', '.join(parts)}")
    if difference["lost_used_24h"]:
        lines.append(f"  of those lost, {difference['lost_used_24h']:,} were used in the last 24 hours")
    return lines
