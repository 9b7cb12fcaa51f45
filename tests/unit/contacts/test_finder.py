"""The finder against Skyfield on a one-second grid for every kind of orbit, and what holds of every pass."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sgp4.api import WGS72, Satrec
from skyfield.api import EarthSatellite, load, wgs84

from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2, Satellite
from orbitrain.contacts.finder import LONGEST_STEP_S, Pass, find_all_passes, find_passes
from orbitrain.contacts.geometry import Site, SiteFrame, Tracks, propagated, sine_of_elevation, tracks

EPOCH = datetime(2026, 3, 20, 21, 30, 17, 250_000, tzinfo=UTC)
TIMESCALE = load.timescale(builtin=True)

# What is asked for: edges to 0.02 s where elevation changes by 0.002 degrees/s, else 0.001 degrees there.
EDGE_S = 0.02
QUICK_DEGREES_PER_S = 0.002
SLOW_EDGE_DEGREES = 0.001
GRAZING_DEGREES = 0.02


def orbit(
    name: str,
    axis_km: float,
    eccentricity: float,
    inclination: float,
    raan: float = 0.0,
    perigee: float = 0.0,
    anomaly: float = 0.0,
    bstar: float = 0.0,
) -> Satellite:
    """A satellite on an ellipse of that mean axis (Kozai's, which is near enough), angles in degrees."""
    satrec = Satrec()
    satrec.sgp4init(
        WGS72,
        "i",
        270_000,
        (EPOCH - datetime(1949, 12, 31, tzinfo=UTC)) / timedelta(days=1),
        bstar,
        0.0,
        0.0,
        eccentricity,
        math.radians(perigee),
        math.radians(inclination),
        math.radians(anomaly),
        math.sqrt(EARTH_MU_KM3_PER_S2 / axis_km**3) * 60.0,
        math.radians(raan),
    )
    return Satellite(name, satrec)


ORBITS = (
    orbit("leo", 6928.0, 0.0005, 53.0, 10.0, 40.0, 5.0),
    orbit("leo-drag", 6628.0, 0.001, 51.6, 200.0, 90.0, 100.0, 2e-4),
    orbit("leo-equatorial", 6928.0, 0.0, 3.0),
    orbit("polar", 6978.0, 0.001, 97.8, 300.0, 0.0, 50.0),
    orbit("polar-retrograde-low", 6578.0, 0.0, 90.0, 80.0),
    orbit("leo-eccentric", 7300.0, 0.08, 63.0, 33.0, 270.0, 10.0),
    orbit("high-leo", 7778.0, 0.0, 53.0, 120.0),
    orbit("gps", 26_560.0, 0.01, 55.0, 20.0, 30.0, 60.0),
    orbit("gps-other-plane", 26_560.0, 0.02, 55.0, 140.0, 200.0, 10.0),
    orbit("o3b", 14_440.0, 0.0, 0.1, 0.0),
    orbit("molniya", 26_560.0, 0.74, 63.4, 100.0, 270.0, 20.0),
    orbit("molniya-low-perigee", 26_560.0, 0.75, 63.4, 250.0, 270.0, 180.0),
    orbit("transfer", 24_400.0, 0.73, 7.0, 0.0, 178.0, 0.0),
    orbit("geosynchronous", 42_164.0, 0.02, 12.0, 0.0, 90.0, 200.0),
    orbit("geo-drifting", 41_500.0, 0.001, 0.5, 30.0),
    orbit("tundra", 42_164.0, 0.27, 63.4, 195.0, 270.0, 344.0),
)
SITES = (
    Site("quito", -0.18, -78.47, 2850.0, 10.0),
    Site("svalbard", 78.23, 15.39, 458.0, 5.0),
    Site("pole", 90.0, 0.0, 0.0, 0.0),
    Site("zurich", 47.38, 8.54, 400.0, 25.0),
    Site("punta-arenas", -53.16, -70.9, 30.0, 3.0),
    Site("perth", -31.95, 115.86, 20.0, 45.0),
    Site("tokyo", 35.68, 139.69, 40.0, 0.0),
    Site("zenith", 51.0, 0.0, 100.0, 80.0),
    Site("balloon", 20.0, -155.0, 35_000.0, 0.0),
    Site("antarctic", -77.85, 166.67, 10.0, 15.0),
    Site("singapore", 1.35, 103.82, 15.0, 30.0),
    Site("goa", 15.5, 73.8, 5.0, 60.0),
)
# Two more planes of each, elsewhere on the orbit.
PLANES = tuple(
    orbit(f"{name}-{plane}", axis, e, i, raan + 120.0 * plane, perigee, anomaly + 75.0 * plane, bstar)
    for name, axis, e, i, raan, perigee, anomaly, bstar in (
        ("leo", 6928.0, 0.0005, 53.0, 10.0, 40.0, 5.0, 0.0),
        ("leo-drag", 6628.0, 0.001, 51.6, 200.0, 90.0, 100.0, 2e-4),
        ("polar", 6978.0, 0.001, 97.8, 300.0, 0.0, 50.0, 0.0),
        ("polar-low", 6578.0, 0.0, 90.0, 80.0, 0.0, 0.0, 0.0),
        ("leo-eccentric", 7300.0, 0.08, 63.0, 33.0, 270.0, 10.0, 0.0),
        ("high-leo", 7778.0, 0.0, 53.0, 120.0, 0.0, 0.0, 0.0),
        ("gps", 26_560.0, 0.01, 55.0, 20.0, 30.0, 60.0, 0.0),
        ("molniya", 26_560.0, 0.74, 63.4, 100.0, 270.0, 20.0, 0.0),
        ("tundra", 42_164.0, 0.27, 63.4, 195.0, 270.0, 344.0, 0.0),
    )
    for plane in (1, 2)
)
FAST_ORBITS = tuple(s for s in ORBITS if s.name in ("leo", "polar", "leo-eccentric", "gps", "molniya", "o3b"))


class Referee:
    """Skyfield's elevations on a grid of whole seconds and at any instant."""

    def __init__(self, seconds: int) -> None:
        self.grid = self.instants(np.arange(seconds + 1))

    @staticmethod
    def instants(t_s: Any) -> Any:
        return TIMESCALE.utc(
            EPOCH.year,
            EPOCH.month,
            EPOCH.day,
            EPOCH.hour,
            EPOCH.minute,
            EPOCH.second + EPOCH.microsecond / 1e6 + np.asarray(t_s),
        )

    def flown(self, satellite: Satellite) -> Any:
        return EarthSatellite.from_satrec(satellite.satrec, TIMESCALE).at(self.grid).position.km

    def seen_from(self, site: Site) -> tuple[Any, Any]:
        """Position and zenith of the site on the grid, in the frame of `flown`."""
        place = wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)
        return place.at(self.grid).position.km, place.rotation_at(self.grid)[2]

    @staticmethod
    def degrees(satellite: Satellite, site: Site, t_s: Any) -> Any:
        place = wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)
        flyer = EarthSatellite.from_satrec(satellite.satrec, TIMESCALE)
        return (flyer - place).at(Referee.instants(t_s)).altaz()[0].degrees


