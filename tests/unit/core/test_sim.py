"""The virtual-time driver over two nodes and one link: letters, contacts, jobs and crashes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from google.protobuf.message import Message

from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.updates import spliced
from orbitrain.learning.outcome import JobError
from orbitrain.machine import (
    Acknowledged,
    Action,
    CancelJob,
    CommandReceived,
    ContactEnded,
    ContactStarted,
    Delivered,
    Digest,
    Input,
    JobDone,
    JobFailed,
    Lane,
    Machine,
    PlanUpdated,
    Report,
    Send,
    Severity,
    StartJob,
    TimerFired,
    Undelivered,
    Withdraw,
)
from orbitrain.mailbox import ENVELOPE_BYTES
from orbitrain.sim import CrashPoint, Settings, Simulation
from orbitrain.step import Job
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, plan_of, ring

DEVICE = "home-0"
SETTINGS = Settings(acquisition_ns=SECOND_NS, handling_ns=SECOND_NS, down_ns=3 * SECOND_NS)
SLOW_BPS = (ENVELOPE_BYTES + 44) * 8
"""About a second for a letter, a second more for each 300 bytes of objects."""

Script = Callable[[Input, int], Iterable[Action]]


class Scripted:
    """Does what a function says at whole seconds (`wakes`), and writes down what it hears."""

    schema = 1
    accepts: tuple[type[Message], ...] = (wire.Poll,)

    def __init__(self, script: Script, wakes: Iterable[int], log: list[str]) -> None:
        self.script, self.log = script, log
        self.wakes = sorted(wakes)
        self.done = 0

    def handle(self, item: Input, now_ns: int) -> list[Action]:
        text = type(item).__name__
        match item:
            case Delivered(message=wire.Poll() as poll):
                text += f" {poll.region}"
            case Acknowledged(key=key):
                text += f" {key}"
            case Undelivered(key=key, fate=fate, reason=reason):
                text += f" {key} {fate.value} {reason}".rstrip()
            case JobDone(job=job, objects=objects):
                text += f" {job} {','.join(objects.values())}"
            case JobFailed(job=job, reason=reason):
                text += f" {job} {reason}"
            case ContactStarted(peer=peer) | ContactEnded(peer=peer):
                text += f" {peer}"
            case PlanUpdated(revision=revision):
                text += f" {revision}"
            case TimerFired():
                self.done += 1
        actions = list(self.script(item, now_ns // SECOND_NS))
        return [*actions, Report("heard", Severity.DIAGNOSTIC, {"what": text})]

    def deadline_ns(self) -> int | None:
        left = self.wakes[self.done :]
        return left[0] * SECOND_NS if left else None

    def snapshot(self) -> tuple[bytes, frozenset[Digest]]:
        return str(self.done).encode(), frozenset({"kept"})

    def restore(self, state: bytes, schema: int) -> None:
        self.done = int(state)


class Workshop:
    """Objects of 300 bytes, unless said otherwise; a job's output is named after its input."""

    def __init__(self, sizes: Mapping[Digest, int] = MappingProxyType({})) -> None:
        self.sizes = sizes

    def size_of(self, digest: Digest) -> int:
        return self.sizes.get(digest, 300)

    def keep(self, digests: set[Digest]) -> None:
        pass

    def run(self, node: str, job: Job) -> tuple[Mapping[str, Any], Mapping[str, Digest]]:
        if job.kind == "fail":
            raise JobError("no luck")
        return {}, {"out": f"out-of-{job.objects['in']}"}


def nothing(item: Input, second: int) -> Iterable[Action]:
    return ()


def at_seconds(plan: Mapping[int, list[Action]]) -> Script:
    def script(item: Input, second: int) -> Iterable[Action]:
        return plan.get(second, ()) if isinstance(item, TimerFired) else ()

    return script


def letter(key: str, *objects: Digest, lane: Lane = Lane.UPDATE, to: str = DEVICE, **changes: Any) -> Send:
    return Send(to, "role", key, wire.Poll(region=key), lane, objects, **changes)


