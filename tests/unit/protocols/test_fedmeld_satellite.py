"""The satellite alone, in a service: polling, collecting updates and aggregating a round."""

from __future__ import annotations

from orbitrain.machine import (
    CancelJob,
    ContactStarted,
    JobDone,
    JobFailed,
    Lane,
    ObjectLost,
    Report,
    StartJob,
    TimerFired,
)
from orbitrain.protocols import fedmeld
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS
from tests.unit.protocols.two_regions import (
    NOW,
    ORBITS,
    PARAMS,
    reports,
    satellite,
    sent,
    serving,
    status,
    told,
    update,
)


def test_a_satellite_greets_a_device_only_while_it_serves_it() -> None:
    machine = satellite()
    assert machine.handle(ContactStarted("south-0", "service", 1), NOW) == []
    assert machine.handle(ContactStarted("ground", "feeder", 1), NOW) == []
    polls = sent(machine.handle(ContactStarted("north-0", "service", 1), NOW), wire.Poll)
    assert [(one.to, one.lane, one.expires_at_ns) for one in polls] == [
        ("north-0", Lane.CONTROL, 100 * SECOND_NS)
    ]


def test_a_satellite_that_is_in_contact_before_its_service_polls_when_it_begins() -> None:
    machine = fedmeld.Satellite(PARAMS, ORBITS, "sat-2")
    assert machine.handle(ContactStarted("north-0", "service", 1), 95 * SECOND_NS) == []
    assert machine.deadline_ns() == 100 * SECOND_NS
    polls = sent(machine.handle(TimerFired(), 100 * SECOND_NS), wire.Poll)
    assert [one.to for one in polls] == ["north-0"]
    assert machine.deadline_ns() == 200 * SECOND_NS


def test_a_round_is_aggregated_in_the_order_of_names_whoever_is_first() -> None:
    machine = serving()
    assert reports(told(machine, "north-1", update(digest="u-1", samples=7), "u-1")) == ["update_accepted"]
    actions = told(machine, "north-0", update(digest="u-0", samples=5), "u-0")
    job = next(one for one in actions if isinstance(one, StartJob))
    assert dict(job.objects) == {"update/0": "u-0", "update/1": "u-1"}
    assert job.params == {"n_samples": [5, 7]}


def test_an_update_counts_once_and_one_for_a_closed_round_not_at_all() -> None:
    machine = serving()
    told(machine, "north-0", update(digest="u"), "u")
    assert reports(told(machine, "north-0", update(digest="u"), "u")) == ["update_duplicate"]
    told(machine, "north-1", update(digest="v"), "v")
    done = machine.handle(JobDone("aggregate/north/1", {}, {"model": "m1"}), NOW)
    assert reports(done) == ["aggregated"]
    assert reports(told(machine, "north-0", update(digest="u"), "u")) == ["update_late"]


def test_an_update_that_comes_after_the_service_is_late() -> None:
    machine = serving()
    assert "update_late" in reports(told(machine, "north-0", update(), "u", now=150 * SECOND_NS))


def test_the_update_that_the_worker_blames_is_put_aside_and_the_round_stays_open() -> None:
    machine = serving()
    told(machine, "north-0", update(digest="u"), "u")
    told(machine, "north-1", update(digest="bad"), "bad")
    actions = machine.handle(JobFailed("aggregate/north/1", "update/1: another shape"), NOW)
    blamed = [one.fields for one in actions if isinstance(one, Report)]
    assert [(one["device"], one["reason"]) for one in blamed] == [("north-1", "update/1: another shape")]
    assert machine.snapshot()[1] == {"u"}
    assert reports(told(machine, "north-1", update(digest="bad"), "bad")) == ["update_refused"]


def test_a_service_that_ends_abandons_its_round_and_says_whose_updates_it_had() -> None:
    machine = serving()
    told(machine, "north-0", update(), "u")
    actions = machine.handle(TimerFired(), 100 * SECOND_NS)
    assert [one.fields for one in actions if isinstance(one, Report)] == [
        {"region": "north", "round": 1, "accepted": ["north-0"]}
    ]
    assert machine.snapshot()[1] == frozenset()


def test_an_object_that_nobody_asked_for_is_not_held() -> None:
    machine = serving()
    assert told(machine, "north-0", wire.Found(region="north", digest="f"), "f") == []
    assert machine.snapshot()[1] == frozenset()


def test_a_satellite_that_lost_an_update_stops_the_aggregation_and_begins_the_service_anew() -> None:
    machine = serving()
    told(machine, "north-0", update(digest="u"), "u")
    told(machine, "north-1", update(digest="v"), "v")
    assert CancelJob("aggregate/north/1") in machine.handle(ObjectLost("u"), NOW)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        told(machine, name, status())
    for name, digest in (("north-0", "u"), ("north-1", "v")):
        actions = told(machine, name, update(digest=digest), digest)
    assert any(isinstance(one, StartJob) for one in actions)
