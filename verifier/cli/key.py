"""``verifier key``: the credentials of clients."""

from typing import TYPE_CHECKING, Any

import click

from verifier.cli import _key_create, _key_import, _key_life, _key_revoke, _key_rotate, _key_safety
from verifier.cli._common import (
    Moment,
    json_option,
    pages,
    pairs,
    print_fields,
    print_json,
    print_table,
    time_text,
    words,
)
from verifier.cli._endings import ENDINGS
from verifier.cli._policy import laid_over, policy_line, policy_option, said_in
from verifier.cli._present import key_json, label_of
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, tell
from verifier.errors import InvalidInput
from verifier.vocabulary import Phase

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2, types_pb2

LISTED = 100
SHOWN = ("client_id", "key_id", "enabled", "prefix", "scopes", "allow", "metadata", "created_at", "expires_at")
COLUMNS = ("version", "phase", "issued_at", "not_before", "expires_at", "reason")
# Shown only where there is something to show: most keys are rotated seldom.
MORE_COLUMNS = ("superseded_at", "clock", "first_used_at", "last_used_at")


@click.group(epilog=ENDINGS)
def command() -> None:
    """Create, look at, change, switch, rotate, revoke and import keys."""


command.add_command(_key_create.create)
command.add_command(_key_import.import_)
command.add_command(_key_rotate.rotate)
command.add_command(_key_life.promote)
command.add_command(_key_life.retire)
command.add_command(_key_life.cancel)
command.add_command(_key_life.rollback)
command.add_command(_key_revoke.revoke)
command.add_command(_key_safety.safe_to_retire)


@command.command()
@click.argument("key_id")
@json_option
@click.pass_context
def show(ctx: click.Context, key_id: str, as_json: bool) -> None:
    """Show a key and all its versions, with their last use. Tokens are stored nowhere, so none can be shown."""
    with seam(ctx) as at:
        body = key_json(_get(at, key_id))
    if as_json:
        print_json(body)
        return
    print_fields({name: body[name] for name in SHOWN})
    print_fields({"policy": policy_line(body["effective_policy"])})
    if body["next_rotation_at"]:
        print_fields({"rotates": body["next_rotation_at"]})
    columns = (*COLUMNS, *(name for name in MORE_COLUMNS if any(version[name] for version in body["versions"])))
    print_table("versions", columns, ([version[column] for column in columns] for version in body["versions"]))


@command.command("list")
@click.option("--client", "client_id", metavar="ID", help="Only keys of this client.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N.  [default: {LISTED}; JSON: all]")
@json_option
@click.pass_context
def list_(ctx: click.Context, client_id: str | None, limit: int | None, as_json: bool) -> None:
    """List keys in the order of their making."""
    from verifier.admin.v1 import lifecycle_pb2

    request = lifecycle_pb2.ListKeysRequest(client_id=client_id or "")
    with seam(ctx) as at:
        if as_json:
            for key in pages(at.admin.lifecycle.ListKeys, request, "keys", limit):
                print_json(key_json(key))
            return
        shown = limit or LISTED
        found = list(pages(at.admin.lifecycle.ListKeys, request, "keys", shown + 1))
    print_table("keys", ("key_id", "client_id", "enabled", "scopes", "versions", "expires_at"),
                map(_row, found[:shown]))
    if len(found) > shown:
        click.echo("there are more: --limit N", err=True)


@command.command()
@click.argument("key_id")
@click.option("--scopes", multiple=True, metavar="A,B", help="All scopes it holds from now on; empty for none.")
@click.option("--allow", multiple=True, metavar="CIDR", help="All networks it may be used from; empty for anywhere.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="All its metadata; empty for none.")
@click.option("--expires", type=Moment(), metavar="TIME", help="End of its newest version: RFC 3339, or +24h.")
@click.option("--key-expires", type=Moment(), metavar="TIME", help="End of the key with all its versions.")
@click.option("--extend", is_flag=True, help="Allow an end to move later.")
@policy_option
@changing()
@click.pass_context
def update(ctx: click.Context, /, *, key_id: str, wish: Wish, **said: Any) -> None:
    """Change scopes, address rules, metadata, ends or policy of a key. What is not named stays."""
    from verifier.admin.v1 import lifecycle_pb2

    if not any(value not in (None, ()) for name, value in said.items() if name != "extend"):
        raise InvalidInput("nothing to change was named", hint="verifier key update --help", code="NOTHING_TO_DO")
    with seam(ctx) as at:
        request = lifecycle_pb2.UpdateKeyRequest(options=wish.options(at), extend=said["extend"])
        request.key.key_id = key_id
        _fill(at, request, said)
        done = at.change(at.admin.lifecycle.UpdateKey, request)
        tell(wish, [f"updated key {key_id}"], key_json(done.key), done.receipt)


def _fill(at: Seam, request: "lifecycle_pb2.UpdateKeyRequest", said: dict[str, Any]) -> None:
    """Write into a request what is to be changed."""
    paths = request.update_mask.paths
    if said["scopes"]:
        request.key.scopes.extend(words(said["scopes"]))
        paths.append("scopes")
    if said["allow"]:
        request.key.allow.extend(words(said["allow"]))
        paths.append("allow")
    if said["metadata"]:
        request.key.metadata.update(pairs([pair for pair in said["metadata"] if pair]))
        paths.append("metadata")
    if said["key_expires"] is not None:
        request.key.expires_at.seconds = said["key_expires"]
        paths.append("expires_at")
    if said["expires"] is not None:
        request.version_expires_at.seconds = said["expires"]
        paths.append("version_expires_at")
    if said["policy"]:
        present = _get(at, request.key.key_id)
        request.key.policy.CopyFrom(laid_over(present.policy, said_in(said["policy"])))
        request.etag = present.etag
        paths.append("policy")


@command.command()
@click.argument("key_id")
@changing()
@click.pass_context
def enable(ctx: click.Context, key_id: str, wish: Wish) -> None:
    """Lift the suspension of a key."""
    _switch(ctx, key_id, True, wish)


@command.command(epilog=ENDINGS)
@click.argument("key_id")
@changing()
@click.pass_context
def disable(ctx: click.Context, key_id: str, wish: Wish) -> None:
    """Suspend a key: all its versions answer KEY_DISABLED until it is enabled again."""
    _switch(ctx, key_id, False, wish)


def _switch(ctx: click.Context, key_id: str, enabled: bool, wish: Wish) -> None:
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        request = lifecycle_pb2.UpdateKeyRequest(options=wish.options(at))
        request.key.key_id, request.key.enabled = key_id, enabled
        request.update_mask.paths.append("enabled")
        done = at.change(at.admin.lifecycle.UpdateKey, request)
        word = "enabled" if enabled else "disabled"
        tell(wish, [f"key {key_id} is {word}"], key_json(done.key), done.receipt)


def _row(key: "types_pb2.Key") -> list[object]:
    versions = ", ".join(f"{version.version} {Phase(version.phase).name}" for version in key.versions)
    label = label_of(key)
    end = time_text(label.expires_at.seconds) if label.HasField("expires_at") else None
    return [key.key_id, key.client_id, "yes" if key.enabled else "no", " ".join(key.scopes) or None, versions, end]


def _get(at: Seam, key_id: str) -> "types_pb2.Key":
    from verifier.admin.v1 import lifecycle_pb2

    found: types_pb2.Key = at.admin.lifecycle.GetKey(lifecycle_pb2.GetKeyRequest(key_id=key_id)).key
    return found
