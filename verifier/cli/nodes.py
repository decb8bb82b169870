"""``verifier nodes``: what the nodes report."""

from pathlib import Path
from typing import Any

import click

from verifier.cli._common import counted, json_option, print_json, print_table
from verifier.cli._present import node_json
from verifier.cli._seam import only_local, seam
from verifier.cli._wish import Wish, changing, recorded_options, tell
from verifier.errors import Conflict

COLUMNS = ("node", "expected", "revision", "served_at", "last_seen_at", "clock_skew_ms", "last_refusal")


@click.group()
def command() -> None:
    """What the nodes serve, as they report it."""


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """List the nodes that reported: `verifier serve --report-to` has a node do so."""
    from verifier.admin.v1 import node_pb2

    with seam(ctx) as at:
        found = [node_json(node) for node in at.admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes]
    if as_json:
        for body in found:
            print_json(body)
        return
    print_table("nodes", COLUMNS, (_row(body) for body in found))


@command.command()
@click.argument("node")
@changing(serve=False)
@click.pass_context
def forget(ctx: click.Context, node: str, wish: Wish) -> None:
    """Stop expecting a node that is gone for good; it is expected again when it reports again."""
    from verifier.admin.v1 import node_pb2

    with seam(ctx) as at:
        request = node_pb2.ForgetNodeRequest(node=node, options=recorded_options(wish))
        done = at.change(at.admin.node.ForgetNode, request)
        tell(wish, [f"node {node} is not expected any more"], {"node": node}, done.receipt, quiet=True)


@command.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.pass_context
def bundle(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Write into FOLDER what a node needs besides the store: peppers and trusted keys, and no signing key.

    Bring it to the node, mount the store as FOLDER/store there, and run `verifier --store FOLDER serve`. A repeat
    brings the folder up to date, as after a further pepper or another signing key.
    """
    from verifier.store import durable
    from verifier.store.home import Home
    from verifier.store.secrets import Secrets

    here = Secrets(only_local(ctx, "nodes bundle").secrets)
    there = Home(folder)
    if Secrets(there.secrets).signing_path.exists():
        raise Conflict(f"{there.folder} is a publisher's folder: there is a signing key in it, which no node may have",
                       hint="name another folder", code="PUBLISHERS_FOLDER")
    for place, mode in ((there.folder, 0o755), (there.store, 0o755), (there.secrets, 0o700),
                        (there.secrets / "peppers", 0o700)):  # fmt: skip
        place.mkdir(mode=mode, parents=True, exist_ok=True)
    trusted = here.trusted_path.read_bytes()
    durable.replace(Secrets(there.secrets).trusted_path, trusted)
    peppers = here.peppers()
    for pepper_id, pepper in peppers.items():
        durable.replace(there.secrets / "peppers" / pepper_id, pepper.hex().encode() + b"\n", mode=0o600)
    if as_json:
        print_json({"folder": str(there.folder), "peppers": sorted(peppers), "trusted": list(here.trust().key_ids)})
        return
    click.echo(f"wrote {counted(len(peppers), 'pepper')} and the trusted keys to {there.secrets}")
    click.echo(f"  on the node: mount the store as {there.folder.name}/store, then verifier --store "
               f"{there.folder.name} serve")


def _row(body: dict[str, Any]) -> list[object]:
    refusal = body["last_refusal"]
    at = f" at revision {refusal['revision']}" if refusal and refusal["revision"] is not None else ""
    shown = {**body, "last_refusal": refusal and refusal["code"] + at}
    return [shown[name] for name in COLUMNS]
