"""``verifier nodes``: what the nodes report."""

from typing import Any

import click

from verifier.cli._common import json_option, print_json, print_table
from verifier.cli._present import node_json
from verifier.cli._seam import seam
from verifier.cli._wish import Wish, changing, recorded_options, tell

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


def _row(body: dict[str, Any]) -> list[object]:
    refusal = body["last_refusal"]
    shown = {**body, "last_refusal": refusal and f"{refusal['code']} at revision {refusal['revision']}"}
    return [shown[name] for name in COLUMNS]
