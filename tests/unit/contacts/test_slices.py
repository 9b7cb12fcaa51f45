"""Slices of a plan, and plans that follow one another."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.compact import CompactPlan, compact
from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, Orbit, Place, PlanNode
from orbitrain.contacts.serving import ServiceTimeline
from orbitrain.contacts.slices import slice_for
from orbitrain.contacts.updates import replaces, spliced

SATELLITES = ("sat-0", "sat-1", "sat-2")
DEVICES = ("quito-0", "quito-1", "lima-0")
NODES = (
    *(PlanNode(name, "satellite") for name in SATELLITES),
    PlanNode("hub", "ground"),
    *(PlanNode(name, "device") for name in DEVICES),
)
DURATION_NS = 40


def plan_of(*contacts: Contact) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, NODES, contacts)


def contact(source: str, destination: str, start: int, end: int, *delays: int) -> Contact:
    times = {0: start, 1: end}
    samples = tuple(Sample(times[i], d, 1000 + d, 0.0, 1.0) for i, d in enumerate(delays or (5,)))
    return Contact(source, destination, "service", start, end, samples)


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    ends = [*itertools.product(SATELLITES, (*DEVICES, "hub")), ("sat-0", "sat-1"), ("quito-0", "quito-1")]
    contacts = []
    for a, b in (*ends, *((b, a) for a, b in ends)):
        edges = sorted(draw(st.sets(st.integers(0, DURATION_NS), max_size=3)))
        for start_ns, end_ns in itertools.pairwise(edges):
            contacts.append(contact(a, b, start_ns, end_ns, draw(st.integers(0, 9)), draw(st.integers(0, 9))))
    return plan_of(*contacts)


@settings(max_examples=40)
@given(plans(), st.booleans())
def test_a_slice_answers_for_its_node_and_its_regions_as_the_whole_does(
    plan: ContactPlan, packed: bool
) -> None:
    whole = CompactPlan(compact(plan)) if packed else plan
    regions = (("quito-0", "quito-1"), ("lima-0",))
    for node, followed in (("quito-0", regions[:1]), ("sat-1", regions), ("hub", ())):
        part = slice_for(whole, node, [device for region in followed for device in region])
        assert part.contacts_of(node) == plan.contacts_of(node)
        for devices in followed:
            services = ServiceTimeline(part, devices).services
            assert services == ServiceTimeline(plan, devices).services
        assert (part.for_node, part.of_sha256, part.whole_sha256) == (node, plan.sha256, plan.sha256)
        assert ContactPlan.from_json(part.to_json()) == part
        assert set(part.contacts) <= set(plan.contacts)
    own = slice_for(whole, "hub")
    assert own.contacts == plan.contacts_of("hub")


def test_a_slice_leaves_out_what_its_node_does_not_need() -> None:
    plan = plan_of(
        contact("sat-0", "quito-1", 0, 9),
        contact("quito-1", "quito-0", 0, 9),
        contact("quito-1", "hub", 0, 9),
        contact("sat-0", "sat-1", 0, 9),
        contact("sat-0", "lima-0", 0, 9),
    )
    part = slice_for(plan, "quito-0", ["quito-0", "quito-1"])
    assert [(c.source, c.destination) for c in part.contacts] == [
        ("quito-1", "quito-0"),
        ("sat-0", "quito-1"),
    ]
    assert [node.name for node in part.nodes] == ["sat-0", "quito-0", "quito-1"]


def test_a_slice_keeps_margins_places_and_orbits() -> None:
    orbit = Orbit(27_758.1, 1e-5, 0.001, 4.0, 0.925, -1.25, 0.0657, 6.28)
    nodes = (
        replace(NODES[0], orbit=orbit),
        *NODES[1:4],
        replace(NODES[4], place=Place(-0.18, -78.47, 2850.0)),
        *NODES[5:],
    )
    doubtful = replace(contact("sat-0", "quito-0", 0, 9), margin_ns=3, confidence=0.25)
    plan = replace(plan_of(doubtful), nodes=nodes)
    for whole in (plan, CompactPlan(compact(plan))):
        part = slice_for(whole, "quito-0")
        assert part.nodes == (nodes[0], nodes[4])
        assert part.contacts == (doubtful,)


def test_a_slice_is_of_a_whole_plan_and_for_names_that_it_knows() -> None:
    plan = plan_of()
    with pytest.raises(ValueError, match=r"^node: 'x' is not a node of the plan$"):
        slice_for(plan, "x")
    with pytest.raises(ValueError, match=r"^devices: 'x' is not a node of the plan$"):
        slice_for(plan, "hub", ["x"])
    with pytest.raises(ValueError, match=r"^plan: must be a whole plan, not the slice for hub$"):
        slice_for(slice_for(plan, "hub"), "hub")


# --- updates ----------------------------------------------------------------------------------------------


def test_only_a_later_revision_of_the_same_plan_replaces_one() -> None:
    plan = plan_of(contact("sat-0", "hub", 0, 9))
    later = replace(plan, revision=1)
    other = plan_of(contact("sat-0", "hub", 0, 8))
    part = slice_for(later, "hub")
    table = [
        (plan, later, (True, "revision 1 follows 0")),
        (later, plan, (False, "revision 0 is older than 1")),
        (plan, plan, (False, "it is the plan in use, revision 0")),
        (plan, other, (False, "it is another plan under the same revision 0")),
        (plan, part, (False, "it is a slice for hub, not a whole plan")),
        (slice_for(plan, "hub"), part, (True, "revision 1 follows 0")),
        (slice_for(plan, "sat-0"), part, (False, "it is a slice for hub, not a slice for sat-0")),
        (
            plan,
            replace(later, scenario_sha256="cd" * 32),
            (False, "it is the plan of another scenario"),
        ),
        (
            plan,
            replace(later, epoch="2026-01-02T00:00:00Z"),
            (False, "its epoch is 2026-01-02T00:00:00Z, not 2026-01-01T00:00:00Z"),
        ),
    ]
    for current, offered, decision in table:
        assert replaces(current, offered) == decision


@settings(max_examples=30)
@given(plans(), plans(), st.integers(0, DURATION_NS))
def test_a_spliced_plan_is_the_old_one_until_an_instant_and_then_the_new_one(
    current: ContactPlan, fresh: ContactPlan, from_ns: int
) -> None:
    plan = spliced(current, fresh, from_ns)
    assert plan.revision == 1
    assert ContactPlan.from_json(plan.to_json()) == plan
    assert replaces(current, plan)[0]
    for a, b in itertools.permutations([node.name for node in NODES], 2):
        for t_ns in range(DURATION_NS):
            source = current if t_ns < from_ns else fresh
            expected, found = source.active(a, b, t_ns), plan.active(a, b, t_ns)
            assert (expected is None) == (found is None)
            if expected is not None and found is not None:
                # Cutting a line at a whole ns rounds it there.
                one, other = expected.sample_at(t_ns), found.sample_at(t_ns)
                assert abs(one.delay_ns - other.delay_ns) <= 1 and abs(one.rate_bps - other.rate_bps) <= 1
    whole = [c for c in current.contacts if c.end_ns <= from_ns]
    assert set(whole) <= set(plan.contacts)


def test_a_contact_of_both_plans_at_the_seam_goes_on_as_one() -> None:
    old = plan_of(contact("sat-0", "hub", 0, 20, 10, 10), contact("sat-1", "hub", 0, 20))
    new = plan_of(contact("sat-0", "hub", 5, 30, 40, 40), contact("sat-2", "hub", 0, 20))
    plan = spliced(old, new, 12)
    (joined,) = plan.between("sat-0", "hub")
    assert (joined.start_ns, joined.end_ns) == (0, 30)
    assert [joined.delay_ns_at(t) for t in (0, 11, 12, 29)] == [10, 10, 40, 40]
    ramp = plan_of(contact("sat-0", "hub", 10, 20, 0, 100))
    (joined,) = spliced(ramp, new, 12).between("sat-0", "hub")
    assert [joined.delay_ns_at(t) for t in (10, 11, 12, 29)] == [0, 10, 40, 40]
    assert [(c.start_ns, c.end_ns) for c in plan.between("sat-1", "hub")] == [(0, 12)]
    assert [(c.start_ns, c.end_ns) for c in plan.between("sat-2", "hub")] == [(12, 20)]


def test_a_joined_contact_is_no_surer_than_either_part() -> None:
    old = replace(contact("sat-0", "hub", 0, 20), margin_ns=7, confidence=0.5)
    new = replace(contact("sat-0", "hub", 5, 30), margin_ns=3, confidence=0.25)
    late = replace(contact("sat-1", "hub", 5, 30), margin_ns=1, confidence=0.125)
    (joined, cut) = spliced(plan_of(old), plan_of(new, late), 12).contacts
    assert (joined.start_ns, joined.end_ns, joined.margin_ns, joined.confidence) == (0, 30, 7, 0.25)
    assert (cut.start_ns, cut.end_ns, cut.margin_ns, cut.confidence) == (12, 30, 1, 0.125)


def test_slices_and_other_scenarios_are_not_spliced() -> None:
    plan = plan_of()
    for other, message in (
        (slice_for(plan, "hub"), "plan: must be whole"),
        (replace(plan, scenario_sha256="cd" * 32), "scenario_sha256: must be the same"),
        (replace(plan, epoch="2026-01-02T00:00:00Z"), "epoch: must be 2026-01-01T00:00:00Z"),
        (replace(plan, duration_ns=5), "from_ns: must be within both plans, not 6"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            spliced(plan, other, 6)
