"""``verifier secrets``: what must stay secret, by its names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import counted, json_option, print_fields, print_json
from verifier.cli._progress import progress_bar
from verifier.cli._seam import only_local

if TYPE_CHECKING:
    from verifier.control.acting import Act
    from verifier.store.home import Home
    from verifier.store.secrets import Secrets

NEXT_STEPS = "bring trusted.pem to every node, then: verifier secrets use-signing-key"


@click.group()
def command() -> None:
    """Peppers, the signing key, and the keys that nodes trust.

    Works on the folder itself, and shows no secret.
    """


@command.command("list")
@json_option
@click.pass_context
def list_(ctx: click.Context, as_json: bool) -> None:
    """Name the peppers, the signing keys and the trusted keys."""
    from verifier.control.rekeying import leaked_peppers
    from verifier.registry import queries
    from verifier.registry.database import open_registry
    from verifier.store import signing_keys
    from verifier.store.signing import SigningKey

    home, secrets = _opened(ctx)
    next_key = signing_keys.next_path(secrets)
    with open_registry(home) as registry, registry.read() as connection:
        used, leaked = queries.state(connection).peppers, leaked_peppers(connection)
    body: dict[str, Any] = {
        "peppers": sorted(secrets.peppers()),
        "in_use": list(used),
        "leaked": list(leaked),
        "signing_key": _signing_key_id(secrets),
        "next_signing_key": SigningKey.load(next_key).key_id if next_key.exists() else None,
        "trusted": list(signing_keys.trusted_ids(secrets)),
    }
    if as_json:
        print_json(body)
    else:
        print_fields(body, 18)


@command.command("add-pepper")
@click.argument("pepper_id")
@click.option("--at-once", is_flag=True, help="Make it and use it in one go: where no node reads another copy.")
@json_option
@click.pass_context
def add_pepper(ctx: click.Context, pepper_id: str, at_once: bool, as_json: bool) -> None:
    """Lay a further pepper over all tags; all tokens stay good. The next publication builds a new base.

    The first time it is only made. Bring it to every node, then repeat the command: a node without it would go on
    answering from the last publication that it could read.
    """
    from verifier.control.acting import acting
    from verifier.control.rekeying import add_pepper as lay
    from verifier.registry.database import open_registry

    home, secrets = _opened(ctx)
    made = pepper_id not in secrets.peppers()
    with open_registry(home) as registry:
        if made:
            secrets.add_pepper(pepper_id)
            with acting(registry) as act:
                act.audit("pepper.make", pepper=pepper_id)
        laid = at_once or not made
        versions = 0
        if laid:
            with progress_bar("add pepper") as progress, acting(registry) as act:
                versions = lay(act, pepper_id, secrets.peppers(), progress=progress).versions
    if as_json:
        print_json({"pepper": pepper_id, "made": made, "laid": laid, "versions": versions})
    elif laid:
        click.echo(f"pepper {pepper_id} lies over the tags of {counted(versions, 'version')}")
    else:
        click.echo(f"made pepper {pepper_id} in {secrets.folder / 'peppers' / pepper_id}")
    if laid:
        click.echo("not served yet: verifier publish", err=True)
    else:
        click.echo("not used yet: bring it to every node, then repeat this command", err=True)


@command.command("mark-leaked")
@click.argument("pepper_id")
@json_option
@click.pass_context
def mark_leaked(ctx: click.Context, pepper_id: str, as_json: bool) -> None:
    """Note that a pepper has leaked: no publication under it alone is brought back by a rollback.

    What is published now stays; `verifier secrets add-pepper` protects the tags again.
    """
    from verifier.control.acting import acting
    from verifier.control.rekeying import mark_pepper_leaked
    from verifier.registry.database import open_registry

    home, _ = _opened(ctx)
    with open_registry(home) as registry, acting(registry) as act:
        changed = mark_pepper_leaked(act, pepper_id)
    if as_json:
        print_json({"pepper": pepper_id, "leaked": True, "changed": changed})
    else:
        click.echo(f"pepper {pepper_id} is marked as leaked" + ("" if changed else " already"))


@command.command("new-signing-key")
@json_option
@click.pass_context
def new_signing_key(ctx: click.Context, as_json: bool) -> None:
    """Make a signing key beside the present one, and trust it here; a repeat changes nothing."""
    from verifier.store import signing_keys

    home, secrets = _opened(ctx)
    with _acting(home) as act:
        known = signing_keys.next_path(secrets).exists()
        key_id = signing_keys.make_next(secrets).key_id
        if not known:
            act.audit("signing_key.make", key=key_id)
    _tell({"key": key_id, "trusted": list(signing_keys.trusted_ids(secrets)), "changed": not known},
          f"the next signing key is {key_id}", as_json=as_json)
    click.echo(NEXT_STEPS, err=True)


@command.command("use-signing-key")
@json_option
@click.pass_context
def use_signing_key(ctx: click.Context, as_json: bool) -> None:
    """Sign with the next key from now on; the old private key is gone then.

    First bring trusted.pem to every node. Then publish, see that all nodes serve it, and distrust the old key.
    """
    from verifier.store import signing_keys

    home, secrets = _opened(ctx)
    with _acting(home) as act:
        before = _signing_key_id(secrets)
        after = signing_keys.switch(secrets).key_id
        act.audit("signing_key.use", before=before, after=after)
    _tell({"key": after, "before": before}, f"publications are signed with {after} from now on", as_json=as_json)
    click.echo(f"publish with --wait, then: verifier secrets distrust {before or 'OLD_KEY_ID'}", err=True)


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@json_option
@click.pass_context
def trust(ctx: click.Context, file: Path, as_json: bool) -> None:
    """Trust the public keys in FILE (PEM), such as another publisher's."""
    from verifier.errors import NotFound
    from verifier.store import signing_keys

    home, secrets = _opened(ctx)
    try:
        pem = file.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}", code="FILE_NOT_FOUND") from None
    with _acting(home) as act:
        added = list(signing_keys.trust(secrets, pem))
        if added:
            act.audit("signing_key.trust", keys=added)
    line = f"trusted now: {', '.join(added)}" if added else "nothing was changed: these keys are trusted already"
    _tell({"added": added, "trusted": list(signing_keys.trusted_ids(secrets))}, line, as_json=as_json)


