"""``verifier init``: found a home, once."""

import click

from verifier.cli._common import json_option, print_json
from verifier.cli._seam import only_local


@click.command()
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Create registry, store and secrets in the folder; where they are already, change nothing."""
    from verifier.control.founding import found

    home = only_local(ctx, "init")
    founded = found(home)
    if as_json:
        print_json({"store_id": founded.store_id, "created": founded.created, "folder": str(home.folder)})
        return
    if founded.created:
        click.echo(f"created store {founded.store_id} in {home.folder}")
        click.echo(f"  next: verifier --store {home.folder} client create NAME")
        click.echo("  keep a copy of secrets/: without the pepper no key can ever be verified again", err=True)
    else:
        click.echo(f"store {founded.store_id} is here already; nothing was changed")
