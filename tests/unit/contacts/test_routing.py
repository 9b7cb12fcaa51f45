"""Routes over the plan, held to a walk over every nanosecond of small plans."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.contacts.routing import (
    Hop,
    Residual,
    Route,
    earliest_arrival,
    earliest_arrival_in_parts,
    latest_departure,
)

NAMES = ("a", "b", "c", "d")
NODES = tuple(PlanNode(name, "satellite") for name in NAMES)
DURATION_NS = 24
BYTE_A_NS = 8_000_000_000  # bit/s
SECOND = 10**9


def plan_of(*contacts: Contact, duration_ns: int = DURATION_NS) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", duration_ns, NODES, contacts)


def contact(pair: str, start: int, end: int, *, rate_bps: int = BYTE_A_NS, delay_ns: int = 0) -> Contact:
    return Contact(pair[0], pair[1], "inter_isl", start, end, (Sample(start, delay_ns, rate_bps, 0.0, 1.0),))


def plan_from(seed: int) -> ContactPlan:
    """Dense enough that most nodes are reached, over several hops; hypothesis draws seeds, not plans."""
    random = Random(seed)
    contacts = []
    for source, destination in itertools.permutations(NAMES, 2):
        if (source, destination) == ("a", "d") or random.random() < 0.3:
            continue
        edges = sorted(random.sample(range(DURATION_NS + 1), random.randrange(2, 6)))
        for start_ns, end_ns in itertools.pairwise(edges):
            if random.random() < 0.2:
                continue
            times = sorted(
                random.sample(range(start_ns, end_ns + 1), min(random.randrange(1, 4), end_ns - start_ns))
            )
            samples: list[Sample] = []
            for t in times:
                least = 0 if not samples else max(0, samples[-1].delay_ns - (t - samples[-1].t_ns))
                delay_ns = least + random.choice((0, 0, 1, 2, 6))
                samples.append(Sample(t, delay_ns, random.randrange(1, 25) * 10**9, 0.0, 1.0))
            contacts.append(Contact(source, destination, "inter_isl", start_ns, end_ns, tuple(samples)))
    return plan_of(*contacts)


plans = st.integers(0, 2**32).map(plan_from)
sizes = st.sampled_from((0, 1, 1, 2, 3, 5, 12))


# --- the reference ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sending:
    contact: Contact
    start_ns: int
    finish_ns: int
    arrival_ns: int


def rate(one: Contact, t_ns: int) -> Fraction:
    if t_ns <= one.samples[0].t_ns:
        return Fraction(one.samples[0].rate_bps)
    for left, right in itertools.pairwise(one.samples):
        if t_ns <= right.t_ns:
            slope = Fraction(right.rate_bps - left.rate_bps, right.t_ns - left.t_ns)
            return left.rate_bps + slope * (t_ns - left.t_ns)
    return Fraction(one.samples[-1].rate_bps)


def every_sending(plan: ContactPlan, size_bytes: int, residual: Residual) -> list[Sending]:
    """Whatever could be done: in each contact, begin at each free nanosecond."""
    found = []
    for one in plan.contacts:
        busy = {t for start_ns, end_ns in residual.busy(one) for t in range(start_ns, end_ns)}
        for start_ns in range(one.start_ns, one.end_ns):
            if start_ns in busy:
                continue
            left = Fraction(size_bytes * 8 * SECOND)
            finish_ns = start_ns
            for t_ns in range(start_ns, one.end_ns):
                if left <= 0:
                    break
                if t_ns not in busy:
                    left -= (rate(one, t_ns) + rate(one, t_ns + 1)) / 2
                    finish_ns = t_ns + 1
            if left <= 0:
                found.append(Sending(one, start_ns, finish_ns, finish_ns + one.delay_ns_at(finish_ns)))
    return found


def every_sending_in_parts(plan: ContactPlan, size_bytes: int) -> list[Sending]:
    """Whatever could be done: begin at each nanosecond of each contact, go on in those that follow."""
    found = []
    for first in plan.contacts:
        following = [
            one for one in plan.between(first.source, first.destination) if one.start_ns >= first.start_ns
        ]
        for start_ns in range(first.start_ns, first.end_ns):
            left = Fraction(size_bytes * 8 * SECOND)
            finish_ns, arrival_ns = start_ns, start_ns + first.delay_ns_at(start_ns)
            for one in following:
                for t_ns in range(max(start_ns, one.start_ns), one.end_ns):
                    if left > 0:
                        left -= (rate(one, t_ns) + rate(one, t_ns + 1)) / 2
                        finish_ns = t_ns + 1
                        arrival_ns = max(arrival_ns, finish_ns + one.delay_ns_at(finish_ns))
            if left <= 0:
                found.append(Sending(first, start_ns, finish_ns, arrival_ns))
    return found


def with_delay(plan: ContactPlan, delay_ns: int) -> ContactPlan:
    """The plan with one delay everywhere."""
    contacts = [
        replace(one, samples=tuple(replace(sample, delay_ns=delay_ns) for sample in one.samples))
        for one in plan.contacts
    ]
    return replace(plan, contacts=tuple(contacts))


def reached(sendings: list[Sending], node: str, t_ns: int) -> dict[str, int]:
    """The earliest instant at each node, of all that can be reached from `node` at `t_ns`."""
    states, new = {(node, t_ns)}, [(node, t_ns)]
    while new:
        at, now = new.pop()
        for one in sendings:
            state = (one.contact.destination, one.arrival_ns)
            if one.contact.source == at and one.start_ns >= now and state not in states:
                states.add(state)
                new.append(state)
    return {name: min(t for at, t in states if at == name) for name in {at for at, _ in states}}


def check_route(
    route: Route, source: str, destination: str, sendings: list[Sending], size_bytes: int
) -> None:
    assert [hop.contact.source for hop in route] == [source, *(h.contact.destination for h in route[:-1])]
    assert route[-1].contact.destination == destination
    assert all(one.arrival_ns <= other.start_ns for one, other in itertools.pairwise(route))
    possible = {(one.contact, one.start_ns, one.finish_ns, one.arrival_ns) for one in sendings}
    assert all((hop.contact, hop.start_ns, hop.finish_ns, hop.arrival_ns) in possible for hop in route)


@st.composite
def reserved(draw: st.DrawFn, plan: ContactPlan) -> Residual:
    residual = Residual()
    for name in ("one", "two", "three", "four", "five")[: draw(st.sampled_from((5, 3, 0)))]:
        source, destination = draw(st.permutations(NAMES))[:2]
        size_bytes, t_ns = draw(st.sampled_from((1, 1, 2, 3, 0))), draw(st.sampled_from((0, 3, 12)))
        route = earliest_arrival(plan, source, destination, t_ns, size_bytes, residual)
        if route is not None:
            residual.reserve(name, route, size_bytes)
    return residual


# --- against the reference --------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(plans, st.data(), st.sampled_from((0, 2, 5, 11)), sizes)
def test_the_earliest_arrival_is_that_of_trying_everything(
    plan: ContactPlan, data: st.DataObject, t_ns: int, size_bytes: int
) -> None:
    residual = data.draw(reserved(plan))
    sendings = every_sending(plan, size_bytes, residual)
    best = reached(sendings, "a", t_ns)
    for destination in NAMES[1:]:
        route = earliest_arrival(plan, "a", destination, t_ns, size_bytes, residual)
        assert (route[-1].arrival_ns if route else None) == best.get(destination)
        if route:
            assert route[0].start_ns >= t_ns
            check_route(route, "a", destination, sendings, size_bytes)


@settings(max_examples=100, deadline=None)
@given(plans, st.data(), st.sampled_from((0, 2, 11)), sizes, st.sets(st.sampled_from(("b", "c", "d", "x"))))
def test_the_earliest_arrival_without_some_nodes_is_that_of_a_plan_that_lacks_them(
    plan: ContactPlan, data: st.DataObject, t_ns: int, size_bytes: int, without: set[str]
) -> None:
    residual = data.draw(reserved(plan))
    sendings = [
        one for one in every_sending(plan, size_bytes, residual) if one.contact.destination not in without
    ]
    best = reached(sendings, "a", t_ns)
    for destination in NAMES[1:]:
        route = earliest_arrival(plan, "a", destination, t_ns, size_bytes, residual, without)
        assert (route[-1].arrival_ns if route else None) == best.get(destination)
        if route:
            check_route(route, "a", destination, sendings, size_bytes)


@settings(max_examples=200, deadline=None)
@given(
    plans,
    st.sampled_from((0, 2, 11)),
    st.sampled_from((0, 1, 5, 12, 20, 40)),
    st.sampled_from((0, 1, 5)),
    st.sets(st.sampled_from(("b", "c")), max_size=1),
)
def test_the_earliest_arrival_in_parts_is_that_of_trying_everything(
    plan: ContactPlan, t_ns: int, size_bytes: int, delay_ns: int, without: set[str]
) -> None:
    plan = with_delay(plan, delay_ns)
    sendings = [
        one for one in every_sending_in_parts(plan, size_bytes) if one.contact.destination not in without
    ]
    best = reached(sendings, "a", t_ns)
    for destination in NAMES[1:]:
        route = earliest_arrival_in_parts(plan, "a", destination, t_ns, size_bytes, without)
        assert (route[-1].arrival_ns if route else None) == best.get(destination)
        if route:
            check_route(route, "a", destination, sendings, size_bytes)
        whole = earliest_arrival(plan, "a", destination, t_ns, size_bytes, without=without)
        assert whole is None or (route and route[-1].arrival_ns <= whole[-1].arrival_ns)


@settings(max_examples=200, deadline=None)
@given(plans, st.data(), st.sampled_from((DURATION_NS + 8, DURATION_NS, 17, 9)), sizes)
def test_the_latest_departure_is_that_of_trying_everything(
    plan: ContactPlan, data: st.DataObject, deadline_ns: int, size_bytes: int
) -> None:
    residual = data.draw(reserved(plan))
    sendings = every_sending(plan, size_bytes, residual)
    in_time: dict[tuple[str, int], int] = {}
    for one in sendings:
        state = (one.contact.destination, one.arrival_ns)
        if state not in in_time:
            in_time[state] = reached(sendings, *state).get("d", deadline_ns + 1)
    for source in NAMES[:3]:
        starts = [
            one.start_ns
            for one in sendings
            if one.contact.source == source
            and in_time[one.contact.destination, one.arrival_ns] <= deadline_ns
        ]
        route = latest_departure(plan, source, "d", deadline_ns, size_bytes, residual)
        assert (route[0].start_ns if route else None) == max(starts, default=None)
        if route:
            assert route[-1].arrival_ns <= deadline_ns
            check_route(route, source, "d", sendings, size_bytes)


@settings(max_examples=60, deadline=None)
@given(plans, st.data(), sizes)
def test_what_is_reserved_is_taken_once_and_comes_back_whole(
    plan: ContactPlan, data: st.DataObject, size_bytes: int
) -> None:
    residual = data.draw(reserved(plan))
    before = {one: residual.busy(one) for one in plan.contacts}
    route = earliest_arrival(plan, "a", "d", 0, size_bytes, residual)
    if not route:
        return
    left = {hop: residual.volume_bytes(hop.contact, 0, DURATION_NS) for hop in route}
    residual.reserve("mine", route, size_bytes)
    for hop in route:
        busy = residual.busy(hop.contact)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(busy))
        assert residual.volume_bytes(hop.contact, 0, DURATION_NS) <= left[hop] - size_bytes
    assert residual.release("mine")
    assert {one: residual.busy(one) for one in plan.contacts} == before
    assert not residual.release("mine")


@settings(max_examples=60, deadline=None)
@given(plans, st.randoms(use_true_random=False), st.integers(0, 5))
def test_a_route_does_not_depend_on_the_order_of_nodes_and_contacts(
    plan: ContactPlan, random: object, size_bytes: int
) -> None:
    nodes, contacts = list(plan.nodes), list(plan.contacts)
    random.shuffle(nodes)  # type: ignore[attr-defined]
    random.shuffle(contacts)  # type: ignore[attr-defined]
    other = replace(plan, nodes=tuple(nodes), contacts=tuple(contacts))
    assert earliest_arrival(plan, "a", "d", 0, size_bytes) == earliest_arrival(other, "a", "d", 0, size_bytes)
    late = latest_departure(plan, "a", "d", DURATION_NS, size_bytes)
    assert late == latest_departure(other, "a", "d", DURATION_NS, size_bytes)


# --- by hand ----------------------------------------------------------------------------------------------


def test_a_route_waits_where_it_must_and_adds_light_time() -> None:
    first = contact("ab", 0, 100 * SECOND, rate_bps=8_000_000, delay_ns=5_000_000)
    second = contact("bd", 60 * SECOND, 90 * SECOND, rate_bps=800_000, delay_ns=7_000_000)
    plan = plan_of(first, second, duration_ns=100 * SECOND)
    route = earliest_arrival(plan, "a", "d", SECOND, 1_000_000)
    assert route == (
        Hop(first, SECOND, 2 * SECOND, 2_005_000_000),
        Hop(second, 60 * SECOND, 70 * SECOND, 70_007_000_000),
    )
    late = latest_departure(plan, "a", "d", 85_007_000_000, 1_000_000)
    assert late == (
        Hop(first, 73_995_000_000, 74_995_000_000, 75 * SECOND),
        Hop(second, 75 * SECOND, 85 * SECOND, 85_007_000_000),
    )


def test_a_later_contact_with_less_light_time_may_arrive_first() -> None:
    slow, quick = contact("ad", 0, 4, delay_ns=20), contact("ad", 6, 10, delay_ns=1)
    route = earliest_arrival(plan_of(slow, quick), "a", "d", 0, 2)
    assert route == (Hop(quick, 6, 8, 9),)
    assert latest_departure(plan_of(slow, quick), "a", "d", 8, 2) is None


def test_ties_go_to_fewer_hops_and_then_to_the_smaller_name() -> None:
    over_b = (contact("ab", 0, 5), contact("bd", 0, 20))
    over_c = (contact("ac", 0, 5), contact("cd", 0, 20))
    route = earliest_arrival(plan_of(*over_c, *over_b), "a", "d", 0, 2)
    assert route is not None and [hop.contact for hop in route] == list(over_b)
    direct = contact("ad", 2, 20)
    route = earliest_arrival(plan_of(*over_c, *over_b, direct), "a", "d", 0, 2)
    assert route is not None and [hop.contact for hop in route] == [direct]


def test_a_reservation_delays_the_next_transfer_and_releasing_it_does_not() -> None:
    only = contact("ad", 0, 10)
    plan = plan_of(only)
    residual = Residual()
    middle = latest_departure(plan, "a", "d", 7, 4)
    assert middle == (Hop(only, 3, 7, 7),)
    residual.reserve("first", middle, 4)
    around = earliest_arrival(plan, "a", "d", 0, 5, residual)
    assert around == (Hop(only, 0, 9, 9),)
    assert residual.volume_bytes(only, 0, 10) == 6
    assert latest_departure(plan, "a", "d", 9, 5, residual) == around
    residual.reserve("second", around, 5)
    assert residual.names() == ("first", "second")
    assert residual.busy(only) == ((0, 3), (3, 7), (7, 9))
    assert earliest_arrival(plan, "a", "d", 0, 2, residual) is None
    residual.release("first")
    assert earliest_arrival(plan, "a", "d", 0, 2, residual) == (Hop(only, 3, 5, 5),)


def test_a_reservation_is_made_whole_or_not_at_all() -> None:
    first, second = contact("ab", 0, 10), contact("bd", 0, 10)
    plan = plan_of(first, second)
    route = earliest_arrival(plan, "a", "d", 0, 4)
    short = earliest_arrival(plan, "b", "d", 4, 4)
    assert route and short
    residual = Residual()
    residual.reserve("short", short, 4)
    with pytest.raises(ValueError, match=r"^route: b to d at 4 ns is no longer free$"):
        residual.reserve("long", route, 4)
    assert residual.busy(first) == () and residual.names() == ("short",)
    with pytest.raises(ValueError, match=r"^name: 'short' holds a reservation already$"):
        residual.reserve("short", route, 4)


def test_to_stay_needs_no_hop_and_what_is_not_linked_is_not_reached() -> None:
    plan = plan_of(contact("ab", 0, 10))
    assert earliest_arrival(plan, "a", "a", 5, 9) == ()
    assert latest_departure(plan, "a", "a", 5, 9) == ()
    assert earliest_arrival(plan, "a", "d", 0, 1) is None
    assert earliest_arrival(plan, "b", "a", 0, 1) is None
    assert earliest_arrival(plan, "a", "x", 0, 1) is None
    assert earliest_arrival(plan, "a", "b", 10, 0) is None  # the end is not part of a contact
    with pytest.raises(ValueError, match=r"^size_bytes: must be 0 or more, not -1$"):
        earliest_arrival(plan, "a", "b", 0, -1)
    with pytest.raises(ValueError, match=r"^size_bytes: must be 0 or more, not -1$"):
        earliest_arrival_in_parts(plan, "a", "b", 0, -1)


def test_a_node_to_be_avoided_is_neither_gone_over_nor_reached() -> None:
    plan = plan_of(contact("ab", 0, 10), contact("bd", 0, 10), contact("ac", 0, 10), contact("cd", 5, 10))
    route = earliest_arrival(plan, "a", "d", 0, 1, without={"b"})
    assert route is not None and [hop.contact.destination for hop in route] == ["c", "d"]
    assert earliest_arrival(plan, "a", "d", 0, 1, without={"b", "c"}) is None
    assert earliest_arrival(plan, "a", "d", 0, 1, without={"d"}) is None
    assert earliest_arrival_in_parts(plan, "a", "d", 0, 1, without={"d"}) is None


def test_what_no_contact_can_take_whole_goes_in_parts() -> None:
    first, second = contact("ad", 0, 4, delay_ns=1), contact("ad", 6, 9, delay_ns=1)
    plan = plan_of(first, second)
    assert earliest_arrival(plan, "a", "d", 0, 6) is None
    assert earliest_arrival_in_parts(plan, "a", "d", 0, 6) == (Hop(first, 0, 8, 9),)
    assert earliest_arrival_in_parts(plan, "a", "d", 3, 4) == (Hop(first, 3, 9, 10),)
    assert earliest_arrival_in_parts(plan, "a", "d", 0, 8) is None


def test_a_transfer_in_parts_is_whole_only_once_its_slowest_part_is_there() -> None:
    slow, quick = contact("ab", 0, 4, delay_ns=9), contact("ab", 6, 10, delay_ns=1)
    onward = contact("bd", 8, 20)
    plan = plan_of(slow, quick, onward)
    route = earliest_arrival_in_parts(plan, "a", "d", 0, 5)
    assert route == (Hop(slow, 0, 7, 13), Hop(onward, 13, 18, 18))
