"""``verifier rollback``: the whole store, as it was."""

import click

from verifier.cli._present import published_json
from verifier.cli._seam import seam
from verifier.cli._wish import Wish, changing, tell
from verifier.cli.publish import published_lines
from verifier.errors import InvalidInput


@click.command()
@click.argument("revision")
@click.option("--drop-newer", is_flag=True,
              help="Refuse keys that were issued since, too, until the store is resumed.")
@click.option("--allow-drop", is_flag=True, help="Publish even if many active keys are lost.")
@changing(publish=False)
@click.pass_context
def command(ctx: click.Context, revision: str, drop_newer: bool, allow_drop: bool, wish: Wish) -> None:
    """Serve the whole store as it was at REVISION, denials of now on top, and hold it there.

    What is revoked or switched off now stays so; keys issued since are kept. Changes go on being recorded, and are
    served again after `verifier publish --resume`.

    This is about the whole store. `verifier key rollback KEY_ID` brings the version before of one key back.
    """
    from verifier.admin.v1 import publication_pb2

    with seam(ctx) as at:
        request = publication_pb2.RollBackRequest(
            revision=_number(revision), drop_newer=drop_newer, allow_drop=allow_drop, options=wish.options(at)
        )
        done = at.change(at.admin.publication.RollBack, request)
        publication = done.publication
        body = {**published_json(publication, done.difference, changed=True), "held": True}
        lines = published_lines(publication, body["difference"], dry_run=wish.dry_run)
        tell(wish, lines, body, done.receipt, quiet=True)


def _number(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise InvalidInput(
        f"{text[:64]!r} is not a revision", hint=f"did you mean verifier key rollback {text[:64]}?",
        code="NOT_A_REVISION",
    )
