"""The device alone: its training, its update under way, and what it has lost."""

from __future__ import annotations

from orbitrain.machine import CancelJob, Fate, JobDone, JobFailed, ObjectLost, StartJob, Undelivered, Withdraw
from orbitrain.protocols.fedmeld.rules import initial_record
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS
from tests.unit.protocols.two_regions import (
    NOW,
    PARAMS,
    at_round_two,
    device,
    model,
    reports,
    sent,
    told,
    trained,
)


def test_a_device_offers_its_update_again_when_told_again_that_the_round_is_open() -> None:
    """The one under way may have been for an earlier service of the same satellite, and end as expired."""
    machine = trained()
    actions = told(machine, "sat-1", model(0, "initial"), now=310 * SECOND_NS)
    assert [one.key for one in actions if isinstance(one, Withdraw)] == ["update/sat-1/1"]
    assert [one.key for one in sent(actions, wire.Update)] == ["update/sat-1/2"]
    ended = machine.handle(Undelivered("update/sat-1/1", Fate.EXPIRED), 311 * SECOND_NS)
    assert reports(ended) == ["update_ended"]
    assert told(machine, "sat-1", wire.Poll(region="north"), now=312 * SECOND_NS)


def test_a_device_takes_its_update_back_when_another_satellite_opens_the_round() -> None:
    actions = told(trained(), "sat-2", model(0, "initial"), now=110 * SECOND_NS)
    assert [one.key for one in actions if isinstance(one, Withdraw)] == ["update/sat-1/1"]
    assert [(one.to, one.expires_at_ns) for one in sent(actions, wire.Update)] == [("sat-2", 200 * SECOND_NS)]


def test_an_update_trained_after_the_service_waits_for_the_next() -> None:
    machine = device()
    told(machine, "sat-1", model(0, "initial"))
    done = JobDone("train/1/0", {"n_samples": 10}, {"update": "u1"})
    assert reports(machine.handle(done, 100 * SECOND_NS)) == ["update_trained"]
    assert sent(told(machine, "sat-2", model(0, "initial"), now=110 * SECOND_NS), wire.Update)


def test_a_newer_model_ends_the_training_and_the_sending_of_the_older_round() -> None:
    machine = device()
    told(machine, "sat-1", model(0, "initial"))
    assert CancelJob("train/1/0") in told(machine, "sat-1", model(1), "m1")
    machine = trained()
    assert Withdraw("update/sat-1/1") in told(machine, "sat-1", model(1), "m1")
    assert "u1" not in machine.snapshot()[1]


def test_a_failing_training_is_tried_three_times_and_again_when_the_round_is_opened_again() -> None:
    machine = device()
    told(machine, "sat-1", model(0, "initial"))
    started = []
    for n in range(3):
        actions = machine.handle(JobFailed(f"train/1/{n}", "no luck"), NOW)
        assert reports(actions) == ["training_failed"]
        started += [one.job for one in actions if isinstance(one, StartJob)]
    assert started == ["train/1/1", "train/1/2"]
    again = told(machine, "sat-2", model(0, "initial"), now=110 * SECOND_NS)
    assert [one.job for one in again if isinstance(one, StartJob)] == ["train/1/0"]


def test_a_device_keeps_as_many_mixing_models_as_the_ring_has_regions() -> None:
    machine = device()
    for number in (2, 4, 6):
        told(machine, "sat-1", model(number), f"m{number}")
    answer = sent(told(machine, "sat-1", wire.Poll(region="north")), wire.Status)[0]
    assert [one.round for one in answer.message.mixing] == [4, 6]  # type: ignore[attr-defined]
    assert machine.snapshot()[1] == {"initial", "m4", "m6"}


def test_a_device_that_lost_its_model_stops_what_it_made_of_it() -> None:
    machine = device()
    told(machine, "sat-1", model(1), "m1")
    assert CancelJob("train/2/0") in machine.handle(ObjectLost("m1"), NOW)
    machine = device()
    told(machine, "sat-1", model(1), "m1")
    machine.handle(JobDone("train/2/0", {"n_samples": 10}, {"update": "u2"}), NOW)
    assert Withdraw("update/sat-1/1") in machine.handle(ObjectLost("m1"), NOW)
    answer = sent(told(machine, "sat-1", wire.Poll(region="north")), wire.Status)[0].message
    assert answer.model == initial_record(PARAMS, "north")  # type: ignore[attr-defined]
    assert machine.snapshot()[1] == {"initial"}


def test_a_device_that_lost_its_update_trains_it_again() -> None:
    machine = trained()
    actions = machine.handle(ObjectLost("u1"), NOW)
    assert Withdraw("update/sat-1/1") in actions
    again = told(machine, "sat-1", model(0, "initial"))
    assert [one.job for one in again if isinstance(one, StartJob)] == ["train/1/0"]
    done = machine.handle(JobDone("train/1/0", {"n_samples": 10}, {"update": "u1"}), NOW)
    assert sent(done, wire.Update)


def test_a_device_that_lost_a_mixing_model_offers_it_to_nobody() -> None:
    machine = at_round_two()
    told(machine, "sat-1", model(3), "m3")
    machine.handle(ObjectLost("m2"), NOW)
    answer = sent(told(machine, "sat-1", wire.Poll(region="north")), wire.Status)[0].message
    assert len(answer.mixing) == 0  # type: ignore[attr-defined]
