import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_VALID: _ClassVar[Verdict]
    VERDICT_MALFORMED: _ClassVar[Verdict]
    VERDICT_UNKNOWN: _ClassVar[Verdict]
    VERDICT_REVOKED: _ClassVar[Verdict]
    VERDICT_CLIENT_DISABLED: _ClassVar[Verdict]
    VERDICT_KEY_DISABLED: _ClassVar[Verdict]
    VERDICT_NOT_YET_ACTIVE: _ClassVar[Verdict]
    VERDICT_EXPIRED: _ClassVar[Verdict]
    VERDICT_ADDRESS_NOT_ALLOWED: _ClassVar[Verdict]
    VERDICT_INSUFFICIENT_SCOPE: _ClassVar[Verdict]
    VERDICT_RATE_LIMITED: _ClassVar[Verdict]
    VERDICT_QUOTA_EXCEEDED: _ClassVar[Verdict]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_PENDING: _ClassVar[Phase]
    PHASE_CURRENT: _ClassVar[Phase]
    PHASE_RETIRING: _ClassVar[Phase]
    PHASE_EXPIRED: _ClassVar[Phase]
    PHASE_REVOKED: _ClassVar[Phase]

class RevocationReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOCATION_REASON_UNSPECIFIED: _ClassVar[RevocationReason]
    REVOCATION_REASON_KEY_COMPROMISE: _ClassVar[RevocationReason]
    REVOCATION_REASON_AFFILIATION_CHANGED: _ClassVar[RevocationReason]
    REVOCATION_REASON_SUPERSEDED: _ClassVar[RevocationReason]
    REVOCATION_REASON_CESSATION_OF_OPERATION: _ClassVar[RevocationReason]
    REVOCATION_REASON_PRIVILEGE_WITHDRAWN: _ClassVar[RevocationReason]
VERDICT_UNSPECIFIED: Verdict
VERDICT_VALID: Verdict
VERDICT_MALFORMED: Verdict
VERDICT_UNKNOWN: Verdict
VERDICT_REVOKED: Verdict
VERDICT_CLIENT_DISABLED: Verdict
VERDICT_KEY_DISABLED: Verdict
VERDICT_NOT_YET_ACTIVE: Verdict
VERDICT_EXPIRED: Verdict
VERDICT_ADDRESS_NOT_ALLOWED: Verdict
VERDICT_INSUFFICIENT_SCOPE: Verdict
VERDICT_RATE_LIMITED: Verdict
VERDICT_QUOTA_EXCEEDED: Verdict
PHASE_UNSPECIFIED: Phase
PHASE_PENDING: Phase
PHASE_CURRENT: Phase
PHASE_RETIRING: Phase
PHASE_EXPIRED: Phase
PHASE_REVOKED: Phase
REVOCATION_REASON_UNSPECIFIED: RevocationReason
REVOCATION_REASON_KEY_COMPROMISE: RevocationReason
REVOCATION_REASON_AFFILIATION_CHANGED: RevocationReason
REVOCATION_REASON_SUPERSEDED: RevocationReason
REVOCATION_REASON_CESSATION_OF_OPERATION: RevocationReason
REVOCATION_REASON_PRIVILEGE_WITHDRAWN: RevocationReason

class VerifyRequest(_message.Message):
    __slots__ = ("key", "required_scopes", "client_address", "min_revision", "probe")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_SCOPES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    key: str
    required_scopes: _containers.RepeatedScalarFieldContainer[str]
    client_address: str
    min_revision: int
    probe: bool
    def __init__(self, key: _Optional[str] = ..., required_scopes: _Optional[_Iterable[str]] = ..., client_address: _Optional[str] = ..., min_revision: _Optional[int] = ..., probe: _Optional[bool] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("verdict", "phase", "revision", "staleness_ms", "client_id", "key_id", "version", "not_before", "expires_at", "superseded_at", "superseded_by", "revocation_reason", "scopes", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_AT_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_REASON_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    verdict: Verdict
    phase: Phase
    revision: int
    staleness_ms: int
    client_id: str
    key_id: str
    version: int
    not_before: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    superseded_at: _timestamp_pb2.Timestamp
    superseded_by: int
    revocation_reason: RevocationReason
    scopes: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, verdict: _Optional[_Union[Verdict, str]] = ..., phase: _Optional[_Union[Phase, str]] = ..., revision: _Optional[int] = ..., staleness_ms: _Optional[int] = ..., client_id: _Optional[str] = ..., key_id: _Optional[str] = ..., version: _Optional[int] = ..., not_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., superseded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., superseded_by: _Optional[int] = ..., revocation_reason: _Optional[_Union[RevocationReason, str]] = ..., scopes: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class VerifyBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[VerifyRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[VerifyRequest, _Mapping]]] = ...) -> None: ...

class VerifyBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[VerifyResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[VerifyResponse, _Mapping]]] = ...) -> None: ...
