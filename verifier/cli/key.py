"""``verifier key``: the credentials of clients."""

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from verifier.cli import _key_create, _key_import
from verifier.cli._changing import desk, key_json, pairs, publish_option, tell, words
from verifier.cli._common import Moment, json_option, plain, print_json, print_table, time_text
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.control.keys import KeyUpdate
    from verifier.registry.facts import Key

LISTED = 100
REASONS = ("unspecified", "key_compromise", "affiliation_changed", "superseded", "cessation_of_operation",
           "privilege_withdrawn")  # fmt: skip


@click.group()
def command() -> None:
    """Create, look at, change, switch, revoke and import keys."""


command.add_command(_key_create.create)
command.add_command(_key_import.import_)


@command.command()
@click.argument("key_id")
@json_option
@click.pass_context
def show(ctx: click.Context, key_id: str, as_json: bool) -> None:
    """Show a key and all its versions. Tokens are stored nowhere, so none can be shown."""
    from verifier.control import directory

    with desk(ctx) as at:
        key = directory.show_key(at.registry, key_id)
    body = key_json(key, int(time.time()))
    if as_json:
        print_json(body)
        return
    for name, value in body.items():
        if name != "versions":
            click.echo(f"{name + ':':12}{_plain(value)}")
    columns = ("version", "phase", "issued_at", "not_before", "expires_at", "reason")
    print_table("versions", columns, ([version[column] for column in columns] for version in body["versions"]))


@command.command("list")
@click.option("--client", "client_id", metavar="ID", help="Only keys of this client.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"At most N.  [default: {LISTED}; JSON: all]")
@json_option
@click.pass_context
def list_(ctx: click.Context, client_id: str | None, limit: int | None, as_json: bool) -> None:
    """List keys in the order of their making."""
    from verifier.control import directory

    now_s = int(time.time())
    with desk(ctx) as at:
        if as_json:
            for key in directory.list_keys(at.registry, client_id=client_id, limit=limit):
                print_json(key_json(key, now_s))
            return
        shown = limit or LISTED
        found = list(directory.list_keys(at.registry, client_id=client_id, limit=shown + 1))
    print_table("keys", ("key_id", "client_id", "enabled", "scopes", "versions", "expires_at"),
                (_row(key, now_s) for key in found[:shown]))
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
@publish_option
@json_option
@click.pass_context
def update(
    ctx: click.Context, *, key_id: str, scopes: tuple[str, ...], allow: tuple[str, ...], metadata: tuple[str, ...],
    expires: int | None, key_expires: int | None, extend: bool, wants_publish: bool, as_json: bool,
) -> None:  # fmt: skip
    """Change scopes, address rules, metadata or ends of a key. What is not named stays."""
    from verifier.control import directory

    wanted = _update(scopes, allow, metadata, {"expires_at": expires, "key_expires_at": key_expires}, extend=extend)
    if wanted.is_empty:
        raise InvalidInput("nothing to change was named", hint="verifier key update --help", code="NOTHING_TO_DO")
    with desk(ctx) as at:
        with at.act() as act:
            key = directory.update_key(act, key_id, wanted)
        outcome = at.outcome(wants_publish)
    tell([f"updated key {key_id}"], key_json(key, int(time.time())), outcome, as_json=as_json)


def _update(
    scopes: tuple[str, ...], allow: tuple[str, ...], metadata: tuple[str, ...], ends: dict[str, int | None], *,
    extend: bool,
) -> "KeyUpdate":  # fmt: skip
    from verifier.control.directory import KeyUpdate

    named: dict[str, Any] = {name: end for name, end in ends.items() if end is not None}
    if scopes:
        named["scopes"] = words(scopes)
    if allow:
        named["rules"] = words(allow)
    if metadata:
        named["metadata"] = pairs([pair for pair in metadata if pair])
    return KeyUpdate(**named, extend=extend)


@command.command()
@click.argument("key_id")
@publish_option
@json_option
@click.pass_context
def enable(ctx: click.Context, key_id: str, wants_publish: bool, as_json: bool) -> None:
    """Lift the suspension of a key."""
    _switch(ctx, key_id, True, wants_publish, as_json)


@command.command()
@click.argument("key_id")
@publish_option
@json_option
@click.pass_context
def disable(ctx: click.Context, key_id: str, wants_publish: bool, as_json: bool) -> None:
    """Suspend a key: all its versions answer KEY_DISABLED until it is enabled again."""
    _switch(ctx, key_id, False, wants_publish, as_json)


def _switch(ctx: click.Context, key_id: str, enabled: bool, wants_publish: bool, as_json: bool) -> None:
    from verifier.control import directory

    with desk(ctx) as at:
        with at.act() as act:
            key = directory.set_key_enabled(act, key_id, enabled)
        outcome = at.outcome(wants_publish)
    word = "enabled" if enabled else "disabled"
    tell([f"key {key_id} is {word}"], key_json(key, int(time.time())), outcome, as_json=as_json)


@command.command()
@click.argument("key_id")
@click.option("--version", "number", type=click.IntRange(1), metavar="N", help="Only this version.  [all live]")
@click.option("--reason", type=click.Choice(REASONS), default="unspecified", show_default=True, help="By RFC 5280.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@publish_option
@json_option
@click.pass_context
def revoke(
    ctx: click.Context, *, key_id: str, number: int | None, reason: str, yes: bool, wants_publish: bool, as_json: bool
) -> None:
    """Revoke one version of a key, or all live ones. Only key_compromise is final."""
    from verifier.control import directory
    from verifier.control.lifecycle import to_revoke
    from verifier.vocabulary import RevocationReason

    with desk(ctx) as at:
        numbers: list[int] | None = [number] if number is not None else None
        if numbers is None:
            key = directory.show_key(at.registry, key_id)
            numbers = [version.number for version in to_revoke(key, None, int(time.time()))]
            _confirm(key, numbers, yes=yes)
        with at.act() as act:
            done = directory.revoke_version(act, key_id, numbers, RevocationReason[reason.upper()])
        outcome = at.outcome(wants_publish)
    if reason == "unspecified" and done.changed:
        click.echo("reason: unspecified; only --reason key_compromise is final", err=True)
    versions = [version for version in done.key.versions if version.number in done.numbers]
    body = {
        "client_id": done.key.client_id,
        "key_id": key_id,
        "versions": [
            {
                "version": version.number,
                "reason": version.reason.name.lower() if version.reason is not None else None,
                "revoked_at": time_text(version.revoked_at),
                "changed": version.number in done.changed,
            }
            for version in versions
        ],
        "count": len(done.changed),
    }
    lines = [f"version {version.number} of key {key_id} is revoked: {version.reason.name.lower()}"
             for version in versions if version.reason is not None]
    tell(lines or [f"key {key_id} has no live version"], body, outcome, as_json=as_json)


def _confirm(key: "Key", numbers: list[int], *, yes: bool) -> None:
    """List what a revocation of all live versions is about; ask, if somebody is there to answer."""
    if not numbers or yes:
        return
    named = ", ".join(map(str, numbers))
    click.echo(f"live versions of key {key.key_id} (client {key.client_id}): {named}", err=True)
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm("revoke them all?", abort=True, err=True)


def _row(key: "Key", now_s: int) -> list[object]:
    from verifier.control.lifecycle import effective_end, phase

    versions = ", ".join(f"{version.number} {phase(key, version, now_s).name}" for version in key.versions)
    end = time_text(effective_end(key, key.label))
    return [key.key_id, key.client_id, "yes" if key.enabled else "no", " ".join(key.scopes) or None, versions, end]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={text}" for name, text in value.items()) or "-"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "-"
    return plain(value)
