"""The command line in this process: quick, and with its exit code and both outputs."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifier.cli import main


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object that was printed."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def rows(self) -> list[Any]:
        """The objects that were printed."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Done]


def cli(*arguments: str | Path) -> Done:
    """Run a command."""
    out, err = io.StringIO(), io.StringIO()
    code: object = None
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return Done(code, out.getvalue(), err.getvalue())


def at(*options: str | Path) -> Cli:
    """Return a function that runs commands with these options before them; ``ok=False`` for those that fail."""

    def run(*arguments: str | Path, ok: bool = True) -> Done:
        done = cli(*options, *arguments)
        assert not ok or done.code == 0, f"exit code {done.code}\n{done.out}{done.err}"
        return done

    return run
