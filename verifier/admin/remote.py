"""The operators' API of a control plane, reached over gRPC: the same methods, and the same errors, as in a process."""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from verifier.admin.errors import from_rpc_error
from verifier.admin.face import Admin
from verifier.admin.listening import is_local
from verifier.admin.times import span_s
from verifier.admin.tls import ClientTls, channel_credentials
from verifier.admin.v1 import audit_pb2, lifecycle_pb2, node_pb2, publication_pb2, types_pb2, usage_pb2
from verifier.errors import InvalidInput

READ_TIMEOUT_S = 60.0
CHANGE_TIMEOUT_S = 600.0  # publishing ten million keys takes minutes
SERVED_TIMEOUT_S = 30  # the server's, where a request names none
OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_metadata_size", 64 << 10),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),  # tokens do not travel through what an environment happens to name
    ("grpc.enable_retries", 0),  # repeats need their request id: the caller's own business
)


def connect(target: str, token: str | None = None, tls: ClientTls | None = None) -> Admin:
    """Return the services of a control plane. Nothing is sent before the first call.

    Args:
        target: HOST:PORT, or ``unix:PATH``.
        token: a bearer token; None where a client certificate tells who calls.
        tls: None for plaintext, which a token is not sent over but on this machine.

    Raises:
        InvalidInput: a token, and no TLS, and another machine (``TLS_NEEDED``).
        NotFound: a file of certificates or keys does not exist.
    """
    if tls is None and token is not None and not is_local(target):
        raise InvalidInput(
            f"a token is not sent to {target} in clear text", hint="give --admin-ca", code="TLS_NEEDED"
        )
    if tls is None:
        channel = grpc.insecure_channel(target, options=OPTIONS)
    else:
        channel = grpc.secure_channel(target, channel_credentials(tls), options=OPTIONS)
    metadata = [] if token is None else [("authorization", f"Bearer {token}")]

    def service(module: Any, name: str) -> Any:
        return _Service(channel, module.DESCRIPTOR.services_by_name[name], metadata)

    return Admin(
        lifecycle=service(lifecycle_pb2, "LifecycleService"),
        publication=service(publication_pb2, "PublicationService"),
        node=service(node_pb2, "NodeService"),
        audit=service(audit_pb2, "AuditService"),
        usage=service(usage_pb2, "UsageService"),
        close=channel.close,
    )


class _Service:
    """A service with its methods as attributes."""

    def __init__(self, channel: grpc.Channel, service: ServiceDescriptor, metadata: list[tuple[str, str]]) -> None:
        for method in service.methods:
            setattr(self, method.name, _Method(channel, method, metadata))


class _Method:
    """A method: takes a request, or a stream of them, and returns the response or raises the other side's error."""

    def __init__(self, channel: grpc.Channel, method: MethodDescriptor, metadata: list[tuple[str, str]]) -> None:
        self._metadata = metadata
        self._streams = method.client_streaming
        kind = channel.stream_unary if method.client_streaming else channel.unary_unary
        self._call: Any = kind(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )

    def __call__(self, request: Message | Iterable[Message]) -> Any:
        """Call it."""
        if self._streams:
            sent = _Sent(cast(Iterable[Message], request))
            try:
                return self._call(iter(sent), metadata=self._metadata)
            except grpc.RpcError as error:
                raise sent.error or from_rpc_error(error) from None
        try:
            return self._call(request, metadata=self._metadata, timeout=_timeout_s(cast(Message, request)))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


class _Sent:
    """A stream of requests on its way; keeps the error that ended it, which gRPC would only say that it was."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = messages
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Message]:
        try:
            yield from self._messages
        except BaseException as error:
            self.error = error
            raise


def _timeout_s(request: Message) -> float:
    """Return how long to wait for the answer."""
    options: types_pb2.Options | None = getattr(request, "options", None)
    if options is None:
        return READ_TIMEOUT_S
    if options.wait != types_pb2.WAIT_SERVED:
        return CHANGE_TIMEOUT_S
    given_s = span_s(options, "timeout")
    return CHANGE_TIMEOUT_S + (SERVED_TIMEOUT_S if given_s is None else given_s)
