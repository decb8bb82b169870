"""``verifier control``: run a control plane."""

import functools
from collections.abc import Callable
from typing import Any

import click

from verifier.admin.settings import VARIABLE, ControlSettings, fields, read_settings, setting_of
from verifier.cli._place import home_of, is_remote
from verifier.errors import InvalidInput


def control_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of all settings; the command gets them as one ``settings`` argument."""

    @functools.wraps(command)
    @click.pass_context
    def wrapped(ctx: click.Context, /, **given: Any) -> Any:
        return ctx.invoke(command, settings=read_settings(given))

    for field in reversed(fields()):
        setting, variable = setting_of(field), VARIABLE + field.name.upper()
        wrapped = click.option(
            "--" + field.name.replace("_", "-"), field.name, metavar=setting.metavar, envvar=variable,
            help=f"{setting.help}  [env: {variable}]",
        )(wrapped)  # fmt: skip
    return wrapped


@click.command(name="control")
@control_options
@click.pass_context
def command(ctx: click.Context, settings: ControlSettings) -> None:
    """Run a control plane: the operators' API, reports of nodes, and what is due by the clock.

    Tells what happens to keys as log lines and events, rotates keys that are due by their policy, retires versions
    whose policy says so once that is safe, and publishes first uses that nodes report. Of several on one registry
    one leads; the others answer, and take over when it is gone.

    SIGTERM and Ctrl-C answer the calls in flight, publish what is due, and stop with exit code 0; a second one stops at
    once. SIGHUP does what is due now.
    """
    from verifier.admin.controlplane import run

    if is_remote(ctx):
        raise InvalidInput("a control plane works on the folder itself", hint="give --store DIR, not --admin")
    raise click.exceptions.Exit(run(home_of(ctx), settings))
