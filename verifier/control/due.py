"""Rotating keys that have reached their greatest age.

A new version's token must reach somebody, or it would only cut off the version before. So a key is rotated only if
there is a folder for tokens: ``KEY_ID.VERSION``, mode 0600, on disk before the registry commits, and ``.pending`` until
the version is served (:mod:`verifier.control.handing_over`). After a crash there may be a file whose version was never
made, never a version whose token nobody has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import select

from verifier.control import lifecycle, rotation
from verifier.control.acting import SCHEDULE, Act
from verifier.control.clockwork import PAUSE_S, Begin
from verifier.control.handing_over import PENDING
from verifier.control.handout import NewFile
from verifier.control.policy import ON_FIRST_USE, policy_of
from verifier.control.rotation import NewSecret, RotateTerms
from verifier.errors import Conflict, InvalidInput, VerifierError
from verifier.registry import changes, clock, queries, schema
from verifier.registry.database import Registry
from verifier.registry.facts import Key

DUE = "rotation.due"
POSTPONED = "rotation.postponed"
HANDED_OUT = "rotation.handed_out"

AGAIN_S = 86_400
SWITCHED_OFF = "SWITCHED_OFF"


@dataclass(frozen=True, slots=True)
class Rotations:
    """What became of keys that were due.

    Attributes:
        rotated: have a new version.
        due: would have one if there were a folder for its token.
        postponed: cannot be rotated now.
    """

    rotated: int = 0
    due: int = 0
    postponed: int = 0

    def __bool__(self) -> bool:
        return bool(self.rotated or self.due or self.postponed)


class DueKeys:
    """Rotates what is due.

    Args:
        registry: where.
        begin: begins an act there.
        peppers: returns the secrets that tags are made with.
        folder: for the tokens; None: keys are only said to be due.
        pause: lets others in.
    """

    def __init__(
        self, registry: Registry, begin: Begin, peppers: Callable[[], Sequence[bytes]], folder: Path | None,
        pause: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._registry = registry
        self._begin = begin
        self._peppers = peppers
        self._folder = folder
        self._pause = pause

    def rotate(self, now_s: int, limit: int) -> Rotations:
        """Rotate at most so many keys; what cannot be rotated is told, and looked at again later.

        Raises:
            Unavailable: the folder cannot be written, a pepper is missing, or the database cannot be used.
        """
        with self._registry.read() as connection:
            due = clock.due(connection, now_s, limit)
        done = Rotations()
        for ordinal in due:
            became = self._one(ordinal, now_s)
            if became:
                done = replace(done, **{became: getattr(done, became) + 1})
            self._pause(PAUSE_S)
        return done

    def _one(self, ordinal: int, now_s: int) -> str | None:
        with _TokenFile(self._registry, self._folder) as file, self._begin(SCHEDULE, now_s) as act:
            (key,) = queries.keys_at(act.connection, [ordinal])
            if key.due_at is None or key.due_at > now_s:
                return None  # somebody rotated it meanwhile
            if _is_off(act, key):
                return _later(act, key, POSTPONED, reason=SWITCHED_OFF)
            if lifecycle.is_rotating(key, act.now_s):
                return _later(act, key, POSTPONED, until=_closes_at(key, act.now_s), reason="ROTATION_OPEN")
            if self._folder is None:
                return _later(act, key, DUE)
            try:
                with act.connection.begin_nested():
                    rotated = rotation.rotate(act, key.key_id, _terms(act, key), NewSecret(self._peppers()))
            except (Conflict, InvalidInput) as error:
                return _later(act, key, POSTPONED, reason=error.code, message=error.message)
            assert rotated.token is not None
            name = f"{key.key_id}.{rotated.version}"
            file.write(name, rotated.token, rotated.key.label.tag, act.now_s)
            act.emit(HANDED_OUT, client_id=key.client_id, key_id=key.key_id, version=rotated.version, file=name)
        return "rotated"


def _terms(act: Act, key: Key) -> RotateTerms:
    """Return terms that leave all to the policy.

    The clock is named if it waits for a first use, since that is refused when no node would tell of one; a label that
    is over already leaves no gap that was not there.
    """
    policy = policy_of(act.connection, key)
    return RotateTerms(
        clock=ON_FIRST_USE if policy.clock == ON_FIRST_USE else None,
        allow_gap=not lifecycle.is_live(key, key.label, act.now_s),
        expected_version=key.label.number,
    )


def _is_off(act: Act, key: Key) -> bool:
    enabled = act.connection.scalar(
        select(schema.clients.c.enabled).where(schema.clients.c.ordinal == key.client_ordinal)
    )
    return not (key.enabled and enabled)


def _closes_at(key: Key, now_s: int) -> int | None:
    """Return when the open rotation is over by itself; None if it never is."""
    ends = [lifecycle.effective_end(key, version) for version in lifecycle.open_predecessors(key, now_s)]
    return None if None in ends else max((end for end in ends if end is not None), default=None)


def _later(act: Act, key: Key, kind: str, *, until: int | None = None, **details: object) -> str:
    """Tell, and look at the key again in a day, or before that when what is in the way is over by itself."""
    again_at = min(act.now_s + AGAIN_S, max(until or act.now_s + AGAIN_S, act.now_s + 1))
    changes.update_key(act.connection, key.ordinal, due_at=again_at)
    act.emit(kind, client_id=key.client_id, key_id=key.key_id, version=key.label.number, again_at=again_at, **details)
    return "due" if kind == DUE else "postponed"


class _TokenFile:
    """The file of one token. It is taken away again if its version was not made; in doubt it stays."""

    def __init__(self, registry: Registry, folder: Path | None) -> None:
        self._registry = registry
        self._folder = folder
        self._path: Path | None = None
        self._tag = b""

    def write(self, name: str, token: str, tag: bytes, now_s: int) -> None:
        """Bring a token to disk, inside the transaction that makes its version."""
        assert self._folder is not None
        path = self._folder / (name + PENDING)
        for left in (path, self._folder / name):
            if left.exists():  # of a process that died before it committed: the version is new
                left.rename(left.with_name(f"{name}.unused-{now_s}"))
        with NewFile(path) as file:
            file.write(token.encode("ascii") + b"\n")
            file.install()
        self._path, self._tag = path, tag

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._path is not None and kind is not None and issubclass(kind, Exception) and not self._was_made():
            self._path.unlink(missing_ok=True)

    def _was_made(self) -> bool:
        """Tell whether the version is there all the same: an answer to a commit can be lost.

        Asked in a writer's place, so that a commit that is still under way is over.
        """
        try:
            with self._registry.write() as connection:
                return bool(changes.existing_tags(connection, [self._tag]))
        except VerifierError:
            return True
