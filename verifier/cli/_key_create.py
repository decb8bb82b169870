"""``verifier key create``: one key on standard output, or a million in a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._changing import Desk, desk, pairs, publish_option, tell, words
from verifier.cli._common import Moment, counted, json_option, print_json, time_text
from verifier.cli._progress import progress_bar
from verifier.errors import InvalidInput
from verifier.tokens import DEFAULT_PREFIX

if TYPE_CHECKING:
    from verifier.control.terms import Terms
    from verifier.registry.facts import Key


@click.command()
@click.option("--client", "client_id", required=True, metavar="ID", help="Who owns the key.")
@click.option("--scopes", multiple=True, metavar="A,B", help="Scopes it holds; may be repeated.")
@click.option("--allow", multiple=True, metavar="CIDR", help="Network it may be used from; may be repeated.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Told to the upstream; may be repeated.")
@click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="What the token begins with.")
@click.option("--not-before", type=Moment(), metavar="TIME", help="Active from: RFC 3339, or +24h.  [at once]")
@click.option("--expires", type=Moment(), metavar="TIME", help="End of this version.  [never]")
@click.option("--key-expires", type=Moment(), metavar="TIME", help="End of the key with all versions.  [never]")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Make so many keys; needs --output.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="New file for the tokens, mode 0600, one a line; key ids go to FILE.ids in the same order.")
@click.option("--format", "output_format", type=click.Choice(["text", "jsonl"]), default="text", show_default=True,
              help="Of the file; jsonl holds the key ids, too.")
@publish_option
@json_option
@click.pass_context
def create(
    ctx: click.Context, *, client_id: str, scopes: tuple[str, ...], allow: tuple[str, ...], metadata: tuple[str, ...],
    prefix: str, not_before: int | None, expires: int | None, key_expires: int | None, count: int | None,
    output: Path | None, output_format: str, wants_publish: bool, as_json: bool,
) -> None:  # fmt: skip
    """Create a key and show its token, once; it is stored nowhere. Or many keys at once, into a file."""
    from verifier.control.terms import Terms

    terms = Terms(
        scopes=words(scopes), rules=words(allow), metadata=pairs(metadata), prefix=prefix, not_before=not_before,
        expires_at=expires, key_expires_at=key_expires,
    )  # fmt: skip
    if output is None and (count or 1) > 1:
        raise InvalidInput("many tokens go to a file", hint=f"--count {count} --output tokens.txt", code="NEEDS_OUTPUT")
    if output is None and output_format != "text":
        raise InvalidInput("--format is about the file", hint="add --output FILE, or --json", code="NEEDS_OUTPUT")
    with desk(ctx) as at:
        if output is None:
            _one(at, client_id, terms, wants_publish, as_json)
        else:
            made = _many(at, client_id, terms, count or 1, output, as_jsonl=output_format == "jsonl")
            tell(made.lines, made.body, at.outcome(wants_publish), as_json=as_json)


def _one(at: Desk, client_id: str, terms: "Terms", wants_publish: bool, as_json: bool) -> None:
    from verifier.control import directory

    peppers = at.peppers()
    with at.act() as act:
        made = directory.issue_key(act, peppers, client_id, terms)
    key, version = made.key, made.key.label
    body = {
        "client_id": client_id,
        "key_id": key.key_id,
        "version": version.number,
        "token": made.token,
        "scopes": list(key.scopes),
        "not_before": time_text(version.not_before),
        "expires_at": time_text(_end(made.key)),
    }
    if not as_json:
        # Before publishing, which may fail: the key exists, and its token is nowhere else.
        click.echo(f"key:   {key.key_id}\ntoken: {made.token}")
        click.echo("  keep the token now: it is not stored and cannot be shown again", err=True)
        tell([], body, at.outcome(wants_publish), as_json=False)
        return
    try:
        outcome = at.outcome(wants_publish)
    except Exception:
        print_json({**body, "published": False, "revision": None, "audit_id": None})
        raise
    tell([], {**body, "audit_id": None}, outcome, as_json=True)


def _end(key: "Key") -> int | None:
    from verifier.control.lifecycle import effective_end

    return effective_end(key, key.label)


@dataclass(frozen=True, slots=True)
class _Made:
    """What there is to say of many keys."""

    lines: list[str]
    body: dict[str, Any]


def _many(at: Desk, client_id: str, terms: "Terms", count: int, output: Path, *, as_jsonl: bool) -> _Made:
    from verifier.control import directory

    with progress_bar("create") as progress:
        files = directory.issue_keys(
            at.registry, at.peppers(), client_id, terms,
            count=count, output=output, as_jsonl=as_jsonl, progress=progress,
        )  # fmt: skip
    body = {"client_id": client_id, "count": count, "files": [str(file) for file in files]}
    return _Made([f"created {counted(count, 'key')} of client {client_id}", *(f"  {file}" for file in files)], body)
