"""What the services have in common."""

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from verifier.admin import changing
from verifier.admin.context import Caller
from verifier.admin.desk import Desk
from verifier.control.acting import Act

Response = TypeVar("Response", bound=Message)


class Handlers:
    """The methods of a service for one caller. Each takes its request and returns its response.

    They raise the errors of :mod:`verifier.errors`, and may be called by any thread.

    Args:
        desk: what they work with.
        caller: who calls.
    """

    def __init__(self, desk: Desk, caller: Caller) -> None:
        self._desk = desk
        self._caller = caller

    def _change(
        self,
        request: Any,
        response: Response,
        work: Callable[[Act, Response], None],
        *,
        urgent: bool = False,
    ) -> Response:
        """Carry out a command; arguments as for :func:`verifier.admin.changing.change`."""
        return changing.change(self._desk, self._caller, request, response, work, urgent=urgent)
