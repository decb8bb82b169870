"""A further pepper, without new tokens: all tags become HMACs of themselves under it, in one transaction.

A tag cannot be made anew without its token, but it can be laid under another pepper: ``tag' = HMAC(new pepper, tag)``.
So the peppers only become more, and the tags are safe as long as one of them is. Nodes must hold the new pepper before
the next publication: one that does not keeps answering from the last it could read (PEPPER_MISSING).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from verifier._tagset import relayered
from verifier.control.acting import Act
from verifier.control.progress import Progress, silent
from verifier.errors import Conflict, NotFound
from verifier.keyring.builder import PEPPERS_MAX
from verifier.keyring.records import HEAD_BYTES, TAG_BYTES
from verifier.registry import bases, bulk, changes, queries, retagging, schema, tombstones

AT_ONCE = 10_000

Peppers = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What was done.

    Attributes:
        peppers: the registry's peppers from now on, in the order of their layers.
        versions: how many versions have new tags.
        tombstones: how many tombstones.
    """

    peppers: tuple[str, ...]
    versions: int
    tombstones: int


def add_pepper(act: Act, pepper_id: str, peppers: Peppers, *, progress: Progress = silent) -> Rekeyed:
    """Lay a further pepper over all tags; all tokens stay good. The next publication builds a new base.

    Args:
        act: who does it.
        pepper_id: of a pepper that is among the secrets already, here and best on all nodes.
        peppers: all that are held, by id.
        progress: told ``rekey``, how many versions are done, and how many there are at most.

    Raises:
        Conflict: the registry has this pepper (``PEPPER_IN_USE``), as many as a keyring can have (``LIMIT``), or it was
            marked as leaked (``PEPPER_LEAKED``), or is not held (``PEPPER_MISSING``).
    """
    state = queries.state(act.connection)
    if pepper_id in state.peppers:
        raise Conflict(f"the tags are under pepper {pepper_id} already", code="PEPPER_IN_USE")
    if pepper_id in leaked_peppers(act.connection):
        raise Conflict(f"pepper {pepper_id} has leaked", hint="make another one", code="PEPPER_LEAKED")
    if len(state.peppers) >= PEPPERS_MAX:
        raise Conflict(
            f"a keyring has at most {PEPPERS_MAX} peppers",
            hint="keys that are rotated into another store are free of the old ones",
            code="LIMIT",
        )
    done = add_layers(act, [pepper_id], peppers, progress=progress)
    changes.count_changes(act.connection)
    act.audit(
        "pepper.add", before={"peppers": state.peppers}, after={"peppers": done.peppers}, versions=done.versions
    )
    return done


def add_layers(act: Act, names: Sequence[str], peppers: Peppers, *, progress: Progress = silent) -> Rekeyed:
    """Lay peppers over all tags of versions and tombstones; whoever calls counts and tells of it.

    Raises:
        Conflict: one of them is not held (``PEPPER_MISSING``).
    """
    connection, layers = act.connection, pepper_values(names, peppers)
    present = queries.state(connection).peppers
    if not names:
        return Rekeyed(present, 0, 0)
    bases.forget(connection)
    with bulk.expecting(connection, queries.record_count(connection)):
        versions = _relayer_versions(connection, layers, progress)
    buried = _relayer_tombstones(connection, layers)
    after = (*present, *names)
    connection.execute(update(schema.registry).values(peppers=" ".join(after)))
    return Rekeyed(after, versions, buried)


def mark_pepper_leaked(act: Act, pepper_id: str) -> bool:
    """Note that a pepper has leaked: no publication that nothing else protects is brought back by a rollback.

    What is published now stays; add a pepper to protect the tags again.

    Args:
        act: who does it.
        pepper_id: of a pepper that tags are or were under.

    Returns:
        Whether that was news.

    Raises:
        NotFound: the registry never had such a pepper.
    """
    known, leaked = queries.state(act.connection).peppers, leaked_peppers(act.connection)
    if pepper_id in leaked:
        return False
    if pepper_id not in known:
        raise NotFound(f"the registry has no pepper {pepper_id}", hint=f"it has {', '.join(known)}")
    act.connection.execute(update(schema.registry).values(leaked_peppers=" ".join((*leaked, pepper_id))))
    act.audit("pepper.leaked", pepper=pepper_id)
    return True


def leaked_peppers(connection: Connection) -> tuple[str, ...]:
    """Return the ids of peppers that were marked as leaked."""
    return tuple(str(connection.scalar(select(schema.registry.c.leaked_peppers)) or "").split())


def is_exposed(peppers: Iterable[str], leaked: Iterable[str]) -> bool:
    """Tell whether tags under these peppers are protected by none any more: each layer has leaked."""
    return set(peppers) <= set(leaked)


def pepper_values(names: Sequence[str], peppers: Peppers) -> list[bytes]:
    """Return the values of peppers.

    Raises:
        Conflict: one of them is not held (``PEPPER_MISSING``).
    """
    for name in names:
        if name not in peppers:
            raise Conflict(
                f"pepper {name} is not among the secrets", hint="bring its file back", code="PEPPER_MISSING"
            )
    return [peppers[name] for name in names]


def _relayer_versions(connection: Connection, layers: Sequence[bytes], progress: Progress) -> int:
    total, done = queries.ordinals(connection)[0], 0
    for page in retagging.pages(connection, AT_ONCE):
        moved = relayered(b"".join(tag for _, tag, _ in page), layers)
        tags = [moved[at : at + TAG_BYTES] for at in range(0, len(moved), TAG_BYTES)]
        retagging.set_tags(connection, [
            (tag, tag[HEAD_BYTES:] + record[HEAD_BYTES:], ordinal)
            for tag, (ordinal, _, record) in zip(tags, page, strict=True)
        ])  # fmt: skip
        done += len(page)
        progress("rekey", done, total)
    return done


def _relayer_tombstones(connection: Connection, layers: Sequence[bytes]) -> int:
    t = schema.tombstones.c
    change = update(schema.tombstones).where(t.tag == bindparam("old")).values(tag=bindparam("new"))
    # All of them first: the new tags lie among the old ones.
    old = b"".join(tombstones.tags(connection))
    new = relayered(old, layers)
    for rows in _pairs(old, new):
        connection.execute(change, rows)
    return len(old) // TAG_BYTES


def _pairs(old: bytes, new: bytes) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(old), TAG_BYTES * AT_ONCE):
        places = range(start, min(start + TAG_BYTES * AT_ONCE, len(old)), TAG_BYTES)
        yield [{"old": old[at : at + TAG_BYTES], "new": new[at : at + TAG_BYTES]} for at in places]
