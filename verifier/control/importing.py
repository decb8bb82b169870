"""Importing keys of other systems of which only the SHA-256 is known, without issuing them anew.

Digests of weak secrets can be guessed by whoever gets the keyring and its pepper, so the entropy is declared and at
least 112 bits (ASVS 5.0, 6.5.2). Imported tokens have no checksum of ours: their prefix becomes MIXED, which sends
such a token on to the lookup, or tokens of no known prefix are looked up at all.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from verifier._issue import make_key_ids
from verifier._tag import Tagger
from verifier.control import accounts, digests, lifecycle, records
from verifier.control.acting import Act, Actor, acting
from verifier.control.digests import BadRow, Row
from verifier.control.issuing import Ordinals, first_key
from verifier.control.policy import inherited
from verifier.control.progress import Progress, silent
from verifier.control.rows import key_row, version_row
from verifier.control.terms import Terms, check_id
from verifier.errors import InvalidInput
from verifier.registry import bulk, changes, queries, schema, tombstones
from verifier.registry.database import Registry
from verifier.registry.facts import Client, Key

ENTROPY_BITS_MIN = 112
BATCH = 5_000
REPORTED_MAX = 100

Mode = Literal["native", "mixed", "foreign"]


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import and how.

    Args:
        client_id: who owns the keys.
        terms: of every key, where its row says nothing else; their prefix is that of the imported tokens (native,
            mixed), or of tokens that later take their place (foreign).
        mode: ``native`` if the tokens were made as this service makes them, ``mixed`` if they look like
            ``<prefix>_...``, ``foreign`` if they look like anything.
        entropy_bits: of the imported secrets, as their issuer declares.
        accept_weak: take less than 112 bits.
        skip_bad: leave bad rows out instead of importing nothing.
    """

    client_id: str
    terms: Terms
    mode: Mode
    entropy_bits: int
    accept_weak: bool = False
    skip_bad: bool = False


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    imported: int = 0
    skipped: int = 0
    bad: list[BadRow] = field(default_factory=list)  # the first of them

    def note(self, row: BadRow) -> None:
        """Count a bad row."""
        self.skipped += 1
        if len(self.bad) < REPORTED_MAX:
            self.bad.append(row)


