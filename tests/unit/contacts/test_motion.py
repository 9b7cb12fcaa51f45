"""Motion between the points of a grid is that of SGP4's positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from orbitrain.contacts.elements import Satellite
from orbitrain.contacts.finder import LONGEST_STEP_S
from orbitrain.contacts.geometry import Tracks, tracks
from orbitrain.contacts.motion import motion_at, motion_within
from tests.unit.contacts.flown import ECCENTRIC, EPOCH, LOW_AND_HIGH


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
