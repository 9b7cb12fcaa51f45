"""SFFT's roles in the middle of a round of two planes, and the messages that honest peers would send them."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from orbitrain.machine import Action, ContactStarted, Delivered, Digest, JobDone, Machine, StartJob
from orbitrain.protocols import sfft
from orbitrain.protocols.sfft.ring import Reduce
from orbitrain.roles import SfftAsks, Way
from orbitrain.v1 import sfft_pb2 as wire
from tests.trace.sfft_world import SECOND_NS, NumpyEngine, backhaul, params_of, plan_of, rings

END_S = 1_000.0
NOW = 20 * SECOND_NS

PARAMS = params_of([3, 2], NumpyEngine(), rounds=3, reduce=Reduce.RING, samples=6, chunk_samples=2)
GATHERING = params_of([3, 2], NumpyEngine(), rounds=3, reduce=Reduce.GATHER, samples=6, chunk_samples=2)
SPELLS = [
    *rings(PARAMS, END_S),
    *backhaul(PARAMS, END_S),
    ("feeder", ("a-0", "gs", 10.0, 100.0)),
    ("inter_isl", ("a-0", "b-0", 200.0, 300.0)),
]
PLAN = plan_of(PARAMS, SPELLS, END_S)


def asks(params: sfft.Params = PARAMS) -> SfftAsks:
    return SfftAsks(PLAN, params, Way("teg", 500, 400, slot_ns=SECOND_NS, edge_ns=SECOND_NS))


# --- messages of round 2 ------------------------------------------------------------------------------------


def round_(number: int = 2, attempt: int = 1, head: Digest = "h1", **changes: Any) -> wire.Round:
    values: dict[str, Any] = {
        "embedding": PARAMS.pieces.embedding,
        "backbone": PARAMS.pieces.backbone,
        "participants": PARAMS.satellites,
        "step_by_ns": 600 * SECOND_NS,
        "closed": number > PARAMS.work.rounds,
        **changes,
    }
    return wire.Round(round=number, attempt=attempt, head=head, **values)


def status(satellite: str = "a-0", **changes: Any) -> wire.Status:
    return wire.Status(**{"satellite": satellite, "serial": 1, "round": 2, "attempt": 1, **changes})


def done(satellite: str = "a-0", **changes: Any) -> wire.Status:
    """Of one that has its new head, which comes with it."""
    values = {"head": "h2", "with_head": True, "names": PARAMS.satellites, "weight": 30, **changes}
    return status(satellite, **values)


def block(owner: str = "a-0", indices: tuple[int, ...] = (0,), **changes: Any) -> wire.Block:
    return wire.Block(**{"round": 2, "owner": owner, "indices": indices, **changes})


def fetch(satellite: str = "a-1", *wanted: wire.Block, **changes: Any) -> wire.Fetch:
    values: dict[str, Any] = {"round": 2, "until_ns": 100 * SECOND_NS, **changes}
    return wire.Fetch(satellite=satellite, wanted=wanted or (block("a-1", (0, 1)),), **values)


def features(owner: str = "a-1", satellite: str = "a-0", **changes: Any) -> wire.Features:
    values = {"round": 2, "indices": (0, 1, 2), **changes}
    return wire.Features(owner=owner, satellite=satellite, **values)


def passed(owner: str = "a-1", satellite: str = "a-0", **changes: Any) -> wire.Passed:
    values = {"round": 2, "indices": (0, 1, 2), "taken": True, **changes}
    return wire.Passed(owner=owner, satellite=satellite, **values)


def visit(part: int = 0, step: int = 1, names: tuple[str, ...] = ("a-0",), **changes: Any) -> wire.Visit:
    """In the ring of a-0, a-1 and a-2, of the part that a-0 begins, to a-1."""
    return wire.Visit(**{"round": 2, "attempt": 1, "part": part, "step": step, "names": names, **changes})


def head(owner: str = "a-0", **changes: Any) -> wire.Head:
    return wire.Head(**{"round": 2, "attempt": 1, "owner": owner, **changes})


def sum_(plane: int = 1, names: tuple[str, ...] = ("b-0", "b-1"), **changes: Any) -> wire.Sum:
    values = {"round": 2, "attempt": 1, "weight": 6 * len(names), "holders": [1], **changes}
    return wire.Sum(plane=plane, names=names, **values)


def crossed(plane: int = 0, target: int = 1, entry: str = "a-0", **changes: Any) -> wire.Crossed:
    return wire.Crossed(
        **{"round": 2, "attempt": 1, "plane": plane, "target": target, "entry": entry, **changes}
    )


# --- roles in round 2 ---------------------------------------------------------------------------------------


def told(machine: Machine, source: str, message: Message, *objects: Digest, now: int = NOW) -> list[Action]:
    return machine.handle(Delivered(source, message, objects), now)


def satellite(params: sfft.Params = PARAMS, name: str = "a-1") -> sfft.Satellite:
    """Has embedded its samples, and waits for everything else."""
    machine = sfft.Satellite(params, asks(params), name)
    for peer in params.planes[params.plane_of(name)]:
        if peer != name:
            machine.handle(ContactStarted(peer, "intra_isl", None), NOW)
    machine.handle(ContactStarted("gs", "feeder", 100 * SECOND_NS), NOW)
    begun = told(machine, "gs", round_(), "h1")
    assert [one.job for one in begun if isinstance(one, StartJob)] == ["embed"]
    machine.handle(JobDone("embed", {}, {f"chunk/{n}": f"own{n}" for n in range(params.work.chunks)}), NOW)
    return machine


def station() -> sfft.Station:
    machine = sfft.Station(PARAMS)
    machine.handle(ContactStarted("server", "backhaul", None), NOW)
    machine.handle(ContactStarted("a-0", "feeder", 100 * SECOND_NS), NOW)
    told(machine, "server", round_(), "h1")
    return machine


def server() -> sfft.Server:
    """Round 1 is committed, and a-0 is over the station."""
    machine = sfft.Server(PARAMS, asks())
    machine.handle(ContactStarted("gs", "backhaul", None), NOW)
    for name in PARAMS.satellites:
        told(machine, "gs", done(name, round=1, head="h1"), "h1")
    told(machine, "gs", wire.Sighting(satellite="a-0", there=True))
    return machine
