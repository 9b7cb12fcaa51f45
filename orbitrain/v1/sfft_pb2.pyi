from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Round(_message.Message):
    __slots__ = ("round", "attempt", "head", "embedding", "backbone", "participants", "step_by_ns", "closed", "parents")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANTS_FIELD_NUMBER: _ClassVar[int]
    STEP_BY_NS_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    head: str
    embedding: str
    backbone: str
    participants: _containers.RepeatedScalarFieldContainer[str]
    step_by_ns: int
    closed: bool
    parents: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., head: _Optional[str] = ..., embedding: _Optional[str] = ..., backbone: _Optional[str] = ..., participants: _Optional[_Iterable[str]] = ..., step_by_ns: _Optional[int] = ..., closed: _Optional[bool] = ..., parents: _Optional[_Iterable[int]] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("round", "owner", "indices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    owner: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., owner: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ...) -> None: ...

class Fetch(_message.Message):
    __slots__ = ("round", "satellite", "wanted", "until_ns")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    round: int
    satellite: str
    wanted: _containers.RepeatedCompositeFieldContainer[Block]
    until_ns: int
    def __init__(self, round: _Optional[int] = ..., satellite: _Optional[str] = ..., wanted: _Optional[_Iterable[_Union[Block, _Mapping]]] = ..., until_ns: _Optional[int] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("round", "owner", "satellite", "indices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    owner: str
    satellite: str
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., owner: _Optional[str] = ..., satellite: _Optional[str] = ..., indices: _Optional[_Iterable[int]] = ...) -> None: ...

class Passed(_message.Message):
    __slots__ = ("round", "owner", "satellite", "taken", "indices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    owner: str
    satellite: str
    taken: bool
    indices: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., owner: _Optional[str] = ..., satellite: _Optional[str] = ..., taken: _Optional[bool] = ..., indices: _Optional[_Iterable[int]] = ...) -> None: ...

class Sighting(_message.Message):
    __slots__ = ("satellite", "there")
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    THERE_FIELD_NUMBER: _ClassVar[int]
    satellite: str
    there: bool
    def __init__(self, satellite: _Optional[str] = ..., there: _Optional[bool] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ("round", "attempt", "part", "step", "names")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    part: int
    step: int
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., part: _Optional[int] = ..., step: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("round", "attempt", "owner")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    owner: str
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., owner: _Optional[str] = ...) -> None: ...

class Sum(_message.Message):
    __slots__ = ("round", "attempt", "plane", "merged", "names", "weight", "entry", "holders")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    plane: int
    merged: bool
    names: _containers.RepeatedScalarFieldContainer[str]
    weight: int
    entry: str
    holders: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., plane: _Optional[int] = ..., merged: _Optional[bool] = ..., names: _Optional[_Iterable[str]] = ..., weight: _Optional[int] = ..., entry: _Optional[str] = ..., holders: _Optional[_Iterable[int]] = ...) -> None: ...

class Crossed(_message.Message):
    __slots__ = ("round", "attempt", "plane", "merged", "target", "entry")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PLANE_FIELD_NUMBER: _ClassVar[int]
    MERGED_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    round: int
    attempt: int
    plane: int
    merged: bool
    target: int
    entry: str
    def __init__(self, round: _Optional[int] = ..., attempt: _Optional[int] = ..., plane: _Optional[int] = ..., merged: _Optional[bool] = ..., target: _Optional[int] = ..., entry: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("satellite", "serial", "round", "attempt", "head", "names", "weight", "absent", "spoiled", "lacks", "reduced_ns", "with_head")
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    SPOILED_FIELD_NUMBER: _ClassVar[int]
    LACKS_FIELD_NUMBER: _ClassVar[int]
    REDUCED_NS_FIELD_NUMBER: _ClassVar[int]
    WITH_HEAD_FIELD_NUMBER: _ClassVar[int]
    satellite: str
    serial: int
    round: int
    attempt: int
    head: str
    names: _containers.RepeatedScalarFieldContainer[str]
    weight: int
    absent: _containers.RepeatedScalarFieldContainer[str]
    spoiled: bool
    lacks: bool
    reduced_ns: int
    with_head: bool
    def __init__(self, satellite: _Optional[str] = ..., serial: _Optional[int] = ..., round: _Optional[int] = ..., attempt: _Optional[int] = ..., head: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., weight: _Optional[int] = ..., absent: _Optional[_Iterable[str]] = ..., spoiled: _Optional[bool] = ..., lacks: _Optional[bool] = ..., reduced_ns: _Optional[int] = ..., with_head: _Optional[bool] = ...) -> None: ...

class Chunks(_message.Message):
    __slots__ = ("digests",)
    class DigestsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    digests: _containers.ScalarMap[int, str]
    def __init__(self, digests: _Optional[_Mapping[int, str]] = ...) -> None: ...

class Early(_message.Message):
    __slots__ = ("source", "kind", "body", "objects")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    source: str
    kind: str
    body: bytes
    objects: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., kind: _Optional[str] = ..., body: _Optional[bytes] = ..., objects: _Optional[_Iterable[str]] = ...) -> None: ...

class Labelled(_message.Message):
    __slots__ = ("digest", "names", "weight")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    digest: str
    names: _containers.RepeatedScalarFieldContainer[str]
    weight: int
    def __init__(self, digest: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., weight: _Optional[int] = ...) -> None: ...

class Known(_message.Message):
    __slots__ = ("sum", "holders", "since_ns", "failed")
    SUM_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    sum: Labelled
    holders: _containers.RepeatedScalarFieldContainer[int]
    since_ns: int
    failed: _containers.RepeatedCompositeFieldContainer[Try]
    def __init__(self, sum: _Optional[_Union[Labelled, _Mapping]] = ..., holders: _Optional[_Iterable[int]] = ..., since_ns: _Optional[int] = ..., failed: _Optional[_Iterable[_Union[Try, _Mapping]]] = ...) -> None: ...

class Try(_message.Message):
    __slots__ = ("sender", "receiver", "start_ns")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    sender: str
    receiver: str
    start_ns: int
    def __init__(self, sender: _Optional[str] = ..., receiver: _Optional[str] = ..., start_ns: _Optional[int] = ...) -> None: ...

class About(_message.Message):
    __slots__ = ("of_round", "station", "home", "leg")
    OF_ROUND_FIELD_NUMBER: _ClassVar[int]
    STATION_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    of_round: bool
    station: str
    home: Block
    leg: Leg
    def __init__(self, of_round: _Optional[bool] = ..., station: _Optional[str] = ..., home: _Optional[_Union[Block, _Mapping]] = ..., leg: _Optional[_Union[Leg, _Mapping]] = ...) -> None: ...

class Leg(_message.Message):
    __slots__ = ("sum", "target", "crossing")
    SUM_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CROSSING_FIELD_NUMBER: _ClassVar[int]
    sum: int
    target: int
    crossing: Try
    def __init__(self, sum: _Optional[int] = ..., target: _Optional[int] = ..., crossing: _Optional[_Union[Try, _Mapping]] = ...) -> None: ...

class SatelliteState(_message.Message):
    __slots__ = ("round", "serial", "open", "early", "jobs", "held", "sent", "features", "fetches", "own", "abstains", "visits", "visited", "final", "heads", "sums", "head", "statuses", "spoiled", "gathered")
    class OpenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: About
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[About, _Mapping]] = ...) -> None: ...
    class HeldEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Chunks
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Chunks, _Mapping]] = ...) -> None: ...
    class SentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Told
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Told, _Mapping]] = ...) -> None: ...
    class FetchesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Fetch
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Fetch, _Mapping]] = ...) -> None: ...
    class OwnEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    class VisitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Labelled
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Labelled, _Mapping]] = ...) -> None: ...
    class FinalEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Labelled
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Labelled, _Mapping]] = ...) -> None: ...
    class HeadsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Labelled
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Labelled, _Mapping]] = ...) -> None: ...
    class SumsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Known
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Known, _Mapping]] = ...) -> None: ...
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Status
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    EARLY_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FETCHES_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    ABSTAINS_FIELD_NUMBER: _ClassVar[int]
    VISITS_FIELD_NUMBER: _ClassVar[int]
    VISITED_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    SPOILED_FIELD_NUMBER: _ClassVar[int]
    GATHERED_FIELD_NUMBER: _ClassVar[int]
    round: Round
    serial: int
    open: _containers.MessageMap[str, About]
    early: _containers.RepeatedCompositeFieldContainer[Early]
    jobs: _containers.RepeatedScalarFieldContainer[str]
    held: _containers.MessageMap[str, Chunks]
    sent: _containers.MessageMap[str, Told]
    features: Chunks
    fetches: _containers.MessageMap[str, Fetch]
    own: _containers.ScalarMap[int, str]
    abstains: bool
    visits: _containers.MessageMap[str, Labelled]
    visited: _containers.RepeatedScalarFieldContainer[str]
    final: _containers.MessageMap[int, Labelled]
    heads: _containers.MessageMap[str, Labelled]
    sums: _containers.MessageMap[int, Known]
    head: str
    statuses: _containers.MessageMap[str, Status]
    spoiled: bool
    gathered: bool
    def __init__(self, round: _Optional[_Union[Round, _Mapping]] = ..., serial: _Optional[int] = ..., open: _Optional[_Mapping[str, About]] = ..., early: _Optional[_Iterable[_Union[Early, _Mapping]]] = ..., jobs: _Optional[_Iterable[str]] = ..., held: _Optional[_Mapping[str, Chunks]] = ..., sent: _Optional[_Mapping[str, Told]] = ..., features: _Optional[_Union[Chunks, _Mapping]] = ..., fetches: _Optional[_Mapping[str, Fetch]] = ..., own: _Optional[_Mapping[int, str]] = ..., abstains: _Optional[bool] = ..., visits: _Optional[_Mapping[str, Labelled]] = ..., visited: _Optional[_Iterable[str]] = ..., final: _Optional[_Mapping[int, Labelled]] = ..., heads: _Optional[_Mapping[str, Labelled]] = ..., sums: _Optional[_Mapping[int, Known]] = ..., head: _Optional[str] = ..., statuses: _Optional[_Mapping[str, Status]] = ..., spoiled: _Optional[bool] = ..., gathered: _Optional[bool] = ...) -> None: ...

