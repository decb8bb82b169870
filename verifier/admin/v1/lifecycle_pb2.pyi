import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from verifier.admin.v1 import types_pb2 as _types_pb2
from verifier.v1 import verifier_pb2 as _verifier_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Safety(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAFETY_UNSPECIFIED: _ClassVar[Safety]
    SAFETY_SAFE: _ClassVar[Safety]
    SAFETY_NOT_SAFE: _ClassVar[Safety]
    SAFETY_UNKNOWN: _ClassVar[Safety]
SAFETY_UNSPECIFIED: Safety
SAFETY_SAFE: Safety
SAFETY_NOT_SAFE: Safety
SAFETY_UNKNOWN: Safety

class CreateClientRequest(_message.Message):
    __slots__ = ("client_id", "name", "policy", "options")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    name: str
    policy: _types_pb2.Policy
    options: _types_pb2.Options
    def __init__(self, client_id: _Optional[str] = ..., name: _Optional[str] = ..., policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class CreateClientResponse(_message.Message):
    __slots__ = ("client", "receipt")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    client: _types_pb2.Client
    receipt: _types_pb2.Receipt
    def __init__(self, client: _Optional[_Union[_types_pb2.Client, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class GetClientRequest(_message.Message):
    __slots__ = ("client_id",)
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    def __init__(self, client_id: _Optional[str] = ...) -> None: ...

class GetClientResponse(_message.Message):
    __slots__ = ("client",)
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    client: _types_pb2.Client
    def __init__(self, client: _Optional[_Union[_types_pb2.Client, _Mapping]] = ...) -> None: ...

class ListClientsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListClientsResponse(_message.Message):
    __slots__ = ("clients", "next_page_token")
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    clients: _containers.RepeatedCompositeFieldContainer[_types_pb2.Client]
    next_page_token: str
    def __init__(self, clients: _Optional[_Iterable[_Union[_types_pb2.Client, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateClientRequest(_message.Message):
    __slots__ = ("client", "update_mask", "etag", "options")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    client: _types_pb2.Client
    update_mask: _field_mask_pb2.FieldMask
    etag: str
    options: _types_pb2.Options
    def __init__(self, client: _Optional[_Union[_types_pb2.Client, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., etag: _Optional[str] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class UpdateClientResponse(_message.Message):
    __slots__ = ("client", "receipt")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    client: _types_pb2.Client
    receipt: _types_pb2.Receipt
    def __init__(self, client: _Optional[_Union[_types_pb2.Client, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("client_id", "scopes", "allow", "metadata", "prefix", "not_before", "expires_at", "key_expires_at", "policy", "secret", "options")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    KEY_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    allow: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    prefix: str
    not_before: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    key_expires_at: _timestamp_pb2.Timestamp
    policy: _types_pb2.Policy
    secret: _types_pb2.Secret
    options: _types_pb2.Options
    def __init__(self, client_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., allow: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., prefix: _Optional[str] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., key_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ..., secret: _Optional[_Union[_types_pb2.Secret, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class CreateKeyResponse(_message.Message):
    __slots__ = ("key", "token", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    token: str
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., token: _Optional[str] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class GetKeyRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class GetKeyResponse(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ("client_id", "page_size", "page_token")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    page_size: int
    page_token: str
    def __init__(self, client_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[_types_pb2.Key]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[_types_pb2.Key, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class UpdateKeyRequest(_message.Message):
    __slots__ = ("key", "update_mask", "version_expires_at", "extend", "etag", "options")
    KEY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VERSION_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    update_mask: _field_mask_pb2.FieldMask
    version_expires_at: _timestamp_pb2.Timestamp
    extend: bool
    etag: str
    options: _types_pb2.Options
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., version_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., extend: _Optional[bool] = ..., etag: _Optional[str] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class UpdateKeyResponse(_message.Message):
    __slots__ = ("key", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ("key_id", "overlap", "clock", "max_pending", "activate_at", "expires_in", "never_expires", "reason", "force", "allow_gap", "expected_version", "secret", "options")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_FIELD_NUMBER: _ClassVar[int]
    ACTIVATE_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    NEVER_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_GAP_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    overlap: _duration_pb2.Duration
    clock: _types_pb2.Clock
    max_pending: _duration_pb2.Duration
    activate_at: _timestamp_pb2.Timestamp
    expires_in: _duration_pb2.Duration
    never_expires: bool
    reason: _verifier_pb2.RevocationReason
    force: bool
    allow_gap: bool
    expected_version: int
    secret: _types_pb2.Secret
    options: _types_pb2.Options
    def __init__(self, key_id: _Optional[str] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., clock: _Optional[_Union[_types_pb2.Clock, str]] = ..., max_pending: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., activate_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., never_expires: _Optional[bool] = ..., reason: _Optional[_Union[_verifier_pb2.RevocationReason, str]] = ..., force: _Optional[bool] = ..., allow_gap: _Optional[bool] = ..., expected_version: _Optional[int] = ..., secret: _Optional[_Union[_types_pb2.Secret, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class RotateKeyResponse(_message.Message):
    __slots__ = ("key", "version", "token", "previous", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    version: int
    token: str
    previous: _types_pb2.Version
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., version: _Optional[int] = ..., token: _Optional[str] = ..., previous: _Optional[_Union[_types_pb2.Version, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class PromoteVersionRequest(_message.Message):
    __slots__ = ("key_id", "options")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    options: _types_pb2.Options
    def __init__(self, key_id: _Optional[str] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class PromoteVersionResponse(_message.Message):
    __slots__ = ("key", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RetireVersionRequest(_message.Message):
    __slots__ = ("key_id", "version", "retire_at", "force", "options")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RETIRE_AT_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    version: int
    retire_at: _timestamp_pb2.Timestamp
    force: bool
    options: _types_pb2.Options
    def __init__(self, key_id: _Optional[str] = ..., version: _Optional[int] = ..., retire_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., force: _Optional[bool] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class RetireVersionResponse(_message.Message):
    __slots__ = ("key", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class CancelRotationRequest(_message.Message):
    __slots__ = ("key_id", "options")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    options: _types_pb2.Options
    def __init__(self, key_id: _Optional[str] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class CancelRotationResponse(_message.Message):
    __slots__ = ("key", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class RollBackKeyRequest(_message.Message):
    __slots__ = ("key_id", "to_version", "overlap", "options")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    to_version: int
    overlap: _duration_pb2.Duration
    options: _types_pb2.Options
    def __init__(self, key_id: _Optional[str] = ..., to_version: _Optional[int] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class RollBackKeyResponse(_message.Message):
    __slots__ = ("key", "receipt")
    KEY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    key: _types_pb2.Key
    receipt: _types_pb2.Receipt
    def __init__(self, key: _Optional[_Union[_types_pb2.Key, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class VersionName(_message.Message):
    __slots__ = ("key_id", "version")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    version: int
    def __init__(self, key_id: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Selection(_message.Message):
    __slots__ = ("versions", "client_ids", "prefixes", "token_sha256s", "created_before", "created_after")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_IDS_FIELD_NUMBER: _ClassVar[int]
    PREFIXES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SHA256S_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionName]
    client_ids: _containers.RepeatedScalarFieldContainer[str]
    prefixes: _containers.RepeatedScalarFieldContainer[str]
    token_sha256s: _containers.RepeatedScalarFieldContainer[bytes]
    created_before: _timestamp_pb2.Timestamp
    created_after: _timestamp_pb2.Timestamp
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionName, _Mapping]]] = ..., client_ids: _Optional[_Iterable[str]] = ..., prefixes: _Optional[_Iterable[str]] = ..., token_sha256s: _Optional[_Iterable[bytes]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("selection", "reason", "expected_count", "options")
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    selection: Selection
    reason: _verifier_pb2.RevocationReason
    expected_count: int
    options: _types_pb2.Options
    def __init__(self, selection: _Optional[_Union[Selection, _Mapping]] = ..., reason: _Optional[_Union[_verifier_pb2.RevocationReason, str]] = ..., expected_count: _Optional[int] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class Impact(_message.Message):
    __slots__ = ("client_id", "key_id", "version", "last_used_at", "valid_24h")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    VALID_24H_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    key_id: str
    version: int
    last_used_at: _timestamp_pb2.Timestamp
    valid_24h: int
    def __init__(self, client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., version: _Optional[int] = ..., last_used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., valid_24h: _Optional[int] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("count", "unmatched", "keys_without_version", "impacts", "receipt", "unserved")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    UNMATCHED_FIELD_NUMBER: _ClassVar[int]
    KEYS_WITHOUT_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMPACTS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    UNSERVED_FIELD_NUMBER: _ClassVar[int]
    count: int
    unmatched: int
    keys_without_version: int
    impacts: _containers.RepeatedCompositeFieldContainer[Impact]
    receipt: _types_pb2.Receipt
    unserved: int
    def __init__(self, count: _Optional[int] = ..., unmatched: _Optional[int] = ..., keys_without_version: _Optional[int] = ..., impacts: _Optional[_Iterable[_Union[Impact, _Mapping]]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ..., unserved: _Optional[int] = ...) -> None: ...

class ReinstateRequest(_message.Message):
    __slots__ = ("audit_id", "options")
    AUDIT_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    audit_id: str
    options: _types_pb2.Options
    def __init__(self, audit_id: _Optional[str] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class ReinstateResponse(_message.Message):
    __slots__ = ("count", "kept", "receipt")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    count: int
    kept: int
    receipt: _types_pb2.Receipt
    def __init__(self, count: _Optional[int] = ..., kept: _Optional[int] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class ImportTerms(_message.Message):
    __slots__ = ("client_id", "native_prefix", "mixed_prefix", "foreign_prefix", "scopes", "allow", "metadata", "expires_at", "entropy_bits", "accept_weak", "skip_bad", "options", "not_before", "key_expires_at")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    NATIVE_PREFIX_FIELD_NUMBER: _ClassVar[int]
    MIXED_PREFIX_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_PREFIX_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_BITS_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_WEAK_FIELD_NUMBER: _ClassVar[int]
    SKIP_BAD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    KEY_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    native_prefix: str
    mixed_prefix: str
    foreign_prefix: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    allow: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    expires_at: _timestamp_pb2.Timestamp
    entropy_bits: int
    accept_weak: bool
    skip_bad: bool
    options: _types_pb2.Options
    not_before: _timestamp_pb2.Timestamp
    key_expires_at: _timestamp_pb2.Timestamp
    def __init__(self, client_id: _Optional[str] = ..., native_prefix: _Optional[str] = ..., mixed_prefix: _Optional[str] = ..., foreign_prefix: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., allow: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., entropy_bits: _Optional[int] = ..., accept_weak: _Optional[bool] = ..., skip_bad: _Optional[bool] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., key_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ImportRow(_message.Message):
    __slots__ = ("sha256", "key_id", "scopes", "expires_at", "allow", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SHA256_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    key_id: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    expires_at: _timestamp_pb2.Timestamp
    allow: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, sha256: _Optional[bytes] = ..., key_id: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., allow: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ImportKeysRequest(_message.Message):
    __slots__ = ("terms", "rows", "rows_total")
    TERMS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    terms: ImportTerms
    rows: _containers.RepeatedCompositeFieldContainer[ImportRow]
    rows_total: int
    def __init__(self, terms: _Optional[_Union[ImportTerms, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[ImportRow, _Mapping]]] = ..., rows_total: _Optional[int] = ...) -> None: ...

class BadRow(_message.Message):
    __slots__ = ("number", "problem")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    number: int
    problem: str
    def __init__(self, number: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class ImportKeysResponse(_message.Message):
    __slots__ = ("imported", "skipped", "bad_rows", "key_ids", "receipt")
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    BAD_ROWS_FIELD_NUMBER: _ClassVar[int]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    imported: int
    skipped: int
    bad_rows: _containers.RepeatedCompositeFieldContainer[BadRow]
    key_ids: _containers.RepeatedScalarFieldContainer[str]
    receipt: _types_pb2.Receipt
    def __init__(self, imported: _Optional[int] = ..., skipped: _Optional[int] = ..., bad_rows: _Optional[_Iterable[_Union[BadRow, _Mapping]]] = ..., key_ids: _Optional[_Iterable[str]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...

class CheckRetirementRequest(_message.Message):
    __slots__ = ("key_id", "version", "accept_gaps")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_GAPS_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    version: int
    accept_gaps: bool
    def __init__(self, key_id: _Optional[str] = ..., version: _Optional[int] = ..., accept_gaps: _Optional[bool] = ...) -> None: ...

class NodeCoverage(_message.Message):
    __slots__ = ("node", "to", "gap")
    NODE_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    node: str
    to: _timestamp_pb2.Timestamp
    gap: _duration_pb2.Duration
    def __init__(self, node: _Optional[str] = ..., to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., gap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., **kwargs) -> None: ...

class CheckRetirementResponse(_message.Message):
    __slots__ = ("safety", "reasons", "as_of", "quiet_required", "quiet_because", "last_used_at", "old_valid", "new_valid", "share_moved", "addresses", "nodes", "version", "last_used_node")
    SAFETY_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    QUIET_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    QUIET_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    OLD_VALID_FIELD_NUMBER: _ClassVar[int]
    NEW_VALID_FIELD_NUMBER: _ClassVar[int]
    SHARE_MOVED_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_NODE_FIELD_NUMBER: _ClassVar[int]
    safety: Safety
    reasons: _containers.RepeatedScalarFieldContainer[str]
    as_of: _timestamp_pb2.Timestamp
    quiet_required: _duration_pb2.Duration
    quiet_because: str
    last_used_at: _timestamp_pb2.Timestamp
    old_valid: int
    new_valid: int
    share_moved: float
    addresses: _containers.RepeatedScalarFieldContainer[str]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeCoverage]
    version: int
    last_used_node: str
    def __init__(self, safety: _Optional[_Union[Safety, str]] = ..., reasons: _Optional[_Iterable[str]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., quiet_required: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., quiet_because: _Optional[str] = ..., last_used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., old_valid: _Optional[int] = ..., new_valid: _Optional[int] = ..., share_moved: _Optional[float] = ..., addresses: _Optional[_Iterable[str]] = ..., nodes: _Optional[_Iterable[_Union[NodeCoverage, _Mapping]]] = ..., version: _Optional[int] = ..., last_used_node: _Optional[str] = ...) -> None: ...

class GetStorePolicyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStorePolicyResponse(_message.Message):
    __slots__ = ("policy", "effective_policy")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: _types_pb2.Policy
    effective_policy: _types_pb2.Policy
    def __init__(self, policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ..., effective_policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ...) -> None: ...

class UpdateStorePolicyRequest(_message.Message):
    __slots__ = ("policy", "options")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    policy: _types_pb2.Policy
    options: _types_pb2.Options
    def __init__(self, policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ..., options: _Optional[_Union[_types_pb2.Options, _Mapping]] = ...) -> None: ...

class UpdateStorePolicyResponse(_message.Message):
    __slots__ = ("policy", "effective_policy", "receipt")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_POLICY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    policy: _types_pb2.Policy
    effective_policy: _types_pb2.Policy
    receipt: _types_pb2.Receipt
    def __init__(self, policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ..., effective_policy: _Optional[_Union[_types_pb2.Policy, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...
