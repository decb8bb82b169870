"""``verifier key import``: keys of other systems, by the SHA-256 of their tokens."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import Moment, counted, pairs, words
from verifier.cli._progress import progress_bar
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, finish, tell
from verifier.errors import InvalidInput
from verifier.tokens import DEFAULT_PREFIX

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2, types_pb2
    from verifier.control.digests import BadRow, Row
    from verifier.control.importing import ImportRequest

SHOWN = 20
ROWS_PER_MESSAGE = 1000
IDS_MAX = 10_000  # of lifecycle.proto: more ids are not in the answer


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
@changing()
@click.pass_context
def import_(
    ctx: click.Context, /, *, client_id: str, file: Path, mode: str, prefix: str | None, entropy_bits: int,
    accept_weak: bool, skip_bad: bool, ids: Path | None, wish: Wish, **terms: Any,
) -> None:  # fmt: skip
    """Import keys of which only the SHA-256 of the token is known; the tokens go on working."""
    from verifier.control.importing import ImportRequest
    from verifier.control.terms import Terms

    if mode == "mixed" and prefix is None:
        raise InvalidInput("what do the tokens begin with?", hint="--prefix old, or --mode foreign", code="BAD_PREFIX")
    request = ImportRequest(
        client_id,
        Terms(scopes=words(terms["scopes"]), rules=words(terms["allow"]), metadata=pairs(terms["metadata"]),
              prefix=prefix or DEFAULT_PREFIX, expires_at=terms["expires"]),
        "mixed" if mode == "mixed" else "foreign", entropy_bits, accept_weak, skip_bad,
    )  # fmt: skip
    with seam(ctx) as at:
        options = wish.options(at)
        # The fast path reads the file once, and tells no repeat from another import.
        if at.remote or wish.dry_run or wish.request_id is not None:
            done, receipt = _elsewhere(at, file, request, options, ids)
        else:
            done, receipt = _here(at, file, request, options, ids)
        _tell(client_id, done, receipt, wish)


@dataclass(slots=True)
class _Done:
    """What an import did; bad rows by the line of the file."""

    imported: int = 0
    skipped: int = 0
    bad: "Sequence[BadRow]" = field(default_factory=list)


def _tell(client_id: str, done: _Done, receipt: "types_pb2.Receipt", wish: Wish) -> None:
    bad = [{"line": row.line, "problem": row.problem} for row in done.bad]
    imported, left_out = counted(done.imported, "key"), counted(done.skipped, "row")
    lines = [f"imported {imported} of client {client_id}, left out {left_out}"]
    lines += [f"  line {row.line}: {row.problem}" for row in done.bad[:SHOWN]]
    body = {"client_id": client_id, "imported": done.imported, "skipped": done.skipped, "bad": bad}
    tell(wish, lines, body, receipt)


def _here(
    at: Seam, file: Path, request: "ImportRequest", options: "types_pb2.Options", ids: Path | None
) -> "tuple[_Done, types_pb2.Receipt]":
    """Import beside the registry, where the file is read once and no message is made of it."""
    from verifier.control.acting import local_actor
    from verifier.control.handout import NewFile
    from verifier.control.importing import import_digests

    assert at.registry is not None
    with ExitStack() as stack:
        output = stack.enter_context(NewFile(ids)) if ids is not None else None

        def write(key_ids: Sequence[str]) -> None:
            if output is not None:
                output.write("".join(f"{key_id}\n" for key_id in key_ids).encode("ascii"))

        progress = stack.enter_context(progress_bar("import"))
        report = import_digests(
            at.registry, at.peppers(), file, request,
            on_keys=write, before_commit=output.install if output is not None else None,
            actor=local_actor(options.request_id, options.note or None), progress=progress,
        )  # fmt: skip
    return _Done(report.imported, report.skipped, report.bad), finish(at, options)


def _elsewhere(
    at: Seam, file: Path, request: "ImportRequest", options: "types_pb2.Options", ids: Path | None
) -> "tuple[_Done, types_pb2.Receipt]":
    """Send the rows; those that cannot be read stay here, with their lines."""
    from verifier.control import digests
    from verifier.control.digests import BadRow, Row
    from verifier.control.handout import NewFile
    from verifier.control.importing import REPORTED_MAX

    rows: list[Row] = []
    bad: list[BadRow] = []
    for row in digests.read(file):
        if isinstance(row, Row):
            rows.append(row)
        else:
            bad.append(row)
    if bad and not request.skip_bad:
        raise _bad_rows(bad)
    if ids is not None and len(rows) > IDS_MAX:
        raise InvalidInput(
            f"of one request the ids of at most {IDS_MAX:,} keys are told, and here are {len(rows):,} rows",
            hint="split the file, or leave --ids out: verifier key list --client ID --json tells them in their order",
            code="TOO_LARGE",
        )
    with ExitStack() as stack:
        output = stack.enter_context(NewFile(ids)) if ids is not None else None
        answer = at.repeated(lambda: at.admin.lifecycle.ImportKeys(_messages(rows, request, options)), options)
        if output is not None and not options.validate_only:
            output.write("".join(f"{key_id}\n" for key_id in answer.key_ids).encode("ascii"))
            output.install()
    bad += [BadRow(rows[each.number - 1].line, each.problem) for each in answer.bad_rows]
    bad.sort(key=lambda row: row.line)
    skipped = answer.skipped + len(bad) - len(answer.bad_rows)
    return _Done(answer.imported, skipped, bad[:REPORTED_MAX]), answer.receipt


def _messages(
    rows: "list[Row]", request: "ImportRequest", options: "types_pb2.Options"
) -> Iterator["lifecycle_pb2.ImportKeysRequest"]:
    from verifier.admin.v1 import lifecycle_pb2

    terms = lifecycle_pb2.ImportTerms(
        client_id=request.client_id, entropy_bits=request.entropy_bits, accept_weak=request.accept_weak,
        skip_bad=request.skip_bad, options=options,
    )  # fmt: skip
    setattr(terms, f"{request.mode}_prefix", request.terms.prefix)
    yield lifecycle_pb2.ImportKeysRequest(terms=terms)
    for begin in range(0, len(rows), ROWS_PER_MESSAGE):
        yield lifecycle_pb2.ImportKeysRequest(
            rows=[_row(row, request) for row in rows[begin : begin + ROWS_PER_MESSAGE]]
        )
    yield lifecycle_pb2.ImportKeysRequest(rows_total=len(rows))


def _row(row: "Row", request: "ImportRequest") -> "lifecycle_pb2.ImportRow":
    """Write a row with all its terms: a message cannot say that a row has no scopes where the import has some."""
    from verifier.admin.times import stamp
    from verifier.admin.v1 import lifecycle_pb2

    terms = request.terms
    return lifecycle_pb2.ImportRow(
        sha256=row.digest,
        key_id=row.key_id or "",
        scopes=terms.scopes if row.scopes is None else row.scopes,
        allow=terms.rules if row.rules is None else row.rules,
        metadata=dict(terms.metadata if row.metadata is None else row.metadata),
        expires_at=stamp(terms.expires_at if row.expires_at is None else row.expires_at),
    )


def _bad_rows(bad: "list[BadRow]") -> InvalidInput:
    return InvalidInput(
        f"{len(bad)} rows cannot be imported, so nothing was; the first is line {bad[0].line}: {bad[0].problem}",
        hint="mend the file, or leave such rows out with --skip-bad",
        code="BAD_ROWS",
        details={"bad": len(bad), "rows": [{"line": row.line, "problem": row.problem} for row in bad[:SHOWN]]},
    )
