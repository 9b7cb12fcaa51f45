"""An input on which a machine of ours fails is put aside, its sender told, and the rest kept."""

from __future__ import annotations

from orbitrain import core as core_module
from orbitrain.machine import (
    Acknowledged,
    Action,
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Delivered,
    Input,
    RemoteProtocolError,
    Severity,
)
from orbitrain.step import Arrival
from tests.unit.core.recorder import Recorder, core_of, delivered, does, fails_on, send


def test_an_input_that_makes_its_machine_raise_is_put_aside_after_three_times_and_the_rest_kept() -> None:
    tries: list[str] = []

    class Counting(Recorder):
        def handle(self, item: Input, now_ns: int) -> list[Action]:
            if isinstance(item, Delivered):
                tries.append(item.message.region)
            return super().handle(item, now_ns)

    machine = Counting(fails_on("bad"))
    core = core_of(machine)
    step = core.step([delivered("a", 1), delivered("bad", 2), delivered("b", 3)], 5)
    assert tries.count("bad") == 1 + core_module.ATTEMPTS_MAX
    assert machine.seen == ["a", "b"], "the half-made change of the bad one is gone"
    assert step.snapshots["role-0"].state == b"a\nb"
    dead = step.dead_letters[0]
    assert (dead.t_ns, dead.role, dead.error) == (5, "role-0", "ZeroDivisionError: of ours")
    assert "bad" in dead.text
    fatal = [event for event in step.events if event.severity is Severity.FATAL]
    assert [(event.kind, event.fields["input"], event.fields["source"]) for event in fatal] == [
        ("dead_letter", "Delivered", "peer")
    ]
    assert [event.fields["what"] for event in step.events if event.kind == "done"] == ["a", "b"]
    assert [(mark.sequence, mark.outcome.value, mark.reason) for mark in step.marks] == [
        (1, "delivered", ""),
        (2, "refused", "the receiver failed on it"),
        (3, "delivered", ""),
    ], "its sender is told"


def test_two_bad_inputs_of_one_batch_are_both_put_aside_and_both_senders_told() -> None:
    machine = Recorder(fails_on("bad", "worse"))
    batch = [delivered("bad", 1), delivered("a", 2), delivered("worse", 3), delivered("b", 4)]
    step = core_of(machine).step(batch, 0)
    assert machine.seen == ["a", "b"]
    assert [letter.text.count("bad") for letter in step.dead_letters] == [1, 0]
    assert len([event for event in step.events if event.severity is Severity.FATAL]) == 2
    assert {mark.sequence: mark.outcome.value for mark in step.marks} == {
        1: "refused",
        2: "delivered",
        3: "refused",
        4: "delivered",
    }


def test_a_bad_answer_to_a_letter_still_ends_the_letter() -> None:
    def answer(item: Input) -> list[Action]:
        if isinstance(item, Acknowledged):
            raise KeyError("of ours")
        return [send("a")] if isinstance(item, CommandReceived) else []

    core = core_of(Recorder(answer))
    letter = next(iter(does(core, "go").letters))
    step = core.step([Arrival(0, "far", 0, 1, "role-0", Acknowledged("a"), settles=letter)], 1)
    assert step.ended_letters == [letter]
    assert len(step.dead_letters) == 1
    assert len(core.outbox) == 0


def test_a_machine_that_is_reloaded_hears_again_of_the_contacts_that_go_on() -> None:
    """They are no part of its snapshot: without being told, it would think that nobody is there."""

    class Acquainted(Recorder):
        def __init__(self) -> None:
            super().__init__(fails_on("bad"))
            self.contacts: set[str] = set()

        def handle(self, item: Input, now_ns: int) -> list[Action]:
            if isinstance(item, ContactStarted):
                self.contacts.add(item.peer)
            if isinstance(item, ContactEnded):
                self.contacts.discard(item.peer)
            return super().handle(item, now_ns)

        def restore(self, state: bytes, schema: int) -> None:
            super().restore(state, schema)
            self.contacts = set()

    machine = Acquainted()
    core = core_of(machine)
    for peer in ("here", "gone"):
        core.step([Arrival(0, peer, -1, 1, None, ContactStarted(peer, "service", 9))], 0)
    core.step([Arrival(0, "gone", -1, 0, None, ContactEnded("gone"))], 1)
    core.step([delivered("bad")], 2)
    assert machine.contacts == {"here"}


def test_an_error_of_a_peer_that_no_letter_brought_is_an_error_of_ours() -> None:
    def answer(item: Input) -> list[Action]:
        raise RemoteProtocolError("but nobody said anything")

    assert len(does(core_of(Recorder(answer)), "go").dead_letters) == 1
