"""Crossings between planes, held to a walk over every nanosecond of small plans."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.gateways import Crossing, Gateways, Transfer
from orbitrain.contacts.plan import ContactPlan, PlanNode

MEMBERS = {0: ("a", "b"), 1: ("c", "d"), 7: ("e",)}
NODES = tuple(PlanNode(name, "satellite") for names in MEMBERS.values() for name in names)
PLANE_OF = {name: plane for plane, names in MEMBERS.items() for name in names}
DURATION_NS = 30
BYTE_A_NS = 8_000_000_000  # bit/s


def contact(pair: str, start_ns: int, end_ns: int, *, delay_ns: int = 0) -> Contact:
    sample = Sample(start_ns, delay_ns, BYTE_A_NS, 0.0, 1.0)
    return Contact(pair[0], pair[1], "inter_isl", start_ns, end_ns, (sample,))


def plan_of(*contacts: Contact) -> ContactPlan:
    return ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", DURATION_NS, NODES, contacts)


def plan_from(seed: int) -> ContactPlan:
    """Rates rise and fall, and delays fall no faster than time runs; hypothesis draws seeds, not plans."""
    random = Random(seed)
    contacts = []
    for source, destination in itertools.permutations(PLANE_OF, 2):
        if random.random() < 0.3:
            continue
        edges = sorted(random.sample(range(DURATION_NS + 1), random.choice((2, 4))))
        for start_ns, end_ns in zip(edges[::2], edges[1::2], strict=True):
            samples: list[Sample] = []
            for t in sorted(random.sample(range(start_ns, end_ns + 1), min(2, end_ns - start_ns))):
                least = 0 if not samples else max(0, samples[-1].delay_ns - (t - samples[-1].t_ns))
                rate_bps = random.randrange(1, 25) * 10**9
                samples.append(Sample(t, least + random.choice((0, 1, 4)), rate_bps, 0.0, 1.0))
            contacts.append(Contact(source, destination, "inter_isl", start_ns, end_ns, tuple(samples)))
    return plan_of(*contacts)


def every_crossing(plan: ContactPlan, transfer: Transfer) -> list[Crossing]:
    """Whatever could be done: in each contact between planes, begin at each nanosecond."""
    found = []
    for one in plan.contacts:
        source, target = PLANE_OF[one.source], PLANE_OF[one.destination]
        for start_ns in range(one.start_ns + transfer.setup_ns, one.end_ns):
            finish_ns = one.finish_ns(start_ns, transfer.size_bytes)
            if source == target or finish_ns is None:
                continue
            arrival_ns = finish_ns + one.delay_ns_at(finish_ns)
            if arrival_ns + transfer.answer_ns <= one.end_ns:
                there_ns = arrival_ns + transfer.spread_ns
                found.append(Crossing(source, target, one.source, one.destination, start_ns, there_ns))
    return found


plans = st.integers(0, 2**32).map(plan_from)
transfers = st.builds(
    Transfer,
    size_bytes=st.sampled_from((0, 1, 2, 5)),
    setup_ns=st.sampled_from((0, 0, 2)),
    answer_ns=st.sampled_from((0, 0, 1)),
    spread_ns=st.sampled_from((0, 3)),
)


@given(plans, transfers, st.integers(-1, DURATION_NS + 3))
def test_crossings_are_the_first_to_arrive_and_the_last_to_begin(
    plan: ContactPlan, transfer: Transfer, t_ns: int
) -> None:
    gateways = Gateways(plan, MEMBERS, transfer)
    everything = every_crossing(plan, transfer)
    for source, target in itertools.permutations(MEMBERS, 2):
        between = [each for each in everything if (each.source, each.target) == (source, target)]
        assert gateways.earliest(source, target, t_ns) == min(
            (each for each in between if each.start_ns >= t_ns),
            key=lambda each: (each.arrival_ns, each.start_ns, each.sender, each.receiver),
            default=None,
        )
        assert gateways.latest(source, target, t_ns) == min(
            (each for each in between if each.arrival_ns <= t_ns),
            key=lambda each: (-each.start_ns, each.arrival_ns, each.sender, each.receiver),
            default=None,
        )


@given(plans, transfers)
def test_windows_hold_exactly_the_instants_at_which_a_crossing_may_begin(
    plan: ContactPlan, transfer: Transfer
) -> None:
    gateways = Gateways(plan, MEMBERS, transfer)
    everything = every_crossing(plan, transfer)
    for source, target in itertools.permutations(MEMBERS, 2):
        starts_ns = {each.start_ns for each in everything if (each.source, each.target) == (source, target)}
        windows = gateways.windows(source, target)
        assert {t_ns for first, last in windows for t_ns in range(first, last + 1)} == starts_ns
        assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(windows))


@given(plans, transfers, st.data())
def test_without_a_failed_crossing_its_contact_is_gone_and_no_other(
    plan: ContactPlan, transfer: Transfer, data: st.DataObject
) -> None:
    everything = every_crossing(plan, transfer)
    failed = data.draw(st.lists(st.sampled_from(everything), max_size=3)) if everything else []
    starts = [(each.sender, each.receiver, each.start_ns) for each in failed]
    gone = [plan.active(*start) for start in starts]
    left = plan_of(*(each for each in plan.contacts if each not in gone))
    whole = Gateways(plan, MEMBERS, transfer)
    found, expected = whole.without(starts[:1]).without(starts[1:]), Gateways(left, MEMBERS, transfer)
    for way in itertools.permutations(MEMBERS, 2):
        assert found.windows(*way) == expected.windows(*way)
        assert found.earliest(*way, 0) == expected.earliest(*way, 0)
        assert found.latest(*way, DURATION_NS) == expected.latest(*way, DURATION_NS)


@given(plans, transfers, st.sets(st.sampled_from("abcde")))
def test_among_some_satellites_only_their_contacts_count(
    plan: ContactPlan, transfer: Transfer, some: set[str]
) -> None:
    left = plan_of(*(each for each in plan.contacts if {each.source, each.destination} <= some))
    found, expected = (
        Gateways(plan, MEMBERS, transfer).among(some),
        Gateways(left, MEMBERS, transfer),
    )
    for way in itertools.permutations(MEMBERS, 2):
        assert found.windows(*way) == expected.windows(*way)
        assert found.earliest(*way, 0) == expected.earliest(*way, 0)
        assert found.latest(*way, DURATION_NS) == expected.latest(*way, DURATION_NS)


def test_contacts_of_different_satellites_make_one_window_and_short_ones_none() -> None:
    plan = plan_of(
        contact("ac", 0, 8),
        contact("bd", 6, 14),
        contact("ad", 16, 18),
        contact("ab", 0, 30),
        contact("ca", 0, 30),
    )
    gateways = Gateways(plan, MEMBERS, Transfer(size_bytes=2, setup_ns=1))
    assert gateways.windows(0, 1) == ((1, 12),)
    assert gateways.neighbours(0) == (1,) and gateways.neighbours(1) == (0,)
    assert gateways.neighbours(7) == () and gateways.neighbours(3) == ()
    assert gateways.earliest(0, 1, 7) == Crossing(0, 1, "b", "d", 7, 9)
    assert gateways.earliest(0, 1, 13) is None and gateways.earliest(0, 3, 0) is None


def test_nothing_begins_at_the_instant_at_which_a_contact_ends() -> None:
    gateways = Gateways(plan_of(contact("ac", 3, 5)), MEMBERS, Transfer(size_bytes=0, setup_ns=2))
    assert gateways.windows(0, 1) == ()
    assert gateways.earliest(0, 1, 0) is None and gateways.latest(0, 1, 30) is None


def test_a_satellite_is_of_one_plane_and_no_figure_is_negative() -> None:
    with pytest.raises(ValueError, match="members: must each be of one plane"):
        Gateways(plan_of(), {0: ("a", "b"), 1: ("b",)}, Transfer(1))
    with pytest.raises(ValueError, match="answer_ns: must be 0 or more, not -1"):
        Transfer(1, answer_ns=-1)
