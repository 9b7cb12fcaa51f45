"""What a device and a satellite refuse, and that a refusal changes nothing."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from orbitrain.machine import ContactStarted, Digest, RemoteProtocolError
from orbitrain.protocols import fedmeld
from orbitrain.protocols.fedmeld.rules import SAMPLES_MAX
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, params_of
from tests.unit.protocols.two_regions import (
    NOW,
    ORBITS,
    RING,
    at_round_two,
    device,
    model,
    record,
    reports,
    satellite,
    serving,
    status,
    told,
    update,
)


@pytest.mark.parametrize(
    ("source", "message", "objects", "reason"),
    [
        ("sat-1", wire.Poll(region="south"), (), "this device belongs to north, not to 'south'"),
        ("sat-1", wire.Poll(region="x" * 99), (), "this device belongs to north, not to 'x{64}'$"),
        ("sat-2", wire.Poll(region="north"), (), "sat-2 does not serve north now"),
        ("north-1", wire.Poll(region="north"), (), "north-1 does not serve north now"),
        ("sat-1", model(3, region="south"), ("m3",), "this device belongs to north, not to 'south'"),
        ("sat-2", model(3), ("m3",), "sat-2 does not serve north now"),
        ("sat-1", model(7), ("m7",), r"round 7 is not one of 0\.\.6"),
        ("sat-1", model(-1), ("m-1",), r"round -1 is not one of 0\.\.6"),
        ("sat-1", model(2, "fork"), ("fork",), "another model of round 2 was adopted here"),
        ("sat-1", model(3), (), "the model of round 3 came without its object"),
        ("sat-1", model(3), ("other",), "the model of round 3 came without its object"),
        ("sat-1", wire.Fetch(region="south", digest="m2"), (), "this device belongs to north"),
        ("sat-2", wire.Fetch(region="north", digest="m2"), (), "sat-2 does not serve north now"),
        ("sat-1", wire.Fetch(region="north", digest="x" * 99), (), "no object 'x{64}' here"),
    ],
)
def test_a_device_refuses_and_stays_as_it_was(
    source: str, message: Message, objects: tuple[Digest, ...], reason: str
) -> None:
    machine = at_round_two()
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=reason):
        told(machine, source, message, *objects)
    assert machine.snapshot() == before


def test_a_device_refuses_everybody_while_nobody_serves() -> None:
    machine = device()
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match="sat-1 does not serve north now"):
        told(machine, "sat-1", wire.Poll(region="north"), now=450 * SECOND_NS)
    assert machine.snapshot() == before


def test_a_mixing_rounds_model_needs_what_will_be_carried_too() -> None:
    pre = params_of(RING, "initial", rounds=6, delta=2, carry="pre")
    machine = fedmeld.Device(pre, ORBITS, "north-0", "north")
    mixed = wire.ModelRecord(region="north", round=2, digest="m2", pre_digest="p2")
    message = wire.Model(record=mixed, opens_round=True)
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match="the model of round 2 came without its object"):
        told(machine, "sat-1", message, "m2")
    assert machine.snapshot() == before
    assert "model_adopted" in reports(told(machine, "sat-1", message, "m2", "p2"))
    assert machine.snapshot()[1] == {"initial", "m2", "p2"}


@pytest.mark.parametrize("opens", [True, False])
def test_an_older_model_than_the_adopted_one_is_nothing(opens: bool) -> None:
    machine = at_round_two()
    before = machine.snapshot()
    assert told(machine, "sat-1", model(1, opens=opens), "m1") == []
    assert machine.snapshot() == before


MIXING = tuple(record(2, f"x{n}") for n in range(3))


@pytest.mark.parametrize(
    ("source", "message", "objects", "reason"),
    [
        ("north-0", status(region="nowhere"), (), "there is no region 'nowhere'"),
        ("north-0", status(region="south"), (), "north-0 is no device of south"),
        ("sat-2", status(), (), "sat-2 is no device of north"),
        ("north-0", wire.Status(region="north"), (), "a status without its region's model"),
        ("north-0", wire.Status(region="north", model=record(1, region="south")), (), "without its region's"),
        ("north-0", status(7), (), r"round 7 is not one of 0\.\.6"),
        ("north-0", status(-1), (), r"round -1 is not one of 0\.\.6"),
        ("north-0", status(1, mixing=(record(99),)), (), r"round 99 is not one of 0\.\.6"),
        ("north-0", status(2, mixing=MIXING), (), "a status with more mixing models than regions"),
        ("north-0", status(2, mixing=(record(1),)), (), "round 1 mixes nothing"),
        ("north-0", status(2, mixing=(record(0),)), (), "round 0 mixes nothing"),
        ("north-0", status(2, mixing=(record(2, region="nowhere"),)), (), "a mixing model of another region"),
        ("north-0", status(2, mixing=(record(2, region="south"),)), (), "a mixing model of another region"),
        ("north-0", status(2, mixing=(wire.ModelRecord(region="north", round=2),)), (), "without a digest"),
        ("north-0", update(), (), "the object it names did not come with it"),
        ("north-0", update(), ("other",), "the object it names did not come with it"),
        ("south-0", update(), ("u",), "south-0 is no device of north"),
        ("north-0", update(region="nowhere"), ("u",), "there is no region 'nowhere'"),
        ("north-0", update(0), ("u",), r"round 0 is not one of 1\.\.6"),
        ("north-0", update(7), ("u",), r"round 7 is not one of 1\.\.6"),
        ("north-0", update(2), ("u",), "round 2 of north was never opened"),
        ("north-0", update(base="elsewhere"), ("u",), "trained from another model than round 0's"),
        ("north-0", update(samples=0), ("u",), "0 samples, allowed are 1"),
        ("north-0", update(samples=-5), ("u",), "-5 samples, allowed are 1"),
        ("north-0", update(samples=SAMPLES_MAX + 1), ("u",), "samples, allowed are 1"),
        ("north-0", wire.Found(region="north", digest="f"), (), "the object it names did not come with it"),
        ("south-0", wire.Found(region="north", digest="f"), ("f",), "south-0 is no device of north"),
    ],
)
def test_a_satellite_refuses_and_stays_as_it_was(
    source: str, message: Message, objects: tuple[Digest, ...], reason: str
) -> None:
    machine = serving()
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=reason):
        told(machine, source, message, *objects)
    assert machine.snapshot() == before


def test_an_update_of_a_round_that_a_starved_region_never_opened_is_refused() -> None:
    machine = satellite()
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(3))
    assert "round_starved" in reports(actions)
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match="round 4 of north was never opened"):
        told(machine, "north-0", update(4, "m3"), "u")
    assert machine.snapshot() == before
