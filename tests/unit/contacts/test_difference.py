"""What moved from one plan to another."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.difference import diff
from orbitrain.contacts.plan import ContactPlan, Orbit, Place, PlanNode

NODES = (PlanNode("sat-0", "satellite"), PlanNode("sat-1", "satellite"), PlanNode("quito-0", "device"))
SECOND = 10**9


def plan_of(*contacts: Contact) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 100 * SECOND, NODES, contacts)


def contact(start_s: float, end_s: float, *, delay_ns: int = 5, rate_bps: int = 1000) -> Contact:
    start, end = round(start_s * SECOND), round(end_s * SECOND)
    samples = (Sample(start, delay_ns, rate_bps, 0.0, 1.0), Sample(end, delay_ns, rate_bps, 0.0, 1.0))
    return Contact("sat-0", "quito-0", "service", start, end, samples)


def test_the_lines_say_what_appeared_vanished_and_moved() -> None:
    a = plan_of(contact(0, 10), contact(20, 30), contact(50, 60), contact(80, 90))
    b = plan_of(
        contact(0, 10),
        contact(21.5, 29.999999999, delay_ns=1_000_005, rate_bps=900),
        contact(70, 75),
        replace(contact(80, 90), link_class="feeder"),
    )
    found = diff(a, b)
    assert found
    assert found.lines() == (
        "~ sat-0 -> quito-0 service 20.000 to 30.000 s: start +1.500 s, end -0.000000001 s, "
        "delay +1.000000 ms, rate -100 bit/s, volume -294 bytes",
        "- sat-0 -> quito-0 service 50.000 to 60.000 s",
        "+ sat-0 -> quito-0 service 70.000 to 75.000 s",
        "~ sat-0 -> quito-0 service 80.000 to 90.000 s: class now feeder",
        "1 appeared, 1 vanished, 2 moved, 1 unchanged",
    )
    assert found.moved[0].start_shift_ns == 1_500_000_000


def test_of_several_overlapping_contacts_those_that_share_most_are_one() -> None:
    a = plan_of(contact(0, 30))
    b = plan_of(contact(0, 10), contact(11, 40))
    found = diff(a, b)
    assert [(move.start_shift_ns, move.end_shift_ns) for move in found.moved] == [(11 * SECOND, 10 * SECOND)]
    assert found.appeared == (contact(0, 10),)


def test_plans_of_two_epochs_are_compared_at_the_same_instants() -> None:
    a = plan_of(contact(20, 30))
    b = replace(plan_of(contact(10, 20)), epoch="2026-01-01T00:00:10Z")
    assert diff(a, b).lines() == (
        "epoch: 2026-01-01T00:00:00Z -> 2026-01-01T00:00:10Z",
        "0 appeared, 0 vanished, 0 moved, 1 unchanged",
    )


def test_nodes_and_headers_that_differ_are_told() -> None:
    a = plan_of()
    b = replace(a, nodes=(*NODES[:2], PlanNode("hub", "ground")), revision=2, duration_ns=SECOND)
    assert diff(a, b).lines() == (
        "duration_ns: 100000000000 -> 1000000000",
        "revision: 0 -> 2",
        "+ ground hub",
        "- device quito-0",
        "0 appeared, 0 vanished, 0 moved, 0 unchanged",
    )


def test_margins_confidences_and_volumes_that_changed_are_told() -> None:
    old = contact(0, 80, rate_bps=8000)
    a = plan_of(old)
    b = plan_of(replace(old, margin_ns=1_500_000_000, confidence=0.925))
    (move,) = diff(a, b).moved
    assert (move.margin_change_ns, move.confidence_change) == (1_500_000_000, 0.925 - 1.0)
    assert move.volume_change_bytes == 0
    assert diff(a, b).lines()[0] == (
        "~ sat-0 -> quito-0 service 0.000 to 80.000 s: margin +1.500 s, confidence 1 -> 0.925"
    )
    (move,) = diff(a, plan_of(contact(0, 60, rate_bps=8000))).moved
    assert move.volume_change_bytes == -20_000
    (move,) = diff(a, plan_of(contact(0, 80, rate_bps=16_000))).moved
    assert move.volume_change_bytes == 80_000


def test_nodes_at_another_place_or_on_another_orbit_are_told() -> None:
    orbit = Orbit(27_758.1, 1e-5, 0.001, 4.0, 0.925, -1.25, 0.0657, 6.28)
    a = replace(plan_of(), nodes=(replace(NODES[0], orbit=orbit), *NODES[1:]))
    later = replace(NODES[0], orbit=replace(orbit, epoch_days=27_759.1))
    b = replace(plan_of(), nodes=(later, NODES[1], replace(NODES[2], place=Place(-0.18, -78.47, 0.0))))
    found = diff(a, b)
    assert found and found.nodes_changed == ((a.nodes[0], b.nodes[0]), (a.nodes[2], b.nodes[2]))
    assert found.lines() == (
        "~ satellite sat-0: another orbit",
        "~ device quito-0: another place",
        "0 appeared, 0 vanished, 0 moved, 0 unchanged",
    )


def test_the_same_states_spelled_with_other_samples_are_no_difference() -> None:
    one = contact(0, 10)
    assert not diff(plan_of(one), plan_of(replace(one, samples=one.samples[:1])))


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    contacts = []
    for source, destination in itertools.permutations([node.name for node in NODES], 2):
        edges = sorted(draw(st.sets(st.integers(0, 100), max_size=6)))
        for start, end in itertools.pairwise(edges):
            if draw(st.booleans()):
                delay_ns = draw(st.integers(0, 3))
                contacts.append(
                    replace(contact(start, end, delay_ns=delay_ns), source=source, destination=destination)
                )
    return plan_of(*contacts)


@settings(max_examples=50)
@given(plans(), plans())
def test_every_contact_is_accounted_for_once_and_the_way_back_mirrors_it(
    a: ContactPlan, b: ContactPlan
) -> None:
    there, back = diff(a, b), diff(b, a)
    assert len(there.vanished) + len(there.moved) + there.unchanged == len(a.contacts)
    assert len(there.appeared) + len(there.moved) + there.unchanged == len(b.contacts)
    assert {*there.vanished, *(m.before for m in there.moved)} | (set(a.contacts) & set(b.contacts)) == set(
        a.contacts
    )
    for move in there.moved:
        assert move.before.start_ns < move.after.end_ns and move.after.start_ns < move.before.end_ns
    assert there.unchanged == back.unchanged == len(set(a.contacts) & set(b.contacts))
    assert not diff(a, a) and diff(a, a).unchanged == len(a.contacts)