def plan(*windows: tuple[int, int], duration_s: int = 100) -> ContactPlan:
    rates = {("sat", DEVICE): SLOW_BPS}
    return plan_of(ring("home", devices=1), {("sat", "home"): windows}, duration_s, rates)


def simulate(
    contacts: ContactPlan,
    sends: Mapping[int, list[Action]],
    faults: Callable[[Simulation], None] = lambda simulation: None,
    answers: Script = nothing,
    truth: ContactPlan | None = None,
    sizes: Mapping[Digest, int] = MappingProxyType({}),
) -> Simulation:
    """The satellite acts at the given seconds; the device answers. `sizes` are of objects, bytes."""
    simulation = Simulation(contacts, SETTINGS, Workshop(sizes), truth)

    def satellite() -> Mapping[str, Machine]:
        return {"role": Scripted(at_seconds(sends), sends, [])}

    sent = {
        digest for some in sends.values() for one in some if isinstance(one, Send) for digest in one.objects
    }
    simulation.add("sat", satellite, sorted({"kept", *sent}))
    simulation.add(DEVICE, lambda: {"role": Scripted(answers, (), [])}, ["kept"])
    faults(simulation)
    simulation.run()
    return simulation


def heard(simulation: Simulation, node: str) -> list[str]:
    """`second: what`, without the timers."""
    lines = [
        f"{entry.event.t_ns // SECOND_NS}: {entry.event.fields['what']}"
        for entry in simulation.entries()
        if entry.node == node and entry.event.kind == "heard"
    ]
    return [line for line in lines if not line.endswith("TimerFired")]


def kill(t_s: int, node: str, lose_disk: bool = False) -> Callable[[Simulation], None]:
    return lambda simulation: simulation.at(t_s * SECOND_NS, lambda: simulation.kill(node, lose_disk))


def crash(node: str, step: int, point: CrashPoint) -> Callable[[Simulation], None]:
    def fault(simulation: Simulation) -> None:
        simulation.crash = lambda *where: where == (node, step, point)

    return fault


def test_a_letter_posted_before_the_contact_goes_when_it_is_confirmed() -> None:
    found = simulate(plan((10, 30)), {1: [letter("a")]})
    assert heard(found, "sat") == [
        "11: ContactStarted home-0",
        "13: Acknowledged a",
        "30: ContactEnded home-0",
    ]
    assert heard(found, DEVICE) == ["11: ContactStarted sat", "12: Delivered a", "30: ContactEnded sat"]


def test_one_letter_is_in_the_air_at_a_time_and_the_urgent_overtake() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x", "y"), letter("b"), letter("c", lane=Lane.CONTROL)]}
    assert [line for line in heard(simulate(plan((10, 60)), sends), DEVICE) if "Delivered" in line] == [
        "12: Delivered c",
        "17: Delivered a",
        "20: Delivered b",
    ]


def test_an_object_that_is_there_already_is_not_sent_again() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x"), letter("b", "x")]}
    sizes = [
        entry.event.fields["bytes"]
        for entry in simulate(plan((10, 60)), sends).entries()
        if entry.event.kind == "letter_delivered"
    ]
    assert [size - sizes[1] for size in sizes] == [300, 0]


def test_what_does_not_fit_lets_others_pass_and_fills_what_is_left_of_the_contact() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x", "y", "z", "w"), letter("b", lane=Lane.BULK)]}
    parts: list[dict[str, int]] = []

    def look(simulation: Simulation) -> None:
        simulation.at(20 * SECOND_NS, lambda: parts.append(simulation.partial(DEVICE)))

    found = simulate(plan((10, 16), (40, 60)), sends, look)
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == [
        "12: Delivered b",
        "44: Delivered a",
    ]
    # From 13.9 on, when b is answered, until 16: two objects and a bit of the third.
    assert parts == [{"z": 37}]
    assert found.partial(DEVICE) == {}


def test_an_object_larger_than_any_contact_comes_over_several_and_nothing_of_it_twice() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(14)))]}
    found = simulate(plan((10, 16), (20, 26), (30, 36), (40, 46)), sends)
    # 4,200 bytes take 14 s and the letter almost another; each contact has 5 of them after its acquisition.
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["42: Delivered a"]