@cache
def referee(seconds: int) -> Referee:
    return Referee(seconds)


@dataclass
class Comparison:
    """What `compare` measured; `by_site` counts the passes."""

    passes: int = 0
    grazing: int = 0
    worst_edge_s: float = 0.0
    worst_slow_degrees: float = 0.0
    worst_elevation_degrees: float = 0.0
    wrong: list[str] = field(default_factory=list)


def compare(satellites: tuple[Satellite, ...], sites: tuple[Site, ...], seconds: int) -> Comparison:
    skyfield = referee(seconds)
    flown = tracks(satellites, EPOCH, float(seconds), LONGEST_STEP_S)
    found = find_all_passes(flown, sites)
    positions = [skyfield.flown(satellite) for satellite in satellites]
    result = Comparison()
    t_s = np.arange(seconds + 1, dtype=np.float64)
    for site, passes in zip(sites, found, strict=True):
        place_km, zenith = skyfield.seen_from(site)
        frame = SiteFrame.of(site)
        for index, satellite in enumerate(satellites):
            line = positions[index] - place_km
            elevation = np.degrees(
                np.arcsin(np.einsum("in,in->n", line, zenith) / np.sqrt(np.einsum("in,in->n", line, line)))
            )
            ours = np.degrees(np.arcsin(sine_of_elevation(frame, flown.at(index, t_s[::97]))))
            worst = float(np.abs(ours - elevation[::97]).max())
            result.worst_elevation_degrees = max(result.worst_elevation_degrees, worst)
            mine = passes.satellite == index
            pairs = list(zip(passes.start_s[mine].tolist(), passes.end_s[mine].tolist(), strict=True))
            _match(result, f"{satellite.name} over {site.name}", elevation, site.mask_degrees, pairs)
            _check_edges(result, satellite, site, pairs, seconds)
    return result


