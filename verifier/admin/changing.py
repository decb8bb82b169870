"""What every command that changes something goes through: once for each request id, previewed, recorded, published."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import select

from verifier.admin import replay, waiting
from verifier.admin.context import Caller
from verifier.admin.desk import Desk
from verifier.admin.publisher import Covered
from verifier.admin.v1 import types_pb2
from verifier.control.acting import Act
from verifier.errors import VerifierError
from verifier.registry import audit, schema

Response = TypeVar("Response", bound=Message)


class _PreviewOver(Exception):
    """Undoes the act of a preview."""


@dataclass(slots=True)
class Change:
    """A command on its way.

    Args:
        desk: what it works with.
        caller: who sent it.
        request: with its ``options``.
        options: those, where the request has them elsewhere.
    """

    desk: Desk
    caller: Caller
    request: Message
    options: types_pb2.Options
    request_id: str = ""
    need: int = 0  # registry.changes that a publication must cover to hold the effect
    done_at_s: int | None = None  # of a repeat: when it was carried out the first time
    urgent: bool = False  # an emergency, which the drop guard must not stop for what was meant to end
    began_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    def __post_init__(self) -> None:
        """Check the request id, or make one: under it the command can be repeated."""
        self.request_id = replay.check_id(self.options.request_id) or str(uuid.uuid4())

    @property
    def words(self) -> tuple[str, str]:
        """Its id and its note, for the audit log."""
        return self.request_id, self.options.note

    @property
    def until(self) -> float | None:
        """Until when the caller waits, by ``time.monotonic``, less what it takes to tell him."""
        return None if self.caller.deadline is None else self.caller.deadline - waiting.MARGIN_S

    def recorded(self, response: Response, work: Callable[[Act, Response], None]) -> Response:
        """Do the work in one act, or find the answer of the first time; return the answer with its receipt begun."""
        name = self._name()
        try:
            with self.desk.acting(self.caller.actor(*self.words)) as act:
                stored = None if self.options.validate_only else replay.find(act.connection, name, act.now_s)
                if stored is not None:
                    response.ParseFromString(stored.response)
                    self.need, self.done_at_s = stored.need, stored.at_s
                    return response
                self._do(act, response, work)
                if self.options.validate_only:
                    raise _PreviewOver
                replay.save(act.connection, name, response, act.now_s, need=self.need)
        except _PreviewOver:
            _receipt(response).audit_id = ""
        return response

    def carried_out(self, response: Response, work: Callable[[Response], None]) -> Response:
        """Do work that has transactions of its own, alone among publishers; or find the answer of the first time.

        Such work is one that a repeat does not do twice: publishing, rolling back, tidying up.
        """
        name = self._name()
        with self.desk.publisher.alone(self.until):
            if self.options.validate_only:
                work(response)
                return response
            with self.desk.registry.read() as connection:
                stored = replay.find(connection, name, time_s())
            if stored is not None:
                response.ParseFromString(stored.response)
                self.done_at_s = stored.at_s
                return response
            with self.desk.registry.read() as connection:
                before, _ = audit.last(connection)
            work(response)
            receipt = _receipt(response)
            receipt.request_id = self.request_id
            with self.desk.registry.write() as connection:
                receipt.audit_id = audit.entry_of(connection, self.request_id, after=before) or ""
                replay.save(connection, name, response, time_s())
        return response

    def is_repeat(self) -> bool:
        """Tell whether the answer of the first time is there already."""
        with self.desk.registry.read() as connection:
            return replay.find(connection, self._name(), time_s()) is not None

    def awaited(self, response: Response, covered: Covered) -> Response:
        """Complete the receipt of a command that published; wait for nodes if the options say so."""
        receipt = self._named(response)
        receipt.published = covered.revision > 0
        waiting.complete(self.desk, receipt, covered, self.options, waiting.Patience(self.began_ms, self.until))
        return response

    def described(self, response: Response) -> Response:
        """Complete the receipt of a command that published nothing."""
        receipt = self._named(response)
        waiting.describe(self.desk, receipt, 0, recorded=not self.options.validate_only)
        return response

    def _named(self, response: Response) -> types_pb2.Receipt:
        """Say in the receipt under which id the command can be repeated, and whether it was."""
        receipt = _receipt(response)
        receipt.request_id, receipt.replayed = self.request_id, self.done_at_s is not None
        if self.done_at_s is not None:
            receipt.done_at.seconds = self.done_at_s
        return receipt

    def _name(self) -> replay.Name:
        return replay.Name(self.caller.principal, self.request_id, replay.digest_of(self.request))

    def _do(self, act: Act, response: Response, work: Callable[[Act, Response], None]) -> None:
        before = _changes(act)
        work(act, response)
        after = _changes(act)
        # What changed nothing that nodes see needs no publication. A repeat of what was done before does: the one
        # that did it may not have come so far.
        self.need = 0 if act.entries and after == before else after
        receipt = _receipt(response)
        receipt.audit_id = act.audit_id or ""
        receipt.request_id = self.request_id

    def finished(self, response: Response) -> Response:
        """Publish and wait as the options say; complete the receipt.

        Raises:
            VerifierError: of publishing; its details say ``recorded`` and the audit id.
        """
        receipt = self._named(response)
        if self.options.validate_only or self.options.wait == types_pb2.WAIT_RECORDED:
            waiting.describe(self.desk, receipt, self.need, recorded=not self.options.validate_only)
            return response
        if not self.need:
            return self.awaited(response, self.desk.publisher.newest())
        try:
            actor = self.caller.actor(self.request_id)
            covered = self.desk.publisher.cover(self.need, actor, until=self.until, urgent=self.urgent)
        except VerifierError as error:
            raise _recorded_but(error, receipt) from error
        return self.awaited(response, covered)


def change(
    desk: Desk,
    caller: Caller,
    request: Any,
    response: Response,
    work: Callable[[Act, Response], None],
    *,
    urgent: bool = False,
) -> Response:
    """Carry out a command that changes the registry.

    Args:
        desk: what it works with.
        caller: who sent it.
        request: with ``options``.
        response: empty, with a ``receipt``; the work fills in the rest.
        work: does it, inside the act.
        urgent: an emergency, which the drop guard must not stop for what was meant to end.

    Raises:
        Conflict: the request id was used for another request (``REQUEST_ID_REUSED``); or as the work says.
        VerifierError: of publishing; its details then say ``recorded`` and the audit id.
    """
    command = Change(desk, caller, request, request.options, urgent=urgent)
    command.recorded(response, work)
    return command.finished(response)


def time_s() -> int:
    """Return the second of the clock, for what is only read."""
    return int(time.time())


def _changes(act: Act) -> int:
    return int(act.connection.execute(select(schema.registry.c.changes)).scalar_one())


def _receipt(response: Any) -> types_pb2.Receipt:
    receipt: types_pb2.Receipt = response.receipt
    return receipt


def _recorded_but(error: VerifierError, receipt: types_pb2.Receipt) -> VerifierError:
    """Say of an error of publishing that the change itself is there."""
    error.details |= {"recorded": True, "audit_id": receipt.audit_id or None, "request_id": receipt.request_id}
    error.message = f"recorded, but not published: {error.message}"
    error.args = (error.message,)
    return error
