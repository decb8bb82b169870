"""``verifier registry``: the operators' system of record itself."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import counted, json_option, print_json
from verifier.cli._place import home_of, is_remote
from verifier.cli._progress import progress_bar
from verifier.cli._seam import only_local, seam
from verifier.cli._wish import Wish, changing, recorded_options, tell
from verifier.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from verifier.admin.v1 import types_pb2

NO_REGISTRY = "NOT_INITIALISED"
COUNTS = {
    "versions_added": "{} put in",
    "replaced": "{} gave way to the published one of the same number",
    "revoked": "{} revoked, as published",
}


@click.group()
def command() -> None:
    """Back up, mend and upgrade the registry."""


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_context
def backup(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Copy a registry in a file to FILE, mode 0600, whoever is using it meanwhile.

    Do not copy registry.db yourself: the newest changes are not in it yet. What brings a backup back is `registry
    reconcile`. A PostgreSQL registry is backed up by its own means, such as pg_dump.
    """
    from verifier.registry.backups import copy_to
    from verifier.registry.database import open_registry
    from verifier.registry.engines import sqlite_file

    with open_registry(only_local(ctx, "registry backup")) as registry:
        source = sqlite_file(registry.url)
    if source is None:
        raise InvalidInput("this registry is in a PostgreSQL database", hint="pg_dump", code="NOT_A_FILE")
    with progress_bar("backup") as progress:
        copy_to(source, file.absolute(), lambda done, total: progress("backup", done, total))
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        click.echo(f"the registry as it is now: {file}")


@command.command()
@changing(serve=False, preview=False)
@click.pass_context
def reconcile(ctx: click.Context, wish: Wish) -> None:
    """Take what only the newest publication knows into a registry that was restored from a backup.

    Until then publishing is refused (REGISTRY_BEHIND): it would drop the keys issued since the backup, and undo
    revocations. Look at `verifier publications diff REVISION` afterwards, then publish. A registry that was lost is
    made anew from what was published.
    """
    try:
        body, receipt = _reconciled(ctx, wish)
    except NotFound as error:
        if error.code != NO_REGISTRY or is_remote(ctx):
            raise
        body, receipt = _founded(ctx, wish)
    lines = [f"the registry is at revision {body['to_revision']}"]
    lines += [f"  {text.format(counted(body[name], 'version'))}" for name, text in COUNTS.items() if body[name]]
    if body["switched_off"]:
        lines.append(f"  {body['switched_off']:,} clients and keys switched off, as published")
    if body["revoked"]:
        lines.append(f"  undone by: verifier reinstate {receipt.audit_id}, but for key_compromise")
    tell(wish, lines, body, receipt, quiet=True)


def _reconciled(ctx: click.Context, wish: Wish) -> "tuple[dict[str, Any], types_pb2.Receipt]":
    from verifier.admin.v1 import publication_pb2

    with seam(ctx) as at:
        request = publication_pb2.ReconcileRegistryRequest(options=recorded_options(wish))
        done = at.change(at.admin.publication.ReconcileRegistry, request)
    return _body(done), done.receipt


def _founded(ctx: click.Context, wish: Wish) -> "tuple[dict[str, Any], types_pb2.Receipt]":
    """Make a registry that was lost anew, from what was published."""
    from verifier.admin.v1 import types_pb2
    from verifier.control.acting import local_actor
    from verifier.control.reconciling import reconcile as found_anew

    with progress_bar("reconcile") as progress:
        done = found_anew(home_of(ctx), actor=local_actor(wish.request_id, wish.note), progress=progress)
    warning = "there was no registry: it was made anew from what was published, without names, notes and audit log"
    receipt = types_pb2.Receipt(
        published=True, revision=done.revision, audit_id=done.audit_id or "", warnings=[warning]
    )
    return _body(done), receipt


def _body(done: Any) -> dict[str, Any]:
    names = ("versions_added", "revoked", "switched_off", "replaced")
    return {"to_revision": done.revision, **{name: getattr(done, name) for name in names}}


@command.command()
@json_option
@click.pass_context
def upgrade(ctx: click.Context, as_json: bool) -> None:
    """Bring the registry of an older verifier to this one's format; a repeat changes nothing.

    A registry in a file is copied first. Back a PostgreSQL registry up yourself, and stop what an older verifier runs
    on it.
    """
    from verifier.control.upgrading import upgrade_registry

    home = only_local(ctx, "registry upgrade")
    with progress_bar("upgrade") as progress:
        done = upgrade_registry(home, progress)
    if as_json:
        backup = None if done.backup is None else str(done.backup)
        print_json({"before": done.before, "after": done.after, "changed": done.changed, "backup": backup})
    elif not done.changed:
        click.echo(f"the registry has format {done.after} already")
    else:
        click.echo(f"upgraded the registry from format {done.before} to {done.after}")
        if done.backup is not None:
            click.echo(f"  the registry as it was: {done.backup}")