def import_digests(
    registry: Registry,
    peppers: Sequence[bytes],
    file: Path,
    request: ImportRequest,
    *,
    on_keys: Callable[[Sequence[str]], None] | None = None,
    before_commit: Callable[[], None] | None = None,
    actor: Actor | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Import the keys of a file; with any bad row nothing at all, unless the request says otherwise.

    Args:
        peppers: the secrets, in the order of the registry's pepper ids.
        file: see :mod:`verifier.control.digests`.
        request: what to import and how.
        on_keys: told the ids of imported keys, in the order of their rows.
        before_commit: called when all is written and nothing is committed.
        actor: who does it; the user of this process when None.
        progress: told of every batch.

    Raises:
        InvalidInput: the entropy is too low (``WEAK_SECRETS``), or rows are bad (``BAD_ROWS``, nothing imported).
        NotFound: there is no such client or file.
    """
    check_entropy(request)
    with acting(registry, actor) as act:
        report = import_rows(act, peppers, digests.read(file), request, on_keys=on_keys, progress=progress)
        if before_commit is not None:
            before_commit()
    return report


def import_rows(
    act: Act,
    peppers: Sequence[bytes],
    rows: Iterable[Row | BadRow],
    request: ImportRequest,
    *,
    on_keys: Callable[[Sequence[str]], None] | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Import keys in one act: all of them or none; arguments and errors as for :func:`import_digests`.

    Other writers wait meanwhile, about 5 s for a hundred thousand keys: cut larger imports into several.
    """
    check_entropy(request)
    request = replace(request, terms=request.terms.checked(act.now_s))
    work = _Import(act, Tagger(peppers), request)
    for batch in queries.parts(rows, BATCH):
        key_ids = work.add(batch)
        if on_keys is not None:
            on_keys(key_ids)
        progress("import", work.report.imported + work.report.skipped, 0)
    if work.report.skipped and not request.skip_bad:
        raise _bad_rows(work.report)
    work.finish()
    return work.report


class _Import:
    """One import in its act."""

    def __init__(self, act: Act, tagger: Tagger, request: ImportRequest) -> None:
        self.report = ImportReport()
        self._act = act
        self._connection = act.connection
        self._tagger = tagger
        self._request = request
        self._client: Client = queries.find_client(act.connection, request.client_id)
        self._max_age_s = inherited(act.connection, self._client.ordinal).max_age_s
        self._first_ordinal = changes.reserve(act.connection, "next_version", 0)

    def add(self, batch: Sequence[Row | BadRow]) -> list[str]:
        """Import a batch of rows, note the bad ones, and return the ids of the keys that were made."""
        rows = [row for row in batch if isinstance(row, Row)]
        tags = {row.line: self._tagger.tag_of_digest(row.digest) for row in rows}
        taken = changes.existing_tags(self._connection, tags.values())
        buried = tombstones.known(self._connection, tags.values())
        taken_ids = changes.existing_key_ids(self._connection, [row.key_id for row in rows if row.key_id is not None])
        key_ordinal = changes.reserve(self._connection, "next_key", len(batch))
        version_ordinal = changes.reserve(self._connection, "next_version", len(batch))
        made: list[tuple[Key, bytes]] = []
        for at, (row, new_id) in enumerate(zip(batch, make_key_ids(len(batch)), strict=True)):
            try:
                if isinstance(row, BadRow):
                    raise InvalidInput(row.problem)
                tag = tags[row.line]
                if tag in buried:
                    raise InvalidInput("the token was compromised (TOMBSTONED)")
                self._check_new(row, tag, taken, taken_ids)
                key = self._key(row, row.key_id or new_id, tag, Ordinals(key_ordinal + at, version_ordinal + at))
                made.append((key, records.encoded(key, key.label)))
            except InvalidInput as error:
                self.report.note(BadRow(row.line, error.message))
            else:
                taken[tag] = version_ordinal + at
                taken_ids.add(key.key_id)
        bulk.insert_keys(self._connection, [key_row(key) for key, _ in made])
        bulk.insert_versions(self._connection, [version_row(key, key.label, record) for key, record in made])
        self.report.imported += len(made)
        if made:
            changes.count_changes(self._connection, len(made))
            self._audit([key for key, _ in made])
        return [key.key_id for key, _ in made]

    def finish(self) -> None:
        """Have such tokens looked up."""
        if not self.report.imported:
            return
        mode = schema.MIXED if self._request.mode == "mixed" else schema.NATIVE
        changes.use_prefix(self._connection, self._request.terms.prefix, mode)
        if self._request.mode == "foreign":
            changes.accept_foreign(self._connection)

    def _audit(self, made: Sequence[Key]) -> None:
        """Write of a batch what its first key is like; rows may differ from it in what a row can say."""
        first, last, alone = made[0], made[-1], len(made) == 1
        details: Any = {"after" if alone else "first": accounts.of_key(first)}
        self._act.audit(
            "key.import", client_id=first.client_id, key_id=first.key_id if alone else None,
            version=1 if alone else None, count=len(made), mode=self._request.mode,
            ordinals=[first.ordinal, last.ordinal], **details,
        )  # fmt: skip
        self._act.emit("keys.imported", client_id=first.client_id, count=len(made))

    def _check_new(self, row: Row, tag: bytes, taken: Mapping[bytes, int], taken_ids: Container[str]) -> None:
        if tag in taken:
            earlier = taken[tag] >= self._first_ordinal
            raise InvalidInput(f"the digest is in {'this file' if earlier else 'the registry'} already")
        if row.key_id is not None and row.key_id in taken_ids:
            raise InvalidInput("the key id is taken")

    def _key(self, row: Row, key_id: str, tag: bytes, ordinals: Ordinals) -> Key:
        """Return the key that a row asks for, or raise InvalidInput."""
        check_id("key", key_id)
        terms = self._request.terms
        own = {
            "scopes": row.scopes, "rules": row.rules, "metadata": row.metadata, "expires_at": row.expires_at
        }  # fmt: skip
        given = {name: value for name, value in own.items() if value is not None}
        if given:
            terms = replace(terms, **given).checked(self._act.now_s)  # type: ignore[arg-type]  # each of its own type
        key = first_key(
            self._client, terms, self._act.now_s, key_id=key_id, tag=tag, ordinals=ordinals,
            entropy_bits=self._request.entropy_bits,
        )  # fmt: skip
        return replace(key, due_at=lifecycle.due_at(key, self._max_age_s))


def check_entropy(request: ImportRequest) -> None:
    """Refuse secrets that can be guessed.

    Raises:
        InvalidInput: of less than 112 bits, and the request does not accept that (``WEAK_SECRETS``).
    """
    if not 1 <= request.entropy_bits <= 4096:
        raise InvalidInput("the declared entropy is not a number of bits", code="BAD_ENTROPY")
    if request.entropy_bits < ENTROPY_BITS_MIN and not request.accept_weak:
        raise InvalidInput(
            f"secrets of {request.entropy_bits} bits can be guessed from their digests; "
            f"{ENTROPY_BITS_MIN} bits are the least",
            hint="issue new keys instead, or take the risk with --accept-weak",
            code="WEAK_SECRETS",
        )


def _bad_rows(report: ImportReport) -> InvalidInput:
    first = report.bad[0]
    return InvalidInput(
        f"{report.skipped} rows cannot be imported, so nothing was; the first is line {first.line}: {first.problem}",
        hint="mend the file, or leave such rows out with --skip-bad",
        code="BAD_ROWS",
        details={"bad": report.skipped, "rows": [{"line": row.line, "problem": row.problem} for row in report.bad]},
    )
