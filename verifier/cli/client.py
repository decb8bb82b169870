"""``verifier client``: who owns keys."""

from typing import TYPE_CHECKING

import click

from verifier.cli._common import json_option, pages, print_fields, print_json, print_table
from verifier.cli._endings import ENDINGS
from verifier.cli._policy import laid_over, policy_line, policy_option, said_in
from verifier.cli._present import client_json
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, tell
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.admin.v1 import types_pb2

LISTED = 100


@click.group(epilog=ENDINGS)
def command() -> None:
    """Create, look at and switch clients: the customers, services and bots that own keys."""


@command.command()
@click.argument("client_id")
@click.option("--name", help="What people call it.")
@policy_option
@changing()
@click.pass_context
def create(ctx: click.Context, client_id: str, name: str | None, policy: tuple[str, ...], wish: Wish) -> None:
    """Create client CLIENT_ID: 1 to 64 letters, digits, dots, underscores and hyphens."""
    from verifier.admin.v1 import lifecycle_pb2, types_pb2

    with seam(ctx) as at:
        request = lifecycle_pb2.CreateClientRequest(client_id=client_id, name=name or "", options=wish.options(at))
        if policy:
            request.policy.CopyFrom(laid_over(types_pb2.Policy(), said_in(policy)))
        done = at.change(at.admin.lifecycle.CreateClient, request)
        tell(wish, [f"created client {client_id}"], client_json(done.client), done.receipt, quiet=True)


@command.command()
@click.argument("client_id")
@json_option
@click.pass_context
def show(ctx: click.Context, client_id: str, as_json: bool) -> None:
    """Show one client."""
    with seam(ctx) as at:
        client = _get(at, client_id)
    body = {**client_json(client), "keys": client.keys}
    if as_json:
        print_json(body)
        return
    print_fields({**{name: body[name] for name in ("client_id", "name", "enabled", "created_at", "keys")},
                  "policy": policy_line(body["policy"])})


@command.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N.  [default: {LISTED}; JSON: all]")
@json_option
@click.pass_context
def list_(ctx: click.Context, limit: int | None, as_json: bool) -> None:
    """List clients in the order of their making."""
    from verifier.admin.v1 import lifecycle_pb2

    request = lifecycle_pb2.ListClientsRequest()
    with seam(ctx) as at:
        if as_json:
            for client in pages(at.admin.lifecycle.ListClients, request, "clients", limit):
                print_json(client_json(client))
            return
        shown = limit or LISTED
        found = [client_json(client) for client in pages(at.admin.lifecycle.ListClients, request, "clients", shown + 1)]
    columns = ("client_id", "name", "enabled", "created_at")
    print_table("clients", columns, ([client[column] for column in columns] for client in found[:shown]))
    if len(found) > shown:
        click.echo("there are more: --limit N", err=True)


@command.command()
@click.argument("client_id")
@click.option("--name", help="What people call it; empty for no name.")
@policy_option
@changing()
@click.pass_context
def update(ctx: click.Context, client_id: str, name: str | None, policy: tuple[str, ...], wish: Wish) -> None:
    """Rename a client, or change its policy. Its id stays for life."""
    from verifier.admin.v1 import lifecycle_pb2

    if name is None and not policy:
        raise InvalidInput("nothing to change was named", hint="verifier client update --help", code="NOTHING_TO_DO")
    with seam(ctx) as at:
        request = lifecycle_pb2.UpdateClientRequest(options=wish.options(at))
        request.client.client_id = client_id
        if name is not None:
            request.client.name = name
            request.update_mask.paths.append("name")
        if policy:
            present = _get(at, client_id)
            request.client.policy.CopyFrom(laid_over(present.policy, said_in(policy)))
            request.update_mask.paths.append("policy")
            request.etag = present.etag
        done = at.change(at.admin.lifecycle.UpdateClient, request)
        tell(wish, [f"updated client {client_id}"], client_json(done.client), done.receipt, quiet=True)


@command.command()
@click.argument("client_id")
@changing()
@click.pass_context
def enable(ctx: click.Context, client_id: str, wish: Wish) -> None:
    """Switch a client on again."""
    _switch(ctx, client_id, True, wish)


@command.command(epilog=ENDINGS)
@click.argument("client_id")
@changing()
@click.pass_context
def disable(ctx: click.Context, client_id: str, wish: Wish) -> None:
    """Switch a client off: all its keys answer CLIENT_DISABLED until it is enabled again."""
    _switch(ctx, client_id, False, wish)


def _switch(ctx: click.Context, client_id: str, enabled: bool, wish: Wish) -> None:
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        request = lifecycle_pb2.UpdateClientRequest(options=wish.options(at))
        request.client.client_id, request.client.enabled = client_id, enabled
        request.update_mask.paths.append("enabled")
        done = at.change(at.admin.lifecycle.UpdateClient, request)
        word = "enabled" if enabled else "disabled"
        tell(wish, [f"client {client_id} is {word}"], client_json(done.client), done.receipt)


def _get(at: Seam, client_id: str) -> "types_pb2.Client":
    from verifier.admin.v1 import lifecycle_pb2

    found: types_pb2.Client = at.admin.lifecycle.GetClient(lifecycle_pb2.GetClientRequest(client_id=client_id)).client
    return found
