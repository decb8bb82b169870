"""The root command: global options, lazy loading of commands, and how errors leave the program."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from verifier import __version__
from verifier.errors import VerifierError

# Command name -> module under verifier.cli that defines `command`, in the order that help shows.
COMMANDS: dict[str, str] = {
    "init": "init",
    "client": "client",
    "key": "key",
    "publish": "publish",
    "publications": "publications",
    "serve": "serve",
    "check": "check",
    "status": "status",
    "keyring": "keyring",
    "config": "config",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands, in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None when there is none of that name."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(f"verifier.cli.{module}").command
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--store", "home", type=click.Path(path_type=Path), envvar="VERIFIER_STORE", metavar="DIR",
              help="Folder with registry, store and secrets.  [env: VERIFIER_STORE]")
@click.version_option(__version__, prog_name="verifier")
@click.pass_context
def root(ctx: click.Context, home: Path | None) -> None:
    """Issue, rotate, revoke and publish API keys, and verify them in microseconds."""
    ctx.obj = home


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line and exit with the code of section "Exit codes" in docs/cli.md."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # Outside its standalone mode click returns the code of an Exit instead of raising it.
        code = root.main(arguments, prog_name="verifier", standalone_mode=False)
    except VerifierError as error:
        _report(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if "--json" in arguments:
            sys.stdout.write(json.dumps({"error": {"code": "USAGE", "message": error.format_message()}}) + "\n")
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    sys.exit(code if isinstance(code, int) else 0)


def _report(error: VerifierError, *, as_json: bool) -> None:
    """Say what went wrong: JSON on standard output for scripts, plain text on standard error for people."""
    if as_json:
        sys.stdout.write(json.dumps(error.to_json()) + "\n")
        return
    sys.stderr.write(f"verifier: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"  hint: {error.hint}\n")
