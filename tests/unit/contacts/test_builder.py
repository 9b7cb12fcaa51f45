"""The builder beyond plain service links: budgets, shared beams, stations, cross-links, ages of elements."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest

from orbitrain.contacts.builder import build_plan
from orbitrain.contacts.contact import Contact
from orbitrain.contacts.elements import Satellite, Shell, satellites_of
from orbitrain.contacts.geometry import Site, SiteFrame, Tracks, range_km, sine_of_elevation, tracks
from orbitrain.contacts.isl import IslRules
from orbitrain.contacts.linkbudget import Budget
from orbitrain.contacts.network import Backhaul, CrossLinks, Duplex, Feeder, Network, Region, Station
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.planes import Planes
from orbitrain.contacts.presets import PRESETS
from orbitrain.contacts.validity import confidence, edge_margin_s

S = 1_000_000_000
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = 4
SHELL = Shell("sat", 550.0, 53.0, 24, 4, 1)
NORTH, NEAR, FAR = (
    Site("north", 48.0, 11.0, 500.0, 10.0),
    Site("near", 46.0, 8.0, 400.0, 10.0),
    Site("far", -33.0, 151.0, 0.0, 10.0),
)
SERVICE = PRESETS["s-band-service"]
FEEDER = PRESETS["ka-feeder"]


def network(**changes: object) -> Network:
    values: dict[str, object] = {
        "satellites": satellites_of(SHELL, EPOCH),
        "sites": (NORTH,),
        "regions": (Region("n", "north", ("a",)),),
        "service": Duplex.constant(1_000_000),
        "planes": Planes.of_shells([SHELL]),
        **changes,
    }
    return Network(**values)  # type: ignore[arg-type]


def plan_of(net: Network, hours: float = HOURS) -> ContactPlan:
    return build_plan(net, epoch=EPOCH, duration_ns=round(hours * 3600 * S), scenario_sha256="0" * 64)


@cache
def flown() -> Tracks:
    return tracks(satellites_of(SHELL, EPOCH), EPOCH, HOURS * 3600.0, 60.0)


def instants(contact: Contact, n: int = 40) -> list[int]:
    return np.linspace(contact.start_ns, contact.end_ns - 1, n).astype(np.int64).tolist()  # type: ignore[no-any-return]


def line_to(satellite: str, site: Site, t_ns: int) -> tuple[float, float]:
    """Range in km and elevation in degrees."""
    position = flown().at(int(satellite.split("-")[1]), np.array([t_ns / S]))
    frame = SiteFrame.of(site)
    sine = float(sine_of_elevation(frame, position)[0])
    return float(range_km(frame, position)[0]), math.degrees(math.asin(sine))


def active(contacts: list[Contact], t_ns: int) -> list[Contact]:
    return [contact for contact in contacts if contact.start_ns <= t_ns < contact.end_ns]


# --- budgets ------------------------------------------------------------------------------------------------


def test_rates_are_the_budgets_within_a_hundredth_each_direction_its_own() -> None:
    up = replace(SERVICE.up, sharing="none")
    down = replace(SERVICE.down, sharing="none", environment="rural")
    plan = plan_of(network(service=Duplex(up, down)))
    assert len(plan.contacts) >= 20
    for contact in plan.contacts:
        upwards = contact.source == "a"
        budget = up if upwards else down
        satellite = contact.destination if upwards else contact.source
        for t_ns in instants(contact):
            distance, elevation = line_to(satellite, NORTH, t_ns)
            wanted = budget.at(distance, elevation)
            sample = contact.sample_at(t_ns)
            assert sample.rate_bps == pytest.approx(int(wanted.rate_bps), rel=0.0101)
            assert sample.loss_mean == pytest.approx(float(wanted.loss_mean), abs=0.0065)
            assert abs(sample.delay_ns - distance / 299_792.458 * 1e9) <= 50_000


def test_where_the_lowest_modcod_does_not_close_there_is_no_contact() -> None:
    weak = replace(FEEDER.down, eirp_dbw=12.0)
    whole = plan_of(network(service=Duplex.constant(1))).contacts
    some = plan_of(network(service=Duplex(weak, weak))).contacts
    threshold_db = weak.steps_snr_db()[0]
    assert some and sum(c.end_ns - c.start_ns for c in some) < sum(c.end_ns - c.start_ns for c in whole)
    for contact in some:
        satellite = contact.source if contact.source != "a" else contact.destination
        for t_ns in (contact.start_ns, contact.end_ns):
            distance, elevation = line_to(satellite, NORTH, min(t_ns, HOURS * 3600 * S - 1))
            snr_db = float(weak.snr_db(distance, elevation))
            assert snr_db > threshold_db - 0.01


def test_devices_under_one_satellite_share_its_beam() -> None:
    shared = Budget(capacity="constant", rate_bps=1_200_000, sharing="tdma")
    plan = plan_of(
        network(
            sites=(NORTH, NEAR, FAR),
            regions=(
                Region("n", "north", ("a", "b")),
                Region("m", "near", ("c",)),
                Region("f", "far", ("d",)),
            ),
            service=Duplex(shared, shared),
        )
    )
    downs: dict[str, list[Contact]] = {}
    for contact in plan.contacts:
        if contact.source.startswith("sat"):
            downs.setdefault(contact.source, []).append(contact)
    seen = set()
    for contacts in downs.values():
        for contact in contacts:
            for t_ns in (contact.start_ns, *instants(contact, 7), contact.end_ns - 1):
                sharers = len(active(contacts, t_ns))
                assert contact.rate_bps_at(t_ns) == 1_200_000 // sharers
                seen.add(sharers)
    assert seen == {1, 2, 3}


# --- stations -----------------------------------------------------------------------------------------------


def test_an_antenna_has_one_satellite_at_a_time_and_a_satellite_one_station() -> None:
    stations = (Station(replace(NORTH, name="dish"), 1), Station(replace(NEAR, name="pair"), 2))
    feeder = Feeder(Duplex(FEEDER.up, FEEDER.down), retarget_ns=30 * S, shortest_ns=60 * S)
    plan = plan_of(network(stations=stations, feeder=feeder))
    feeders = [c for c in plan.contacts if c.link_class == "feeder" and c.destination in ("dish", "pair")]
    assert {node.name: node.kind for node in plan.nodes}["dish"] == "ground"
    assert len(feeders) > 20
    for contact in feeders:
        now = active(feeders, contact.start_ns)
        assert (
            sum(c.destination == contact.destination for c in now)
            <= {"dish": 1, "pair": 2}[contact.destination]
        )
        assert sum(c.source == contact.source for c in now) == 1
    dish = sorted((c for c in feeders if c.destination == "dish"), key=lambda c: c.start_ns)
    for before, after in itertools.pairwise(dish):
        if before.source != after.source:
            assert after.start_ns - before.end_ns >= 30 * S
    # Both directions are there: a station that hears nothing can still be told something.
    assert {(c.source, c.destination) for c in plan.contacts if c.link_class == "feeder"} >= {
        (c.destination, c.source) for c in feeders
    }


def test_stations_without_feeder_links_are_nodes_without_contacts() -> None:
    plan = plan_of(network(stations=(Station(replace(NORTH, name="dish")),)), 1)
    assert plan.contacts_of("dish") == ()


def test_a_line_on_the_ground_is_there_all_the_time_between_each_station_and_the_ground_node() -> None:
    stations = tuple(Station(replace(NORTH, name=name)) for name in ("dish", "pair"))
    plan = plan_of(network(stations=stations, ground=("server",), backhaul=Backhaul(10**9, 12_000_000)), 1)
    lines = [contact for contact in plan.contacts if contact.link_class == "backhaul"]
    assert {(line.source, line.destination) for line in lines} == {
        *(("dish", "server"), ("server", "dish"), ("pair", "server"), ("server", "pair"))
    }
    assert {(line.start_ns, line.end_ns) for line in lines} == {(0, plan.duration_ns)}
    assert {(line.rate_bps_at(0), line.delay_ns_at(0)) for line in lines} == {(10**9, 12_000_000)}
    assert ContactPlan.from_json(plan.to_json()) == plan


def test_a_horizon_mask_takes_its_part_of_a_pass() -> None:
    hill = replace(NORTH, mask=((0.0, 5.0), (90.0, 40.0), (180.0, 40.0), (270.0, 5.0)))
    open_, hidden = plan_of(network()), plan_of(network(sites=(hill,)))
    assert sum(c.end_ns - c.start_ns for c in hidden.contacts) < 0.9 * sum(
        c.end_ns - c.start_ns for c in open_.contacts
    )
    for contact in hidden.contacts:
        assert open_.active(contact.source, contact.destination, contact.start_ns) is not None


# --- cross-links --------------------------------------------------------------------------------------------


def test_neighbours_on_a_dense_ring_are_linked_all_the_time() -> None:
    ring = Shell("sat", 550.0, 53.0, 20, 1)
    plan = plan_of(
        network(
            satellites=satellites_of(ring, EPOCH),
            planes=Planes.of_shells([ring]),
            intra=CrossLinks(Duplex.constant(10**9), IslRules(), "ring"),
        )
    )
    links = [c for c in plan.contacts if c.link_class == "intra_isl"]
    assert len(links) == 40
    assert all((c.start_ns, c.end_ns) == (0, plan.duration_ns) for c in links)
    assert plan.active("sat-0", "sat-19", 0) is not None and plan.active("sat-0", "sat-2", 0) is None
    for contact in links[:4]:
        a, b = (int(name.split("-")[1]) for name in (contact.source, contact.destination))
        fly = tracks(satellites_of(ring, EPOCH), EPOCH, HOURS * 3600.0, 60.0)
        for t_ns in instants(contact):
            t_s = np.array([t_ns / S])
            distance = float(np.linalg.norm(fly.at(a, t_s) - fly.at(b, t_s)))
            assert abs(contact.delay_ns_at(t_ns) - distance / 299_792.458 * 1e9) <= 50_000


def test_satellites_have_no_more_links_across_planes_than_terminals() -> None:
    rules = IslRules(longest_km=5_000.0, latitude_cut_degrees=45.0)
    crossing = CrossLinks(Duplex.constant(10**9), rules, "adjacent", terminals=2, shortest_ns=30 * S)
    plan = plan_of(network(inter=crossing))
    links = [c for c in plan.contacts if c.link_class == "inter_isl"]
    assert links
    for contact in links:
        assert len(active([c for c in links if c.source == contact.source], contact.start_ns)) <= 2
        assert contact.end_ns - contact.start_ns >= 30 * S
        back = plan.active(contact.destination, contact.source, contact.start_ns)
        assert back is not None and back.samples == contact.samples
        t_s = np.array([contact.start_ns / S])
        for name in (contact.source, contact.destination):
            x, y, z = flown().at(int(name.split("-")[1]), t_s)[0]
            assert abs(math.degrees(math.atan2(z, math.hypot(x, y)))) < 45.3  # geocentric: up to 0.2 less


def test_a_budgets_doppler_limit_is_a_limit_of_the_range_rate() -> None:
    budget = replace(
        PRESETS["s-band-service"].up, sharing="none", environment=None, zenith_attenuation_db=0.0
    )
    rules = IslRules(longest_km=5_000.0)
    free = plan_of(network(inter=CrossLinks(Duplex(budget, budget), rules, "adjacent")), 2)
    limited = replace(budget, doppler_limit_hz=10_000.0)
    tight = plan_of(network(inter=CrossLinks(Duplex(limited, limited), rules, "adjacent")), 2)
    length = [
        sum(c.end_ns - c.start_ns for c in p.contacts if c.link_class == "inter_isl") for p in (free, tight)
    ]
    assert 0 < length[1] < length[0]


# --- ages ---------------------------------------------------------------------------------------------------


def test_contacts_of_published_elements_carry_a_margin_and_a_confidence() -> None:
    old = [
        Satellite(one.name, one.satrec, "omm", one.catalogue_number)
        for one in satellites_of(SHELL, EPOCH - timedelta(days=5))
    ]
    plan = plan_of(network(satellites=old))
    by_name = {one.name: one for one in old}
    for contact in plan.contacts:
        satellite = by_name[contact.source if contact.source != "a" else contact.destination]
        middle = EPOCH + timedelta(seconds=(contact.start_ns + contact.end_ns) / 2 / S)
        margin_s = edge_margin_s(satellite, middle)
        assert 1.9 < margin_s < 2.4  # five days of 3 km, and one, at 7.6 km/s
        assert contact.margin_ns == pytest.approx(margin_s * S, abs=1_000)
        length_s = (contact.end_ns - contact.start_ns) / S
        assert contact.confidence == pytest.approx(confidence(length_s, margin_s), abs=1e-6)
    assert all(c.margin_ns == 0 and c.confidence == 1 for c in plan_of(network(), 1).contacts)


def test_nodes_say_where_they_are() -> None:
    plan = plan_of(network(stations=(Station(replace(NEAR, name="dish")),), ground=("ops",)), 1)
    nodes = {node.name: node for node in plan.nodes}
    assert nodes["sat-3"].orbit is not None
    place = nodes["a"].place
    assert place is not None and place.latitude_degrees == 48.0
    assert nodes["dish"].place is not None and nodes["ops"].place is None


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    build_plan(
        network(),
        epoch=EPOCH,
        duration_ns=3600 * S,
        scenario_sha256="0" * 64,
        progress=lambda *news: told.append(news),
    )
    assert told[-1] == ("service links", 24, 24)
