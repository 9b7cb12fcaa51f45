from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Bundle(_message.Message):
    __slots__ = ("source", "created_ns", "sequence", "destination", "name", "digest", "size", "lane", "expires_at_ns", "custodians")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CUSTODIANS_FIELD_NUMBER: _ClassVar[int]
    source: str
    created_ns: int
    sequence: int
    destination: str
    name: str
    digest: str
    size: int
    lane: int
    expires_at_ns: int
    custodians: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., created_ns: _Optional[int] = ..., sequence: _Optional[int] = ..., destination: _Optional[str] = ..., name: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., lane: _Optional[int] = ..., expires_at_ns: _Optional[int] = ..., custodians: _Optional[_Iterable[str]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("bundle", "next", "key", "review_ns", "withdrawn", "refused_by")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVIEW_NS_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BY_FIELD_NUMBER: _ClassVar[int]
    bundle: Bundle
    next: str
    key: str
    review_ns: int
    withdrawn: bool
    refused_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, bundle: _Optional[_Union[Bundle, _Mapping]] = ..., next: _Optional[str] = ..., key: _Optional[str] = ..., review_ns: _Optional[int] = ..., withdrawn: _Optional[bool] = ..., refused_by: _Optional[_Iterable[str]] = ...) -> None: ...

class Arrived(_message.Message):
    __slots__ = ("bundle", "job", "retry_ns")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    RETRY_NS_FIELD_NUMBER: _ClassVar[int]
    bundle: Bundle
    job: str
    retry_ns: int
    def __init__(self, bundle: _Optional[_Union[Bundle, _Mapping]] = ..., job: _Optional[str] = ..., retry_ns: _Optional[int] = ...) -> None: ...

class Known(_message.Message):
    __slots__ = ("id", "expires_at_ns")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_NS_FIELD_NUMBER: _ClassVar[int]
    id: str
    expires_at_ns: int
    def __init__(self, id: _Optional[str] = ..., expires_at_ns: _Optional[int] = ...) -> None: ...

class CustodianState(_message.Message):
    __slots__ = ("sequence", "serial", "held", "arrived", "known")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    serial: int
    held: _containers.RepeatedCompositeFieldContainer[Held]
    arrived: _containers.RepeatedCompositeFieldContainer[Arrived]
    known: _containers.RepeatedCompositeFieldContainer[Known]
    def __init__(self, sequence: _Optional[int] = ..., serial: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., arrived: _Optional[_Iterable[_Union[Arrived, _Mapping]]] = ..., known: _Optional[_Iterable[_Union[Known, _Mapping]]] = ...) -> None: ...
