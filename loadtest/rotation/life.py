"""What the script knows of a key: which windows its versions had when, and so what every call had to be answered."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from verifier.vocabulary import Verdict

NS = 1_000_000_000


@dataclass(frozen=True)
class Window:
    """One version of a key. Times are in seconds since 1970.

    Attributes:
        not_before: from when on it is valid; None for always.
        superseded_at: when another took its place; None if none did.
        superseded_by: which one.
        end: from when on it is refused; None for never.
    """

    not_before: int | None = None
    superseded_at: int | None = None
    superseded_by: int = 0
    end: int | None = None

    def verdict(self, at_s: int) -> Verdict:
        """Return what a call is to be answered."""
        if self.not_before is not None and at_s < self.not_before:
            return Verdict.NOT_YET_ACTIVE
        return Verdict.EXPIRED if self.end is not None and at_s >= self.end else Verdict.VALID


Windows = Mapping[int, Window]


@dataclass(frozen=True)
class Change:
    """The windows after a change that began and was done at these moments, in nanoseconds since 1970."""

    begun_ns: int
    done_ns: int
    windows: Windows


class Life:
    """The history of one key, that begins with its version 1.

    Attributes:
        changes: in order.
    """

    def __init__(self) -> None:
        self.changes = [Change(0, 0, {1: Window()})]

    @property
    def now(self) -> Windows:
        """The windows after the last change."""
        return self.changes[-1].windows

    def change(self, begun_ns: int, done_ns: int, windows: Windows) -> None:
        """Note a change: some versions have these windows now."""
        self.changes.append(Change(begun_ns, done_ns, {**self.now, **windows}))

    def moved(self, number: int, begun_ns: int, done_ns: int, end: int) -> None:
        """Note that the end of a version has changed."""
        self.change(begun_ns, done_ns, {number: replace(self.now[number], end=end)})

    def over_ns(self, number: int) -> int | None:
        """Return when a version was over and all nodes knew it; None if it has no end."""
        end = self.now[number].end
        if end is None:
            return None
        told = next(change.done_ns for change in self.changes if change.windows.get(number) == self.now[number])
        return max(end * NS, told)

    def during(self, from_ns: int, to_ns: int) -> list[Windows]:
        """Return all windows that may have been in force in a time: a change happens somewhere between its moments."""
        until = [change.done_ns for change in self.changes[1:]]
        return [
            change.windows
            for change, left_ns in zip(self.changes, [*until, None], strict=True)
            if change.begun_ns <= to_ns and (left_ns is None or left_ns >= from_ns)
        ]

    def verdicts(self, number: int, sent_ns: int, received_ns: int) -> set[Verdict]:
        """Return what a call may have been answered."""
        seconds = {sent_ns // NS, received_ns // NS}
        return {
            windows[number].verdict(at_s) if number in windows else Verdict.UNKNOWN
            for windows in self.during(sent_ns, received_ns)
            for at_s in seconds
        }
