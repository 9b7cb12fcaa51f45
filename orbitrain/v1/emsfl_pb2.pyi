from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Version(_message.Message):
    __slots__ = ("number", "digest")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    number: int
    digest: str
    def __init__(self, number: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("item", "base", "digest")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    item: str
    base: int
    digest: str
    def __init__(self, item: _Optional[str] = ..., base: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("epoch", "model", "ready", "surveyed", "counts", "samples", "held", "failed")
    class HeldEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    SURVEYED_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    model: int
    ready: bool
    surveyed: bool
    counts: _containers.RepeatedScalarFieldContainer[int]
    samples: int
    held: _containers.ScalarMap[str, int]
    failed: int
    def __init__(self, epoch: _Optional[int] = ..., model: _Optional[int] = ..., ready: _Optional[bool] = ..., surveyed: _Optional[bool] = ..., counts: _Optional[_Iterable[int]] = ..., samples: _Optional[int] = ..., held: _Optional[_Mapping[str, int]] = ..., failed: _Optional[int] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("epoch", "model", "rounds", "samples", "changes")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    model: int
    rounds: int
    samples: int
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, epoch: _Optional[int] = ..., model: _Optional[int] = ..., rounds: _Optional[int] = ..., samples: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("number", "epoch", "cycle", "owners", "items", "gate", "backbone", "masked", "steps")
    class ItemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Version
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...
    class StepsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CYCLE_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    number: int
    epoch: int
    cycle: int
    owners: _containers.RepeatedScalarFieldContainer[str]
    items: _containers.MessageMap[str, Version]
    gate: bool
    backbone: bool
    masked: bool
    steps: _containers.ScalarMap[str, str]
    def __init__(self, number: _Optional[int] = ..., epoch: _Optional[int] = ..., cycle: _Optional[int] = ..., owners: _Optional[_Iterable[str]] = ..., items: _Optional[_Mapping[str, Version]] = ..., gate: _Optional[bool] = ..., backbone: _Optional[bool] = ..., masked: _Optional[bool] = ..., steps: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Shared(_message.Message):
    __slots__ = ("model", "samples", "changes")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    model: int
    samples: int
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    def __init__(self, model: _Optional[int] = ..., samples: _Optional[int] = ..., changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ...) -> None: ...

class Gate(_message.Message):
    __slots__ = ("items",)
    class ItemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Version
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.MessageMap[str, Version]
    def __init__(self, items: _Optional[_Mapping[str, Version]] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("item", "digest")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    item: str
    digest: str
    def __init__(self, item: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("item", "digest")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    item: str
    digest: str
    def __init__(self, item: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("model", "epoch", "rounds", "samples", "bases", "now")
    class BasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Version
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Version, _Mapping]] = ...) -> None: ...
    class NowEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BASES_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    model: int
    epoch: int
    rounds: int
    samples: int
    bases: _containers.MessageMap[str, Version]
    now: _containers.ScalarMap[str, str]
    def __init__(self, model: _Optional[int] = ..., epoch: _Optional[int] = ..., rounds: _Optional[int] = ..., samples: _Optional[int] = ..., bases: _Optional[_Mapping[str, Version]] = ..., now: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DeviceState(_message.Message):
    __slots__ = ("serial", "contact", "surveyed", "counts", "samples", "told", "survey_failures", "surveying", "adopted", "until_ns", "in_pass", "fresh", "spent", "work", "round", "job", "connected", "due_ns", "failures", "outgoing", "packing", "updates", "sending", "sent_in", "residuals", "shared", "shared_job", "shared_key", "hello", "contact_until_ns", "calling", "arriving", "applying", "failed")
    class UpdatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ResidualsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    SURVEYED_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    SURVEY_FAILURES_FIELD_NUMBER: _ClassVar[int]
    SURVEYING_FIELD_NUMBER: _ClassVar[int]
    ADOPTED_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    IN_PASS_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    DUE_NS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    OUTGOING_FIELD_NUMBER: _ClassVar[int]
    PACKING_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    SENDING_FIELD_NUMBER: _ClassVar[int]
    SENT_IN_FIELD_NUMBER: _ClassVar[int]
    RESIDUALS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    SHARED_JOB_FIELD_NUMBER: _ClassVar[int]
    SHARED_KEY_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CONTACT_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    CALLING_FIELD_NUMBER: _ClassVar[int]
    ARRIVING_FIELD_NUMBER: _ClassVar[int]
    APPLYING_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    serial: int
    contact: int
    surveyed: bool
    counts: _containers.RepeatedScalarFieldContainer[int]
    samples: int
    told: bool
    survey_failures: int
    surveying: bool
    adopted: Model
    until_ns: int
    in_pass: bool
    fresh: bool
    spent: bool
    work: Work
    round: int
    job: str
    connected: bool
    due_ns: int
    failures: int
    outgoing: Work
    packing: _containers.RepeatedScalarFieldContainer[str]
    updates: _containers.ScalarMap[str, str]
    sending: str
    sent_in: int
    residuals: _containers.ScalarMap[str, str]
    shared: Work
    shared_job: str
    shared_key: str
    hello: str
    contact_until_ns: int
    calling: bool
    arriving: Model
    applying: str
    failed: int
    def __init__(self, serial: _Optional[int] = ..., contact: _Optional[int] = ..., surveyed: _Optional[bool] = ..., counts: _Optional[_Iterable[int]] = ..., samples: _Optional[int] = ..., told: _Optional[bool] = ..., survey_failures: _Optional[int] = ..., surveying: _Optional[bool] = ..., adopted: _Optional[_Union[Model, _Mapping]] = ..., until_ns: _Optional[int] = ..., in_pass: _Optional[bool] = ..., fresh: _Optional[bool] = ..., spent: _Optional[bool] = ..., work: _Optional[_Union[Work, _Mapping]] = ..., round: _Optional[int] = ..., job: _Optional[str] = ..., connected: _Optional[bool] = ..., due_ns: _Optional[int] = ..., failures: _Optional[int] = ..., outgoing: _Optional[_Union[Work, _Mapping]] = ..., packing: _Optional[_Iterable[str]] = ..., updates: _Optional[_Mapping[str, str]] = ..., sending: _Optional[str] = ..., sent_in: _Optional[int] = ..., residuals: _Optional[_Mapping[str, str]] = ..., shared: _Optional[_Union[Work, _Mapping]] = ..., shared_job: _Optional[str] = ..., shared_key: _Optional[str] = ..., hello: _Optional[str] = ..., contact_until_ns: _Optional[int] = ..., calling: _Optional[bool] = ..., arriving: _Optional[_Union[Model, _Mapping]] = ..., applying: _Optional[str] = ..., failed: _Optional[int] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("device", "item", "base", "digest", "samples", "rounds")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    device: str
    item: str
    base: int
    digest: str
    samples: int
    rounds: int
    def __init__(self, device: _Optional[str] = ..., item: _Optional[str] = ..., base: _Optional[int] = ..., digest: _Optional[str] = ..., samples: _Optional[int] = ..., rounds: _Optional[int] = ...) -> None: ...

class Guest(_message.Message):
    __slots__ = ("there", "heard", "ready", "came", "model", "asked", "answered", "fetched", "held", "stepped")
    class HeldEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    THERE_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    CAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FETCHED_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    STEPPED_FIELD_NUMBER: _ClassVar[int]
    there: bool
    heard: bool
    ready: bool
    came: bool
    model: int
    asked: bool
    answered: bool
    fetched: _containers.RepeatedScalarFieldContainer[str]
    held: _containers.ScalarMap[str, int]
    stepped: int
    def __init__(self, there: _Optional[bool] = ..., heard: _Optional[bool] = ..., ready: _Optional[bool] = ..., came: _Optional[bool] = ..., model: _Optional[int] = ..., asked: _Optional[bool] = ..., answered: _Optional[bool] = ..., fetched: _Optional[_Iterable[str]] = ..., held: _Optional[_Mapping[str, int]] = ..., stepped: _Optional[int] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("begun_ns", "heard_ns", "end_ns", "first_ns", "guests", "shared", "job", "merging", "answers", "committed", "gated", "tuned", "uploads", "failures", "is_cycle")
    class GuestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Guest
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Guest, _Mapping]] = ...) -> None: ...
    BEGUN_NS_FIELD_NUMBER: _ClassVar[int]
    HEARD_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_NS_FIELD_NUMBER: _ClassVar[int]
    GUESTS_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    MERGING_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    GATED_FIELD_NUMBER: _ClassVar[int]
    TUNED_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    IS_CYCLE_FIELD_NUMBER: _ClassVar[int]
    begun_ns: int
    heard_ns: int
    end_ns: int
    first_ns: int
    guests: _containers.MessageMap[str, Guest]
    shared: _containers.RepeatedCompositeFieldContainer[Entry]
    job: str
    merging: _containers.RepeatedCompositeFieldContainer[Entry]
    answers: bool
    committed: bool
    gated: bool
    tuned: bool
    uploads: int
    failures: int
    is_cycle: bool
    def __init__(self, begun_ns: _Optional[int] = ..., heard_ns: _Optional[int] = ..., end_ns: _Optional[int] = ..., first_ns: _Optional[int] = ..., guests: _Optional[_Mapping[str, Guest]] = ..., shared: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., job: _Optional[str] = ..., merging: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., answers: _Optional[bool] = ..., committed: _Optional[bool] = ..., gated: _Optional[bool] = ..., tuned: _Optional[bool] = ..., uploads: _Optional[int] = ..., failures: _Optional[int] = ..., is_cycle: _Optional[bool] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("missing", "surveyed", "counts", "samples", "counted")
    class CountedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    MISSING_FIELD_NUMBER: _ClassVar[int]
    SURVEYED_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FIELD_NUMBER: _ClassVar[int]
    missing: bool
    surveyed: bool
    counts: _containers.RepeatedScalarFieldContainer[int]
    samples: int
    counted: _containers.ScalarMap[str, int]
    def __init__(self, missing: _Optional[bool] = ..., surveyed: _Optional[bool] = ..., counts: _Optional[_Iterable[int]] = ..., samples: _Optional[int] = ..., counted: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("version", "owner", "since", "lost", "step", "residual")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    version: Version
    owner: str
    since: int
    lost: bool
    step: str
    residual: str
    def __init__(self, version: _Optional[_Union[Version, _Mapping]] = ..., owner: _Optional[str] = ..., since: _Optional[int] = ..., lost: _Optional[bool] = ..., step: _Optional[str] = ..., residual: _Optional[str] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("passes", "commits", "lease_ns", "absent")
    PASSES_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    LEASE_NS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    passes: int
    commits: int
    lease_ns: int
    absent: bool
    def __init__(self, passes: _Optional[int] = ..., commits: _Optional[int] = ..., lease_ns: _Optional[int] = ..., absent: _Optional[bool] = ...) -> None: ...

class Assembly(_message.Message):
    __slots__ = ("cluster", "cycle")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    CYCLE_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    cycle: int
    def __init__(self, cluster: _Optional[str] = ..., cycle: _Optional[int] = ...) -> None: ...

class SatelliteState(_message.Message):
    __slots__ = ("serial", "begun", "begun_ns", "epoch", "edition", "items", "clusters", "members", "sessions", "pending", "memory", "resplit", "assemblies", "letters", "finished")
    class ItemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Item
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Item, _Mapping]] = ...) -> None: ...
    class ClustersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Standing
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...
    class MembersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Member
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Member, _Mapping]] = ...) -> None: ...
    class SessionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Session
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...
    class AssembliesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Assembly
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Assembly, _Mapping]] = ...) -> None: ...
    class LettersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    BEGUN_NS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EDITION_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    RESPLIT_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLIES_FIELD_NUMBER: _ClassVar[int]
    LETTERS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    serial: int
    begun: bool
    begun_ns: int
    epoch: int
    edition: int
    items: _containers.MessageMap[str, Item]
    clusters: _containers.MessageMap[str, Standing]
    members: _containers.MessageMap[str, Member]
    sessions: _containers.MessageMap[str, Session]
    pending: _containers.RepeatedCompositeFieldContainer[Entry]
    memory: bytes
    resplit: bool
    assemblies: _containers.MessageMap[str, Assembly]
    letters: _containers.ScalarMap[str, str]
    finished: bool
    def __init__(self, serial: _Optional[int] = ..., begun: _Optional[bool] = ..., begun_ns: _Optional[int] = ..., epoch: _Optional[int] = ..., edition: _Optional[int] = ..., items: _Optional[_Mapping[str, Item]] = ..., clusters: _Optional[_Mapping[str, Standing]] = ..., members: _Optional[_Mapping[str, Member]] = ..., sessions: _Optional[_Mapping[str, Session]] = ..., pending: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., memory: _Optional[bytes] = ..., resplit: _Optional[bool] = ..., assemblies: _Optional[_Mapping[str, Assembly]] = ..., letters: _Optional[_Mapping[str, str]] = ..., finished: _Optional[bool] = ...) -> None: ...