def test_an_urgent_letter_takes_the_link_at_the_border_of_a_chunk() -> None:
    """Chunks are of 64 KiB at least: at 80 kbit/s they take 6.5 s each."""
    rates = {("sat", DEVICE): 80_000}
    contacts = plan_of(ring("home", devices=1), {("sat", "home"): [(10, 90)]}, 100, rates)
    sends: dict[int, list[Action]] = {
        1: [letter("a", "large")],
        12: [letter("urgent", lane=Lane.CONTROL)],
        13: [letter("later", lane=Lane.BULK)],
    }
    found = simulate(contacts, sends, sizes={"large": 300_000})
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == [
        "18: Delivered urgent",
        "44: Delivered a",
        "46: Delivered later",
    ]


def test_objects_of_a_letter_that_is_superseded_stop_at_the_border_of_a_chunk_and_are_dropped() -> None:
    rates = {("sat", DEVICE): 80_000}
    contacts = plan_of(ring("home", devices=1), {("sat", "home"): [(10, 90)]}, 100, rates)
    sends: dict[int, list[Action]] = {
        1: [letter("old", "stale")],
        12: [letter("new", "fresh", supersedes="old")],
    }
    found = simulate(contacts, sends, sizes={"stale": 300_000, "fresh": 100_000})
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["28: Delivered new"]
    assert "12: Undelivered old superseded" in heard(found, "sat")
    assert found.partial(DEVICE) == {"stale": 64 * 1024}
    shelf = found.nodes[DEVICE].shelf
    shelf.keep(set(), found.now_ns)
    assert shelf.partial == {}  # nothing is expected for it any more


def test_objects_of_a_letter_that_expires_on_the_way_go_no_further_but_are_kept_for_another() -> None:
    rates = {("sat", DEVICE): 80_000}
    contacts = plan_of(ring("home", devices=1), {("sat", "home"): [(10, 90)]}, 100, rates)
    sends: dict[int, list[Action]] = {
        1: [letter("a", "large", expires_at_ns=20 * SECOND_NS)],
        50: [letter("again", "large")],
    }
    found = simulate(contacts, sends, sizes={"large": 200_000})
    assert "20: Undelivered a expired" in heard(found, "sat")
    # Two chunks have come of it: the 69 kB that are left, and the letter, take seven seconds.
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["57: Delivered again"]


@pytest.mark.parametrize(("who", "delivered_s"), [("sat", 26), (DEVICE, 31)])
def test_what_has_arrived_when_either_end_dies_need_not_come_again(who: str, delivered_s: int) -> None:
    """Of ten objects five are there at 16. Back at 19, a sender goes on at 20; one that waits for its answer
    asks for it at 24."""
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(10)))]}
    found = simulate(plan((10, 60)), sends, kill(16, who))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == [f"{delivered_s}: Delivered a"]


def test_a_contact_too_short_to_be_confirmed_is_none() -> None:
    assert heard(simulate(plan((10, 11)), {1: [letter("a")]}), "sat") == []


def test_a_letter_expires_at_its_sender_if_it_was_never_tried() -> None:
    found = simulate(plan((50, 60)), {1: [letter("a", expires_at_ns=7 * SECOND_NS)]})
    assert heard(found, "sat")[0] == "7: Undelivered a expired"
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]


def test_a_letter_withdrawn_before_it_was_tried_ends_at_once_and_moves_nothing() -> None:
    for second in (5, 20):  # without a contact, and in one
        found = simulate(plan((10, 60)), {second: [letter("a"), Withdraw("a")]})
        assert f"{second}: Undelivered a withdrawn" in heard(found, "sat")
        assert not [entry for entry in found.entries() if entry.event.fields.get("bytes")]


def test_a_letter_withdrawn_in_the_air_may_have_been_delivered() -> None:
    found = simulate(plan((10, 60)), {1: [letter("a", "x", "y")], 12: [Withdraw("a")]})
    assert "14: Delivered a" in heard(found, DEVICE)
    assert "15: Acknowledged a" in heard(found, "sat")


