"""Between the commands and what carries them out: the folder itself, or a control plane, by the same requests."""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from verifier.cli._place import home_of, is_remote, place_of
from verifier.cli._progress import Bar, progress_bar
from verifier.errors import Conflict, InvalidInput, NotFound, Unavailable, VerifierError

if TYPE_CHECKING:
    from verifier.admin.tls import ClientTls
    from verifier.admin.v1 import types_pb2
    from verifier.cli._wish import Wish
    from verifier.registry.database import Registry
    from verifier.store.home import Home

Answer = TypeVar("Answer")

ATTEMPTS = 3
RETRY_AFTER_S = 0.5
# What may have been carried out, though no answer came.
LOST_CODES = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
SYSTEM_CA = "system"
NEVER_SENT = "failed to connect"
IN_DOUBT = "it may have been carried out; to be sure, repeat the command with --request-id {}"
FIRST_TRY = "repeat it with the token of the first try: --output FILE with its file, or --sha256 HEX"


@dataclass(frozen=True, slots=True)
class Seam:
    """What a command asks.

    Attributes:
        admin: has the services as attributes: lifecycle, publication, node, audit, usage.
        home: the folder; None when a control plane is asked.
        registry: the folder's, for what is too much for messages; None when a control plane is asked.
        bar: shows how far publishing is; None when a control plane is asked.
    """

    admin: Any
    home: "Home | None" = None
    registry: "Registry | None" = None
    bar: Bar | None = None

    @property
    def remote(self) -> bool:
        """Whether a control plane is asked."""
        return self.home is None

    def knows_nodes(self) -> bool:
        """Tell whether there are nodes that a publication has to wait for."""
        from verifier.admin.v1 import node_pb2

        return any(node.expected for node in self.admin.node.ListNodes(node_pb2.ListNodesRequest()).nodes)

    def peppers(self) -> list[bytes]:
        """Return the peppers that new tags of the folder are made with."""
        from verifier.control.issuing import pepper_secrets
        from verifier.store.secrets import Secrets

        assert self.home is not None and self.registry is not None
        return pepper_secrets(self.registry, Secrets(self.home.secrets).peppers())

    def change(self, method: Callable[[Any], Answer], request: Any) -> Answer:
        """Have a change carried out.

        Args:
            method: of the service.
            request: with its options.
        """
        try:
            return self.repeated(lambda: method(request), request.options)
        except Conflict as error:
            if error.code == "REQUEST_ID_REUSED" and hasattr(request, "secret"):
                error.hint = FIRST_TRY
            raise

    def repeated(self, ask: Callable[[], Answer], options: "types_pb2.Options") -> Answer:
        """Ask for a change; over a network ask again, under its id, when no answer comes.

        Args:
            ask: does it.
            options: of the request.
        """
        if self.remote:
            tell_id(options)
        try:
            return self._insisting(ask, options)
        except KeyboardInterrupt:
            # What was recorded may not be published, and only a repeat under its id goes on from there.
            if not options.validate_only:
                click.echo(IN_DOUBT.format(options.request_id), err=True)
            raise
        finally:
            if self.bar is not None:
                self.bar.clear()

    def _insisting(self, ask: Callable[[], Answer], options: "types_pb2.Options") -> Answer:
        for attempt in range(1, ATTEMPTS):
            try:
                return ask()
            except Unavailable as error:
                if not self.remote or error.code != "UNAVAILABLE":
                    raise doubtful(error, options.request_id) from None
                time.sleep(RETRY_AFTER_S * attempt)
        try:
            return ask()
        except Unavailable as error:
            raise doubtful(error, options.request_id) from None


def tell_id(options: "types_pb2.Options") -> None:
    """Say under which id a command can be repeated, should it be interrupted."""
    click.echo(f"request id: {options.request_id}", err=True)


def doubtful(error: VerifierError, request_id: str) -> VerifierError:
    """Add to an error after which nobody knows whether the change was made how to find out."""
    if in_doubt(error):
        error.details.setdefault("request_id", request_id)
        error.hint = IN_DOUBT.format(request_id)
    return error


def in_doubt(error: BaseException) -> bool:
    """Tell whether a change that failed with this may have been made all the same."""
    if not isinstance(error, VerifierError):
        return True
    return error.code in LOST_CODES and NEVER_SENT not in error.message


@contextmanager
def seam(ctx: click.Context) -> Iterator[Seam]:
    """Open what the options before the command name.

    Raises:
        InvalidInput: neither a folder nor a control plane is named, or both.
    """
    if is_remote(ctx):
        from verifier.admin import remote

        place = place_of(ctx)
        with remote.connect(str(place.admin), _token(ctx), _tls(ctx)) as admin:
            yield Seam(admin)
        return
    from verifier.admin import local
    from verifier.registry.database import open_registry

    home = home_of(ctx)
    with (
        progress_bar(str(ctx.info_name)) as bar,
        open_registry(home) as registry,
        local.connect(home, registry=registry, progress=bar) as admin,
    ):
        yield Seam(admin, home, registry, bar)


def only_local(ctx: click.Context, what: str) -> "Home":
    """Return the folder of a command that no control plane offers.

    Raises:
        InvalidInput: a control plane is named.
    """
    if is_remote(ctx):
        raise InvalidInput(f"{what} works on the folder itself", hint="give --store DIR where the folder is")
    return home_of(ctx)


def new_request_id() -> str:
    """Make the id of one command."""
    return str(uuid.uuid4())


def at_terminal() -> bool:
    """Tell whether a person is there to read and to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def options_of(wish: "Wish", wait: int, timeout_s: int | None) -> "types_pb2.Options":
    """Write what every change takes."""
    from google.protobuf.duration_pb2 import Duration

    from verifier.admin.v1 import types_pb2

    return types_pb2.Options(
        request_id=wish.request_id or new_request_id(),
        validate_only=wish.dry_run,
        wait=wait,  # type: ignore[arg-type]
        timeout=None if timeout_s is None else Duration(seconds=timeout_s),
        note=wish.note or "",
    )


def _token(ctx: click.Context) -> str | None:
    file = place_of(ctx).token_file
    if file is None:
        return None
    try:
        return file.read_text("ascii").strip()
    except FileNotFoundError:
        raise NotFound(f"{file}, named by --admin-token-file, does not exist") from None
    except (OSError, UnicodeDecodeError):
        raise Unavailable(f"cannot read {file}, named by --admin-token-file") from None


def _tls(ctx: click.Context) -> "ClientTls | None":
    """Return how the control plane is to be trusted; None for plaintext."""
    from verifier.admin.tls import ClientTls

    place = place_of(ctx)
    if place.ca is None and place.certificate is None and place.key is None:
        return None
    ca = None if place.ca is None or str(place.ca) == SYSTEM_CA else place.ca
    return ClientTls(ca, place.certificate, place.key)
