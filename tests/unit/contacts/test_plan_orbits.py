"""Orbits in a plan: the very elements that SGP4 was given."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sgp4.api import WGS72, WGS84, Satrec

from orbitrain.contacts import omm, tle
from orbitrain.contacts.elements import Satellite, Shell, satellites_of
from orbitrain.contacts.node import Orbit
from orbitrain.contacts.orbits import orbit_of, satellite_of
from orbitrain.contacts.plan import ContactPlan, PlanNode

# Lines without their checksums.
NEAR = (
    "1 25544U 98067A   20195.02812500  .00000709  00000-0  20731-4 0  999",
    "2 25544  51.6431 221.4471 0001433 100.6297  41.6413 15.4951377123606",
)
MOLNIYA = (
    "1 08195U 75081A   06176.33215444  .00000099  00000-0  11873-3 0   81",
    "2 08195  64.1586 279.0717 6877146 264.7651  20.2257  2.0049138322565",
)


def of_tle(name: str, lines: tuple[str, str]) -> Satellite:
    first, second = (
        line + str(sum(int(c) if c.isdigit() else c == "-" for c in line) % 10) for line in lines
    )
    return tle.satellite_of(tle.TleRecord(name, (first, second), (1, 2)))


def positions(satellite: Satellite) -> list[object]:
    whole = satellite.satrec.jdsatepoch
    return [satellite.satrec.sgp4(whole + day, 0.37) for day in range(-20, 21)]


def through_a_plan(satellite: Satellite) -> Satellite:
    node = PlanNode("sat", "satellite", orbit=orbit_of(satellite))
    plan = ContactPlan(1, "ab" * 32, "2026-01-01T00:00:00Z", 1, (node,), ())
    orbit = ContactPlan.from_json(plan.to_json()).nodes[0].orbit
    assert orbit is not None
    return satellite_of("sat", orbit)


def record(**fields: object) -> omm.OmmRecord:
    names = {
        "OBJECT_NAME": "X",
        "NORAD_CAT_ID": 7,
        "EPOCH": "2026-01-01T05:06:07.123457",
        "MEAN_MOTION": 15.1,
        "ECCENTRICITY": 0.0012345,
        "INCLINATION": 53.05,
        "RA_OF_ASC_NODE": 360.0,
        "ARG_OF_PERICENTER": -360.0,
        "MEAN_ANOMALY": 12.3456,
        "BSTAR": 2.5e-4,
        "MEAN_MOTION_DOT": 1e-4,
        "MEAN_MOTION_DDOT": 0.0,
    }
    return omm.OmmRecord("record 1", names | fields)


@pytest.mark.parametrize(
    "satellite",
    [
        *satellites_of(Shell("sat", 550.0, 53.0, 4, 2, 1), datetime(2026, 1, 1, 7, 8, 9, 123456, UTC)),
        omm.satellite_of(record()),
        omm.satellite_of(record(MEAN_MOTION=2.0049, ECCENTRICITY=0.6877)),
        omm.satellite_of(record(MEAN_MOTION=1.00273, ECCENTRICITY=0.0002, INCLINATION=180.0)),
        of_tle("iss", NEAR),
    ],
    ids=lambda satellite: f"{satellite.source}-{satellite.satrec.method}-{satellite.name}",
)
def test_a_satellite_flies_the_same_after_its_orbit_was_in_a_plan(satellite: Satellite) -> None:
    again = through_a_plan(satellite)
    assert again.epoch == satellite.epoch
    assert positions(again) == positions(satellite)


def test_a_tle_in_deep_space_comes_back_to_the_millimetre() -> None:
    satellite = of_tle("molniya", MOLNIYA)
    for one, other in zip(positions(satellite), positions(through_a_plan(satellite)), strict=True):
        assert np.allclose(one[1], other[1], rtol=0, atol=1e-5)  # type: ignore[index]


@given(st.floats(20_000, 50_000), st.floats(0.0, 2 * math.pi), st.floats(0.055, 0.068))
def test_an_orbit_is_the_same_after_it_was_a_satellite(epoch: float, angle: float, motion: float) -> None:
    orbit = Orbit(epoch, 1e-4, 0.001, angle, angle / 2, angle, motion, -angle)
    assert orbit_of(satellite_of("sat", orbit)) == orbit


def test_a_satellite_of_other_constants_is_refused() -> None:
    for constants, mode in ((WGS84, "i"), (WGS72, "a")):
        satrec = Satrec()
        satrec.sgp4init(constants, mode, 1, 27_758.0, 0.0, 0.0, 0.0, 0.001, 0.0, 0.9, 0.0, 0.065, 0.0)
        with pytest.raises(ValueError, match=r"^satellite 'x': must be of SGP4 with WGS72"):
            orbit_of(Satellite("x", satrec))