def test_a_letter_withdrawn_in_doubt_ends_when_the_receiver_says_so() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x")], 20: [Withdraw("a")]}
    found = simulate(plan((10, 17), (40, 60)), sends, kill(12, DEVICE))
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]
    assert "43: Undelivered a withdrawn" in heard(found, "sat")


def test_a_letter_expired_in_doubt_ends_when_the_receiver_says_so() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", "x", expires_at_ns=30 * SECOND_NS)]}
    found = simulate(plan((10, 17), (40, 60)), sends, kill(12, DEVICE))
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]
    assert "43: Undelivered a expired" in heard(found, "sat")  # without its object


def test_a_letter_for_a_role_that_is_not_there_is_refused_with_the_reason() -> None:
    stray = Send(DEVICE, "nobody", "a", wire.Poll(), Lane.CONTROL)
    assert "13: Undelivered a refused this node has no role 'nobody'" in heard(
        simulate(plan((10, 60)), {1: [stray]}), "sat"
    )


@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_receiver_that_crashes_takes_a_letter_once(step: int, point: CrashPoint) -> None:
    found = simulate(plan((10, 60)), {1: [letter("a"), letter("b")]}, crash(DEVICE, step, point))
    assert [line.split(": ")[1] for line in heard(found, DEVICE) if "Delivered" in line] == [
        "Delivered a",
        "Delivered b",
    ]
    assert [line.split(": ")[1] for line in heard(found, "sat") if "Acknow" in line] == [
        "Acknowledged a",
        "Acknowledged b",
    ]


@pytest.mark.parametrize("point", list(CrashPoint))
@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_letter_of_a_sender_that_crashes_is_delivered_once(step: int, point: CrashPoint) -> None:
    found = simulate(plan((10, 60)), {1: [letter("a"), letter("b")]}, crash("sat", step, point))
    assert [line.split(": ")[1] for line in heard(found, DEVICE) if "Delivered" in line] == [
        "Delivered a",
        "Delivered b",
    ]
    assert [line.split(": ")[1] for line in heard(found, "sat") if "Acknow" in line] == [
        "Acknowledged a",
        "Acknowledged b",
    ]


def test_a_transfer_does_not_survive_the_crash_of_its_receiver() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(9)))]}
    found = simulate(plan((10, 60)), sends, kill(12, DEVICE))
    calm = simulate(plan((10, 60)), sends)
    assert "21: Delivered a" in heard(calm, DEVICE)
    arrived = next(int(line.split(":")[0]) for line in heard(found, DEVICE) if "Delivered" in line)
    assert arrived >= 16 + 10


def test_a_node_that_lost_its_disk_begins_contacts_and_mailboxes_anew() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a")], 30: [letter("b")]}
    found = simulate(plan((10, 60)), sends, kill(20, DEVICE, lose_disk=True))
    assert heard(found, "sat") == [
        "11: ContactStarted home-0",
        "13: Acknowledged a",
        "24: ContactEnded home-0",
        "24: ContactStarted home-0",
        "32: Acknowledged b",
        "60: ContactEnded home-0",
    ]
    assert found.journal(DEVICE).load().incarnation != "sim-2"


@pytest.mark.parametrize("down", [7, 8, 9])
def test_a_node_that_is_back_about_when_a_contact_is_acquired_still_meets(down: int) -> None:
    """Down at 7, 8 and 9: back before, at and after the instant at which the contact is confirmed."""
    found = simulate(plan((10, 60)), {1: [letter("a")]}, kill(down, DEVICE))
    assert any("Acknowledged a" in line for line in heard(found, "sat"))


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


# ---------------------------------------------------------------------------- believed and true plans


def test_contacts_come_when_they_truly_do_whatever_is_believed() -> None:
    found = simulate(plan((10, 30), (50, 70)), {1: [letter("a")]}, truth=plan((15, 25), (35, 45)))
    assert heard(found, "sat") == [
        "16: ContactStarted home-0",
        "18: Acknowledged a",
        "25: ContactEnded home-0",
        "36: ContactStarted home-0",
        "45: ContactEnded home-0",
    ]


