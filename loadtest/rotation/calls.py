"""What callers note of each call, and the file-like form in which a process hands it over."""

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

FAULT = 0  # in the place of a verdict: this node did not answer
LOST = -1  # no node did


class Call(NamedTuple):
    """One call of Verify. Times are in nanoseconds since 1970.

    Attributes:
        caller: who asked.
        key: index of the key.
        version: whose token was sent.
        node: index of the node that was asked.
        sent, received: when.
        verdict: number of the verdict, FAULT or LOST.
        revision: of the answer; 0 without one.
        probe: whether it was sent as a probe, which no node counts.
    """

    caller: int
    key: int
    version: int
    node: int
    sent: int
    received: int
    verdict: int
    revision: int
    probe: int


def packed(calls: Iterable[Call]) -> bytes:
    """Write calls as bytes, for a pipe."""
    return array("q", (number for call in calls for number in call)).tobytes()


def unpacked(data: bytes) -> Iterator[Call]:
    """Read what :func:`packed` wrote."""
    numbers = iter(array("q", data))
    yield from (Call(*fields) for fields in zip(*[numbers] * len(Call._fields), strict=True))
