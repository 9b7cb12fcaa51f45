"""What SFFT's roles refuse of what no honest peer sends, and that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from orbitrain.machine import Digest, Machine, RemoteProtocolError
from orbitrain.protocols.sfft.terms import EARLY_MAX
from orbitrain.v1 import sfft_pb2 as wire
from tests.unit.protocols.sfft.roles import (
    GATHERING,
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

Case = tuple[str, Message, tuple[Digest, ...], str]

FEATURES = ("f0", "f1", "f2")
MANY = 100_000
HUGE = "x" * 2_000_000

ROUNDS: list[Case] = [
    ("gs", round_(0), ("h1",), r"round: must be 1 to 4, not 0"),
    ("gs", round_(-3), ("h1",), r"round: must be 1 to 4, not -3"),
    ("gs", round_(5), ("h1",), r"round: must be 1 to 4, not 5"),
    ("gs", round_(attempt=0), ("h1",), r"attempt: must be 1 or more, not 0"),
    ("gs", round_(attempt=-1), ("h1",), r"attempt: must be 1 or more, not -1"),
    ("gs", round_(3, closed=True), ("h1",), r"closed: is True in round 3"),
    ("gs", round_(4, closed=False), ("h1",), r"closed: is False in round 4"),
    ("gs", round_(3), (), r"head: must be the one object"),
    ("gs", round_(3), ("h2",), r"head: must be the one object"),
    ("gs", round_(3), ("h1", "h1"), r"head: must be the one object"),
    ("gs", round_(3, embedding="e" * 64), ("h1",), r"embedding: is .{12} here, not e{12}: another model"),
    ("gs", round_(3, backbone=HUGE), ("h1",), r"backbone: is .{12} here, not x{12}: another model"),
    ("gs", round_(3, participants=()), ("h1",), r"participants: must be one or more"),
    ("gs", round_(3, participants=("a-9",)), ("h1",), r"participants: there is no satellite 'a-9'"),
    ("gs", round_(3, participants=("gs",)), ("h1",), r"participants: there is no satellite 'gs'"),
    ("gs", round_(3, participants=(HUGE,)), ("h1",), r"participants: there is no satellite 'x{64}'"),
    ("gs", round_(3, participants=("a-0", "a-0")), ("h1",), r"participants: must have each name once"),
    ("gs", round_(3, participants=("a-0",) * MANY), ("h1",), r"participants: must have each name once"),
    ("gs", round_(3, participants=("a-1", "a-0")), ("h1",), r"participants: must be ascending"),
    ("gs", round_(3, parents=(0,)), ("h1",), r"parents: must be one of each plane or none, not 1"),
    (
        "gs",
        round_(3, parents=(0,) * MANY),
        ("h1",),
        r"parents: must be one of each plane or none, not 100000",
    ),
    ("gs", round_(3, parents=(1, 0)), ("h1",), r"parents: must lead all planes to one root"),
    ("gs", round_(3, parents=(0, 2)), ("h1",), r"parents: must lead all planes to one root"),
    ("gs", round_(3, parents=(0, -1)), ("h1",), r"parents: must be of planes \[0, 1\], not \[0\]"),
]

STATUSES: list[Case] = [
    ("a-0", status("a-9"), (), r"satellite: there is no satellite 'a-9'"),
    ("a-0", status(HUGE), (), r"satellite: there is no satellite 'x{64}'"),
    ("a-0", status(serial=0), (), r"serial: must be 1 or more, not 0"),
    ("a-0", status(round=0), (), r"round: must be 1 to 4, not 0"),
    ("a-0", status(round=5), (), r"round: must be 1 to 4, not 5"),
    ("a-0", status(attempt=0), (), r"attempt: must be 1 or more"),
    ("a-0", done(), (), r"head: must be the one object, if it comes with this"),
    ("a-0", done(), ("other",), r"head: must be the one object, if it comes with this"),
    ("a-0", done(with_head=False), ("h2",), r"head: must be the one object, if it comes with this"),
    ("a-0", status(with_head=True), ("",), r"head: must be the one object, if it comes with this"),
    ("a-0", status(), ("h2",), r"head: must be the one object, if it comes with this"),
    ("a-0", done(names=(), weight=0), ("h2",), r"names: must be of those in the head, if there is one"),
    ("a-0", status(names=("a-0",), weight=6), (), r"names: must be of those in the head, if there is one"),
    ("a-0", done(names=("a-0", "c-0"), weight=12), ("h2",), r"names: there is no satellite 'c-0'"),
    ("a-0", done(names=("a-0", "a-0"), weight=12), ("h2",), r"names: must have each name once"),
    ("a-0", done(names=("a-0",) * MANY, weight=6), ("h2",), r"names: must have each name once"),
    ("a-0", done(names=("a-1", "a-0"), weight=12), ("h2",), r"names: must be ascending"),
    ("a-0", done(weight=29), ("h2",), r"weight: must be 30 of these names, not 29"),
    ("a-0", done(weight=-30), ("h2",), r"weight: must be 30 of these names, not -30"),
    ("a-0", status(weight=1), (), r"weight: must be 0 of these names, not 1"),
    ("a-0", status(reduced_ns=-1), (), r"reduced_ns: must be 0 or more, not -1"),
    ("a-0", status(absent=("a-9",)), (), r"absent: there is no satellite 'a-9' in plane 0"),
    ("a-0", status(absent=("b-0",)), (), r"absent: there is no satellite 'b-0' in plane 0"),
    ("a-0", status(absent=("a-1", "a-1")), (), r"absent: must have each name once"),
    ("a-0", status(absent=("a-1",) * MANY), (), r"absent: must have each name once"),
    ("a-0", status(absent=("a-2", "a-1")), (), r"absent: must be ascending"),
]

BLOCKS: list[Case] = [
    ("a-0", block(round=0), ("c",), r"round: must be 1 to 3, not 0"),
    ("a-0", block(round=4), ("c",), r"round: must be 1 to 3, not 4"),
    ("a-0", block("a-9"), ("c",), r"owner: there is no satellite 'a-9'"),
    ("a-0", block(HUGE), ("c",), r"owner: there is no satellite 'x{64}'"),
    ("a-0", block(indices=()), (), r"indices: must be one or more, each once"),
    ("a-0", block(indices=(1, 1)), ("c", "c"), r"indices: must be one or more, each once"),
    ("a-0", block(indices=(1,) * MANY), ("c",), r"indices: must be one or more, each once"),
    ("a-0", block(indices=(-1,)), ("c",), r"indices: must be 0 to 2, not -1 to -1"),
    ("a-0", block(indices=(0, 3)), ("c", "d"), r"indices: must be 0 to 2, not 0 to 3"),
    ("a-0", block(indices=tuple(range(MANY))), ("c",), r"indices: must be 0 to 2, not 0 to 3"),
    ("a-0", block(), (), r"indices: must be one for each of 0 objects, not 1"),
    ("a-0", block(), ("c", "d"), r"indices: must be one for each of 2 objects, not 1"),
]

AT_SATELLITE: list[Case] = [
    *ROUNDS,
    *STATUSES,
    *BLOCKS,
    ("a-0", block("b-0"), ("c",), r"owner: there is no satellite 'b-0' in plane 0"),
    ("a-0", block("a-1"), ("c",), r"owner: a-1 has its own block"),
    ("gs", block("a-0"), ("c",), r"source: gs has no such message for this node"),
    ("b-0", block("a-0"), ("c",), r"source: b-0 has no such message for this node"),
    ("gs", fetch(round=0), (), r"round: must be 1 to 3, not 0"),
    ("gs", fetch("a-9"), (), r"satellite: there is no satellite 'a-9'"),
    ("gs", fetch("a-0"), (), r"satellite: must be a-1, not a-0"),
    ("gs", fetch("a-1", block("b-0")), (), r"wanted: there is no satellite 'b-0' in plane 0"),
    ("gs", fetch("a-1", block(HUGE)), (), r"wanted: there is no satellite 'x{64}'"),
    ("gs", fetch("a-1", block(), block()), (), r"wanted: must have each name once"),
    ("gs", fetch("a-1", *[block()] * 10_000), (), r"wanted: must have each name once"),
    ("gs", fetch("a-1", block(indices=(3,))), (), r"indices: must be 0 to 2, not 3 to 3"),
    ("gs", fetch("a-1", block(indices=(1, 1))), (), r"indices: must be one or more, each once"),
    ("gs", fetch(), ("c",), r"objects: must be none, not 1"),
    ("a-0", fetch(), (), r"source: a-0 has no such message for this node"),
    ("server", fetch(), (), r"source: server has no such message for this node"),
    ("gs", features(round=0), FEATURES, r"round: must be 1 to 3, not 0"),
    ("gs", features("a-9"), FEATURES, r"owner: there is no satellite 'a-9'"),
    ("gs", features("b-0"), FEATURES, r"owner: there is no satellite 'b-0' in plane 0"),
    ("gs", features("b-0", "b-1"), FEATURES, r"owner: there is no satellite 'b-0' in plane 0"),
    ("gs", features(satellite=HUGE), FEATURES, r"satellite: there is no satellite 'x{64}'"),
    ("gs", features(), FEATURES[:2], r"indices: must be one for each of 2 objects, not 3"),
    ("gs", features(indices=(0, 1, 3)), FEATURES, r"indices: must be 0 to 2, not 0 to 3"),
    ("gs", features(indices=(0, 1, 1)), FEATURES, r"indices: must be one or more, each once"),
    ("b-0", features(), FEATURES, r"source: b-0 has no such message for this node"),
    ("a-0", visit(round=0), ("s",), r"round: must be 1 to 3, not 0"),
    ("a-0", visit(attempt=0), ("s",), r"attempt: must be 1 or more, not 0"),
    ("a-0", visit(), (), r"objects: must be the sum of 1 names, not 0"),
    ("a-0", visit(names=()), ("s",), r"objects: must be the sum of 0 names, not 1"),
    ("a-0", visit(names=("a-9",)), ("s",), r"names: there is no satellite 'a-9'"),
    ("a-0", visit(names=("b-0",)), ("s",), r"names: there is no satellite 'b-0' in plane 0"),
    ("a-0", visit(names=("a-0", "a-0")), ("s",), r"names: must have each name once"),
    ("a-0", visit(names=("a-0",) * MANY), ("s",), r"names: must have each name once"),
    ("a-0", visit(names=("a-2",)), ("s",), r"names: must be some of a-0, in this order"),
    ("a-0", visit(names=("a-0", "a-1")), ("s",), r"names: must be some of a-0, in this order"),
    ("a-0", visit(2, 2, ("a-0", "a-2")), ("s",), r"names: must be some of a-2, a-0, in this order"),
    ("a-0", visit(1, 0, ()), (), r"part 1, step 0: is not for a-1"),
    ("a-0", visit(0, 2), ("s",), r"part 0, step 2: is not for a-1"),
    ("a-0", visit(3, 1), ("s",), r"part 3, step 1: is not for a-1"),
    ("a-0", visit(-1, 1), ("s",), r"part -1, step 1: is not for a-1"),
    ("a-0", visit(0, -2), ("s",), r"part 0, step -2: is not for a-1"),
    ("a-0", visit(0, 2**31 - 1), ("s",), r"part 0, step 2147483647: is not for a-1"),
    ("b-0", visit(), ("s",), r"source: b-0 has no such message for this node"),
    ("a-0", head(round=4), ("w",), r"round: must be 1 to 3, not 4"),
    ("a-0", head(attempt=0), ("w",), r"attempt: must be 1 or more, not 0"),
    ("a-0", head("a-9"), ("w",), r"owner: there is no satellite 'a-9'"),
    ("a-0", head("b-0"), ("w",), r"owner: there is no satellite 'b-0' in plane 0"),
    ("a-0", head(), ("w", "w"), r"objects: must be one at most, not 2"),
    ("a-0", head(), ("w",), r"heads are not gathered with a-0 in this plane"),
    ("gs", head(), ("w",), r"source: gs has no such message for this node"),
    ("b-0", sum_(round=0), ("s",), r"round: must be 1 to 3, not 0"),
    ("b-0", sum_(attempt=0), ("s",), r"attempt: must be 1 or more, not 0"),
    ("b-0", sum_(2), ("s",), r"plane: must be 0 to 1, each once"),
    ("b-0", sum_(-1), ("s",), r"plane: must be 0 to 1, each once"),
    ("b-0", sum_(), (), r"objects: must be the sum of 2 names, not 0"),
    ("b-0", sum_(names=()), ("s",), r"objects: must be the sum of 0 names, not 1"),
    ("b-0", sum_(names=("b-0", "b-9")), ("s",), r"names: there is no satellite 'b-9'"),
    ("b-0", sum_(names=("b-0", "b-0")), ("s",), r"names: must have each name once"),
    ("b-0", sum_(names=("b-0",) * MANY), ("s",), r"names: must have each name once"),
    ("b-0", sum_(names=("b-0", "a-0")), ("s",), r"sum of plane 1: has satellites of others"),
    ("b-0", sum_(merged=True), ("s",), r"sum of plane 1: is not what planes exchange here"),
    ("b-0", sum_(weight=11), ("s",), r"weight: must be 12 of 2 names, each once, not 11"),
    ("b-0", sum_(weight=-12), ("s",), r"weight: must be 12 of 2 names, each once, not -12"),
    ("b-0", sum_(names=(), weight=1), (), r"weight: must be 0 of 0 names, each once, not 1"),
    ("b-0", sum_(holders=[2]), ("s",), r"holders: must be 0 to 1, each once"),
    ("b-0", sum_(holders=[-1]), ("s",), r"holders: must be 0 to 1, each once"),
    ("b-0", sum_(holders=[1, 1]), ("s",), r"holders: must be 0 to 1, each once"),
    ("b-0", sum_(holders=range(MANY)), ("s",), r"holders: must be 0 to 1, each once"),
    ("gs", sum_(), ("s",), r"source: there is no satellite 'gs'"),
    ("a-0", sum_(), ("s",), r"entry: must be a satellite of plane 0"),
    ("a-0", sum_(entry="b-0"), ("s",), r"entry: there is no satellite 'b-0' in plane 0"),
    ("a-0", sum_(entry=HUGE), ("s",), r"entry: there is no satellite 'x{64}' in plane 0"),
    ("b-0", sum_(entry="a-0"), ("s",), r"source: b-0 has no such message for this node"),
    ("a-0", crossed(round=0), (), r"round: must be 1 to 3, not 0"),
    ("a-0", crossed(attempt=0), (), r"attempt: must be 1 or more, not 0"),
    ("a-0", crossed(2), (), r"plane: must be 0 to 1, each once"),
    ("a-0", crossed(target=-1), (), r"target: must be 0 to 1, each once"),
    ("a-0", crossed(entry="b-0"), (), r"entry: there is no satellite 'b-0' in plane 0"),
    ("a-0", crossed(entry=HUGE), (), r"entry: there is no satellite 'x{64}' in plane 0"),
    ("a-0", crossed(entry=""), (), r"entry: there is no satellite '' in plane 0"),
    ("a-0", crossed(), ("s",), r"objects: must be none, not 1"),
    ("b-0", crossed(), (), r"source: b-0 has no such message for this node"),
]

AT_STATION: list[Case] = [
    *ROUNDS,
    *STATUSES,
    *BLOCKS,
    ("b-0", block("a-0"), ("c",), r"source: b-0 has no such message for this node"),
    ("server", block("a-0"), ("c",), r"source: server has no such message for this node"),
    ("server", fetch("a-9"), (), r"satellite: there is no satellite 'a-9'"),
    ("server", fetch("a-0", block("b-0")), (), r"wanted: there is no satellite 'b-0' in plane 0"),
    ("server", fetch("a-0", *[block()] * 10_000), (), r"wanted: must have each name once"),
    ("server", fetch("a-0", block(indices=(-1,))), (), r"indices: must be 0 to 2, not -1 to -1"),
    ("a-0", fetch("a-0"), (), r"source: a-0 has no such message for this node"),
    ("server", features("a-9"), FEATURES, r"owner: there is no satellite 'a-9'"),
    ("server", features("b-0"), FEATURES, r"owner: there is no satellite 'b-0' in plane 0"),
    ("server", features(satellite="a-9"), FEATURES, r"satellite: there is no satellite 'a-9'"),
    ("server", features(), (), r"indices: must be one for each of 0 objects, not 3"),
    ("server", features(indices=()), (), r"indices: must be one or more, each once"),
    ("a-0", features(), FEATURES, r"source: a-0 has no such message for this node"),
]

AT_SERVER: list[Case] = [
    *(("gs", *case[1:]) for case in STATUSES),
    *(("gs", *case[1:]) for case in BLOCKS),
    ("a-0", status(), (), r"source: a-0 has no such message for this node"),
    ("a-0", block(), ("c",), r"source: a-0 has no such message for this node"),
    ("gs", wire.Sighting(satellite="a-9"), (), r"satellite: there is no satellite 'a-9'"),
    ("gs", wire.Sighting(satellite="a-0"), ("c",), r"objects: must be none, not 1"),
    ("a-0", wire.Sighting(satellite="a-0"), (), r"source: a-0 has no such message for this node"),
    ("gs", passed("a-9"), (), r"owner: there is no satellite 'a-9'"),
    ("gs", passed("b-0"), (), r"owner: there is no satellite 'b-0' in plane 0"),
    ("gs", passed(satellite=HUGE), (), r"satellite: there is no satellite 'x{64}'"),
    ("gs", passed(indices=(-1,)), (), r"indices: must be 0 to 2, not -1 to -1"),
    ("gs", passed(indices=(1,) * MANY), (), r"indices: must be one or more, each once"),
    ("gs", passed(round=0), (), r"round: must be 1 to 3, not 0"),
    ("gs", passed(), ("c",), r"objects: must be none, not 1"),
    ("a-0", passed(), (), r"source: a-0 has no such message for this node"),
]


def named(case: object) -> str | None:
    """Not what is in a case, which may be millions of characters."""
    return case.DESCRIPTOR.name if isinstance(case, Message) else None


def refused(machine: Machine, source: str, message: Message, objects: tuple[Digest, ...], why: str) -> None:
    before = machine.snapshot()
    with pytest.raises(RemoteProtocolError, match=why) as refusal:
        told(machine, source, message, *objects)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200
    assert machine.snapshot() == before


@pytest.mark.parametrize("case", AT_SATELLITE, ids=lambda case: named(case[1]))
def test_a_satellite_refuses_and_stays_as_it_was(case: Case) -> None:
    refused(satellite(), *case)


@pytest.mark.parametrize("case", AT_STATION, ids=lambda case: named(case[1]))
def test_a_station_refuses_and_stays_as_it_was(case: Case) -> None:
    refused(station(), *case)


@pytest.mark.parametrize("case", AT_SERVER, ids=lambda case: named(case[1]))
def test_the_server_refuses_and_stays_as_it_was(case: Case) -> None:
    refused(server(), *case)


def test_a_satellite_refuses_tours_where_heads_are_gathered_and_heads_of_whom_its_ring_lacks() -> None:
    machine = satellite(GATHERING)
    refused(machine, "a-0", visit(), ("s",), "there are no tours in this plane")
    told(machine, "gs", round_(attempt=2, participants=("a-0", "a-1", "b-0")), "h1")
    refused(machine, "a-0", head("a-2", attempt=2), ("w",), "heads are not gathered with a-2 in this plane")


def test_a_satellite_refuses_sums_that_do_not_fit_the_tree() -> None:
    machine = satellite(name="b-0")
    told(machine, "b-1", round_(attempt=2, parents=(0, 0)), "h1")
    for message, why in (
        (sum_(0, ("a-0", "b-0"), attempt=2), "sum of plane 0: is not what planes exchange here"),
        (sum_(1, merged=True, attempt=2), "sum of plane 1: is not for plane 1"),
    ):
        refused(machine, "a-0", message, ("s",), why)
    told(machine, "b-1", round_(attempt=3, participants=("b-0", "b-1"), parents=(-1, 1)), "h1")
    strange = sum_(0, ("a-0",), merged=True, attempt=3)
    refused(machine, "a-0", strange, ("s",), "sum of plane 0: is not what planes exchange here")


def test_a_satellite_that_does_not_take_part_refuses_what_is_for_a_ring() -> None:
    machine = satellite()
    told(machine, "gs", round_(attempt=2, participants=("a-0", "a-2", "b-0")), "h1")
    refused(machine, "a-0", visit(attempt=2), ("s",), "there are no tours in this plane")
    refused(machine, "a-0", head(attempt=2), ("w",), "heads are not gathered with a-0 in this plane")


def test_a_satellite_refuses_another_chunk_for_one_that_it_holds() -> None:
    machine = satellite()
    told(machine, "a-0", block("a-0", (0, 1)), "c0", "c1")
    refused(machine, "a-0", block("a-0", (2, 1)), ("c2", "other"), "chunk 1 of a-0: is another one here")


def test_a_satellite_keeps_messages_that_are_early_up_to_a_bound() -> None:
    machine = satellite()
    for _ in range(EARLY_MAX):
        assert told(machine, "a-0", block(round=3), "c") == []
    refused(machine, "a-0", block(round=3), ("c",), "round 3: is not known here, nor room to wait for it")
    told(machine, "gs", round_(3, head="h2"), "h2")
    told(machine, "a-0", crossed(round=3, attempt=2))


@pytest.mark.parametrize("make, source", [(satellite, "a-0"), (station, "a-0"), (server, "gs")])
def test_what_a_later_version_adds_to_a_message_is_not_kept(make: Callable[[], Machine], source: str) -> None:
    machine = make()
    field_99_of_a_mebibyte = bytes([0x9A, 0x06, 0x80, 0x80, 0x40]) + bytes(1 << 20)
    longer = status(serial=2).SerializeToString() + field_99_of_a_mebibyte
    told(machine, source, wire.Status.FromString(longer))
    assert len(machine.snapshot()[0]) < 10_000


# --- what is taken ------------------------------------------------------------------------------------------

OF_ROUND_ONE: list[tuple[str, Message, tuple[Digest, ...]]] = [
    ("gs", round_(1, head="h0"), ("h0",)),
    ("a-0", block(round=1), ("c",)),
    ("gs", fetch(round=1), ()),
    ("gs", features(round=1), FEATURES),
    ("a-0", visit(round=1), ("s",)),
    ("a-0", head(round=1), ("w",)),
    ("b-0", sum_(round=1), ("s",)),
    ("a-0", crossed(round=1), ()),
]


def nothing(machine: Machine, source: str, message: Message, objects: tuple[Digest, ...]) -> None:
    before = machine.snapshot()
    assert told(machine, source, message, *objects) == []
    assert machine.snapshot() == before


@pytest.mark.parametrize("source, message, objects", OF_ROUND_ONE, ids=named)
def test_a_message_of_a_finished_round_is_nothing_to_a_satellite(
    source: str, message: Message, objects: tuple[Digest, ...]
) -> None:
    nothing(satellite(), source, message, objects)


@pytest.mark.parametrize("source, message, objects", OF_ROUND_ONE[4:], ids=named)
def test_a_message_of_an_attempt_that_was_given_up_is_nothing_to_a_satellite(
    source: str, message: Any, objects: tuple[Digest, ...]
) -> None:
    machine = satellite()
    told(machine, "gs", round_(attempt=2), "h1")
    message = type(message).FromString(message.SerializeToString())
    message.round = 2
    nothing(machine, source, message, objects)


@pytest.mark.parametrize("source, message, objects", OF_ROUND_ONE[1:], ids=named)
def test_a_message_of_any_round_is_nothing_after_the_last(
    source: str, message: Message, objects: tuple[Digest, ...]
) -> None:
    machine = satellite()
    told(machine, "gs", round_(4, head="h3"), "h3")
    nothing(machine, source, message, objects)


@pytest.mark.parametrize(
    "source, message, objects",
    [("gs", block(round=1), ("c",)), ("gs", passed(round=1), ()), ("gs", status(round=1), ())],
    ids=named,
)
def test_a_message_of_a_finished_round_is_nothing_to_the_server(
    source: str, message: Message, objects: tuple[Digest, ...]
) -> None:
    nothing(server(), source, message, objects)


def test_a_round_that_is_over_is_nothing_to_a_station() -> None:
    nothing(station(), "server", round_(1, head="h0"), ("h0",))


def test_a_part_that_comes_again_on_its_tour_does_not_replace_the_first() -> None:
    machine = satellite()
    told(machine, "a-0", visit(), "s")
    nothing(machine, "a-0", visit(), ("other",))
    nothing(machine, "a-0", visit(names=()), ())


def test_chunks_that_are_asked_for_again_are_kept_in_mind_once() -> None:
    machine = satellite()
    told(machine, "gs", fetch("a-1", block("a-0", (0, 1, 2))))
    nothing(machine, "gs", fetch("a-1", block("a-0", (2, 1))), ())


def test_features_on_their_way_around_the_ring_are_not_sent_twice() -> None:
    machine = satellite()
    for index in (0, 2):
        assert len(told(machine, "gs", features("a-0", "a-1", indices=(index,)), f"f{index}")) == 1
    nothing(machine, "gs", features("a-0", "a-1", indices=(2,)), ("f2",))
    nothing(machine, "gs", features("a-0", "a-1", indices=(0, 2)), ("f0", "f2"))
    assert len(told(machine, "gs", features("a-0", "a-1"), *FEATURES)) == 1
