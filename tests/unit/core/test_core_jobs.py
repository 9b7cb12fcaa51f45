"""Jobs in the step: started, cancelled and replaced, and which results are told."""

from __future__ import annotations

from orbitrain.machine import CancelJob
from tests.unit.core.recorder import Recorder, command, core_of, does, done, job, on


def test_a_job_runs_until_its_result_is_consumed() -> None:
    core = core_of(Recorder(on({"go": [job("j")]})))
    step = does(core, "go", 3)
    assert [(one.started_ns, one.due_ns) for one in step.jobs.values()] == [(3, 8)]
    step = core.step([done("j")], 9)
    assert step.ended_jobs == [("role-0", "j")]
    assert core.jobs == {}


def test_a_job_of_a_running_name_is_a_defect_of_the_machine() -> None:
    core = core_of(Recorder(on({"go": [job("j")]})))
    does(core, "go")
    assert does(core, "go").dead_letters[0].error.endswith("the job 'j' is running already")


def test_the_result_of_a_job_cancelled_while_it_waited_is_not_told() -> None:
    machine = Recorder(on({"go": [job("j")], "stop": [CancelJob("j")]}))
    core = core_of(machine)
    does(core, "go")
    machine.seen.clear()
    step = core.step([command("stop"), done("j")], 9)
    assert machine.seen == ["Command stop"]
    assert step.ended_jobs == [("role-0", "j")]
    core.step([done("j")], 10)
    assert machine.seen == ["Command stop"]


def test_a_job_started_and_cancelled_in_one_step_never_ran() -> None:
    step = does(core_of(Recorder(on({"go": [job("j"), CancelJob("j")]}))), "go")
    assert step.jobs == {}
    assert step.ended_jobs == []


def test_a_job_may_take_the_name_of_one_that_it_replaces() -> None:
    core = core_of(Recorder(on({"go": [job("j", "old")], "again": [CancelJob("j"), job("j", "new")]})))
    does(core, "go")
    step = does(core, "again")
    assert step.ended_jobs == [("role-0", "j")]
    assert core.jobs["role-0", "j"].objects == {"i0": "new"}
