"""``verifier policy``: how keys are rotated."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from verifier.cli._common import json_option, print_json, print_table
from verifier.cli._policy import NAMES, SHOWN_NAMES, laid_over, policy_line, policy_options, policy_rows
from verifier.cli._present import policy_json
from verifier.cli._seam import Seam, seam
from verifier.cli._wish import Wish, changing, recorded_options, tell
from verifier.errors import InvalidInput

if TYPE_CHECKING:
    from verifier.admin.v1 import types_pb2

client_option = click.option("--client", "client_id", metavar="ID", help="That of this client's keys.")
key_option = click.option("--key", "key_id", metavar="ID", help="That of this key.")


@click.group()
def command() -> None:
    """How keys are rotated, by default, for a client, or for a key.

    What a key leaves open its client decides, then the store, then what is built in.
    """


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose policy it is: a key's, a client's, or the store's when neither is named."""

    client_id: str | None
    key_id: str | None

    def __post_init__(self) -> None:
        """Refuse two at once."""
        if self.client_id is not None and self.key_id is not None:
            raise InvalidInput("give --client or --key, not both")

    def __str__(self) -> str:
        if self.key_id is not None:
            return f"key {self.key_id}"
        return "the store" if self.client_id is None else f"client {self.client_id}"

    def body(self, own: "types_pb2.Policy", effective: "types_pb2.Policy | None") -> dict[str, Any]:
        """Return what JSON says."""
        return {
            "client_id": self.client_id,
            "key_id": self.key_id,
            "policy": policy_json(own),
            "effective_policy": None if effective is None else policy_json(effective),
        }

    def get(self, at: Seam) -> "tuple[types_pb2.Policy, types_pb2.Policy | None, str]":
        """Return its own policy, the one that holds for it (None for a client), and its etag."""
        from verifier.admin.v1 import lifecycle_pb2 as pb

        if self.key_id is not None:
            key = at.admin.lifecycle.GetKey(pb.GetKeyRequest(key_id=self.key_id)).key
            return key.policy, key.effective_policy, key.etag
        if self.client_id is not None:
            client = at.admin.lifecycle.GetClient(pb.GetClientRequest(client_id=self.client_id)).client
            return client.policy, None, client.etag
        found = at.admin.lifecycle.GetStorePolicy(pb.GetStorePolicyRequest())
        return found.policy, found.effective_policy, ""

    def put(
        self, at: Seam, policy: "types_pb2.Policy", etag: str, options: "types_pb2.Options"
    ) -> "tuple[types_pb2.Policy, types_pb2.Policy | None, types_pb2.Receipt]":
        """Set its policy; return it, the one that holds for it, and the receipt."""
        from verifier.admin.v1 import lifecycle_pb2 as pb

        if self.key_id is not None:
            request = pb.UpdateKeyRequest(etag=etag, options=options)
            request.key.key_id = self.key_id
            request.key.policy.CopyFrom(policy)
            request.update_mask.paths.append("policy")
            done = at.change(at.admin.lifecycle.UpdateKey, request)
            return done.key.policy, done.key.effective_policy, done.receipt
        if self.client_id is not None:
            client_request = pb.UpdateClientRequest(etag=etag, options=options)
            client_request.client.client_id = self.client_id
            client_request.client.policy.CopyFrom(policy)
            client_request.update_mask.paths.append("policy")
            answer = at.change(at.admin.lifecycle.UpdateClient, client_request)
            return answer.client.policy, None, answer.receipt
        store_request = pb.UpdateStorePolicyRequest(policy=policy, options=options)
        stored = at.change(at.admin.lifecycle.UpdateStorePolicy, store_request)
        return stored.policy, stored.effective_policy, stored.receipt


@command.command()
@client_option
@key_option
@json_option
@click.pass_context
def show(ctx: click.Context, client_id: str | None, key_id: str | None, as_json: bool) -> None:
    """Show the policy of the store, of a client, or of a key; and for a key what holds for it."""
    subject = Subject(client_id, key_id)
    with seam(ctx) as at:
        own, effective, _ = subject.get(at)
    body = subject.body(own, effective)
    if as_json:
        print_json(body)
        return
    if effective is None:
        click.echo(f"policy of {subject}: {policy_line(body['policy'])}")
        return
    said = dict(policy_rows(body["policy"]))
    rows = [(name, text, "here" if name in said else "above")
            for name, text in policy_rows(body["effective_policy"])]
    print_table(f"policy of {subject}", ("", "", "said"), rows)


@command.command("set")
@client_option
@key_option
@policy_options
@click.option("--unset", multiple=True, metavar="NAME",
              help=f"Leave this to the level above; may be repeated. One of {SHOWN_NAMES}.")
@changing(serve=False)
@click.pass_context
def set_(
    ctx: click.Context, /, *, client_id: str | None, key_id: str | None, unset: tuple[str, ...], wish: Wish,
    **parts: str | None,
) -> None:  # fmt: skip
    """Set parts of the policy of the store, of a client, or of a key. What is not named stays.

    It holds for rotations from now on; windows that have begun stay as they are. Nodes need not know of it, so nothing
    is published.
    """
    subject = Subject(client_id, key_id)
    said = {name: text for name in NAMES if (text := parts.get(name)) is not None}
    said |= {name.replace("-", "_"): "" for name in unset}
    if not said:
        raise InvalidInput("nothing to change was named", hint="verifier policy set --help", code="NOTHING_TO_DO")
    with seam(ctx) as at:
        present, _, etag = subject.get(at)
        policy, effective, receipt = subject.put(at, laid_over(present, said), etag, recorded_options(wish))
        line = f"policy of {subject}: {policy_line(policy_json(policy))}"
        tell(wish, [line], subject.body(policy, effective), receipt, quiet=True)
