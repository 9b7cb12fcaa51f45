"""What roles take from their peers: bounds of every field, before anything is changed.

Nothing that is kept of a message is larger than the constellation makes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message

from orbitrain.machine import Digest, RemoteProtocolError
from orbitrain.protocols.sfft.terms import Params, head_of, tree_of
from orbitrain.v1 import sfft_pb2 as wire

_WITHOUT_OBJECTS = (wire.Fetch, wire.Passed, wire.Sighting, wire.Crossed)


def check(params: Params, message: Message, objects: tuple[Digest, ...]) -> None:
    """Raises RemoteProtocolError for what no honest peer sends, whoever it is.

    Fields that this version does not know are dropped.
    """
    message.DiscardUnknownFields()
    _check_number(params, message)
    if isinstance(message, _WITHOUT_OBJECTS) and objects:
        raise RemoteProtocolError(f"objects: must be none, not {len(objects)}")
    match message:
        case wire.Round():
            _check_round(params, message, objects)
        case wire.Status():
            _check_status(params, message, objects)
        case wire.Block():
            _check_block(params, "owner", message)
            _check_objects(message, objects)
        case wire.Fetch():
            plane = _plane(params, "satellite", message.satellite)
            for wanted in message.wanted[: len(params.planes[plane]) + 1]:
                _check_block(params, "wanted", wanted)
            _check_names(params, "wanted", [wanted.owner for wanted in message.wanted], plane)
        case wire.Features():
            _check_names(params, "owner", [message.owner], _plane(params, "satellite", message.satellite))
            _check_block(params, "owner", message)
            _check_objects(message, objects)
        case wire.Passed():
            _check_names(params, "owner", [message.owner], _plane(params, "satellite", message.satellite))
            _check_block(params, "owner", message)
        case wire.Sighting():
            _plane(params, "satellite", message.satellite)
        case wire.Visit():
            _check_names(params, "names", message.names)
            _check_sum(message.names, objects)
        case wire.Head():
            _plane(params, "owner", message.owner)
            if len(objects) > 1:
                raise RemoteProtocolError(f"objects: must be one at most, not {len(objects)}")
        case wire.Sum():
            _check_planes(params, "plane", [message.plane])
            _check_planes(params, "holders", message.holders)
            _check_names(params, "names", message.names)
            _check_sum(message.names, objects)
        case wire.Crossed():
            _check_planes(params, "plane", [message.plane])
            _check_planes(params, "target", [message.target])


def check_at_satellite(params: Params, name: str, source: str, message: Message) -> None:
    """Raises RemoteProtocolError for what no honest peer sends this satellite, or that one does not."""
    own = params.plane_of(name)
    members = params.planes[own]
    match message:
        case wire.Block():
            _check_source(source, members)
            _check_names(params, "owner", [message.owner], own)
            if message.owner == name:
                raise RemoteProtocolError(f"owner: {name} has its own block")
        case wire.Fetch():
            _check_source(source, params.stations)
            if message.satellite != name:
                raise RemoteProtocolError(f"satellite: must be {name}, not {message.satellite}")
        case wire.Features():
            _check_source(source, (*members, *params.stations))
            _check_names(params, "owner", [message.owner], own)
        case wire.Visit():
            _check_source(source, members)
            _check_names(params, "names", message.names, own)
        case wire.Head():
            _check_source(source, members)
            _check_names(params, "owner", [message.owner], own)
        case wire.Sum() if not message.entry:
            if _plane(params, "source", source) == own:
                raise RemoteProtocolError(f"entry: must be a satellite of plane {own}")
        case wire.Sum() | wire.Crossed():
            _check_source(source, members)
            _check_names(params, "entry", [message.entry], own)


def check_at_station(params: Params, source: str, message: Message) -> None:
    """As `check_at_satellite`, for a station."""
    match message:
        case wire.Block():
            _check_source(source, params.planes[params.plane_of(message.owner)])
        case wire.Fetch() | wire.Features():
            _check_source(source, [params.server])


def check_at_server(params: Params, source: str) -> None:
    """As `check_at_satellite`, for the server."""
    _check_source(source, params.stations)


def _check_source(source: str, allowed: Sequence[str]) -> None:
    if source not in allowed:
        raise RemoteProtocolError(f"source: {source} has no such message for this node")


def _check_number(params: Params, message: Message) -> None:
    """The closed round, the one after the last, has nothing but itself and words of it."""
    last = params.work.rounds + isinstance(message, wire.Round | wire.Status)
    number, attempt = getattr(message, "round", 1), getattr(message, "attempt", 1)
    if not 1 <= number <= last:
        raise RemoteProtocolError(f"round: must be 1 to {last}, not {number}")
    if attempt < 1:
        raise RemoteProtocolError(f"attempt: must be 1 or more, not {attempt}")


def _check_round(params: Params, message: wire.Round, objects: tuple[Digest, ...]) -> None:
    for what, theirs, ours in (
        ("embedding", message.embedding, params.pieces.embedding),
        ("backbone", message.backbone, params.pieces.backbone),
    ):
        if theirs != ours:
            raise RemoteProtocolError(f"{what}: is {ours[:12]} here, not {theirs[:12]}: another model")
    if message.closed != (message.round > params.work.rounds):
        raise RemoteProtocolError(f"closed: is {message.closed} in round {message.round}")
    if not message.participants:
        raise RemoteProtocolError("participants: must be one or more")
    _check_names(params, "participants", message.participants)
    _check_ascending("participants", message.participants)
    if len(message.parents) not in (0, len(params.planes)):
        raise RemoteProtocolError(f"parents: must be one of each plane or none, not {len(message.parents)}")
    tree_of(params, message)
    if objects != (message.head,):
        raise RemoteProtocolError("head: must be the one object")


def _check_status(params: Params, message: wire.Status, objects: tuple[Digest, ...]) -> None:
    if objects != head_of(message) or (message.with_head and not message.head):
        raise RemoteProtocolError("head: must be the one object, if it comes with this")
    plane = _plane(params, "satellite", message.satellite)
    if message.serial < 1:
        raise RemoteProtocolError(f"serial: must be 1 or more, not {message.serial}")
    _check_names(params, "names", message.names)
    _check_ascending("names", message.names)
    if bool(message.names) != bool(message.head):
        raise RemoteProtocolError("names: must be of those in the head, if there is one")
    weight = len(message.names) * params.work.samples
    if message.weight != weight:
        raise RemoteProtocolError(f"weight: must be {weight} of these names, not {message.weight}")
    if message.reduced_ns < 0:
        raise RemoteProtocolError(f"reduced_ns: must be 0 or more, not {message.reduced_ns}")
    _check_names(params, "absent", message.absent, plane)
    _check_ascending("absent", message.absent)


def _check_block(params: Params, field: str, message: wire.Block | wire.Features | wire.Passed) -> None:
    _plane(params, field, message.owner)
    count = params.work.chunks
    some = message.indices[: count + 1]
    if some and not 0 <= min(some) <= max(some) < count:
        raise RemoteProtocolError(f"indices: must be 0 to {count - 1}, not {min(some)} to {max(some)}")
    if not some or len(set(some)) < len(message.indices):
        raise RemoteProtocolError("indices: must be one or more, each once")


def _check_objects(message: wire.Block | wire.Features, objects: tuple[Digest, ...]) -> None:
    if len(objects) != len(message.indices):
        raise RemoteProtocolError(
            f"indices: must be one for each of {len(objects)} objects, not {len(message.indices)}"
        )


def _check_sum(names: Sequence[str], objects: tuple[Digest, ...]) -> None:
    if len(objects) != (1 if names else 0):
        raise RemoteProtocolError(f"objects: must be the sum of {len(names)} names, not {len(objects)}")


def _plane(params: Params, field: str, name: str) -> int:
    try:
        return params.plane_of(name)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"{field}: {error}") from None


def _check_names(params: Params, field: str, names: Sequence[str], plane: int | None = None) -> None:
    """Satellites, each once; all of one plane, where that is given."""
    allowed = set(params.satellites if plane is None else params.planes[plane])
    some = names[: len(allowed) + 1]
    strange = [name for name in some if name not in allowed]
    if strange:
        where = "" if plane is None else f" in plane {plane}"
        raise RemoteProtocolError(f"{field}: there is no satellite {strange[0][:64]!r}{where}")
    if len(set(some)) < len(names):
        raise RemoteProtocolError(f"{field}: must have each name once")


def _check_ascending(field: str, values: Sequence[str]) -> None:
    if list(values) != sorted(values):
        raise RemoteProtocolError(f"{field}: must be ascending")


def _check_planes(params: Params, field: str, planes: Sequence[int]) -> None:
    """Planes, each once."""
    some = planes[: len(params.planes) + 1]
    if len(set(some)) < len(planes) or not all(0 <= plane < len(params.planes) for plane in some):
        raise RemoteProtocolError(f"{field}: must be 0 to {len(params.planes) - 1}, each once")
