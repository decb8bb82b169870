"""The command line, one file per command; each is imported only when it runs."""

from verifier.cli._app import main

__all__ = ["main"]
