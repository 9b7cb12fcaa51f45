"""What a satellite takes from a device: bounds of every field, before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping

from orbitrain.machine import Delivered, RemoteProtocolError
from orbitrain.protocols.fedmeld.rules import SAMPLES_MAX, Params, carried_digest, is_mixing_round
from orbitrain.v1 import fedmeld_pb2 as wire


def check(params: Params, sessions: Mapping[str, wire.Session], item: Delivered) -> None:
    """Raises RemoteProtocolError for what no honest device of this ring sends."""
    message = item.message
    assert isinstance(message, wire.Status | wire.Update | wire.Found)
    if item.source not in params.devices_of(message.region):
        raise RemoteProtocolError(f"{item.source} is no device of {message.region}")
    if isinstance(message, wire.Status):
        if len(message.mixing) > len(params.regions):
            raise RemoteProtocolError("a status with more mixing models than regions")
        for record in (message.model, *message.mixing):
            if not 0 <= record.round <= params.rounds:
                raise RemoteProtocolError(f"round {record.round} is not one of 0..{params.rounds}")
        if message.model.region != message.region or not message.model.digest:
            raise RemoteProtocolError("a status without its region's model")
        for record in message.mixing:
            if record.region != message.region:
                raise RemoteProtocolError("a status with a mixing model of another region")
            if not is_mixing_round(params, record.round):
                raise RemoteProtocolError(f"a status whose round {record.round} mixes nothing")
            if not carried_digest(params, record):
                raise RemoteProtocolError("a status with a mixing model without a digest")
    elif message.digest not in item.objects:
        raise RemoteProtocolError("the object it names did not come with it")
    if isinstance(message, wire.Update):
        if not 1 <= message.round <= params.rounds:
            raise RemoteProtocolError(f"round {message.round} is not one of 1..{params.rounds}")
        if not 1 <= message.samples <= SAMPLES_MAX:
            raise RemoteProtocolError(f"{message.samples} samples, allowed are 1..{SAMPLES_MAX}")
        _check_round(sessions, message)


def _check_round(sessions: Mapping[str, wire.Session], update: wire.Update) -> None:
    if update.region not in sessions:
        return
    session = sessions[update.region]
    if not session.HasField("base") or update.round <= session.base.round:
        return
    if update.round > session.base.round + 1 or not session.open:
        raise RemoteProtocolError(f"round {update.round} of {update.region} was never opened")
    if update.base != session.base.digest:
        raise RemoteProtocolError(f"trained from another model than round {session.base.round}'s")
