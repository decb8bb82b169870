"""A progress bar on standard error for work that takes more than a moment."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from verifier.control.progress import Progress, silent

SHOWN_AFTER_S = 0.5
REFRESH_S = 0.1


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show how far some work is, if standard error is a terminal.

    Args:
        title: what the work is, in a word.

    Yields:
        A function to call with a stage, how much of it is done, and how much there is (0: not known).
    """
    if not sys.stderr.isatty():
        yield silent
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
    )  # fmt: skip
    bar = progress.Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = bar.add_task(title, total=None)
    began_s = shown_s = 0.0

    def show(stage: str, done: int, total: int) -> None:
        nonlocal began_s, shown_s
        now_s = time.monotonic()
        began_s = began_s or now_s
        if now_s - began_s > SHOWN_AFTER_S and now_s - shown_s > REFRESH_S:
            # Only now: a terminal shows one bar at a time, and other work may have shown its own before.
            bar.start()
            shown_s = now_s
            bar.update(task, description=f"{title}: {stage}", completed=done, total=total or None)
            bar.refresh()

    try:
        yield show
    finally:
        bar.stop()
