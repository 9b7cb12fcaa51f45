"""The satellite and a device of EMS-FL, input by input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orbitrain.machine import (
    Acknowledged,
    Action,
    ContactEnded,
    ContactStarted,
    Fate,
    JobDone,
    LocalProtocolError,
    ObjectLost,
    TimerFired,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols import emsfl
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.emsfl_world import SATELLITE, in_turns
from tests.trace.world import SECOND_NS
from tests.unit.protocols.emsfl.clusters import (
    END_NS,
    MASKED,
    NOW,
    PARAMS,
    change,
    device,
    digest,
    hello,
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

TRAINED = {"n_samples": 10}


def test_the_first_split_gives_models_to_those_in_contact() -> None:
    machine = emsfl.Satellite(PARAMS, in_turns)
    for name in ("east-0", "west-0", "west-1"):
        machine.handle(ContactStarted(name, "service", END_NS), NOW)
        assert not sent(told(machine, name, hello()), wire.Model)
    actions = told(machine, "east-1", hello())
    assert [report.fields["owners"] for report in reports(actions, "split")] == [["east", "west"]]
    assert sorted(one.to for one in sent(actions, wire.Model)) == ["east-0", "east-1", "west-0", "west-1"]


@pytest.mark.parametrize("message", [hello(), later(ready=True), later()])
def test_a_message_said_again_changes_nothing(message: wire.Hello) -> None:
    machine = second_pass()
    told(machine, "east-0", message)
    before = machine.snapshot()
    assert not told(machine, "east-0", message)
    assert machine.snapshot() == before


def test_an_update_said_again_is_refused_and_counts_once() -> None:
    machine = second_pass()
    assert reports(told(machine, "east-0", upload()), "update_accepted")
    again = told(machine, "east-0", upload(change(name="another")))
    assert [report.fields["reason"] for report in reports(again, "update_refused")] == [
        "an update of version 0 was counted before"
    ]
    assert len(machine.state.pending) == 1
    (job,) = jobs(told(machine, "east-1", upload(change(name="v"), samples=30)))
    assert job.params == {
        "items": {"expert/0": {"weights": [0.25, 0.75], "clips": [None, None], "rank": None}}
    }
    machine.handle(JobDone(job.job, {}, {"expert/0": digest("new")}), NOW)
    late = told(machine, "east-0", upload())
    assert reports(late, "update_refused") and not jobs(late)


def test_an_update_of_an_expert_of_others_is_refused_and_the_rest_of_it_taken() -> None:
    machine = second_pass()
    actions = told(machine, "east-0", upload(change("expert/1", name="w"), change()))
    assert [report.fields["item"] for report in reports(actions, "update_accepted")] == ["expert/0"]
    assert reports(actions, "update_refused")[0].fields["reason"] == "west owns it"


def test_no_model_goes_down_before_the_experts_have_come_up() -> None:
    machine = second_pass()
    told(machine, "east-0", upload())
    (job,) = jobs(told(machine, "east-1", upload(change(name="v"))))
    actions = machine.handle(JobDone(job.job, {}, {"expert/0": digest("new")}), NOW)
    assert [one.to for one in sent(actions, wire.Model)] == ["east-0", "east-1"]
    assert all(one.message.items["expert/0"].number == 1 for one in sent(actions, wire.Model))  # type: ignore[attr-defined]
    assert all(one.expires_at_ns == END_NS for one in sent(actions, wire.Model))


def test_gate_and_experts_are_two_commits() -> None:
    machine = satellite()
    number = machine.state.sessions["east"].guests["east-0"].model
    told(machine, "east-0", shared(model=number))
    (job,) = jobs(told(machine, "east-1", shared(change("gate", 0, "h"), model=number)))
    assert list(job.params["items"]) == ["gate"]
    actions = machine.handle(JobDone(job.job, {}, {"gate": digest("gate/1")}), NOW)
    assert reports(actions, "gate_committed") and not reports(actions, "expert_committed")
    assert [one.to for one in sent(actions, wire.Gate)] == ["east-0", "east-1"]
    again = told(machine, "east-0", shared(model=number))
    assert [report.fields["reason"] for report in reports(again, "update_refused")] == [
        "the gate has been merged"
    ]


def test_a_model_goes_to_a_device_again_that_says_it_has_none() -> None:
    machine = satellite()
    for key in list(machine.state.letters.values()):
        machine.handle(Acknowledged(key), NOW)
    assert not sent(told(machine, "east-0", later(model=1)), wire.Model)
    assert [one.to for one in sent(told(machine, "east-0", later(model=0)), wire.Model)] == ["east-0"]


def of_east(actions: list[Action]) -> list[Mapping[str, Any]]:
    """What is reported of passes of east that have ended."""
    found = [report.fields for report in reports(actions, "pass_ended")]
    return [fields for fields in found if fields["cluster"] == "east"]


def test_a_pass_ends_with_its_last_contact_and_counts_once() -> None:
    machine = satellite()
    assert not of_east(machine.handle(ContactEnded("east-0"), END_NS))
    ended = [{"cluster": "east", "cycle": 1, "uploads": 0, "gate": False}]
    assert of_east(machine.handle(ContactEnded("east-1"), END_NS)) == ended
    assert not of_east(machine.handle(ContactEnded("east-1"), END_NS))


def test_contacts_that_are_gone_before_the_believed_end_may_come_back_in_the_same_pass() -> None:
    machine = satellite()
    for name in ("east-0", "east-1"):
        assert not of_east(machine.handle(ContactEnded(name), NOW + 1))
    machine.handle(ContactStarted("east-0", "service", END_NS), NOW + 2)
    assert not of_east(machine.handle(ContactEnded("east-0"), NOW + 3))
    assert machine.deadline_ns() is not None
    assert len(of_east(machine.handle(TimerFired(), END_NS))) == 1


def test_a_pass_whose_end_the_satellite_slept_through_is_over() -> None:
    machine = satellite()
    again = emsfl.Satellite(PARAMS, in_turns)
    again.restore(machine.snapshot()[0], machine.schema)
    assert not reports(again.handle(TimerFired(), END_NS - 1), "pass_ended")
    assert again.deadline_ns() == END_NS
    assert reports(again.handle(TimerFired(), END_NS), "pass_ended")


def test_a_splitter_that_gives_experts_to_nobody_known_is_our_own_defect() -> None:
    def wrong(*arguments: object) -> object:
        return type("Wrong", (), {"owners": ["mars", "east"]})(), b""

    machine = emsfl.Satellite(PARAMS, wrong)  # type: ignore[arg-type]
    for name in ("east-0", "east-1", "west-0"):
        told(machine, name, hello())
    with pytest.raises(LocalProtocolError, match="mars"):
        told(machine, "west-1", hello())


@pytest.mark.parametrize("machine", [satellite(), device()])
def test_a_state_of_another_schema_is_not_read(machine: emsfl.Satellite | emsfl.Device) -> None:
    with pytest.raises(LocalProtocolError, match="snapshot schema 9, this version reads 1"):
        machine.restore(b"", 9)


# --- the device ---------------------------------------------------------------------------------------------


def trained(machine: emsfl.Device, now: int, **outputs: str) -> None:
    """Its round under way is done."""
    made = {"expert/0": digest("x"), **outputs}
    machine.handle(JobDone(machine.state.job, TRAINED, made), now)


def test_a_device_says_what_its_samples_are_for_until_that_has_arrived() -> None:
    machine = emsfl.Device(MASKED, "east-0")
    assert machine.deadline_ns() == 0
    (job,) = jobs(machine.handle(TimerFired(), 0))
    assert (job.kind, set(job.objects)) == ("moe.counts", {"backbone", "gate", "expert/0", "expert/1"})
    machine.handle(JobDone(job.job, {"counts": [[10, 0], [0, 10]], "samples": 10}, {}), 1)
    (first,) = sent(machine.handle(ContactStarted(SATELLITE, "service", END_NS), NOW), wire.Hello)
    assert list(first.message.counts) == [10, 0, 0, 10]  # type: ignore[attr-defined]
    machine.handle(Undelivered(first.key, Fate.EXPIRED), END_NS)
    machine.handle(ContactEnded(SATELLITE), END_NS)
    (second,) = sent(machine.handle(ContactStarted(SATELLITE, "service", 2 * END_NS), END_NS + 1), wire.Hello)
    assert second.message.surveyed  # type: ignore[attr-defined]
    machine.handle(Acknowledged(second.key), END_NS + 2)
    machine.handle(ContactEnded(SATELLITE), 2 * END_NS)
    actions = machine.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS)
    assert not sent(actions, wire.Hello)[0].message.surveyed  # type: ignore[attr-defined]


def test_only_the_connected_round_trains_the_gate() -> None:
    machine = device()
    trained(machine, NOW, gate=digest("g"))
    machine.handle(ContactEnded(SATELLITE), NOW)
    due = machine.deadline_ns()
    assert due == NOW + PARAMS.pace.slot_ns
    (job,) = jobs(machine.handle(TimerFired(), END_NS))
    assert (job.params["gate"], job.params["experts"]) == (False, [0])
    assert job.objects["expert/0"] == digest("x"), "from where the last round ended"


def test_rounds_stop_at_their_bound() -> None:
    machine = device()
    trained(machine, NOW)
    machine.handle(ContactEnded(SATELLITE), NOW)
    for n in range(1, 3):
        machine.handle(TimerFired(), NOW + n * PARAMS.pace.slot_ns)
        trained(machine, NOW + n * PARAMS.pace.slot_ns)
    assert machine.state.work.rounds == PARAMS.pace.rounds_max == 3
    assert machine.deadline_ns() is None


def calling() -> emsfl.Device:
    """In its second contact, with an upload under way."""
    machine = device()
    trained(machine, NOW)
    machine.handle(ContactEnded(SATELLITE), NOW)
    machine.handle(ContactStarted(SATELLITE, "service", 3 * END_NS), 2 * END_NS)
    machine.handle(JobDone(machine.state.packing[0], {}, {"update/expert/0": digest("u")}), 2 * END_NS)
    assert machine.state.sending
    return machine


def test_nothing_is_trained_while_an_upload_is_under_way() -> None:
    machine = calling()
    assert machine.deadline_ns() is None
    assert not jobs(told(machine, SATELLITE, model(2, {"expert/0": 1}), now=2 * END_NS))
    (job,) = jobs(machine.handle(Acknowledged(machine.state.sending), 2 * END_NS))
    assert job.kind == "moe.train"
    assert job.params["gate"], "the connected round"


def test_an_upload_never_expires_and_is_not_trained_on_twice() -> None:
    machine = calling()
    machine.handle(ContactEnded(SATELLITE), 3 * END_NS)
    machine.handle(Acknowledged(machine.state.sending), 3 * END_NS)
    assert machine.deadline_ns() is None, "what was trained from this model is gone up"
    actions = machine.handle(ContactStarted(SATELLITE, "service", 5 * END_NS), 4 * END_NS)
    assert not sent(actions, wire.Hello)[0].message.ready  # type: ignore[attr-defined]


def test_an_upload_that_is_refused_is_over_and_that_is_said() -> None:
    machine = calling()
    actions = machine.handle(Undelivered(machine.state.sending, Fate.REFUSED, "no"), 2 * END_NS)
    assert reports(actions, "update_ended")[0].fields["fate"] == "refused"
    assert not sent(actions, wire.Hello)[0].message.ready  # type: ignore[attr-defined]


def test_an_update_whose_object_is_lost_is_withdrawn() -> None:
    machine = calling()
    actions = machine.handle(ObjectLost(digest("u")), 2 * END_NS)
    assert any(isinstance(one, Withdraw) for one in actions)
    assert not machine.state.outgoing.rounds


def test_nothing_is_trained_from_a_model_that_is_lost() -> None:
    machine = device()
    actions = machine.handle(ObjectLost(PARAMS.model.items["gate"]), NOW)
    assert sent(actions, wire.Hello) and not jobs(actions)
    assert machine.deadline_ns() is None


def test_the_same_model_again_changes_nothing() -> None:
    machine = device()
    before = machine.snapshot()
    assert not told(machine, SATELLITE, model())
    assert machine.snapshot() == before


def test_a_new_model_in_which_the_own_experts_are_as_they_were_leaves_the_work() -> None:
    machine = device()
    trained(machine, NOW)
    told(machine, SATELLITE, model(2, {"expert/1": 1, "gate": 1}), now=NOW + SECOND_NS)
    assert machine.state.work.rounds == 1
    assert machine.state.adopted.items["gate"].number == 1


def test_a_new_model_with_new_experts_sends_up_what_was_trained_from_the_last() -> None:
    machine = device()
    trained(machine, NOW)
    (job,) = jobs(told(machine, SATELLITE, model(2, {"expert/0": 1}), now=NOW + SECOND_NS))
    assert job.kind == "moe.pack"
    assert machine.state.outgoing.rounds == 1
