"""Capacities from a contact plan, by hand and held to what the contacts carry."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.flow.capacity import Limits, Terms, instance_of
from orbitrain.flow.instance import Instance, Plane, Room, Slot

S = 1_000_000_000
NODES = (
    PlanNode("a1", "satellite"),
    PlanNode("a2", "satellite"),
    PlanNode("g", "ground"),
    PlanNode("h", "ground"),
)
BYTE_A_S = 8
"""bit/s"""


def both(
    satellite: str, station: str, start_s: int, end_s: int, down_bps: int, up_bps: int | None = None
) -> list[Contact]:
    return [
        Contact(*ends, "feeder", start_s * S, end_s * S, (Sample(start_s * S, 5, rate_bps, 0.0, 1.0),))
        for ends, rate_bps in (
            ((satellite, station), down_bps),
            ((station, satellite), up_bps or down_bps),
        )
    ]


def plan_of(*contacts: Contact) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 1000 * S, NODES, contacts)


def chunks_by_slot(instance: Instance) -> dict[int, list[int]]:
    return {slot.index: [room.chunks for room in slot.rooms] for slot in instance.slots}


def test_a_slot_has_what_a_contact_carries_in_it_net_of_acquisition_answer_and_overhead() -> None:
    plan = plan_of(*both("a1", "g", 12, 47, 100 * BYTE_A_S))
    plane = Plane("a", ("a1",), 99)
    whole = instance_of(plan, [plane], ["g"], Terms(100, 10 * S))
    assert chunks_by_slot(whole) == {1: [8], 2: [10], 3: [10], 4: [7]}
    assert whole.slots[0].rooms == (Room("a1", "g", 8, 12 * S, 20 * S, 12 * S),)
    net = instance_of(
        plan, [plane], ["g"], Terms(100, 10 * S, acquisition_ns=3 * S, answer_ns=S, overhead=1.25)
    )
    assert chunks_by_slot(net) == {1: [4], 2: [8], 3: [8], 4: [4]}  # 125 bytes each, from 15 s to 46 s
    assert net.slots[0].rooms == (Room("a1", "g", 4, 15 * S, 20 * S, 12 * S),)
    assert instance_of(plan, [plane], ["g"], Terms(100, 10 * S, acquisition_ns=36 * S)).slots == ()


def test_a_chunk_counts_for_the_slot_in_which_it_ends() -> None:
    """15 s a chunk: none is lost at the border of a slot, only at the end of the contact."""
    plan = plan_of(*both("a1", "g", 0, 50, 100 * BYTE_A_S))
    instance = instance_of(plan, [Plane("a", ("a1",), 9)], ["g"], Terms(1500, 10 * S))
    assert chunks_by_slot(instance) == {0: [0], 1: [1], 2: [1], 3: [0], 4: [1]}


def test_of_two_contacts_of_a_link_in_one_slot_the_larger_counts() -> None:
    plan = plan_of(*both("a1", "g", 5, 23, 100 * BYTE_A_S), *both("a1", "g", 25, 42, 100 * BYTE_A_S))
    instance = instance_of(plan, [Plane("a", ("a1",), 99)], ["g"], Terms(100, 10 * S))
    assert chunks_by_slot(instance) == {0: [5], 1: [10], 2: [5], 3: [10], 4: [2]}
    assert instance.slots[2].rooms == (Room("a1", "g", 5, 25 * S, 30 * S, 25 * S),)


def test_up_is_the_other_direction_of_the_same_windows() -> None:
    plan = plan_of(*both("a1", "g", 0, 20, 100 * BYTE_A_S, up_bps=30 * BYTE_A_S))
    plane = Plane("a", ("a1",), 9)
    assert chunks_by_slot(instance_of(plan, [plane], ["g"], Terms(100, 10 * S), "down")) == {0: [10], 1: [10]}
    assert chunks_by_slot(instance_of(plan, [plane], ["g"], Terms(100, 10 * S), "up")) == {0: [3], 1: [3]}
    one_way = plan_of(both("a1", "g", 0, 20, 800)[0])
    assert (
        instance_of(one_way, [plane], ["g"], Terms(100, 10 * S)).slots == ()
    )  # nothing would be acknowledged


def test_a_link_is_counted_from_the_first_slot_of_its_plane() -> None:
    plan = plan_of(*both("a1", "g", 0, 50, 100 * BYTE_A_S), *both("a2", "g", 0, 50, 100 * BYTE_A_S))
    planes = [Plane("late", ("a1",), 9, 11 * S), Plane("soon", ("a2",), 9)]
    instance = instance_of(plan, planes, ["g"], Terms(1500, 10 * S))
    assert chunks_by_slot(instance) == {0: [0], 1: [1], 2: [0, 1], 3: [1, 0], 4: [1, 1]}
    assert [room.since_ns for room in instance.slots[2].rooms] == [0, 0]


def test_bounds_of_nodes_are_there_where_they_are_in_view_and_the_smaller_of_two_holds() -> None:
    plan = plan_of(*both("a1", "g", 0, 10, 8000), *both("a2", "h", 10, 20, 8000))
    limits = Limits(
        satellite_bps={"a1": 500 * BYTE_A_S},
        station_bps={"g": 90 * BYTE_A_S, "h": 100 * BYTE_A_S},
        backhaul_bps={"g": 200 * BYTE_A_S, "h": 15 * BYTE_A_S},
    )
    instance = instance_of(plan, [Plane("a", ("a1", "a2"), 9)], ["h", "g"], Terms(100, 10 * S), limits=limits)
    first, second = instance.slots
    assert (first.satellites, first.stations) == ({"a1": 50}, {"g": 9})
    assert (second.satellites, second.stations) == ({}, {"h": 2})  # 1.5 in each slot: 1, 2, 1, 2


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 300), st.integers(1, 300), st.integers(1, 5000), st.integers(1, 700), st.integers(0, 30)
)
def test_the_slots_of_a_contact_add_up_to_what_it_carries_whole(
    start_s: int, length_s: int, rate_bps: int, chunk_bytes: int, acquisition_s: int
) -> None:
    first, back = both("a1", "g", start_s, start_s + length_s, rate_bps)
    samples = (first.samples[0], Sample(first.end_ns, 5, rate_bps * 3, 0.0, 1.0))
    first = Contact("a1", "g", "feeder", first.start_ns, first.end_ns, samples)
    terms = Terms(chunk_bytes, 7 * S, acquisition_s * S)
    instance = instance_of(plan_of(first, back), [Plane("a", ("a1",), 1)], ["g"], terms)
    whole = first.volume_bytes(first.start_ns + acquisition_s * S, first.end_ns) // chunk_bytes
    assert sum(room.chunks for slot in instance.slots for room in slot.rooms) == whole
    for slot in instance.slots:
        (room,) = slot.rooms
        assert slot.index * 7 * S <= room.start_ns < room.end_ns <= (slot.index + 1) * 7 * S


ROOM = Room("a1", "g", 1, 0, 1, 0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: Terms(0, 1), "chunk_bytes: must be 1 or more, not 0"),
        (lambda: Terms(1, 1, -1), "acquisition_ns: must be 0 or more, not -1"),
        (lambda: Terms(1, 1, overhead=0.9), "overhead: must be 1 or more, not 0.9"),
        (lambda: Instance((), 0, ()), "slot_ns: must be 1 or more, not 0"),
        (
            lambda: Instance((Plane("a", (), 1), Plane("a", (), 1)), 1, ()),
            "plane 'a': must have a name of its own",
        ),
        (lambda: Instance((Plane("a", (), -1),), 1, ()), "plane 'a': chunks must be 0 or more, not -1"),
        (
            lambda: Instance((Plane("a", ("x",), 1), Plane("b", ("x",), 1)), 1, ()),
            "satellite 'x': must be of one plane, not of 'a' and 'b'",
        ),
        (
            lambda: Instance((Plane("a", (), 2**31 - 1), Plane("b", (), 1)), 1, ()),
            "planes: must have at most 2147483647 chunks together, not 2147483648",
        ),
        (lambda: Instance((), 1, (Slot(3, ()), Slot(3, ()))), "slots: must ascend from 0, but 3 follows 3"),
        (lambda: Instance((), 1, (Slot(3, (ROOM,)),)), "slot 3: satellite 'a1' is of no plane"),
        (
            lambda: Instance((Plane("a", ("a1",), 1),), 1, (Slot(3, (ROOM, ROOM)),)),
            "slot 3: must have a1 to g once",
        ),
        (
            lambda: Instance((Plane("a", ("a1",), 1),), 1, (Slot(0, (Room("a1", "g", -1, 0, 1, 0),)),)),
            "slot 0: chunks from a1 to g must be 0 or more, not -1",
        ),
        (
            lambda: Instance((), 1, (Slot(0, (), {}, {"g": -1}),)),
            "slot 0: chunks of 'g' must be 0 or more, not -1",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(wrong: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        wrong()
