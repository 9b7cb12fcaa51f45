"""Shells, passes and the plans built from them, against Skyfield and brute force."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from skyfield.api import EarthSatellite, load, wgs84

from orbitrain.contacts.builder import build_plan
from orbitrain.contacts.elements import EARTH_RADIUS_KM, Satellite, Shell, satellites_of
from orbitrain.contacts.finder import LONGEST_STEP_S, Pass, find_passes
from orbitrain.contacts.geometry import Site, SiteFrame, range_km, sine_of_elevation, tracks
from orbitrain.contacts.isl import IslRules
from orbitrain.contacts.network import CrossLinks, Duplex, Network, Region, Station
from orbitrain.contacts.plan import ContactPlan
from orbitrain.contacts.sampling import DELAY_TOLERANCE_NS
from orbitrain.contacts.serving import ServiceTimeline

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
SIX_HOURS_S = 6 * 3600
EQUATORIAL = Shell("eq", 550.0, 5.0, 6)
SITES = (
    Site("quito", -0.18, -78.47, 2850.0, 10.0),
    Site("nairobi", -1.29, 36.82, 1795.0, 10.0),
    Site("singapore", 1.35, 103.82, 15.0, 10.0),
)
TIMESCALE = load.timescale(builtin=True)


def plan_over(
    shells: tuple[Shell, ...], sites: tuple[Site, ...], hours: int, devices: int = 1
) -> ContactPlan:
    return build_plan(
        Network(
            satellites=[satellite for shell in shells for satellite in satellites_of(shell, EPOCH)],
            sites=sites,
            regions=[Region(s.name, s.name, tuple(f"{s.name}-{i}" for i in range(devices))) for s in sites],
            service=Duplex.constant(20_000_000, 0.001, 3.0),
            ground=("gateway",),
        ),
        epoch=EPOCH,
        duration_ns=hours * 3600 * 10**9,
        scenario_sha256="0" * 64,
    )


@cache
def equatorial_plan() -> ContactPlan:
    return plan_over((EQUATORIAL,), SITES, 6)


def in_skyfield(satellite: Satellite, site: Site) -> tuple[Any, Any]:
    place = wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)
    return EarthSatellite.from_satrec(satellite.satrec, TIMESCALE), place


def instants(t_s: Any) -> Any:
    return TIMESCALE.utc(EPOCH.year, EPOCH.month, EPOCH.day, 0, 0, t_s)


@cache
def every_second() -> Any:
    # Shared: the Earth's orientation is most of the work of an elevation in Skyfield.
    return instants(np.arange(SIX_HOURS_S + 1))


def seconds(t: Any) -> float:
    return float((t.utc_datetime() - EPOCH) / timedelta(seconds=1))


# --- elements ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("altitude_km", "inclination_degrees"), [(550, 5), (160, 97.6), (1200, 53), (35786, 0)]
)
def test_the_mean_semi_major_axis_is_the_altitude_asked_for(
    altitude_km: float, inclination_degrees: float
) -> None:
    (satellite,) = satellites_of(Shell("one", altitude_km, inclination_degrees, 1), EPOCH)
    assert satellite.satrec.a * EARTH_RADIUS_KM == pytest.approx(EARTH_RADIUS_KM + altitude_km, abs=1e-6)


def test_a_satellite_flies_at_its_altitude() -> None:
    (satellite,) = satellites_of(Shell("one", 550.0, 53.0, 1), EPOCH)
    _, position_km, _ = satellite.satrec.sgp4_array(
        np.full(200, satellite.satrec.jdsatepoch), np.linspace(0.0, 1.0, 200)
    )
    # J2 alone bends the circle by some ten kilometres.
    assert np.linalg.norm(position_km, axis=1) == pytest.approx(EARTH_RADIUS_KM + 550.0, abs=20.0)


@pytest.mark.parametrize(("pattern", "spread_degrees"), [("delta", 360.0), ("star", 180.0)])
def test_a_walker_pattern_spreads_planes_places_and_phases(pattern: Any, spread_degrees: float) -> None:
    shell = Shell("w", 550.0, 53.0, 12, 3, 1, pattern, raan_degrees=20.0, anomaly_degrees=7.0)
    satellites = satellites_of(shell, EPOCH)
    assert [s.name for s in satellites] == [f"w-{i}" for i in range(12)]
    for index, satellite in enumerate(satellites):
        plane, place = divmod(index, 4)
        raan_degrees = 20.0 + plane * spread_degrees / 3
        anomaly_degrees = (7.0 + place * 90.0 + plane * 30.0) % 360.0
        assert math.degrees(satellite.satrec.nodeo) == pytest.approx(raan_degrees)
        assert math.degrees(satellite.satrec.mo) == pytest.approx(anomaly_degrees)
        assert satellite.satrec.ecco == satellite.satrec.bstar == 0.0
    assert len({s.satrec.satnum for s in satellites}) == 12


def test_a_compact_code_is_a_shell() -> None:
    assert Shell.from_code("D:550:53.0:72/24/1") == Shell("sat", 550.0, 53.0, 72, 24, 1, "delta")
    assert Shell.from_code("S:1200.5:87.9:648/18/0", "ring") == Shell(
        "ring", 1200.5, 87.9, 648, 18, 0, "star"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("D:550:53.0:72/24", "shell 'sat': code must be D or S:altitude km"),
        ("X:550:53.0:72/24/1", "such as D:550:53.0:72/24/1, not 'X:550:53.0:72/24/1'"),
        ("D:nan:53.0:72/24/1", "code must be"),
        ("D:550:53.0:72/7/1", r"planes must divide satellites \(72\), not 7"),
        ("D:50:53.0:72/24/1", "altitude_km must be 160 to 40000, not 50"),
    ],
)
def test_a_code_that_is_no_shell_is_refused(code: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shell.from_code(code)


def test_the_elements_belong_to_the_scenario_epoch() -> None:
    epoch = datetime(2026, 3, 5, 6, 7, 8, tzinfo=UTC)
    (satellite,) = satellites_of(Shell("one", 550.0, 5.0, 1), epoch)
    earth_satellite = EarthSatellite.from_satrec(satellite.satrec, TIMESCALE)
    assert abs(earth_satellite.epoch.utc_datetime() - epoch) < timedelta(microseconds=100)
    assert abs(satellite.epoch - epoch) < timedelta(microseconds=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"altitude_km": 100.0}, "altitude_km must be 160 to 40000, not 100.0"),
        ({"altitude_km": math.nan}, "altitude_km must be 160 to 40000, not nan"),
        ({"inclination_degrees": 181.0}, "inclination_degrees must be 0 to 180, not 181.0"),
        ({"satellites": 0}, "satellites must be 1 to 50000, not 0"),
        ({"planes": 4}, r"planes must divide satellites \(6\), not 4"),
        ({"planes": 0}, r"planes must divide satellites \(6\), not 0"),
        ({"planes": 3, "phasing": 3}, r"phasing must be 0 to planes - 1 \(2\), not 3"),
        ({"pattern": "rose"}, "pattern must be delta or star, not 'rose'"),
        ({"raan_degrees": math.inf}, "raan_degrees must be a finite number, not inf"),
    ],
)
def test_a_shell_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"name": "s", "altitude_km": 550.0, "inclination_degrees": 5.0, "satellites": 6}
    with pytest.raises(ValueError, match=message):
        Shell(**{**good, **change})


def test_an_epoch_without_a_time_zone_or_numbers_that_run_out_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^epoch: must be a datetime with a time zone"):
        satellites_of(EQUATORIAL, EPOCH.replace(tzinfo=None))
    with pytest.raises(ValueError, match=r"^first_number: "):
        satellites_of(EQUATORIAL, EPOCH, 339_999)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"latitude_degrees": 91.0}, "latitude_degrees must be -90 to 90"),
        ({"longitude_degrees": 181.0}, "longitude_degrees must be -180 to 180"),
        ({"altitude_m": -501.0}, "altitude_m must be -500 to 100000"),
        ({"mask_degrees": 90.0}, "mask_degrees must be 0 to less than 90"),
    ],
)
def test_a_site_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "name": "s",
        "latitude_degrees": 0.0,
        "longitude_degrees": 0.0,
        "altitude_m": 0.0,
        "mask_degrees": 10.0,
    }
    with pytest.raises(ValueError, match=message):
        Site(**{**good, **change})


# --- geometry ---------------------------------------------------------------------------------------------


def test_elevation_and_range_between_grid_points_are_skyfields() -> None:
    shell = Shell("mixed", 550.0, 97.6, 3, 3)
    satellites = satellites_of(shell, EPOCH)
    flown = tracks(satellites, EPOCH, SIX_HOURS_S, LONGEST_STEP_S)
    site = Site("hill", 47.3, 8.5, 400.0, 10.0)
    t_s = np.linspace(0.0, SIX_HOURS_S, 997)
    for index, satellite in enumerate(satellites):
        flyer, place = in_skyfield(satellite, site)
        elevation, _, distance = (flyer - place).at(instants(t_s)).altaz()
        position_km = flown.at(index, t_s)
        frame = SiteFrame.of(site)
        ours_degrees = np.degrees(np.arcsin(sine_of_elevation(frame, position_km)))
        assert ours_degrees == pytest.approx(elevation.degrees, abs=1e-7)
        assert range_km(frame, position_km) == pytest.approx(distance.km, abs=1e-6)


def test_a_satellite_that_sgp4_gives_up_on_is_named() -> None:
    (satellite,) = satellites_of(Shell("doomed", 160.0, 5.0, 1), EPOCH)
    satellite.satrec.sgp4init(0, "i", 270_000, 27760.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0716, 0.0)
    with pytest.raises(ValueError, match="satellite 'doomed-0': SGP4 fails"):
        tracks([satellite], EPOCH, 10 * 86_400.0, LONGEST_STEP_S)


# --- finder -----------------------------------------------------------------------------------------------


def passes_on_a_one_second_grid(satellite: Satellite, site: Site) -> list[tuple[int, int]]:
    """(first, last) whole second above the mask, by Skyfield."""
    flyer, place = in_skyfield(satellite, site)
    above = (flyer - place).at(every_second()).altaz()[0].degrees > site.mask_degrees
    edges = np.flatnonzero(np.diff(np.concatenate(([False], above, [False])).astype(int)))
    return [(int(rise), int(last) - 1) for rise, last in zip(edges[::2], edges[1::2], strict=True)]


@pytest.mark.parametrize("latitude_degrees", [90.0, 78.2, 33.0])
def test_passes_of_a_polar_orbit_are_those_of_a_one_second_grid(latitude_degrees: float) -> None:
    shell = Shell("polar", 600.0, 97.8, 2, 2, raan_degrees=15.0)
    site = Site("north", latitude_degrees, 15.6, 100.0, 5.0)
    satellites = satellites_of(shell, EPOCH)
    found = find_passes(tracks(satellites, EPOCH, SIX_HOURS_S, LONGEST_STEP_S), site)
    for index, satellite in enumerate(satellites):
        mine = [p for p in found if p.satellite == index]
        expected = passes_on_a_one_second_grid(satellite, site)
        assert [(math.ceil(p.start_s), math.floor(p.end_s)) for p in mine] == expected


def culminations(satellite: Satellite, site: Site) -> list[tuple[float, float]]:
    """(second, elevation in degrees) of each culmination in six hours, by Skyfield on fine grids."""
    flyer, place = in_skyfield(satellite, site)
    elevation = (flyer - place).at(every_second()).altaz()[0].degrees
    tops = np.flatnonzero((elevation[1:-1] > elevation[:-2]) & (elevation[1:-1] >= elevation[2:])) + 1
    found = []
    for top in tops:
        fine_s = top + np.linspace(-1.0, 1.0, 401)
        fine = (flyer - place).at(instants(fine_s)).altaz()[0].degrees
        found.append((float(fine_s[np.argmax(fine)]), float(fine.max())))
    return found


def test_a_pass_that_only_grazes_the_mask_is_found_and_one_that_misses_it_is_not() -> None:
    (satellite,) = satellites_of(Shell("polar", 550.0, 97.6, 1, raan_degrees=40.0), EPOCH)
    site = Site("hill", 80.0, 20.0, 0.0, 0.0)
    flown = tracks([satellite], EPOCH, SIX_HOURS_S, LONGEST_STEP_S)
    grazed = [(t_s, top) for t_s, top in culminations(satellite, site) if 1.0 < top < 80.0]
    assert len(grazed) >= 3
    for t_s, top_degrees in grazed:
        just_below = Site("hill", 80.0, 20.0, 0.0, top_degrees - 1e-3)
        just_above = Site("hill", 80.0, 20.0, 0.0, top_degrees + 1e-3)
        (hit,) = [p for p in find_passes(flown, just_below) if p.start_s < t_s < p.end_s]
        assert hit.end_s - hit.start_s < LONGEST_STEP_S
        assert not [p for p in find_passes(flown, just_above) if p.start_s - 30 < t_s < p.end_s + 30]


def test_passes_in_progress_at_the_start_and_end_are_clipped_to_the_window() -> None:
    satellites = satellites_of(EQUATORIAL, EPOCH)
    whole = find_passes(tracks(satellites, EPOCH, SIX_HOURS_S, LONGEST_STEP_S), SITES[0])
    first = next(p for p in whole if p.start_s > 600)
    middle_s = round((first.start_s + first.end_s) / 2)
    until = find_passes(tracks(satellites, EPOCH, middle_s, LONGEST_STEP_S), SITES[0])
    assert [p.end_s for p in until if p.satellite == first.satellite][-1] == middle_s
    # The same elements seen from an epoch in the middle of the pass.
    later = EPOCH + timedelta(seconds=middle_s)
    after = find_passes(tracks(satellites, later, 3600.0, LONGEST_STEP_S), SITES[0])
    (rest,) = [p for p in after if p.satellite == first.satellite and p.start_s == 0.0]
    assert rest.end_s + middle_s == pytest.approx(first.end_s, abs=1e-3)


def test_a_satellite_that_never_sets_is_one_pass_and_one_that_never_rises_is_none() -> None:
    (satellite,) = satellites_of(Shell("geo", 35786.0, 0.0, 1), EPOCH)
    flyer = EarthSatellite.from_satrec(satellite.satrec, TIMESCALE)
    longitude_degrees = wgs84.subpoint(flyer.at(instants(0))).longitude.degrees
    flown = tracks([satellite], EPOCH, 86_400.0, LONGEST_STEP_S)
    assert find_passes(flown, Site("under", 0.0, longitude_degrees, 0.0, 10.0)) == (Pass(0, 0.0, 86_400.0),)
    assert find_passes(flown, Site("pole", 90.0, 0.0, 0.0, 10.0)) == ()


def test_a_grid_too_coarse_for_the_search_is_refused() -> None:
    flown = tracks(satellites_of(EQUATORIAL, EPOCH), EPOCH, 6000.0, 120.0)
    with pytest.raises(ValueError, match="step_s must be at most 60, not 120"):
        find_passes(flown, SITES[0])


# --- builder ----------------------------------------------------------------------------------------------


def test_contacts_are_the_passes_that_skyfield_finds() -> None:
    plan = equatorial_plan()
    # An hour more on both sides: find_events leaves out what is in progress at the edges of its window.
    begin, end = instants(-3600), instants(SIX_HOURS_S + 3600)
    for site in SITES:
        total = 0
        for satellite in satellites_of(EQUATORIAL, EPOCH):
            flyer, place = in_skyfield(satellite, site)
            events = list(zip(*flyer.find_events(place, begin, end, altitude_degrees=10.0), strict=True))
            rises = [seconds(t) for t, kind in events if kind == 0]
            sets = [seconds(t) for t, kind in events if kind == 2 and seconds(t) > rises[0]]
            passes = list(zip(rises, sets, strict=False))
            expected = [(rise, down) for rise, down in passes if down > 0 and rise < SIX_HOURS_S]
            ours = plan.between(satellite.name, f"{site.name}-0")
            assert len(ours) == len(expected)
            for contact, (rise_s, set_s) in zip(ours, expected, strict=True):
                # find_events stops searching at half a second; the next test is the sharp one.
                assert contact.start_ns / 1e9 == pytest.approx(max(0.0, rise_s), abs=0.5)
                assert contact.end_ns / 1e9 == pytest.approx(min(SIX_HOURS_S, set_s), abs=0.5)
            total += len(ours)
        assert 20 <= total <= 23


def test_contacts_begin_and_end_within_two_milliseconds_of_the_mask_in_skyfield() -> None:
    plan = equatorial_plan()
    for site in SITES:
        for satellite in satellites_of(EQUATORIAL, EPOCH):
            flyer, place = in_skyfield(satellite, site)
            contacts = plan.between(satellite.name, f"{site.name}-0")
            rises_s = np.array([c.start_ns / 1e9 for c in contacts if c.start_ns > 0])
            sets_s = np.array([c.end_ns / 1e9 for c in contacts if c.end_ns < plan.duration_ns])
            inside_s = np.concatenate((rises_s, sets_s))
            outside_s = np.concatenate((rises_s - 0.002, sets_s + 0.002))
            elevation_inside = (flyer - place).at(instants(inside_s)).altaz()[0].degrees
            elevation_outside = (flyer - place).at(instants(outside_s)).altaz()[0].degrees
            # 1e-6 degrees are the 20 microseconds to which Skyfield resolves a date.
            assert np.all(elevation_inside > site.mask_degrees - 1e-6)
            assert np.all(elevation_outside < site.mask_degrees)


def test_delays_are_skyfields_range_over_c_with_few_samples() -> None:
    plan = equatorial_plan()
    satellites = {s.name: s for s in satellites_of(EQUATORIAL, EPOCH)}
    site = SITES[1]
    contacts = [c for c in plan.contacts if c.destination == "nairobi-0"]
    for contact in contacts:
        flyer, place = in_skyfield(satellites[contact.source], site)
        t_ns = np.unique(np.linspace(contact.start_ns, contact.end_ns, 301).astype(np.int64))
        light_ns = (flyer - place).at(instants(t_ns / 1e9)).distance().km / 299_792.458 * 1e9
        ours_ns = np.array([contact.delay_ns_at(int(t)) for t in t_ns])
        assert np.max(np.abs(ours_ns - light_ns)) <= DELAY_TOLERANCE_NS
        knots_s = np.array([s.t_ns for s in contact.samples]) / 1e9
        knots_ns = (flyer - place).at(instants(knots_s)).distance().km / 299_792.458 * 1e9
        assert np.array([s.delay_ns for s in contact.samples]) == pytest.approx(knots_ns, abs=5.0)
        assert contact.samples[0].t_ns == contact.start_ns
        assert contact.samples[-1].t_ns == contact.end_ns
    assert sum(len(c.samples) for c in contacts) / len(contacts) < 10


def test_both_directions_have_the_same_contacts_and_the_link_that_was_asked_for() -> None:
    plan = equatorial_plan()
    for contact in plan.contacts:
        back = plan.active(contact.destination, contact.source, contact.start_ns)
        assert back is not None
        assert (back.start_ns, back.end_ns, back.samples) == (
            contact.start_ns,
            contact.end_ns,
            contact.samples,
        )
        assert contact.link_class == "service"
        assert {(s.rate_bps, s.loss_mean, s.loss_burst) for s in contact.samples} == {
            (20_000_000, 0.001, 3.0)
        }


def test_devices_of_one_site_share_its_passes() -> None:
    plan = plan_over((EQUATORIAL,), SITES[:1], 3, devices=3)
    for satellite in ("eq-0", "eq-3"):
        windows = [plan.windows(satellite, f"quito-{i}") for i in range(3)]
        assert windows[0] and windows[0] == windows[1] == windows[2]


def test_nodes_are_satellites_ground_and_devices_and_ground_has_no_contacts_yet() -> None:
    plan = equatorial_plan()
    kinds = [node.kind for node in plan.nodes]
    assert kinds == ["satellite"] * 6 + ["ground"] + ["device"] * 3
    assert plan.contacts_of("gateway") == ()
    assert plan.epoch == "2026-01-01T00:00:00Z"


def test_a_built_plan_survives_its_file_and_is_built_the_same_again() -> None:
    plan = equatorial_plan()
    assert ContactPlan.from_json(plan.to_json()) == plan
    assert plan_over((EQUATORIAL,), SITES, 6).to_json() == plan.to_json()


def test_another_altitude_gives_other_contacts() -> None:
    higher = plan_over((Shell("eq", 600.0, 5.0, 6),), SITES, 6)
    assert higher.sha256 != equatorial_plan().sha256
    lengths = [np.mean([c.end_ns - c.start_ns for c in p.contacts]) for p in (equatorial_plan(), higher)]
    assert lengths[1] > lengths[0] * 1.02


def test_six_equatorial_satellites_serve_three_regions_in_turn() -> None:
    plan = equatorial_plan()
    for site in SITES:
        services = ServiceTimeline(plan, [f"{site.name}-0"]).services
        assert len({service.satellite for service in services}) == 6
        assert all(one.end_ns <= other.start_ns for one, other in itertools.pairwise(services))


def test_a_day_of_sixty_satellites_over_five_sites_builds() -> None:
    sites = (*SITES, Site("north", 60.0, 10.0, 0.0, 10.0), Site("south", -40.0, 20.0, 0.0, 10.0))
    plan = plan_over((Shell("walker", 550.0, 53.0, 60, 6, 1),), sites, 24)
    assert len(plan.nodes) == 60 + 1 + 5
    assert 2_000 < len(plan.contacts) < 4_000
    assert ContactPlan.from_json(plan.to_json()).sha256 == plan.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": datetime(2026, 1, 1)}, "epoch: must be a datetime with a time zone"),  # noqa: DTZ001
        ({"duration_ns": 0}, "duration_ns: must be 1 or more, not 0"),
        ({"sites": [SITES[0], SITES[0]]}, "site 'quito': must have a name of its own"),
        ({"regions": [Region("r", "mars", ("d",))]}, "region 'r': site must be one of .'quito'., not 'mars'"),
        ({"regions": [Region("r", "quito", ())]}, "region 'r': must have at least one device"),
        (
            {"regions": [Region("r", "quito", ("d",)), Region("r", "quito", ("e",))]},
            "region 'r': must have a name",
        ),
        ({"regions": [Region("r", "quito", ("eq-0",))]}, "nodes.*must be unique, 'eq-0' is there already"),
        ({"stations": [Station(SITES[0])]}, "nodes.*must be unique, 'quito' is there already"),
        ({"intra": CrossLinks(Duplex.constant(1), IslRules(), "ring")}, "planes: must be given where there"),
    ],
)
def test_a_plan_that_cannot_be_built_says_why(change: dict[str, Any], message: str) -> None:
    network: dict[str, Any] = {
        "satellites": satellites_of(EQUATORIAL, EPOCH),
        "sites": [SITES[0]],
        "regions": [Region("r", "quito", ("d", "quito"))],
        "service": Duplex.constant(1_000_000),
    }
    window: dict[str, Any] = {"epoch": EPOCH, "duration_ns": 3600 * 10**9}
    with pytest.raises(ValueError, match=message):
        build_plan(
            Network(**{**network, **{key: value for key, value in change.items() if key not in window}}),
            **{**window, **{key: value for key, value in change.items() if key in window}},
            scenario_sha256="0" * 64,
        )


def test_an_instant_long_plan_can_be_built() -> None:
    plan = build_plan(
        Network(
            satellites=satellites_of(EQUATORIAL, EPOCH),
            sites=[SITES[0]],
            regions=[Region("r", "quito", ("d",))],
            service=Duplex.constant(1_000_000),
        ),
        epoch=EPOCH + timedelta(microseconds=1),
        duration_ns=1,
        scenario_sha256="0" * 64,
    )
    assert plan.epoch == "2026-01-01T00:00:00.000001Z"
