"""Inter-satellite windows against a one-second grid straight from SGP4, rule by rule; planes; the rules."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sgp4.api import WGS72, Satrec, jday

from orbitrain.contacts.crossings import Changes, Spans, spans_at
from orbitrain.contacts.elements import EARTH_MU_KM3_PER_S2, Satellite, Shell, satellites_of
from orbitrain.contacts.finder import LONGEST_STEP_S
from orbitrain.contacts.geometry import Tracks, propagated, tracks
from orbitrain.contacts.isl import IslRules, IslWindows, find_isl, range_rate_of_doppler
from orbitrain.contacts.motion import Motion, motion_at, motion_within
from orbitrain.contacts.planes import Pairs, Planes
from orbitrain.contacts.sight import EQUATOR_KM, FLATTENING, POLE_KM, Shield, within_latitude

EPOCH = datetime(2026, 3, 20, 21, 30, tzinfo=UTC)
EDGE_S = 0.01
# Truth by differences: of positions so far apart in time.
APART_S = 0.05


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


# --- the referee: SGP4's own positions in TEME, which is ITRS but for a turn about the axis ----------------


class Truth:
    """Margins of every rule, straight from SGP4, by other formulas than ours."""

    def __init__(self, rules: IslRules) -> None:
        self.rules = rules

    @staticmethod
    def position(satellite: Satellite, t_s: Any) -> Any:
        day, fraction = jday(EPOCH.year, EPOCH.month, EPOCH.day, EPOCH.hour, EPOCH.minute, 0.0)
        t_s = np.asarray(t_s, dtype=np.float64)
        codes, position, _ = satellite.satrec.sgp4_array(np.full(len(t_s), day), fraction + t_s / 86_400.0)
        assert not codes.any()
        return position

    def flown(self, satellite: Satellite, t_s: Any) -> tuple[Any, ...]:
        t_s = np.asarray(t_s, dtype=np.float64)
        return tuple(self.position(satellite, t_s + shift) for shift in (-APART_S, 0.0, APART_S))

    def margins(self, one: tuple[Any, ...], other: tuple[Any, ...], intra: bool) -> dict[str, Any]:
        """In km, km/s, degrees/s and degrees: 0 or below where the rule does not hold."""
        rules, found = self.rules, {}
        line = other[1] - one[1]
        distance = np.linalg.norm(line, axis=1)
        radius, stretch = EQUATOR_KM + rules.clearance_km, np.array([1.0, 1.0, 0.0])
        stretch[2] = radius / (POLE_KM + rules.clearance_km)
        a, b = one[1] * stretch, other[1] * stretch
        along = np.clip(-np.sum(a * (b - a), axis=1) / np.sum((b - a) ** 2, axis=1), 0.0, 1.0)
        found["clearance"] = np.linalg.norm(a + along[:, np.newaxis] * (b - a), axis=1) - radius
        if rules.longest_km is not None:
            found["longest"] = rules.longest_km - distance
        if intra:
            return found
        if rules.range_rate_km_per_s is not None:
            before, after = (np.linalg.norm(other[i] - one[i], axis=1) for i in (0, 2))
            found["range rate"] = rules.range_rate_km_per_s - abs(after - before) / (2.0 * APART_S)
        if rules.angular_rate_degrees_per_s is not None:
            for name, frames in (("first", self.frames(one)), ("second", self.frames(other))):
                directions = []
                for i in (0, 2):
                    away = other[i] - one[i]
                    away /= np.linalg.norm(away, axis=1)[:, np.newaxis]
                    directions.append(np.einsum("nij,nj->ni", frames[i], away))
                turn = np.linalg.norm(directions[1] - directions[0], axis=1) / (2.0 * APART_S)
                found[f"angular rate of {name}"] = rules.angular_rate_degrees_per_s - np.degrees(turn)
        if rules.latitude_cut_degrees is not None:
            for name, at in (("first", one[1]), ("second", other[1])):
                found[f"latitude of {name}"] = rules.latitude_cut_degrees - abs(geodetic(at)[0])
        return found

    @staticmethod
    def frames(flown: tuple[Any, ...]) -> tuple[Any, ...]:
        # Nadir, along, across, as rows: following the position about the orbit normal, which stays.
        across = np.cross(flown[2] - flown[0], -flown[1])
        across /= np.linalg.norm(across, axis=1)[:, np.newaxis]
        frames = []
        for position in flown:
            down = -position + across * np.sum(position * across, axis=1)[:, np.newaxis]
            down /= np.linalg.norm(down, axis=1)[:, np.newaxis]
            frames.append(np.stack((down, np.cross(across, down), across), axis=1))
        return tuple(frames)


def geodetic(position: Any) -> tuple[Any, Any]:
    """Latitude in degrees and height in km, by iteration."""
    square = FLATTENING * (2.0 - FLATTENING)
    out = np.hypot(position[:, 0], position[:, 1])
    latitude = np.arctan2(position[:, 2], out * (1.0 - square))
    for _ in range(8):
        normal = EQUATOR_KM / np.sqrt(1.0 - square * np.sin(latitude) ** 2)
        latitude = np.arctan2(position[:, 2] + square * normal * np.sin(latitude), out)
    normal = EQUATOR_KM / np.sqrt(1.0 - square * np.sin(latitude) ** 2)
    height = out * np.cos(latitude) + position[:, 2] * np.sin(latitude) - EQUATOR_KM**2 / normal
    return np.degrees(latitude), height


def compare(
    satellites: tuple[Satellite, ...],
    pairs: Pairs,
    rules: IslRules,
    seconds: int,
    step_s: float = LONGEST_STEP_S,
) -> IslWindows:
    """Every second is in a window exactly if SGP4 says so, and every edge is where SGP4 has it."""
    truth = Truth(rules)
    windows = find_isl(tracks(satellites, EPOCH, float(seconds), step_s), pairs, rules)
    grid = np.arange(seconds + 1, dtype=np.float64)
    flown = [truth.flown(satellite, grid) for satellite in satellites]
    for first, second, intra in zip(
        pairs.first.tolist(), pairs.second.tolist(), pairs.intra.tolist(), strict=True
    ):
        who = f"{satellites[first].name} and {satellites[second].name}"
        mine = (windows.first == first) & (windows.second == second) & (windows.intra == intra)
        spans = list(zip(windows.start_s[mine].tolist(), windows.end_s[mine].tolist(), strict=True))
        assert all(a < b for a, b in spans) and all(p[1] < q[0] for p, q in itertools.pairwise(spans)), who
        over = np.minimum.reduce(list(truth.margins(flown[first], flown[second], intra).values())) > 0
        within, near = np.zeros(seconds + 1, dtype=bool), np.zeros(seconds + 1, dtype=bool)
        for start_s, end_s in spans:
            within |= (start_s <= grid) & (grid <= end_s)
            near |= np.minimum(abs(grid - start_s), abs(grid - end_s)) < EDGE_S
        wrong = np.flatnonzero((within != over) & ~near)
        assert not len(wrong), f"{who}: at {wrong[:5]} s it is {over[wrong[:5]]}, windows {spans}"
        edges = [
            (t, sign) for span in spans for t, sign in zip(span, (1, -1), strict=True) if 0 < t < seconds
        ]
        if not edges:
            continue
        t_s, signs = np.array([t for t, _ in edges]), np.array([sign for _, sign in edges])
        sides = []
        for side in (-EDGE_S, EDGE_S):
            at = truth.margins(
                truth.flown(satellites[first], t_s + side * signs),
                truth.flown(satellites[second], t_s + side * signs),
                intra,
            )
            sides.append(np.minimum.reduce(list(at.values())))
        # Outside it does not hold; inside it does, unless the window is as short as that.
        assert np.all(sides[0] <= 0), f"{who}: {t_s[sides[0] > 0]}"
        assert np.all((sides[1] > 0) | (np.repeat([b - a < 2 * EDGE_S for a, b in spans], 2)[: len(t_s)])), (
            who
        )
    return windows


def everything(planes: Planes) -> Pairs:
    return planes.ring_pairs().joined(planes.cross_pairs())


def walker(*shells: Shell) -> tuple[tuple[Satellite, ...], Planes]:
    satellites: list[Satellite] = []
    for shell in shells:
        satellites += satellites_of(shell, EPOCH, 270_000 + len(satellites))
    return tuple(satellites), Planes.of_shells(shells)


ALL_RULES = IslRules(80.0, 4_500.0, 4.0, 0.25, 60.0)


@pytest.mark.parametrize(
    "rules",
    [
        IslRules(80.0),
        IslRules(0.0, 2_500.0),
        IslRules(80.0, None, 3.0),
        IslRules(80.0, None, None, 0.12),
        IslRules(200.0, None, None, None, 45.0),
        ALL_RULES,
    ],
    ids=["clearance", "longest", "range rate", "angular rate", "latitude", "all"],
)
def test_windows_of_a_walker_delta_are_sgp4s(rules: IslRules) -> None:
    satellites, planes = walker(Shell("delta", 550.0, 53.0, 24, 4, 1))
    windows = compare(satellites, everything(planes), rules, 3 * 3600)
    assert len(windows) >= 100


@pytest.mark.parametrize("rules", [IslRules(80.0), ALL_RULES], ids=["clearance", "all"])
def test_windows_of_a_walker_star_are_sgp4s(rules: IslRules) -> None:
    satellites, planes = walker(Shell("star", 780.0, 86.4, 18, 3, 1, "star"))
    windows = compare(satellites, everything(planes), rules, 3 * 3600)
    assert len(windows) >= 20


def test_satellites_that_fly_past_each_other_at_15_km_a_second_are_not_missed() -> None:
    # Over the poles, 10 to 200 km apart: windows, and gaps in windows, of a few seconds.
    satellites, planes = walker(
        Shell("one", 700.0, 90.0, 5, 1),
        Shell("across", 710.0, 90.0, 5, 1, raan_degrees=90.0, anomaly_degrees=0.3),
        Shell("against", 725.0, 89.0, 5, 1, raan_degrees=179.0, anomaly_degrees=0.7),
    )
    pairs = planes.cross_pairs()
    shortest_s = []
    for rules in (
        IslRules(80.0, None, 7.0),
        IslRules(80.0, None, None, 2.0),
        IslRules(80.0, 800.0, 12.0, 8.0),
    ):
        windows = compare(satellites, pairs, rules, 3 * 3600)
        assert len(windows) > 40
        gaps = windows.start_s[1:] - windows.end_s[:-1]
        same = (windows.first[1:] == windows.first[:-1]) & (windows.second[1:] == windows.second[:-1])
        shortest_s.append(((windows.end_s - windows.start_s).min(), gaps[same].min()))
    assert min(window_s for window_s, _ in shortest_s) < 2.0
    assert min(gap_s for _, gap_s in shortest_s) < 4.0


ECCENTRIC = (
    orbit("molniya", 26_560.0, 0.74, 63.4, 100.0, 270.0, 340.0),
    orbit("molniya-low-perigee", 26_560.0, 0.75, 63.4, 250.0, 270.0, 20.0),
    orbit("leo-eccentric", 7300.0, 0.08, 63.0, 33.0, 270.0, 10.0),
    orbit("leo-eccentric-against", 7400.0, 0.09, 117.0, 33.0, 90.0, 200.0),
    orbit("transfer", 24_400.0, 0.73, 7.0, 0.0, 178.0, 350.0),
)
LOW_AND_HIGH = (
    orbit("leo", 6928.0, 0.0005, 53.0, 10.0, 40.0, 5.0),
    orbit("polar", 6978.0, 0.001, 97.8, 300.0, 0.0, 50.0),
    orbit("low", 6540.0, 0.0, 40.0, 200.0, 0.0, 50.0),
    orbit("o3b", 14_440.0, 0.0, 0.1),
    orbit("gps", 26_560.0, 0.01, 55.0, 20.0, 30.0, 60.0),
    orbit("gps-other-plane", 26_560.0, 0.02, 55.0, 140.0, 200.0, 10.0),
    orbit("geosynchronous", 42_164.0, 0.02, 12.0, 0.0, 90.0, 200.0),
)


@pytest.mark.parametrize("satellites", [ECCENTRIC, LOW_AND_HIGH], ids=["eccentric", "low and high"])
@pytest.mark.parametrize(
    "rules",
    [IslRules(80.0), IslRules(150.0, 30_000.0, 3.0, 0.05, 55.0), IslRules(300.0, None, 1.0)],
    ids=["clearance", "all", "high"],
)
def test_windows_of_other_orbits_are_sgp4s(satellites: tuple[Satellite, ...], rules: IslRules) -> None:
    pairs = Pairs.of(itertools.combinations(range(len(satellites)), 2), False)
    windows = compare(satellites, pairs, rules, 6 * 3600)
    assert len(windows) >= 10


@st.composite
def any_orbit(draw: st.DrawFn) -> Satellite:
    perigee_km = draw(st.floats(6378.0 + 200.0, 9_000.0))
    eccentricity = draw(st.one_of(st.just(0.0), st.floats(0.0, 0.02), st.floats(0.0, 0.7)))
    angles = [round(draw(st.floats(0.0, 359.0)), 3) for _ in range(3)]
    inclination = round(draw(st.floats(0.0, 179.9)), 3)
    return orbit("any", perigee_km / (1.0 - eccentricity), round(eccentricity, 6), inclination, *angles)


def maybe(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), st.floats(low, high))


any_rules = st.builds(
    IslRules,
    st.floats(0.0, 400.0),
    maybe(300.0, 20_000.0),
    maybe(0.5, 12.0),
    maybe(0.03, 3.0),
    maybe(5.0, 90.0),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    satellites=st.lists(any_orbit(), min_size=3, max_size=3),
    rules=any_rules,
    intra=st.booleans(),
    step_s=st.sampled_from([60.0, 45.0, 7.0]),
)
def test_windows_of_any_orbits_by_any_rules_are_sgp4s(
    satellites: list[Satellite], rules: IslRules, intra: bool, step_s: float
) -> None:
    flown = [Truth.position(satellite, np.arange(6_001)) for satellite in satellites]
    pairs = list(itertools.combinations(range(3), 2))
    # Closer, and differences of SGP4's positions are no truth to 10 ms.
    assume(all(np.linalg.norm(flown[a] - flown[b], axis=1).min() > 10.0 for a, b in pairs))
    compare(tuple(satellites), Pairs.of(pairs, intra), rules, 6_000, step_s)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_thousands_of_windows_are_sgp4s() -> None:
    satellites, planes = walker(
        Shell("delta", 550.0, 53.0, 24, 4, 1),
        Shell("star", 780.0, 86.4, 12, 3, 1, "star"),
        Shell("meo", 8_062.0, 5.0, 4),
    )
    rules = IslRules(80.0, 5_000.0, 5.0, 0.5, 65.0)
    assert len(compare(satellites, everything(planes), rules, 10 * 3600)) > 2_000


# --- what follows from the rules --------------------------------------------------------------------------


def test_neighbours_that_always_see_each_other_have_one_window_clipped_to_the_tracks() -> None:
    satellites, planes = walker(Shell("ring", 550.0, 53.0, 22))
    windows = find_isl(tracks(satellites, EPOCH, 7_000.0, 60.0), planes.ring_pairs(), IslRules())
    assert len(windows) == 22 and windows.intra.all()
    assert set(windows.start_s.tolist()) == {0.0} and set(windows.end_s.tolist()) == {7_000.0}


def test_pairs_of_one_plane_are_asked_for_clearance_and_range_only() -> None:
    satellites, planes = walker(Shell("ring", 550.0, 53.0, 22))
    flown = tracks(satellites, EPOCH, 7_000.0, 60.0)
    pairs = planes.ring_pairs()
    strict = IslRules(80.0, 5_000.0, 1e-6, 1e-9, 1.0)
    assert len(find_isl(flown, pairs, strict)) == 22
    assert len(find_isl(flown, replace_intra(pairs), strict)) == 0
    assert len(find_isl(flown, pairs, replace(strict, longest_km=1_000.0))) == 0


def replace_intra(pairs: Pairs) -> Pairs:
    return Pairs(pairs.first, pairs.second, np.zeros_like(pairs.intra))


def test_all_rules_together_are_the_intersection_of_each() -> None:
    satellites, planes = walker(Shell("delta", 550.0, 53.0, 24, 4, 1))
    flown = tracks(satellites, EPOCH, 20_000.0, LONGEST_STEP_S)
    pairs = planes.cross_pairs()
    together = find_isl(flown, pairs, ALL_RULES)
    bare = IslRules(ALL_RULES.clearance_km)
    keys = ("longest_km", "range_rate_km_per_s", "angular_rate_degrees_per_s", "latitude_cut_degrees")
    parts = [find_isl(flown, pairs, replace(bare, **{key: getattr(ALL_RULES, key)})) for key in keys]
    changes = [Changes.of(Spans(w.first * 100 + w.second, w.start_s, w.end_s)) for w in parts]
    expected = spans_at(Changes.joined(changes), len(parts))
    assert np.array_equal(together.first * 100 + together.second, expected.owner)
    assert np.allclose(together.start_s, expected.start_s, rtol=0.0, atol=1e-4)
    assert np.allclose(together.end_s, expected.end_s, rtol=0.0, atol=1e-4)


def test_one_pair_alone_has_the_windows_it_has_among_many() -> None:
    satellites, planes = walker(Shell("delta", 550.0, 53.0, 24, 4, 1))
    flown = tracks(satellites, EPOCH, 20_000.0, LONGEST_STEP_S)
    pairs = everything(planes)
    windows = find_isl(flown, pairs, ALL_RULES)
    for index in range(0, len(pairs), 31):
        some = slice(index, index + 1)
        alone = find_isl(flown, Pairs(pairs.first[some], pairs.second[some], pairs.intra[some]), ALL_RULES)
        mine = (windows.first == pairs.first[index]) & (windows.second == pairs.second[index])
        assert np.array_equal(alone.start_s, windows.start_s[mine])
        assert np.array_equal(alone.end_s, windows.end_s[mine])


def test_a_satellite_that_sgp4_gives_up_on_has_no_windows() -> None:
    satellites = (
        orbit("a", 6928.0, 0.0, 53.0),
        orbit("falling", 6500.0, 0.0, 51.0, bstar=0.5),
        orbit("b", 6928.0, 0.0, 53.0, anomaly=15.0),
    )
    flown, errors = propagated(satellites, EPOCH, 5 * 86_400.0, LONGEST_STEP_S)
    assert list(errors) == [1]
    pairs = Pairs.of([(0, 1), (1, 2), (0, 2)], False)
    windows = find_isl(flown, pairs, IslRules(80.0, None, 7.0, 1.0))
    assert set(zip(windows.first.tolist(), windows.second.tolist(), strict=True)) == {(0, 2)}


def test_a_satellite_below_the_clearance_has_no_windows_while_it_is() -> None:
    # Its perigee is 180 km high, the clearance asked for 300 km: straight up it would see the other.
    satellites = (orbit("dips", 6_978.0, 0.06, 10.0), orbit("above", 7_400.0, 0.0, 10.0))
    windows = compare(satellites, Pairs.of([(0, 1)], False), IslRules(300.0), 6 * 3600)
    assert len(windows) >= 2
    flown = tracks(satellites, EPOCH, 6 * 3600.0, LONGEST_STEP_S)
    for t_s in (windows.start_s + windows.end_s) / 2.0:
        assert geodetic(flown.at(0, np.array([t_s])))[1] > 300.0


def test_no_pairs_no_windows() -> None:
    flown = tracks(walker(Shell("ring", 550.0, 53.0, 2))[0], EPOCH, 600.0, 60.0)
    assert len(find_isl(flown, Pairs.of([], True), ALL_RULES)) == 0


# --- rules and motion by themselves -----------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(clearance_km=st.floats(0.0, 2_000.0), latitude=st.floats(-90.0, 90.0))
def test_the_surface_of_a_clearance_is_that_high_above_the_ellipsoid(
    clearance_km: float, latitude: float
) -> None:
    shield = Shield.above(clearance_km)
    angle = math.radians(latitude)
    point = shield.radius_km * np.array([[math.cos(angle), 0.0, math.sin(angle) / shield.stretch]])
    assert abs(geodetic(point)[1][0] - clearance_km) <= 1.2e-5 * clearance_km + 1e-8


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    clearance_km=st.floats(0.0, 500.0),
    places=st.lists(
        st.tuples(st.floats(0.0, 360.0), st.floats(-90.0, 90.0), st.floats(6_900.0, 40_000.0)),
        min_size=2,
        max_size=2,
    ),
)
def test_a_line_is_clear_if_no_point_of_it_is_lower(
    clearance_km: float, places: list[tuple[float, float, float]]
) -> None:
    a, b = (
        radius
        * np.array(
            [
                [
                    math.cos(math.radians(turn)) * math.cos(math.radians(tilt)),
                    math.sin(math.radians(turn)) * math.cos(math.radians(tilt)),
                    math.sin(math.radians(tilt)),
                ]
            ]
        )
        for turn, tilt, radius in places
    )
    lowest_km = geodetic(a + np.linspace(0.0, 1.0, 20_001)[:, np.newaxis] * (b - a))[1].min()
    still = np.zeros((1, 3))
    clear = Shield.above(clearance_km).clear(Motion(a, still), Motion(b, still))[0] > 0
    if abs(lowest_km - clearance_km) > 0.02:
        assert clear == (lowest_km > clearance_km)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cut=st.floats(0.1, 90.0), place=st.tuples(*[st.floats(-20_000.0, 20_000.0)] * 3))
def test_latitudes_are_geodetic(cut: float, place: tuple[float, float, float]) -> None:
    position = np.array([place])
    if np.linalg.norm(position) > 6_400.0:
        latitude = abs(geodetic(position)[0][0])
        if abs(latitude - cut) > 1e-6:
            assert (within_latitude(cut)(position)[0] > 0) == (latitude < cut)


def test_motion_between_grid_points_is_that_of_sgp4s_positions() -> None:
    satellites = ECCENTRIC + LOW_AND_HIGH
    flown = tracks(satellites, EPOCH, 43_200.0, LONGEST_STEP_S)
    t_s = np.arange(10.0, 43_190.0, 7.3)
    for index in range(len(satellites)):
        motion = motion_at(flown, np.full(len(t_s), index), t_s)
        assert np.abs(motion.position_km - flown.at(index, t_s)).max() < 1e-8
        before, after = _near(satellites[index], t_s - 0.05), _near(satellites[index], t_s + 0.05)
        assert np.abs(motion.velocity_km_per_s - (after - before) / 0.1).max() < 2e-6, satellites[index].name


def _near(satellite: Satellite, t_s: Any) -> Any:
    # In ITRS, on a grid through these instants: the tracks' own points are SGP4's.
    fine = _FINE.setdefault(satellite.name, tracks([satellite], EPOCH, 43_200.0, 7.5))
    return fine.at(0, t_s)


_FINE: dict[str, Tracks] = {}


def test_motion_within_cells_is_the_motion_at_those_instants() -> None:
    flown = tracks(LOW_AND_HIGH, EPOCH, 6_000.0, 50.0)
    satellite, point = np.array([0, 3, 6]), np.array([0, 60, 119])
    fractions = np.array([0.0, 0.25, 0.99])
    within = motion_within(flown, satellite, point, fractions)
    for column, fraction in enumerate(fractions):
        at = motion_at(flown, satellite, (point + fraction) * flown.step_s)
        assert np.allclose(within.position_km[:, column], at.position_km, rtol=0.0, atol=1e-8)
        assert np.allclose(within.velocity_km_per_s[:, column], at.velocity_km_per_s, rtol=0.0, atol=1e-9)


def test_doppler_is_a_range_rate() -> None:
    assert range_rate_of_doppler(1e6, 2e9) == pytest.approx(149.896229)
    with pytest.raises(ValueError, match=r"^carrier_hz: must be a finite number above 0, not 0"):
        range_rate_of_doppler(1.0, 0)
    with pytest.raises(ValueError, match=r"^limit_hz: must be a finite number above 0, not nan"):
        range_rate_of_doppler(math.nan, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clearance_km": -1.0}, "clearance_km: must be 0 to 10000, not -1.0"),
        ({"clearance_km": math.nan}, "clearance_km: must be 0 to 10000, not nan"),
        ({"longest_km": 0.0}, "longest_km: must be a finite number above 0, not 0.0"),
        ({"range_rate_km_per_s": math.inf}, "range_rate_km_per_s: must be a finite number above 0, not inf"),
        ({"angular_rate_degrees_per_s": -1.0}, "angular_rate_degrees_per_s: must be a finite number above 0"),
        ({"latitude_cut_degrees": 91.0}, "latitude_cut_degrees: must be above 0 and at most 90, not 91.0"),
    ],
)
def test_rules_that_cannot_be_are_refused_in_one_line(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as error:
        IslRules(**wrong)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_pairs_and_grids_that_cannot_be_are_refused() -> None:
    satellites, planes = walker(Shell("ring", 550.0, 53.0, 3))
    with pytest.raises(ValueError, match=r"^tracks: step_s must be at most 60, not 90"):
        find_isl(tracks(satellites, EPOCH, 900.0, 90.0), planes.ring_pairs(), IslRules())
    flown = tracks(satellites, EPOCH, 900.0, 60.0)
    for pair in ((0, 3), (-1, 0), (1, 1)):
        with pytest.raises(ValueError, match=r"^pairs: must be of two different satellites of 0 to 2"):
            find_isl(flown, Pairs.of([pair], True), IslRules())
