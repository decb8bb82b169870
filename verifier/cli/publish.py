"""``verifier publish``: make what the registry says what nodes answer."""

import click

from verifier.cli._common import counted, json_option, print_json, require_home
from verifier.cli._progress import progress_bar

DROP_PERCENT = 20


@click.command()
@click.option("--allow-drop", is_flag=True, help="Publish even if many active keys are lost.")
@click.option("--drop-limit", type=click.IntRange(0, 100), default=DROP_PERCENT, show_default=True, metavar="PERCENT",
              envvar="VERIFIER_DROP_LIMIT", show_envvar=True,
              help="Share of the active keys that may be lost without --allow-drop (fewer than 10 always may).")
@click.option("--allow-clock-back", is_flag=True, help="Publish even if the clock is behind the last publication.")
@json_option
@click.pass_context
def command(ctx: click.Context, allow_drop: bool, drop_limit: int, allow_clock_back: bool, as_json: bool) -> None:
    """Publish clients and keys as they are now; nodes take the publication up by themselves.

    Succeeds without doing anything if nothing changed.
    """
    from verifier.control.publishing import DropGuard, Receipt, publish
    from verifier.store.home import Home

    home = Home(require_home(ctx))
    with progress_bar("publish") as progress:
        receipt: Receipt = publish(
            home,
            allow_drop=allow_drop,
            allow_clock_back=allow_clock_back,
            guard=DropGuard(share=drop_limit / 100),
            progress=progress,
        )
    if as_json:
        print_json(receipt.to_json())
        return
    manifest, difference = receipt.manifest, receipt.difference
    if not receipt.changed:
        click.echo(f"nothing changed since revision {manifest.revision}")
        return
    click.echo(f"published revision {manifest.revision}: {counted(manifest.records, 'record')}, "
               f"{manifest.active:,} active")
    click.echo(f"  gained {difference.gained:,}, lost {difference.lost:,}, "
               f"widened {difference.widened:,}, extended {difference.extended:,}")