def _match(
    result: Comparison, who: str, elevation: Any, mask: float, pairs: list[tuple[float, float]]
) -> None:
    above = elevation > mask
    edges = np.flatnonzero(np.diff(np.concatenate(([False], above, [False])).astype(int)))
    expected = [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    for first, last in expected:
        hits = [p for p in pairs if p[0] <= last + 0.1 and p[1] >= first - 0.1]
        if len(hits) != 1:
            if elevation[first : last + 1].max() < mask + GRAZING_DEGREES:
                result.grazing += 1
            else:
                result.wrong.append(f"{who}: {len(hits)} passes where Skyfield has one, {first} to {last} s")
    for start_s, end_s in pairs:
        hits_here = [e for e in expected if start_s <= e[1] + 0.1 and end_s >= e[0] - 0.1]
        if len(hits_here) != 1:
            low = max(0, math.floor(start_s) - 1)
            if elevation[low : math.ceil(end_s) + 2].max() < mask + GRAZING_DEGREES:
                result.grazing += 1
            else:
                result.wrong.append(f"{who}: a pass {start_s} to {end_s} s, where Skyfield has {hits_here}")
    result.passes += len(pairs)


def _check_edges(
    result: Comparison, satellite: Satellite, site: Site, pairs: list[tuple[float, float]], seconds: int
) -> None:
    edges = [(t, 1.0) for t, _ in pairs if t > 0] + [(t, -1.0) for _, t in pairs if t < seconds]
    if not edges:
        return
    t_s = np.array([t for t, _ in edges])
    three = Referee.degrees(satellite, site, np.concatenate((t_s - 0.01, t_s, t_s + 0.01))).reshape(3, -1)
    rate = (three[2] - three[0]) / 0.02
    off = three[1] - site.mask_degrees
    quick = np.abs(rate) >= QUICK_DEGREES_PER_S
    # One Newton step from here is Skyfield's crossing, to far less than a millisecond.
    if quick.any():
        result.worst_edge_s = max(result.worst_edge_s, float(np.abs(off[quick] / rate[quick]).max()))
    if not quick.all():
        result.worst_slow_degrees = max(result.worst_slow_degrees, float(np.abs(off[~quick]).max()))
    signs = np.array([sign for _, sign in edges])
    if np.any((rate * signs <= 0) & quick):
        result.wrong.append(f"{satellite.name} over {site.name}: an edge goes the wrong way")


def assert_right(result: Comparison) -> None:
    assert not result.wrong, "\n".join(result.wrong[:20])
    assert result.worst_elevation_degrees < 0.01
    assert result.worst_edge_s < EDGE_S
    assert result.worst_slow_degrees < SLOW_EDGE_DEGREES


def test_passes_of_every_kind_of_orbit_are_skyfields() -> None:
    result = compare(FAST_ORBITS, SITES[::2], 6 * 3600)
    assert_right(result)
    assert result.passes >= 30


@pytest.mark.full
@pytest.mark.timeout(600)
def test_over_a_thousand_passes_of_every_kind_of_orbit_are_skyfields() -> None:
    result = compare(ORBITS + PLANES, SITES, 86_400)
    assert_right(result)
    assert result.passes >= 1000
    assert result.grazing <= 3


# --- what holds of every pass, and nothing is missed ------------------------------------------------------


@st.composite
def any_orbit(draw: st.DrawFn) -> Satellite:
    perigee_km = draw(st.floats(6378.0 + 200.0, 20_000.0))
    eccentricity = draw(st.one_of(st.floats(0.0, 0.05), st.floats(0.0, 0.75)))
    angles = [draw(st.floats(0.0, 359.0)) for _ in range(3)]
    # SGP4 makes no numbers of 1e-310 degrees, and in deep space leaps by kilometres at 180 degrees.
    inclination = round(draw(st.floats(0.0, 179.9)), 3)
    axis_km = min(perigee_km / (1.0 - eccentricity), 46_000.0)
    eccentricity = min(eccentricity, 1.0 - 6578.0 / axis_km)
    return orbit("any", axis_km, eccentricity, inclination, *angles)


any_site = st.builds(
    Site,
    st.just("any"),
    st.floats(-90.0, 90.0),
    st.floats(-180.0, 180.0),
    st.floats(-400.0, 9000.0),
    st.one_of(st.floats(0.0, 30.0), st.floats(0.0, 89.0)),
)


def sines(flown: Tracks, site: Site, t_s: Any) -> Any:
    return sine_of_elevation(SiteFrame.of(site), flown.at(0, np.asarray(t_s, dtype=np.float64)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(satellite=any_orbit(), site=any_site, hours=st.floats(0.01, 13.0))
def test_every_pass_rises_through_the_mask_and_falls_through_it_and_none_is_missed(
    satellite: Satellite, site: Site, hours: float
) -> None:
    duration_s = hours * 3600.0
    flown = tracks([satellite], EPOCH, duration_s, LONGEST_STEP_S)
    passes = find_passes(flown, site)
    mask = math.sin(math.radians(site.mask_degrees))
    for one in passes:
        assert 0.0 <= one.start_s <= one.end_s <= duration_s
        # The mask is a microsecond's flight away at most; 1e-8 of a sine is less than a degree's millionth.
        edges = sines(flown, site, [one.start_s, one.end_s])
        if one.start_s > 0.0:
            assert edges[0] == pytest.approx(mask, abs=1e-8)
        if one.end_s < duration_s:
            assert edges[1] == pytest.approx(mask, abs=1e-8)
        if one.end_s - one.start_s > 0.1:
            inside = np.linspace(one.start_s, one.end_s, 50)[1:-1]
            assert np.all(sines(flown, site, inside) > mask)
    for one, other in itertools.pairwise(passes):
        assert one.end_s < other.start_s
    # The referee: a fine grid of the same positions, but for what is within 0.02 degrees of the mask.
    t_s = np.linspace(0.0, duration_s, max(2, round(duration_s / 3.0)))
    degrees = np.degrees(np.arcsin(np.clip(sines(flown, site, t_s), -1.0, 1.0))) - site.mask_degrees
    within = np.zeros(len(t_s), dtype=bool)
    for one in passes:
        within |= (t_s >= one.start_s) & (t_s <= one.end_s)
    assert np.all(within[degrees > GRAZING_DEGREES])
    assert not np.any(within[degrees < -GRAZING_DEGREES])


def test_a_pass_with_several_culminations_is_one_and_a_dip_below_the_mask_parts_it() -> None:
    # Above the pole's side of a Tundra orbit the satellite stays up, rises, sinks and rises again.
    (satellite,) = [s for s in ORBITS if s.name == "geosynchronous"]
    flown = tracks([satellite], EPOCH, 86_400.0, LONGEST_STEP_S)
    t_s = np.arange(0.0, 86_400.0, 10.0)
    for longitude_degrees in range(-180, 180, 10):
        high = Site("high", 60.0, float(longitude_degrees), 0.0, 0.0)
        sine = sines(flown, high, t_s)
        dips = np.flatnonzero((sine[1:-1] < sine[:-2]) & (sine[1:-1] <= sine[2:])) + 1
        dips = [d for d in dips if sine[d] > 0.02]
        if dips:
            break
    else:
        pytest.fail("no site sees a dip")
    dip = int(dips[0])
    dip_degrees = math.degrees(math.asin(sine[dip]))

    def around(mask_degrees: float) -> list[Pass]:
        site = Site("high", 60.0, high.longitude_degrees, 0.0, mask_degrees)
        return [
            p for p in find_passes(flown, site) if p.start_s < t_s[dip] + 1800 and p.end_s > t_s[dip] - 1800
        ]

    assert len(around(dip_degrees - 1e-4)) == 1
    assert len(around(dip_degrees + 1e-4)) == 2


def test_many_sites_at_once_are_as_one_by_one() -> None:
    flown = tracks(ORBITS, EPOCH, 20_000.0, LONGEST_STEP_S)
    for site, over in zip(SITES, find_all_passes(flown, SITES), strict=True):
        rows = zip(over.satellite.tolist(), over.start_s.tolist(), over.end_s.tolist(), strict=True)
        assert tuple(Pass(*row) for row in rows) == find_passes(flown, site)
    assert find_all_passes(flown, []) == []


def test_positions_between_grid_points_are_within_a_centimetre_of_sgp4() -> None:
    coarse = tracks(ORBITS, EPOCH, 43_200.0, LONGEST_STEP_S)
    fine = tracks(ORBITS, EPOCH, 43_200.0, 7.5)
    t_s = np.arange(fine.points) * fine.step_s
    for index in range(len(ORBITS)):
        off_km = np.abs(coarse.at(index, t_s) - fine.position_km[index]).max()
        assert off_km < 1e-5, ORBITS[index].name


def test_a_satellite_that_sgp4_gives_up_on_is_told_and_the_others_fly_on() -> None:
    falling = orbit("falling", 6500.0, 0.0, 51.0, bstar=0.5)
    flown, errors = propagated([ORBITS[0], falling, ORBITS[3]], EPOCH, 5 * 86_400.0, LONGEST_STEP_S)
    assert list(errors) == [1]
    assert errors[1].startswith("satellite 'falling': SGP4 fails ")
    assert np.all(np.isfinite(flown.padded_km))
    alone = tracks([ORBITS[3]], EPOCH, 5 * 86_400.0, LONGEST_STEP_S)
    assert np.array_equal(alone.position_km[0], flown.position_km[2])
    assert {p.satellite for p in find_passes(flown, SITES[2])} == {2}
    with pytest.raises(ValueError, match="satellite 'falling': SGP4 fails"):
        tracks([falling], EPOCH, 5 * 86_400.0, LONGEST_STEP_S)
