"""The model that a satellite carries to another region: mixed, kept, dropped, expired or lost."""

from __future__ import annotations

import pytest

from orbitrain.machine import Action, CancelJob, ContactStarted, JobDone, ObjectLost, StartJob, TimerFired
from orbitrain.protocols import fedmeld
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS
from tests.unit.protocols.two_regions import NOW, record, reports, satellite, sent, status, told, update


def test_a_satellite_that_lost_what_it_carries_does_not_mix_it() -> None:
    carrying = wire.SatelliteState(
        carries=[wire.Carry(target="north", record=record(2, "s2", "south"), digest="s2")]
    )
    machine = satellite()
    machine.restore(carrying.SerializeToString(), 1)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(3))
    assert len(sent(actions, wire.Model)) == 2
    for name in ("north-0", "north-1"):
        actions = told(machine, name, update(4, "m3", name), name)
    assert any(isinstance(one, StartJob) and one.objects["carried"] == "s2" for one in actions)
    assert CancelJob("aggregate/north/4") in machine.handle(ObjectLost("s2"), NOW)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(3))
    assert "round_starved" in reports(actions)


def mixing(now: int = NOW) -> tuple[fedmeld.Satellite, list[Action]]:
    """Carries round 2 of south and has just mixed it into round 4 of north."""
    carrying = wire.SatelliteState(
        carries=[wire.Carry(target="north", record=record(2, "s2", "south"), digest="s2")]
    )
    machine = satellite()
    machine.restore(carrying.SerializeToString(), 1)
    return machine, mix(machine, now)


def mix(machine: fedmeld.Satellite, now: int) -> list[Action]:
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), now)
        told(machine, name, status(3), now=now)
    for name in ("north-0", "north-1"):
        actions = told(machine, name, update(4, "m3", name), name, now=now)
    assert [one.objects["carried"] for one in actions if isinstance(one, StartJob)] == ["s2"]
    return machine.handle(JobDone("aggregate/north/4", {}, {"model": "m4", "pre": "p4"}), now)


def test_what_was_mixed_stays_on_board_until_a_device_has_the_mixed_model() -> None:
    """The service may end before: then the round is collected, and mixed, once more."""
    machine, actions = mixing(99 * SECOND_NS)
    assert reports(actions)[:2] == ["aggregated", "carry_mixed"]
    machine.handle(TimerFired(), 100 * SECOND_NS)
    assert "s2" in machine.snapshot()[1]
    again = mix(machine, 310 * SECOND_NS)
    assert reports(again)[:2] == ["aggregated", "carry_mixed"]


@pytest.mark.parametrize("word", ["update", "status"])
def test_what_was_mixed_is_dropped_when_a_device_shows_that_it_has_the_mixed_model(word: str) -> None:
    machine, _ = mixing()
    assert "s2" in machine.snapshot()[1]
    if word == "update":
        actions = told(machine, "north-1", update(5, "m4"), "u")
    else:
        mixed = wire.ModelRecord(
            region="north", round=4, digest="m4", pre_digest="p4", parents=["m3", "s2"], satellite="sat-1"
        )
        answer = wire.Status(region="north", model=mixed)
        told(machine, "north-0", answer)
        actions = told(machine, "north-1", answer)
    assert "s2" not in machine.snapshot()[1]
    assert "carry_expired" not in reports(actions), "it has served its purpose"


def test_a_copy_that_another_satellite_has_mixed_expires() -> None:
    carrying = wire.SatelliteState(
        carries=[wire.Carry(target="north", record=record(2, "s2", "south"), digest="s2")]
    )
    machine = satellite()
    machine.restore(carrying.SerializeToString(), 1)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(4))
    assert "carry_expired" in reports(actions)
    assert "s2" not in machine.snapshot()[1]
