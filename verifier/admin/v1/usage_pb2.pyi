import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QueryUsageRequest(_message.Message):
    __slots__ = ("key_id", "client_id", "since", "limit")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    client_id: str
    since: _timestamp_pb2.Timestamp
    limit: int
    def __init__(self, key_id: _Optional[str] = ..., client_id: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class UsageDay(_message.Message):
    __slots__ = ("key_id", "version", "day", "valid", "refused", "hours")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    VALID_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    version: int
    day: str
    valid: int
    refused: int
    hours: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, key_id: _Optional[str] = ..., version: _Optional[int] = ..., day: _Optional[str] = ..., valid: _Optional[int] = ..., refused: _Optional[int] = ..., hours: _Optional[_Iterable[int]] = ...) -> None: ...

class QueryUsageResponse(_message.Message):
    __slots__ = ("days", "as_of", "silent_nodes")
    DAYS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SILENT_NODES_FIELD_NUMBER: _ClassVar[int]
    days: _containers.RepeatedCompositeFieldContainer[UsageDay]
    as_of: _timestamp_pb2.Timestamp
    silent_nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, days: _Optional[_Iterable[_Union[UsageDay, _Mapping]]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., silent_nodes: _Optional[_Iterable[str]] = ...) -> None: ...
