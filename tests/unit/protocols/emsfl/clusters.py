"""The roles of EMS-FL in the middle of a pass of two clusters, and the messages that honest peers send."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from orbitrain.machine import (
    Action,
    ContactStarted,
    Delivered,
    Digest,
    JobDone,
    Machine,
    Report,
    Send,
    StartJob,
    TimerFired,
)
from orbitrain.protocols import emsfl
from orbitrain.protocols.emsfl.terms import Algorithm, Params, Shared
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.emsfl_world import SATELLITE, FloatEngine, in_turns, params_of
from tests.trace.world import SECOND_NS

NOW = 10 * SECOND_NS
END_NS = 100 * SECOND_NS
DEVICES = ("east-0", "east-1", "west-0", "west-1")
PARAMS = params_of(("east", "west"), FloatEngine(), shared=Shared.GATE, masked=False)
MASKED = params_of(("east", "west"), FloatEngine())
RANKED = params_of(("east", "west"), FloatEngine(), shared=Shared.GATE, masked=False, rank=4)
SYNCHRONOUS = params_of(("east", "west"), FloatEngine(), algorithm=Algorithm.SYNCHRONOUS, rounds_max=2)
INITIAL = PARAMS.model.items


def digest(name: str) -> Digest:
    return name.ljust(64, "0")


# --- messages -----------------------------------------------------------------------------------------------


def hello(**changes: Any) -> wire.Hello:
    values = {"epoch": 0, "model": 0, "surveyed": True, "counts": [10, 0, 0, 10], "samples": 10, **changes}
    return wire.Hello(**values)


def later(**changes: Any) -> wire.Hello:
    """Hello of a device whose counts are known."""
    return wire.Hello(**{"epoch": 1, "model": 1, **changes})


def change(item: str = "expert/0", base: int = 0, name: str = "u") -> wire.Change:
    return wire.Change(item=item, base=base, digest=digest(name))


def upload(*changes: wire.Change, **fields: Any) -> wire.Upload:
    values = {"epoch": 1, "model": 1, "rounds": 3, "samples": 10, **fields}
    return wire.Upload(changes=changes or (change(),), **values)


def shared(*changes: wire.Change, **fields: Any) -> wire.Shared:
    return wire.Shared(changes=changes or (change("gate", 0, "g"),), **{"model": 1, "samples": 10, **fields})


def model(number: int = 1, versions: dict[str, int] | None = None, **fields: Any) -> wire.Model:
    """Everything, as an unmasked device gets it; version 0 is the initial one."""
    values = {"epoch": 1, "cycle": 1, "owners": ["east", "west"], "gate": True, **fields}
    made = wire.Model(number=number, **values)
    for item, initial in INITIAL.items():
        version = (versions or {}).get(item, 0)
        made.items[item].number = version
        made.items[item].digest = digest(f"{item}/{version}") if version else initial
    return made


def gate(version: int = 1) -> wire.Gate:
    made = wire.Gate()
    made.items["gate"].number, made.items["gate"].digest = version, digest(f"gate/{version}")
    return made


def objects_of(message: Message) -> tuple[Digest, ...]:
    match message:
        case wire.Upload() | wire.Shared():
            return tuple(one.digest for one in message.changes)
        case wire.Model():
            return tuple(
                message.steps.get(item, message.items[item].digest) for item in sorted(message.items)
            )
        case wire.Gate():
            return tuple(message.items[item].digest for item in sorted(message.items))
        case wire.Found():
            return (message.digest,)
    return ()


# --- machines -----------------------------------------------------------------------------------------------


def told(machine: Machine, source: str, message: Message, *objects: Digest, now: int = NOW) -> list[Action]:
    return machine.handle(Delivered(source, message, objects or objects_of(message)), now)


def satellite(params: Params = PARAMS) -> emsfl.Satellite:
    """Over east, which owns expert 0: all counts are here, and both devices have got their model."""
    machine = emsfl.Satellite(params, in_turns)
    for device in ("west-0", "west-1"):
        told(machine, device, hello() if not params.synchronous else wire.Hello(), now=1)
    for device in ("east-0", "east-1"):
        machine.handle(ContactStarted(device, "service", END_NS), NOW)
        told(machine, device, hello() if not params.synchronous else wire.Hello())
    return machine


def second_pass(params: Params = PARAMS) -> emsfl.Satellite:
    """As `satellite`, in the pass after, in which both devices say that they have something."""
    machine = satellite(params)
    for session in list(machine.state.sessions):
        del machine.state.sessions[session]
    for device in ("east-0", "east-1"):
        machine.handle(ContactStarted(device, "service", END_NS), NOW)
        told(machine, device, later(ready=True))
    return machine


def device(params: Params = PARAMS, name: str = "east-0") -> emsfl.Device:
    """In contact, surveyed, with the first model adopted and its connected round under way."""
    machine = emsfl.Device(params, name)
    machine.handle(TimerFired(), 0)
    machine.handle(JobDone("survey", {"counts": [[10, 0], [0, 10]], "samples": 10}, {}), 1)
    machine.handle(ContactStarted(SATELLITE, "service", END_NS), NOW)
    told(machine, SATELLITE, model(gate=bool(params.shared_items)))
    return machine


def sent(actions: list[Action], kind: type[Message]) -> list[Send]:
    return [one for one in actions if isinstance(one, Send) and isinstance(one.message, kind)]


def jobs(actions: list[Action]) -> list[StartJob]:
    return [one for one in actions if isinstance(one, StartJob)]


def reports(actions: list[Action], kind: str) -> list[Report]:
    return [one for one in actions if isinstance(one, Report) and one.kind == kind]
