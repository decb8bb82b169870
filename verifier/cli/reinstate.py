"""``verifier reinstate``: a revocation that was wrong."""

import click

from verifier.cli._common import counted
from verifier.cli._seam import seam
from verifier.cli._wish import Wish, changing, tell


@click.command()
@click.argument("audit_id")
@changing()
@click.pass_context
def command(ctx: click.Context, audit_id: str, wish: Wish) -> None:
    """Undo a revocation that was wrong, other than key_compromise.

    AUDIT_ID is that of the revocation: it was printed then, and `verifier audit list --action key.revoke` finds it.
    Windows stand as they are: what has ended meanwhile stays ended.
    """
    from verifier.admin.v1 import lifecycle_pb2

    with seam(ctx) as at:
        request = lifecycle_pb2.ReinstateRequest(audit_id=audit_id, options=wish.options(at))
        done = at.change(at.admin.lifecycle.Reinstate, request)
        kept = [f"{counted(done.kept, 'version')} stay revoked: compromised, or cancelled"] if done.kept else []
        lines = [f"reinstated {counted(done.count, 'version')} of {audit_id}"]
        tell(wish, lines, {"count": done.count, "kept": done.kept, "of": audit_id}, done.receipt, notes=kept)
