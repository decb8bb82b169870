"""The options that `serve`, `config show` and `config check` share: one for every setting of a node."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from verifier.cli._place import place_of
from verifier.server.settings import CONFIG_VARIABLE, VARIABLE, Sourced, fields, read_settings, setting_of


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--config`` and the options of all settings; the command gets them as one ``sourced`` argument."""

    @functools.wraps(command)
    @click.pass_context
    def wrapped(ctx: click.Context, /, config: Path | None, **given: Any) -> Any:
        flags = {field.name: given.pop(field.name) for field in fields() if field.name in given}
        environment = dict(os.environ)
        home = place_of(ctx).home
        from_flag = ctx.find_root().get_parameter_source("home") is click.core.ParameterSource.COMMANDLINE
        if home is not None and from_flag:
            flags["store"] = str(home)
        return ctx.invoke(command, sourced=read_settings(flags, environment, config), **given)

    for field in reversed(fields()):
        if field.name == "store":
            continue
        setting = setting_of(field)
        wrapped = click.option(
            "--" + field.name.replace("_", "-"), field.name, multiple=setting.many, metavar=setting.metavar,
            help=f"{setting.help}  [env: {VARIABLE}{field.name.upper()}]",
        )(wrapped)  # fmt: skip
    return click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                        help=f"TOML file of settings.  [env: {CONFIG_VARIABLE}]")(wrapped)


def require_store(sourced: Sourced) -> Path:
    """Return the store's folder, or say how to give it."""
    from verifier.errors import InvalidInput

    if sourced.settings.store is None:
        raise InvalidInput("no store was named", hint="give --store DIR before the command, or set VERIFIER_STORE")
    return sourced.settings.store