class Told(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, chunks: _Optional[_Iterable[str]] = ...) -> None: ...

class StationState(_message.Message):
    __slots__ = ("round", "serial", "passing", "statuses")
    class PassingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Passed
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Passed, _Mapping]] = ...) -> None: ...
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Status
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    PASSING_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    round: Round
    serial: int
    passing: _containers.MessageMap[str, Passed]
    statuses: _containers.MessageMap[str, Status]
    def __init__(self, round: _Optional[_Union[Round, _Mapping]] = ..., serial: _Optional[int] = ..., passing: _Optional[_Mapping[str, Passed]] = ..., statuses: _Optional[_Mapping[str, Status]] = ...) -> None: ...

class Risen(_message.Message):
    __slots__ = ("indices", "attempt")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    attempt: int
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., attempt: _Optional[int] = ...) -> None: ...

class Handout(_message.Message):
    __slots__ = ("plane", "satellite", "station", "starts", "ends")
    PLANE_FIELD_NUMBER: _ClassVar[int]
    SATELLITE_FIELD_NUMBER: _ClassVar[int]
    STATION_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    plane: int
    satellite: str
    station: str
    starts: _containers.RepeatedScalarFieldContainer[int]
    ends: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, plane: _Optional[int] = ..., satellite: _Optional[str] = ..., station: _Optional[str] = ..., starts: _Optional[_Iterable[int]] = ..., ends: _Optional[_Iterable[int]] = ...) -> None: ...

