"""``verifier publications``: look at what was published."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import counted, json_option, plain, print_json, print_table, require_home, time_text
from verifier.cli._progress import progress_bar

if TYPE_CHECKING:
    from verifier.store.layout import Store
    from verifier.store.manifest import Manifest
    from verifier.store.signing import Trust

EXAMPLES = 20


@click.group()
def command() -> None:
    """List, show and compare publications."""


@command.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@json_option
@click.pass_context
def list_(ctx: click.Context, limit: int | None, as_json: bool) -> None:
    """List publications, the newest last; each signature is checked."""
    store, trust = _open(require_home(ctx))
    current = store.current() or 0
    revisions = [revision for revision in store.revisions() if revision <= current]
    rows = [_summary(store, revision, trust, current) for revision in revisions[-limit if limit else 0:]]
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ("revision", "published_at", "records", "active", "content_of", "current", "problem")
    print_table("publications", columns, ([row[name] for name in columns] for row in rows))


@command.command()
@click.argument("revision", type=click.IntRange(1))
@json_option
@click.pass_context
def show(ctx: click.Context, revision: int, as_json: bool) -> None:
    """Print the manifest of REVISION, after its signature was checked."""
    import json

    store, trust = _open(require_home(ctx))
    manifest = store.publication(revision, trust)
    key_id = trust.verify(store.manifest_bytes(revision), store.signature(revision))
    body = {**json.loads(manifest.to_bytes()), "current": revision == store.current(), "signed_by": key_id}
    if as_json:
        print_json(body)
        return
    click.echo(f"revision {revision}, signed by {key_id}" + (", current" if body["current"] else ""))
    for name in ("published_at", "store_id", "content_of", "held", "records", "active", "dead_on_arrival",
                 "drop_override", "previous", "publisher"):
        click.echo(f"  {name + ':':17}{plain(body[name])}")
    for name, keyring in (("base", manifest.base), ("delta", manifest.delta)):
        if keyring is not None:
            size = f"{counted(keyring.records, 'record')}, {keyring.bytes:,} bytes"
            click.echo(f"  {name + ':':17}{keyring.sha256} ({size})")


@command.command()
@click.argument("before", type=click.IntRange(1))
@click.argument("after", type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(0), default=EXAMPLES, show_default=True, metavar="N",
              help="Name at most N of the changes.")
@json_option
@click.pass_context
def diff(ctx: click.Context, before: int, after: int, limit: int, as_json: bool) -> None:
    """Compare what callers of two publications may do, both judged now."""
    import time
    from dataclasses import asdict

    from verifier.control.comparing import compare
    from verifier.control.publishing import keyrings_of

    store, trust = _open(require_home(ctx))
    first, second = (store.publication(revision, trust) for revision in (before, after))
    with progress_bar("compare") as progress:
        difference = compare(
            keyrings_of(store, first), keyrings_of(store, second), int(time.time()),
            examples_max=limit, progress=progress,
        )
    if as_json:
        print_json({"before": before, "after": after, **difference.counts(),
                    "examples": [asdict(change) for change in difference.examples]})
        return
    click.echo(f"from revision {before} to {after}, judged now:")
    for name, number in difference.counts().items():
        click.echo(f"  {name.replace('_', ' ') + ':':17}{number}")
    if first.base.peppers != second.base.peppers:
        click.echo("  the peppers differ, so every version counts as lost and gained")
    if difference.examples:
        columns = ("kind", "client_id", "key_id", "version")
        print_table("examples", columns, (asdict(change).values() for change in difference.examples))


def _open(home: Path) -> "tuple[Store, Trust]":
    from verifier.store.home import Home
    from verifier.store.layout import Store
    from verifier.store.secrets import Secrets

    place = Home(home)
    return Store(place.store), Secrets(place.secrets).trust()


def _summary(store: "Store", revision: int, trust: "Trust", current: int) -> dict[str, Any]:
    """Describe one publication in a line; an unsound one too."""
    from verifier.errors import UnsoundPublication, VerifierError

    row: dict[str, Any] = {
        "revision": revision, "published_at": None, "records": None, "active": None, "content_of": None, "held": None,
        "current": revision == current, "problem": None,
    }  # fmt: skip
    try:
        manifest: Manifest = store.publication(revision, trust)
    except UnsoundPublication as error:
        return {**row, "problem": f"{error.code}: {error.message}"}
    except VerifierError as error:
        return {**row, "problem": error.message}
    return {
        **row, "published_at": time_text(manifest.published_at), "records": manifest.records,
        "active": manifest.active, "content_of": manifest.content_of, "held": manifest.held,
    }  # fmt: skip
