from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Contribution(_message.Message):
    __slots__ = ("device", "round", "samples")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    device: str
    round: int
    samples: int
    def __init__(self, device: _Optional[str] = ..., round: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...

class ModelRecord(_message.Message):
    __slots__ = ("region", "round", "digest", "pre_digest", "parents", "contributors", "satellite", "created_ns")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTORS_FIELD_NUMBER: _ClassVar[int]
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    region: str
    round: int
    digest: str
    pre_digest: str
    parents: _containers.RepeatedScalarFieldContainer[str]
    contributors: _containers.RepeatedCompositeFieldContainer[Contribution]
    satellite: str
    created_ns: int
    def __init__(self, region: _Optional[str] = ..., round: _Optional[int] = ..., digest: _Optional[str] = ..., pre_digest: _Optional[str] = ..., parents: _Optional[_Iterable[str]] = ..., contributors: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., satellite: _Optional[str] = ..., created_ns: _Optional[int] = ...) -> None: ...

class Poll(_message.Message):
    __slots__ = ("region",)
    REGION_FIELD_NUMBER: _ClassVar[int]
    region: str
    def __init__(self, region: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("region", "model", "mixing")
    REGION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MIXING_FIELD_NUMBER: _ClassVar[int]
    region: str
    model: ModelRecord
    mixing: _containers.RepeatedCompositeFieldContainer[ModelRecord]
    def __init__(self, region: _Optional[str] = ..., model: _Optional[_Union[ModelRecord, _Mapping]] = ..., mixing: _Optional[_Iterable[_Union[ModelRecord, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("record", "opens_round")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    OPENS_ROUND_FIELD_NUMBER: _ClassVar[int]
    record: ModelRecord
    opens_round: bool
    def __init__(self, record: _Optional[_Union[ModelRecord, _Mapping]] = ..., opens_round: _Optional[bool] = ...) -> None: ...

class Update(_message.Message):
    __slots__ = ("region", "round", "base", "digest", "samples")
    REGION_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    region: str
    round: int
    base: str
    digest: str
    samples: int
    def __init__(self, region: _Optional[str] = ..., round: _Optional[int] = ..., base: _Optional[str] = ..., digest: _Optional[str] = ..., samples: _Optional[int] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("region", "digest")
    REGION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    region: str
    digest: str
    def __init__(self, region: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("region", "digest")
    REGION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    region: str
    digest: str
    def __init__(self, region: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class DeviceState(_message.Message):
    __slots__ = ("model", "mixing", "update", "server", "job", "failures", "sending", "serial")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MIXING_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SENDING_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    model: ModelRecord
    mixing: _containers.RepeatedCompositeFieldContainer[ModelRecord]
    update: Update
    server: str
    job: str
    failures: int
    sending: str
    serial: int
    def __init__(self, model: _Optional[_Union[ModelRecord, _Mapping]] = ..., mixing: _Optional[_Iterable[_Union[ModelRecord, _Mapping]]] = ..., update: _Optional[_Union[Update, _Mapping]] = ..., server: _Optional[str] = ..., job: _Optional[str] = ..., failures: _Optional[int] = ..., sending: _Optional[str] = ..., serial: _Optional[int] = ...) -> None: ...

class Carry(_message.Message):
    __slots__ = ("target", "record", "digest")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    target: str
    record: ModelRecord
    digest: str
    def __init__(self, target: _Optional[str] = ..., record: _Optional[_Union[ModelRecord, _Mapping]] = ..., digest: _Optional[str] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("start_ns", "end_ns", "statuses", "base", "open", "opened", "updated", "accepted", "refused", "held", "fetching", "job", "starved")
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Status
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...
    class AcceptedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Update
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Update, _Mapping]] = ...) -> None: ...
    START_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    FETCHING_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    STARVED_FIELD_NUMBER: _ClassVar[int]
    start_ns: int
    end_ns: int
    statuses: _containers.MessageMap[str, Status]
    base: ModelRecord
    open: bool
    opened: _containers.RepeatedScalarFieldContainer[str]
    updated: _containers.RepeatedScalarFieldContainer[str]
    accepted: _containers.MessageMap[str, Update]
    refused: _containers.RepeatedScalarFieldContainer[str]
    held: _containers.RepeatedScalarFieldContainer[str]
    fetching: str
    job: str
    starved: bool
    def __init__(self, start_ns: _Optional[int] = ..., end_ns: _Optional[int] = ..., statuses: _Optional[_Mapping[str, Status]] = ..., base: _Optional[_Union[ModelRecord, _Mapping]] = ..., open: _Optional[bool] = ..., opened: _Optional[_Iterable[str]] = ..., updated: _Optional[_Iterable[str]] = ..., accepted: _Optional[_Mapping[str, Update]] = ..., refused: _Optional[_Iterable[str]] = ..., held: _Optional[_Iterable[str]] = ..., fetching: _Optional[str] = ..., job: _Optional[str] = ..., starved: _Optional[bool] = ...) -> None: ...

class SatelliteState(_message.Message):
    __slots__ = ("sessions", "carries", "serial", "seen")
    class SessionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Session
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...
    class SeenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    CARRIES_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.MessageMap[str, Session]
    carries: _containers.RepeatedCompositeFieldContainer[Carry]
    serial: int
    seen: _containers.ScalarMap[str, int]
    def __init__(self, sessions: _Optional[_Mapping[str, Session]] = ..., carries: _Optional[_Iterable[_Union[Carry, _Mapping]]] = ..., serial: _Optional[int] = ..., seen: _Optional[_Mapping[str, int]] = ...) -> None: ...
