"""The part of Envoy's external authorization API that a peer needs: the same numbers, names of our own.

Made at run time, so that no module ``envoy`` is installed and no file of Envoy's is copied. Numbers and types are those
of ``envoy.service.auth.v3`` (external_auth.proto, attribute_context.proto).
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/envoy.service.auth.v3.Authorization/Check"

_PACKAGE = "verifier.peer.ext_authz"
_STRING, _MESSAGE, _INT32, _BOOL = 9, 11, 5, 8
# Message: {field: (number, type or message)}. "*" repeats, "map" is a map of strings.
_MESSAGES: dict[str, dict[str, tuple[int, Any]]] = {
    "SocketAddress": {"address": (2, _STRING)},
    "Address": {"socket_address": (1, "SocketAddress")},
    "Peer": {"address": (1, "Address")},
    "HeaderValue": {"key": (1, _STRING), "value": (2, _STRING), "raw_value": (3, 12)},
    "HeaderMap": {"headers": (1, "*HeaderValue")},
    "Http": {"method": (2, _STRING), "headers": (3, "map"), "path": (4, _STRING), "header_map": (13, "HeaderMap")},
    "Request": {"http": (2, "Http")},
    "Attributes": {"source": (1, "Peer"), "request": (4, "Request"), "context_extensions": (10, "map")},
    "CheckRequest": {"attributes": (1, "Attributes")},
    "Status": {"code": (1, _INT32)},
    "HttpStatus": {"code": (1, _INT32)},
    "HeaderValueOption": {"header": (1, "HeaderValue"), "append_action": (3, _INT32), "keep_empty_value": (4, _BOOL)},
    "Denied": {"status": (1, "HttpStatus"), "headers": (2, "*HeaderValueOption"), "body": (3, _STRING)},
    "Ok": {"headers": (2, "*HeaderValueOption"), "headers_to_remove": (5, "*string"),
           "response_headers_to_add": (6, "*HeaderValueOption")},
    "CheckResponse": {"status": (1, "Status"), "denied_response": (2, "Denied"), "ok_response": (3, "Ok")},
}  # fmt: skip


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="verifier_peer_ext_authz.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            _add(message, field_name, number, kind)
    return file


def _add(message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: Any) -> None:
    field = message.field.add(name=name, number=number, label=1)
    if isinstance(kind, int):
        field.type = kind  # type: ignore[assignment]
        return
    if kind == "map":
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        for number_of, part in ((1, "key"), (2, "value")):
            entry.field.add(name=part, number=number_of, label=1, type=_STRING)
        field.label, field.type = 3, _MESSAGE
        field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        return
    if kind.startswith("*"):
        field.label, kind = 3, kind[1:]
    if kind == "string":
        field.type = _STRING
        return
    field.type = _MESSAGE
    field.type_name = f".{_PACKAGE}.{kind}"


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


CheckRequest, CheckResponse = _class("CheckRequest"), _class("CheckResponse")
