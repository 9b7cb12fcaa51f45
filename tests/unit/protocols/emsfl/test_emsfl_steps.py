"""Experts that go down as steps: what the satellite keeps and sends, how a device comes to whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from orbitrain.machine import (
    Acknowledged,
    Action,
    CancelJob,
    ContactEnded,
    ContactStarted,
    Digest,
    JobDone,
    JobFailed,
    ObjectLost,
    StartJob,
)
from orbitrain.protocols import emsfl
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.emsfl_world import SATELLITE, FloatEngine, params_of
from tests.unit.protocols.emsfl.clusters import (
    END_NS,
    INITIAL,
    NOW,
    RANKED,
    SYNCHRONOUS,
    change,
    device,
    digest,
    gate,
    jobs,
    later,
    model,
    reports,
    satellite,
    second_pass,
    sent,
    shared,
    told,
    upload,
)

MADE = {
    "expert/0": digest("expert/0/1"),
    "step/expert/0": digest("step/1"),
    "residual/expert/0": digest("rest/1"),
}
HELD = {"expert/0": 0, "expert/1": 0}


# --- the satellite ------------------------------------------------------------------------------------------


def merging(machine: emsfl.Satellite, **said: object) -> StartJob:
    """The merge of what both devices of east send, who have said what they hold."""
    for name in ("east-0", "east-1"):
        told(machine, name, later(ready=True, **said))
    told(machine, "east-0", upload())
    (job,) = jobs(told(machine, "east-1", upload(change(name="v"))))
    return job


def committed(machine: emsfl.Satellite, **said: object) -> list[Action]:
    return machine.handle(JobDone(merging(machine, **said).job, {}, MADE), NOW)


def models(actions: list[Action]) -> dict[str, wire.Model]:
    return {one.to: one.message for one in sent(actions, wire.Model)}  # type: ignore[misc]


def test_experts_are_merged_with_the_rank_and_the_gate_is_not() -> None:
    machine = second_pass(RANKED)
    job = merging(machine)
    assert job.params["items"]["expert/0"]["rank"] == 4
    assert "residual/expert/0" not in job.objects, "there is none yet"
    actions = machine.handle(JobDone(job.job, {}, MADE), NOW)
    assert reports(actions, "expert_committed")[0].fields["step"] == digest("step/1")
    assert {digest("step/1"), digest("rest/1"), digest("expert/0/1")} <= machine.snapshot()[1]
    number = machine.state.sessions["east"].guests["east-0"].model
    told(machine, "east-0", shared(model=number))
    (job,) = jobs(told(machine, "east-1", shared(change("gate", 0, "h"), model=number)))
    assert job.params["items"]["gate"]["rank"] is None
    actions = machine.handle(JobDone(job.job, {}, {"gate": digest("gate/1")}), NOW)
    assert "step" not in reports(actions, "gate_committed")[0].fields


def test_what_a_step_left_out_counts_in_the_next() -> None:
    machine = second_pass(RANKED)
    committed(machine)
    for name in ("east-0", "east-1"):
        machine.handle(ContactEnded(name), END_NS)
    assert "east" not in machine.state.sessions
    for name in ("east-0", "east-1"):
        machine.handle(ContactStarted(name, "service", 3 * END_NS), 2 * END_NS)
        told(machine, name, later(ready=True), now=2 * END_NS)
    told(machine, "east-0", upload(change(base=1)), now=2 * END_NS)
    (job,) = jobs(told(machine, "east-1", upload(change(base=1, name="v")), now=2 * END_NS))
    assert job.objects["residual/expert/0"] == digest("rest/1")
    machine.handle(JobDone(job.job, {}, {**MADE, "residual/expert/0": digest("rest/2")}), 2 * END_NS)
    named = machine.snapshot()[1]
    assert digest("rest/2") in named and digest("rest/1") not in named


def test_a_device_that_has_the_version_before_gets_the_step_in_its_place() -> None:
    found = models(committed(second_pass(RANKED), held=HELD))
    assert {name: dict(one.steps) for name, one in found.items()} == {
        name: {"expert/0": digest("step/1")} for name in ("east-0", "east-1")
    }
    assert found["east-0"].items["expert/0"].digest == digest("expert/0/1"), "what it must come to"


def test_a_models_objects_are_those_that_go_down() -> None:
    actions = committed(second_pass(RANKED), held=HELD)
    (letter, _) = sent(actions, wire.Model)
    assert letter.objects == (INITIAL["backbone"], digest("step/1"), INITIAL["expert/1"], INITIAL["gate"])


@pytest.mark.parametrize("held", [{}, {"expert/1": 0}])
def test_a_device_that_has_another_version_gets_the_expert_whole(held: dict[str, int]) -> None:
    actions = committed(second_pass(RANKED), held=held)
    assert not any(one.steps for one in models(actions).values())
    assert digest("expert/0/1") in sent(actions, wire.Model)[0].objects


def test_a_device_two_versions_behind_gets_the_expert_whole() -> None:
    machine = second_pass(RANKED)
    job = merging(machine, held=HELD)
    machine.state.items["expert/0"].version.number = 1
    actions = machine.handle(JobDone(job.job, {}, MADE), NOW)
    assert not any(one.steps for one in models(actions).values())


def test_a_device_that_has_it_already_is_sent_no_step() -> None:
    machine = second_pass(RANKED)
    committed(machine, held=HELD)
    machine.state.letters.clear()
    again = models(told(machine, "east-0", later(model=0, held={"expert/0": 1, "expert/1": 0})))
    assert not again["east-0"].steps


def test_without_its_step_an_expert_goes_down_whole() -> None:
    machine = second_pass(RANKED)
    committed(machine, held=HELD)
    actions = machine.handle(ObjectLost(digest("step/1")), NOW)
    assert reports(actions, "object_lost")
    assert not reports(actions, "residual_lost")
    assert digest("step/1") not in machine.snapshot()[1]
    machine.state.letters.clear()
    again = models(told(machine, "east-0", later(model=0, held=HELD)))
    assert not again["east-0"].steps


def test_a_merge_that_hands_in_a_lost_residual_is_begun_again_without_it() -> None:
    machine = second_pass(RANKED)
    machine.state.items["expert/0"].residual = digest("rest/0")
    job = merging(machine)
    assert job.objects["residual/expert/0"] == digest("rest/0")
    actions = machine.handle(ObjectLost(digest("rest/0")), NOW)
    assert CancelJob(job.job) in actions
    (again,) = jobs(actions)
    assert again.objects.keys() == job.objects.keys() - {"residual/expert/0"}
    assert again.params == job.params
    (lost,) = reports(actions, "residual_lost")
    assert lost.fields == {"item": "expert/0", "version": 0, "digest": digest("rest/0")}


def test_a_residual_that_a_merge_is_too_large_with_is_left_out_of_it() -> None:
    machine = second_pass(RANKED)
    machine.state.items["expert/0"].residual = digest("rest/0")
    job = merging(machine)
    actions = machine.handle(JobFailed(job.job, "residual/expert/0: what comes out is too large"), NOW)
    (again,) = jobs(actions)
    assert again.objects.keys() == job.objects.keys() - {"residual/expert/0"}
    (lost,) = reports(actions, "residual_lost")
    assert lost.fields == {"item": "expert/0", "version": 0, "digest": digest("rest/0")}
    assert not reports(actions, "merge_failed") and not reports(actions, "update_refused")


def test_steps_that_came_to_nothing_are_followed_by_the_whole_model_once() -> None:
    """Word of that may come before the letter has ended, and may say the same twice."""
    machine = second_pass(RANKED)
    committed(machine, held=HELD)
    number = machine.state.sessions["east"].guests["east-0"].model
    assert "east-0" in machine.state.letters
    assert not models(told(machine, "east-0", later(held=HELD))), "its letter is under way"
    actions = told(machine, "east-0", later(failed=number))
    assert list(models(actions)) == ["east-0"]
    assert not models(actions)["east-0"].steps
    assert models(actions)["east-0"].number == number
    assert sent(actions, wire.Model)[0].supersedes
    assert not models(told(machine, "east-0", later(failed=number)))


def test_no_step_is_sent_from_what_a_model_in_the_same_pass_leaves_behind() -> None:
    """A masked device that gives an expert away and gets it back has it no more."""
    machine = second_pass(params_of(("east", "west"), FloatEngine(), rank=4))
    assert models(committed(machine, held=HELD))
    assert dict(machine.state.sessions["east"].guests["east-0"].held) == {"expert/0": 0}


# --- the device ---------------------------------------------------------------------------------------------

STEP = {"expert/0": digest("step/1")}


def stepped(number: int = 2, version: int = 1, **versions: int) -> wire.Model:
    """A model in which expert 0 has a step."""
    made = model(number, {"expert/0": version, **versions})
    made.steps["expert/0"] = digest(f"step/{version}")
    return made


def arriving() -> tuple[emsfl.Device, StartJob]:
    """In its second contact, its upload gone up; the model that has come has a step."""
    machine = device(RANKED)
    machine.handle(
        JobDone(machine.state.job, {"n_samples": 10}, {"expert/0": digest("x"), "gate": digest("g")}), NOW
    )
    machine.handle(ContactEnded(SATELLITE), NOW)
    machine.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS)
    for job in list(machine.state.packing):
        outputs = {"update/expert/0": digest("u"), "residual/expert/0": digest("r")}
        machine.handle(JobDone(job, {}, outputs), 2 * END_NS)
    machine.handle(Acknowledged(machine.state.sending), 2 * END_NS)
    (job,) = jobs(told(machine, SATELLITE, stepped(), now=2 * END_NS))
    return machine, job


def done(
    machine: emsfl.Device, job: StartJob, made: Digest = MADE["expert/0"], now: int = 2 * END_NS
) -> list[Action]:
    return machine.handle(JobDone(job.job, {}, {"expert/0": made}), now)


def hello_of(actions: list[Action]) -> wire.Hello:
    (letter,) = sent(actions, wire.Hello)
    assert isinstance(letter.message, wire.Hello)
    return letter.message


def test_a_device_says_which_experts_it_has() -> None:
    machine = device(RANKED)
    machine.handle(ContactEnded(SATELLITE), END_NS)
    said = hello_of(machine.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS))
    assert dict(said.held) == HELD
    whole = device()
    whole.handle(ContactEnded(SATELLITE), END_NS)
    said = hello_of(whole.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS))
    assert not said.held, "nothing comes as steps without a rank"


def test_a_step_is_applied_to_the_version_that_is_here() -> None:
    _, job = arriving()
    assert (job.kind, job.duration_ns) == ("moe.merge", RANKED.times.merge_ns)
    assert job.params == {"items": {"expert/0": {"weights": [1.0], "clips": [None], "rank": None}}}
    assert job.objects == {"base/expert/0": INITIAL["expert/0"], "update/expert/0/0": digest("step/1")}


def test_nothing_is_trained_until_what_arrives_is_whole() -> None:
    machine, job = arriving()
    assert machine.state.adopted.number == 1
    assert machine.deadline_ns() is None
    named = machine.snapshot()[1]
    assert {digest("step/1"), INITIAL["expert/0"], INITIAL["gate"]} <= named
    assert digest("expert/0/1") not in named, "it is not here yet"
    actions = done(machine, job)
    assert reports(actions, "model_adopted")[0].fields["versions"]["expert/0"] == 1
    (training,) = jobs(actions)
    assert training.kind == "moe.train" and training.params["gate"], "the connected round"
    assert training.objects["expert/0"] == digest("expert/0/1")
    named = machine.snapshot()[1]
    assert digest("expert/0/1") in named and digest("step/1") not in named
    assert not machine.state.adopted.steps


def test_what_is_here_already_needs_no_job() -> None:
    machine, job = arriving()
    done(machine, job)
    actions = told(machine, SATELLITE, stepped(3), now=2 * END_NS + 1)
    assert reports(actions, "model_adopted") and not [one for one in jobs(actions) if one.kind == "moe.merge"]


Spoil = Callable[[emsfl.Device, StartJob], list[Action]]


def other_made(machine: emsfl.Device, job: StartJob) -> list[Action]:
    return done(machine, job, digest("other"))


def nothing_made(machine: emsfl.Device, job: StartJob) -> list[Action]:
    return machine.handle(JobDone(job.job, {}, {}), 2 * END_NS)


def job_failed(machine: emsfl.Device, job: StartJob) -> list[Action]:
    return machine.handle(JobFailed(job.job, "no space"), 2 * END_NS)


def step_lost(machine: emsfl.Device, job: StartJob) -> list[Action]:
    return machine.handle(ObjectLost(digest("step/1")), 2 * END_NS)


def base_lost(machine: emsfl.Device, job: StartJob) -> list[Action]:
    return machine.handle(ObjectLost(INITIAL["expert/0"]), 2 * END_NS)


@pytest.mark.parametrize(
    ("spoil", "reason", "has"),
    [
        (other_made, "its step made another object", 1),
        (nothing_made, "its step made another object", 1),
        (job_failed, "no space", 1),
        (step_lost, "an object of it is lost", 1),
        (base_lost, "an object of it is lost", 0),
    ],
)
def test_steps_that_come_to_nothing_are_told_and_the_whole_model_is_taken(
    spoil: Spoil, reason: str, has: int
) -> None:
    machine, job = arriving()
    actions = spoil(machine, job)
    (told_of,) = reports(actions, "model_incomplete")
    assert told_of.fields == {"number": 2, "items": ["expert/0"], "reason": reason}
    said = hello_of(actions)
    assert (said.model, said.failed, dict(said.held)) == (has, 2, {})
    assert not machine.state.arriving.number
    assert not jobs(actions), "there is nothing to train"
    assert machine.deadline_ns() is None
    assert not done(machine, job), "it was left"
    actions = told(machine, SATELLITE, model(2, {"expert/0": 1}), now=2 * END_NS)
    assert reports(actions, "model_adopted")
    (training,) = jobs(actions)
    assert training.params["gate"], "the connected round"
    assert dict(hello_of(machine.greet()).held) == {"expert/0": 1, "expert/1": 0}
    assert not machine.state.failed


def test_a_step_from_a_version_that_is_not_here_comes_to_nothing_at_once() -> None:
    machine, job = arriving()
    done(machine, job)
    actions = told(machine, SATELLITE, stepped(3, 3), now=2 * END_NS)
    (told_of,) = reports(actions, "model_incomplete")
    assert told_of.fields["reason"] == "the version before is not here"
    assert hello_of(actions).failed == 3


def test_word_that_steps_came_to_nothing_is_said_again_in_the_next_contact() -> None:
    machine, job = arriving()
    machine.handle(ContactEnded(SATELLITE), 3 * END_NS)
    assert not sent(job_failed(machine, job), wire.Hello)
    said = hello_of(machine.handle(ContactStarted(SATELLITE, "service", 5 * END_NS), 4 * END_NS))
    assert (said.model, said.failed, dict(said.held)) == (1, 2, {})


def test_the_same_model_again_leaves_the_steps_under_way() -> None:
    machine, _ = arriving()
    before = machine.snapshot()
    assert not told(machine, SATELLITE, stepped(), now=2 * END_NS)
    assert machine.snapshot() == before


def test_the_same_model_whole_need_not_wait_for_its_steps() -> None:
    machine, job = arriving()
    actions = told(machine, SATELLITE, model(2, {"expert/0": 1}), now=2 * END_NS)
    assert CancelJob(job.job) in actions
    assert reports(actions, "model_adopted")


def test_a_newer_model_takes_the_place_of_one_that_is_arriving() -> None:
    machine, job = arriving()
    newer = stepped(3, 1, gate=1)
    actions = told(machine, SATELLITE, newer, now=2 * END_NS)
    assert CancelJob(job.job) in actions
    (again,) = jobs(actions)
    done(machine, again)
    assert machine.state.adopted.number == 3


def test_a_model_that_is_whole_only_after_its_contact_is_not_trained_in_contact() -> None:
    machine, job = arriving()
    machine.handle(ContactEnded(SATELLITE), 3 * END_NS)
    (training,) = jobs(done(machine, job, now=3 * END_NS))
    assert (training.params["gate"], training.params["experts"]) == (False, [0])
    assert not machine.state.connected


def test_a_contact_that_begins_before_a_model_is_whole_waits_for_its_own() -> None:
    machine, job = arriving()
    machine.handle(ContactEnded(SATELLITE), 3 * END_NS)
    said = hello_of(machine.handle(ContactStarted(SATELLITE, "service", 5 * END_NS), 4 * END_NS))
    assert (said.model, dict(said.held)) == (2, HELD)
    assert not jobs(done(machine, job, now=4 * END_NS)), "a model of this contact is to come"
    assert machine.state.adopted.number == 2
    (training,) = jobs(told(machine, SATELLITE, model(3, {"expert/0": 1}), now=4 * END_NS))
    assert training.params["gate"]


def test_a_gate_tunes_what_is_arriving_too() -> None:
    machine, job = arriving()
    told(machine, SATELLITE, gate(1), now=2 * END_NS)
    assert digest("gate/1") in machine.snapshot()[1]
    (training,) = jobs(done(machine, job))
    assert training.objects["gate"] == digest("gate/1")


def test_a_device_that_is_started_again_goes_on_with_what_is_arriving() -> None:
    machine, job = arriving()
    again = emsfl.Device(RANKED, "east-0")
    again.restore(machine.snapshot()[0], machine.schema)
    again.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS)
    (training,) = jobs(done(again, job))
    assert training.params["gate"], "its contact goes on"


def test_rounds_that_were_under_way_go_up_once_a_new_model_is_whole() -> None:
    """Two models in a contact: experts were given out anew."""
    machine = device(RANKED)
    machine.handle(
        JobDone(machine.state.job, {"n_samples": 10}, {"expert/0": digest("x"), "gate": digest("g")}), NOW
    )
    (job,) = jobs(told(machine, SATELLITE, stepped()))
    assert machine.state.work.rounds == 1
    (packing,) = jobs(done(machine, job, now=NOW))
    assert packing.kind == "moe.pack"
    assert packing.objects["base/expert/0"] == INITIAL["expert/0"]


def test_the_baselines_experts_have_a_rank_and_its_gate_has_none() -> None:
    machine = satellite(replace(SYNCHRONOUS, work=replace(SYNCHRONOUS.work, rank=4)))
    number = machine.state.sessions["east"].guests["east-0"].model
    changes = [change("expert/0"), change("expert/1", name="w"), change("gate", name="g")]
    told(machine, "east-0", upload(*changes, model=number, rounds=2))
    (job,) = jobs(told(machine, "east-1", upload(*changes, model=number, rounds=2)))
    ranks = {item: how["rank"] for item, how in job.params["items"].items()}
    assert ranks == {"expert/0": 4, "expert/1": 4, "gate": None}


def test_a_gate_of_a_model_that_is_being_left_does_not_go_up() -> None:
    machine = device(RANKED)
    training = machine.state.job
    told(machine, SATELLITE, stepped())
    outputs = {"expert/0": digest("x"), "gate": digest("g")}
    assert not jobs(machine.handle(JobDone(training, {"n_samples": 10}, outputs), NOW))
    assert machine.state.work.rounds == 1
    assert machine.deadline_ns() is None, "nor is another round of it begun"


def test_after_steps_came_to_nothing_no_gate_is_trained_from_an_earlier_pass() -> None:
    machine = device(RANKED)
    for _ in range(3):
        machine.handle(JobFailed(machine.state.job, "out of memory"), NOW)
    machine.handle(ContactEnded(SATELLITE), NOW)
    machine.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS)
    (job,) = jobs(told(machine, SATELLITE, stepped(), now=2 * END_NS))
    (training,) = jobs(job_failed(machine, job))
    assert (training.kind, training.params["gate"]) == ("moe.train", False)
