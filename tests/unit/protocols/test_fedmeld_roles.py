"""Each role alone: what it refuses, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from orbitrain.machine import (
    Acknowledged,
    Action,
    CancelJob,
    ContactStarted,
    Delivered,
    Digest,
    Fate,
    JobDone,
    JobFailed,
    Lane,
    LocalProtocolError,
    ObjectLost,
    PlanUpdated,
    RemoteProtocolError,
    Report,
    Send,
    StartJob,
    TimerFired,
    Undelivered,
    Withdraw,
)
from orbitrain.protocols import fedmeld
from orbitrain.protocols.fedmeld.rules import SAMPLES_MAX, initial_record
from orbitrain.roles import RegionServices, fedmeld_machines
from orbitrain.v1 import fedmeld_pb2 as wire
from tests.trace.world import SECOND_NS, Passes, params_of, plan_of, ring

RING = ring("north", "south")
PASSES: Passes = {
    ("sat-1", "north"): [(0, 100), (300, 400)],
    ("sat-2", "north"): [(100, 200)],
    ("sat-1", "south"): [(200, 290)],
    ("sat-2", "south"): [(0, 90)],
}
ORBITS = RegionServices(plan_of(RING, PASSES, 500), RING)
NOW = 10 * SECOND_NS
PARAMS = params_of(RING, "initial", rounds=6, delta=2)


def device() -> fedmeld.Device:
    return fedmeld.Device(PARAMS, ORBITS, "north-0", "north")


def satellite() -> fedmeld.Satellite:
    return fedmeld.Satellite(PARAMS, ORBITS, "sat-1")


def record(number: int, digest: str = "", region: str = "north") -> wire.ModelRecord:
    digest = digest or f"m{number}"
    return wire.ModelRecord(region=region, round=number, digest=digest, pre_digest=digest)


def model(number: int, digest: str = "", region: str = "north", opens: bool = True) -> wire.Model:
    return wire.Model(record=record(number, digest, region), opens_round=opens)


def update(number: int = 1, base: str = "initial", digest: str = "u", **changes: object) -> wire.Update:
    values = {"region": "north", "round": number, "base": base, "digest": digest, "samples": 10, **changes}
    return wire.Update(**values)


def status(number: int = 0, region: str = "north", mixing: tuple[wire.ModelRecord, ...] = ()) -> wire.Status:
    known = record(number, region=region) if number else initial_record(PARAMS, region)
    return wire.Status(region=region, model=known, mixing=mixing)


def sent(actions: list[Action], kind: type[Message]) -> list[Send]:
    return [one for one in actions if isinstance(one, Send) and isinstance(one.message, kind)]


def reports(actions: list[Action]) -> list[str]:
    return [one.kind for one in actions if isinstance(one, Report)]


def told(
    machine: fedmeld.Device | fedmeld.Satellite,
    source: str,
    message: Message,
    *objects: Digest,
    now: int = NOW,
) -> list[Action]:
    return machine.handle(Delivered(source, message, objects), now)


def serving() -> fedmeld.Satellite:
    """In contact with both devices of the region, which have told what they hold: round 1 is open."""
    machine = satellite()
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
    told(machine, "north-0", status())
    assert len(sent(told(machine, "north-1", status()), wire.Model)) == 2
    return machine


def trained() -> fedmeld.Device:
    """Has trained round 1 for sat-1, and its update is under way."""
    machine = device()
    assert [one.job for one in told(machine, "sat-1", model(0, "initial")) if isinstance(one, StartJob)] == [
        "train/1/0"
    ]
    machine.handle(JobDone("train/1/0", {"n_samples": 10}, {"update": "u1"}), NOW)
    return machine


# ------------------------------------------------------------------------------------------ refusals


def at_round_two() -> fedmeld.Device:
    machine = device()
    told(machine, "sat-1", model(2), "m2")
    return machine


@pytest.mark.parametrize(
    ("source", "message", "objects", "reason"),
    [
        ("sat-1", wire.Poll(region="south"), (), "this device belongs to north, not to 'south'"),
        ("sat-1", wire.Poll(region="x" * 99), (), "this device belongs to north, not to 'x{64}'$"),
        ("sat-2", wire.Poll(region="north"), (), "sat-2 does not serve north now"),
        ("north-1", wire.Poll(region="north"), (), "north-1 does not serve north now"),
        ("sat-1", model(3, region="south"), ("m3",), "this device belongs to north, not to 'south'"),
        ("sat-2", model(3), ("m3",), "sat-2 does not serve north now"),
        ("sat-1", model(7), ("m7",), r"round 7 is not one of 0\.\.6"),
        ("sat-1", model(-1), ("m-1",), r"round -1 is not one of 0\.\.6"),
        ("sat-1", model(2, "fork"), ("fork",), "another model of round 2 was adopted here"),
        ("sat-1", model(3), (), "the model of round 3 came without its object"),
        ("sat-1", model(3), ("other",), "the model of round 3 came without its object"),
        ("sat-1", wire.Fetch(region="south", digest="m2"), (), "this device belongs to north"),
        ("sat-2", wire.Fetch(region="north", digest="m2"), (), "sat-2 does not serve north now"),
        ("sat-1", wire.Fetch(region="north", digest="x" * 99), (), "no object 'x{64}' here"),
    ],
)
def test_a_device_refuses_and_stays_as_it_was(
    source: str, message: Message, objects: tuple[Digest, ...], reason: str
) -> None:
    machine = at_round_two()
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=reason):
        told(machine, source, message, *objects)
    assert machine.snapshot() == before


def test_a_device_refuses_everybody_while_nobody_serves() -> None:
    machine = device()
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match="sat-1 does not serve north now"):
        told(machine, "sat-1", wire.Poll(region="north"), now=450 * SECOND_NS)
    assert machine.snapshot() == before


def test_a_mixing_rounds_model_needs_what_will_be_carried_too() -> None:
    pre = params_of(RING, "initial", rounds=6, delta=2, carry="pre")
    machine = fedmeld.Device(pre, ORBITS, "north-0", "north")
    mixed = wire.ModelRecord(region="north", round=2, digest="m2", pre_digest="p2")
    message = wire.Model(record=mixed, opens_round=True)
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match="the model of round 2 came without its object"):
        told(machine, "sat-1", message, "m2")
    assert machine.snapshot() == before
    assert "model_adopted" in reports(told(machine, "sat-1", message, "m2", "p2"))
    assert machine.snapshot()[1] == {"initial", "m2", "p2"}


@pytest.mark.parametrize("opens", [True, False])
def test_an_older_model_than_the_adopted_one_is_nothing(opens: bool) -> None:
    machine = at_round_two()
    before = machine.snapshot()
    assert told(machine, "sat-1", model(1, opens=opens), "m1") == []
    assert machine.snapshot() == before


MIXING = tuple(record(2, f"x{n}") for n in range(3))


@pytest.mark.parametrize(
    ("source", "message", "objects", "reason"),
    [
        ("north-0", status(region="nowhere"), (), "there is no region 'nowhere'"),
        ("north-0", status(region="south"), (), "north-0 is no device of south"),
        ("sat-2", status(), (), "sat-2 is no device of north"),
        ("north-0", wire.Status(region="north"), (), "a status without its region's model"),
        ("north-0", wire.Status(region="north", model=record(1, region="south")), (), "without its region's"),
        ("north-0", status(7), (), r"round 7 is not one of 0\.\.6"),
        ("north-0", status(-1), (), r"round -1 is not one of 0\.\.6"),
        ("north-0", status(1, mixing=(record(99),)), (), r"round 99 is not one of 0\.\.6"),
        ("north-0", status(2, mixing=MIXING), (), "a status with more mixing models than regions"),
        ("north-0", status(2, mixing=(record(1),)), (), "round 1 mixes nothing"),
        ("north-0", status(2, mixing=(record(0),)), (), "round 0 mixes nothing"),
        ("north-0", status(2, mixing=(record(2, region="nowhere"),)), (), "a mixing model of another region"),
        ("north-0", status(2, mixing=(record(2, region="south"),)), (), "a mixing model of another region"),
        ("north-0", status(2, mixing=(wire.ModelRecord(region="north", round=2),)), (), "without a digest"),
        ("north-0", update(), (), "the object it names did not come with it"),
        ("north-0", update(), ("other",), "the object it names did not come with it"),
        ("south-0", update(), ("u",), "south-0 is no device of north"),
        ("north-0", update(region="nowhere"), ("u",), "there is no region 'nowhere'"),
        ("north-0", update(0), ("u",), r"round 0 is not one of 1\.\.6"),
        ("north-0", update(7), ("u",), r"round 7 is not one of 1\.\.6"),
        ("north-0", update(2), ("u",), "round 2 of north was never opened"),
        ("north-0", update(base="elsewhere"), ("u",), "trained from another model than round 0's"),
        ("north-0", update(samples=0), ("u",), "0 samples, allowed are 1"),
        ("north-0", update(samples=-5), ("u",), "-5 samples, allowed are 1"),
        ("north-0", update(samples=SAMPLES_MAX + 1), ("u",), "samples, allowed are 1"),
        ("north-0", wire.Found(region="north", digest="f"), (), "the object it names did not come with it"),
        ("south-0", wire.Found(region="north", digest="f"), ("f",), "south-0 is no device of north"),
    ],
)
def test_a_satellite_refuses_and_stays_as_it_was(
    source: str, message: Message, objects: tuple[Digest, ...], reason: str
) -> None:
    machine = serving()
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=reason):
        told(machine, source, message, *objects)
    assert machine.snapshot() == before


def test_an_update_of_a_round_that_a_starved_region_never_opened_is_refused() -> None:
    machine = satellite()
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(3))
    assert "round_starved" in reports(actions)
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match="round 4 of north was never opened"):
        told(machine, "north-0", update(4, "m3"), "u")
    assert machine.snapshot() == before


@pytest.mark.parametrize("make", [device, satellite])
def test_a_snapshot_of_another_schema_is_not_read(make: Callable[[], fedmeld.Device]) -> None:
    with pytest.raises(LocalProtocolError, match="snapshot schema 2, this version reads 1"):
        make().restore(b"", 2)


@pytest.mark.parametrize("make", [serving, trained])
def test_a_restored_role_is_what_it_was(make: Callable[[], fedmeld.Device]) -> None:
    machine = make()
    state, objects = machine.snapshot()
    fresh = device() if isinstance(machine, fedmeld.Device) else satellite()
    fresh.restore(state, fresh.schema)
    assert fresh.snapshot() == (state, objects)


# ------------------------------------------------------------------------------------------ the device


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


# ------------------------------------------------------------------------------------------ the satellite


def test_a_satellite_greets_a_device_only_while_it_serves_it() -> None:
    machine = satellite()
    assert machine.handle(ContactStarted("south-0", "service", 1), NOW) == []
    assert machine.handle(ContactStarted("ground", "feeder", 1), NOW) == []
    polls = sent(machine.handle(ContactStarted("north-0", "service", 1), NOW), wire.Poll)
    assert [(one.to, one.lane, one.expires_at_ns) for one in polls] == [
        ("north-0", Lane.CONTROL, 100 * SECOND_NS)
    ]


def test_a_satellite_that_is_in_contact_before_its_service_polls_when_it_begins() -> None:
    machine = fedmeld.Satellite(PARAMS, ORBITS, "sat-2")
    assert machine.handle(ContactStarted("north-0", "service", 1), 95 * SECOND_NS) == []
    assert machine.deadline_ns() == 100 * SECOND_NS
    polls = sent(machine.handle(TimerFired(), 100 * SECOND_NS), wire.Poll)
    assert [one.to for one in polls] == ["north-0"]
    assert machine.deadline_ns() == 200 * SECOND_NS


def test_a_round_is_aggregated_in_the_order_of_names_whoever_is_first() -> None:
    machine = serving()
    assert reports(told(machine, "north-1", update(digest="u-1", samples=7), "u-1")) == ["update_accepted"]
    actions = told(machine, "north-0", update(digest="u-0", samples=5), "u-0")
    job = next(one for one in actions if isinstance(one, StartJob))
    assert dict(job.objects) == {"update/0": "u-0", "update/1": "u-1"}
    assert job.params == {"n_samples": [5, 7]}


def test_an_update_counts_once_and_one_for_a_closed_round_not_at_all() -> None:
    machine = serving()
    told(machine, "north-0", update(digest="u"), "u")
    assert reports(told(machine, "north-0", update(digest="u"), "u")) == ["update_duplicate"]
    told(machine, "north-1", update(digest="v"), "v")
    done = machine.handle(JobDone("aggregate/north/1", {}, {"model": "m1"}), NOW)
    assert reports(done) == ["aggregated"]
    assert reports(told(machine, "north-0", update(digest="u"), "u")) == ["update_late"]


def test_an_update_that_comes_after_the_service_is_late() -> None:
    machine = serving()
    assert "update_late" in reports(told(machine, "north-0", update(), "u", now=150 * SECOND_NS))


def test_the_update_that_the_worker_blames_is_put_aside_and_the_round_stays_open() -> None:
    machine = serving()
    told(machine, "north-0", update(digest="u"), "u")
    told(machine, "north-1", update(digest="bad"), "bad")
    actions = machine.handle(JobFailed("aggregate/north/1", "update/1: another shape"), NOW)
    blamed = [one.fields for one in actions if isinstance(one, Report)]
    assert [(one["device"], one["reason"]) for one in blamed] == [("north-1", "update/1: another shape")]
    assert machine.snapshot()[1] == {"u"}
    assert reports(told(machine, "north-1", update(digest="bad"), "bad")) == ["update_refused"]


def test_a_service_that_ends_abandons_its_round_and_says_whose_updates_it_had() -> None:
    machine = serving()
    told(machine, "north-0", update(), "u")
    actions = machine.handle(TimerFired(), 100 * SECOND_NS)
    assert [one.fields for one in actions if isinstance(one, Report)] == [
        {"region": "north", "round": 1, "accepted": ["north-0"]}
    ]
    assert machine.snapshot()[1] == frozenset()


def test_an_object_that_nobody_asked_for_is_not_held() -> None:
    machine = serving()
    assert told(machine, "north-0", wire.Found(region="north", digest="f"), "f") == []
    assert machine.snapshot()[1] == frozenset()


def test_a_satellite_that_lost_an_update_stops_the_aggregation_and_begins_the_service_anew() -> None:
    machine = serving()
    told(machine, "north-0", update(digest="u"), "u")
    told(machine, "north-1", update(digest="v"), "v")
    assert CancelJob("aggregate/north/1") in machine.handle(ObjectLost("u"), NOW)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        told(machine, name, status())
    for name, digest in (("north-0", "u"), ("north-1", "v")):
        actions = told(machine, name, update(digest=digest), digest)
    assert any(isinstance(one, StartJob) for one in actions)


def test_a_satellite_that_lost_what_it_carries_does_not_mix_it() -> None:
    carrying = wire.SatelliteState(
        carries=[wire.Carry(target="north", record=record(2, "s2", "south"), digest="s2")]
    )
    machine = satellite()
    machine.restore(carrying.SerializeToString(), 1)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(3))
    assert len(sent(actions, wire.Model)) == 2
    for name in ("north-0", "north-1"):
        actions = told(machine, name, update(4, "m3", name), name)
    assert any(isinstance(one, StartJob) and one.objects["carried"] == "s2" for one in actions)
    assert CancelJob("aggregate/north/4") in machine.handle(ObjectLost("s2"), NOW)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(3))
    assert "round_starved" in reports(actions)


def mixing(now: int = NOW) -> tuple[fedmeld.Satellite, list[Action]]:
    """Carries round 2 of south and has just mixed it into round 4 of north."""
    carrying = wire.SatelliteState(
        carries=[wire.Carry(target="north", record=record(2, "s2", "south"), digest="s2")]
    )
    machine = satellite()
    machine.restore(carrying.SerializeToString(), 1)
    return machine, mix(machine, now)


def mix(machine: fedmeld.Satellite, now: int) -> list[Action]:
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), now)
        told(machine, name, status(3), now=now)
    for name in ("north-0", "north-1"):
        actions = told(machine, name, update(4, "m3", name), name, now=now)
    assert [one.objects["carried"] for one in actions if isinstance(one, StartJob)] == ["s2"]
    return machine.handle(JobDone("aggregate/north/4", {}, {"model": "m4", "pre": "p4"}), now)


def test_what_was_mixed_stays_on_board_until_a_device_has_the_mixed_model() -> None:
    """The service may end before: then the round is collected, and mixed, once more."""
    machine, actions = mixing(99 * SECOND_NS)
    assert reports(actions)[:2] == ["aggregated", "carry_mixed"]
    machine.handle(TimerFired(), 100 * SECOND_NS)
    assert "s2" in machine.snapshot()[1]
    again = mix(machine, 310 * SECOND_NS)
    assert reports(again)[:2] == ["aggregated", "carry_mixed"]


@pytest.mark.parametrize("word", ["update", "status"])
def test_what_was_mixed_is_dropped_when_a_device_shows_that_it_has_the_mixed_model(word: str) -> None:
    machine, _ = mixing()
    assert "s2" in machine.snapshot()[1]
    if word == "update":
        actions = told(machine, "north-1", update(5, "m4"), "u")
    else:
        mixed = wire.ModelRecord(
            region="north", round=4, digest="m4", pre_digest="p4", parents=["m3", "s2"], satellite="sat-1"
        )
        answer = wire.Status(region="north", model=mixed)
        told(machine, "north-0", answer)
        actions = told(machine, "north-1", answer)
    assert "s2" not in machine.snapshot()[1]
    assert "carry_expired" not in reports(actions), "it has served its purpose"


def test_a_copy_that_another_satellite_has_mixed_expires() -> None:
    carrying = wire.SatelliteState(
        carries=[wire.Carry(target="north", record=record(2, "s2", "south"), digest="s2")]
    )
    machine = satellite()
    machine.restore(carrying.SerializeToString(), 1)
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        actions = told(machine, name, status(4))
    assert "carry_expired" in reports(actions)
    assert "s2" not in machine.snapshot()[1]


def test_what_does_not_concern_a_role_is_nothing() -> None:
    assert device().handle(Acknowledged("status/1"), NOW) == []
    assert device().handle(ContactStarted("sat-1", "service", 1), NOW) == []
    assert device().deadline_ns() is None
    machine = satellite()
    machine.handle(TimerFired(), NOW)
    assert machine.handle(Acknowledged("poll/1"), NOW) == []
    assert machine.handle(JobDone("aggregate/north/9", {}, {"model": "x"}), NOW) == []
    assert machine.handle(JobFailed("aggregate/north/9", "x"), NOW) == []


def test_a_node_runs_the_roles_of_its_kind() -> None:
    kinds = [("satellite", "sat-1"), ("device", "south-1"), ("ground", "desk")]
    roles = [sorted(fedmeld_machines(kind, name, PARAMS, ORBITS)) for kind, name in kinds]
    assert roles == [["fedmeld.satellite"], ["fedmeld.device"], []]


# ------------------------------------------------------------------------------------ updates of the plan


def updated(passes: Passes) -> tuple[fedmeld.Satellite, RegionServices]:
    """A satellite at work on round 1 by PASSES, and what it asks the plan, which is another one by now."""
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        told(machine, name, status())
    orbits.follow(plan_of(RING, {**PASSES, **passes}, 500))
    return machine, orbits


def test_a_service_that_goes_on_for_longer_asks_its_devices_anew() -> None:
    machine, _ = updated({("sat-1", "north"): [(0, 180)]})
    polls = sent(machine.handle(PlanUpdated(1), NOW), wire.Poll)
    assert [(poll.to, poll.expires_at_ns) for poll in polls] == [
        ("north-0", 180 * SECOND_NS),
        ("north-1", 180 * SECOND_NS),
    ]
    assert machine.deadline_ns() == 180 * SECOND_NS
    told(machine, "north-0", status())
    opened = sent(told(machine, "north-1", status()), wire.Model)
    assert [(one.to, one.expires_at_ns, one.message.opens_round) for one in opened] == [
        ("north-0", 180 * SECOND_NS, True),
        ("north-1", 180 * SECOND_NS, True),
    ]


def test_a_service_that_ends_earlier_goes_on_and_ends_then() -> None:
    machine, _ = updated({("sat-1", "north"): [(0, 60)]})
    assert machine.handle(PlanUpdated(1), NOW) == []
    assert machine.deadline_ns() == 60 * SECOND_NS
    told(machine, "north-0", update(), "u")
    assert reports(machine.handle(TimerFired(), 60 * SECOND_NS)) == ["round_abandoned"]


def test_a_service_that_the_new_plan_does_not_have_ends_at_once() -> None:
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        told(machine, name, status())
    told(machine, "north-0", update(), "u")
    orbits.follow(plan_of(RING, {**PASSES, ("sat-1", "north"): [(300, 400)]}, 500))
    assert reports(machine.handle(PlanUpdated(1), NOW)) == ["round_abandoned"]
    assert machine.deadline_ns() == 200 * SECOND_NS  # its service of the south


def test_a_service_that_only_the_new_plan_has_begins_at_once() -> None:
    orbits = RegionServices(plan_of(RING, {**PASSES, ("sat-1", "north"): [(300, 400)]}, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        assert machine.handle(ContactStarted(name, "service", None), NOW) == []
    orbits.follow(plan_of(RING, PASSES, 500))
    assert [poll.to for poll in sent(machine.handle(PlanUpdated(1), NOW), wire.Poll)] == [
        "north-0",
        "north-1",
    ]


def test_a_satellite_that_the_new_plan_designates_takes_the_model_along() -> None:
    """By PASSES sat-1 is the first to reach the south; without that pass nobody is, until the update."""
    late = {("sat-1", "south"): []}
    orbits = RegionServices(plan_of(RING, {**PASSES, **late}, 500), RING)
    machine = fedmeld.Satellite(PARAMS, orbits, "sat-1")
    for name in ("north-0", "north-1"):
        machine.handle(ContactStarted(name, "service", 100 * SECOND_NS), NOW)
        answer = told(machine, name, status(2, mixing=(record(2),)))
    assert not sent(answer, wire.Fetch)
    orbits.follow(plan_of(RING, PASSES, 500))
    fetches = sent(machine.handle(PlanUpdated(1), NOW), wire.Fetch)
    assert [(one.to, one.message.digest) for one in fetches] == [("north-0", "m2")]
    found = told(machine, "north-0", wire.Found(region="north", digest="m2"), "m2")
    assert "carry_picked_up" in reports(found)


def test_a_device_follows_the_updated_plan() -> None:
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    machine = fedmeld.Device(PARAMS, orbits, "north-0", "north")
    assert sent(told(machine, "sat-1", wire.Poll(region="north")), wire.Status)
    orbits.follow(plan_of(RING, {**PASSES, ("sat-1", "north"): [], ("sat-2", "north"): [(0, 200)]}, 500))
    assert machine.handle(PlanUpdated(1), NOW) == []
    with pytest.raises(RemoteProtocolError, match="sat-1 does not serve north now"):
        told(machine, "sat-1", wire.Poll(region="north"))
    assert sent(told(machine, "sat-2", wire.Poll(region="north")), wire.Status)


def test_services_of_a_plan_without_a_device_of_the_ring_are_refused_before_anything_changes() -> None:
    orbits = RegionServices(plan_of(RING, PASSES, 500), RING)
    before = orbits.services("north")
    with pytest.raises(ValueError, match="'south-0' is not a node of the plan"):
        orbits.follow(plan_of(RING[:1], {("sat-1", "north"): [(0, 1)]}, 500))
    assert orbits.services("north") == before
