"""``verifier registry``: the operators' system of record itself."""

import click

from verifier.cli._common import counted, json_option, print_json
from verifier.cli._progress import progress_bar
from verifier.cli._seam import only_local, seam
from verifier.cli._wish import Wish, changing, recorded_options, tell

COUNTS = {
    "versions_added": "{} put in",
    "replaced": "{} gave way to the published one of the same number",
    "revoked": "{} revoked, as published",
}


@click.group()
def command() -> None:
    """Mend and upgrade the registry."""


@command.command()
@changing(serve=False, preview=False)
@click.pass_context
def reconcile(ctx: click.Context, wish: Wish) -> None:
    """Take what only the newest publication knows into a registry that was restored from a backup.

    Until then publishing is refused (REGISTRY_BEHIND): it would drop the keys issued since the backup, and undo
    revocations. Look at `verifier publications diff` afterwards, then publish.
    """
    from verifier.admin.v1 import publication_pb2

    with seam(ctx) as at:
        request = publication_pb2.ReconcileRegistryRequest(options=recorded_options(wish))
        with progress_bar("reconcile"):
            done = at.change(at.admin.publication.ReconcileRegistry, request)
        body = {
            "to_revision": done.revision, "versions_added": done.versions_added, "revoked": done.revoked,
            "switched_off": done.switched_off, "replaced": done.replaced,
        }  # fmt: skip
        lines = [f"the registry is at revision {done.revision}"]
        lines += [f"  {text.format(counted(body[name], 'version'))}" for name, text in COUNTS.items() if body[name]]
        if done.switched_off:
            lines.append(f"  {done.switched_off:,} clients and keys switched off, as published")
        tell(wish, lines, body, done.receipt, quiet=True)


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
