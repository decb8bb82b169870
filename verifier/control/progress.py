"""How long work tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the stage's name, what is done of it, and all of it (0: not known)."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""
