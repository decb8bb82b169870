"""Issuing keys: one, or a million.

The keys of a batch differ in key id, tag and ordinals only, so what their records share is encoded once.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from verifier._issue import make_key_ids, make_tokens
from verifier.control import records
from verifier.control.handout import NewFile, check_free
from verifier.control.progress import Progress, silent
from verifier.control.terms import Terms
from verifier.errors import InvalidInput, Unavailable
from verifier.keyring.records import encode_many
from verifier.registry import bulk, changes, queries
from verifier.registry.database import Registry
from verifier.registry.facts import Client, Key, Version, metadata_text

BATCH = 50_000
COUNT_MAX = 100_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Keys that were just made, in order. Holds tokens: never print or log it."""

    client_id: str
    key_ids: list[str]
    lines: bytes  # the tokens, one a line, all of one length

    def __repr__(self) -> str:
        return f"Batch({self.client_id!r}, {len(self.key_ids)} keys)"

    def tokens(self) -> Iterator[str]:
        """Yield the tokens."""
        return iter(self.lines.decode("ascii").splitlines())


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """One new key with its token, which is shown once and stored nowhere."""

    key: Key
    token: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.key.key_id!r})"


class Ordinals(NamedTuple):
    """The ordinals of a key and of its first version."""

    key: int
    version: int


def issue_key(registry: Registry, peppers: Sequence[bytes], client_id: str, terms: Terms) -> IssuedKey:
    """Make one key of a client, with its first version.

    Args:
        peppers: the secrets, in the order of the registry's pepper ids.
        client_id: of an existing client.
        terms: of the key.

    Raises:
        NotFound: there is no such client.
        InvalidInput: the terms are not usable.
    """
    made: list[IssuedKey] = []

    def keep(batch: Batch, key: Key) -> None:
        made.append(IssuedKey(key, next(batch.tokens())))

    with registry.write() as connection:
        _issue(connection, peppers, client_id, terms, count=1, sink=keep, progress=silent)
    return made[0]


def issue_keys(
    registry: Registry,
    peppers: Sequence[bytes],
    client_id: str,
    terms: Terms,
    *,
    count: int,
    output: Path,
    as_jsonl: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Make many keys of a client and write their tokens to a file; all of them, or none.

    Args:
        peppers: as for :func:`issue_key`.
        client_id: of an existing client.
        terms: of every key.
        count: how many.
        output: new file for the tokens, one a line; key ids go to ``<output>.ids`` in the same order.
        as_jsonl: write one JSON object a line instead, key ids included.
        progress: told of every batch.

    Returns:
        The files that were written.

    Raises:
        NotFound: there is no such client.
        Conflict: a file is there already.
        InvalidInput: the terms or the count are not usable.
    """
    if not 1 <= count <= COUNT_MAX:
        raise InvalidInput(f"the count lies between 1 and {COUNT_MAX:,}", code="BAD_COUNT")
    paths = [output] if as_jsonl else [output, output.with_name(output.name + ".ids")]
    check_free(paths)
    with ExitStack() as stack:
        files = [stack.enter_context(NewFile(path)) for path in paths]

        def write(batch: Batch, _: Key) -> None:
            if as_jsonl:
                files[0].write(_jsonl(batch))
            else:
                files[0].write(batch.lines)
                files[1].write(("\n".join(batch.key_ids) + "\n").encode("ascii"))

        with registry.write() as connection:
            _issue(connection, peppers, client_id, terms, count=count, sink=write, progress=progress)
            progress("commit", 0, 0)
            for file in files:
                file.install()
    return paths


def pepper_secrets(registry: Registry, available: dict[str, bytes]) -> list[bytes]:
    """Return the peppers that the registry names, in the order of their layers.

    Args:
        available: the secrets by id, of ``Secrets.peppers()``.

    Raises:
        Unavailable: one is missing, so no tag can be made (``PEPPER_MISSING``).
    """
    with registry.read() as connection:
        names = queries.state(connection).peppers
    for name in names:
        if name not in available:
            raise Unavailable(
                f"pepper {name} is missing, which all tags of this registry are made with",
                hint=f"restore secrets/peppers/{name}",
                code="PEPPER_MISSING",
            )
    return [available[name] for name in names]


def _issue(
    connection: Connection,
    peppers: Sequence[bytes],
    client_id: str,
    terms: Terms,
    *,
    count: int,
    sink: Callable[[Batch, Key], None],
    progress: Progress,
) -> None:
    """Make keys batch by batch; the sink gets each batch with its first key."""
    now_s = int(time.time())
    terms = terms.checked(now_s)
    client = queries.find_client(connection, client_id)
    changes.use_prefix(connection, terms.prefix)
    key_ordinal = changes.reserve(connection, "next_key", count)
    version_ordinal = changes.reserve(connection, "next_version", count)
    with bulk.expecting(connection, count):
        for done in range(0, count, BATCH):
            size = min(BATCH, count - done)
            lines, tags = make_tokens(terms.prefix.encode("ascii"), size, peppers)
            key_ids = make_key_ids(size)
            ordinals = Ordinals(key_ordinal + done, version_ordinal + done)
            first = first_key(client, terms, now_s, key_id=key_ids[0], tag=tags[0], ordinals=ordinals)
            _insert(connection, first, key_ids, tags)
            sink(Batch(client_id, key_ids, lines), first)
            progress("keys", done + size, count)
        progress("index", 0, 0)
    changes.count_changes(connection, count)


def first_key(
    client: Client, terms: Terms, now_s: int, *, key_id: str, tag: bytes, ordinals: Ordinals,
    entropy_bits: int | None = None,
) -> Key:  # fmt: skip
    """Return a new key with its first version.

    Args:
        terms: in canonical form.
        now_s: when it is issued; a version that is good at once keeps an empty ``not_before``.
        key_id: its public name.
        tag: of its token.
        ordinals: reserved for it.
        entropy_bits: declared at import; None when the secret is made here.
    """
    version = Version(
        ordinal=ordinals.version, number=1, tag=tag, issued_at=now_s, not_before=terms.not_before,
        expires_at=terms.expires_at, entropy_bits=entropy_bits,
    )  # fmt: skip
    return Key(
        ordinal=ordinals.key, key_id=key_id, client_ordinal=client.ordinal, client_id=client.client_id, enabled=True,
        created_at=now_s, expires_at=terms.key_expires_at, scopes=terms.scopes, rules=terms.rules,
        metadata=terms.metadata, prefix=terms.prefix, versions=(version,),
    )  # fmt: skip


def key_row(key: Key) -> tuple[object, ...]:
    """Write a key as a row for ``bulk.insert_keys``."""
    return (
        key.ordinal, key.key_id, key.client_ordinal, key.enabled, key.created_at, key.expires_at,
        " ".join(key.scopes), " ".join(key.rules), metadata_text(key.metadata), key.prefix,
    )  # fmt: skip


def version_row(key: Key, version: Version, record: bytes) -> tuple[object, ...]:
    """Write a version as a row for ``bulk.insert_versions``."""
    return (
        version.ordinal, version.tag, record, key.ordinal, version.number, version.issued_at, version.not_before,
        version.expires_at, version.entropy_bits,
    )  # fmt: skip


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


def _jsonl(batch: Batch) -> bytes:
    client = json.dumps(batch.client_id)
    return "".join(
        f'{{"client_id": {client}, "key_id": "{key_id}", "version": 1, "token": "{token}"}}\n'
        for key_id, token in zip(batch.key_ids, batch.tokens(), strict=True)
    ).encode("ascii")
