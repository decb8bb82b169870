"""The root command: global options, lazy loading of commands, and how errors leave the program."""

import difflib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from verifier import __version__
from verifier.cli._place import Place
from verifier.errors import VerifierError

F = TypeVar("F", bound=Callable[..., Any])

# Command name -> module under verifier.cli that defines `command`, and what help says of it; in the order of help.
# The texts stand here too, so that `verifier --help` need not import every command; a test compares them.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Create registry, store and secrets in the folder; where they are already, change nothing."),
    "client": ("client", "Create, look at and switch clients: the customers, services and bots that own keys."),
    "key": ("key", "Create, look at, change, switch, rotate, revoke and import keys."),
    "policy": ("policy", "How keys are rotated, by default, for a client, or for a key."),
    "revoke": ("revoke", "Revoke versions of keys in an emergency: publishes, and waits for the nodes."),
    "reinstate": ("reinstate", "Undo a revocation that was wrong, other than key_compromise."),
    "publish": ("publish", "Publish clients and keys as they are now; nodes take the publication up by themselves."),
    "rollback": ("rollback", "Serve the whole store as it was at REVISION, denials of now on top, and hold it there."),
    "publications": ("publications", "List, show, compare and prune publications."),
    "registry": ("registry", "Back up, mend and upgrade the registry."),
    "nodes": ("nodes", "What the nodes serve, as they report it."),
    "usage": ("usage", "How much a key, or all keys of a client, were used, by version and day, the newest first."),
    "audit": ("audit", "Who did what, when: list, verify and export the audit log."),
    "identity": ("identity", "Who may use the operators' API, and in which role."),
    "secrets": ("secrets", "Peppers, the signing key, and the keys that nodes trust."),
    "serve": ("serve", "Answer Verify, and follow the store."),
    "control": ("control",
                "Run a control plane: the operators' API, reports of nodes, and what is due by the clock."),
    "check": ("check", "Verify tokens read from standard input, one a line."),
    "status": ("status", "Ask a node what it serves, and what it refused."),
    "keyring": ("keyring", "Look into keyring files and verify them."),
    "config": ("config", "Show and check the settings of a node."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands, in the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = importlib.import_module(f"verifier.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say which one may have been meant."""
        if args and args[0] not in COMMANDS:
            alike = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean '{alike[0]}'?" if alike else ""
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)


def _file(name: str, variable: str, text: str) -> Callable[[F], F]:
    """Make an option that names a file, of the command line or the environment."""
    return click.option(name, type=click.Path(path_type=Path, dir_okay=False), envvar=variable, metavar="FILE",
                        help=f"{text}  [env: {variable}]")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
             epilog="`verifier key --help` compares the ways to end a version.")
@click.option("--store", "home", type=click.Path(path_type=Path), envvar="VERIFIER_STORE", metavar="DIR",
              help="Folder with registry, store and secrets.  [env: VERIFIER_STORE]")
@click.option("--registry", envvar="VERIFIER_REGISTRY", metavar="URL",
              help="Database with the registry, instead of a file in the folder: postgresql://...  "
              "[env: VERIFIER_REGISTRY]")
@click.option("--admin", envvar="VERIFIER_ADMIN", metavar="HOST:PORT",
              help="Let this control plane carry the command out, instead of working on a folder.  "
              "[env: VERIFIER_ADMIN]")
@_file("--admin-token-file", "VERIFIER_ADMIN_TOKEN_FILE", "Holds the token that the control plane knows you by.")
@_file("--admin-ca", "VERIFIER_ADMIN_CA",
       "Who must have signed its certificate (PEM); `system` for whom this machine trusts.")
@_file("--admin-cert", "VERIFIER_ADMIN_CERT", "Your certificate (PEM), for control planes that ask for one.")
@_file("--admin-key", "VERIFIER_ADMIN_KEY", "Its private key (PEM).")
@click.version_option(__version__, prog_name="verifier")
@click.pass_context
def root(
    ctx: click.Context, *, home: Path | None, registry: str | None, admin: str | None, admin_token_file: Path | None,
    admin_ca: Path | None, admin_cert: Path | None, admin_key: Path | None,
) -> None:  # fmt: skip
    """Issue, rotate, revoke and publish API keys, and verify them in microseconds."""
    ctx.obj = Place(home, registry or None, admin or None, admin_token_file, admin_ca, admin_cert, admin_key)


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
