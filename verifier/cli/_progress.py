"""A progress bar on standard error for work that takes more than a moment."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SHOWN_AFTER_S = 0.5
REFRESH_S = 0.1


class Bar:
    """Shows how far some work is, if standard error is a terminal. Call it with a stage, what is done, and all of it.

    Args:
        title: what the work is, in a word.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._quiet = not sys.stderr.isatty()
        self._began_s: float | None = None
        self._shown_s = 0.0
        self._shown: tuple[Progress, TaskID] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of how far it is.

        Args:
            stage: what is being done.
            done: how much of it is done.
            total: how much there is; 0 when that is not known.
        """
        now_s = time.monotonic()
        self._began_s = self._began_s or now_s
        if self._quiet or now_s - self._began_s <= SHOWN_AFTER_S or now_s - self._shown_s <= REFRESH_S:
            return
        # Begun only now: a terminal shows one bar at a time, and other work may have shown its own before.
        self._shown = self._shown or self._begin()
        bar, task = self._shown
        self._shown_s = now_s
        bar.update(task, description=f"{self._title}: {stage}", completed=done, total=total or None)
        bar.refresh()

    def clear(self) -> None:
        """Take the bar away, before anything else is written; more work may follow."""
        self._began_s = None
        if self._shown is not None:
            self._shown[0].stop()
            self._shown = None

    def _begin(self) -> "tuple[Progress, TaskID]":
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
        )  # fmt: skip
        bar = progress.Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        task = bar.add_task(self._title, total=None)
        bar.start()
        return bar, task


@contextmanager
def progress_bar(title: str) -> Iterator[Bar]:
    """Show how far some work is until it is over.

    Args:
        title: what the work is, in a word.
    """
    bar = Bar(title)
    try:
        yield bar
    finally:
        bar.clear()
