"""``verifier key create``: one key on standard output, or a million in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli import _key_bulk
from verifier.cli._common import Moment, pairs, print_json, words
from verifier.cli._handout import Handout, sha256_option
from verifier.cli._policy import laid_over, policy_option, said_in
from verifier.cli._present import label_of, moment, receipt_json
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, tell
from verifier.errors import InvalidInput
from verifier.tokens import DEFAULT_PREFIX

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2


@click.command()
@click.option("--client", "client_id", required=True, metavar="ID", help="Who owns the key.")
@click.option("--scopes", multiple=True, metavar="A,B", help="Scopes it holds; may be repeated.")
@click.option("--allow", multiple=True, metavar="CIDR", help="Network it may be used from; may be repeated.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Told to the upstream; may be repeated.")
@click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="What the token begins with.")
@click.option("--not-before", type=Moment(), metavar="TIME", help="Active from: RFC 3339, or +24h.  [at once]")
@click.option("--expires", type=Moment(), metavar="TIME", help="End of this version.  [never]")
@click.option("--key-expires", type=Moment(), metavar="TIME", help="End of the key with all versions.  [never]")
@policy_option
@sha256_option
@click.option("--count", type=click.IntRange(1), metavar="N", help="Make so many keys; needs --output.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="New file for the tokens, mode 0600, one a line; key ids go to FILE.ids in the same order.")
@click.option("--format", "output_format", type=click.Choice(["text", "jsonl"]), default="text", show_default=True,
              help="Of the file; jsonl holds the key ids, too.")
@changing()
@click.pass_context
def create(
    ctx: click.Context, /, *, sha256: str | None, count: int | None, output: Path | None, output_format: str,
    wish: Wish, **terms: Any,
) -> None:  # fmt: skip
    """Create a key and show its token, once; it is stored nowhere. Or many keys at once, into a file.

    The token is made here, and only its SHA-256 goes to the registry. Where nodes report, the key is published by
    default, and its token is shown once all of them know it.
    """
    many = (count or 1) > 1
    if output is None and many:
        raise InvalidInput("many tokens go to a file", hint=f"--count {count} --output tokens.txt", code="NEEDS_OUTPUT")
    if output is None and output_format != "text":
        raise InvalidInput("--format is about the file", hint="add --output FILE, or --json", code="NEEDS_OUTPUT")
    if output is not None and sha256 is not None:
        raise InvalidInput("with --sha256 there is no token to write into a file", code="BAD_SECRET")
    if many and terms["policy"]:
        raise InvalidInput("keys that are made into a file have their client's policy",
                           hint=f"verifier policy set --client {terms['client_id']}", code="BAD_POLICY")
    with seam(ctx) as at:
        request = _request(at, terms, wish)
        as_jsonl = output_format == "jsonl"
        if output is not None and many:
            _key_bulk.create(at, request, count or 1, output, wish, as_jsonl=as_jsonl)
        else:
            _one(at, request, sha256, output, wish, as_jsonl=as_jsonl)


def _request(at: Seam, terms: dict[str, Any], wish: Wish) -> "lifecycle_pb2.CreateKeyRequest":
    from verifier.admin.times import stamp
    from verifier.admin.v1 import lifecycle_pb2, types_pb2

    request = lifecycle_pb2.CreateKeyRequest(
        client_id=terms["client_id"], scopes=words(terms["scopes"]), allow=words(terms["allow"]),
        metadata=pairs(terms["metadata"]), prefix=terms["prefix"], not_before=stamp(terms["not_before"]),
        expires_at=stamp(terms["expires"]), key_expires_at=stamp(terms["key_expires"]),
        options=wish.options(at, handout=True),
    )  # fmt: skip
    if terms["policy"]:
        request.policy.CopyFrom(laid_over(types_pb2.Policy(), said_in(terms["policy"])))
    return request


def _one(
    at: Seam, request: "lifecycle_pb2.CreateKeyRequest", sha256: str | None, output: Path | None, wish: Wish, *,
    as_jsonl: bool,
) -> None:  # fmt: skip
    from verifier.control.handout import NewFile, check_free

    repeated = wish.request_id is not None
    output = None if wish.dry_run else output
    ids = None if output is None or as_jsonl else output.with_name(output.name + ".ids")
    if ids is not None and not repeated:
        check_free([ids])
    handout = Handout(request.prefix, sha256, output, repeated=repeated)
    done, failed = handout.ask(at, at.admin.lifecycle.CreateKey, request)
    key, version = done.key, label_of(done.key)
    if output is not None and as_jsonl:
        handout.describe({"client_id": key.client_id, "key_id": key.key_id, "version": version.version})
    if ids is not None and not ids.exists():
        with NewFile(ids) as file:
            file.write(f"{key.key_id}\n".encode("ascii"))
            file.install()
    body = {
        "client_id": key.client_id,
        "key_id": key.key_id,
        "version": version.version,
        "token": None if wish.dry_run else handout.shown,
        "scopes": list(key.scopes),
        "not_before": moment(version, "not_before"),
        "expires_at": moment(version, "expires_at"),
    }
    if output is not None:
        body["files"] = [str(file) for file in (output, ids) if file is not None]
    if failed is not None and wish.as_json:
        print_json({**body, **receipt_json(done.receipt)})
        raise failed
    lines = [] if wish.dry_run else handout.tell([f"key:   {key.key_id}"])
    if not wish.as_json and not wish.dry_run:
        # Before anything is said of nodes: whoever stops reading there has his token.
        for line in lines:
            click.echo(line)
        handout.remind()
    if failed is not None:
        raise failed
    tell(wish, [], body, done.receipt)
