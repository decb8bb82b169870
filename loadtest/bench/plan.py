"""What all parts are told, and the median of rounds."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Plan:
    """How to measure.

    Attributes:
        keys: size of the keyring.
        quick: fewer and shorter rounds: to see that all works, not for figures to quote.
        rounds: interleaved rounds; figures are their medians.
        seconds: length of one measured window.
        peers: names of the peers to compare with.
        notes: what the reader has to know, filled while measuring.
    """

    keys: int
    quick: bool
    rounds: int
    seconds: float
    peers: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def interleaved(rounds: int, cases: Mapping[T, Callable[[], dict[str, Any]]]) -> dict[T, list[dict[str, Any]]]:
    """Run every case once per round, so that what changes on the machine meanwhile hits all alike."""
    found: dict[T, list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, run in cases.items():
            found[case].append(run())
    return found


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Return median, least and greatest of some figures, and the figures."""
    figures = [round(value, 4) for value in values]
    return {"median": median(figures), "min": min(figures), "max": max(figures), "rounds": figures}
