"""Updates of the plan: services that go on, end, begin or change hands by the new one."""

from __future__ import annotations

import pytest

from orbitrain.machine import ContactStarted, PlanUpdated, RemoteProtocolError, TimerFired
from orbitrain.protocols import fedmeld
from orbitrain.roles import RegionServices
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, Passes, plan_of
from tests.unit.protocols.two_regions import (
    NOW,
    PARAMS,
    PASSES,
    RING,
    record,
    reports,
    sent,
    status,
    told,
    update,
)


def updated(passes: Passes) -> tuple[fedmeld.Satellite, RegionServices]:
    """A satellite at work on round 1 by PASSES, and what it asks the plan, which is another one by now."""
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        told(machine, name, status())
    orbits.follow(plan_of(RING, {**PASSES, **passes}, 500))
    return machine, orbits


def test_a_service_that_goes_on_for_longer_asks_its_devices_anew() -> None:
    machine, _ = updated({("sat-1", "north"): [(0, 180)]})
    polls = sent(machine.handle(PlanUpdated(1), NOW), wire.Poll)
    assert [(poll.to, poll.expires_at_ns) for poll in polls] == [
        ("north-0", 180 * SECOND_NS),
        ("north-1", 180 * SECOND_NS),
    ]
    assert machine.deadline_ns() == 180 * SECOND_NS
    told(machine, "north-0", status())
    opened = sent(told(machine, "north-1", status()), wire.Model)
    assert [(one.to, one.expires_at_ns, one.message.opens_round) for one in opened] == [
        ("north-0", 180 * SECOND_NS, True),
        ("north-1", 180 * SECOND_NS, True),
    ]


def test_a_service_that_ends_earlier_goes_on_and_ends_then() -> None:
    machine, _ = updated({("sat-1", "north"): [(0, 60)]})
    assert machine.handle(PlanUpdated(1), NOW) == []
    assert machine.deadline_ns() == 60 * SECOND_NS
    told(machine, "north-0", update(), "u")
    assert reports(machine.handle(TimerFired(), 60 * SECOND_NS)) == ["round_abandoned"]


def test_a_service_that_the_new_plan_does_not_have_ends_at_once() -> None:
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        told(machine, name, status())
    told(machine, "north-0", update(), "u")
    orbits.follow(plan_of(RING, {**PASSES, ("sat-1", "north"): [(300, 400)]}, 500))
    assert reports(machine.handle(PlanUpdated(1), NOW)) == ["round_abandoned"]
    assert machine.deadline_ns() == 200 * SECOND_NS  # its service of the south


def test_a_service_that_only_the_new_plan_has_begins_at_once() -> None:
    orbits = RegionServices(plan_of(RING, {**PASSES, ("sat-1", "north"): [(300, 400)]}, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        assert machine.handle(ContactStarted(name, "service", None), NOW) == []
    orbits.follow(plan_of(RING, PASSES, 500))
    assert [poll.to for poll in sent(machine.handle(PlanUpdated(1), NOW), wire.Poll)] == [
        "north-0",
        "north-1",
    ]


def test_a_satellite_that_the_new_plan_designates_takes_the_model_along() -> None:
    """By PASSES sat-1 is the first to reach the south; without that pass nobody is, until the update."""
    late = {("sat-1", "south"): []}
    orbits = RegionServices(plan_of(RING, {**PASSES, **late}, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        answer = told(machine, name, status(2, mixing=(record(2),)))
    assert not sent(answer, wire.Fetch)
    orbits.follow(plan_of(RING, PASSES, 500))
    fetches = sent(machine.handle(PlanUpdated(1), NOW), wire.Fetch)
    assert [(one.to, one.message.digest) for one in fetches] == [("north-0", "m2")]
    found = told(machine, "north-0", wire.Found(region="north", digest="m2"), "m2")
    assert "carry_picked_up" in reports(found)


def test_a_device_follows_the_updated_plan() -> None:
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    machine = fedmeld.Device(PARAMS, orbits, "north-0", "north")
    assert sent(told(machine, "sat-1", wire.Poll(region="north")), wire.Status)
    orbits.follow(plan_of(RING, {**PASSES, ("sat-1", "north"): [], ("sat-2", "north"): [(0, 200)]}, 500))
    assert machine.handle(PlanUpdated(1), NOW) == []
    with pytest.raises(RemoteProtocolError, match="sat-1 does not serve north now"):
        told(machine, "sat-1", wire.Poll(region="north"))
    assert sent(told(machine, "sat-2", wire.Poll(region="north")), wire.Status)


def test_services_of_a_plan_without_a_device_of_the_ring_are_refused_before_anything_changes() -> None:
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    before = orbits.services("north")
    with pytest.raises(ValueError, match="'south-0' is not a node of the plan"):
        orbits.follow(plan_of(RING[:1], {("sat-1", "north"): [(0, 1)]}, 500))
    assert orbits.services("north") == before
