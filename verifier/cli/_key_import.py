"""``verifier key import``: keys of other systems, by the SHA-256 of their tokens."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from verifier.cli._changing import desk, pairs, publish_option, tell, words
from verifier.cli._common import Moment, counted, json_option
from verifier.cli._progress import progress_bar
from verifier.errors import InvalidInput
from verifier.tokens import DEFAULT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 20


@click.command("import")
@click.option("--client", "client_id", required=True, metavar="ID", help="Who owns the keys.")
@click.option("--file", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="CSV, or JSONL by its name: sha256; also key_id, scopes, allow, expires_at, metadata.")
@click.option("--mode", required=True, type=click.Choice(["mixed", "foreign"]),
              help="mixed: the tokens begin with <prefix>_; foreign: they look like anything.")
@click.option("--prefix", metavar="PREFIX", help="mixed: what the tokens begin with; "
              f"foreign: what their successors will begin with.  [default there: {DEFAULT_PREFIX}]")
@click.option("--entropy-bits", required=True, type=int, metavar="N",
              help="Entropy of the imported secrets, as their issuer declares; at least 112.")
@click.option("--accept-weak", is_flag=True, help="Import secrets of less than 112 bits: they can be guessed.")
@click.option("--skip-bad", is_flag=True, help="Leave bad and duplicate rows out, instead of importing nothing.")
@click.option("--scopes", multiple=True, metavar="A,B", help="Of keys whose row names none.")
@click.option("--allow", multiple=True, metavar="CIDR", help="Of keys whose row names none.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Of keys whose row names none.")
@click.option("--expires", type=Moment(), metavar="TIME", help="Of keys whose row names none.")
@click.option("--ids", type=click.Path(path_type=Path, dir_okay=False), metavar="NEWFILE",
              help="New file for the key ids, in the order of the imported rows.")
@publish_option
@json_option
@click.pass_context
def import_(
    ctx: click.Context, *, client_id: str, file: Path, mode: str, prefix: str | None, entropy_bits: int,
    accept_weak: bool, skip_bad: bool, scopes: tuple[str, ...], allow: tuple[str, ...], metadata: tuple[str, ...],
    expires: int | None, ids: Path | None, wants_publish: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import keys of which only the SHA-256 of the token is known; the tokens go on working."""
    from verifier.control.handout import NewFile
    from verifier.control.importing import ImportRequest, import_digests
    from verifier.control.terms import Terms

    if mode == "mixed" and prefix is None:
        raise InvalidInput("what do the tokens begin with?", hint="--prefix old, or --mode foreign", code="BAD_PREFIX")
    terms = Terms(
        scopes=words(scopes), rules=words(allow), metadata=pairs(metadata), prefix=prefix or DEFAULT_PREFIX,
        expires_at=expires,
    )  # fmt: skip
    request = ImportRequest(
        client_id, terms, "mixed" if mode == "mixed" else "foreign", entropy_bits, accept_weak, skip_bad
    )
    with desk(ctx) as at, ExitStack() as stack:
        output = stack.enter_context(NewFile(ids)) if ids is not None else None

        def write(key_ids: "Sequence[str]") -> None:
            if output is not None:
                output.write("".join(f"{key_id}\n" for key_id in key_ids).encode("ascii"))

        progress = stack.enter_context(progress_bar("import"))
        report = import_digests(
            at.registry, at.peppers(), file, request,
            on_keys=write, before_commit=output.install if output is not None else None, progress=progress,
        )  # fmt: skip
        outcome = at.outcome(wants_publish)
    bad = [{"line": row.line, "problem": row.problem} for row in report.bad]
    imported, left_out = counted(report.imported, "key"), counted(report.skipped, "row")
    lines = [f"imported {imported} of client {client_id}, left out {left_out}"]
    lines += [f"  line {row.line}: {row.problem}" for row in report.bad[:SHOWN]]
    body = {"client_id": client_id, "imported": report.imported, "skipped": report.skipped, "bad": bad}
    tell(lines, body, outcome, as_json=as_json)
