"""Where a command works: on a folder of this machine, or through a control plane."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.store.home import Home


@dataclass(frozen=True, slots=True)
class Place:
    """What the options before the command say.

    Attributes:
        home: the ``--store`` folder.
        registry: address of a registry in a database elsewhere; may hold a password.
        admin: HOST:PORT of a control plane.
        token_file: holds the token that it knows this caller by.
        ca: PEM file of whom it may be signed by.
        certificate: PEM file of this caller's certificate.
        key: PEM file of its private key.
    """

    home: Path | None = None
    registry: str | None = None
    admin: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def place_of(ctx: click.Context) -> Place:
    """Return what the options before the command say."""
    place = ctx.find_root().obj
    return place if isinstance(place, Place) else Place()


def is_remote(ctx: click.Context) -> bool:
    """Tell whether a control plane carries the command out.

    What is said on the command line wins over the environment.

    Raises:
        InvalidInput: both a folder and a control plane are named, in the same place.
    """
    place, root = place_of(ctx), ctx.find_root()
    if place.admin is None or place.home is None:
        return place.admin is not None
    said = {name: root.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
            for name in ("admin", "home")}
    if said["admin"] == said["home"]:
        raise InvalidInput(
            "both a store and a control plane are named",
            hint="give --store DIR to work on the folder itself, or --admin HOST:PORT, not both",
        )
    return said["admin"]


def require_home(ctx: click.Context) -> Path:
    """Return the folder given with ``--store``, or say how to give it."""
    home = place_of(ctx).home
    if home is None:
        raise InvalidInput("no store was named", hint="give --store DIR before the command, or set VERIFIER_STORE")
    return home


def home_of(ctx: click.Context) -> "Home":
    """Return the folder given with ``--store``, and where its registry is."""
    from verifier.store.home import Home

    return Home(require_home(ctx), registry=place_of(ctx).registry)
