"""Lines of sight over the ellipsoid and geodetic latitudes, against points by iteration."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrain.contacts.motion import Motion
from orbitrain.contacts.sight import Shield, within_latitude
from tests.unit.contacts.flown import geodetic


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
