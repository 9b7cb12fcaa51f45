"""Letters in the step: their numbers and keys, how they end before they were tried, and their marks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orbitrain import core as core_module
from orbitrain.core import Core
from orbitrain.machine import Acknowledged, Action, Fate, Lane, Undelivered, Withdraw
from orbitrain.mailbox import Outcome
from orbitrain.step import Arrival, Step
from tests.unit.core.recorder import Recorder, command, core_of, delivered, does, on, send


def keys(step: Step) -> list[tuple[str, int]]:
    return [(letter.key, letter.sequence) for letter in step.letters.values()]


def test_letters_of_a_mailbox_are_numbered_across_steps_and_lanes_apart() -> None:
    plan = {"one": [send("a"), send("b"), send("c", Lane.BULK)], "two": [send("d")]}
    core = core_of(Recorder(on(plan)))
    assert keys(does(core, "one")) == [("a", 1), ("b", 2), ("c", 1)]
    assert keys(does(core, "two")) == [("d", 3)]


@pytest.mark.parametrize("plan", [["once", "twice"], ["double"]])
def test_a_key_in_use_is_a_defect_of_the_machine_and_sends_nothing(plan: list[str]) -> None:
    actions = {"once": [send("a")], "twice": [send("a")], "double": [send("a"), send("a")]}
    core = core_of(Recorder(on(actions)))
    steps = [does(core, name) for name in plan]
    assert [letter.error for letter in steps[-1].dead_letters] == [
        "LocalProtocolError: a message with the key 'a' has not ended yet"
    ]
    assert len(core.outbox) == len(plan) - 1


def test_a_key_is_free_again_in_the_step_in_which_its_letter_ends() -> None:
    core = core_of(Recorder(lambda item: [send("a")]))
    first = next(iter(does(core, "go").letters))
    ended = Arrival(0, "far", 0, 1, "role-0", Acknowledged("a"), settles=first)
    assert keys(core.step([ended], 1)) == [("a", 2)]
    assert [letter.sequence for letter in core.outbox] == [2]


def test_more_letters_than_allowed_are_a_defect_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "LETTERS_MAX", 2)
    core = core_of(Recorder(on({"go": [send("a"), send("b"), send("c")]})))
    assert does(core, "go").dead_letters[0].error.endswith("more than 2 letters under way")


def ends(core: Core, now_ns: int = 1) -> list[object]:
    return [arrival.item for arrival in core.timers(now_ns) if arrival.settles is not None]


@pytest.mark.parametrize(
    ("second", "fate"),
    [(send("b", supersedes="a"), Fate.SUPERSEDED), (Withdraw("a"), Fate.WITHDRAWN)],
)
def test_a_letter_taken_back_before_it_was_tried_is_ended_at_once_and_by_the_sender(
    second: Action, fate: Fate
) -> None:
    machine = Recorder(on({"one": [send("a")], "two": [second], "both": [send("a"), second]}))
    for names in (["one", "two"], ["both"]):
        core = core_of(machine)
        for name in names:
            does(core, name)
        assert core.deadline_ns() == 0
        arrivals = core.timers(1)
        assert [arrival.item for arrival in arrivals] == [Undelivered("a", fate)]
        assert core.timers(1) == [], "it waits for its commit"
        machine.seen.clear()
        core.step(arrivals, 1)
        assert machine.seen == ["Undelivered"]
        assert core.outbox.find("role-0", "a") is None


@pytest.mark.parametrize("second", [send("b", supersedes="a"), Withdraw("a")])
def test_a_letter_taken_back_after_it_was_tried_stays_until_the_receiver_says(second: Action) -> None:
    core = core_of(Recorder(on({"one": [send("a")], "two": [second]})))
    does(core, "one")
    letter = core.outbox.find("role-0", "a")
    assert letter is not None
    core.outbox.attempted(letter.identity)
    does(core, "two")
    assert ends(core) == []
    head = core.outbox.heads("far")[0]
    assert head.key == "a"
    assert head.cancelled is not None


def test_the_first_reason_to_take_a_letter_back_stands_and_an_unknown_key_is_nothing() -> None:
    plan = {"go": [send("a"), Withdraw("a"), send("b", supersedes="a"), Withdraw("never")]}
    core = core_of(Recorder(on(plan)))
    does(core, "go")
    assert ends(core) == [Undelivered("a", Fate.WITHDRAWN)]


def test_a_letter_expires_by_itself_only_if_it_was_never_tried() -> None:
    core = core_of(
        Recorder(on({"go": [send("a", expires_at_ns=10), send("b", Lane.BULK, expires_at_ns=10)]}))
    )
    does(core, "go")
    letter = core.outbox.find("role-0", "b")
    assert letter is not None
    core.outbox.attempted(letter.identity)
    assert ends(core, 9) == []
    assert ends(core, 10) == [Undelivered("a", Fate.EXPIRED)]


def test_a_letter_settled_in_the_step_that_takes_it_back_is_gone() -> None:
    core = core_of(Recorder(on({"one": [send("a")], "two": [Withdraw("a")]})))
    letter = next(iter(does(core, "one").letters))
    ended = Arrival(5, "far", 0, 1, "role-0", Acknowledged("a"), settles=letter)
    step = core.step([command("two"), ended], 5)
    assert step.letters == {}
    assert step.ended_letters == [letter]
    assert len(core.outbox) == 0


def test_a_mark_without_an_item_is_put_down_and_nobody_is_told() -> None:
    machine = Recorder()
    core = core_of(machine)
    arrival = replace(delivered("late"), item=None)
    assert arrival.mark is not None
    expired = replace(arrival, mark=replace(arrival.mark, outcome=Outcome.EXPIRED))
    step = core.step([expired], 0)
    assert machine.seen == []
    assert [mark.outcome for mark in step.marks] == [Outcome.EXPIRED]
    assert step.events == []
