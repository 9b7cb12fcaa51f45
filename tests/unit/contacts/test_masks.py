"""Azimuth masks, against Skyfield's altaz() on a one-second grid."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skyfield.api import EarthSatellite, load, wgs84

from orbitrain.contacts.elements import Satellite, Shell, satellites_of
from orbitrain.contacts.finder import LONGEST_STEP_S, Pass, find_all_passes, find_passes
from orbitrain.contacts.geometry import Site, tracks
from orbitrain.contacts.masks import GLIMPSE_S, Horizon

EPOCH = datetime(2026, 3, 20, 21, 30, tzinfo=UTC)
TIMESCALE = load.timescale(builtin=True)
HOURS_S = 12 * 3600
SATELLITES = (
    *satellites_of(Shell("leo", 550.0, 53.0, 3, 3), EPOCH),
    *satellites_of(Shell("polar", 800.0, 98.0, 2, 2, 1), EPOCH, 271_000),
    *satellites_of(Shell("meo", 8_062.0, 10.0, 1), EPOCH, 272_000),
    *satellites_of(Shell("gps", 20_180.0, 55.0, 1, raan_degrees=40.0), EPOCH, 273_000),
)
# A valley, a mast (steep on both sides), hills across north, and one height all round.
VALLEY = ((0.0, 5.0), (90.0, 40.0), (180.0, 8.0), (270.0, 35.0))
MAST = ((100.0, 0.0), (120.0, 0.0), (120.5, 60.0), (131.0, 60.0), (131.5, 0.0))
HILLS = ((20.0, 3.0), (60.0, 0.0), (300.0, 0.0), (340.0, 30.0))
SITES = (
    Site("valley", 47.0, 8.5, 500.0, 10.0, VALLEY),
    Site("mast", -33.0, 151.0, 20.0, 5.0, MAST),
    Site("hills", 61.0, -150.0, 40.0, 0.0, HILLS),
    Site("round", 1.0, 104.0, 10.0, 10.0, ((77.0, 25.0),)),
    Site("pole", 90.0, 0.0, 0.0, 5.0, VALLEY),
)


def instants(t_s: Any) -> Any:
    return TIMESCALE.utc(EPOCH.year, EPOCH.month, EPOCH.day, EPOCH.hour, EPOCH.minute, t_s)


GRID_S = np.arange(HOURS_S + 1)
GRID = instants(GRID_S)


def mask_by_hand(site: Site, azimuth: float) -> float:
    """The mask at one azimuth, spelled out."""
    points = list(site.mask)
    for (a0, e0), (a1, e1) in itertools.pairwise([*points, (points[0][0] + 360.0, points[0][1])]):
        for turned in (azimuth, azimuth + 360.0):
            if a0 <= turned <= a1:
                return max(site.mask_degrees, e0 + (e1 - e0) * (turned - a0) / (a1 - a0))
    raise AssertionError("no piece of the mask is there")


def clearance(satellite: Satellite, site: Site, t: Any) -> Any:
    place = wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)
    elevation, azimuth, _ = (EarthSatellite.from_satrec(satellite.satrec, TIMESCALE) - place).at(t).altaz()
    result = np.full(len(elevation.degrees), -90.0)
    up = np.flatnonzero(elevation.degrees > site.lowest_mask_degrees - 0.01)  # by hand is slow
    masks = [mask_by_hand(site, azimuth.degrees[i]) for i in up]
    result[up] = elevation.degrees[up] - masks
    return result


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_passes_over_a_masked_site_are_skyfields(site: Site) -> None:
    flown = tracks(SATELLITES, EPOCH, float(HOURS_S), LONGEST_STEP_S)
    passes = find_passes(flown, site)
    assert len(passes) >= 8
    for index, satellite in enumerate(SATELLITES):
        over = clearance(satellite, site, GRID)
        ours = [p for p in passes if p.satellite == index]
        within = np.zeros(len(GRID_S), dtype=bool)
        for one in ours:
            within |= (one.start_s <= GRID_S) & (one.end_s >= GRID_S)
        wrong = np.flatnonzero(within != (over > 0))
        # An edge that is a microsecond from a whole second may be on either side, as may a glimpse.
        assert all(abs(over[i]) < 0.05 for i in wrong) and len(wrong) <= 2
        edges = [t for p in ours for t in (p.start_s, p.end_s) if 0.0 < t < HOURS_S]
        around_s = np.array([edge_s + side_s for edge_s in edges for side_s in (-1e-3, 1e-3)])
        nearby = clearance(satellite, site, instants(around_s)).reshape(-1, 2)
        for edge_s, near in zip(edges, nearby, strict=True):
            assert near[0] * near[1] <= 0 or abs(near).max() < 0.003, edge_s


def test_a_mast_splits_a_pass_in_two() -> None:
    flown = tracks(SATELLITES, EPOCH, float(HOURS_S), LONGEST_STEP_S)
    bare = find_passes(flown, Site("mast", -33.0, 151.0, 20.0, 5.0))
    masked = find_passes(flown, SITES[1])
    parts = [
        [p for p in masked if p.satellite == b.satellite and b.start_s <= p.start_s < b.end_s] for b in bare
    ]
    assert sum(map(len, parts)) == len(masked)
    split = [(whole, part) for whole, part in zip(bare, parts, strict=True) if len(part) == 2]
    assert split
    for whole, (before, after) in split:
        assert (before.start_s, after.end_s) == (whole.start_s, whole.end_s)
        assert before.end_s < after.start_s


def test_a_mask_below_mask_degrees_changes_nothing() -> None:
    flown = tracks(SATELLITES, EPOCH, float(HOURS_S), LONGEST_STEP_S)
    for site in SITES:
        bare = Site(site.name, site.latitude_degrees, site.longitude_degrees, site.altitude_m, 12.0)
        low = Site(
            bare.name,
            bare.latitude_degrees,
            bare.longitude_degrees,
            bare.altitude_m,
            12.0,
            tuple((azimuth, min(elevation, 12.0)) for azimuth, elevation in site.mask),
        )
        assert find_passes(flown, low) == find_passes(flown, bare)


def test_one_point_is_that_height_all_round() -> None:
    flown = tracks(SATELLITES, EPOCH, float(HOURS_S), LONGEST_STEP_S)
    assert find_passes(flown, SITES[3]) == find_passes(flown, Site("round", 1.0, 104.0, 10.0, 25.0))


def test_sites_with_and_without_masks_can_be_asked_together() -> None:
    flown = tracks(SATELLITES, EPOCH, float(HOURS_S), LONGEST_STEP_S)
    sites = [SITES[0], Site("bare", 47.0, 8.5, 500.0, 10.0), SITES[1]]
    for site, over in zip(sites, find_all_passes(flown, sites), strict=True):
        rows = zip(over.satellite.tolist(), over.start_s.tolist(), over.end_s.tolist(), strict=True)
        assert tuple(Pass(*row) for row in rows) == find_passes(flown, site)


def test_passes_in_progress_at_the_ends_are_clipped_to_them() -> None:
    flown = tracks(SATELLITES[-1:], EPOCH, float(HOURS_S), LONGEST_STEP_S)
    site = Site("open", 10.0, 0.0, 0.0, 0.0, ((0.0, 1.0), (180.0, 2.0)))
    whole = max(find_passes(flown, site), key=lambda p: p.end_s - p.start_s)
    middle_s = 600.0 * round((whole.start_s + whole.end_s) / 1200.0)
    (first, *_) = [
        p for p in find_passes(tracks(SATELLITES[-1:], EPOCH, middle_s, 60.0), site) if p.end_s == middle_s
    ]
    assert first.start_s == pytest.approx(whole.start_s, abs=1e-3)


def test_a_view_of_many_hours_is_one_pass() -> None:
    (still,) = satellites_of(Shell("geo", 35_786.0, 0.0, 1), EPOCH)
    flown = tracks([still], EPOCH, 3 * 86_400.0, LONGEST_STEP_S)
    assert find_passes(flown, Site("under", 0.0, _longitude(flown), 0.0, 5.0, VALLEY)) == (
        Pass(0, 0.0, 3 * 86_400.0),
    )


def _longitude(flown: Any) -> float:
    return float(np.degrees(np.arctan2(flown.position_km[0, 0, 1], flown.position_km[0, 0, 0])))


masks = st.lists(
    st.tuples(st.floats(0.0, 359.0), st.floats(0.0, 70.0)), min_size=1, max_size=8, unique_by=lambda p: p[0]
).map(lambda points: tuple(sorted(points)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(mask=masks, latitude=st.floats(-90.0, 90.0), longitude=st.floats(-180.0, 180.0))
def test_what_is_in_view_is_above_the_mask_and_nothing_else_is(
    mask: tuple[tuple[float, float], ...], latitude: float, longitude: float
) -> None:
    flown = _flown()
    site = Site("any", latitude, longitude, 0.0, 5.0, mask)
    passes = find_passes(flown, site)
    horizon = Horizon.of(site)
    for satellite in range(flown.satellites):
        t_s = np.arange(0.0, flown.duration_s, 1.7)
        over = horizon.clearance_degrees(flown.at(satellite, t_s))
        within = np.zeros(len(t_s), dtype=bool)
        near_edge = np.zeros(len(t_s), dtype=bool)
        for one in (p for p in passes if p.satellite == satellite):
            assert one.start_s < one.end_s
            within |= (one.start_s <= t_s) & (t_s <= one.end_s)
            near_edge |= np.minimum(abs(t_s - one.start_s), abs(t_s - one.end_s)) < 1e-3
        wrong = np.flatnonzero((within != (over > 0)) & ~near_edge)
        for i in wrong:  # a glimpse, or a gap as short
            around = horizon.clearance_degrees(
                flown.at(satellite, t_s[i] + np.array([-GLIMPSE_S, GLIMPSE_S]))
            )
            assert (around > 0).tolist() == [within[i]] * 2


_FLOWN: list[Any] = []


def _flown() -> Any:
    if not _FLOWN:
        _FLOWN.append(tracks(SATELLITES[::3], EPOCH, 6 * 3600.0, LONGEST_STEP_S))
    return _FLOWN[0]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (((0.0, 5.0), (360.0, 5.0)), "azimuths ascending from 0 to less than 360, not 360.0 after 0.0"),
        (((-1.0, 5.0),), "azimuths ascending from 0 to less than 360, not -1.0"),
        (((10.0, 5.0), (10.0, 9.0)), "not 10.0 after 10.0"),
        (((float("nan"), 5.0),), "azimuths ascending from 0 to less than 360, not nan"),
        (((10.0, 90.0),), "elevations of 0 to less than 90, not 90.0"),
        (((10.0, float("nan")),), "elevations of 0 to less than 90, not nan"),
    ],
)
def test_a_mask_that_cannot_be_is_refused_in_one_line(
    mask: tuple[tuple[float, float], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^site 'a': mask must have") as error:
        Site("a", 0.0, 0.0, 0.0, 10.0, mask)
    assert message in str(error.value) and "\n" not in str(error.value)
