import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from verifier.admin.v1 import types_pb2 as _types_pb2
from verifier.v1 import verifier_pb2 as _verifier_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Refusal(_message.Message):
    __slots__ = ("revision", "code", "message", "refused_at")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_AT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    code: str
    message: str
    refused_at: _timestamp_pb2.Timestamp
    def __init__(self, revision: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., refused_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReportStatusRequest(_message.Message):
    __slots__ = ("node", "epoch", "store_id", "revision", "served_at", "load_time", "last_refusal", "clock", "version", "addresses", "stopping")
    NODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SERVED_AT_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    node: str
    epoch: int
    store_id: str
    revision: int
    served_at: _timestamp_pb2.Timestamp
    load_time: _duration_pb2.Duration
    last_refusal: Refusal
    clock: _timestamp_pb2.Timestamp
    version: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    stopping: bool
    def __init__(self, node: _Optional[str] = ..., epoch: _Optional[int] = ..., store_id: _Optional[str] = ..., revision: _Optional[int] = ..., served_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., load_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., last_refusal: _Optional[_Union[Refusal, _Mapping]] = ..., clock: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., stopping: _Optional[bool] = ...) -> None: ...

class ReportStatusResponse(_message.Message):
    __slots__ = ("revision", "clock")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    revision: int
    clock: _timestamp_pb2.Timestamp
    def __init__(self, revision: _Optional[int] = ..., clock: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchedUse(_message.Message):
    __slots__ = ("ordinal", "verdict", "used_at", "address")
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    USED_AT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    verdict: _verifier_pb2.Verdict
    used_at: _timestamp_pb2.Timestamp
    address: bytes
    def __init__(self, ordinal: _Optional[int] = ..., verdict: _Optional[_Union[_verifier_pb2.Verdict, str]] = ..., used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., address: _Optional[bytes] = ...) -> None: ...

class ReportUsageRequest(_message.Message):
    __slots__ = ("node", "epoch", "sequence", "to", "ordinals", "valid", "refused", "watched", "watched_lost", "partial")
    NODE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    ORDINALS_FIELD_NUMBER: _ClassVar[int]
    VALID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    WATCHED_FIELD_NUMBER: _ClassVar[int]
    WATCHED_LOST_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    node: str
    epoch: int
    sequence: int
    to: _timestamp_pb2.Timestamp
    ordinals: _containers.RepeatedScalarFieldContainer[int]
    valid: _containers.RepeatedScalarFieldContainer[int]
    refused: _containers.RepeatedScalarFieldContainer[int]
    watched: _containers.RepeatedCompositeFieldContainer[WatchedUse]
    watched_lost: int
    partial: bool
    def __init__(self, node: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ordinals: _Optional[_Iterable[int]] = ..., valid: _Optional[_Iterable[int]] = ..., refused: _Optional[_Iterable[int]] = ..., watched: _Optional[_Iterable[_Union[WatchedUse, _Mapping]]] = ..., watched_lost: _Optional[int] = ..., partial: _Optional[bool] = ..., **kwargs) -> None: ...

class ReportUsageResponse(_message.Message):
    __slots__ = ("applied",)
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    applied: int
    def __init__(self, applied: _Optional[int] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("node", "revision", "served_at", "load_time", "last_refusal", "last_seen_at", "clock_skew", "usage_to", "expected", "version", "addresses")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SERVED_AT_FIELD_NUMBER: _ClassVar[int]
    LOAD_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_AT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_SKEW_FIELD_NUMBER: _ClassVar[int]
    USAGE_TO_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    node: str
    revision: int
    served_at: _timestamp_pb2.Timestamp
    load_time: _duration_pb2.Duration
    last_refusal: Refusal
    last_seen_at: _timestamp_pb2.Timestamp
    clock_skew: _duration_pb2.Duration
    usage_to: _timestamp_pb2.Timestamp
    expected: bool
    version: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., revision: _Optional[int] = ..., served_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., load_time: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., last_refusal: _Optional[_Union[Refusal, _Mapping]] = ..., last_seen_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., clock_skew: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., usage_to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expected: _Optional[bool] = ..., version: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class ForgetNodeRequest(_message.Message):
    __slots__ = ("node", "options")
    NODE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    node: str
    options: _types_pb2.Options
    def __init__(self, node: _Optional[str] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class ForgetNodeResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: _types_pb2.Receipt
    def __init__(self, receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...
