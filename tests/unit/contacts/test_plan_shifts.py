"""A contact plan shifted in time: every contact moves, or is cut."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact
from orbitrain.contacts.plan import ContactPlan
from tests.unit.contacts.small_plans import DURATION_NS, NAMES, plan_of, plans, sample, trusted


@given(plans(), st.integers(-DURATION_NS, DURATION_NS))
def test_shifting_moves_every_contact_and_cuts_off_what_leaves_the_plan(
    plan: ContactPlan, offset_ns: int
) -> None:
    moved = plan.shifted(offset_ns)
    assert moved.duration_ns == plan.duration_ns
    ContactPlan.from_json(moved.to_json())
    for a, b in itertools.permutations(NAMES, 2):
        for t_ns in range(max(0, offset_ns), min(DURATION_NS, DURATION_NS + offset_ns)):
            then, now = plan.active(a, b, t_ns - offset_ns), moved.active(a, b, t_ns)
            assert (then is None) == (now is None)
            if (
                then is not None
                and now is not None
                and then.end_ns - then.start_ns == now.end_ns - now.start_ns
            ):
                assert now.sample_at(t_ns) == replace(then.sample_at(t_ns - offset_ns), t_ns=t_ns)
    assert len(moved.contacts) == sum(
        c.end_ns + offset_ns > 0 and c.start_ns + offset_ns < DURATION_NS for c in plan.contacts
    )


def test_a_contact_cut_by_a_shift_starts_with_the_state_it_had_there() -> None:
    ramp = Contact("sat-0", "sat-1", "intra_isl", 10, 30, (sample(10, 100, 1000), sample(30, 300, 3000)))
    (cut,) = plan_of(ramp).shifted(-15).contacts
    assert (cut.start_ns, cut.end_ns) == (0, 15)
    assert cut.samples == (sample(0, 150, 1500), sample(15, 300, 3000))


def test_a_shifted_contact_is_as_sure_as_before() -> None:
    moved = trusted().shifted(-15).contacts
    assert sorted((c.margin_ns, c.confidence) for c in moved) == [
        (0, 0.75),
        (0, 1.0),
        (0, 1.0),
        (130_000_000, 1.0),
    ]
    assert trusted().shifted(-15).nodes == trusted().nodes
