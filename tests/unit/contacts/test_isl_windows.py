"""Inter-satellite windows against a one-second grid straight from SGP4, rule by rule.

The referee is SGP4's own positions in TEME, which is ITRS but for a turn about the axis.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sgp4.api import jday

from orbitrain.contacts.elements import Satellite, Shell
from orbitrain.contacts.finder import LONGEST_STEP_S
from orbitrain.contacts.geometry import tracks
from orbitrain.contacts.isl import IslRules, IslWindows, find_isl
from orbitrain.contacts.planes import Pairs
from orbitrain.contacts.sight import EQUATOR_KM, POLE_KM
from tests.unit.contacts.flown import (
    ALL_RULES,
    ECCENTRIC,
    EPOCH,
    LOW_AND_HIGH,
    everything,
    geodetic,
    orbit,
    walker,
)

EDGE_S = 0.01
# Truth by differences: of positions so far apart in time.
APART_S = 0.05


class Flown(tuple[Any, ...]):
    """Positions shortly before some instants, at them and shortly after; what follows is reckoned once."""

    @cached_property
    def frames(self) -> tuple[Any, ...]:
        # Nadir, along, across, as rows: following the position about the orbit normal, which stays.
        across = np.cross(self[2] - self[0], -self[1])
        across /= np.linalg.norm(across, axis=1)[:, np.newaxis]
        frames = []
        for position in self:
            down = -position + across * np.sum(position * across, axis=1)[:, np.newaxis]
            down /= np.linalg.norm(down, axis=1)[:, np.newaxis]
            frames.append(np.stack((down, np.cross(across, down), across), axis=1))
        return tuple(frames)

    @cached_property
    def latitude(self) -> Any:
        return geodetic(self[1])[0]


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

    def flown(self, satellite: Satellite, t_s: Any) -> Flown:
        t_s = np.asarray(t_s, dtype=np.float64)
        return Flown(self.position(satellite, t_s + shift) for shift in (-APART_S, 0.0, APART_S))

    def margins(self, one: Flown, other: Flown, intra: bool) -> dict[str, Any]:
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
            for name, frames in (("first", one.frames), ("second", other.frames)):
                directions = []
                for i in (0, 2):
                    away = other[i] - one[i]
                    away /= np.linalg.norm(away, axis=1)[:, np.newaxis]
                    directions.append(np.einsum("nij,nj->ni", frames[i], away))
                turn = np.linalg.norm(directions[1] - directions[0], axis=1) / (2.0 * APART_S)
                found[f"angular rate of {name}"] = rules.angular_rate_degrees_per_s - np.degrees(turn)
        if rules.latitude_cut_degrees is not None:
            for name, latitude in (("first", one.latitude), ("second", other.latitude)):
                found[f"latitude of {name}"] = rules.latitude_cut_degrees - abs(latitude)
        return found


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


def test_a_satellite_below_the_clearance_has_no_windows_while_it_is() -> None:
    # Its perigee is 180 km high, the clearance asked for 300 km: straight up it would see the other.
    satellites = (orbit("dips", 6_978.0, 0.06, 10.0), orbit("above", 7_400.0, 0.0, 10.0))
    windows = compare(satellites, Pairs.of([(0, 1)], False), IslRules(300.0), 6 * 3600)
    assert len(windows) >= 2
    flown = tracks(satellites, EPOCH, 6 * 3600.0, LONGEST_STEP_S)
    for t_s in (windows.start_s + windows.end_s) / 2.0:
        assert geodetic(flown.at(0, np.array([t_s])))[1] > 300.0
