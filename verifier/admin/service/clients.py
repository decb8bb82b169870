"""Clients: creating, reading, changing."""

from collections.abc import Iterable
from typing import Any

from verifier.admin.messages import check_etag, client_message
from verifier.admin.paging import begin, page_size
from verifier.admin.policies import policy_of
from verifier.admin.service.handlers import Handlers
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.control import clients
from verifier.control.acting import Act
from verifier.errors import InvalidInput
from verifier.registry import queries

FIELDS = ("name", "enabled", "policy")


class Clients(Handlers):
    """The part of LifecycleService that is about clients."""

    def CreateClient(self, request: pb.CreateClientRequest) -> pb.CreateClientResponse:
        """Add a client."""

        def work(act: Act, response: pb.CreateClientResponse) -> None:
            policy = policy_of(request.policy) if request.HasField("policy") else None
            client = clients.create_client(act, request.client_id, name=request.name or None, policy=policy)
            response.client.CopyFrom(client_message(client))

        return self._change(request, pb.CreateClientResponse(), work)

    def GetClient(self, request: pb.GetClientRequest) -> pb.GetClientResponse:
        """Return one client."""
        found = clients.show_client(self._desk.registry, request.client_id)
        return pb.GetClientResponse(client=client_message(found.client, found.keys))

    def ListClients(self, request: pb.ListClientsRequest) -> pb.ListClientsResponse:
        """Return clients in the order of their making."""
        size, after = page_size(request.page_size, 100), begin(request.page_token, -1)
        with self._desk.registry.read() as connection:
            found = list(queries.list_clients(connection, size + 1, after))
        more = str(found[size - 1].ordinal) if len(found) > size else ""
        return pb.ListClientsResponse(clients=map(client_message, found[:size]), next_page_token=more)

    def UpdateClient(self, request: pb.UpdateClientRequest) -> pb.UpdateClientResponse:
        """Rename a client, switch it, or set its policy."""
        wanted, mask = request.client, check_mask(request.update_mask.paths, FIELDS)

        def work(act: Act, response: pb.UpdateClientResponse) -> None:
            client = queries.find_client(act.connection, wanted.client_id)
            check_etag(client, request.etag or wanted.etag)
            values: dict[str, Any] = {}
            if "name" in mask:
                values["name"] = wanted.name or None
            if "policy" in mask:
                values["policy"] = policy_of(wanted.policy) if wanted.HasField("policy") else None
            if values:
                client = clients.update_client(act, client.client_id, **values)
            if "enabled" in mask:
                client = clients.set_client_enabled(act, client.client_id, wanted.enabled)
            response.client.CopyFrom(client_message(client, queries.count_keys(act.connection, client.ordinal)))

        return self._change(request, pb.UpdateClientResponse(), work)


def check_mask(paths: Iterable[str], known: tuple[str, ...]) -> set[str]:
    """Return the fields that an update names.

    Raises:
        InvalidInput: there is none, or one that cannot be updated (``BAD_MASK``).
    """
    named = set(paths)
    if not named or not named <= set(known):
        raise InvalidInput(f"update_mask names one or more of {', '.join(known)}", code="BAD_MASK")
    return named