class ServerState(_message.Message):
    __slots__ = ("round", "serial", "commit_by_ns", "pieces", "features", "job", "rising", "risen", "statuses", "handouts", "seen", "useless", "begun_ns", "silent", "ready_after_ns")
    class PiecesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Chunks
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Chunks, _Mapping]] = ...) -> None: ...
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Chunks
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Chunks, _Mapping]] = ...) -> None: ...
    class RisenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Risen
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Risen, _Mapping]] = ...) -> None: ...
    class StatusesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Status
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...
    class SeenEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Seen
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Seen, _Mapping]] = ...) -> None: ...
    class ReadyAfterNsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    COMMIT_BY_NS_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    RISING_FIELD_NUMBER: _ClassVar[int]
    RISEN_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    HANDOUTS_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    USELESS_FIELD_NUMBER: _ClassVar[int]
    BEGUN_NS_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    READY_AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    round: Round
    serial: int
    commit_by_ns: int
    pieces: _containers.MessageMap[str, Chunks]
    features: _containers.MessageMap[str, Chunks]
    job: _containers.RepeatedScalarFieldContainer[str]
    rising: _containers.RepeatedCompositeFieldContainer[Handout]
    risen: _containers.MessageMap[str, Risen]
    statuses: _containers.MessageMap[str, Status]
    handouts: _containers.RepeatedCompositeFieldContainer[Handout]
    seen: _containers.MessageMap[str, Seen]
    useless: _containers.RepeatedScalarFieldContainer[str]
    begun_ns: int
    silent: _containers.RepeatedScalarFieldContainer[str]
    ready_after_ns: _containers.ScalarMap[int, int]
    def __init__(self, round: _Optional[_Union[Round, _Mapping]] = ..., serial: _Optional[int] = ..., commit_by_ns: _Optional[int] = ..., pieces: _Optional[_Mapping[str, Chunks]] = ..., features: _Optional[_Mapping[str, Chunks]] = ..., job: _Optional[_Iterable[str]] = ..., rising: _Optional[_Iterable[_Union[Handout, _Mapping]]] = ..., risen: _Optional[_Mapping[str, Risen]] = ..., statuses: _Optional[_Mapping[str, Status]] = ..., handouts: _Optional[_Iterable[_Union[Handout, _Mapping]]] = ..., seen: _Optional[_Mapping[str, Seen]] = ..., useless: _Optional[_Iterable[str]] = ..., begun_ns: _Optional[int] = ..., silent: _Optional[_Iterable[str]] = ..., ready_after_ns: _Optional[_Mapping[int, int]] = ...) -> None: ...

class Seen(_message.Message):
    __slots__ = ("satellites",)
    SATELLITES_FIELD_NUMBER: _ClassVar[int]
    satellites: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, satellites: _Optional[_Iterable[str]] = ...) -> None: ...
