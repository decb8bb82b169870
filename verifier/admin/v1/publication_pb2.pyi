import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from verifier.admin.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Difference(_message.Message):
    __slots__ = ("gained", "lost", "lost_used_24h", "widened", "extended", "denials_kept")
    GAINED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    LOST_USED_24H_FIELD_NUMBER: _ClassVar[int]
    WIDENED_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    DENIALS_KEPT_FIELD_NUMBER: _ClassVar[int]
    gained: int
    lost: int
    lost_used_24h: int
    widened: int
    extended: int
    denials_kept: int
    def __init__(self, gained: _Optional[int] = ..., lost: _Optional[int] = ..., lost_used_24h: _Optional[int] = ..., widened: _Optional[int] = ..., extended: _Optional[int] = ..., denials_kept: _Optional[int] = ...) -> None: ...

class KeyringSummary(_message.Message):
    __slots__ = ("sha256", "records", "bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    records: int
    bytes: int
    def __init__(self, sha256: _Optional[str] = ..., records: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("revision", "content_of", "held", "published_at", "records", "active", "tombstones", "base", "delta", "publisher", "current", "problem")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_OF_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    PUBLISHER_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    revision: int
    content_of: int
    held: bool
    published_at: _timestamp_pb2.Timestamp
    records: int
    active: int
    tombstones: int
    base: KeyringSummary
    delta: KeyringSummary
    publisher: str
    current: bool
    problem: str
    def __init__(self, revision: _Optional[int] = ..., content_of: _Optional[int] = ..., held: _Optional[bool] = ..., published_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., records: _Optional[int] = ..., active: _Optional[int] = ..., tombstones: _Optional[int] = ..., base: _Optional[_Union[KeyringSummary, _Mapping]] = ..., delta: _Optional[_Union[KeyringSummary, _Mapping]] = ..., publisher: _Optional[str] = ..., current: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("resume", "allow_drop", "allow_clock_back", "rebase", "options", "drop_limit_percent")
    RESUME_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DROP_FIELD_NUMBER: _ClassVar[int]
    ALLOW_CLOCK_BACK_FIELD_NUMBER: _ClassVar[int]
    REBASE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DROP_LIMIT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    resume: bool
    allow_drop: bool
    allow_clock_back: bool
    rebase: bool
    options: _types_pb2.Options
    drop_limit_percent: int
    def __init__(self, resume: _Optional[bool] = ..., allow_drop: _Optional[bool] = ..., allow_clock_back: _Optional[bool] = ..., rebase: _Optional[bool] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ..., drop_limit_percent: _Optional[int] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("publication", "changed", "difference", "receipt")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    publication: Publication
    changed: bool
    difference: Difference
    receipt: _types_pb2.Receipt
    def __init__(self, publication: _Optional[_Union[Publication, _Mapping]] = ..., changed: _Optional[bool] = ..., difference: _Optional[_Union[Difference, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("revision", "drop_newer", "allow_drop", "options")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DROP_NEWER_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DROP_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    drop_newer: bool
    allow_drop: bool
    options: _types_pb2.Options
    def __init__(self, revision: _Optional[int] = ..., drop_newer: _Optional[bool] = ..., allow_drop: _Optional[bool] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class RollBackResponse(_message.Message):
    __slots__ = ("publication", "difference", "receipt")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    publication: Publication
    difference: Difference
    receipt: _types_pb2.Receipt
    def __init__(self, publication: _Optional[_Union[Publication, _Mapping]] = ..., difference: _Optional[_Union[Difference, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ComparePublicationsRequest(_message.Message):
    __slots__ = ("from_revision", "to_revision", "examples_max")
    FROM_REVISION_FIELD_NUMBER: _ClassVar[int]
    TO_REVISION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_MAX_FIELD_NUMBER: _ClassVar[int]
    from_revision: int
    to_revision: int
    examples_max: int
    def __init__(self, from_revision: _Optional[int] = ..., to_revision: _Optional[int] = ..., examples_max: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("kind", "client_id", "key_id", "version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: str
    client_id: str
    key_id: str
    version: int
    def __init__(self, kind: _Optional[str] = ..., client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ComparePublicationsResponse(_message.Message):
    __slots__ = ("difference", "examples")
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    difference: Difference
    examples: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, difference: _Optional[_Union[Difference, _Mapping]] = ..., examples: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class ListPublicationsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPublicationsResponse(_message.Message):
    __slots__ = ("publications", "next_page_token")
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    publications: _containers.RepeatedCompositeFieldContainer[Publication]
    next_page_token: str
    def __init__(self, publications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PrunePublicationsRequest(_message.Message):
    __slots__ = ("keep", "keep_for", "options")
    KEEP_FIELD_NUMBER: _ClassVar[int]
    KEEP_FOR_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    keep: int
    keep_for: _duration_pb2.Duration
    options: _types_pb2.Options
    def __init__(self, keep: _Optional[int] = ..., keep_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class PrunePublicationsResponse(_message.Message):
    __slots__ = ("publications", "keyrings", "bytes", "receipt")
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    KEYRINGS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    publications: int
    keyrings: int
    bytes: int
    receipt: _types_pb2.Receipt
    def __init__(self, publications: _Optional[int] = ..., keyrings: _Optional[int] = ..., bytes: _Optional[int] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ReconcileRegistryRequest(_message.Message):
    __slots__ = ("options",)
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: _types_pb2.Options
    def __init__(self, options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class ReconcileRegistryResponse(_message.Message):
    __slots__ = ("revision", "versions_added", "revoked", "switched_off", "replaced", "receipt")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_ADDED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    SWITCHED_OFF_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    versions_added: int
    revoked: int
    switched_off: int
    replaced: int
    receipt: _types_pb2.Receipt
    def __init__(self, revision: _Optional[int] = ..., versions_added: _Optional[int] = ..., revoked: _Optional[int] = ..., switched_off: _Optional[int] = ..., replaced: _Optional[int] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...