def test_the_end_of_a_contact_is_told_as_it_is_believed_and_not_at_all_if_it_is_not() -> None:
    ends: dict[int, int | None] = {}

    def note(item: Input, second: int) -> Iterable[Action]:
        if isinstance(item, ContactStarted):
            ends[second] = item.end_ns
        return ()

    simulate(plan((10, 30)), {}, answers=note, truth=plan((15, 25), (35, 45)))
    assert ends == {16: 30 * SECOND_NS, 36: None}


def test_a_letter_cut_off_never_arrives_and_is_delivered_once_at_the_next_contact() -> None:
    """Believed to have time; sending its objects takes four seconds more than there truly are."""
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(6)))]}
    found = simulate(plan((10, 60)), sends, truth=plan((10, 15), (40, 60)))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["44: Delivered a"]
    assert [line for line in heard(found, "sat") if "Acknowledged" in line] == ["45: Acknowledged a"]


def test_a_letter_whose_answer_is_cut_off_has_arrived_and_is_known_at_the_next_contact() -> None:
    found = simulate(plan((10, 60)), {1: [letter("a")]}, truth=plan((10, 13), (40, 60)))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["12: Delivered a"]
    assert [line for line in heard(found, "sat") if "Acknowledged" in line] == ["43: Acknowledged a"]


@pytest.mark.parametrize(("objects", "ends_s"), [(6, 20), (4, 43)])
def test_a_letter_withdrawn_after_it_was_cut_off_is_not_delivered(objects: int, ends_s: int) -> None:
    """Cut with its objects still going out it is the sender's; cut when it was out itself it is in doubt."""
    sends: dict[int, list[Action]] = {
        1: [letter("a", *(f"x{n}" for n in range(objects)))],
        20: [Withdraw("a")],
    }
    found = simulate(plan((10, 60)), sends, truth=plan((10, 15 if objects == 6 else 16), (40, 60)))
    assert not [line for line in heard(found, DEVICE) if "Delivered" in line]
    assert f"{ends_s}: Undelivered a withdrawn" in heard(found, "sat")


def test_what_does_not_fit_by_the_believed_end_is_tried_when_the_link_outlasts_it() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(6)))]}
    found = simulate(plan((10, 16)), sends, truth=plan((10, 40)))
    assert [line for line in heard(found, DEVICE) if "Delivered" in line] == ["18: Delivered a"]


def following(current: ContactPlan, at_s: int, *windows: tuple[int, int]) -> ContactPlan:
    return spliced(current, plan(*windows), at_s * SECOND_NS)


