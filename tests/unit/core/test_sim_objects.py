"""Objects over a modelled link: in chunks, over several contacts, and never twice."""

from __future__ import annotations

from orbitrain.machine import Action, Lane
from orbitrain.sim import Simulation
from tests.trace.world import SECOND_NS, plan_of, ring
from tests.unit.core.two_nodes import DEVICE, heard, letter, plan, simulate


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