@command.command()
@click.argument("key_id")
@json_option
@click.pass_context
def distrust(ctx: click.Context, key_id: str, as_json: bool) -> None:
    """Trust a public key no longer: nodes that get this trusted.pem refuse all that it signed."""
    from verifier.store import signing_keys

    home, secrets = _opened(ctx)
    with _acting(home) as act:
        signing_keys.distrust(secrets, key_id)
        act.audit("signing_key.distrust", key=key_id)
    _tell({"key": key_id, "trusted": list(signing_keys.trusted_ids(secrets))}, f"{key_id} is not trusted any more",
          as_json=as_json)
    click.echo("bring trusted.pem to every node", err=True)


def _opened(ctx: click.Context) -> "tuple[Home, Secrets]":
    from verifier.store.secrets import Secrets

    home = only_local(ctx, "secrets")
    return home, Secrets(home.secrets)


def _signing_key_id(secrets: "Secrets") -> str | None:
    """Name the key that signs; None when it is lost, which must not keep anybody from replacing it."""
    return secrets.signing_key().key_id if secrets.signing_path.exists() else None


@contextmanager
def _acting(home: "Home") -> "Iterator[Act]":
    """Begin an act before files are touched: what could not be told in the audit log is not done."""
    from verifier.control.acting import acting
    from verifier.registry.database import open_registry

    with open_registry(home) as registry, acting(registry) as act:
        yield act


def _tell(body: dict[str, Any], line: str, *, as_json: bool) -> None:
    if as_json:
        print_json(body)
    else:
        click.echo(line)
