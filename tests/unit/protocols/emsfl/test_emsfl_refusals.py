"""What the roles of EMS-FL refuse, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.machine import Machine, RemoteProtocolError, TimerFired
from orbitrain.protocols.emsfl.checks import SAMPLES_MAX
from orbitrain.v1 import emsfl_pb2 as wire
from tests.trace.emsfl_world import SATELLITE
from tests.unit.protocols.emsfl.clusters import (
    DEVICES,
    INITIAL,
    MASKED,
    NOW,
    RANKED,
    change,
    device,
    digest,
    gate,
    hello,
    later,
    model,
    objects_of,
    satellite,
    second_pass,
    shared,
    told,
    upload,
)

BIG = 2**62


def refuses(machine: Machine, source: str, message: Message, objects: tuple[str, ...], reason: str) -> None:
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=reason):
        told(machine, source, message, *objects)
    assert machine.snapshot() == before


@pytest.mark.parametrize(
    ("source", "message", "objects", "reason"),
    [
        ("nobody", hello(), (), "'nobody' is no device of a cluster"),
        ("x" * 99, upload(), (), "'x{64}' is no device of a cluster"),
        ("east-0", hello(epoch=2), (), "epoch: must be 0 to 1, not 2"),
        ("east-0", hello(epoch=-1), (), "epoch: must be 0 to 1, not -1"),
        ("east-0", hello(model=BIG), (), "model: must be 0 to 1"),
        ("east-0", hello(held={"expert/0": 0}), (), "held, failed: must be none without a rank"),
        ("east-0", hello(failed=1), (), "held, failed: must be none without a rank"),
        ("east-0", hello(), (digest("x"),), "objects: must be none, not 1"),
        ("east-0", hello(samples=-1), (), "samples: must be 0 to"),
        ("east-0", hello(samples=SAMPLES_MAX + 1), (), "samples: must be 0 to"),
        ("east-0", hello(counts=[10]), (), "counts: must be 2 times 2, not 1"),
        ("east-0", hello(counts=[1] * 999), (), "counts: must be 2 times 2, not 999"),
        ("east-0", hello(counts=[20, -10, 0, 10]), (), "counts: must each be 0 to 10"),
        ("east-0", hello(counts=[5, 4, 0, 10]), (), "counts: must be 1 for each of 10 samples, not 9 in all"),
        ("east-0", hello(surveyed=False), (), "counts: must be none before they are made"),
        ("east-0", upload(epoch=0), (), "epoch: must be 1 to 1, not 0"),
        ("east-0", upload(epoch=2), (), "epoch: must be 1 to 1, not 2"),
        ("east-0", upload(model=0), (), "model: must be 1 to 1, not 0"),
        ("east-0", upload(rounds=0), (), "rounds: must be 1 to 3, not 0"),
        ("east-0", upload(rounds=4), (), "rounds: must be 1 to 3, not 4"),
        ("east-0", upload(samples=0), (), "samples: must be 1 to"),
        ("east-0", upload(samples=BIG), (), "samples: must be 1 to"),
        ("east-0", wire.Upload(epoch=1, model=1, rounds=1, samples=1), (), "changes: must be 1 to 2, not 0"),
        ("east-0", upload(*[change()] * 99), (), "changes: must be 1 to 2, not 99"),
        ("east-0", upload(change("gate")), (), "item: 'gate' is none that is sent so"),
        ("east-0", upload(change("expert/2")), (), "item: 'expert/2' is none that is sent so"),
        ("east-0", upload(change("y" * 99)), (), "item: 'y{64}' is none"),
        ("east-0", upload(change(), change()), (), "item: must be there once"),
        ("east-0", upload(change(base=1)), (), "base: must be 0 to 0, not 1"),
        ("east-0", upload(change(base=-1)), (), "base: must be 0 to 0, not -1"),
        (
            "east-0",
            upload(wire.Change(item="expert/0", digest="u")),
            (),
            "digest: must have 64 digits, not 1",
        ),
        ("east-0", upload(), (digest("v"),), "digest: must be those of the objects"),
        ("east-0", upload(), (digest("u"), digest("v")), "digest: must be those of the objects"),
        ("east-0", shared(model=2), (), "model: must be 1 to 1, not 2"),
        ("east-0", shared(samples=0), (), "samples: must be 1 to"),
        ("east-0", shared(change("expert/0")), (), "item: 'expert/0' is none that is sent so"),
        ("east-0", shared(change("backbone")), (), "item: 'backbone' is none that is sent so"),
        ("east-0", shared(change("gate", 1)), (), "base: must be 0 to 0, not 1"),
        ("east-0", wire.Found(item="gates", digest=digest("g")), (), "item: there is no 'gates'"),
        (
            "east-0",
            wire.Found(item="gate", digest=digest("g")),
            (digest("h"),),
            "must be that of the one object",
        ),
    ],
)
@pytest.mark.parametrize("make", [satellite, second_pass])
def test_a_satellite_refuses_and_stays_as_it_was(
    make: Callable[[], Machine], source: str, message: Message, objects: tuple[str, ...], reason: str
) -> None:
    refuses(make(), source, message, objects, reason)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (hello(held={"expert/2": 0}), "held: 'expert/2' is no expert"),
        (hello(held={"gate": 0}), "held: 'gate' is no expert"),
        (hello(held={"y" * 99: 0}), "held: 'y{64}' is no expert"),
        (hello(held={"expert/0": 1}), "held: must be 0 to 0, not 1"),
        (hello(held={"expert/0": -1}), "held: must be 0 to 0, not -1"),
        (hello(failed=BIG), "failed: must be 0 to 1"),
        (hello(failed=-1), "failed: must be 0 to 1, not -1"),
    ],
)
def test_a_satellite_refuses_what_nobody_can_hold(message: wire.Hello, reason: str) -> None:
    refuses(second_pass(RANKED), "east-0", message, (), reason)


def masked(**changes: Any) -> wire.Model:
    """What a masked device of east gets."""
    made = model(2, gate=False, masked=True, **changes)
    del made.items["expert/1"]
    return made


def stepped(versions: dict[str, int], item: str = "expert/0", step: str = "", number: int = 2) -> wire.Model:
    made = model(number, versions)
    made.steps[item] = step or digest("step")
    return made


def lacking(item: str) -> wire.Model:
    made = model(2)
    del made.items[item]
    return made


@pytest.mark.parametrize(
    ("source", "message", "objects", "reason"),
    [
        ("east-1", model(2), (), "source: must be sat, not east-1"),
        (SATELLITE, model(0), (), "number: must be 1 or more, not 0"),
        (SATELLITE, model(-5), (), "number: must be 1 or more, not -5"),
        (SATELLITE, model(2, epoch=0), (), "epoch: must be 1 or more, not 0"),
        (SATELLITE, model(2, cycle=0), (), "cycle: must be 1 or more, not 0"),
        (SATELLITE, model(2, owners=["east"]), (), "owners: must be 2, not 1"),
        (SATELLITE, model(2, owners=["east", "z" * 99]), (), "owners: there is no cluster 'z{64}'"),
        (SATELLITE, model(2, owners=["west", "east"]), (), "owners: others are known of epoch 1"),
        (SATELLITE, model(2, backbone=True), (), "gate, backbone: must not be trained"),
        (SATELLITE, model(2, epoch=2, owners=["west", "west"], masked=True), (), "masked: must be unset"),
        (SATELLITE, lacking("expert/1"), (), "items: must be backbone, expert/0, expert/1, gate"),
        (SATELLITE, model(2), (digest("x"),), "items: must have their objects"),
        (SATELLITE, model(2, {"gate": -1}), (), "gate: version must be 0 or more, not -1"),
        (SATELLITE, stepped({"expert/0": 1}), (), "steps: must be none without a rank"),
        (SATELLITE, gate(0), (), "gate: another version 0 is here"),
        (SATELLITE, gate(1), (digest("x"),), "items: must have their objects"),
        (SATELLITE, wire.Gate(), (), "items: must be some of gate"),
        (SATELLITE, wire.Gate(items={"expert/0": wire.Version(number=1)}), (), "items: must be some of gate"),
        (SATELLITE, wire.Fetch(item="gate", digest=digest("x")), (), "item: this 'gate' is not here"),
        (SATELLITE, wire.Fetch(item="w" * 99, digest=""), (), "item: this 'w{64}' is not here"),
        (SATELLITE, wire.Fetch(item="gate", digest=INITIAL["gate"]), (digest("x"),), "objects: must be none"),
    ],
)
def test_a_device_refuses_and_stays_as_it_was(
    source: str, message: Message, objects: tuple[str, ...], reason: str
) -> None:
    refuses(device(), source, message, objects, reason)


@pytest.mark.parametrize(
    ("message", "objects", "reason"),
    [
        (stepped({"gate": 1}, "gate"), (), "steps: 'gate' is none that comes so"),
        (stepped({}, "expert/2"), (), "steps: 'expert/2' is none that comes so"),
        (stepped({}, "s" * 99), (), "steps: 's{64}' is none that comes so"),
        (stepped({"expert/0": 1}, step="short"), (), "digest: must have 64 digits, not 5"),
        (stepped({"expert/1": 1}), (), "steps: no step leads to version 0"),
        (
            stepped({"expert/0": 1}),
            objects_of(model(2, {"expert/0": 1})),
            "items: must have their objects, in the order",
        ),
    ],
)
def test_a_device_refuses_steps_that_lead_nowhere(
    message: wire.Model, objects: tuple[str, ...], reason: str
) -> None:
    refuses(device(RANKED), SATELLITE, message, objects, reason)


def test_a_masked_device_takes_no_step_of_what_it_does_not_load() -> None:
    made = stepped({"expert/1": 1}, "expert/1")
    made.masked = True
    del made.items["expert/1"]
    refuses(device(RANKED), SATELLITE, made, (), "steps: 'expert/1' is none that comes so")


def test_what_is_arriving_is_not_gone_back_from() -> None:
    machine = device(RANKED)
    told(machine, SATELLITE, stepped({"expert/0": 1, "gate": 2}, number=3))
    assert machine.state.arriving.number == 3
    newer = {"expert/0": 1, "gate": 2}
    refuses(machine, SATELLITE, model(2, newer), (), "number: must be 3 or more, not 2")
    refuses(machine, SATELLITE, model(4), (), "expert/0: version 0 is older than 1 here")
    refuses(machine, SATELLITE, gate(1), (), "gate: version 1 is older than 2 here")
    refuses(machine, SATELLITE, model(4, newer, owners=["west", "east"]), (), "owners: others are known")
    other = gate(2)
    other.items["gate"].digest = digest("other")
    refuses(machine, SATELLITE, other, (), "gate: another version 2 is here")


def test_a_device_refuses_an_older_model_and_another_of_the_same_version() -> None:
    machine = device()
    told(machine, SATELLITE, model(3, {"expert/0": 2}))
    refuses(machine, SATELLITE, model(2, {"expert/0": 2}), (), "number: must be 3 or more, not 2")
    refuses(machine, SATELLITE, model(4, {"expert/0": 1}), (), "expert/0: version 1 is older than 2 here")
    other = model(4, {"expert/0": 2})
    other.items["expert/0"].digest = digest("other")
    refuses(machine, SATELLITE, other, (), "expert/0: another version 2 is here")


def test_a_masked_device_takes_its_own_experts_alone() -> None:
    machine = device(MASKED)
    refuses(
        machine, SATELLITE, model(2, gate=False, masked=True), (), "items: must be backbone, expert/0, gate"
    )
    told(machine, SATELLITE, masked())


def test_a_gate_before_any_model_is_refused() -> None:
    machine = device()
    machine.state.adopted.number = 0
    refuses(machine, SATELLITE, gate(1), (), "items: must come after a model")


# --- anything at all ----------------------------------------------------------------------------------------

GROWTH_BYTES_MAX = 700
"""Of a state, by one message: a model or an upload of two experts."""

TO_SATELLITE: list[tuple[str, Message]] = [
    ("east-0", hello()),
    ("east-1", later(ready=True)),
    ("west-0", later()),
    ("east-0", upload()),
    ("east-1", upload(change(name="v"))),
    ("west-0", upload(change("expert/1", name="w"))),
    ("east-0", shared()),
    ("east-1", shared(change("gate", 0, "h"))),
    ("east-0", wire.Found(item="gate", digest=INITIAL["gate"])),
]
TO_DEVICE: list[tuple[str, Message]] = [
    (SATELLITE, model()),
    (SATELLITE, model(2, {"expert/0": 1})),
    (SATELLITE, model(3, {"expert/0": 1, "gate": 1}, epoch=2, owners=["west", "east"])),
    (SATELLITE, gate()),
    (SATELLITE, wire.Fetch(item="gate", digest=INITIAL["gate"])),
]
TO_RANKED_SATELLITE = [
    ("east-0", later(ready=True, held={"expert/0": 0, "expert/1": 0})),
    ("east-1", later(failed=1)),
    *TO_SATELLITE,
]
TO_RANKED_DEVICE = [
    (SATELLITE, stepped({"expert/0": 1})),
    (SATELLITE, stepped({"expert/0": 2, "gate": 1}, number=3)),
    *TO_DEVICE,
]
small = st.integers(-1, 5) | st.sampled_from((2**31 - 1,))
texts = st.sampled_from(("", "gate", "expert/0", "expert/9", "east", "x" * 3_000, digest("u")))
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_INT64: small | st.sampled_from((-(2**63), 2**63 - 1)),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: texts,
    FieldDescriptor.TYPE_MESSAGE: st.builds(change, texts, small, st.sampled_from("uvw")),
}


@st.composite
def letters(draw: st.DrawFn, honest: list[tuple[str, Message]]) -> tuple[str, Message, tuple[str, ...]]:
    """An honest one, of which a field or two may be others, or the source, or the objects."""
    source, like = draw(st.sampled_from(honest))
    message = type(like).FromString(like.SerializeToString())
    number = draw(st.sampled_from((0, 0, 1, 1, 2)))
    for field in draw(
        st.lists(st.sampled_from(list(message.DESCRIPTOR.fields)), min_size=number, max_size=number)
    ):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            within, kind = getattr(message, field.name), field.message_type.fields_by_name["value"].type
            if kind == FieldDescriptor.TYPE_MESSAGE:
                within[draw(texts)].number = draw(small)
            else:
                within[draw(texts)] = draw(VALUES[kind])
            continue
        message.ClearField(field.name)
        values = VALUES[field.type]
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values, max_size=5)))
        else:
            setattr(message, field.name, draw(values))
    if draw(st.integers(0, 9)) == 0:
        source = draw(st.sampled_from((*DEVICES, SATELLITE)))
    objects = objects_of(message)
    if draw(st.integers(0, 9)) == 0:
        objects = tuple(draw(st.lists(texts, max_size=3)))
    return source, message, objects


@pytest.mark.parametrize(
    ("make", "honest"),
    [
        (satellite, TO_SATELLITE),
        (second_pass, TO_SATELLITE),
        (device, TO_DEVICE),
        (partial(second_pass, RANKED), TO_RANKED_SATELLITE),
        (partial(device, RANKED), TO_RANKED_DEVICE),
    ],
    ids=["satellite", "second pass", "device", "with a rank", "device with a rank"],
)
@settings(max_examples=40)
@given(data=st.data())
def test_any_message_is_refused_and_changes_nothing_or_is_taken_and_costs_little(
    make: Callable[[], Machine], honest: list[tuple[str, Message]], data: st.DataObject
) -> None:
    machine = make()
    for source, message, objects in data.draw(st.lists(letters(honest), min_size=1, max_size=8)):
        before = machine.snapshot()
        try:
            told(machine, source, message, *objects)
        except RemoteProtocolError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 200
            assert machine.snapshot() == before
        assert len(machine.snapshot()[0]) < len(before[0]) + GROWTH_BYTES_MAX
    machine.handle(TimerFired(), NOW)
    again = make()
    again.restore(machine.snapshot()[0], machine.schema)
    assert again.snapshot() == machine.snapshot()
