"""In which order and when the step that every driver takes tells machines what has arrived."""

from __future__ import annotations

from orbitrain.core import TIMER_REST_NS
from orbitrain.machine import Action, CommandReceived, ContactStarted, Input, Report, Severity, TimerFired
from orbitrain.step import Arrival
from tests.unit.core.recorder import Recorder, command, core_of, delivered, does, fails_on, on, send


def test_a_batch_is_taken_in_the_order_of_time_source_lane_and_sequence() -> None:
    machine = Recorder()
    batch = [
        command("f", 2),
        command("e", 1, "b", 1, 2),
        command("d", 1, "b", 1, 1),
        command("c", 1, "b", 0, 9),
        command("b", 1, "a", 5, 9),
        command("a", 1, "", 5, 9),
    ]
    core_of(machine).step(batch, 2)
    assert machine.seen == [f"Command {name}" for name in "abcdef"]
    assert machine.times == [2] * 6


def test_what_a_machine_reports_of_a_command_is_told_apart_from_the_rest_of_the_step() -> None:
    said = {name: Report(name, Severity.ACTIVITY_LO, {}) for name in ("one", "two")}
    core = core_of(
        Recorder(
            lambda item: (
                [said[item.name], said[item.name]]
                if isinstance(item, CommandReceived) and item.name in said
                else [Report("other", Severity.ACTIVITY_LO, {})]
            )
        )
    )
    contact = Arrival(0, "a", -1, 1, None, ContactStarted("a", "service", None))
    step = core.step([command("two", sequence=2), contact, command("one", sequence=1)], 5)
    assert {n: [event.kind for event in events] for n, events in step.answers.items()} == {
        1: ["one", "one"],
        2: ["two", "two"],
    }
    core = core_of(Recorder(fails_on("bad")))
    step = core.step([command("bad", sequence=1), command("good", sequence=2)], 5)
    assert {n: [event.kind for event in events] for n, events in step.answers.items()} == {2: ["done"]}


def test_a_contact_reaches_every_role_and_a_letter_only_its_own() -> None:
    one, other = Recorder(), Recorder()
    core = core_of(one, other)
    core.step([Arrival(0, "p", -1, 1, None, ContactStarted("p", "service", 9)), delivered("north")], 0)
    assert one.seen == ["ContactStarted", "north"]
    assert other.seen == ["ContactStarted"]


def test_the_next_instant_is_the_earliest_that_a_machine_or_a_letter_wants() -> None:
    machine, other = Recorder(on({"go": [send("a", expires_at_ns=30)]})), Recorder()
    core = core_of(machine, other)
    assert core.deadline_ns() is None
    machine.deadline, other.deadline = 50, 40
    assert core.deadline_ns() == 40
    does(core, "go")
    assert core.deadline_ns() == 30


def test_only_the_machine_whose_instant_has_come_is_woken() -> None:
    machine, other = Recorder(), Recorder()
    core = core_of(machine, other)
    machine.deadline, other.deadline = 10, 11
    core.step(core.timers(10), 10)
    assert (machine.seen, other.seen) == (["TimerFired"], [])


def test_a_machine_that_fails_on_its_timer_is_not_woken_again_at_once() -> None:
    def answer(item: Input) -> list[Action]:
        if isinstance(item, TimerFired):
            raise ValueError("it cannot")
        return []

    machine = Recorder(answer)
    core = core_of(machine)
    machine.deadline = 10
    assert len(core.step(core.timers(10), 10).dead_letters) == 1
    assert core.timers(11) == []
    assert core.deadline_ns() == 10 + TIMER_REST_NS
    assert [arrival.role for arrival in core.timers(10 + TIMER_REST_NS)] == ["role-0"]
