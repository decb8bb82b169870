"""``verifier publications``: look at what was published."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import (
    Duration,
    counted,
    json_option,
    pages,
    plain,
    print_json,
    print_table,
    time_text,
)
from verifier.cli._place import is_remote, require_home
from verifier.cli._present import difference_json, publication_json
from verifier.cli._progress import progress_bar
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, recorded_options, tell
from verifier.errors import NotFound

if TYPE_CHECKING:
    from verifier.admin.v1 import publication_pb2
    from verifier.store.layout import Store
    from verifier.store.manifest import Manifest
    from verifier.store.signing import Trust

EXAMPLES = 20
SHOWN = ("published_at", "store_id", "content_of", "held", "records", "active", "tombstones", "dead_on_arrival",
         "drop_override", "previous", "publisher")  # fmt: skip


@click.group()
def command() -> None:
    """List, show, compare and prune publications."""


@command.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@json_option
@click.pass_context
def list_(ctx: click.Context, limit: int | None, as_json: bool) -> None:
    """List publications, the newest last; each signature is checked."""
    if is_remote(ctx):
        with seam(ctx) as at:
            rows = [publication_json(one) for one in _asked(at, limit)][::-1]
    else:
        store, trust = _open(require_home(ctx))
        current = store.current() or 0
        revisions = [revision for revision in store.revisions() if revision <= current]
        rows = [_summary(store, revision, trust, current) for revision in revisions[-limit if limit else 0:]]
    if as_json:
        for row in rows:
            print_json(row)
        return
    columns = ("revision", "published_at", "records", "active", "content_of", "held", "current", "problem")
    print_table("publications", columns, ([row[name] for name in columns] for row in rows))


@command.command()
@click.argument("revision", type=click.IntRange(1))
@json_option
@click.pass_context
def show(ctx: click.Context, revision: int, as_json: bool) -> None:
    """Print the manifest of REVISION, after its signature was checked."""
    if is_remote(ctx):
        with seam(ctx) as at:
            body = _found(at, revision)
    else:
        body = _manifest(require_home(ctx), revision)
    if as_json:
        print_json(body)
        return
    signer = f", signed by {body['signed_by']}" if "signed_by" in body else ""
    click.echo(f"revision {revision}{signer}" + (", current" if body["current"] else ""))
    for name in SHOWN:
        if name in body:
            value = _buried(body[name]) if name == "tombstones" else plain(body[name])
            click.echo(f"  {name + ':':17}{value}")
    for name in ("base", "delta"):
        keyring = body[name]
        if keyring is not None:
            size = f"{counted(keyring['records'], 'record')}, {keyring['bytes']:,} bytes"
            click.echo(f"  {name + ':':17}{keyring['sha256']} ({size})")


def _buried(tombstones: int | list[dict[str, Any]]) -> str:
    """Say how many tombstones there are; a manifest lists the files that they are in."""
    if isinstance(tombstones, int):
        return f"{tombstones:,}"
    number = sum(file["count"] for file in tombstones)
    return f"{number:,}" + (f" in {counted(len(tombstones), 'file')}" if tombstones else "")


def _manifest(home: Path, revision: int) -> dict[str, Any]:
    import json

    store, trust = _open(home)
    manifest = store.publication(revision, trust)
    key_id = trust.verify(store.manifest_bytes(revision), store.signature(revision))
    return {**json.loads(manifest.to_bytes()), "current": revision == store.current(), "signed_by": key_id}


def _asked(at: Seam, limit: int | None) -> "Iterator[publication_pb2.Publication]":
    """Yield what a control plane tells of its publications, the newest first."""
    from verifier.admin.v1 import publication_pb2

    request = publication_pb2.ListPublicationsRequest()
    return pages(at.admin.publication.ListPublications, request, "publications", limit)


def _found(at: Seam, revision: int) -> dict[str, Any]:
    for publication in _asked(at, None):
        if publication.revision == revision:
            return publication_json(publication)
    raise NotFound(f"there is no revision {revision}", hint="verifier publications list", code="REVISION_NOT_FOUND")


@command.command()
@click.argument("before", type=click.IntRange(1))
@click.argument("after", type=click.IntRange(1), required=False)
@click.option("--limit", type=click.IntRange(0), default=EXAMPLES, show_default=True, metavar="N",
              help="Name at most N of the changes.")
@json_option
@click.pass_context
def diff(ctx: click.Context, before: int, after: int | None, limit: int, as_json: bool) -> None:
    """Compare what callers of two publications may do, both judged now; without AFTER, with what would be published."""
    if after is None or is_remote(ctx):
        with seam(ctx) as at:
            counts, examples, exchanged = _compared(at, before, after, limit)
    else:
        counts, examples, exchanged = _compared_here(require_home(ctx), before, after, limit)
    if as_json:
        print_json({"before": before, "after": after, **counts, "examples": examples})
        return
    click.echo(f"from revision {before} to {'what would be published' if after is None else after}, judged now:")
    for name, number in counts.items():
        click.echo(f"  {name.replace('_', ' ') + ':':17}{number}")
    if exchanged:
        click.echo("  the peppers differ, so every version counts as lost and gained")
    if examples:
        columns = ("kind", "client_id", "key_id", "version")
        print_table("examples", columns, ([change[name] for name in columns] for change in examples))


Compared = tuple[dict[str, int], list[dict[str, Any]], bool]


def _compared_here(home: Path, before: int, after: int, limit: int) -> Compared:
    """Compare two publications of a folder; tell whether their peppers differ, too."""
    import time
    from dataclasses import asdict

    from verifier.control.comparing import compare
    from verifier.control.publishing import keyrings_of

    store, trust = _open(home)
    first, second = (store.publication(revision, trust) for revision in (before, after))
    with progress_bar("compare") as progress:
        difference = compare(
            keyrings_of(store, first), keyrings_of(store, second), int(time.time()),
            examples_max=limit, progress=progress,
        )  # fmt: skip
    examples = [asdict(change) for change in difference.examples]
    return difference.counts(), examples, first.base.peppers != second.base.peppers


def _compared(at: Seam, before: int, after: int | None, limit: int) -> Compared:
    from verifier.admin.v1 import publication_pb2

    request = publication_pb2.ComparePublicationsRequest(
        from_revision=before, to_revision=after or 0, examples_max=limit
    )
    done = at.admin.publication.ComparePublications(request)
    columns = ("kind", "client_id", "key_id", "version")
    return difference_json(done.difference), [
        {name: getattr(change, name) for name in columns} for change in done.examples
    ], False


@command.command()
@click.option("--keep", type=click.IntRange(1), metavar="N", help="Keep at least so many of the newest.  [100]")
@click.option("--keep-for", type=Duration(), metavar="DURATION", help="Keep all that are younger.  [30d]")
@changing(serve=False)
@click.pass_context
def prune(ctx: click.Context, keep: int | None, keep_for: int | None, wish: Wish) -> None:
    """Remove publications and keyrings that nobody needs any more.

    The current one, the one before, and the one that the store is held at always stay.
    """
    from verifier.admin.times import span
    from verifier.admin.v1 import publication_pb2

    with seam(ctx) as at:
        request = publication_pb2.PrunePublicationsRequest(
            keep=keep or 0, keep_for=span(keep_for), options=recorded_options(wish)
        )
        done = at.change(at.admin.publication.PrunePublications, request)
        verb = "would remove" if wish.dry_run else "removed"
        line = (f"{verb} {counted(done.publications, 'publication')} and {counted(done.keyrings, 'keyring')}, "
                f"{done.bytes:,} bytes")
        body = {"publications": done.publications, "keyrings": done.keyrings, "bytes": done.bytes}
        tell(wish, [line], body, done.receipt, quiet=True)


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
