"""What a contact plan answers, held to a walk over all of its contacts."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.plan import ActiveIndex, ContactPlan
from tests.unit.contacts.small_plans import DURATION_NS, NAMES, plans, small_plan


@given(plans(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(-5, DURATION_NS + 5))
def test_queries_answer_as_a_walk_over_all_contacts_does(
    plan: ContactPlan, a: str, b: str, t_ns: int
) -> None:
    of_pair = tuple(c for c in plan.contacts if (c.source, c.destination) == (a, b))
    assert plan.between(a, b) == of_pair
    assert plan.active(a, b, t_ns) == next((c for c in of_pair if c.start_ns <= t_ns < c.end_ns), None)
    assert plan.next_contact(a, b, t_ns) == next((c for c in of_pair if c.end_ns > t_ns), None)
    assert plan.contacts_of(a) == tuple(c for c in plan.contacts if a in (c.source, c.destination))
    met = {c.source for c in plan.contacts_of(a)} | {c.destination for c in plan.contacts_of(a)}
    assert plan.neighbours(a) == tuple(sorted(met - {a}))


@given(plans(), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_windows_are_the_instants_at_which_both_directions_are_active(
    plan: ContactPlan, a: str, b: str
) -> None:
    windows = plan.windows(a, b)
    for t_ns in range(DURATION_NS):
        both = plan.active(a, b, t_ns) is not None and plan.active(b, a, t_ns) is not None
        assert any(start_ns <= t_ns < end_ns for start_ns, end_ns in windows) == both
    assert all(start_ns < end_ns for start_ns, end_ns in windows)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(windows))
    assert plan.windows(b, a) == windows


def test_an_unknown_name_has_no_contacts() -> None:
    plan = small_plan()
    assert not plan.contacts_of("x") and not plan.neighbours("x")
    assert not plan.between("x", "y") and not plan.windows("x", "y")
    assert plan.active("x", "y", 0) is None
    assert plan.next_contact("x", "y", 0) is None


@settings(max_examples=30)
@given(plans(), st.integers(-5, DURATION_NS + 5), st.integers(-5, DURATION_NS + 5))
def test_the_volume_of_a_pair_is_that_of_its_contacts(plan: ContactPlan, from_ns: int, to_ns: int) -> None:
    for a, b in itertools.permutations(NAMES, 2):
        volume = sum(c.volume_bytes(from_ns, to_ns) for c in plan.between(a, b))
        assert plan.volume_bytes(a, b, from_ns, to_ns) == volume


@given(plans(), st.sampled_from(NAMES), st.integers(-5, DURATION_NS + 5))
def test_what_is_active_at_a_node_is_what_a_walk_over_all_contacts_finds(
    plan: ContactPlan, node: str, t_ns: int
) -> None:
    active = tuple(c for c in plan.contacts_of(node) if c.start_ns <= t_ns < c.end_ns)
    assert plan.active_of(node, t_ns) == active
    assert plan.active_of("x", t_ns) == ()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 60)), max_size=60), st.integers(-1, 125))
def test_an_index_of_overlapping_intervals_finds_all_that_hold_an_instant(
    intervals: list[tuple[int, int]], t_ns: int
) -> None:
    starts = sorted(start for start, _ in intervals)
    ends = [start + length for start, (_, length) in zip(starts, intervals, strict=True)]
    found = ActiveIndex(starts, ends).at(t_ns)
    assert found == [i for i in range(len(starts)) if starts[i] <= t_ns < ends[i]]


@given(plans(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(-5, DURATION_NS + 5))
def test_contacts_from_an_instant_on_and_back_from_it(plan: ContactPlan, a: str, b: str, t_ns: int) -> None:
    of_pair = plan.between(a, b)
    assert list(plan.from_instant(a, b, t_ns)) == [c for c in of_pair if c.end_ns > t_ns]
    assert list(plan.back_from_instant(a, b, t_ns)) == [c for c in of_pair if c.start_ns <= t_ns][::-1]
