"""The step that every driver takes: what a machine is promised, and what of it survives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import Message

from orbitrain import core as core_module
from orbitrain.core import TIMER_REST_NS, Core
from orbitrain.machine import (
    NEVER_NS,
    Acknowledged,
    Action,
    CancelJob,
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Fate,
    Input,
    JobDone,
    Lane,
    LocalProtocolError,
    ObjectLost,
    RemoteProtocolError,
    Report,
    Send,
    Severity,
    StartJob,
    TimerFired,
    Undelivered,
    Withdraw,
)
from orbitrain.mailbox import Mark, Outcome
from orbitrain.memory import MemoryJournal
from orbitrain.step import Arrival, Durable, Snapshot, Step
from orbitrain.v1 import fedmeld_pb2 as wire

POLL = wire.Poll(region="north")


class Recorder:
    """A machine that remembers what it was told, durably, and does what a test says."""

    schema = 3
    accepts: tuple[type[Message], ...] = (wire.Poll,)

    def __init__(self, answer: Callable[[Input], list[Action]] = lambda item: []) -> None:
        self.answer = answer
        self.seen: list[str] = []
        self.times: list[int] = []
        self.deadline: int | None = None
        self.objects: frozenset[Digest] = frozenset()

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        name = item.message.region if isinstance(item, Delivered) else type(item).__name__
        name = f"Command {item.name}" if isinstance(item, CommandReceived) else name
        self.seen.append(name)
        self.times.append(now_ns)
        return self.answer(item)

    def deadline_ns(self) -> int | None:
        return self.deadline

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        return "\n".join(self.seen).encode(), self.objects

    def restore(self, state: bytes, schema: int) -> None:
        if schema != self.schema:
            raise LocalProtocolError(f"snapshot schema {schema}, this version reads {self.schema}")
        self.seen = state.decode().split("\n") if state else []


def sizes(digest: Digest) -> int:
    return {"big": 200 * 1024 * 1024}.get(digest, 10)


def core_of(*machines: Recorder, durable: Durable | None = None) -> Core:
    roles = {f"role-{n}": machine for n, machine in enumerate(machines)}
    return Core("me", roles, durable or Durable("store-1"), sizes)


def command(name: str, due_ns: int = 0, source: str = "", lane: int = 0, sequence: int = 0) -> Arrival:
    return Arrival(due_ns, source, lane, sequence, "role-0", CommandReceived(name))


def delivered(region: str, sequence: int = 1, objects: tuple[Digest, ...] = ()) -> Arrival:
    mark = Mark("peer", "store-9", "role-0", 0, sequence, Outcome.DELIVERED)
    item = Delivered("peer", wire.Poll(region=region), objects)
    return Arrival(0, "peer", 0, sequence, "role-0", item, mark)


def send(key: str, lane: Lane = Lane.CONTROL, **changes: Any) -> Send:
    return Send("far", "r", key, POLL, lane, **changes)


def on(plan: Mapping[str, list[Action]]) -> Callable[[Input], list[Action]]:
    """Answers commands by name."""
    return lambda item: list(plan.get(item.name, [])) if isinstance(item, CommandReceived) else []


def does(core: Core, name: str, now_ns: int = 0) -> Step:
    return core.step([command(name)], now_ns)


def keys(step: Step) -> list[tuple[str, int]]:
    return [(letter.key, letter.sequence) for letter in step.letters.values()]


# ------------------------------------------------------------------------------------------ order and time


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


# ------------------------------------------------------------------------------------------ letters


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


# ------------------------------------------------------------------------------------------ refusals


def refuse(text: str) -> Callable[[Input], list[Action]]:
    def answer(item: Input) -> list[Action]:
        if isinstance(item, Delivered) and item.message == wire.Poll(region="bad"):
            raise RemoteProtocolError(text)
        return [Report("heard", Severity.DIAGNOSTIC, {})]

    return answer


class Prudent(Recorder):
    """Refuses before it changes anything."""

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        actions = self.answer(item)
        self.seen.append(item.message.region if isinstance(item, Delivered) else type(item).__name__)
        return actions


def test_what_breaks_the_protocol_is_refused_with_its_text_and_nothing_changes() -> None:
    machine = Prudent(refuse("you are " + "x" * 600))
    core = core_of(machine)
    before = machine.snapshot()
    step = core.step([delivered("bad")], 7)
    assert machine.snapshot() == before
    assert step.snapshots == {}
    mark = step.marks[0]
    assert (mark.outcome, mark.reason) == (Outcome.REFUSED, ("you are " + "x" * 600)[:500])
    assert core.marks.find(mark.mailbox, 1) == mark
    assert [(event.kind, event.severity) for event in step.events] == [
        ("message_refused", Severity.WARNING_LO)
    ]
    assert step.events[0].fields == {"source": "peer", "reason": mark.reason}
    assert step.dead_letters == []


def test_a_refusal_leaves_the_rest_of_the_batch_alone() -> None:
    machine = Prudent(refuse("no"))
    step = core_of(machine).step([delivered("a", 1), delivered("bad", 2), delivered("b", 3)], 0)
    assert machine.seen == ["a", "b"]
    assert [mark.outcome.value for mark in step.marks] == ["delivered", "refused", "delivered"]


@pytest.mark.parametrize(
    ("role", "lane", "kind", "body", "reason"),
    [
        ("nobody", 0, "orbitrain.v1.fedmeld.Poll", b"", "this node has no role 'nobody'"),
        (
            "role-0",
            0,
            "orbitrain.v1.fedmeld.Model",
            b"",
            "role 'role-0' does not understand .*Model'",
        ),
        ("role-0", 0, "orbitrain.v1.fedmeld.Poll", b"\xff\xff", ".*Poll cannot be decoded"),
        ("role-0", 9, "orbitrain.v1.fedmeld.Poll", b"", "there is no lane 9"),
    ],
)
def test_a_letter_that_no_machine_here_reads_is_refused(
    role: str, lane: int, kind: str, body: bytes, reason: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        core_of(Recorder()).decode(role, lane, kind, body)


# ------------------------------------------------------------------------------------------ defects


def fails_on(*names: str) -> Callable[[Input], list[Action]]:
    def answer(item: Input) -> list[Action]:
        region = item.message.region if isinstance(item, Delivered) else ""
        if region in names or (isinstance(item, CommandReceived) and item.name in names):
            raise ZeroDivisionError("of ours")
        return [Report("done", Severity.DIAGNOSTIC, {"what": region})]

    return answer


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


# ------------------------------------------------------------------------------------------ jobs


def job(name: str, *inputs: Digest) -> StartJob:
    return StartJob(name, "train", {}, {f"i{n}": digest for n, digest in enumerate(inputs)}, 5)


def done(name: str, *outputs: Digest) -> Arrival:
    objects = {f"o{n}": digest for n, digest in enumerate(outputs)}
    return Arrival(9, "", 0, 1, "role-0", JobDone(name, {}, objects), ends_job=("role-0", name))


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


# ------------------------------------------------------------------------------------------ what stays


def test_needed_names_exactly_what_must_stay() -> None:
    plan: dict[str, list[Action]] = {
        "send": [send("a", objects=("letter",))],
        "job": [job("j", "input")],
        "report": [Report("found", Severity.ACTIVITY_LO, {}, ("report",))],
        "forget": [],
    }
    machine = Recorder(on(plan))
    core = core_of(machine)
    assert core.needed() == set()
    machine.objects = frozenset({"state"})
    letter = next(iter(does(core, "send").letters))
    assert core.needed() == {"state", "letter"}
    does(core, "job")
    does(core, "report")
    assert core.needed() == {"state", "letter", "input", "report"}
    core.step([done("j", "output")], 9)
    assert core.needed() == {"state", "letter", "report"}
    core.step([Arrival(0, "far", 0, 1, "role-0", Acknowledged("a"), settles=letter)], 9)
    assert core.needed() == {"state", "report"}
    machine.objects = frozenset()
    does(core, "forget")
    assert core.needed() == {"report"}


def test_an_input_that_waits_names_its_objects_for_the_driver() -> None:
    assert delivered("a", 1, ("x", "y")).objects == ("x", "y")
    assert done("j", "out").objects == ("out",)
    assert command("go").objects == ()


def test_reported_objects_are_kept_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_module, "REPORTED_OBJECTS_MAX", 3)
    names = [Report("found", Severity.ACTIVITY_LO, {}, (f"d{n}",)) for n in range(5)]
    core = core_of(Recorder(on({"go": list(names)})))
    does(core, "go")
    assert core.reported == (("d2", 10), ("d3", 10), ("d4", 10))


def test_reported_objects_are_kept_up_to_a_size_but_for_the_newest() -> None:
    plan = {name: [Report("found", Severity.ACTIVITY_LO, {}, (name,))] for name in ("small", "big")}
    core = core_of(Recorder(on(plan)))
    does(core, "small")
    does(core, "big")
    assert [digest for digest, _ in core.reported] == ["small", "big"]
    does(core, "big")
    assert [digest for digest, _ in core.reported] == ["big"]


# ------------------------------------------------------------------------------------------ restart


def test_everything_that_was_committed_is_there_after_a_restart() -> None:
    plan: dict[str, list[Action]] = {
        "go": [send("a"), job("j", "input"), Report("found", Severity.ACTIVITY_LO, {}, ("report",))]
    }
    machine = Recorder(on(plan))
    machine.objects = frozenset({"state"})
    journal = MemoryJournal("store-1")
    core = core_of(machine)
    for batch in ([command("go")], [delivered("a", 4)]):
        journal.commit(core.step(batch, 1), core.reported)
    again = core_of(fresh := Recorder(on(plan)), durable=journal.load())
    assert fresh.seen == machine.seen
    assert again.jobs == core.jobs
    assert again.needed() == core.needed()
    assert list(again.outbox) == list(core.outbox)
    assert again.marks.find(("peer", "store-9", "role-0", 0), 4) is not None
    assert again.outbox.next_sequence("far", "r", 0) == 2
    assert again.outbox.certain_ends(NEVER_NS) == [], "it may have left before the crash"


def test_a_snapshot_of_another_schema_is_not_read() -> None:
    durable = Durable("store-1", snapshots={"role-0": Snapshot(b"", 2, frozenset())})
    with pytest.raises(LocalProtocolError, match="snapshot schema 2, this version reads 3"):
        core_of(Recorder(), durable=durable)


def test_at_start_each_machine_is_told_of_the_objects_that_its_state_names_and_are_gone() -> None:
    durable = Durable(
        "store-1",
        snapshots={
            "role-0": Snapshot(b"", 3, frozenset({"kept", "y", "x"})),
            "role-1": Snapshot(b"", 3, frozenset({"x"})),
        },
    )
    core = core_of(Recorder(), Recorder(), durable=durable)
    assert [(arrival.role, arrival.item) for arrival in core.lost(lambda digest: digest == "kept")] == [
        ("role-0", ObjectLost("x")),
        ("role-0", ObjectLost("y")),
        ("role-1", ObjectLost("x")),
    ]


def test_only_a_state_that_changed_is_written_again() -> None:
    class Idle(Recorder):
        def handle(self, item: Input, now_ns: int) -> list[Action]:
            return []

    assert does(core_of(Idle()), "go").snapshots == {}


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
