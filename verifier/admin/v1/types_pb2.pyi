import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from verifier.v1 import verifier_pb2 as _verifier_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Clock(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_UNSPECIFIED: _ClassVar[Clock]
    CLOCK_FIXED: _ClassVar[Clock]
    CLOCK_ON_FIRST_USE: _ClassVar[Clock]
    CLOCK_MANUAL: _ClassVar[Clock]

class Wait(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAIT_UNSPECIFIED: _ClassVar[Wait]
    WAIT_RECORDED: _ClassVar[Wait]
    WAIT_PUBLISHED: _ClassVar[Wait]
    WAIT_SERVED: _ClassVar[Wait]
CLOCK_UNSPECIFIED: Clock
CLOCK_FIXED: Clock
CLOCK_ON_FIRST_USE: Clock
CLOCK_MANUAL: Clock
WAIT_UNSPECIFIED: Wait
WAIT_RECORDED: Wait
WAIT_PUBLISHED: Wait
WAIT_SERVED: Wait

class Options(_message.Message):
    __slots__ = ("request_id", "validate_only", "wait", "timeout", "note")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    validate_only: bool
    wait: Wait
    timeout: _duration_pb2.Duration
    note: str
    def __init__(self, request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ..., wait: _Optional[_Union[Wait, str]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., note: _Optional[str] = ...) -> None: ...

class Propagation(_message.Message):
    __slots__ = ("expected", "behind", "took")
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    expected: int
    behind: _containers.RepeatedScalarFieldContainer[str]
    took: _duration_pb2.Duration
    def __init__(self, expected: _Optional[int] = ..., behind: _Optional[_Iterable[str]] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("published", "revision", "pending_changes", "audit_id", "request_id", "replayed", "propagation", "held_at", "warnings", "committed_at", "done_at")
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PENDING_CHANGES_FIELD_NUMBER: _ClassVar[int]
    AUDIT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    PROPAGATION_FIELD_NUMBER: _ClassVar[int]
    HELD_AT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_FIELD_NUMBER: _ClassVar[int]
    DONE_AT_FIELD_NUMBER: _ClassVar[int]
    published: bool
    revision: int
    pending_changes: int
    audit_id: str
    request_id: str
    replayed: bool
    propagation: Propagation
    held_at: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    committed_at: _timestamp_pb2.Timestamp
    done_at: _timestamp_pb2.Timestamp
    def __init__(self, published: _Optional[bool] = ..., revision: _Optional[int] = ..., pending_changes: _Optional[int] = ..., audit_id: _Optional[str] = ..., request_id: _Optional[str] = ..., replayed: _Optional[bool] = ..., propagation: _Optional[_Union[Propagation, _Mapping]] = ..., held_at: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ..., committed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., done_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("max_age", "overlap", "clock", "max_pending", "notices", "expires_in", "retire_when_safe", "min_quiet", "max_live")
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_FIELD_NUMBER: _ClassVar[int]
    RETIRE_WHEN_SAFE_FIELD_NUMBER: _ClassVar[int]
    MIN_QUIET_FIELD_NUMBER: _ClassVar[int]
    MAX_LIVE_FIELD_NUMBER: _ClassVar[int]
    max_age: _duration_pb2.Duration
    overlap: _duration_pb2.Duration
    clock: Clock
    max_pending: _duration_pb2.Duration
    notices: _containers.RepeatedCompositeFieldContainer[_duration_pb2.Duration]
    expires_in: _duration_pb2.Duration
    retire_when_safe: bool
    min_quiet: _duration_pb2.Duration
    max_live: int
    def __init__(self, max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., clock: _Optional[_Union[Clock, str]] = ..., max_pending: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., notices: _Optional[_Iterable[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]]] = ..., expires_in: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., retire_when_safe: _Optional[bool] = ..., min_quiet: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_live: _Optional[int] = ...) -> None: ...

class Client(_message.Message):
    __slots__ = ("client_id", "name", "enabled", "created_at", "policy", "keys", "etag")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    name: str
    enabled: bool
    created_at: _timestamp_pb2.Timestamp
    policy: Policy
    keys: int
    etag: str
    def __init__(self, client_id: _Optional[str] = ..., name: _Optional[str] = ..., enabled: _Optional[bool] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., keys: _Optional[int] = ..., etag: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("version", "phase", "issued_at", "not_before", "expires_at", "own_expires_at", "superseded_at", "superseded_by", "retire_at", "clock", "overlap", "first_used_at", "last_used_at", "revoked_at", "reason", "entropy_bits")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    OWN_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_AT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    RETIRE_AT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    FIRST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_BITS_FIELD_NUMBER: _ClassVar[int]
    version: int
    phase: _verifier_pb2.Phase
    issued_at: _timestamp_pb2.Timestamp
    not_before: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    own_expires_at: _timestamp_pb2.Timestamp
    superseded_at: _timestamp_pb2.Timestamp
    superseded_by: int
    retire_at: _timestamp_pb2.Timestamp
    clock: Clock
    overlap: _duration_pb2.Duration
    first_used_at: _timestamp_pb2.Timestamp
    last_used_at: _timestamp_pb2.Timestamp
    revoked_at: _timestamp_pb2.Timestamp
    reason: _verifier_pb2.RevocationReason
    entropy_bits: int
    def __init__(self, version: _Optional[int] = ..., phase: _Optional[_Union[_verifier_pb2.Phase, str]] = ..., issued_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., own_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., superseded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., superseded_by: _Optional[int] = ..., retire_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., clock: _Optional[_Union[Clock, str]] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., first_used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_used_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoked_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[_Union[_verifier_pb2.RevocationReason, str]] = ..., entropy_bits: _Optional[int] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("client_id", "key_id", "enabled", "prefix", "scopes", "allow", "metadata", "created_at", "expires_at", "policy", "effective_policy", "next_rotation_at", "versions", "etag")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    ALLOW_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_POLICY_FIELD_NUMBER: _ClassVar[int]
    NEXT_ROTATION_AT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    key_id: str
    enabled: bool
    prefix: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    allow: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    created_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    policy: Policy
    effective_policy: Policy
    next_rotation_at: _timestamp_pb2.Timestamp
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    etag: str
    def __init__(self, client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., enabled: _Optional[bool] = ..., prefix: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., allow: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., policy: _Optional[_Union[Policy, _Mapping]] = ..., effective_policy: _Optional[_Union[Policy, _Mapping]] = ..., next_rotation_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., etag: _Optional[str] = ...) -> None: ...

class Secret(_message.Message):
    __slots__ = ("generate", "sha256")
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    generate: bool
    sha256: bytes
    def __init__(self, generate: _Optional[bool] = ..., sha256: _Optional[bytes] = ...) -> None: ...
