"""``verifier serve``: run a node."""

import click

from verifier.cli._settings import settings_options
from verifier.server.settings import Sourced


@click.command(name="serve")
@settings_options
def command(sourced: Sourced) -> None:
    """Answer Verify, and follow the store.

    Options win over VERIFIER_* variables, these over the file named with --config; `verifier config show` takes the
    same options and names the source of every value.

    SIGTERM and Ctrl-C drain: no new connections, calls in flight are answered, then exit code 0; a second one stops
    at once. SIGHUP looks at the store now.
    """
    from verifier.server.node import serve

    raise click.exceptions.Exit(serve(sourced.settings))
