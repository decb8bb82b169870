"""``verifier client``: who owns keys."""

from typing import TYPE_CHECKING, Any

import click

from verifier.cli._changing import desk, publish_option, tell
from verifier.cli._common import json_option, plain, print_json, print_table, time_text

if TYPE_CHECKING:
    from verifier.registry.facts import Client

LISTED = 100


@click.group()
def command() -> None:
    """Create, look at and switch clients: the customers, services and bots that own keys."""


@command.command()
@click.argument("client_id")
@click.option("--name", help="What people call it.")
@json_option
@click.pass_context
def create(ctx: click.Context, client_id: str, name: str | None, as_json: bool) -> None:
    """Create client CLIENT_ID: 1 to 64 letters, digits, dots, underscores and hyphens."""
    from verifier.control import directory

    with desk(ctx) as at:
        client = directory.create_client(at.registry, client_id, name=name)
    if as_json:
        print_json(_json(client))
    else:
        click.echo(f"created client {client_id}")


@command.command()
@click.argument("client_id")
@json_option
@click.pass_context
def show(ctx: click.Context, client_id: str, as_json: bool) -> None:
    """Show one client."""
    from verifier.control import directory

    with desk(ctx) as at:
        summary = directory.show_client(at.registry, client_id)
    body = {**_json(summary.client), "keys": summary.keys}
    if as_json:
        print_json(body)
        return
    for name, value in body.items():
        click.echo(f"{name + ':':12}{plain(value)}")


@command.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N.  [default: {LISTED}; JSON: all]")
@json_option
@click.pass_context
def list_(ctx: click.Context, limit: int | None, as_json: bool) -> None:
    """List clients in the order of their making."""
    from verifier.control import directory

    with desk(ctx) as at:
        if as_json:
            for client in directory.list_clients(at.registry, limit):
                print_json(_json(client))
            return
        shown = limit or LISTED
        found = list(directory.list_clients(at.registry, shown + 1))
    columns = ("client_id", "name", "enabled", "created_at")
    print_table("clients", columns, ([_json(client)[column] for column in columns] for client in found[:shown]))
    if len(found) > shown:
        click.echo("there are more: --limit N", err=True)


@command.command()
@click.argument("client_id")
@click.option("--name", required=True, help="What people call it; empty for no name.")
@json_option
@click.pass_context
def update(ctx: click.Context, client_id: str, name: str, as_json: bool) -> None:
    """Rename a client. Its id stays for life."""
    from verifier.control import directory

    with desk(ctx) as at:
        client = directory.update_client(at.registry, client_id, name=name or None)
    if as_json:
        print_json(_json(client))
    else:
        click.echo(f"updated client {client_id}")


@command.command()
@click.argument("client_id")
@publish_option
@json_option
@click.pass_context
def enable(ctx: click.Context, client_id: str, wants_publish: bool, as_json: bool) -> None:
    """Switch a client on again."""
    _switch(ctx, client_id, True, wants_publish, as_json)


@command.command()
@click.argument("client_id")
@publish_option
@json_option
@click.pass_context
def disable(ctx: click.Context, client_id: str, wants_publish: bool, as_json: bool) -> None:
    """Switch a client off: all its keys answer CLIENT_DISABLED until it is enabled again."""
    _switch(ctx, client_id, False, wants_publish, as_json)


def _switch(ctx: click.Context, client_id: str, enabled: bool, wants_publish: bool, as_json: bool) -> None:
    from verifier.control import directory

    with desk(ctx) as at:
        client = directory.set_client_enabled(at.registry, client_id, enabled)
        outcome = at.outcome(wants_publish)
    word = "enabled" if enabled else "disabled"
    tell([f"client {client_id} is {word}"], _json(client), outcome, as_json=as_json)


def _json(client: "Client") -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "enabled": client.enabled,
        "created_at": time_text(client.created_at),
    }
