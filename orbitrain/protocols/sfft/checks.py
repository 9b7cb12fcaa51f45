"""What roles take from their peers: bounds of every field, before anything is changed."""

from __future__ import annotations

from google.protobuf.message import Message

from orbitrain.machine import Digest, RemoteProtocolError
from orbitrain.protocols.sfft.terms import Params, head_of, tree_of
from orbitrain.v1 import sfft_pb2 as wire


def check(params: Params, message: Message, objects: tuple[Digest, ...]) -> None:
    """Raises RemoteProtocolError for what no honest peer sends, whoever it is."""
    match message:
        case wire.Round():
            _check_round(params, message, objects)
        case wire.Status():
            _check_status(params, message, objects)
        case wire.Block():
            _check_indices(params, message, len(objects))
        case wire.Fetch():
            for wanted in message.wanted:
                _check_indices(params, wanted, len(wanted.indices))
        case wire.Features():
            _check_indices(params, message, len(objects))
            params.plane_of(message.satellite)
        case wire.Visit() | wire.Sum():
            if len(objects) != (1 if message.names else 0):
                raise RemoteProtocolError("sum: must have one object, or none where nobody is in it")
            for name in message.names:
                params.plane_of(name)
        case wire.Head():
            params.plane_of(message.owner)
            if len(objects) > 1:
                raise RemoteProtocolError("head: must have one object at most")
        case wire.Passed():
            _check_indices(params, message, len(message.indices))
            params.plane_of(message.satellite)
        case wire.Sighting():
            params.plane_of(message.satellite)


def _check_round(params: Params, message: wire.Round, objects: tuple[Digest, ...]) -> None:
    for what, theirs, ours in (
        ("embedding", message.embedding, params.pieces.embedding),
        ("backbone", message.backbone, params.pieces.backbone),
    ):
        if theirs != ours:
            raise RemoteProtocolError(f"{what}: is {ours[:12]} here, not {theirs[:12]}: another model")
    if not 1 <= message.round <= params.work.rounds + 1 or message.attempt < 1:
        raise RemoteProtocolError(f"there is no round {message.round}, attempt {message.attempt}")
    for name in message.participants:
        params.plane_of(name)
    tree_of(params, message)
    if objects != (message.head,):
        raise RemoteProtocolError("round: its one object must be its head")


def _check_indices(params: Params, message: wire.Block | wire.Features | wire.Passed, objects: int) -> None:
    params.plane_of(message.owner)
    if len(set(message.indices)) != len(message.indices) or objects != len(message.indices):
        raise RemoteProtocolError(f"chunks of {message.owner}: {objects} objects do not match the indices")
    for index in message.indices:
        if not 0 <= index < params.work.chunks:
            raise RemoteProtocolError(f"indices: must be 0 to {params.work.chunks - 1}, not {index}")


def _check_status(params: Params, message: wire.Status, objects: tuple[Digest, ...]) -> None:
    if objects != head_of(message) or (message.with_head and not message.head):
        raise RemoteProtocolError("status: its one object must be its head")
    for name in (message.satellite, *message.names, *message.absent):
        params.plane_of(name)
    if message.reduced_ns < 0:
        raise RemoteProtocolError(f"reduced_ns: must be 0 or more, not {message.reduced_ns}")
    if message.weight < len(message.names):
        raise RemoteProtocolError(f"weight: must be 1 or more for each name, not {message.weight}")
