"""Many keys at once, their tokens into a file: beside the registry by its fast path, elsewhere by their digests."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from verifier.cli._common import counted
from verifier.cli._progress import progress_bar
from verifier.cli._seam import Seam, in_doubt
from verifier.cli._wish import Wish, finish, tell
from verifier.errors import VerifierError

if TYPE_CHECKING:
    from verifier.admin.v1 import lifecycle_pb2, types_pb2

ROWS_PER_MESSAGE = 1000
BATCH = 50_000
SECRET_BITS = 160  # of the tokens made here


def create(
    at: Seam, request: "lifecycle_pb2.CreateKeyRequest", count: int, output: Path, wish: Wish, *, as_jsonl: bool
) -> None:
    """Make keys, write their tokens to files, and tell what was done.

    Args:
        request: the terms of every key, and the options.
        count: how many.
        output: new file for the tokens; key ids go to ``<output>.ids``.
        as_jsonl: write one JSON object a line instead, key ids included.
    """
    if wish.dry_run:
        _preview(at, request, count, wish)
        return
    # Only by digests can a repeat be told from another request, as it finds the tokens of the first try in its file.
    make = _elsewhere if at.remote or wish.request_id is not None else _here
    files, receipt = make(at, request, count, output, wish, as_jsonl=as_jsonl)
    lines = [f"created {counted(count, 'key')} of client {request.client_id}", *(f"  {file}" for file in files)]
    body = {"client_id": request.client_id, "count": count, "files": [str(file) for file in files]}
    tell(wish, lines, body, receipt)


def _preview(at: Seam, request: "lifecycle_pb2.CreateKeyRequest", count: int, wish: Wish) -> None:
    """Check the terms with one key, which is not made."""
    request.secret.generate = True
    done = at.change(at.admin.lifecycle.CreateKey, request)
    lines = [f"would create {counted(count, 'key')} of client {request.client_id}"]
    tell(wish, lines, {"client_id": request.client_id, "count": count, "files": []}, done.receipt)


def _here(
    at: Seam, request: "lifecycle_pb2.CreateKeyRequest", count: int, output: Path, wish: Wish, *, as_jsonl: bool
) -> "tuple[list[Path], types_pb2.Receipt]":
    from verifier.admin.times import moment_s
    from verifier.control import issuing_many
    from verifier.control.acting import local_actor
    from verifier.control.terms import Terms

    assert at.registry is not None
    terms = Terms(
        scopes=tuple(request.scopes), rules=tuple(request.allow), metadata=dict(request.metadata),
        prefix=request.prefix, not_before=moment_s(request, "not_before"), expires_at=moment_s(request, "expires_at"),
        key_expires_at=moment_s(request, "key_expires_at"),
    )  # fmt: skip
    options = request.options
    with progress_bar("create") as progress:
        files = issuing_many.issue_keys(
            at.registry, at.peppers(), request.client_id, terms, count=count, output=output, as_jsonl=as_jsonl,
            actor=local_actor(options.request_id, options.note or None), progress=progress,
        )  # fmt: skip
    return files, finish(at, options)


def _elsewhere(
    at: Seam, request: "lifecycle_pb2.CreateKeyRequest", count: int, output: Path, wish: Wish, *, as_jsonl: bool
) -> "tuple[list[Path], types_pb2.Receipt]":
    """Make the tokens here and write them before anything is asked, so that a lost answer loses none."""
    from verifier.control.handout import check_free

    files = [output] if as_jsonl else [output, output.with_name(output.name + ".ids")]
    digests: list[bytes] = []
    key_ids: list[str] = []
    repeated = wish.request_id is not None and all(file.exists() for file in files)
    if repeated:
        _read(files, digests, key_ids)
    else:
        check_free(files)
        _write(files, request.client_id, _made(request, count, digests, key_ids))
    try:
        done = at.repeated(lambda: at.admin.lifecycle.ImportKeys(_messages(request, digests, key_ids)), request.options)
    except VerifierError as error:
        if not repeated and not error.details.get("recorded") and not in_doubt(error):
            for file in files:
                file.unlink(missing_ok=True)
        raise
    return files, done.receipt


def _made(
    request: "lifecycle_pb2.CreateKeyRequest", count: int, digests: list[bytes], key_ids: list[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Make keys; yield their ids and tokens batch by batch, and keep ids and digests."""
    from verifier import tokens
    from verifier._issue import make_key_ids

    with progress_bar("create") as progress:
        for begin in range(0, count, BATCH):
            new_ids = make_key_ids(min(BATCH, count - begin))
            made = [tokens.generate(request.prefix) for _ in new_ids]
            digests += [hashlib.sha256(token.encode("ascii")).digest() for token in made]
            key_ids += new_ids
            progress("tokens", begin + len(made), count)
            yield new_ids, made


def _write(files: list[Path], client_id: str, batches: Iterator[tuple[list[str], list[str]]]) -> None:
    """Write tokens, and key ids beside them, or one object a line when there is one file."""
    from verifier.control.handout import NewFile

    with ExitStack() as stack:
        opened = [stack.enter_context(NewFile(file)) for file in files]
        for key_ids, made in batches:
            if len(opened) == 1:
                rows = zip(key_ids, made, strict=True)
                texts = [[json.dumps({"client_id": client_id, "key_id": key_id, "version": 1, "token": token})
                          for key_id, token in rows]]
            else:
                texts = [made, key_ids]
            for file, lines in zip(opened, texts, strict=True):
                file.write("".join(f"{line}\n" for line in lines).encode("ascii"))
        for file in opened:
            file.install()


def _read(files: list[Path], digests: list[bytes], key_ids: list[str]) -> None:
    """Read what the first try of this command made."""
    lines = files[0].read_text("ascii").splitlines()
    if len(files) == 1:
        rows = [json.loads(line) for line in lines]
        made, ids = [row["token"] for row in rows], [row["key_id"] for row in rows]
    else:
        made, ids = lines, files[1].read_text("ascii").splitlines()
    digests += [hashlib.sha256(token.encode("ascii")).digest() for token in made]
    key_ids += ids


def _messages(
    request: "lifecycle_pb2.CreateKeyRequest", digests: list[bytes], key_ids: list[str]
) -> Iterator["lifecycle_pb2.ImportKeysRequest"]:
    from verifier.admin.v1 import lifecycle_pb2

    terms = lifecycle_pb2.ImportTerms(
        client_id=request.client_id, native_prefix=request.prefix, scopes=request.scopes, allow=request.allow,
        metadata=request.metadata, options=request.options, entropy_bits=SECRET_BITS,
    )  # fmt: skip
    for name in ("not_before", "expires_at", "key_expires_at"):
        if request.HasField(name):
            getattr(terms, name).CopyFrom(getattr(request, name))
    yield lifecycle_pb2.ImportKeysRequest(terms=terms)
    for begin in range(0, len(digests), ROWS_PER_MESSAGE):
        part = slice(begin, begin + ROWS_PER_MESSAGE)
        rows = zip(digests[part], key_ids[part], strict=True)
        yield lifecycle_pb2.ImportKeysRequest(
            rows=[lifecycle_pb2.ImportRow(sha256=digest, key_id=key_id) for digest, key_id in rows]
        )
    yield lifecycle_pb2.ImportKeysRequest(rows_total=len(digests))
