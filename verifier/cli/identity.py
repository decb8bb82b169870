"""``verifier identity``: who may use the operators' API."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Moment, json_option, print_json, print_table, time_text
from verifier.cli._seam import only_local
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.admin.identities import NewIdentity
    from verifier.registry.identities import Identity

ROLES = ("viewer", "operator", "publisher", "admin", "node")
COLUMNS = ("name", "role", "enabled", "certificate_name", "created_at", "expires_at")

output_option = click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                             help="New file for the token, mode 0600, instead of showing it.")
expires_option = click.option("--expires", type=Moment(), metavar="TIME",
                              help="Refused from then on: RFC 3339, or +24h.  [never]")


@click.group()
def command() -> None:
    """Who may use the operators' API, and in which role.

    \b
      viewer      looks at everything, changes nothing
      operator    changes clients and keys
      publisher   publishes and rolls back
      admin       everything, reinstating and moving ends later included
      node        reports what it serves and how much keys are used

    Works on the folder itself: over the operators' API nobody can make himself an identity.
    """


@command.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="What it is there for.")
@click.option("--certificate-name", metavar="NAME",
              help="Known by a client certificate with this common or alternative name, instead of by a token.")
@expires_option
@output_option
@json_option
@click.pass_context
def create(
    ctx: click.Context, *, name: str, role: str, certificate_name: str | None, expires: int | None,
    output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Create an identity and show its token, once. Only the token's SHA-256 is stored."""
    from verifier.admin import identities

    def make(act: Any) -> "NewIdentity":
        return identities.create(act, name, role, certificate_name=certificate_name, expires_at=expires)

    _hand_out(ctx, make, f"created identity {name}", output, as_json=as_json)


@command.command()
@click.argument("name")
@expires_option
@output_option
@json_option
@click.pass_context
def token(ctx: click.Context, *, name: str, expires: int | None, output: Path | None, as_json: bool) -> None:
    """Give an identity a new token; the old one is refused from the next call on."""
    from verifier.admin import identities

    def make(act: Any) -> "NewIdentity":
        return identities.renew(act, name, expires_at=expires)

    _hand_out(ctx, make, f"identity {name} has a new token", output, as_json=as_json)


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List the identities by name."""
    from verifier.registry import identities
    from verifier.registry.database import open_registry

    with open_registry(only_local(ctx, "identity list")) as registry, registry.read() as connection:
        found = [_json(one) for one in identities.every(connection)]
    if as_json:
        for body in found:
            print_json(body)
        return
    print_table("identities", COLUMNS, ([body[name] for name in COLUMNS] for body in found))


@command.command()
@click.argument("name")
@json_option
@click.pass_context
def enable(ctx: click.Context, name: str, as_json: bool) -> None:
    """Accept an identity again."""
    _switch(ctx, name, True, as_json=as_json)


@command.command()
@click.argument("name")
@json_option
@click.pass_context
def disable(ctx: click.Context, name: str, as_json: bool) -> None:
    """Refuse an identity from the next call on."""
    _switch(ctx, name, False, as_json=as_json)


def _switch(ctx: click.Context, name: str, enabled: bool, *, as_json: bool) -> None:
    from verifier.admin import identities
    from verifier.control.acting import acting
    from verifier.registry.database import open_registry

    with open_registry(only_local(ctx, "identity")) as registry, acting(registry) as act:
        found = identities.set_enabled(act, name, enabled)
    if as_json:
        print_json(_json(found))
    else:
        click.echo(f"identity {name} is {'enabled' if enabled else 'disabled'}")


def _hand_out(ctx: click.Context, make: Any, line: str, output: Path | None, *, as_json: bool) -> None:
    """Make a token, and hand it out before what makes it good is committed."""
    from contextlib import ExitStack

    from verifier.control.acting import acting
    from verifier.control.handout import NewFile
    from verifier.registry.database import open_registry

    with ExitStack() as stack:
        registry = stack.enter_context(open_registry(only_local(ctx, "identity")))
        file = None if output is None else stack.enter_context(NewFile(output))
        with acting(registry) as act:
            made: NewIdentity = make(act)
            if file is not None:
                if made.token is None:
                    raise InvalidInput("an identity known by its certificate has no token for a file")
                file.write(f"{made.token}\n".encode("ascii"))
                file.install()
    shown = None if output is not None else made.token
    if as_json:
        print_json({**_json(made.identity), "token": shown})
        return
    click.echo(f"{line} ({made.identity.role})")
    if shown is not None:
        click.echo(f"token: {shown}")
        click.echo("  keep the token now: it is not stored and cannot be shown again", err=True)
    elif output is not None:
        click.echo(f"token: in {output}")


def _json(identity: "Identity") -> dict[str, Any]:
    return {
        "name": identity.name,
        "role": identity.role,
        "certificate_name": identity.certificate_name,
        "enabled": identity.disabled_at is None,
        "expired": not identity.is_good(int(time.time())) and identity.disabled_at is None,
        "created_at": time_text(identity.created_at),
        "expires_at": time_text(identity.expires_at),
        "disabled_at": time_text(identity.disabled_at),
    }
