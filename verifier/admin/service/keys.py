"""Keys: creating, reading, changing."""

from typing import Any

from verifier.admin.changing import time_s
from verifier.admin.messages import check_etag, key_message
from verifier.admin.paging import begin, page_size
from verifier.admin.policies import policy_of
from verifier.admin.roles import Role, require
from verifier.admin.service.clients import check_mask
from verifier.admin.service.handlers import Handlers
from verifier.admin.times import moment_s
from verifier.admin.v1 import lifecycle_pb2 as pb
from verifier.admin.v1 import types_pb2
from verifier.control import issuing, keys
from verifier.control.acting import Act
from verifier.control.policy import Policy, inherited
from verifier.control.terms import Terms
from verifier.errors import InvalidInput
from verifier.registry import queries
from verifier.registry.facts import Key
from verifier.tokens import DEFAULT_PREFIX

FIELDS = ("scopes", "allow", "metadata", "expires_at", "enabled", "policy", "version_expires_at")
SHA256_BYTES = 32


class Keys(Handlers):
    """The part of LifecycleService that is about keys."""

    def CreateKey(self, request: pb.CreateKeyRequest) -> pb.CreateKeyResponse:
        """Issue a key with its first version."""
        sha256 = secret_of(request)
        policy = policy_of(request.policy) if request.HasField("policy") else None
        terms = Terms(
            scopes=tuple(request.scopes),
            rules=tuple(request.allow),
            metadata=dict(request.metadata),
            prefix=request.prefix or DEFAULT_PREFIX,
            not_before=moment_s(request, "not_before"),
            expires_at=moment_s(request, "expires_at"),
            key_expires_at=moment_s(request, "key_expires_at"),
        )
        peppers = self._desk.peppers()

        def work(act: Act, response: pb.CreateKeyResponse) -> None:
            issued = issuing.issue_key(
                act, peppers, request.client_id, terms, secret_sha256=sha256, policy=policy
            )
            response.key.CopyFrom(described(act, issued.key))
            if not request.options.validate_only:
                response.token = issued.token or ""

        return self._change(request, pb.CreateKeyResponse(), work)

    def GetKey(self, request: pb.GetKeyRequest) -> pb.GetKeyResponse:
        """Return one key with its versions."""
        with self._desk.registry.read() as connection:
            key = queries.find_key(connection, request.key_id)
            policy = inherited(connection, key.client_ordinal)
        return pb.GetKeyResponse(key=key_message(key, policy, time_s()))

    def ListKeys(self, request: pb.ListKeysRequest) -> pb.ListKeysResponse:
        """Return keys with their versions in the order of their making."""
        size, after = page_size(request.page_size, 100), begin(request.page_token, -1)
        policies: dict[int, Policy] = {}
        with self._desk.registry.read() as connection:
            client = queries.find_client(connection, request.client_id).ordinal if request.client_id else None
            found = list(queries.list_keys(connection, client, size + 1, after))
            for key in found:
                if key.client_ordinal not in policies:
                    policies[key.client_ordinal] = inherited(connection, key.client_ordinal)
        now_s = time_s()
        return pb.ListKeysResponse(
            keys=[key_message(key, policies[key.client_ordinal], now_s) for key in found[:size]],
            next_page_token=str(found[size - 1].ordinal) if len(found) > size else "",
        )

    def UpdateKey(self, request: pb.UpdateKeyRequest) -> pb.UpdateKeyResponse:
        """Change what a key may do, when it ends, its policy, or its switch."""
        mask = check_mask(request.update_mask.paths, FIELDS)
        if request.extend:
            require(self._caller.role, frozenset({Role.ADMIN}), "moving an end later")

        def work(act: Act, response: pb.UpdateKeyResponse) -> None:
            key = queries.find_key(act.connection, request.key.key_id)
            check_etag(key, request.etag or request.key.etag)
            update = _update_of(request, mask)
            if not update.is_empty:
                key = keys.update_key(act, key.key_id, update)
            if "enabled" in mask:
                key = keys.set_key_enabled(act, key.key_id, request.key.enabled)
            response.key.CopyFrom(described(act, key))

        return self._change(request, pb.UpdateKeyResponse(), work)


def described(act: Act, key: Key) -> types_pb2.Key:
    """Write a key as an act leaves it."""
    return key_message(key, inherited(act.connection, key.client_ordinal), act.now_s)


def secret_of(request: pb.CreateKeyRequest | pb.RotateKeyRequest) -> bytes | None:
    """Return the SHA-256 of the token that the caller made, None if it is to be made here.

    Raises:
        InvalidInput: it is not 32 bytes long, or no source was chosen (``BAD_SECRET``).
    """
    source = request.secret.WhichOneof("source")
    if source == "sha256" and len(request.secret.sha256) == SHA256_BYTES:
        return bytes(request.secret.sha256)
    if source == "generate" and request.secret.generate:
        return None
    raise InvalidInput(
        "secret is the SHA-256 of the caller's token (32 bytes), or generate: true", code="BAD_SECRET"
    )


def _update_of(request: pb.UpdateKeyRequest, mask: set[str]) -> keys.KeyUpdate:
    wanted = request.key
    values: dict[str, Any] = {
        "scopes": tuple(wanted.scopes),
        "allow": tuple(wanted.allow),
        "metadata": dict(wanted.metadata),
        "expires_at": moment_s(wanted, "expires_at"),
        "policy": policy_of(wanted.policy) if wanted.HasField("policy") else None,
        "version_expires_at": moment_s(request, "version_expires_at"),
    }
    # Where an update of the control room has other names: there, expires_at is the label's.
    names = {"allow": "rules", "expires_at": "key_expires_at", "version_expires_at": "expires_at"}
    given = {names.get(field, field): value for field, value in values.items() if field in mask}
    return keys.KeyUpdate(**given, extend=request.extend)
