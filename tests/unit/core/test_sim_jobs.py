"""Jobs in virtual time: they take as long as modelled, and survive a crash."""

from __future__ import annotations

from orbitrain.machine import Action, CancelJob, StartJob
from tests.trace.world import SECOND_NS
from tests.unit.core.two_nodes import heard, kill, plan, simulate


def job(name: str, given: str, kind: str = "train") -> StartJob:
    return StartJob(name, kind, {}, {"in": given}, 10 * SECOND_NS)


def test_a_job_takes_its_modelled_time_and_survives_a_crash() -> None:
    sends: dict[int, list[Action]] = {1: [job("j", "x"), job("k", "y", "fail")]}
    assert heard(simulate(plan((50, 60)), sends), "sat")[:2] == [
        "11: JobDone j out-of-x",
        "11: JobFailed k no luck",
    ]
    shaken = heard(simulate(plan((50, 60)), sends, kill(9, "sat")), "sat")
    assert shaken[:2] == ["12: JobDone j out-of-x", "12: JobFailed k no luck"]


def test_the_result_of_a_cancelled_job_is_not_taken_for_its_successors() -> None:
    for again in (5, 8):
        sends: dict[int, list[Action]] = {1: [job("j", "old")], 5: [CancelJob("j")]}
        sends.setdefault(again, [])
        sends[again] = [*sends[again], job("j", "new")]
        assert [line for line in heard(simulate(plan((50, 60)), sends), "sat") if "Job" in line] == [
            f"{again + 10}: JobDone j out-of-new"
        ]
