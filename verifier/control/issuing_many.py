"""Issuing keys by the million, into files.

The keys of a batch differ in key id, tag and ordinals only, so what their records share is encoded once.

Each batch is a transaction of its own, so that whoever has to revoke a key in an emergency waits for one batch, not
for all of them. Its tokens are on disk before it is committed: there is no key without its token, whatever happens.
While nothing was published nobody can have anything to revoke; then all batches are one transaction, in which making
the indexes anew at the end is two to three times faster.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from sqlalchemy import Connection

from verifier._issue import make_key_ids, make_tokens
from verifier.control import accounts, records
from verifier.control.acting import Act, Actor, acting
from verifier.control.handout import GrowingFile, check_free
from verifier.control.issuing import Ordinals, due, first_key
from verifier.control.progress import Progress, silent
from verifier.control.rows import key_row, version_row
from verifier.control.terms import Terms
from verifier.errors import InvalidInput, Unavailable, VerifierError
from verifier.keyring.records import encode_many
from verifier.registry import bulk, changes, queries
from verifier.registry.database import Registry
from verifier.registry.facts import Key
from verifier.tokens import check_prefix

BATCH = 50_000
COUNT_MAX = 100_000_000


def issue_keys(
    registry: Registry,
    peppers: Sequence[bytes],
    client_id: str,
    terms: Terms,
    *,
    count: int,
    output: Path,
    as_jsonl: bool = False,
    actor: Actor | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Make many keys of a client and write their tokens to a file.

    The files have their names from the first commit on. Killed at any moment, this leaves whole batches of keys, all of
    whose tokens are in the files, in order, from the first line on; at most the last batch of tokens in the files
    belongs to no key. So it is when a commit fails, which may have happened all the same. After any other error the
    files hold the tokens of the keys that were made, and no others; when none were, there are no files. While nothing
    was published, all keys are one batch.

    Args:
        peppers: as for :func:`issuing.issue_key`.
        client_id: of an existing client.
        terms: of every key.
        count: how many.
        output: new file for the tokens, one a line; key ids go to ``<output>.ids`` in the same order.
        as_jsonl: write one JSON object a line instead, key ids included.
        actor: who does it; the user of this process when None.
        progress: told of every batch.

    Returns:
        The files that were written.

    Raises:
        NotFound: there is no such client.
        Conflict: a file is there already.
        InvalidInput: the terms or the count are not usable.
        Unavailable: it failed after some of the keys were made (``PARTLY_DONE``); the error says how many.
    """
    if not 1 <= count <= COUNT_MAX:
        raise InvalidInput(f"the count lies between 1 and {COUNT_MAX:,}", code="BAD_COUNT")
    paths = [output] if as_jsonl else [output, output.with_name(output.name + ".ids")]
    check_free(paths)
    with ExitStack() as stack:
        files = [stack.enter_context(GrowingFile(path)) for path in paths]
        maker = _Maker(peppers, client_id, terms, files, count=count, progress=progress)
        try:
            while maker.made < count:
                with acting(registry, actor) as act, _dropping(files):
                    maker.make(act, BATCH if queries.state(act.connection).last_revision else count)
                maker.settle()
        except VerifierError as error:
            if maker.made:
                raise _partly_done(maker.made, count, error) from error
            raise
    return paths


@contextmanager
def _dropping(files: Sequence[GrowingFile]) -> Iterator[None]:
    """Take away what was written since the last commit, if there will be no commit."""
    try:
        yield
    except Exception:
        for file in files:
            file.drop()
        raise


@dataclass(frozen=True, slots=True)
class _Batch:
    """Keys that were just made, in order. Holds tokens: never print or log it."""

    client_id: str
    key_ids: list[str]
    tags: list[bytes]
    lines: bytes  # the tokens, one a line, all of one length

    def __repr__(self) -> str:
        return f"_Batch({self.client_id!r}, {len(self.key_ids)} keys)"

    def tokens(self) -> Iterator[str]:
        """Yield the tokens."""
        return iter(self.lines.decode("ascii").splitlines())


