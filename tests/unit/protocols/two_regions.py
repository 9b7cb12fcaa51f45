"""The roles of FedMeld in a ring of two regions, what they are told and what they answer."""

from __future__ import annotations

from google.protobuf.message import Message

from orbitrain.machine import Action, ContactStarted, Delivered, Digest, JobDone, Report, Send, StartJob
from orbitrain.protocols import fedmeld
from orbitrain.protocols.fedmeld.rules import initial_record
from orbitrain.roles import RegionServices
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, Passes, params_of, plan_of, ring

RING = ring("north", "south")
PASSES: Passes = {
    ("sat-1", "north"): [(0, 100), (300, 400)],
    ("sat-2", "north"): [(100, 200)],
    ("sat-1", "south"): [(200, 290)],
    ("sat-2", "south"): [(0, 90)],
}
ORBITS = RegionServices(plan_of(RING, PASSES, 500), RING)
NOW = 10 * SECOND_NS
PARAMS = params_of(RING, "initial", rounds=6, delta=2)


def device() -> fedmeld.Device:
    return fedmeld.Device(PARAMS, ORBITS, "north-0", "north")


def satellite() -> fedmeld.Satellite:
    return fedmeld.Satellite(PARAMS, ORBITS, "sat-1")


def record(number: int, digest: str = "", region: str = "north") -> wire.ModelRecord:
    digest = digest or f"m{number}"
    return wire.ModelRecord(region=region, round=number, digest=digest, pre_digest=digest)


def model(number: int, digest: str = "", region: str = "north", opens: bool = True) -> wire.Model:
    return wire.Model(record=record(number, digest, region), opens_round=opens)


def update(number: int = 1, base: str = "initial", digest: str = "u", **changes: object) -> wire.Update:
    values = {"region": "north", "round": number, "base": base, "digest": digest, "samples": 10, **changes}
    return wire.Update(**values)


def status(number: int = 0, region: str = "north", mixing: tuple[wire.ModelRecord, ...] = ()) -> wire.Status:
    known = record(number, region=region) if number else initial_record(PARAMS, region)
    return wire.Status(region=region, model=known, mixing=mixing)


def sent(actions: list[Action], kind: type[Message]) -> list[Send]:
    return [one for one in actions if isinstance(one, Send) and isinstance(one.message, kind)]


def reports(actions: list[Action]) -> list[str]:
    return [one.kind for one in actions if isinstance(one, Report)]


def told(
    machine: fedmeld.Device | fedmeld.Satellite,
    source: str,
    message: Message,
    *objects: Digest,
    now: int = NOW,
) -> list[Action]:
    return machine.handle(Delivered(source, message, objects), now)


def serving() -> fedmeld.Satellite:
    """In contact with both devices of the region, which have told what they hold: round 1 is open."""
    machine = satellite()
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
    told(machine, "north-0", status())
    assert len(sent(told(machine, "north-1", status()), wire.Model)) == 2
    return machine


def trained() -> fedmeld.Device:
    """Has trained round 1 for sat-1, and its update is under way."""
    machine = device()
    assert [one.job for one in told(machine, "sat-1", model(0, "initial")) if isinstance(one, StartJob)] == [
        "train/1/0"
    ]
    machine.handle(JobDone("train/1/0", {"n_samples": 10}, {"update": "u1"}), NOW)
    return machine


def at_round_two() -> fedmeld.Device:
    machine = device()
    told(machine, "sat-1", model(2), "m2")
    return machine
