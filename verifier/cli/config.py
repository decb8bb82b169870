"""``verifier config``: what a node would be told, and whether it could start."""

import os
from pathlib import Path
from typing import Any

import click

from verifier.cli._common import json_option, print_json, print_table
from verifier.cli._settings import require_store, settings_options
from verifier.errors import VerifierError
from verifier.server.settings import Sourced, unknown_variables
from verifier.server.values import OFF

SECRET_VARIABLES = ("VERIFIER_PEPPERS", "VERIFIER_PEPPERS_FILE")


@click.group(name="config")
def command() -> None:
    """Show and check the settings of a node."""


@command.command()
@settings_options
@json_option
def show(sourced: Sourced, as_json: bool) -> None:
    """Show every setting, and where its value came from.

    Takes the options of `verifier serve`, so it shows what that would run with. Secrets are never shown.
    """
    values, secrets = sourced.shown(), _secrets()
    if as_json:
        settings = {name: {"value": value, "source": sourced.sources[name]} for name, value in values.items()}
        print_json({"settings": settings, "secrets": secrets})
        return
    rows = [(name, _text(value), sourced.sources[name]) for name, value in values.items()]
    rows += [(name, shown, "environment") for name, shown in secrets.items()]
    print_table("Settings", ["setting", "value", "source"], rows)


@command.command()
@settings_options
@json_option
def check(sourced: Sourced, as_json: bool) -> None:
    """Check that a node could start with these settings. Exit code 4 when it could not."""
    problems = find_problems(sourced)
    warnings = [f"{name} is set, but is no setting" for name in unknown_variables(os.environ, SECRET_VARIABLES)]
    if as_json:
        print_json({"ok": not problems, "problems": problems, "warnings": warnings})
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in problems:
            click.echo(f"problem: {problem}", err=True)
        if not problems:
            click.echo("The settings are good.")
    if problems:
        raise click.exceptions.Exit(4)


def find_problems(sourced: Sourced) -> list[str]:
    """Try what a node would do at its start, without serving; return what would fail."""
    from verifier.server.authz import authz_of
    from verifier.store.home import Home
    from verifier.store.layout import Store
    from verifier.store.secrets import Secrets

    problems: list[str] = []

    def attempt(part: str, action: Any) -> Any:
        try:
            return action()
        except (VerifierError, OSError) as error:
            problems.append(f"{part}: {error}")
            return None

    settings = sourced.settings
    folder = attempt("store", lambda: require_store(sourced))
    if folder is not None:
        home = Home(folder)
        secrets = Secrets(home.secrets)
        attempt("store", Store(home.store).current)
        attempt("trusted keys", secrets.trust)
        peppers = attempt("peppers", secrets.peppers)
        if peppers == {}:
            problems.append(f"peppers: there are none in {home.secrets / 'peppers'}")
        state = settings.state or home.state
        if not os.access(_nearest(state), os.W_OK):
            problems.append(f"state: {state} cannot be written")
    addresses = (*settings.listen, *settings.http_listen)
    for address in addresses:
        if address.startswith("unix:") and not os.access(_nearest(Path(address[5:]).absolute().parent), os.W_OK):
            problems.append(f"listen: the folder of {address} cannot be written")
    if settings.metrics != OFF and settings.metrics in addresses and not settings.metrics.endswith(":0"):
        problems.append(f"metrics: {settings.metrics} is also an address for calls")
    attempt("gateways", lambda: authz_of(settings))
    if settings.report_to is not None:
        from verifier.reporting.link import Link
        from verifier.server.reports import target_of

        attempt("reports", lambda: Link(target_of(settings)).metadata())
    return problems


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above that exists."""
    return next(level for level in (folder, *folder.absolute().parents) if level.exists())


def _secrets() -> dict[str, str]:
    return {name: "[redacted]" for name in SECRET_VARIABLES if os.environ.get(name)}


def _text(value: Any) -> str | None:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
