from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_DELIVERED: _ClassVar[Outcome]
    OUTCOME_REFUSED: _ClassVar[Outcome]
    OUTCOME_EXPIRED: _ClassVar[Outcome]
    OUTCOME_CANCELLED: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_DELIVERED: Outcome
OUTCOME_REFUSED: Outcome
OUTCOME_EXPIRED: Outcome
OUTCOME_CANCELLED: Outcome

class PingRequest(_message.Message):
    __slots__ = ("source", "incarnation", "plan_sha256", "now_ns")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_SHA256_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    source: str
    incarnation: str
    plan_sha256: str
    now_ns: int
    def __init__(self, source: _Optional[str] = ..., incarnation: _Optional[str] = ..., plan_sha256: _Optional[str] = ..., now_ns: _Optional[int] = ...) -> None: ...

class PingReply(_message.Message):
    __slots__ = ("node", "incarnation", "now_ns")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: str
    now_ns: int
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[str] = ..., now_ns: _Optional[int] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class ObjectName(_message.Message):
    __slots__ = ("digest", "size")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size: int
    def __init__(self, digest: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class OfferRequest(_message.Message):
    __slots__ = ("source", "objects", "incarnation", "role", "lane", "sequence", "expires_at_ns", "oldest")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_NS_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    source: str
    objects: _containers.RepeatedCompositeFieldContainer[ObjectName]
    incarnation: str
    role: str
    lane: int
    sequence: int
    expires_at_ns: int
    oldest: int
    def __init__(self, source: _Optional[str] = ..., objects: _Optional[_Iterable[_Union[ObjectName, _Mapping]]] = ..., incarnation: _Optional[str] = ..., role: _Optional[str] = ..., lane: _Optional[int] = ..., sequence: _Optional[int] = ..., expires_at_ns: _Optional[int] = ..., oldest: _Optional[int] = ...) -> None: ...

class Missing(_message.Message):
    __slots__ = ("digest", "ranges")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    ranges: _containers.RepeatedCompositeFieldContainer[Range]
    def __init__(self, digest: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[Range, _Mapping]]] = ...) -> None: ...

class OfferReply(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[Missing]
    def __init__(self, missing: _Optional[_Iterable[_Union[Missing, _Mapping]]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("object", "offset", "data", "source", "crc32")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    object: ObjectName
    offset: int
    data: bytes
    source: str
    crc32: int
    def __init__(self, object: _Optional[_Union[ObjectName, _Mapping]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., source: _Optional[str] = ..., crc32: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("arrived_bytes", "damaged", "committed", "whole", "refused", "code")
    ARRIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    arrived_bytes: int
    damaged: _containers.RepeatedCompositeFieldContainer[Range]
    committed: _containers.RepeatedCompositeFieldContainer[Range]
    whole: bool
    refused: str
    code: str
    def __init__(self, arrived_bytes: _Optional[int] = ..., damaged: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., committed: _Optional[_Iterable[_Union[Range, _Mapping]]] = ..., whole: _Optional[bool] = ..., refused: _Optional[str] = ..., code: _Optional[str] = ...) -> None: ...

class Letter(_message.Message):
    __slots__ = ("source", "incarnation", "destination", "role", "lane", "sequence", "kind", "body", "objects", "due_ns", "expires_at_ns", "cancelled")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    source: str
    incarnation: str
    destination: str
    role: str
    lane: int
    sequence: int
    kind: str
    body: bytes
    objects: _containers.RepeatedCompositeFieldContainer[ObjectName]
    due_ns: int
    expires_at_ns: int
    cancelled: str
    def __init__(self, source: _Optional[str] = ..., incarnation: _Optional[str] = ..., destination: _Optional[str] = ..., role: _Optional[str] = ..., lane: _Optional[int] = ..., sequence: _Optional[int] = ..., kind: _Optional[str] = ..., body: _Optional[bytes] = ..., objects: _Optional[_Iterable[_Union[ObjectName, _Mapping]]] = ..., due_ns: _Optional[int] = ..., expires_at_ns: _Optional[int] = ..., cancelled: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("outcome", "reason", "incarnation")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    reason: str
    incarnation: str
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ..., incarnation: _Optional[str] = ...) -> None: ...

class Letters(_message.Message):
    __slots__ = ("letters",)
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    letters: _containers.RepeatedCompositeFieldContainer[Letter]
    def __init__(self, letters: _Optional[_Iterable[_Union[Letter, _Mapping]]] = ...) -> None: ...

class CustodySignal(_message.Message):
    __slots__ = ("incarnation", "ranges")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    incarnation: str
    ranges: _containers.RepeatedCompositeFieldContainer[CustodyRange]
    def __init__(self, incarnation: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[CustodyRange, _Mapping]]] = ...) -> None: ...

class CustodyRange(_message.Message):
    __slots__ = ("first", "last", "outcome", "reason")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    outcome: Outcome
    reason: str
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., reason: _Optional[str] = ...) -> None: ...
