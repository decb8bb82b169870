"""``verifier secrets``: what must stay secret, by its names."""

from typing import Any

import click

from verifier.cli._common import json_option, print_fields, print_json
from verifier.cli._seam import only_local


@click.group()
def command() -> None:
    """Peppers, the signing key, and the keys that nodes trust."""


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """Name the peppers, the signing key and the trusted keys. No secret is shown."""
    from verifier.store.secrets import Secrets

    secrets = Secrets(only_local(ctx, "secrets").secrets)
    body: dict[str, Any] = {
        "peppers": sorted(secrets.peppers()),
        "signing_key": secrets.signing_key().key_id,
        "trusted": sorted(secrets.trust().key_ids),
    }
    if as_json:
        print_json(body)
    else:
        print_fields(body)
