"""Envoy's external authorization as a stock protobuf runtime sees it: messages with the numbers of the published API.

Only what the tests need is described, by number and type; nothing of Envoy's own files is in this repository. Two
variants read the same bytes: texts as strings and maps as maps, as Envoy has them, and everything as bytes, in
repeated entries, for requests that no stock parser with strings would take.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, struct_pb2, wrappers_pb2

CHECK = "/envoy.service.auth.v3.Authorization/Check"
OVERWRITE = 2  # OVERWRITE_IF_EXISTS_OR_ADD

# Message -> its fields: name, number, type. A trailing * is repeated, {} a map from string to string.
MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "CheckRequest": [("attributes", 1, "AttributeContext")],
    "AttributeContext": [("source", 1, "Peer"), ("destination", 2, "Peer"), ("request", 4, "Request"),
                         ("context_extensions", 10, "{}")],
    "Peer": [("address", 1, "Address"), ("service", 2, "string"), ("labels", 3, "{}"), ("principal", 4, "string")],
    "Address": [("socket_address", 1, "SocketAddress"), ("pipe", 2, "Pipe"), ("envoy_internal_address", 3, "Pipe")],
    "SocketAddress": [("protocol", 1, "int32"), ("address", 2, "string"), ("port_value", 3, "uint32")],
    "Pipe": [("path", 1, "string")],
    "Request": [("http", 2, "HttpRequest")],
    "HttpRequest": [("id", 1, "string"), ("method", 2, "string"), ("headers", 3, "{}"), ("path", 4, "string"),
                    ("host", 5, "string"), ("scheme", 6, "string"), ("query", 7, "string"), ("size", 9, "int64"),
                    ("protocol", 10, "string"), ("body", 11, "string"), ("raw_body", 12, "bytes"),
                    ("header_map", 13, "HeaderMap")],
    "HeaderMap": [("headers", 1, "HeaderValue*")],
    "HeaderValue": [("key", 1, "string"), ("value", 2, "string"), ("raw_value", 3, "bytes")],
    "HeaderValueOption": [("header", 1, "HeaderValue"), ("append", 2, "google.protobuf.BoolValue"),
                          ("append_action", 3, "int32"), ("keep_empty_value", 4, "bool")],
    "CheckResponse": [("status", 1, "Status"), ("denied_response", 2, "DeniedHttpResponse"),
                      ("ok_response", 3, "OkHttpResponse"), ("dynamic_metadata", 4, "google.protobuf.Struct"),
                      ("error_response", 5, "DeniedHttpResponse")],
    "Status": [("code", 1, "int32"), ("message", 2, "string")],
    "HttpStatus": [("code", 1, "int32")],
    "DeniedHttpResponse": [("status", 1, "HttpStatus"), ("headers", 2, "HeaderValueOption*"), ("body", 3, "string")],
    "OkHttpResponse": [("headers", 2, "HeaderValueOption*"), ("headers_to_remove", 5, "string*"),
                       ("response_headers_to_add", 6, "HeaderValueOption*"),
                       ("query_parameters_to_remove", 8, "string*")],
}  # fmt: skip
SCALARS = {"string": 9, "bytes": 12, "int32": 5, "int64": 3, "uint32": 13, "bool": 8}
ONE_OF = {"Address": {"socket_address", "pipe", "envoy_internal_address"},
          "CheckResponse": {"denied_response", "ok_response", "error_response"}}  # fmt: skip


def _messages(package: str, *, all_bytes: bool) -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for known in (struct_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        file.dependency.append(known.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            repeated = kind.endswith(("*", "{}"))
            field = message.field.add(name=field_name, number=number, label=3 if repeated else 1)
            if kind == "{}":
                entry = message.nested_type.add(name=field_name.title().replace("_", "") + "Entry")
                for part in ("key", "value"):
                    entry.field.add(name=part, number=len(entry.field) + 1, label=1, type=12 if all_bytes else 9)  # type: ignore[arg-type]
                entry.options.map_entry = not all_bytes
                field.type, field.type_name = 11, f".{package}.{name}.{entry.name}"  # type: ignore[assignment]
                continue
            one = kind.rstrip("*")
            if one in SCALARS:
                field.type = SCALARS["bytes" if all_bytes and one == "string" else one]  # type: ignore[assignment]
            else:
                field.type, field.type_name = 11, f".{one}" if "." in one else f".{package}.{one}"  # type: ignore[assignment]
            if field_name in ONE_OF.get(name, ()):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="kind")
                field.oneof_index = 0
    pool.Add(file)  # type: ignore[no-untyped-call]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in MESSAGES}


_AS_ENVOY = _messages("test.ext_authz", all_bytes=False)
_AS_BYTES = _messages("test.ext_authz_bytes", all_bytes=True)
CheckRequest, CheckResponse = _AS_ENVOY["CheckRequest"], _AS_ENVOY["CheckResponse"]
RawCheckRequest = _AS_BYTES["CheckRequest"]

# What Envoy sends of an ordinary request of a browser, in `headers`.
ORDINARY = {
    ":authority": "api.example.com", ":path": "/v1/orders?limit=20&cursor=eyJvIjoxMDB9", ":method": "GET",
    ":scheme": "https", "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
    "accept": "application/json, text/plain, */*", "accept-encoding": "gzip, deflate, br, zstd",
    "accept-language": "en-GB,en;q=0.9,de;q=0.8", "cache-control": "no-cache", "origin": "https://app.example.com",
    "referer": "https://app.example.com/orders", "sec-fetch-dest": "empty", "sec-fetch-mode": "cors",
    "sec-fetch-site": "same-site", "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https",
    "x-request-id": "3f0c6a52-77d1-4b73-a34d-5e5ff3d4a0c1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7-01",
    "content-type": "application/json", "x-envoy-external-address": "203.0.113.9",
}  # fmt: skip


def request(
    headers: Mapping[str, str] | None = None, *, path: str = "/v1/orders", address: str | None = "203.0.113.9",
    scopes: str | None = None, raw: Iterable[tuple[str, bytes]] | None = None,
) -> Any:
    """A CheckRequest; ``raw`` puts headers into `header_map`, as with ``encode_raw_headers``."""
    made = CheckRequest()
    http = made.attributes.request.http
    http.id, http.method, http.path, http.host, http.scheme = "17", "GET", path, "api.example.com", "https"
    for name, value in (headers or {}).items():
        http.headers[name] = value
    for name, content in raw or ():
        http.header_map.headers.add(key=name, raw_value=content)
    if address is not None:
        made.attributes.source.address.socket_address.address = address
        made.attributes.source.address.socket_address.port_value = 40112
    if scopes is not None:
        made.attributes.context_extensions["required_scopes"] = scopes
    return made


def ordinary_request(token: str, count: int = 20) -> Any:
    """A request as a busy gateway sends it: ``count`` headers, the key among them."""
    headers = dict(list(ORDINARY.items())[: count - 1]) | {"authorization": f"Bearer {token}"}
    return request(headers, path=ORDINARY[":path"])


@dataclass(frozen=True)
class Told:
    """A CheckResponse in plain terms, after it was seen to be in the form that every Envoy understands.

    Attributes:
        code: google.rpc.Code.
        status: HTTP status; 200 when allowed.
        headers: to the upstream when allowed, else to the caller.
        removed: headers taken off the request.
        removed_query: query parameters taken off.
        caller: headers put on the response to the caller, when allowed.
        body: of a refusal.
        metadata: dynamic metadata.
        error: error_response instead of denied_response.
    """

    code: int
    status: int
    headers: dict[str, str]
    removed: list[str]
    removed_query: list[str]
    caller: dict[str, str]
    body: str
    metadata: dict[str, Any]
    error: bool = False


def _headers(options: Iterable[Any], *, joining: frozenset[str] = frozenset()) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in options:
        name = option.header.key
        assert name == name.lower()
        assert name not in found, f"{name} is there twice"
        if name in joining:
            assert option.append.value
            assert option.append_action == 0
        else:
            assert not option.HasField("append"), "an old Envoy would read it"
            assert option.append_action == OVERWRITE, "a new Envoy would append"
        assert option.keep_empty_value == (option.header.value == "")
        found[name] = option.header.value
    return found


def told(data: bytes) -> Told:
    """Read a CheckResponse."""
    response = CheckResponse.FromString(data)
    assert response.ByteSize() == len(data), "a length or a number is not in its shortest form"
    kind = response.WhichOneof("kind")
    metadata = json_format.MessageToDict(response.dynamic_metadata)
    code = response.status.code
    if kind == "ok_response":
        assert code == 0
        allowed = response.ok_response
        return Told(code, 200, _headers(allowed.headers), list(allowed.headers_to_remove),
                    list(allowed.query_parameters_to_remove),
                    _headers(allowed.response_headers_to_add, joining=frozenset({"cache-control"})), "", metadata)
    assert code != 0
    refused = getattr(response, kind)
    return Told(code, refused.status.code, _headers(refused.headers), [], [], {}, refused.body, metadata,
                kind == "error_response")


class Gateway:
    """Asks a node as Envoy would, on a connection of its own."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])
        self._call = self._channel.unary_unary(CHECK)

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, *_error: object) -> None:
        self._channel.close()

    def send(self, message: bytes, timeout_s: float = 10.0) -> bytes:
        """Send bytes, and return the answer's."""
        answer: bytes = self._call(message, timeout=timeout_s)
        return answer

    def ask(self, headers: Mapping[str, str] | None = None, **fields: Any) -> Told:
        """Ask for a request; see :func:`request`."""
        return told(self.send(request(headers, **fields).SerializeToString()))
