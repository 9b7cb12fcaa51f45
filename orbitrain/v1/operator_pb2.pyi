from orbitrain.v1 import link_pb2 as _link_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadJournalRequest(_message.Message):
    __slots__ = ("after_event", "after_metric")
    AFTER_EVENT_FIELD_NUMBER: _ClassVar[int]
    AFTER_METRIC_FIELD_NUMBER: _ClassVar[int]
    after_event: int
    after_metric: int
    def __init__(self, after_event: _Optional[int] = ..., after_metric: _Optional[int] = ...) -> None: ...

class JournalEvent(_message.Message):
    __slots__ = ("sequence", "t_ns", "role", "severity", "kind", "fields_json")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    T_NS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FIELDS_JSON_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    t_ns: int
    role: str
    severity: str
    kind: str
    fields_json: str
    def __init__(self, sequence: _Optional[int] = ..., t_ns: _Optional[int] = ..., role: _Optional[str] = ..., severity: _Optional[str] = ..., kind: _Optional[str] = ..., fields_json: _Optional[str] = ...) -> None: ...

class JournalMetric(_message.Message):
    __slots__ = ("sequence", "t_ns", "name", "value")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    T_NS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    t_ns: int
    name: str
    value: float
    def __init__(self, sequence: _Optional[int] = ..., t_ns: _Optional[int] = ..., name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class JournalPage(_message.Message):
    __slots__ = ("node", "incarnation", "committed_ns", "events", "metrics")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_NS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: str
    committed_ns: int
    events: _containers.RepeatedCompositeFieldContainer[JournalEvent]
    metrics: _containers.RepeatedCompositeFieldContainer[JournalMetric]
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[str] = ..., committed_ns: _Optional[int] = ..., events: _Optional[_Iterable[_Union[JournalEvent, _Mapping]]] = ..., metrics: _Optional[_Iterable[_Union[JournalMetric, _Mapping]]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainReply(_message.Message):
    __slots__ = ("committed_ns",)
    COMMITTED_NS_FIELD_NUMBER: _ClassVar[int]
    committed_ns: int
    def __init__(self, committed_ns: _Optional[int] = ...) -> None: ...

class GatherRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GatherReply(_message.Message):
    __slots__ = ("unreachable",)
    UNREACHABLE_FIELD_NUMBER: _ClassVar[int]
    unreachable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, unreachable: _Optional[_Iterable[str]] = ...) -> None: ...

class PlanChunk(_message.Message):
    __slots__ = ("at_ns", "sha256", "size", "data")
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    at_ns: int
    sha256: str
    size: int
    data: bytes
    def __init__(self, at_ns: _Optional[int] = ..., sha256: _Optional[str] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class UpdatePlanReply(_message.Message):
    __slots__ = ("accepted", "reason", "at_ns", "revision", "sha256")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    at_ns: int
    revision: int
    sha256: str
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ..., at_ns: _Optional[int] = ..., revision: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class FilePiece(_message.Message):
    __slots__ = ("order", "size", "data")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    order: SendOrder
    size: int
    data: bytes
    def __init__(self, order: _Optional[_Union[SendOrder, _Mapping]] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SendOrder(_message.Message):
    __slots__ = ("destination", "name", "lane", "expires_in_ns", "token")
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_NS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    destination: str
    name: str
    lane: int
    expires_in_ns: int
    token: str
    def __init__(self, destination: _Optional[str] = ..., name: _Optional[str] = ..., lane: _Optional[int] = ..., expires_in_ns: _Optional[int] = ..., token: _Optional[str] = ...) -> None: ...

class SendFileReply(_message.Message):
    __slots__ = ("bundle", "refused")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    refused: str
    def __init__(self, bundle: _Optional[str] = ..., refused: _Optional[str] = ...) -> None: ...

class ListTransfersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Transfer(_message.Message):
    __slots__ = ("outgoing", "peer", "role", "lane", "key", "digest", "size", "done", "expires_at_ns", "contact_start_ns", "contact_end_ns", "destination")
    OUTGOING_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_NS_FIELD_NUMBER: _ClassVar[int]
    CONTACT_START_NS_FIELD_NUMBER: _ClassVar[int]
    CONTACT_END_NS_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    outgoing: bool
    peer: str
    role: str
    lane: int
    key: str
    digest: str
    size: int
    done: int
    expires_at_ns: int
    contact_start_ns: int
    contact_end_ns: int
    destination: str
    def __init__(self, outgoing: _Optional[bool] = ..., peer: _Optional[str] = ..., role: _Optional[str] = ..., lane: _Optional[int] = ..., key: _Optional[str] = ..., digest: _Optional[str] = ..., size: _Optional[int] = ..., done: _Optional[int] = ..., expires_at_ns: _Optional[int] = ..., contact_start_ns: _Optional[int] = ..., contact_end_ns: _Optional[int] = ..., destination: _Optional[str] = ...) -> None: ...

class TransferList(_message.Message):
    __slots__ = ("now_ns", "transfers")
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    TRANSFERS_FIELD_NUMBER: _ClassVar[int]
    now_ns: int
    transfers: _containers.RepeatedCompositeFieldContainer[Transfer]
    def __init__(self, now_ns: _Optional[int] = ..., transfers: _Optional[_Iterable[_Union[Transfer, _Mapping]]] = ...) -> None: ...