def test_an_update_is_told_at_its_instant_and_after_a_crash_when_the_node_is_back() -> None:
    believed = plan((10, 30))
    update = following(believed, 40, (50, 60))

    def fault(simulation: Simulation) -> None:
        simulation.update(40 * SECOND_NS, update)
        kill(39, DEVICE)(simulation)

    found = simulate(believed, {}, fault, truth=plan((10, 30)))
    told = [e for e in found.entries() if e.event.kind == "plan_updated"]
    assert [(e.node, e.event.t_ns // SECOND_NS) for e in told] == [("sat", 40), (DEVICE, 42)]
    assert {(e.event.fields["revision"], e.event.fields["sha256"]) for e in told} == {(1, update.sha256)}
    assert "42: PlanUpdated 1" in heard(found, DEVICE)


@pytest.mark.parametrize("point", list(CrashPoint))
def test_a_crash_in_the_step_that_takes_up_an_update_takes_it_up_once(point: CrashPoint) -> None:
    believed = plan((10, 30))

    def fault(simulation: Simulation) -> None:
        simulation.update(5 * SECOND_NS, following(believed, 5, (10, 30)))
        crash(DEVICE, 1, point)(simulation)

    found = simulate(believed, {1: [letter("a")]}, fault)
    told = [e for e in found.entries() if e.event.kind == "plan_updated" and e.node == DEVICE]
    assert len(told) == 1


def test_a_believed_contact_that_an_update_makes_longer_takes_what_did_not_fit() -> None:
    sends: dict[int, list[Action]] = {1: [letter("a", *(f"x{n}" for n in range(6)))], 14: [letter("b")]}
    believed = plan((10, 18))
    found = simulate(
        believed,
        sends,
        lambda simulation: simulation.update(14 * SECOND_NS, following(believed, 14, (10, 40))),
        truth=plan((10, 40)),
    )
    assert "18: Delivered a" in heard(found, DEVICE)


def test_without_a_true_plan_links_follow_an_update_and_contacts_in_progress_go_on() -> None:
    believed = plan((10, 30), (70, 80))
    update = following(believed, 20, (10, 40), (50, 60))
    found = simulate(
        believed,
        {1: [letter("a")], 35: [letter("b")]},
        lambda simulation: simulation.update(20 * SECOND_NS, update),
    )
    assert heard(found, "sat") == [
        "11: ContactStarted home-0",
        "13: Acknowledged a",
        "20: PlanUpdated 1",
        "37: Acknowledged b",
        "40: ContactEnded home-0",
        "51: ContactStarted home-0",
        "60: ContactEnded home-0",
    ]


def test_without_a_true_plan_an_update_ends_a_contact_that_it_does_not_have() -> None:
    believed = plan((10, 30))
    update = following(believed, 20, (50, 60))
    found = simulate(believed, {}, lambda simulation: simulation.update(20 * SECOND_NS, update))
    assert heard(found, "sat")[1:3] == ["20: PlanUpdated 1", "20: ContactEnded home-0"]


def test_an_update_that_does_not_follow_is_refused_also_if_the_one_before_it_waits() -> None:
    believed = plan((10, 30))
    simulation = Simulation(believed, SETTINGS, Workshop())
    first = following(believed, 20, (50, 60))
    simulation.update(20 * SECOND_NS, first)
    with pytest.raises(ValueError, match="plan: it is another plan under the same revision 1"):
        simulation.update(30 * SECOND_NS, following(believed, 20, (50, 70)))
    simulation.update(30 * SECOND_NS, following(first, 30, (50, 70)))
    with pytest.raises(ValueError, match="at_ns: must be after 0, not 0"):
        simulation.update(0, replace(first, revision=9))


def test_an_older_update_does_not_come_after_a_newer_one() -> None:
    believed = plan((10, 30))
    first = following(believed, 20, (50, 60))

    def fault(simulation: Simulation) -> None:
        simulation.update(20 * SECOND_NS, first)
        simulation.update(15 * SECOND_NS, following(first, 15, (70, 80)))

    found = simulate(believed, {}, fault)
    assert [line for line in heard(found, "sat") if "Plan" in line] == ["15: PlanUpdated 2"]
    assert "71: ContactStarted home-0" in heard(found, "sat")


# ------------------------------------------------------------------------------------------- commands


def test_a_command_reaches_its_machine_with_its_objects_and_a_node_that_is_down_takes_none() -> None:
    taken: list[bool] = []
    command = CommandReceived("send", {}, ("fresh",))

    def faults(simulation: Simulation) -> None:
        def give() -> None:
            taken.append(simulation.command(DEVICE, "role", command))

        simulation.at(5 * SECOND_NS, give)
        simulation.at(10 * SECOND_NS, lambda: simulation.kill(DEVICE))
        simulation.at(11 * SECOND_NS, give)
        simulation.at(20 * SECOND_NS, give)

    found = simulate(plan((60, 70)), {}, faults)
    assert taken == [True, False, True]
    assert [line for line in heard(found, DEVICE) if "Command" in line] == [
        "5: CommandReceived",
        "20: CommandReceived",
    ]
    assert "fresh" in found.holds(DEVICE)


def test_a_command_whose_node_dies_before_the_commit_is_lost() -> None:
    for point, kept in ((CrashPoint.BEFORE_COMMIT, 0), (CrashPoint.AFTER_COMMIT, 1)):

        def faults(simulation: Simulation, point: CrashPoint = point) -> None:
            simulation.crash = lambda node, step, at: (node, step, at) == (DEVICE, 1, point)
            give = CommandReceived("send", {}, ("fresh",))
            simulation.at(5 * SECOND_NS, lambda: simulation.command(DEVICE, "role", give) and None)

        found = simulate(plan((60, 70)), {}, faults)
        assert len([line for line in heard(found, DEVICE) if "Command" in line]) == kept