class _Maker:
    """Makes keys, one transaction after the other."""

    def __init__(
        self, peppers: Sequence[bytes], client_id: str, terms: Terms, files: Sequence[GrowingFile], *, count: int,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.made = 0  # and committed
        self._peppers = peppers
        self._client_id = client_id
        self._terms = terms
        self._files = files
        self._count = count
        self._progress = progress
        self._done = 0
        self._next = self._new_batch()  # made outside of the transactions, which others wait for

    def make(self, act: Act, at_most: int) -> None:
        """Make keys in an act whose commit follows at once; their tokens are on disk when this returns."""
        until = min(self._count, self.made + at_most)
        with bulk.expecting(act.connection, until - self.made):
            while self._done < until:
                self._add(act, self._next)
                self._done += len(self._next.key_ids)
                self._progress("keys", self._done, self._count)
                if self._done < until:
                    self._next = self._new_batch()
            self._progress("index", 0, 0)
        self._progress("commit", 0, 0)
        for file in self._files:
            file.sync()

    def settle(self) -> None:
        """Note that the transaction was committed."""
        self.made = self._done
        for file in self._files:
            file.keep()
        if self.made < self._count:
            self._next = self._new_batch()

    def _new_batch(self) -> _Batch:
        size = min(BATCH, self._count - self._done)
        prefix = check_prefix(self._terms.prefix).encode("ascii")
        lines, tags = make_tokens(prefix, size, self._peppers)
        return _Batch(self._client_id, make_key_ids(size), tags, lines)

    def _add(self, act: Act, batch: _Batch) -> None:
        size, connection = len(batch.key_ids), act.connection
        terms = self._terms.checked(act.now_s)
        client = queries.find_client(connection, self._client_id)
        changes.use_prefix(connection, terms.prefix)
        ordinals = Ordinals(
            changes.reserve(connection, "next_key", size), changes.reserve(connection, "next_version", size)
        )
        first = first_key(client, terms, act.now_s, key_id=batch.key_ids[0], tag=batch.tags[0], ordinals=ordinals)
        first = due(connection, first)
        _insert(connection, first, batch.key_ids, batch.tags)
        changes.count_changes(connection, size)
        act.audit("key.create", client_id=client.client_id, count=size,
                  ordinals=[first.ordinal, first.ordinal + size - 1], first=accounts.of_key(first))
        act.emit("keys.created", client_id=client.client_id, count=size)
        if len(self._files) == 1:
            self._files[0].write(_jsonl(batch))
        else:
            self._files[0].write(batch.lines)
            self._files[1].write(("\n".join(batch.key_ids) + "\n").encode("ascii"))


def _insert(connection: Connection, first: Key, key_ids: list[str], tags: list[bytes]) -> None:
    """Add a batch of keys that are like the first one but for key id, tag and ordinals."""
    label = first.label
    ordinals = range(first.ordinal, first.ordinal + len(tags))
    version_ordinals = range(label.ordinal, label.ordinal + len(tags))
    encoded = encode_many(records.record_of(first, label), key_ids, tags, version_ordinals)
    shared, texts = _alike(bulk.KEY_COLUMNS, key_row(first), but=2)
    bulk.insert_keys(connection, zip(ordinals, key_ids, *texts, strict=False), shared)
    shared, _ = _alike(bulk.VERSION_COLUMNS, version_row(first, label, encoded[0]), but=4)
    bulk.insert_versions(connection, zip(version_ordinals, tags, encoded, ordinals, strict=True), shared)


def _alike(columns: Sequence[str], row: Sequence[object], *, but: int) -> tuple[bulk.Shared, list[Iterator[str]]]:
    """Sort what rows share into numbers, by name, and texts, in order; the first columns differ."""
    rest = list(zip(columns, row, strict=True))[but:]
    numbers = {name: value for name, value in rest if value is None or isinstance(value, int)}
    return numbers, [repeat(value) for _, value in rest if isinstance(value, str)]


def _jsonl(batch: _Batch) -> bytes:
    client = json.dumps(batch.client_id)
    return "".join(
        f'{{"client_id": {client}, "key_id": "{key_id}", "version": 1, "token": "{token}"}}\n'
        for key_id, token in zip(batch.key_ids, batch.tokens(), strict=True)
    ).encode("ascii")


def _partly_done(made: int, count: int, error: VerifierError) -> Unavailable:
    return Unavailable(
        f"made {made:,} of {count:,} keys, then: {error.message}",
        hint="the files hold the tokens of those that were made; make the rest into another file",
        code="PARTLY_DONE", details={"made": made, "cause": error.code},
    )  # fmt: skip
