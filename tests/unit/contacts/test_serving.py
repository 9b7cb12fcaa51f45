"""Who serves a region, and who carries to the next."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orbitrain.contacts.contact import Contact, Sample
from orbitrain.contacts.plan import ContactPlan, PlanNode
from orbitrain.contacts.serving import Carriage, Service, ServiceTimeline, earliest_carrier, views_of_region

DURATION_NS = 60
SATELLITES = ("sat-a", "sat-b", "sat-c", "sat-d")
NORTH, SOUTH = ("north-0", "north-1"), ("south-0",)

Views = dict[tuple[str, str], list[tuple[int, int]]]


def plan_of(views: Views, *, one_way: bool = False) -> ContactPlan:
    """A plan in which satellite and device see each other during the given (start_ns, end_ns)."""
    contacts = []
    for (satellite, device), windows in views.items():
        for start_ns, end_ns in windows:
            samples = (Sample(start_ns, 1, 1, 0.0, 1.0),)
            contacts.append(Contact(satellite, device, "service", start_ns, end_ns, samples))
            if not one_way:
                contacts.append(Contact(device, satellite, "service", start_ns, end_ns, samples))
    nodes = [PlanNode(name, "satellite") for name in SATELLITES]
    nodes += [PlanNode(name, "device") for name in (*NORTH, *SOUTH)]
    return ContactPlan(1, "0" * 64, "2026-01-01T00:00:00Z", DURATION_NS, tuple(nodes), tuple(contacts))


@st.composite
def plans(draw: st.DrawFn) -> ContactPlan:
    views: Views = {}
    for satellite in SATELLITES:
        for devices in (NORTH, SOUTH):
            edges = sorted(draw(st.sets(st.integers(0, DURATION_NS), max_size=6)))
            windows = [pair for pair in itertools.pairwise(edges) if draw(st.booleans())]
            for device in devices:
                # Devices of a region mostly see alike, as they stand together, but need not.
                views[satellite, device] = [pair for pair in windows if draw(st.integers(0, 5))]
    return plan_of(views)


def in_view(plan: ContactPlan, devices: tuple[str, ...], satellite: str, t_ns: int) -> bool:
    return all(
        plan.active(satellite, device, t_ns) and plan.active(device, satellite, t_ns) for device in devices
    )


def served_by_the_rule(plan: ContactPlan, devices: tuple[str, ...]) -> list[str | None]:
    """The documented rule, tick by tick, without intervals."""

    def sets_ns(satellite: str, t_ns: int) -> int:
        while t_ns < DURATION_NS and in_view(plan, devices, satellite, t_ns):
            t_ns += 1
        return t_ns

    served: list[str | None] = []
    incumbent: str | None = None
    for t_ns in range(DURATION_NS):
        if incumbent is None or not in_view(plan, devices, incumbent, t_ns):
            candidates = [s for s in SATELLITES if in_view(plan, devices, s, t_ns)]
            incumbent = min(candidates, key=lambda s: (-sets_ns(s, t_ns), s), default=None)
        served.append(incumbent)
    return served


@given(plans(), st.sampled_from([NORTH, SOUTH]))
def test_the_timeline_is_the_documented_rule(plan: ContactPlan, devices: tuple[str, ...]) -> None:
    timeline = ServiceTimeline(plan, devices)
    answers = [timeline.serving(t_ns) for t_ns in range(DURATION_NS)]
    assert [service and service.satellite for service in answers] == served_by_the_rule(plan, devices)


@given(plans(), st.sampled_from([NORTH, SOUTH]))
def test_one_serves_at_a_time_in_view_without_a_gap_and_until_it_sets(
    plan: ContactPlan, devices: tuple[str, ...]
) -> None:
    timeline = ServiceTimeline(plan, devices)
    for one, other in itertools.pairwise(timeline.services):
        assert one.end_ns <= other.start_ns
    for service in timeline.services:
        assert all(
            in_view(plan, devices, service.satellite, t) for t in range(service.start_ns, service.end_ns)
        )
        if service.end_ns < DURATION_NS:
            assert not in_view(plan, devices, service.satellite, service.end_ns)
    for t_ns in range(DURATION_NS):
        somebody = any(in_view(plan, devices, satellite, t_ns) for satellite in SATELLITES)
        assert (timeline.serving(t_ns) is not None) == somebody


@given(plans(), st.integers(-3, DURATION_NS + 3), st.sampled_from(SATELLITES))
def test_questions_about_the_timeline_agree_with_its_list(
    plan: ContactPlan, t_ns: int, satellite: str
) -> None:
    timeline = ServiceTimeline(plan, NORTH)
    services = timeline.services
    mine = tuple(s for s in services if s.satellite == satellite)
    assert timeline.services_of(satellite) == mine
    assert timeline.next_service(satellite, t_ns) == next((s for s in mine if s.end_ns > t_ns), None)
    assert timeline.services_after(t_ns) == tuple(s for s in services if s.end_ns > t_ns)
    later = [t for t in range(t_ns + 1, DURATION_NS + 4) if timeline.serving(t) != timeline.serving(t - 1)]
    assert timeline.next_change_ns(t_ns) == (later[0] if later else None)


def fastest_of_all_pairs(source: ServiceTimeline, target: ServiceTimeline, ready_ns: int) -> Carriage | None:
    found = []
    for pickup, delivery in itertools.product(source.services, target.services):
        held_ns = max(pickup.start_ns, ready_ns)
        if pickup.satellite == delivery.satellite and pickup.end_ns > ready_ns and delivery.end_ns > held_ns:
            key = (max(delivery.start_ns, held_ns), pickup.start_ns, pickup.satellite)
            found.append((key, Carriage(pickup.satellite, pickup, delivery)))
    return min(found, key=lambda item: item[0])[1] if found else None


@given(plans(), st.integers(-3, DURATION_NS + 3))
def test_the_carrier_is_the_best_of_all_pairs_of_services(plan: ContactPlan, ready_ns: int) -> None:
    north, south = ServiceTimeline(plan, NORTH), ServiceTimeline(plan, SOUTH)
    assert earliest_carrier(north, south, ready_ns) == fastest_of_all_pairs(north, south, ready_ns)
    assert earliest_carrier(south, north, ready_ns) == fastest_of_all_pairs(south, north, ready_ns)


def test_the_incumbent_keeps_the_region_though_a_longer_pass_has_begun() -> None:
    timeline = ServiceTimeline(
        plan_of(
            {
                ("sat-b", "south-0"): [(0, 10)],
                ("sat-a", "south-0"): [(2, 30)],
                ("sat-c", "south-0"): [(1, 40)],
            }
        ),
        SOUTH,
    )
    assert timeline.services == (Service("sat-b", 0, 10), Service("sat-c", 10, 40))


def test_of_those_that_set_last_the_smaller_name_serves() -> None:
    plan = plan_of({("sat-b", "south-0"): [(5, 20)], ("sat-a", "south-0"): [(5, 20)]})
    assert ServiceTimeline(plan, SOUTH).services == (Service("sat-a", 5, 20),)


def test_two_contacts_that_touch_are_one_service() -> None:
    plan = plan_of({("sat-a", "south-0"): [(5, 20), (20, 30)], ("sat-b", "south-0"): [(6, 50)]})
    assert ServiceTimeline(plan, SOUTH).services == (Service("sat-a", 5, 30), Service("sat-b", 30, 50))


def test_a_satellite_that_only_sends_does_not_serve() -> None:
    assert ServiceTimeline(plan_of({("sat-a", "south-0"): [(5, 20)]}, one_way=True), SOUTH).services == ()


def test_a_region_without_devices_or_with_unknown_ones_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one device"):
        views_of_region(plan_of({}), ())
    with pytest.raises(ValueError, match="'nobody' is not a node of the plan"):
        ServiceTimeline(plan_of({}), ("nobody",))


def test_a_satellite_over_both_regions_carries_at_once() -> None:
    plan = plan_of({
        ("sat-a", "south-0"): [(0, 20)],
        ("sat-a", "north-0"): [(10, 30)], ("sat-a", "north-1"): [(10, 30)],
    })  # fmt: skip
    north, south = ServiceTimeline(plan, NORTH), ServiceTimeline(plan, SOUTH)
    expected = Carriage("sat-a", Service("sat-a", 10, 30), Service("sat-a", 0, 20))
    assert earliest_carrier(north, south, 12) == expected
    assert earliest_carrier(north, south, 20) is None  # it has left the south by then
