"""Whatever a peer sends SFFT's roles, it is refused and changes nothing, or is taken and costs little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orbitrain.machine import Machine, RemoteProtocolError, TimerFired
from orbitrain.v1 import sfft_pb2 as wire
from tests.unit.protocols.sfft.roles import (
    GATHERING,
    NOW,
    PARAMS,
    block,
    crossed,
    done,
    features,
    fetch,
    head,
    passed,
    round_,
    satellite,
    server,
    station,
    status,
    sum_,
    told,
    visit,
)

NODES = (*PARAMS.satellites, *PARAMS.stations, PARAMS.server)
GROWTH_BYTES_MAX = 600
"""Of a state, by one message: a round of this constellation, kept twice at most."""

names = st.sampled_from((*NODES, "", "a-9", "h1", "x" * 5_000))
digests = st.sampled_from(("h1", "h2", "c0", "c1", "own0", PARAMS.pieces.embedding, ""))
small = st.integers(-1, 6)
numbers = {
    FieldDescriptor.TYPE_INT32: small | st.sampled_from((-(2**31), 2**31 - 1)),
    FieldDescriptor.TYPE_INT64: small | st.sampled_from((12, 18, 30, NOW, -(2**63), 2**63 - 1)),
}
Letter = tuple[str, Message, tuple[str, ...]]
FEATURES = ("f0", "f1", "f2")
TO_ALL: list[Letter] = [
    ("gs", round_(), ("h1",)),
    ("gs", round_(3, head="h2"), ("h2",)),
    ("gs", round_(4, head="h2"), ("h2",)),
    ("gs", round_(attempt=2), ("h1",)),
    ("gs", round_(attempt=2, participants=("a-0", "a-1", "b-0")), ("h1",)),
    ("gs", round_(attempt=2, parents=(0, 0)), ("h1",)),
    ("a-0", status(), ()),
    ("a-0", done(serial=2), ("h2",)),
    ("a-2", status("a-2", absent=("a-1",)), ()),
]
TO_SATELLITES: list[Letter] = [
    *TO_ALL,
    ("a-0", block(), ("c0",)),
    ("a-0", block(round=3), ("c0",)),
    ("a-2", block("a-2", (0, 2)), ("c0", "c1")),
    ("gs", fetch(), ()),
    ("gs", fetch("a-1", block("a-0"), block("a-2", (0, 2))), ()),
    ("gs", features(), FEATURES),
    ("gs", features("a-0", "a-1"), FEATURES),
    ("a-0", visit(), ("w0",)),
    ("a-0", visit(2, 2, ("a-2", "a-0")), ("w1",)),
    ("a-2", visit(0, 3, ("a-0", "a-1", "a-2")), ("w2",)),
    ("a-0", head(), ("w0",)),
    ("a-2", head("a-2"), ()),
    ("b-0", sum_(), ("s1",)),
    ("a-0", sum_(1, ("b-0",), entry="a-0"), ("s1",)),
    ("a-0", sum_(0, ("a-0", "a-1"), entry="a-0"), ("s0",)),
    ("b-0", sum_(merged=True, attempt=2), ("s1",)),
    ("a-0", crossed(), ()),
    ("a-2", crossed(1, 0, "a-2"), ()),
]
TO_STATIONS: list[Letter] = [
    *TO_ALL,
    ("a-0", block(), ("c0",)),
    ("server", fetch("a-0", block("a-1", (0, 1))), ()),
    ("server", features(), FEATURES),
    ("server", features("b-0", "b-1"), FEATURES),
]
TO_THE_SERVER: list[Letter] = [
    *(("gs", message, objects) for _, message, objects in TO_ALL[5:]),
    ("gs", status("a-1", spoiled=True), ()),
    ("gs", block(), ("c0",)),
    ("gs", block("a-1", (0, 1, 2)), ("c0", "c1", "c2")),
    ("gs", wire.Sighting(satellite="a-0", there=False), ()),
    ("gs", wire.Sighting(satellite="b-1", there=True), ()),
    ("gs", passed(), ()),
    ("gs", passed(taken=False), ()),
]


def value_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return st.builds(block, names, st.lists(small, max_size=4))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    return names | digests if field.type == FieldDescriptor.TYPE_STRING else numbers[field.type]


@st.composite
def letters(draw: st.DrawFn, honest: list[Letter]) -> Letter:
    """An honest one, of which a field or two may be others, or the source, or the objects."""
    source, like, objects = draw(st.sampled_from(honest))
    message = type(like).FromString(like.SerializeToString())
    number = draw(st.sampled_from((0, 0, 0, 1, 1, 2)))
    fields = st.sampled_from(list(message.DESCRIPTOR.fields))
    for field in draw(st.lists(fields, min_size=number, max_size=number, unique=True)):
        message.ClearField(field.name)
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(value_of(field), max_size=6)))
        else:
            setattr(message, field.name, draw(value_of(field)))
    if draw(st.integers(0, 9)) == 0:
        source = draw(st.sampled_from(NODES))
    if draw(st.integers(0, 9)) == 0:
        objects = tuple(draw(st.lists(digests, max_size=3)))
    return source, message, objects


ROLES: dict[str, tuple[Callable[[], Machine], list[Letter]]] = {
    "satellite": (satellite, TO_SATELLITES),
    "gathering": (lambda: satellite(GATHERING), TO_SATELLITES),
    "station": (station, TO_STATIONS),
    "server": (server, TO_THE_SERVER),
}


@pytest.mark.parametrize("role", ROLES)
@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_any_message_is_refused_and_changes_nothing_or_is_taken_and_costs_little(
    role: str, data: st.DataObject, wakes: bool
) -> None:
    make, honest = ROLES[role]
    machine = make()
    for source, message, objects in data.draw(st.lists(letters(honest), min_size=1, max_size=10)):
        before = machine.snapshot()
        try:
            told(machine, source, message, *objects)
            event(f"taken: {message.DESCRIPTOR.name}")
        except RemoteProtocolError as error:
            event(f"refused: {message.DESCRIPTOR.name}")
            assert "\n" not in str(error)
            assert len(str(error)) < 200
            assert machine.snapshot() == before
        assert len(machine.snapshot()[0]) < len(before[0]) + GROWTH_BYTES_MAX
    if wakes:
        machine.handle(TimerFired(), machine.deadline_ns() or NOW)
    again = make()
    again.restore(machine.snapshot()[0], machine.schema)
    assert again.snapshot() == machine.snapshot()
