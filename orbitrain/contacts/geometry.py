"""Geometry: where satellites and sites are on the turning Earth, how high and far one is from the other.

Frames and time are Skyfield's: SGP4's TEME vectors are turned to ITRS by the GMST-82 angle of UT1 (its
`TEME_to_ITRF`, which is what its TEME and ITRS frames come to without polar motion), with the leap second and
delta T tables built into the package, so nothing is downloaded. Sites are on the WGS84 ellipsoid. Elevation
is of the straight line, with neither refraction nor light time, as Skyfield's `(satellite -
site).at(t).altaz()` without arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
from sgp4.api import SGP4_ERRORS, SatrecArray
from skyfield.api import load, wgs84
from skyfield.sgp4lib import TEME_to_ITRF

from orbitrain.contacts.elements import Satellite

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

LIGHT_SPEED_KM_PER_S: Final = 299_792.458
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Site:
    """A place on the ground (WGS84) that sees what stands at least `mask_degrees` above its horizon."""

    name: str
    latitude_degrees: float
    longitude_degrees: float
    altitude_m: float
    mask_degrees: float

    def __post_init__(self) -> None:
        where = f"site {self.name!r}"
        if not self.name:
            raise ValueError(f"{where}: name must not be empty")
        if not -90 <= self.latitude_degrees <= 90:
            raise ValueError(f"{where}: latitude_degrees must be -90 to 90, not {self.latitude_degrees}")
        if not -180 <= self.longitude_degrees <= 180:
            raise ValueError(f"{where}: longitude_degrees must be -180 to 180, not {self.longitude_degrees}")
        if not -500 <= self.altitude_m <= 100_000:
            raise ValueError(f"{where}: altitude_m must be -500 to 100000, not {self.altitude_m}")
        if not 0 <= self.mask_degrees < 90:
            raise ValueError(f"{where}: mask_degrees must be 0 to less than 90, not {self.mask_degrees}")


@dataclass(frozen=True, slots=True)
class SiteFrame:
    """A site in ITRS: `position_km` of shape (3,), and `up`, the unit normal of the ellipsoid there, (3,)."""

    position_km: Floats
    up: Floats

    @staticmethod
    def of(site: Site) -> SiteFrame:
        place = wgs84.latlon(site.latitude_degrees, site.longitude_degrees, elevation_m=site.altitude_m)
        latitude, longitude = math.radians(site.latitude_degrees), math.radians(site.longitude_degrees)
        up = [
            math.cos(latitude) * math.cos(longitude),
            math.cos(latitude) * math.sin(longitude),
            math.sin(latitude),
        ]
        return SiteFrame(np.asarray(place.itrs_xyz.km, dtype=np.float64), np.array(up))


def sine_of_elevation(frame: SiteFrame, position_km: Floats) -> Floats:
    """Sine of the elevation of ITRS positions of shape (..., 3): no arcsine is needed to find a mask."""
    line = position_km - frame.position_km
    length: Floats = np.sqrt(np.einsum("...i,...i->...", line, line))
    sine: Floats = line @ frame.up / length
    return sine


def range_km(frame: SiteFrame, position_km: Floats) -> Floats:
    """Straight-line distance of ITRS positions of shape (..., 3) from the site, shape (...)."""
    line = position_km - frame.position_km
    length: Floats = np.sqrt(np.einsum("...i,...i->...", line, line))
    return length


@dataclass(frozen=True, slots=True)
class Tracks:
    """Satellites on one even time grid in ITRS, and any instant between by cubic Hermite interpolation.

    Grid point i is `i * step_s` seconds after the epoch. `position_km` and `velocity_km_per_s` (in the
    turning frame) have shape (satellites, grid points, 3). With steps up to 20 s the interpolation is within
    a centimetre of SGP4 for every orbit (h^4 / 384 times the fourth derivative), that is 0.04 ns of delay and
    a microsecond of rise and set.
    """

    step_s: float
    position_km: Floats
    velocity_km_per_s: Floats

    @property
    def points(self) -> int:
        return int(self.position_km.shape[1])

    def at(self, satellite: Integers | int, t_s: Floats) -> Floats:
        """ITRS positions in km, (n, 3), of each satellite index (n or one) at each instant `t_s`, (n,)."""
        left = np.clip((t_s / self.step_s).astype(np.int64), 0, self.points - 2)
        u = (t_s / self.step_s - left)[:, np.newaxis]
        p0, p1 = self.position_km[satellite, left], self.position_km[satellite, left + 1]
        m0 = self.velocity_km_per_s[satellite, left] * self.step_s
        m1 = self.velocity_km_per_s[satellite, left + 1] * self.step_s
        rise = p1 - p0
        between: Floats = p0 + u * (m0 + u * ((3.0 * rise - 2.0 * m0 - m1) + u * (m0 + m1 - 2.0 * rise)))
        return between


def tracks(
    satellites: Sequence[Satellite], epoch: datetime, duration_s: float, longest_step_s: float
) -> Tracks:
    """Propagate all satellites over one shared grid from the epoch to exactly `duration_s` later.

    The step is the largest even one not above `longest_step_s`. ValueError when SGP4 gives up on a satellite.
    """
    steps = max(2, math.ceil(duration_s / longest_step_s))  # two, so that every grid has an inner point
    step_s = duration_s / steps
    utc = epoch.astimezone(UTC)
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    seconds = (utc - midnight) / timedelta(seconds=1) + np.arange(steps + 1) * step_s
    grid = load.timescale(builtin=True).utc(utc.year, utc.month, utc.day, 0, 0, seconds)
    # The same split of the UTC day that Skyfield's EarthSatellite hands to SGP4.
    utc_fraction = grid.tai_fraction - grid._leap_seconds() / _DAY_S
    errors, teme_km, teme_km_per_s = SatrecArray([s.satrec for s in satellites]).sgp4(
        grid.whole, utc_fraction
    )
    if errors.any():
        index, point = (int(axis[0]) for axis in np.nonzero(errors))
        text = SGP4_ERRORS[int(errors[index, point])]
        raise ValueError(
            f"satellite {satellites[index].name!r}: SGP4 fails {point * step_s:.0f} s in: {text}"
        )
    position_km, velocity = np.empty_like(teme_km), np.empty_like(teme_km)
    for index in range(len(satellites)):
        turned = TEME_to_ITRF(
            grid.whole, teme_km[index].T, teme_km_per_s[index].T * _DAY_S, fraction_ut1=grid.ut1_fraction
        )
        position_km[index], velocity[index] = turned[0].T, turned[1].T / _DAY_S
    return Tracks(step_s, position_km, velocity)
